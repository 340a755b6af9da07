"""The blocks that samples of a file came in, as a table of a few bytes a block.

A sample carries the place of its block in the table, and its own place in the block less its rank among those of its
signal: both hardly change from sample to sample, and give back the sequence number.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, TypeAlias

import msgpack
import numpy as np
import zstandard
from numpy.typing import NDArray

OriginRow: TypeAlias = tuple[int, bytes, int, int, int, int, int]
"""(boot counter, boot, stream, first_seq, received_ns, committed_ns, id of the catalogue)."""

TABLE_BYTES_MAX = 256 << 20
_LEVEL = 9


def pack_origins(rows: Sequence[OriginRow]) -> str:
    """A table as text: columns of differences, compressed."""
    counter, boot, stream, first_seq, received_ns, committed_ns, schema = zip(*rows, strict=True) if rows else ((),) * 7
    boots = list(dict.fromkeys(boot))
    columns = [
        list(counter),
        boots,
        [boots.index(one) for one in boot] if len(boots) > 1 else [],
        list(stream),
        _differences(first_seq),
        _differences(received_ns),
        [done - came for came, done in zip(received_ns, committed_ns, strict=True)],
        list(schema),
    ]
    packed = msgpack.packb(columns, use_bin_type=True)
    return base64.b64encode(zstandard.ZstdCompressor(level=_LEVEL).compress(packed)).decode()


def unpack_origins(text: str) -> tuple[OriginRow, ...]:
    """The table of `pack_origins`; raises ValueError when it is damaged."""
    try:
        packed = zstandard.ZstdDecompressor().decompress(base64.b64decode(text, validate=True), TABLE_BYTES_MAX)
        counter, boots, places, stream, first_seq, received, delay, schema = msgpack.unpackb(packed)
    except (zstandard.ZstdError, msgpack.UnpackException) as error:
        raise ValueError(f"the table of origins is damaged: {error}") from error
    boot = [boots[place] for place in places] if places else boots * len(counter)
    received_ns = _sums(received)
    committed_ns = [came + late for came, late in zip(received_ns, delay, strict=True)]
    rows: Iterable[Any] = zip(counter, boot, stream, _sums(first_seq), received_ns, committed_ns, schema, strict=True)
    return tuple(rows)


def places_of(
    seq: NDArray[np.int64], origin: NDArray[np.int32], first_seq: NDArray[np.int64]
) -> NDArray[np.int64]:  # fmt: skip
    """Place of each sample in its block, less its rank among the samples here that share the block."""
    return seq - first_seq[origin] - _ranks(origin)


def seqs_of(
    places: NDArray[np.int64], origin: NDArray[np.int32], first_seq: NDArray[np.int64]
) -> NDArray[np.int64]:  # fmt: skip
    """Sequence numbers out of `places_of`."""
    return places + first_seq[origin] + _ranks(origin)


def _ranks(origin: NDArray[np.int32]) -> NDArray[np.int64]:
    """How many samples before each share its origin."""
    order = np.argsort(origin, kind="stable")
    of = origin[order]
    count = len(of)
    begins = np.concatenate(([True], of[1:] != of[:-1])) if count else np.empty(0, np.bool_)
    start = np.maximum.accumulate(np.where(begins, np.arange(count), 0))
    ranks = np.empty(count, np.int64)
    ranks[order] = np.arange(count) - start
    return ranks


def _differences(numbers: Sequence[int]) -> list[int]:
    return [*numbers[:1], *(b - a for a, b in pairwise(numbers))]


def _sums(differences: Sequence[int]) -> list[int]:
    found, total = [], 0
    for difference in differences:
        total += difference
        found.append(total)
    return found
