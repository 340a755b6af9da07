"""The second tier: point-hour blocks, found by their key, so that a point-day is two dozen rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import numpy as np
from sqlalchemy import Connection, bindparam, select

from twincloud.storage import schema as t
from twincloud.storage import schema_hours as h
from twincloud.storage.held import Recent
from twincloud.storage.hours_codec import HOUR_NS, Origins, Scale, unpack_hour, unpack_origins
from twincloud.storage.tiers import KNOWN_ALL, Run, Wanted
from twinmodel.signal import Kind

RUN_BYTES_HELD = 64 << 20
"""Bytes of decoded point-hours kept in memory; the numbers of their parts are never given again."""
PARTS_HELD = 512
BOOTS_HELD = 100_000

Point: TypeAlias = Any
"""A row of `points`."""


class HoursTier:
    """See `Tier`."""

    name = "hours"

    def __init__(self) -> None:
        self._runs: Recent[tuple[int, int, int, int], Run] = Recent(RUN_BYTES_HELD, _bytes_of)
        self._parts: Recent[tuple[int, int, int], Origins] = Recent(PARTS_HELD)
        self._boots: Recent[int, tuple[int, bytes]] = Recent(BOOTS_HELD)

    def read(self, connection: Connection, wanted: Wanted) -> list[Run]:
        """See `Tier.read`; a run per point, hour, part and piece."""
        first_ns = wanted.from_ns // HOUR_NS * HOUR_NS
        asked = {"tenant": wanted.tenant, "gateways": list(wanted.gateways), "signals": sorted(wanted.signals)}
        points = {row.id: row for row in connection.execute(_POINTS, asked)}
        if not points:
            return []
        span = {"tenant": wanted.tenant, "gateways": list(wanted.gateways), "points": list(points),
                "from_ns": first_ns, "to_ns": wanted.to_ns}  # fmt: skip
        # What retention let go begins and ends where hours do; a step of it may not have deleted it yet.
        rows = [row for row in connection.execute(_HOURS, span) if row.hour_ns >= points[row.point_id].raw_from_ns]
        found: list[Run | None] = [self._runs.get((row.point_id, row.hour_ns, row.part, row.piece)) for row in rows]
        missing = {(row.gateway_id, row.hour_ns, row.part) for row, run in zip(rows, found, strict=True) if run is None}
        origins = self.origins(connection, wanted.tenant, missing) if missing else {}
        runs = []
        for row, held in zip(rows, found, strict=True):
            run = held
            if run is None:
                run = _fixed(run_of(points[row.point_id], row.payload, origins[row.gateway_id, row.hour_ns, row.part]))
                self._runs.put((row.point_id, row.hour_ns, row.part, row.piece), run)
            if not (wanted.from_ns <= row.hour_ns and row.hour_ns + HOUR_NS <= wanted.to_ns):
                inside = (run.t_ns >= wanted.from_ns) & (run.t_ns < wanted.to_ns)
                run = run if inside.all() else run.take(inside)
            if wanted.known != KNOWN_ALL:
                known = run.commit_no <= wanted.known
                run = run if known.all() else run.take(known)
            if len(run):
                runs.append(run)
        return runs

    def origins(
        self, connection: Connection, tenant: str, keys: Iterable[tuple[int, int, int]]
    ) -> dict[tuple[int, int, int], Origins]:
        """The origins of parts by (gateway id, hour, part); they never change."""
        found = {}
        missing = []
        for key in keys:
            held = self._parts.get(key)
            if held is None:
                missing.append(key)
            else:
                found[key] = held
        if missing:
            asked = {"tenant": tenant, "gateways": sorted({k[0] for k in missing}),
                     "hours": sorted({k[1] for k in missing}), "parts": sorted({k[2] for k in missing})}  # fmt: skip
            for row in connection.execute(_PARTS, asked):
                key = (row.gateway_id, row.hour_ns, row.part)
                columns = unpack_origins(row.payload)
                boots = self.boots(connection, np.unique(columns["boot_id"]).tolist())
                found[key] = self._parts.put(key, Origins(**columns, boots=boots))
        return found

    def boots(self, connection: Connection, ids: Sequence[int]) -> dict[int, tuple[int, bytes]]:
        """Counter and id of boots by their ids in the database."""
        found = {boot_id: held for boot_id in ids if (held := self._boots.get(boot_id)) is not None}
        missing = [boot_id for boot_id in ids if boot_id not in found]
        if missing:
            for row in connection.execute(_BOOTS, {"ids": missing}):
                found[row.id] = self._boots.put(row.id, (row.counter, row.boot))
        return found


def scale_of(point: Point) -> Scale:
    """How a point is packed."""
    return Scale(Kind(point.kind), point.exponent, point.step, point.period_ns, point.time_step_ns)


def run_of(point: Point, payload: bytes, origins: Origins) -> Run:
    """A row of `hours` as a run."""
    batch, origin, offset = unpack_hour(scale_of(point), payload)
    return Run(
        point.gateway_id, point.signal, batch.kind, point.unit, batch.t_ns, batch.value, batch.quality,
        origins.commit_no[origin], origin, origins, origins.first_seq[origin] + offset,
    )  # fmt: skip


def _fixed(run: Run) -> Run:
    """The run, which many readers may look at and none may write to."""
    for column in (run.t_ns, run.value, run.quality, run.commit_no, run.origin, run.seq):
        column.flags.writeable = False
    return run


def _bytes_of(run: Run) -> int:
    return 1_000 + 48 * len(run)


_POINTS = select(h.points).where(
    h.points.c.tenant == bindparam("tenant"),
    h.points.c.gateway_id.in_(bindparam("gateways", expanding=True)),
    h.points.c.signal.in_(bindparam("signals", expanding=True)),
)
# Not joined with the points: SQLite would look at all points of an hour.
_HOURS = (
    select(h.hours)
    .where(
        h.hours.c.tenant == bindparam("tenant"),
        h.hours.c.gateway_id.in_(bindparam("gateways", expanding=True)),
        h.hours.c.point_id.in_(bindparam("points", expanding=True)),
        h.hours.c.hour_ns >= bindparam("from_ns"),
        h.hours.c.hour_ns < bindparam("to_ns"),
    )
    .order_by(h.hours.c.hour_ns, h.hours.c.part, h.hours.c.piece)
)
_PARTS = select(h.hour_parts).where(
    h.hour_parts.c.tenant == bindparam("tenant"),
    h.hour_parts.c.gateway_id.in_(bindparam("gateways", expanding=True)),
    h.hour_parts.c.hour_ns.in_(bindparam("hours", expanding=True)),
    h.hour_parts.c.part.in_(bindparam("parts", expanding=True)),
)
_BOOTS = select(t.boots.c.id, t.boots.c.counter, t.boots.c.boot).where(
    t.boots.c.id.in_(bindparam("ids", expanding=True))
)
