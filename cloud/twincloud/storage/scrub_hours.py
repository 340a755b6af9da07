"""Reads all compacted history: every part of an hour, every point in it, and some buckets against their samples."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
import zstandard
from sqlalchemy import Connection, bindparam, exists, select

from twincloud.storage import schema as t
from twincloud.storage import schema_hours as h
from twincloud.storage.downsampled import unpack
from twincloud.storage.hours_codec import HOUR_NS, unpack_hour, unpack_origins
from twincloud.storage.records_archives import DAY_NS, FileState
from twincloud.storage.schema_archives import archives
from twincloud.storage.tier_hours import HoursTier, scale_of
from twincloud.storage.tiers import Wanted, columns_of
from twincloud.twins.buckets import MINUTE_NS, Buckets, minutes_of
from twinmodel.clock import SECOND_NS
from twinmodel.errors import TwinError

EVERY: Final = 8
"""Of so many parts, one has its buckets made anew and compared."""
COMPARED_MAX: Final = 64
"""Buckets of one hour that are compared."""
DAMAGE: Final = (TwinError, ValueError, IndexError, OverflowError, struct.error, zstandard.ZstdError)
"""What reading damaged bytes raises."""


def scrub_hours(connection: Connection) -> Iterator[str]:
    """A line for each fault in compacted hours and their buckets, in the snapshot of `connection`."""
    thinned = set(connection.execute(_THINNED).scalars())
    for number, part in enumerate(connection.execute(_PARTS)):
        named = f"hour {_hour(part.hour_ns)} of gateway {part.gateway}, part {part.part}"
        whole = True
        for fault in _part(connection, part, exact=part.tenant not in thinned):
            whole = False
            yield f"{named}: {fault}"
        if whole and part.bucketed and number % EVERY == 0 and part.tenant not in thinned:
            yield from (f"{named}: {fault}" for fault in _buckets(connection, part))
    for row in connection.execute(_ORPHANS):
        yield f"hour {_hour(row.hour_ns)} of gateway {row.gateway_id}, part {row.part}: its list of blocks is missing"


def _part(connection: Connection, part: Any, *, exact: bool) -> Iterator[str]:
    """Faults of one part; `exact` where retention takes nothing out of it."""
    try:
        origins = len(unpack_origins(part.payload)["block"])
    except DAMAGE as error:
        yield f"its list of blocks cannot be read: {error}"
        return
    samples = 0
    key = {name: getattr(part, name) for name in ("tenant", "gateway_id", "hour_ns", "part")}
    for row in connection.execute(_ROWS, key):
        named = str(row.signal)
        samples += row.counted
        try:
            batch, origin, _ = unpack_hour(scale_of(row), row.payload)
        except DAMAGE as error:
            yield f"{named} cannot be read: {error}"
            continue
        inside = (batch.t_ns >= part.hour_ns) & (batch.t_ns < part.hour_ns + HOUR_NS)
        if len(batch) != row.counted:
            yield f"{named} has {len(batch)} samples, its row says {row.counted}"
        elif not inside.all():
            yield f"{named} has samples of another hour"
        elif len(origin) and not 0 <= int(origin.min()) <= int(origin.max()) < origins:
            yield f"{named} names a block that the part does not have"
    if samples > part.samples or (exact and samples < part.samples):
        yield f"its points have {samples} samples, it says {part.samples}"


def _buckets(connection: Connection, part: Any) -> Iterator[str]:
    """Buckets of an hour that differ from what its samples give; of an archived day the samples are elsewhere."""
    hour = {"tenant": part.tenant, "gateway_id": part.gateway_id, "hour_ns": part.hour_ns}
    day_ns = part.hour_ns // DAY_NS * DAY_NS
    if connection.execute(_ARCHIVED, {**hour, "day_ns": day_ns}).first():
        return
    rows = connection.execute(_BUCKETS, hour).all()
    signals = frozenset(row.signal for row in rows)
    span = Wanted(part.tenant, (part.gateway_id,), signals, part.hour_ns, part.hour_ns + HOUR_NS)
    runs: dict[str, list[Any]] = {}
    try:
        for run in HoursTier().read(connection, span):
            runs.setdefault(run.signal, []).append(run)
    except DAMAGE:
        return  # told at the part that is damaged
    for row in rows:
        try:
            kept = unpack(row.payload)
        except DAMAGE as error:
            yield f"the minutes of {row.signal} cannot be read: {error}"
            continue
        if not _equal(kept, minutes_of(columns_of(runs.get(row.signal, [])))):
            yield f"the minutes of {row.signal} are not those of its samples"


def _equal(one: Buckets, other: Buckets) -> bool:
    """Bit by bit, so that what is no number is equal to itself."""
    pairs = ((getattr(one, name), getattr(other, name)) for name in Buckets.__slots__)
    return all(
        len(a) == len(b) and np.ascontiguousarray(a).tobytes() == np.ascontiguousarray(b).tobytes() for a, b in pairs
    )


def _hour(hour_ns: int) -> str:
    return f"{datetime.fromtimestamp(hour_ns // SECOND_NS, UTC):%Y-%m-%dT%HZ}"


_KEY: Mapping[str, Any] = {name: bindparam(name) for name in ("tenant", "gateway_id", "hour_ns", "part")}
_THINNED = select(h.retention.c.tenant).distinct()
_PARTS = (
    select(h.hour_parts, t.gateways.c.gateway)
    .join(t.gateways, t.gateways.c.id == h.hour_parts.c.gateway_id)
    .order_by(h.hour_parts.c.tenant, h.hour_parts.c.gateway_id, h.hour_parts.c.hour_ns, h.hour_parts.c.part)
    .execution_options(yield_per=64)
)
_ROWS = (
    select(h.hours.c.count.label("counted"), h.hours.c.payload, h.points.c.signal, h.points.c.kind,
           h.points.c.exponent, h.points.c.step, h.points.c.period_ns, h.points.c.time_step_ns)
    .join(h.points, h.points.c.id == h.hours.c.point_id)
    .where(*(h.hours.c[name] == value for name, value in _KEY.items()))
    .order_by(h.hours.c.point_id, h.hours.c.piece)
    .execution_options(yield_per=256)
)  # fmt: skip
_ORPHANS = (
    select(h.hours.c.gateway_id, h.hours.c.hour_ns, h.hours.c.part)
    .where(
        ~exists().where(*(h.hour_parts.c[name] == h.hours.c[name] for name in _KEY)),
    )
    .distinct()
    .limit(100)
)
_BUCKETS = (
    select(h.points.c.signal, h.buckets.c.payload)
    .join(h.points, h.points.c.id == h.buckets.c.point_id)
    .where(
        h.buckets.c.tenant == bindparam("tenant"),
        h.buckets.c.gateway_id == bindparam("gateway_id"),
        h.buckets.c.start_ns == bindparam("hour_ns"),
        h.buckets.c.width_ns == MINUTE_NS,
    )
    .order_by(h.buckets.c.point_id)
    .limit(COMPARED_MAX)
)
_ARCHIVED = select(archives.c.day_ns).where(
    archives.c.tenant == bindparam("tenant"),
    archives.c.gateway_id == bindparam("gateway_id"),
    archives.c.day_ns == bindparam("day_ns"),
    archives.c.state == int(FileState.KEPT),
)
