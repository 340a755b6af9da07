"""Point-hour blocks: the samples of one point as one block of twinsync, and where each came from, run-length coded.

    payload = length of the block | block (values, qualities, times) | sources, zstd
    sources = number of runs | lengths | steps of the origin | steps of the place in its block

A run is consecutive samples with consecutive sequence numbers of one stored block; its origin is a place in the list
of the part (`pack_origins`), which all points of the gateway and hour share.
"""

from __future__ import annotations

import functools
import struct
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
import zstandard
from numpy.typing import NDArray

from twincloud.twins.state import Origin
from twinmodel.errors import InputError
from twinmodel.signal import Batch, Catalogue, Kind, Signal
from twinsync import block, limits
from twinsync.columns import ColumnReader, ColumnWriter, differences

I64 = NDArray[np.int64]

HOUR_NS = 3_600 * 1_000_000_000
_LENGTH = struct.Struct("<I")
_SOURCES_BYTES_MAX = 64 << 20


@dataclass(frozen=True, slots=True)
class Scale:
    """How the values and times of a point are packed; see `Signal`."""

    kind: Kind
    exponent: int
    step: int
    period_ns: int
    time_step_ns: int


@functools.lru_cache(maxsize=4_096)
def catalogue_of(scale: Scale) -> Catalogue:
    """The catalogue of a block with one signal; equal for all points of equal scale."""
    signal = Signal(0, "v", scale.kind, exponent=scale.exponent, step=scale.step, period_ns=scale.period_ns)
    return Catalogue((signal,), time_step_ns=scale.time_step_ns)


@dataclass(frozen=True, slots=True)
class Origins(Sequence[Origin]):
    """The blocks a part was made of, as columns of shape (n,); an item is made when it is asked for.

    Attributes:
        block: numbers of the stored blocks, which `samples` counts by.
        commit_no: numbers of their commits.
        boot_id: ids of their boots.
        stream, first_seq, schema_id, received_ns, committed_ns: as in the table `blocks`.
        boots: counter and id of each boot by its id in the database.
    """

    block: I64
    commit_no: I64
    boot_id: I64
    stream: I64
    first_seq: I64
    schema_id: I64
    received_ns: I64
    committed_ns: I64
    boots: Mapping[int, tuple[int, bytes]]

    def __len__(self) -> int:
        return len(self.block)

    @overload
    def __getitem__(self, place: int) -> Origin: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Origin]: ...
    def __getitem__(self, place: int | slice) -> Origin | Sequence[Origin]:
        if isinstance(place, slice):
            return [self[n] for n in range(*place.indices(len(self)))]
        counter, boot = self.boots[int(self.boot_id[place])]
        return Origin(
            counter, boot, int(self.stream[place]), int(self.first_seq[place]), int(self.received_ns[place]),
            int(self.committed_ns[place]), int(self.schema_id[place]),
        )  # fmt: skip

    def __iter__(self) -> Iterator[Origin]:
        return (self[place] for place in range(len(self)))


class _Zstd(threading.local):
    """Of one thread; none may be shared."""

    def __init__(self) -> None:
        self.pack = zstandard.ZstdCompressor(level=3, write_checksum=False)
        self.unpack = zstandard.ZstdDecompressor()


_thread = _Zstd()
ORIGIN_COLUMNS = (
    "block", "commit_no", "boot_id", "stream", "first_seq", "schema_id", "received_ns", "committed_ns",
)  # fmt: skip


def pack_origins(columns: Mapping[str, I64]) -> bytes:
    """The origins of a part."""
    count = len(columns["block"])
    writer = ColumnWriter()
    for name in ORIGIN_COLUMNS:
        writer.integers(differences(columns[name]))
    return _LENGTH.pack(count) + _thread.pack.compress(writer.bytes())


def unpack_origins(packed: bytes) -> dict[str, I64]:
    """The columns of `pack_origins`."""
    (count,) = _LENGTH.unpack_from(packed)
    raw = _thread.unpack.decompress(packed[_LENGTH.size :], max_output_size=_SOURCES_BYTES_MAX)
    reader = ColumnReader(raw)
    found = {name: reader.integers(count).cumsum() for name in ORIGIN_COLUMNS}
    reader.finish()
    return found


def pack_hour(scale: Scale, batch: Batch, origin: NDArray[np.int32], offset: I64) -> list[tuple[int, bytes]]:
    """Samples in canonical order as rows: their count and payload; more than one where a block cannot hold them.

    Args:
        scale: of the point.
        batch: the samples, signal 0.
        origin: place of each in the origins of the part.
        offset: how far each one's sequence number is behind the first one of its block.
    """
    if len(batch) <= limits.BLOCK_SAMPLES_MAX:
        try:
            packed = block.encode([batch], catalogue_of(scale)).payload
        except InputError as error:
            if error.reason != "LIMIT_EXCEEDED" or len(batch) < 2:
                raise
        else:
            return [(len(batch), _LENGTH.pack(len(packed)) + packed + _pack_sources(origin, offset))]
    half = min(len(batch) // 2, limits.BLOCK_SAMPLES_MAX)
    rows = []
    for part in (np.arange(half), np.arange(half, len(batch))):
        rows += pack_hour(scale, batch.take(part), origin[part], offset[part])
    return rows


def unpack_hour(scale: Scale, packed: bytes) -> tuple[Batch, NDArray[np.int32], I64]:
    """What `pack_hour` packed; raises InputError BLOCK_CORRUPT."""
    (length,) = _LENGTH.unpack_from(packed)
    end = _LENGTH.size + length
    (batch,) = block.decode(packed[_LENGTH.size : end], catalogue_of(scale))
    origin, offset = _unpack_sources(packed[end:], len(batch))
    return batch, origin, offset


def _pack_sources(origin: NDArray[np.int32], offset: I64) -> bytes:
    breaks = (origin[1:] != origin[:-1]) | (offset[1:] != offset[:-1] + 1)
    start = np.concatenate([np.zeros(1, np.int64), np.flatnonzero(breaks) + 1])
    length = np.diff(np.append(start, len(origin)))
    writer = ColumnWriter()
    writer.narrow(length.astype(np.uint64))
    writer.integers(differences(origin[start].astype(np.int64)))
    writer.integers(differences(offset[start]))
    return _LENGTH.pack(len(start)) + _thread.pack.compress(writer.bytes())


def _unpack_sources(packed: bytes, count: int) -> tuple[NDArray[np.int32], I64]:
    (runs,) = _LENGTH.unpack_from(packed)
    raw = _thread.unpack.decompress(packed[_LENGTH.size :], max_output_size=_SOURCES_BYTES_MAX)
    reader = ColumnReader(raw)
    length = reader.narrow(runs).astype(np.int64)
    origin = reader.integers(runs).cumsum()
    offset = reader.integers(runs).cumsum()
    reader.finish()
    if int(length.sum()) != count:
        raise InputError("BLOCK_CORRUPT", f"point-hour block: sources of {int(length.sum())} samples, it has {count}")
    first = length.cumsum() - length
    return origin.astype(np.int32).repeat(length), (offset - first).repeat(length) + np.arange(count)
