"""Compaction: blocks become point-hour blocks minutes after their commit, and are deleted in the same transaction.

    ripe blocks of a gateway ─▶ decode ─▶ sort by signal ─▶ cut by hour ─▶ pack ═one transaction═▶ hours, parts
                                 (no lock is held so far)                     └▶ newest readings saved, blocks deleted

A block moves as a whole, whatever hours it spans, so a sample is in one tier at any commit. What a step brings to an
hour is a *part* of it; parts of an hour that is over become one (see `merging`).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, bindparam, delete, insert, select, update

from twincloud.storage import schema as t
from twincloud.storage import schema_hours as h
from twincloud.storage.expired import declare_expired
from twincloud.storage.hours_codec import HOUR_NS, Scale, pack_hour, pack_origins
from twincloud.storage.kept import since_of
from twincloud.storage.newest import NewestStore, saved_row
from twincloud.storage.part import take_numbers
from twincloud.storage.tier_blocks import HEADS, Head, Stored
from twincloud.storage.tiers import Run, Wanted, canonical
from twincloud.twins.buckets import MINUTE_NS
from twincloud.twins.state import Origin
from twinmodel.clock import SECOND_NS
from twinmodel.errors import ConflictError
from twinmodel.signal import Batch, Catalogue, Kind, concat

RIPE_NS: Final = 300 * SECOND_NS
"""Blocks that were committed so long ago are compacted ..."""
DUE_NS: Final = 900 * SECOND_NS
"""... once their gateway has one that was committed so long ago: parts of an hour are six or so, not hundreds."""
STEP_BLOCKS: Final = 2_000
STEP_SAMPLES: Final = 2_000_000
"""A step takes no more, which bounds its time and, at about 100 bytes a sample, its memory."""

STEP_ROWS: Final = 20_000
"""Point-hours of one step, where a gateway has many signals of few samples: each takes about 2 kB while it is made."""

HOURS = "hours"
"""The counter that numbers parts and points: one of its own, so that no commit waits for a step of compaction."""

PointKey = tuple[str, int, str, int, int, int, int]
"""What makes a point of a gateway: signal, kind, unit, exponent, step, period, time step."""


@dataclass(frozen=True, slots=True)
class Ripe:
    """Blocks of one gateway that may be compacted now."""

    tenant: str
    gateway_id: int
    heads: Sequence[Head]


@dataclass(frozen=True, slots=True)
class Packed:
    """Rows of one step, with the point's key in the place of its id."""

    rows: list[tuple[PointKey, int, int, int, bytes]]
    """(point, hour, piece, count, payload)."""
    parts: list[dict[str, Any]]


class CompactionStore(NewestStore):
    """Moves blocks to hours; see `upkeep`."""

    _compacted_to = 0

    def compact(self, now_ns: int, *, samples_max: int = STEP_SAMPLES) -> int:
        """One step over one gateway, the next one each time; gives the blocks it moved, 0 when none is ripe.

        Raises:
            StorageError: the disk refuses; nothing was moved.
            ConflictError: STATE_LOCKED when another moved the same blocks meanwhile; nothing was moved.
        """
        with self._database.read() as connection:
            ripe = self._next_ripe(connection, now_ns, samples_max)
            if ripe is None:
                return 0
            # Not into the cache of decoded blocks: these are read once and then gone.
            stored = self._blocks_tier.load(connection, ripe.heads, hold=False)
            catalogues = {head.schema_id: self._catalogue_by_id(connection, head.schema_id) for head in ripe.heads}
        packed = packed_of(ripe, stored, catalogues)
        with self._database.write(ripe.tenant) as connection:
            self._move(connection, ripe, packed)
        return len(ripe.heads)

    def _next_ripe(self, connection: Connection, now_ns: int, samples_max: int) -> Ripe | None:
        due_ns = now_ns - DUE_NS
        for after in (self._compacted_to, 0):
            gateway = connection.execute(_NEXT, {"due_ns": due_ns, "after": after}).first()
            if gateway is not None:
                break
        else:
            return None
        self._compacted_to = gateway.id
        heads: list[Head] = []
        samples = 0
        hours: set[int] = set()
        signals = 0
        for head in connection.execute(_RIPE, {"gateway_id": gateway.id, "ripe_ns": now_ns - RIPE_NS}):
            samples += head.last_seq - head.first_seq + 1
            last = min(head.t_max_ns // HOUR_NS, head.t_min_ns // HOUR_NS + STEP_ROWS)
            # Whole hours where they fit: an hour that two steps share has two parts.
            begins = bool(heads) and head.t_min_ns // HOUR_NS not in hours
            hours.update(range(head.t_min_ns // HOUR_NS, last + 1))
            signals = max(signals, len(self._catalogue_by_id(connection, head.schema_id)))
            rows = min(samples, len(hours) * signals)
            if heads and (samples > samples_max or rows > STEP_ROWS or (begins and 2 * samples > samples_max)):
                break
            heads.append(head)
        return Ripe(gateway.tenant, gateway.id, heads) if heads else None

    def _move(self, connection: Connection, ripe: Ripe, packed: Packed) -> None:
        gateway = {"tenant": ripe.tenant, "gateway_id": ripe.gateway_id}
        # First of all: it may take a number of the counter of commits, as they do first.
        packed = self._kept_of(connection, ripe, packed)
        ids = [head.id for head in ripe.heads]
        # The newest readings are folded out of blocks: what is saved must hold these before they go.
        if (connection.execute(_SAVED, gateway).scalar() or 0) < max(ids):
            last_block = connection.execute(_LAST_BLOCK, {"key": ripe.gateway_id}).scalar_one()
            # Packing changes it, and readers look at the one that is held.
            latest = self._newest(connection, ripe.gateway_id, last_block, writing=True).draft()
            self._database.upsert(connection, t.gateway_states, [saved_row(ripe.tenant, ripe.gateway_id, latest)])
        part = take_numbers(connection, HOURS, 1)
        points = point_ids(connection, ripe.tenant, ripe.gateway_id, {row[0] for row in packed.rows})
        if packed.rows:
            self._database.write_many(connection, INSERT_HOURS, [
                {**gateway, "point_id": points[key], "hour_ns": hour_ns, "part": part, "piece": piece,
                 "count": count, "payload": payload}
                for key, hour_ns, piece, count, payload in packed.rows
            ])  # fmt: skip
            connection.execute(insert(h.hour_parts), [{**gateway, **row, "part": part} for row in packed.parts])
            forget_buckets(connection, gateway, {(key[0], hour_ns) for key, hour_ns, *_ in packed.rows})
        gone = sum(
            connection.execute(_DELETE, {"ids": ids[n : n + 500], "gateway_id": ripe.gateway_id}).rowcount
            for n in range(0, len(ids), 500)
        )
        if gone != len(ids):
            raise ConflictError("STATE_LOCKED", f"compaction: {len(ids) - gone} blocks were moved by another meanwhile")

    def _kept_of(self, connection: Connection, ripe: Ripe, packed: Packed) -> Packed:
        """Without what came later than retention keeps it, which is declared as lost."""
        signals = frozenset(key[0] for key, *_ in packed.rows)
        since = since_of(connection, Wanted(ripe.tenant, (ripe.gateway_id,), signals, 0, 0))
        late = [row for row in packed.rows if row[1] < since.get((ripe.gateway_id, row[0][0]), 0)]
        if not late:
            return packed
        gone: dict[int, int] = {}
        for _, hour_ns, _, count, _ in late:
            gone[hour_ns] = gone.get(hour_ns, 0) + count
        declare_expired(connection, ripe.tenant, ripe.gateway_id, ripe.heads[0], gone)
        parts = [{**row, "samples": row["samples"] - gone.get(row["hour_ns"], 0)} for row in packed.parts]
        rows = [row for row in packed.rows if row[1] >= since.get((ripe.gateway_id, row[0][0]), 0)]
        return Packed(rows, [row for row in parts if row["samples"]])


def packed_of(ripe: Ripe, stored: Sequence[Stored], catalogues: Mapping[int, Catalogue]) -> Packed:
    """Blocks as rows of hours; blocks stand as a state orders their samples of equal time."""
    origins = [one.origin for one in stored]
    runs: dict[tuple[PointKey, int], list[Run]] = {}
    for schema_id, catalogue in catalogues.items():
        mine = [(place, one) for place, one in enumerate(stored) if one.decoded.schema == schema_id]
        for run in runs_of(ripe.gateway_id, mine, catalogue, origins):
            key = point_key(catalogue, run.signal)
            for hour_ns, some in by_hour(run):
                runs.setdefault((key, hour_ns), []).append(some)
    used: dict[int, NDArray[np.bool_]] = {}
    samples: dict[int, int] = {}
    whole = {}
    for (key, hour_ns), pieces in sorted(runs.items()):
        run = whole[key, hour_ns] = pieces[0] if len(pieces) == 1 else together(pieces)
        used.setdefault(hour_ns, np.zeros(len(origins), np.bool_))[run.origin] = True
        samples[hour_ns] = samples.get(hour_ns, 0) + len(run)
    columns = _origin_columns(stored)
    first_seq = columns["first_seq"]
    places = {hour_ns: (np.cumsum(mask) - 1).astype(np.int32) for hour_ns, mask in used.items()}
    rows = []
    for (key, hour_ns), run in whole.items():
        batch = Batch(run.kind, np.zeros(len(run), np.uint32), run.value, run.quality, run.t_ns)
        packed = pack_hour(scale_of_key(key), batch, places[hour_ns][run.origin], run.seq - first_seq[run.origin])
        rows += [(key, hour_ns, piece, count, payload) for piece, (count, payload) in enumerate(packed)]
    parts = [
        part_row(hour_ns, samples[hour_ns], {name: column[mask] for name, column in columns.items()})
        for hour_ns, mask in sorted(used.items())
    ]
    return Packed(rows, parts)


def part_row(hour_ns: int, samples: int, columns: Mapping[str, NDArray[np.int64]]) -> dict[str, Any]:
    """The row of a part but tenant, gateway and number."""
    return {
        "hour_ns": hour_ns, "samples": samples, "block_min": int(columns["block"].min()),
        "block_max": int(columns["block"].max()), "bucketed": False, "payload": pack_origins(columns),
    }  # fmt: skip


def runs_of(
    gateway: int, stored: Sequence[tuple[int, Stored]], catalogue: Catalogue, origins: Sequence[Origin]
) -> Iterator[Run]:
    """The runs of all signals of some blocks of one catalogue, (place in `origins`, block) each."""
    for kind in Kind:
        batches, places, firsts, numbers = [], [], [], []
        for place, one in stored:
            before = one.row.first_seq
            for batch in one.decoded.batches:
                if batch.kind is kind and len(batch):
                    batches.append(batch)
                    places.append(place)
                    firsts.append(before)
                    numbers.append(one.row.commit_no)
                before += len(batch)
        if not batches:
            continue
        (whole,) = concat(batches)
        lengths = np.array([len(batch) for batch in batches])
        origin = np.array(places, np.int32).repeat(lengths)
        seq = (np.array(firsts, np.int64) - (lengths.cumsum() - lengths)).repeat(lengths) + np.arange(len(whole))
        commit_no = np.array(numbers, np.int64).repeat(lengths)
        # Stable: the samples of a signal stay in the order of their blocks.
        order = np.argsort(whole.signal, kind="stable")
        signal = whole.signal[order]
        cuts = [0, *(np.flatnonzero(signal[1:] != signal[:-1]) + 1).tolist(), len(signal)]
        for start, end in itertools.pairwise(cuts):
            at = order[start:end]
            named = catalogue.signals[int(signal[start])]
            yield canonical(
                Run(gateway, named.name, kind, named.unit, whole.t_ns[at], whole.value[at], whole.quality[at],
                    commit_no[at], origin[at], origins, seq[at])
            )  # fmt: skip


def by_hour(run: Run) -> Iterator[tuple[int, Run]]:
    """A run, cut where the hour of its event times changes."""
    hour = run.t_ns // HOUR_NS
    cuts = [0, *(np.flatnonzero(hour[1:] != hour[:-1]) + 1).tolist(), len(run)]
    for start, end in itertools.pairwise(cuts):
        whole = start == 0 and end == len(run)
        yield int(hour[start]) * HOUR_NS, run if whole else run.take(np.arange(start, end))


def point_key(catalogue: Catalogue, name: str) -> PointKey:
    """What makes the point of a signal."""
    s = catalogue.by_name[name]
    return (s.name, int(s.kind), s.unit, s.exponent, s.step, s.period_ns, catalogue.time_step_ns)


def scale_of_key(key: PointKey) -> Scale:
    """How a point is packed."""
    _, kind, _, exponent, step, period_ns, time_step_ns = key
    return Scale(Kind(kind), exponent, step, period_ns, time_step_ns)


def point_ids(connection: Connection, tenant: str, gateway_id: int, keys: set[PointKey]) -> dict[PointKey, int]:
    """Ids of points by their keys; makes those that are new."""
    asked = {"tenant": tenant, "gateway_id": gateway_id}
    found = connection.execute(_POINTS, asked).all()
    known = {tuple(row[1:8]): int(row[0]) for row in found}
    fresh = sorted(key for key in keys if key not in known)
    if fresh:
        first = take_numbers(connection, HOURS, len(fresh))
        names = ("signal", "kind", "unit", "exponent", "step", "period_ns", "time_step_ns")
        # Packed in another way, a signal is still the one of which retention has let go.
        since = {row.signal: {"raw_from_ns": row.raw_from_ns, "buckets_from_ns": row.buckets_from_ns} for row in found}
        nothing = {"raw_from_ns": 0, "buckets_from_ns": 0}
        rows = [
            {"id": n, **asked, **dict(zip(names, key, strict=True)), **since.get(key[0], nothing)}
            for n, key in enumerate(fresh, first)
        ]
        connection.execute(insert(h.points), rows)
        known |= {key: first + n for n, key in enumerate(fresh)}
    return {key: known[key] for key in keys}


def forget_buckets(connection: Connection, gateway: Mapping[str, object], changed: set[tuple[str, int]]) -> None:
    """Deletes what was derived from hours of signals, (signal, hour) each, that change, and has it made again.

    Buckets of other signals in the same hours stay: their samples may be archived, or kept no more.
    """
    by_hour: dict[int, list[str]] = {}
    for signal, hour_ns in sorted(changed):
        by_hour.setdefault(hour_ns, []).append(signal)
    for hour_ns, signals in by_hour.items():
        for n in range(0, len(signals), 500):
            connection.execute(_FORGET, {**gateway, "start_ns": hour_ns, "signals": signals[n : n + 500]})
    hours_ns = sorted(by_hour)
    for n in range(0, len(hours_ns), 500):
        connection.execute(_AGAIN, {"of_tenant": gateway["tenant"], "of_gateway": gateway["gateway_id"],
                                    "hours": hours_ns[n : n + 500]})  # fmt: skip


def together(runs: Sequence[Run]) -> Run:
    """Runs of one point that share their origins, as one."""
    head = runs[0]
    return canonical(
        Run(
            head.gateway, head.signal, head.kind, head.unit,
            np.concatenate([run.t_ns for run in runs]), np.concatenate([run.value for run in runs]),
            np.concatenate([run.quality for run in runs]), np.concatenate([run.commit_no for run in runs]),
            np.concatenate([run.origin for run in runs]), head.origins, np.concatenate([run.seq for run in runs]),
        )
    )  # fmt: skip


def _origin_columns(stored: Sequence[Stored]) -> dict[str, NDArray[np.int64]]:
    names = ("commit_no", "boot_id", "stream", "first_seq", "schema_id", "received_ns", "committed_ns")
    columns = {name: np.array([getattr(one.row, name) for one in stored], np.int64) for name in names}
    return {"block": np.array([one.row.id for one in stored], np.int64), **columns}


# Numbers of blocks grow with the times of their commits: the first one is the oldest.
_OLDEST = (
    select(t.blocks.c.committed_ns)
    .where(t.blocks.c.gateway_id == t.gateways.c.id)
    .order_by(t.blocks.c.id)
    .limit(1)
    .correlate(t.gateways)
    .scalar_subquery()
)
_NEXT = (
    select(t.gateways.c.id, t.gateways.c.tenant)
    .where(t.gateways.c.id > bindparam("after"), bindparam("due_ns") > _OLDEST)
    .order_by(t.gateways.c.id)
    .limit(1)
)
_RIPE = (
    HEADS.add_columns(t.blocks.c.last_seq)
    .where(t.blocks.c.gateway_id == bindparam("gateway_id"), t.blocks.c.committed_ns < bindparam("ripe_ns"))
    .order_by(t.blocks.c.id)
    .limit(STEP_BLOCKS)
)
INSERT_HOURS = insert(h.hours)
_LAST_BLOCK = select(t.gateways.c.last_block).where(t.gateways.c.id == bindparam("key"))
_SAVED = select(t.gateway_states.c.through).where(
    t.gateway_states.c.tenant == bindparam("tenant"), t.gateway_states.c.gateway_id == bindparam("gateway_id")
)
_DELETE = delete(t.blocks).where(
    t.blocks.c.id.in_(bindparam("ids", expanding=True)), t.blocks.c.gateway_id == bindparam("gateway_id")
)
_POINTS = select(
    h.points.c.id, h.points.c.signal, h.points.c.kind, h.points.c.unit, h.points.c.exponent, h.points.c.step,
    h.points.c.period_ns, h.points.c.time_step_ns, h.points.c.raw_from_ns, h.points.c.buckets_from_ns,
).where(h.points.c.tenant == bindparam("tenant"), h.points.c.gateway_id == bindparam("gateway_id"))  # fmt: skip
_FORGET = delete(h.buckets).where(
    h.buckets.c.tenant == bindparam("tenant"),
    h.buckets.c.gateway_id == bindparam("gateway_id"),
    h.buckets.c.point_id.in_(
        select(h.points.c.id).where(
            h.points.c.tenant == bindparam("tenant"),
            h.points.c.gateway_id == bindparam("gateway_id"),
            h.points.c.signal.in_(bindparam("signals", expanding=True)),
        )
    ),
    h.buckets.c.width_ns == MINUTE_NS,
    h.buckets.c.start_ns == bindparam("start_ns"),
)
_AGAIN = (
    update(h.hour_parts)
    .where(
        h.hour_parts.c.tenant == bindparam("of_tenant"),
        h.hour_parts.c.gateway_id == bindparam("of_gateway"),
        h.hour_parts.c.hour_ns.in_(bindparam("hours", expanding=True)),
    )
    .values(bucketed=False)
)
