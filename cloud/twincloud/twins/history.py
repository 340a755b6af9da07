"""History of a twin out of blocks: a bounded store of decoded blocks, and columns of one signal over many of them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from twinmodel.signal import DTYPES, OUTPUT_ROLES, SUBSTITUTE, Batch, Catalogue, Kind, TwinBinding

ROLES = ("measured", *OUTPUT_ROLES)
KNOWN_ROLES = (*ROLES, SUBSTITUTE)
SAMPLES_MAX = 3_000_000
"""Decoded samples kept in memory; a sample takes about 22 bytes."""

_BLOCK_COST = 40
"""A block counts as this many samples more, for the objects around its arrays."""


@dataclass(frozen=True, slots=True)
class Columns:
    """A run of one signal, event time ascending; arrays of shape (n,)."""

    t_ns: NDArray[np.int64]
    value: NDArray[np.generic]
    quality: NDArray[np.uint16]

    def __len__(self) -> int:
        return len(self.t_ns)


@dataclass(frozen=True, slots=True)
class Decoded:
    """A stored block and its samples; `order` sorts blocks the way a state orders samples of equal time."""

    order: tuple[int, bytes, int, int]
    schema: int
    batches: tuple[Batch, ...]


class DecodedBlocks:
    """The most recently used decoded blocks by block id, bounded by samples; safe to use from any thread."""

    def __init__(self, samples_max: int = SAMPLES_MAX) -> None:
        self.samples = 0
        self._samples_max = samples_max
        self._blocks: OrderedDict[int, Decoded] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._blocks)

    def take(self, ids: Sequence[int]) -> dict[int, Decoded]:
        """Those of the blocks that are held."""
        found = {}
        with self._lock:
            for block in ids:
                decoded = self._blocks.get(block)
                if decoded is not None:
                    self._blocks.move_to_end(block)
                    found[block] = decoded
        return found

    def put(self, block: int, decoded: Decoded) -> None:
        """Holds a block, in place of the ones used longest ago."""
        with self._lock:
            if block in self._blocks:
                return
            self._blocks[block] = decoded
            self.samples += _cost(decoded)
            while self.samples > self._samples_max and self._blocks:
                _, oldest = self._blocks.popitem(last=False)
                self.samples -= _cost(oldest)


def signal_of(binding: TwinBinding, prop: str, role: str) -> str:
    """Name of the signal that carries a role of a property, "" when there is none."""
    if role == "measured":
        return binding.properties.get(prop, "")
    return f"{binding.twin}/{prop}#{role}"


def select(
    blocks: Sequence[Decoded],
    catalogues: Mapping[int, Catalogue],
    names: Mapping[str, Mapping[int, str]],
    from_ns: int,
    to_ns: int,
) -> dict[str, Columns]:
    """The samples of each role in [from_ns, to_ns).

    Args:
        blocks: decoded blocks, any order.
        catalogues: catalogue by its id in `Decoded.schema`.
        names: role -> name of its signal by the same id; catalogues may name it differently.
        from_ns: first event time.
        to_ns: end of the event times, not included.
    """
    parts: dict[str, list[Batch]] = {role: [] for role in names}
    for run in _runs(sorted(blocks, key=lambda block: block.order)):
        schema = run[0].schema
        found = {role: catalogues[schema].by_name.get(by_schema.get(schema, "")) for role, by_schema in names.items()}
        wanted = {role: signal for role, signal in found.items() if signal is not None}
        # Joined once per kind, then once more to the few signals asked for: each role looks at little.
        joined = {kind: _joined(run, kind) for kind in {signal.kind for signal in wanted.values()}}
        few = {
            kind: batch.take(_among(batch, [s.id for s in wanted.values() if s.kind is kind], from_ns, to_ns))
            for kind, batch in joined.items()
        }
        for role, signal in wanted.items():
            batch = few[signal.kind]
            parts[role].append(batch.take(np.flatnonzero(batch.signal == signal.id)))
    return {role: _columns([batch for batch in batches if len(batch)]) for role, batches in parts.items()}


def newest_points(columns: Columns, points_max: int) -> tuple[Columns, bool]:
    """At most `points_max` of them, the newest, and whether any were left out."""
    if len(columns) <= points_max:
        return columns, False
    cut = len(columns) - points_max
    return Columns(columns.t_ns[cut:], columns.value[cut:], columns.quality[cut:]), True


def _runs(blocks: Sequence[Decoded]) -> list[list[Decoded]]:
    """Consecutive blocks of one catalogue, so that their columns are joined once."""
    runs: list[list[Decoded]] = []
    for block in blocks:
        if runs and runs[-1][0].schema == block.schema:
            runs[-1].append(block)
        else:
            runs.append([block])
    return runs


def _among(batch: Batch, signals: Sequence[int], from_ns: int, to_ns: int) -> NDArray[np.intp]:
    """Positions of these signals within the time range, in order."""
    among = np.zeros(int(batch.signal.max(initial=0)) + 1, np.bool_)
    among[[signal for signal in signals if signal < len(among)]] = True
    mask = among[batch.signal]
    mask &= batch.t_ns >= from_ns
    mask &= batch.t_ns < to_ns
    return np.flatnonzero(mask)


def _columns(parts: Sequence[Batch]) -> Columns:
    if not parts:
        return Columns(np.empty(0, np.int64), np.empty(0, np.float64), np.empty(0, np.uint16))
    kinds = {part.kind for part in parts}
    dtype = DTYPES[parts[0].kind] if len(kinds) == 1 else object
    t_ns = np.concatenate([part.t_ns for part in parts])
    value = np.concatenate([part.value.astype(dtype, copy=False) for part in parts])
    quality = np.concatenate([part.quality for part in parts])
    # Stable: samples of equal time stay in the order of their blocks, which is the order a state uses.
    order = np.argsort(t_ns, kind="stable")
    return Columns(t_ns[order], value[order], quality[order])


def _joined(blocks: Sequence[Decoded], kind: Kind) -> Batch:
    batches = [batch for block in blocks for batch in block.batches if batch.kind is kind]
    if not batches:
        return Batch.of(kind, (), (), (), ())
    if len(batches) == 1:
        return batches[0]
    return Batch(
        kind,
        np.concatenate([b.signal for b in batches]),
        np.concatenate([b.value for b in batches]),
        np.concatenate([b.quality for b in batches]),
        np.concatenate([b.t_ns for b in batches]),
    )


def _cost(decoded: Decoded) -> int:
    return _BLOCK_COST + sum(len(batch) for batch in decoded.batches)
