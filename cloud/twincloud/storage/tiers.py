"""What readers of history ask for and get, whatever tier holds it: `Wanted` in, runs of one signal out.

    Wanted ─▶ blocks (as they came) ──┐
           ─▶ hours (point by hour) ──┼─▶ runs ─▶ merged in canonical order ─▶ Columns
           ─▶ archive (Parquet) ──────┘

A sample is in exactly one tier at any commit; a move between tiers is one transaction. The canonical order is that of
a state: (t_ns, boot counter, boot, stream, seq), so history is the same whatever tier a sample lies in.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection

from twincloud.twins.history import Columns
from twincloud.twins.state import Origin
from twinmodel.signal import DTYPES, Kind

KNOWN_ALL: Final = 2**63 - 1
"""A commit number behind all: what is known now."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a reader asks for.

    Attributes:
        tenant: whose samples; the first column of every key.
        gateways: ids of the gateways that may hold them.
        signals: names; a name is unique within a gateway.
        from_ns: first event time.
        to_ns: end of the event times, not included.
        known: number of the last commit that counts, `KNOWN_ALL` for what is known now.
    """

    tenant: str
    gateways: tuple[int, ...]
    signals: frozenset[str]
    from_ns: int
    to_ns: int
    known: int = KNOWN_ALL


@dataclass(frozen=True, slots=True)
class Run:
    """Samples of one signal of one gateway in canonical order; arrays of shape (n,), n > 0.

    Attributes:
        gateway: its id.
        signal: its name.
        kind: type of its values.
        unit: unit symbol.
        t_ns: event times.
        value: values, dtype `DTYPES[kind]`.
        quality: quality codes.
        commit_no: number of the commit each sample came with.
        origin: place in `origins`, int32.
        origins: the blocks they came in, distinct.
        seq: sequence number of each sample in its boot and stream.
    """

    gateway: int
    signal: str
    kind: Kind
    unit: str
    t_ns: NDArray[np.int64]
    value: NDArray[np.generic]
    quality: NDArray[np.uint16]
    commit_no: NDArray[np.int64]
    origin: NDArray[np.int32]
    origins: Sequence[Origin]
    seq: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.t_ns)

    def take(self, index: NDArray[np.generic]) -> Run:
        """The samples that an index array or a mask names; all origins stay."""
        return Run(
            self.gateway, self.signal, self.kind, self.unit, self.t_ns[index], self.value[index],
            self.quality[index], self.commit_no[index], self.origin[index], self.origins, self.seq[index],
        )  # fmt: skip


class Tier(Protocol):
    """One place where samples lie."""

    name: str

    def read(self, connection: Connection, wanted: Wanted) -> list[Run]:
        """Runs of what is asked for, each in canonical order; any number per signal. Empty runs are left out.

        Raises:
            InputError: LIMIT_EXCEEDED when the span holds more than one answer may look at.
        """
        ...


class History:
    """All tiers as one."""

    def __init__(self, tiers: Sequence[Tier]) -> None:
        self.tiers = tuple(tiers)

    def pieces(self, connection: Connection, wanted: Wanted, *, without: Sequence[Tier] = ()) -> dict[str, list[Run]]:
        """Signal -> its runs as the tiers hold them, but those `without`; signals without samples are left out."""
        found: dict[str, list[Run]] = {}
        for tier in self.tiers:
            for run in tier.read(connection, wanted) if tier not in without else ():
                found.setdefault(run.signal, []).append(run)
        return found

    def runs(self, connection: Connection, wanted: Wanted) -> dict[str, list[Run]]:
        """Signal -> one run per gateway, kind and unit it had, by these; signals without samples are left out."""
        found: dict[str, list[Run]] = {}
        for signal, runs in sorted(self.pieces(connection, wanted).items()):
            parts: dict[tuple[int, Kind, str], list[Run]] = {}
            for run in runs:
                parts.setdefault((run.gateway, run.kind, run.unit), []).append(run)
            found[signal] = [joined(parts[key]) for key in sorted(parts)]
        return found

    def columns(self, connection: Connection, wanted: Wanted) -> Mapping[str, Columns]:
        """Signal -> its samples over all gateways, kinds and units, in canonical order."""
        return {signal: columns_of(runs) for signal, runs in self.pieces(connection, wanted).items()}


def columns_of(runs: Sequence[Run]) -> Columns:
    """The samples of some runs of one signal; values are objects where it had several kinds."""
    if not runs:
        return Columns(np.empty(0, np.int64), np.empty(0, np.float64), np.empty(0, np.uint16))
    if len(runs) == 1:
        return Columns(runs[0].t_ns, runs[0].value, runs[0].quality)
    runs = sorted(runs, key=_begin)
    if _apart(runs):  # as nearly always: where they came from need not be looked at
        return Columns(
            np.concatenate([run.t_ns for run in runs]), _values(runs), np.concatenate([run.quality for run in runs])
        )
    whole = joined(runs)
    return Columns(whole.t_ns, whole.value, whole.quality)


def _begin(run: Run) -> int:
    return int(run.t_ns[0])


def _apart(runs: Sequence[Run]) -> bool:
    """Whether each of these runs ends before the next one begins."""
    return all(int(a.t_ns[-1]) < int(b.t_ns[0]) for a, b in itertools.pairwise(runs))


def _values(runs: Sequence[Run]) -> NDArray[np.generic]:
    kinds = {run.kind for run in runs}
    dtype = DTYPES[runs[0].kind] if len(kinds) == 1 else object
    return np.concatenate([run.value.astype(dtype, copy=False) for run in runs])


def joined(runs: Sequence[Run]) -> Run:
    """Some runs of one signal as one; gateway and unit are those of the first."""
    if len(runs) == 1:
        return runs[0]
    runs = sorted(runs, key=_begin)
    origins: dict[Origin, int] = {}
    places = []
    for run in runs:
        place = np.fromiter((origins.setdefault(o, len(origins)) for o in run.origins), np.int32, len(run.origins))
        places.append(place[run.origin])
    head = runs[0]
    whole = Run(
        head.gateway, head.signal, head.kind, head.unit,
        np.concatenate([run.t_ns for run in runs]),
        _values(runs),
        np.concatenate([run.quality for run in runs]),
        np.concatenate([run.commit_no for run in runs]),
        np.concatenate(places), tuple(origins), np.concatenate([run.seq for run in runs]),
    )  # fmt: skip
    return whole if _apart(runs) else canonical(whole)


def canonical(run: Run) -> Run:
    """The same samples in canonical order."""
    t_ns = run.t_ns
    if bool((t_ns[1:] > t_ns[:-1]).all()):
        return run
    order = np.lexsort((run.seq, ranks_of(run.origins)[run.origin], t_ns))
    return run.take(order)


def ranks_of(origins: Sequence[Origin]) -> NDArray[np.int64]:
    """The place of each origin's boot and stream among all of them: (counter, boot, stream) decide."""
    keys = sorted({origin[:3] for origin in origins})
    place = {key: n for n, key in enumerate(keys)}
    return np.fromiter((place[origin[:3]] for origin in origins), np.int64, len(origins))


def schemas_of(origins: Sequence[Origin]) -> NDArray[np.int64]:
    """The id of each origin's catalogue, 0 where it is not known."""
    known = getattr(origins, "schema_id", None)  # a part of hours has them as a column
    if known is not None:
        return np.asarray(known, np.int64)
    return np.fromiter((origin.schema for origin in origins), np.int64, len(origins))
