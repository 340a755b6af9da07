"""Merging: the parts of an hour that is over become one row per point, some points a step.

    points of an hour with rows in several parts ─▶ decode ─▶ join ─▶ pack ═one transaction═▶ a new part
                                                                        └▶ their rows, and parts left empty, deleted

Points that have rows in one part only stay there, so late data of few points cost as much as these.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, bindparam, delete, distinct, func, insert, select, update

from twincloud.storage import schema_hours as h
from twincloud.storage.compaction import DUE_NS, HOURS, INSERT_HOURS, part_row
from twincloud.storage.hours_codec import HOUR_NS, ORIGIN_COLUMNS, Origins, pack_hour, unpack_hour
from twincloud.storage.part import Part, take_numbers
from twincloud.storage.tier_hours import scale_of
from twincloud.storage.tiers import ranks_of
from twinmodel.clock import SECOND_NS
from twinmodel.errors import ConflictError
from twinmodel.signal import Batch, concat

GRACE_NS: Final = DUE_NS + 600 * SECOND_NS
"""How long after its end an hour is left alone: its last blocks are compacted by then."""
STEP_SAMPLES: Final = 1_000_000
STEP_POINTS: Final = 1_000

I64 = NDArray[np.int64]


class MergeStore(Part):
    """Merges parts; see `upkeep`."""

    def merge(self, now_ns: int) -> int:
        """One step over one hour of one gateway; gives the rows it merged, 0 when there is nothing to do.

        Raises:
            StorageError: the disk refuses; nothing was changed.
            ConflictError: STATE_LOCKED when another changed the same rows meanwhile; nothing was changed.
        """
        with self._database.read() as connection:
            hours = connection.execute(_NEXT, {"closed_ns": now_ns - GRACE_NS - HOUR_NS}).all()
            for row in hours:
                hour = {"tenant": row.tenant, "gateway_id": row.gateway_id, "hour_ns": row.hour_ns}
                points = _some(connection.execute(_SEVERAL, hour).all())
                if points:
                    break
            else:
                return 0
            rows = connection.execute(_ROWS, {**hour, "points": points}).all()
            keys = {(row.gateway_id, row.hour_ns, row.part) for row in rows}
            parts = {key[2]: one for key, one in self._hours_tier.origins(connection, row.tenant, keys).items()}
        merged, part = merged_of(rows, parts, hour["hour_ns"])
        with self._database.write(row.tenant) as connection:
            gone = connection.execute(_DELETE, {**hour, "points": points, "parts": sorted(parts)}).rowcount
            if gone != len(rows):
                raise ConflictError("STATE_LOCKED", f"merging: {len(rows) - gone} rows were changed by another")
            number = take_numbers(connection, HOURS, 1)
            rows_made = [{**hour, **one, "part": number} for one in merged]
            self._database.write_many(connection, INSERT_HOURS, rows_made)
            connection.execute(insert(h.hour_parts), {**hour, **part, "part": number})
            for old in sorted(parts):
                moved = sum(one.number for one in rows if one.part == old)
                connection.execute(update(h.hour_parts).where(*_part(hour, old)).values(samples=_SAMPLES - moved))
                connection.execute(delete(h.hour_parts).where(*_part(hour, old), _SAMPLES <= 0))
        return len(rows)


def merged_of(
    rows: Sequence[Any], parts: Mapping[int, Origins], hour_ns: int
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Rows of points as one part: rows of `hours` but for what makes the hour and the part, and the row of the part.

    Args:
        rows: of `hours` with their points, by point, part and piece.
        parts: the origins of their parts.
        hour_ns: the hour.
    """
    union, places = _union(parts)
    ranks = ranks_of(union)
    by_point: dict[int, list[Any]] = {}
    for row in rows:
        by_point.setdefault(row.point_id, []).append(row)
    joined = {point: _joined(some, places, union, ranks) for point, some in by_point.items()}
    used = np.zeros(len(union), np.bool_)
    for _, origin, _ in joined.values():
        used[origin] = True
    place = (np.cumsum(used) - 1).astype(np.int32)
    merged: list[dict[str, Any]] = [
        {"point_id": point, "piece": piece, "count": count, "payload": payload}
        for point, (batch, origin, offset) in joined.items()
        for piece, (count, payload) in enumerate(pack_hour(scale_of(by_point[point][0]), batch, place[origin], offset))
    ]
    columns = {name: getattr(union, name)[used] for name in ORIGIN_COLUMNS}
    return merged, part_row(hour_ns, sum(int(row["count"]) for row in merged), columns)


def _some(points: Sequence[Any]) -> list[int]:
    """The points of one step."""
    found: list[int] = []
    samples = 0
    for point in points[:STEP_POINTS]:
        samples += point.samples
        if found and samples > STEP_SAMPLES:
            break
        found.append(point.point_id)
    return found


def _union(parts: Mapping[int, Origins]) -> tuple[Origins, dict[int, NDArray[np.int32]]]:
    """The blocks of some parts, each once, by number; and where those of each part stand among them."""
    every = np.concatenate([origins.block for origins in parts.values()])
    block, first = np.unique(every, return_index=True)
    columns = {
        name: np.concatenate([getattr(origins, name) for origins in parts.values()])[first] for name in ORIGIN_COLUMNS
    }
    boots = {boot_id: boot for origins in parts.values() for boot_id, boot in origins.boots.items()}
    places = {part: block.searchsorted(origins.block).astype(np.int32) for part, origins in parts.items()}
    return Origins(**columns, boots=boots), places


def _joined(
    rows: Sequence[Any], places: Mapping[int, NDArray[np.int32]], union: Origins, ranks: I64
) -> tuple[Batch, NDArray[np.int32], I64]:
    """The samples of a point in canonical order, the block each came in, and its place in that."""
    batches, origins, offsets = [], [], []
    for row in rows:
        batch, origin, offset = unpack_hour(scale_of(row), row.payload)
        batches.append(batch)
        origins.append(places[row.part][origin])
        offsets.append(offset)
    (batch,) = concat(batches)
    origin, offset = np.concatenate(origins), np.concatenate(offsets)
    if bool((batch.t_ns[1:] > batch.t_ns[:-1]).all()):
        return batch, origin, offset
    order = np.lexsort((union.first_seq[origin] + offset, ranks[origin], batch.t_ns))
    return batch.take(order), origin[order], offset[order]


def _part(hour: Mapping[str, Any], part: int) -> tuple[ColumnElement[bool], ...]:
    c = h.hour_parts.c
    of = (c.tenant == hour["tenant"], c.gateway_id == hour["gateway_id"], c.hour_ns == hour["hour_ns"])
    return (*of, c.part == part)


_SAMPLES = h.hour_parts.c.samples
_HOUR = (
    h.hours.c.tenant == bindparam("tenant"),
    h.hours.c.gateway_id == bindparam("gateway_id"),
    h.hours.c.hour_ns == bindparam("hour_ns"),
)
# What changed since its buckets were made; these are made again only then.
_NEXT = (
    select(h.hour_parts.c.tenant, h.hour_parts.c.gateway_id, h.hour_parts.c.hour_ns)
    .where(h.hour_parts.c.bucketed.is_(False), h.hour_parts.c.hour_ns <= bindparam("closed_ns"))
    .group_by(h.hour_parts.c.tenant, h.hour_parts.c.gateway_id, h.hour_parts.c.hour_ns)
    .having(func.count() > 1)
    .order_by(h.hour_parts.c.hour_ns)
    .limit(64)
)
_SEVERAL = (
    select(h.hours.c.point_id, func.sum(h.hours.c.count).label("samples"))
    .where(*_HOUR)
    .group_by(h.hours.c.point_id)
    .having(func.count(distinct(h.hours.c.part)) > 1)
    .order_by(h.hours.c.point_id)
    .limit(STEP_POINTS)
)
_ROWS = (
    select(
        h.hours.c.gateway_id,
        h.hours.c.point_id,
        h.hours.c.hour_ns,
        h.hours.c.part,
        h.hours.c.payload,
        h.hours.c.count.label("number"),
        h.points.c.kind,
        h.points.c.exponent,
        h.points.c.step,
        h.points.c.period_ns,
        h.points.c.time_step_ns,
    )
    .join(h.points, h.points.c.id == h.hours.c.point_id)
    .where(*_HOUR, h.hours.c.point_id.in_(bindparam("points", expanding=True)))
    .order_by(h.hours.c.point_id, h.hours.c.part, h.hours.c.piece)
)
_DELETE = delete(h.hours).where(
    *_HOUR,
    h.hours.c.point_id.in_(bindparam("points", expanding=True)),
    h.hours.c.part.in_(bindparam("parts", expanding=True)),
)
