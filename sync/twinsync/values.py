"""The values of a block: integers in units of each signal's resolution, floats that are none as they are, words."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from twinmodel.errors import InputError
from twinmodel.signal import Batch, Kind
from twinsync import limits
from twinsync.columns import I64, ColumnReader, ColumnWriter, corrupt, differences
from twinsync.layout import Layout
from twinsync.runs import Runs
from twinsync.scales import Scales

# The first difference of a run leaves its low bits in the plane; what is above them stands in a column per run.
LOW_BITS = 7
_LOW_HALF = 1 << (LOW_BITS - 1)

PLAIN_FLOATS = 8
"""Form of the values, a bit of the block's head: some floats follow as their 64 bits."""


def write_values(writer: ColumnWriter, runs: Runs, column: I64, float_count: int, scales: Scales) -> int:
    """Appends one value per sample, integers or (the first `float_count`) the bits of floats; returns their form.

    `column` is overwritten.
    """
    odd = None
    if float_count:
        value = column[:float_count].copy().view(np.float64)
        float_runs = runs.head(int(runs.start.searchsorted(float_count)))
        code, odd = _float_codes(value, float_runs, scales)
        column[:float_count] = code
    steps = differences(column)
    first = column.take(runs.start)
    high = (first + _LOW_HALF) >> LOW_BITS
    steps[runs.start] = first - (high << LOW_BITS)
    writer.integers(high)
    writer.signed(steps)
    if odd is None or not len(odd):
        return 0
    writer.sparse(odd)
    bits = value.view(np.uint64)[odd]
    bits[1:] ^= bits[:-1].copy()
    writer.narrow(bits)
    return PLAIN_FLOATS


def read_values(reader: ColumnReader, form: int, layout: Layout, scales: Scales) -> list[NDArray[np.generic]]:
    """The values of each kind that occurs."""
    runs = layout.runs
    first = reader.integers(runs.count) << LOW_BITS
    column = reader.signed(runs.total)
    if layout.even == 1:
        column += first
    elif layout.even:
        rows = column.reshape(runs.count, layout.even)
        rows[:, 0] += first
        column = rows.cumsum(axis=1).reshape(runs.total)
    else:
        first += column.take(runs.start)
        # One running sum over all runs, moved to where each run starts.
        column = column.cumsum()
        column += (first - column.take(runs.start)).repeat(runs.length)
    return split_values(reader, form, column, layout, scales)


def split_values(
    reader: ColumnReader, form: int, column: I64, layout: Layout, scales: Scales
) -> list[NDArray[np.generic]]:
    """The integers of a block as values of each kind that occurs, with the exceptions that follow them."""
    found: list[NDArray[np.generic]] = []
    for kind, span in layout.spans:
        code = column[span]
        if kind is Kind.FLOAT:
            found.append(_read_floats(reader, form, code, layout, scales))
        elif kind is Kind.INT:
            # A part of the column would keep the integers of all other kinds in memory with it.
            found.append(code if len(code) == len(column) else code.copy())
        elif kind is Kind.BOOL:
            value = code.astype(np.bool_)
            if np.count_nonzero(value != code):
                corrupt("a bool that is neither 0 nor 1")
            found.append(value)
        else:
            found.append(_read_words(reader, code))
    return found


def _float_codes(value: NDArray[np.float64], runs: Runs, scales: Scales) -> tuple[I64, I64]:
    """Integers of floats, and the positions of those that no integer gives back bit by bit."""
    # NaN, infinities and numbers beyond 64 bits turn into some integer and are then found unequal.
    with np.errstate(invalid="ignore", over="ignore"):
        scaled = value * scales.units.take(runs.rank).repeat(runs.length)
        code = np.rint(scaled, out=scaled).astype(np.int64)
    odd = (_floats(code, runs, scales).view(np.int64) != value.view(np.int64)).nonzero()[0]
    if len(odd):
        # They repeat the integer before them, so that the differences around them stay small.
        place = np.arange(len(code))
        place[odd] = 0
        place = np.maximum.accumulate(place)
        code[odd] = np.where(place >= runs.start.repeat(runs.length), code[place], 0)[odd]
    return code, odd


def _floats(code: I64, runs: Runs, scales: Scales) -> NDArray[np.float64]:
    value = code.astype(np.float64)
    if scales.scales_up:
        value *= scales.up.take(runs.rank).repeat(runs.length)
    if scales.scales_down:
        value /= scales.down.take(runs.rank).repeat(runs.length)
    return value


def _read_floats(reader: ColumnReader, form: int, code: I64, layout: Layout, scales: Scales) -> NDArray[np.float64]:
    # Floats are the first of all kinds, so the samples of `code` are the first ones of the block.
    value = code.astype(np.float64)
    if scales.scales_up:
        value *= layout.up[: len(code)]
    if scales.scales_down:
        value /= layout.down[: len(code)]
    if form & PLAIN_FLOATS:
        odd = reader.sparse(len(code))
        bits = reader.narrow(len(odd))
        value.view(np.uint64)[odd] = np.bitwise_xor.accumulate(bits)
    return value


class Words:
    """The strings of a block, numbered by first use."""

    __slots__ = ("_numbers",)

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def codes(self, batch: Batch) -> I64:
        """Numbers of a batch's strings; raises InputError VALUE_INVALID when one is no string."""
        numbers = self._numbers
        codes = []
        for text in batch.value.tolist():
            if type(text) is not str:
                raise InputError("VALUE_INVALID", f"a STRING batch holds {type(text).__name__}")
            codes.append(numbers.setdefault(text, len(numbers)))
        return np.array(codes, np.int64)

    def write(self, writer: ColumnWriter) -> None:
        """Appends the words, when there are any."""
        if not self._numbers:
            return
        # Lone surrogates are legal in str; lossless means they pass too.
        words: Iterable[bytes] = [word.encode("utf-8", "surrogatepass") for word in self._numbers]
        writer.put(len(self._numbers).to_bytes(4, "little"))
        writer.narrow(np.fromiter(map(len, words), np.uint64, len(self._numbers)))
        writer.put(b"".join(words))


def _read_words(reader: ColumnReader, code: I64) -> NDArray[np.generic]:
    count = int.from_bytes(reader.take(4), "little")
    if not 1 <= count <= len(code):
        corrupt(f"{count} words for {len(code)} samples")
    if int(code.view(np.uint64).max()) >= count:
        corrupt(f"names a word beyond {count}")
    words = np.empty(count, object)
    lengths = reader.below(count, limits.BLOCK_RAW_BYTES_MAX, "length of a word")
    try:
        for number, length in enumerate(lengths.tolist()):
            words[number] = reader.take(length).decode("utf-8", "surrogatepass")
    except UnicodeDecodeError as error:
        raise InputError("BLOCK_CORRUPT", f"block payload: a word is no UTF-8: {error.reason}") from error
    return words[code]
