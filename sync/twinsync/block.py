"""Transposed column blocks: the bytes of a run of samples, the same on disk and on the wire, lossless always.

    payload = header (see `twinsync.frame`) | columns
    columns = runs origin form | runs, bases | times | values | floats as they are, words | qualities

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
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import crc32c
import numpy as np
from numpy.typing import NDArray

from twinmodel.errors import InputError
from twinmodel.signal import DTYPES, Batch, Catalogue, Kind, concat
from twinsync import block_v1, limits
from twinsync.bases import Bases, write_runs
from twinsync.columns import I64, ColumnReader, ColumnWriter, corrupt, differences
from twinsync.frame import opened, sealed
from twinsync.layout import read_layout
from twinsync.runs import Runs
from twinsync.scales import PLACE_BITS, Keys, Scales, scales_of
from twinsync.times import ANCHORED, BELOW_STEP, ON_CHANGE, read_times, write_times
from twinsync.values import PLAIN_FLOATS, Words, read_values, write_values

T = TypeVar("T", bound=np.generic)

# Head of the columns: number of runs, form. The form's bits belong to times, values and qualities.
_HEAD = struct.Struct("<IB")
QUALITIES = 16
"""Form of the qualities, a bit of the block's head: not all are good."""
_FORMS = ANCHORED | ON_CHANGE | BELOW_STEP | PLAIN_FLOATS | QUALITIES
_PLACES = (1 << PLACE_BITS) - 1


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
    columns, count, t_ns = _columns(batches, catalogue)
    payload = sealed(columns, count, catalogue.digest)
    earliest, latest = int(t_ns[t_ns.argmin()]), int(t_ns[t_ns.argmax()])
    return EncodedBlock(payload, count, earliest, latest, crc32c.crc32c(payload), catalogue.digest)


def decode(payload: bytes, catalogue: Catalogue, *, count_max: int = limits.BLOCK_SAMPLES_MAX) -> list[Batch]:
    """Unpacks a block: one batch per kind, in canonical order.

    Signals, and qualities that are all good, may be shared with other blocks and cannot be written to.
    Memory is bounded by `count_max` and `BLOCK_RAW_BYTES_MAX`, whatever the payload claims.

    Raises:
        InputError: BLOCK_CORRUPT when the payload is no block of this catalogue, BLOCK_UNSUPPORTED when a newer build
            wrote it.
    """
    version, count, raw = opened(payload, catalogue.digest, count_max)
    if version == 1:
        return block_v1.read_columns(raw, count, catalogue)
    scales = scales_of(catalogue)
    reader = ColumnReader(raw)
    run_count, form = read_head(reader, count)
    layout = read_layout(reader, run_count, count, scales)
    t_ns = read_times(reader, form, layout, scales)
    values = read_values(reader, form, layout, scales)
    quality = _read_quality(reader, count) if form & QUALITIES else layout.good
    reader.finish()
    return [
        Batch(kind, signal, value, quality[span], t_ns[span])
        for (kind, span), signal, value in zip(layout.spans, layout.signals, values, strict=True)
    ]


def columns_of(batches: Sequence[Batch], catalogue: Catalogue) -> bytes:
    """The columns of a block before compression, for training a dictionary; raises like `encode`."""
    return _columns(batches, catalogue)[0]


def verify(payload: bytes, checksum: int) -> None:
    """Checks a payload against its CRC-32C; raises InputError BLOCK_CORRUPT."""
    found = crc32c.crc32c(payload)
    if found != checksum:
        corrupt(f"has crc32c {found:08x}, {checksum:08x} was declared")


def canonical(batches: Sequence[Batch]) -> list[Batch]:
    """Samples in the order that gives them their sequence numbers: one batch per kind, each sorted by signal."""
    return [batch.take(np.argsort(batch.signal, kind="stable")) for batch in concat(batches)]


def read_head(reader: ColumnReader, count: int) -> tuple[int, int]:
    """Number of runs and form of a block of `count` samples; raises InputError BLOCK_CORRUPT."""
    run_count, form = _HEAD.unpack(reader.take(_HEAD.size))
    if not 1 <= run_count <= count or form & ~_FORMS:
        corrupt(f"{run_count} runs of {count} samples, form {form}")
    return run_count, form


def read_quality_changes(reader: ColumnReader, count: int) -> tuple[I64, NDArray[np.uint16]]:
    """Where the quality changes, and the code from there on; raises InputError BLOCK_CORRUPT."""
    changes = reader.sparse(count)
    return changes, reader.below(len(changes), 1 << 16, "quality").astype(np.uint16)


def _columns(batches: Sequence[Batch], catalogue: Catalogue) -> tuple[bytes, int, I64]:
    """The columns of a block before compression, the number of its samples and their times."""
    scales = scales_of(catalogue)
    batches = [batch for batch in batches if len(batch.signal)]
    count = sum([len(batch.signal) for batch in batches])
    if not 1 <= count <= limits.BLOCK_SAMPLES_MAX:
        reason = "LIMIT_EXCEEDED" if count else "VALUE_INVALID"
        raise InputError(reason, f"{count} samples for a block, it holds 1 to {limits.BLOCK_SAMPLES_MAX}")
    words = Words()
    bits = _joined([_bits(batch, words) for batch in batches])
    rank, order = _sorted(batches, catalogue, scales)
    runs = Runs.of(rank)
    t_ns = _joined([batch.t_ns for batch in batches]).take(order)
    bases = Bases.of(runs, t_ns)
    writer = ColumnWriter()
    write_runs(writer, runs, bases)
    form = write_times(writer, bases, scales)
    floats = sum([len(batch.signal) for batch in batches if batch.kind is Kind.FLOAT])
    form |= write_values(writer, runs, bits.take(order), floats, scales)
    words.write(writer)
    quality = _joined([batch.quality for batch in batches])
    if np.count_nonzero(quality):
        form |= QUALITIES
        _write_quality(writer, quality.take(order))
    return _HEAD.pack(runs.count, form) + writer.bytes(), count, t_ns


def _bits(batch: Batch, words: Words) -> I64:
    """Values as integers of 64 bits: those of a float as they are, the number of a word."""
    kind, value = batch.kind, batch.value
    if not len(value) == len(batch.quality) == len(batch.t_ns) == len(batch.signal):
        raise InputError("VALUE_INVALID", f"columns of a {kind.name} batch differ in length")
    if value.dtype != DTYPES[kind]:
        raise InputError("VALUE_INVALID", f"a {kind.name} batch has values of {value.dtype}")
    if kind is Kind.STRING:
        return words.codes(batch)
    return value.astype(np.int64) if kind is Kind.BOOL else value.view(np.int64)


def _sorted(batches: Sequence[Batch], catalogue: Catalogue, scales: Scales) -> tuple[Keys, NDArray[np.intp]]:
    """Ranks in canonical order, and where each sample stands among those given."""
    known = len(catalogue)
    try:
        keys = _joined([scales.keys(batch.kind).take(batch.signal) for batch in batches])
    except IndexError as error:
        strange = max(int(batch.signal.max()) for batch in batches)
        raise InputError("VALUE_INVALID", f"signal {strange} of a catalogue of {known}") from error
    # A key with its place below it sorts stably by the fastest sort there is.
    keys |= np.arange(len(keys), dtype=keys.dtype)
    keys.sort()
    order = (keys & _PLACES).astype(np.intp)
    rank: Keys = keys >> keys.dtype.type(PLACE_BITS)
    if rank[-1] < known:
        return rank, order
    for batch in batches:
        for number in np.unique(batch.signal).tolist():
            signal = catalogue.signals[number]
            if signal.kind is not batch.kind:
                what = f"{signal.name} is {signal.kind.name}, its values are not"
                raise InputError("VALUE_INVALID", what, signal=signal.name)
    raise AssertionError("a key without a signal")


def _joined(columns: list[NDArray[T]]) -> NDArray[T]:
    return columns[0] if len(columns) == 1 else np.concatenate(columns)


def _write_quality(writer: ColumnWriter, quality: NDArray[np.uint16]) -> None:
    """Positions where the quality differs from the sample before (0 before the first), and the code from there on."""
    changes = differences(quality).nonzero()[0]
    writer.sparse(changes)
    writer.narrow(quality[changes].astype(np.uint64))


def _read_quality(reader: ColumnReader, count: int) -> NDArray[np.uint16]:
    changes, codes = read_quality_changes(reader, count)
    codes[1:] -= codes[:-1].copy()
    quality = np.zeros(count, np.uint16)
    quality[changes] = codes
    return quality.cumsum(dtype=np.uint16)
