"""The downsampled tier: minutes of compacted hours, kept packed; wider buckets and what is missing are made of them.

    hour is over, or changed ─▶ part says `bucketed = false` ─▶ step of upkeep ─▶ row per point and hour

What is derived is deleted in the transaction that changes its hour. An hour without rows is made from its samples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import zstandard
from sqlalchemy import Connection, bindparam, func, select, update

from twincloud.storage import schema_hours as h
from twincloud.storage.contract import TwinKey
from twincloud.storage.hours_codec import HOUR_NS
from twincloud.storage.merging import GRACE_NS
from twincloud.storage.tiers import KNOWN_ALL, Wanted, columns_of
from twincloud.storage.timeline import SCHEMAS, TimelineStore, bound
from twincloud.twins.buckets import MINUTE_NS, WIDTHS_NS, Buckets, joined, minutes_of, widened
from twinmodel.errors import InputError

STEP_POINTS: Final = 2_000
HOURS_MAX: Final = 24 * 400
"""Hours one answer looks at."""
_BYTES_MAX: Final = 1 << 20


class DownsampledStore(TimelineStore):
    """See `Hours`."""

    def bucket(self, now_ns: int) -> int:
        """A step of upkeep: the minutes of one gateway's hour that is over; gives the points it made, 0 for none."""
        with self._database.read() as connection:
            part = connection.execute(_NEXT, {"closed_ns": now_ns - GRACE_NS - HOUR_NS}).first()
            if part is None:
                return 0
            hour = {"tenant": part.tenant, "gateway_id": part.gateway_id, "hour_ns": part.hour_ns}
            parts = set(connection.execute(_PARTS, hour).scalars())
            points = connection.execute(_POINTS, hour).all()
            rows = []
            for start in range(0, len(points), STEP_POINTS):
                signals = {point.id: point.signal for point in points[start : start + STEP_POINTS]}
                span = Wanted(part.tenant, (part.gateway_id,), frozenset(signals.values()), part.hour_ns,
                              part.hour_ns + HOUR_NS)  # fmt: skip
                by_signal: dict[str, list[Any]] = {}
                # Late data reach days that are archived: what is there counts too.
                for tier in (self._hours_tier, self._archive_tier):
                    for run in tier.read(connection, span):
                        by_signal.setdefault(run.signal, []).append(run)
                asked = {"tenant": part.tenant, "gateway_id": part.gateway_id, "signals": sorted(span.signals)}
                first = {row.signal: row.id for row in connection.execute(_OF_SIGNAL, asked)}
                rows += [
                    {"tenant": part.tenant, "gateway_id": part.gateway_id, "point_id": first[name],
                     "width_ns": MINUTE_NS, "start_ns": part.hour_ns, "payload": pack(minutes_of(columns_of(some)))}
                    for name, some in by_signal.items()
                ]  # fmt: skip
        with self._database.write(part.tenant) as connection:
            # What changed meanwhile is made again by the next step.
            if set(connection.execute(_PARTS, hour).scalars()) == parts:
                self._database.upsert(connection, h.buckets, rows)
                connection.execute(_DONE, {f"of_{name}": value for name, value in hour.items()})
        return max(1, len(rows))

    def buckets(
        self,
        key: TwinKey,
        prop: str,
        roles: Sequence[str],
        from_ns: int,
        to_ns: int,
        resolution: str,
        known: int = KNOWN_ALL,
    ) -> Mapping[str, Buckets]:
        """History of a property by role in buckets of `1m`, `15m` or `1h` that touch [from_ns, to_ns), whole ones.

        Raises:
            InputError: REQUEST_INVALID for another resolution, LIMIT_EXCEEDED for a span that is too long.
        """  # fmt: skip
        width_ns = WIDTHS_NS.get(resolution)
        if width_ns is None:
            raise InputError(
                "REQUEST_INVALID", f"resolution {resolution!r} is unknown", hint=f"use {', '.join(WIDTHS_NS)}"
            )
        from_ns = from_ns // width_ns * width_ns
        to_ns = -(-to_ns // width_ns) * width_ns
        if to_ns - from_ns > HOURS_MAX * HOUR_NS:
            raise InputError("LIMIT_EXCEEDED", f"the span is longer than {HOURS_MAX // 24} days", hint="ask for less")
        with self._database.read(key.tenant) as connection:
            names, gateways = self._names(connection, key, prop, roles)
            found = {}
            for role in roles:
                signals = frozenset(names[role].values()) - {""}
                span = Wanted(key.tenant, gateways, signals, from_ns, to_ns, known)
                minutes = self._minutes_of_role(connection, span, names[role]) if signals else joined([])
                found[role] = widened(minutes, width_ns)
        return found

    def _minutes_of_role(self, connection: Connection, wanted: Wanted, names: Mapping[int, str]) -> Buckets:
        """Minutes of one role: those kept, where they say all there is; the others made of samples."""
        kept: dict[int, Buckets] = {}
        if wanted.known == KNOWN_ALL and len(wanted.gateways) == 1 and self._is_bound(connection, wanted, names):
            kept = self._kept_minutes(connection, wanted)
        parts = []
        hour_ns = wanted.from_ns
        while hour_ns < wanted.to_ns:
            end_ns = min(wanted.to_ns, hour_ns // HOUR_NS * HOUR_NS + HOUR_NS)
            whole = hour_ns % HOUR_NS == 0 and end_ns == hour_ns + HOUR_NS
            if whole and hour_ns in kept:
                parts.append(kept[hour_ns])
                hour_ns = end_ns
                continue
            # As many hours as nothing is kept for, at once.
            while end_ns < wanted.to_ns and end_ns not in kept and end_ns - hour_ns < 24 * HOUR_NS:
                end_ns = min(wanted.to_ns, end_ns + HOUR_NS)
            window = Wanted(wanted.tenant, wanted.gateways, wanted.signals, hour_ns, end_ns, wanted.known)
            pieces = self._history.pieces(connection, window)
            runs = [bound(run, name, names) for name, some in pieces.items() for run in some]
            columns = columns_of([run for run in runs if len(run)])
            if len(columns):
                parts.append(minutes_of(columns))
            hour_ns = end_ns
        return joined(parts)

    def _is_bound(self, connection: Connection, wanted: Wanted, names: Mapping[int, str]) -> bool:
        """Whether all samples of the one signal are the role's, whatever catalogue they came by."""
        if len(wanted.signals) != 1:
            return False
        (signal,) = wanted.signals
        schemas = connection.execute(SCHEMAS, {"gateways": list(wanted.gateways)}).scalars().all()
        return all(
            names.get(schema) == signal or signal not in self._catalogue_by_id(connection, schema).by_name
            for schema in schemas
        )

    def _kept_minutes(self, connection: Connection, wanted: Wanted) -> dict[int, Buckets]:
        span = {"tenant": wanted.tenant, "gateway_id": wanted.gateways[0], "signals": sorted(wanted.signals),
                "from_ns": wanted.from_ns, "to_ns": wanted.to_ns}  # fmt: skip
        rows = connection.execute(_KEPT, span).all()
        if not rows:
            return {}
        # Samples that came since, and are not compacted yet, count too.
        fresh = self._blocks_tier.read(connection, wanted)
        touched = {int(hour) for run in fresh for hour in np.unique(run.t_ns // HOUR_NS * HOUR_NS)}
        return {row.start_ns: unpack(row.payload) for row in rows if row.start_ns not in touched}


_COLUMNS: Final = len(Buckets.__slots__)


def pack(buckets: Buckets) -> bytes:
    """Buckets as bytes; every bit comes back."""
    columns = [np.ascontiguousarray(getattr(buckets, name)) for name in Buckets.__slots__]
    # Low bytes first: what is equal among neighbours stands together.
    raw = b"".join(np.diff(c.view(np.int64), prepend=0).view(np.uint8).reshape(-1, 8).T.tobytes() for c in columns)
    return len(buckets).to_bytes(4, "little") + zstandard.ZstdCompressor(level=3).compress(raw)


def unpack(packed: bytes) -> Buckets:
    """What `pack` packed."""
    count = int.from_bytes(packed[:4], "little")
    raw = np.frombuffer(zstandard.ZstdDecompressor().decompress(packed[4:], max_output_size=_BYTES_MAX), np.uint8)
    planes = raw.reshape(_COLUMNS, 8, count).transpose(0, 2, 1)
    start, number, usable, low, high, total, last, worst, bad = (
        np.ascontiguousarray(plane).view(np.int64).reshape(count).cumsum() for plane in planes
    )
    f64 = np.float64
    return Buckets(
        start, number, usable, low.view(f64), high.view(f64), total.view(f64), last.view(f64), worst, bad
    )  # fmt: skip


_HOUR = (
    h.hour_parts.c.tenant == bindparam("tenant"),
    h.hour_parts.c.gateway_id == bindparam("gateway_id"),
    h.hour_parts.c.hour_ns == bindparam("hour_ns"),
)
_NEXT = (
    select(h.hour_parts.c.tenant, h.hour_parts.c.gateway_id, h.hour_parts.c.hour_ns)
    .where(h.hour_parts.c.bucketed.is_(False), h.hour_parts.c.hour_ns <= bindparam("closed_ns"))
    .order_by(h.hour_parts.c.hour_ns)
    .limit(1)
)
_PARTS = select(h.hour_parts.c.part).where(*_HOUR)
_POINTS = (
    select(h.points.c.id, h.points.c.signal)
    .join(h.hours, h.hours.c.point_id == h.points.c.id)
    .where(
        h.hours.c.tenant == bindparam("tenant"),
        h.hours.c.gateway_id == bindparam("gateway_id"),
        h.hours.c.hour_ns == bindparam("hour_ns"),
    )
    .distinct()
)
_DONE = (
    update(h.hour_parts)
    .where(
        h.hour_parts.c.tenant == bindparam("of_tenant"),
        h.hour_parts.c.gateway_id == bindparam("of_gateway_id"),
        h.hour_parts.c.hour_ns == bindparam("of_hour_ns"),
    )
    .values(bucketed=True)
)
_OF_SIGNAL = (
    # A signal has several points where its packing has changed; its buckets are those of the first.
    select(h.points.c.signal, func.min(h.points.c.id).label("id"))
    .where(
        h.points.c.tenant == bindparam("tenant"),
        h.points.c.gateway_id == bindparam("gateway_id"),
        h.points.c.signal.in_(bindparam("signals", expanding=True)),
    )
    .group_by(h.points.c.signal)
)
_KEPT = (
    select(h.buckets.c.start_ns, h.buckets.c.payload)
    .join(h.points, h.points.c.id == h.buckets.c.point_id)
    .where(
        h.buckets.c.tenant == bindparam("tenant"),
        h.buckets.c.gateway_id == bindparam("gateway_id"),
        h.buckets.c.point_id.in_(select(_OF_SIGNAL.subquery().c.id)),
        h.points.c.buckets_from_ns <= h.buckets.c.start_ns,
        h.buckets.c.width_ns == MINUTE_NS,
        h.buckets.c.start_ns >= bindparam("from_ns"),
        h.buckets.c.start_ns < bindparam("to_ns"),
    )
)
