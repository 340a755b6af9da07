"""Transposed column blocks: the bytes of a run of samples, the same on disk and on the wire, lossless always.

    payload = "TB" version codec count schema | body (plain, or one zstd frame that declares its size)
    body    = runs | time bases and times | values, floats as they are, words | qualities

Samples stand in canonical order: kinds in numeric order, inside a kind sorted by signal, inside a signal in order
of arrival. A sample's sequence number is the block's first one plus its position in that order.

- A run is the samples of one signal. Runs with equal times share one *time base*, stored once.
- A time is its residual, in units of the catalogue's time step, to the nominal grid of the base's first signal or,
  where samples are missing or come on change, to the time before it; the rest below a step is an exception.
- A value is an integer, stored as difference to the one before it: a float in units of `step * 10**-exponent` of its
  signal where that gives back the same bits (else the 64 bits follow), a bool 0 or 1, a string its word's number.
- Qualities are stored where they change.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TypeVar

import crc32c
import numpy as np
import zstandard
from numpy.typing import NDArray

from twinmodel.errors import InputError
from twinmodel.signal import DTYPES, SIGNALS_MAX, Batch, Catalogue, Kind, concat
from twinsync import limits
from twinsync.columns import I64, ColumnReader, ColumnWriter, corrupt, differences, unzigzag, zigzag
from twinsync.scales import Scales, scales_of
from twinsync.times import Runs, read_times, write_times

T = TypeVar("T", bound=np.generic)

MAGIC = b"TB"
VERSION = 1
_PLAIN, _ZSTD = 0, 1
_SCHEMA_BYTES = 4
_HEADER = struct.Struct("<2sBBI4s")
_KINDS = tuple(Kind)
_KIND_EDGES = np.arange(1, len(_KINDS) + 2, dtype=np.uint8)
_NOWHERE = np.zeros(0, np.int64)
_NOTHING = np.zeros(0, np.uint64)
_NO_FLOATS = (_NOWHERE, _NOTHING)


@dataclass(frozen=True, slots=True)
class EncodedBlock:
    """A packed run of samples.

    Attributes:
        payload: the bytes that are stored and sent.
        count: samples in it.
        t_min_ns, t_max_ns: event times of the earliest and the latest sample.
        crc32c: checksum of the payload.
        schema: digest of the catalogue that its signal ids refer to.
    """

    payload: bytes
    count: int
    t_min_ns: int
    t_max_ns: int
    crc32c: int
    schema: bytes


def encode(batches: Sequence[Batch], catalogue: Catalogue) -> EncodedBlock:
    """Packs samples into one block.

    Raises:
        InputError: VALUE_INVALID when there is no sample, or one does not fit the catalogue; LIMIT_EXCEEDED when
            the samples are more than one block may hold.
    """
    parts = canonical(batches)
    count = sum(map(len, parts))
    if not 1 <= count <= limits.BLOCK_SAMPLES_MAX:
        reason = "LIMIT_EXCEEDED" if count else "VALUE_INVALID"
        raise InputError(reason, f"{count} samples for a block, it holds 1 to {limits.BLOCK_SAMPLES_MAX}")
    runs = Runs.of(_joined([b.signal for b in parts]))
    t_ns = _joined([b.t_ns for b in parts])
    _check_signals(parts, runs, catalogue)
    writer = ColumnWriter()
    writer.put(runs.count.to_bytes(4, "little"))
    writer.narrow(zigzag(differences(runs.signal)))
    writer.narrow(runs.length.view(np.uint64))
    write_times(writer, runs, t_ns, catalogue)
    _write_values(writer, parts, runs, scales_of(catalogue))
    _write_quality(writer, _joined([b.quality for b in parts]))
    payload = _packed(writer.bytes(), count, catalogue)
    return EncodedBlock(payload, count, int(t_ns.min()), int(t_ns.max()), crc32c.crc32c(payload), catalogue.digest)


def decode(payload: bytes, catalogue: Catalogue, *, count_max: int = limits.BLOCK_SAMPLES_MAX) -> list[Batch]:
    """Unpacks a block: one batch per kind, in canonical order.

    Memory is bounded by `count_max` and `BLOCK_RAW_BYTES_MAX`, whatever the payload claims.

    Raises:
        InputError: BLOCK_CORRUPT when the payload is no block of this catalogue.
    """
    count, raw = _unpacked(payload, count_max, catalogue)
    reader = ColumnReader(raw)
    runs = _read_runs(reader, count, catalogue)
    t_ns = read_times(reader, runs, catalogue)
    scales = scales_of(catalogue)
    values = _read_values(reader, runs, scales)
    quality = _read_quality(reader, count)
    reader.finish()
    signal = runs.signal.astype(np.uint32).repeat(runs.length)
    batches = []
    for kind, span, value in values:
        batches.append(Batch(kind, signal[span], value, quality[span], t_ns[span]))
    return batches


def verify(payload: bytes, checksum: int) -> None:
    """Checks a payload against its CRC-32C; raises InputError BLOCK_CORRUPT."""
    found = crc32c.crc32c(payload)
    if found != checksum:
        corrupt(f"has crc32c {found:08x}, {checksum:08x} was declared")


def canonical(batches: Sequence[Batch]) -> list[Batch]:
    """Samples in the order that gives them their sequence numbers: one batch per kind, each sorted by signal."""
    return [_by_signal(batch) for batch in concat(batches)]


def _by_signal(batch: Batch) -> Batch:
    signal = batch.signal
    if (signal[1:] >= signal[:-1]).all():
        return batch
    # Sixteen bits are sorted by radix, three times faster.
    keys = signal.astype(np.uint16) if int(signal.max()) < 1 << 16 else signal
    return batch.take(np.argsort(keys, kind="stable"))


def _joined(columns: list[NDArray[T]]) -> NDArray[T]:
    return columns[0] if len(columns) == 1 else np.concatenate(columns)


def _check_signals(parts: list[Batch], runs: Runs, catalogue: Catalogue) -> None:
    for batch in parts:
        count = len(batch)
        if not (len(batch.value) == len(batch.quality) == len(batch.t_ns) == count):
            raise InputError("VALUE_INVALID", f"columns of a {batch.kind.name} batch differ in length")
        if batch.value.dtype != DTYPES[batch.kind]:
            raise InputError("VALUE_INVALID", f"a {batch.kind.name} batch has values of {batch.value.dtype}")
    known = len(catalogue)
    largest = int(runs.signal.max())
    if largest >= known:
        raise InputError("VALUE_INVALID", f"signal {largest} of a catalogue of {known}")
    kinds = scales_of(catalogue).kind[runs.signal]
    ends = list(accumulate(map(len, parts)))
    edges = np.searchsorted(runs.start, [0, *ends]).tolist()
    for batch, first, last, low in zip(parts, edges, edges[1:], [0, *ends], strict=False):
        wrong = kinds[first:last] != batch.kind
        # A run that reaches over from the kind before is a signal of two kinds.
        if first < runs.count and runs.start[first] == low and not wrong.any():
            continue
        signal = catalogue.signals[int(runs.signal[first:last][wrong][0] if wrong.any() else batch.signal[0])]
        raise InputError(
            "VALUE_INVALID", f"{signal.name} is {signal.kind.name}, its values are not", signal=signal.name
        )


def _write_values(writer: ColumnWriter, parts: list[Batch], runs: Runs, scales: Scales) -> None:
    codes: list[I64] = []
    plain = _NO_FLOATS
    words: list[bytes] = []
    for batch in parts:
        if batch.kind is Kind.FLOAT:
            value = np.ascontiguousarray(batch.value)
            code, odd = _float_codes(value, runs, scales)
            plain = (odd, value.view(np.uint64)[odd])
        elif batch.kind is Kind.STRING:
            code, words = _word_codes(batch.value)
        else:
            code = batch.value.astype(np.int64)
        codes.append(code)
    column = _joined(codes)
    steps = differences(column)
    writer.narrow(zigzag(steps[runs.start]))
    steps[runs.start] = 0
    writer.escaped(zigzag(steps))
    if parts[0].kind is Kind.FLOAT:
        writer.sparse(plain[0])
        bits = plain[1]
        writer.narrow(np.concatenate((bits[:1], bits[1:] ^ bits[:-1])))
    if parts[-1].kind is Kind.STRING:
        writer.put(len(words).to_bytes(4, "little"))
        writer.narrow(np.fromiter(map(len, words), np.uint64, len(words)))
        writer.put(b"".join(words))


def _float_codes(value: NDArray[np.float64], runs: Runs, scales: Scales) -> tuple[I64, I64]:
    """Integers of floats, and the positions of those that no integer gives back bit by bit."""
    count = int(np.searchsorted(runs.start, len(value)))
    signal, length = runs.signal[:count], runs.length[:count]
    # NaN, infinities and numbers beyond 64 bits turn into some integer and are then found unequal.
    with np.errstate(invalid="ignore", over="ignore"):
        code = np.rint(value * scales.units[signal].repeat(length)).astype(np.int64)
    back = _floats(code, signal, length, scales)
    odd = (back.view(np.int64) != value.view(np.int64)).nonzero()[0]
    if len(odd):
        # They repeat the integer before them, so that the differences around them stay small.
        place = np.arange(len(code))
        place[odd] = 0
        place = np.maximum.accumulate(place)
        code[odd] = np.where(place >= np.repeat(runs.start[:count], length), code[place], 0)[odd]
    return code, odd


def _floats(code: I64, signal: I64, length: I64, scales: Scales) -> NDArray[np.float64]:
    up, down = scales.up[signal], scales.down[signal]
    value = code.astype(np.float64)
    if (up != 1.0).any():
        value *= up.repeat(length)
    if (down != 1.0).any():
        value /= down.repeat(length)
    return value


def _word_codes(value: NDArray[np.generic]) -> tuple[I64, list[bytes]]:
    numbers: dict[str, int] = {}
    texts: list[object] = value.tolist()
    for text in texts:
        if type(text) is not str:
            raise InputError("VALUE_INVALID", f"a STRING batch holds {type(text).__name__}")
        numbers.setdefault(text, len(numbers))
    code = np.array([numbers[text] for text in texts if isinstance(text, str)], np.int64)
    # Lone surrogates are legal in str; lossless means they pass too.
    return code, [word.encode("utf-8", "surrogatepass") for word in numbers]


def _write_quality(writer: ColumnWriter, quality: NDArray[np.uint16]) -> None:
    """Positions where the quality differs from the sample before (0 before the first), and the code from there on."""
    if quality.any():
        changes = differences(quality.astype(np.int64)).nonzero()[0]
        writer.sparse(changes)
        writer.narrow(quality[changes].astype(np.uint64))
    else:
        writer.sparse(_NOWHERE)
        writer.narrow(_NOTHING)


def _read_quality(reader: ColumnReader, count: int) -> NDArray[np.uint16]:
    changes = reader.sparse(count)
    codes = reader.below(len(changes), 1 << 16, "quality").astype(np.uint16)
    if not len(changes):
        return np.zeros(count, np.uint16)
    quality = np.repeat(codes, differences(np.append(changes, count))[1:])
    return np.concatenate((np.zeros(int(changes[0]), np.uint16), quality))


def _read_runs(reader: ColumnReader, count: int, catalogue: Catalogue) -> Runs:
    run_count = int.from_bytes(reader.take(4), "little")
    if not 1 <= run_count <= count:
        corrupt(f"{run_count} runs of {count} samples")
    signal = unzigzag(reader.narrow(run_count)).cumsum()
    length = reader.below(run_count, count + 1, "run length")
    known = len(catalogue)
    if int(signal.min()) < 0 or int(signal.max()) >= known:
        corrupt(f"names a signal that a catalogue of {known} has not")
    rank = scales_of(catalogue).kind[signal] * np.int64(SIGNALS_MAX) + signal
    if not (rank[1:] > rank[:-1]).all():
        corrupt("signals are not in canonical order")
    if int(length.min()) < 1 or int(length.sum()) != count:
        corrupt(f"runs hold {int(length.sum())} of {count} samples")
    return Runs(signal, length.cumsum() - length, length, count)


def _read_values(reader: ColumnReader, runs: Runs, scales: Scales) -> list[tuple[Kind, slice, NDArray[np.generic]]]:
    first = unzigzag(reader.narrow(runs.count))
    steps = unzigzag(reader.escaped(runs.total))
    if steps[runs.start].any():
        corrupt("a run starts with a difference")
    steps[runs.start] = first
    column = steps.cumsum()
    kinds = scales.kind[runs.signal]
    found: list[tuple[Kind, slice, NDArray[np.generic]]] = []
    edges = np.searchsorted(kinds, _KIND_EDGES).tolist()
    for kind, low, high in zip(_KINDS, edges, edges[1:], strict=False):
        if low == high:
            continue
        end = int(runs.start[high]) if high < runs.count else runs.total
        span = slice(int(runs.start[low]), end)
        code = column[span]
        if kind is Kind.FLOAT:
            value: NDArray[np.generic] = _read_floats(
                reader, code, runs.signal[low:high], runs.length[low:high], scales
            )
        elif kind is Kind.INT:
            value = code
        elif kind is Kind.BOOL:
            if int(code.view(np.uint64).max()) > 1:
                corrupt("a bool that is neither 0 nor 1")
            value = code.astype(np.bool_)
        else:
            value = _read_words(reader, code)
        found.append((kind, span, value))
    return found


def _read_floats(reader: ColumnReader, code: I64, signal: I64, length: I64, scales: Scales) -> NDArray[np.float64]:
    value = _floats(code, signal, length, scales)
    odd = reader.sparse(len(code))
    bits = reader.narrow(len(odd))
    if len(odd):
        value.view(np.uint64)[odd] = np.bitwise_xor.accumulate(bits)
    return value


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


def _packed(raw: bytes, count: int, catalogue: Catalogue) -> bytes:
    if len(raw) > limits.BLOCK_RAW_BYTES_MAX:
        raise InputError("LIMIT_EXCEEDED", f"columns of {len(raw)} bytes, at most {limits.BLOCK_RAW_BYTES_MAX}")
    packed = _thread.compressor.compress(raw)
    codec, body = (_ZSTD, packed) if len(packed) < len(raw) else (_PLAIN, raw)
    payload = _HEADER.pack(MAGIC, VERSION, codec, count, catalogue.digest[:_SCHEMA_BYTES]) + body
    if len(payload) > limits.BLOCK_BYTES_MAX:
        raise InputError("LIMIT_EXCEEDED", f"a block of {len(payload)} bytes, at most {limits.BLOCK_BYTES_MAX}")
    return payload


def _unpacked(payload: bytes, count_max: int, catalogue: Catalogue) -> tuple[int, bytes]:
    if not _HEADER.size < len(payload) <= limits.BLOCK_BYTES_MAX:
        corrupt(f"{len(payload)} bytes")
    magic, version, codec, count, schema = _HEADER.unpack_from(payload)
    if magic != MAGIC or version != VERSION or codec not in {_PLAIN, _ZSTD}:
        corrupt(f"starts with {payload[:4].hex()}")
    if schema != catalogue.digest[:_SCHEMA_BYTES]:
        corrupt(f"is of schema {schema.hex()}, not {catalogue.digest[:_SCHEMA_BYTES].hex()}")
    if not 1 <= count <= min(count_max, limits.BLOCK_SAMPLES_MAX):
        corrupt(f"claims {count} samples, at most {min(count_max, limits.BLOCK_SAMPLES_MAX)} are taken")
    body = payload[_HEADER.size :]
    if codec == _PLAIN:
        return count, body
    try:
        size = zstandard.frame_content_size(body)
        # Unknown is -1, empty is 0: an honest writer declares its size.
        if not 0 < size <= limits.BLOCK_RAW_BYTES_MAX:
            corrupt(f"claims {size} bytes of columns, at most {limits.BLOCK_RAW_BYTES_MAX}")
        return count, _thread.decompressor.decompress(body, max_output_size=size, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise InputError("BLOCK_CORRUPT", f"block payload: zstd: {error}") from error


class _Zstd(threading.local):
    """A compressor and a decompressor per thread; neither may be shared."""

    def __init__(self) -> None:
        self.compressor = zstandard.ZstdCompressor(level=1, write_checksum=False)
        self.decompressor = zstandard.ZstdDecompressor()


_thread = _Zstd()
