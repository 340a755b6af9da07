"""The move of a day into the archive, as transactions: a sample is in the hours or in a kept file, never in both.

    begin (key reserved) ─▶ ... file is made, sent, read back ... ─▶ finish: kept + hours removed, in one transaction
                                                                      └ the hours changed meanwhile: abandoned

Whatever ends in between leaves a draft, which the next attempt takes up, and objects that a row names.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import (
    ColumnElement,
    Connection,
    Table,
    and_,
    bindparam,
    case,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
    update,
)

from twincloud.archive.objects import ObjectStore, day_key
from twincloud.archive.runs import Written
from twincloud.storage import schema as t
from twincloud.storage.database import Database
from twincloud.storage.directory import DATABASE
from twincloud.storage.part import Part
from twincloud.storage.records_archives import DAY_NS, Archive, Day, Draft, FileState, archive_of, pack_groups
from twincloud.storage.schema_archives import archives as a
from twincloud.storage.schema_hours import hour_parts, hours, points
from twincloud.storage.span import WIDE_NS
from twincloud.storage.tiers import Run, Wanted, joined
from twinmodel.clock import SECOND_NS
from twinmodel.errors import StorageError
from twinmodel.signal import Kind

LEASE_NS = 3_600 * SECOND_NS
MERGE_NS = DAY_NS
"""Late data of an archived day are merged into it at most so often: each time the whole day is written anew."""
GRACE_NS = 3_600 * SECOND_NS
"""A superseded file is kept so long for those who read it."""


class ArchiveStore(Part):
    """Keeps the table of archived files; see `Archives`."""

    def use_archive(self, objects: ObjectStore) -> None:
        """See `Archives.use_archive`."""
        self._archive_tier.objects = objects

    def archive_days(self, before_ns: int, now_ns: int, limit: int) -> tuple[Day, ...]:
        """See `Archives.archive_days`."""
        asked = {"before_ns": before_ns - before_ns % DAY_NS, "merged_ns": now_ns - MERGE_NS, "limit": limit}
        with self._database.read() as connection:
            return tuple(Day(*row) for row in connection.execute(_DAYS, asked).all())

    def begin_archive(self, day: Day, worker: str, now_ns: int) -> Draft | None:
        """See `Archives.begin_archive`."""
        with self._database.write(day.tenant) as connection:
            rows = connection.execute(_OF_DAY, _key(day)).mappings().all()
            parts = _parts(connection, day)
            if not parts:
                return None
            named = connection.execute(_NAMES, {"id": day.gateway_id}).one()
            draft = next((row for row in rows if row["state"] == FileState.DRAFT), None)
            generation = draft["generation"] if draft else max((row["generation"] for row in rows), default=0) + 1
            held = {"worker": worker, "lease_until_ns": now_ns + LEASE_NS}
            if draft is None:
                key = day_key(day.tenant, named.site, named.gateway, _date(day.day_ns), generation)
                fresh = {"generation": generation, "state": int(FileState.DRAFT), "object_key": key}
                times = {"created_ns": now_ns, "changed_ns": now_ns, "row_groups": b""}
                connection.execute(insert(a), {**_key(day), **fresh, **held, **times})
                return Draft(day, named.site, named.gateway, generation, key, worker, "", "", parts)
            if draft["worker"] != worker and draft["lease_until_ns"] > now_ns:
                return None
            connection.execute(update(a).where(*_is(day, generation)).values(**held))
        upload, sha256 = draft["upload"], draft["sha256"]
        return Draft(day, named.site, named.gateway, generation, draft["object_key"], worker, upload, sha256, parts)

    def archive_signals(self, draft: Draft) -> tuple[str, ...]:
        """See `Archives.archive_signals`."""
        with self._database.read(draft.day.tenant) as connection:
            late = connection.execute(_SIGNALS, _span(draft.day)).scalars().all()
            before = [group.signal for file in self._kept(connection, draft.day) for group in file.groups]
        return tuple(sorted({*late, *before}))

    def archive_runs(self, draft: Draft, signal: str) -> Sequence[Run]:
        """See `Archives.archive_runs`."""
        day = draft.day
        wanted = Wanted(day.tenant, (day.gateway_id,), frozenset({signal}), day.day_ns, day.day_ns + DAY_NS)
        runs: dict[tuple[Kind, str], list[Run]] = {}
        with self._database.read(day.tenant) as connection:
            for tier in self._history.tiers:
                if tier.name in {"hours", "archive"}:
                    for run in tier.read(connection, wanted):
                        runs.setdefault((run.kind, run.unit), []).append(run)
        return [joined(runs[key]) for key in sorted(runs)]

    def note_upload(self, draft: Draft, *, sha256: str, upload: str) -> None:
        """See `Archives.note_upload`."""
        with self._database.write(draft.day.tenant) as connection:
            mine = update(a).where(*_mine(draft))
            connection.execute(mine.values(sha256=sha256, upload=upload))

    def finish_archive(self, draft: Draft, written: Written, now_ns: int) -> bool:
        """See `Archives.finish_archive`."""
        day = draft.day
        said = {
            "state": int(FileState.KEPT), "sha256": written.sha256, "size": written.size, "samples": written.rows,
            "from_ns": min(g.from_ns for g in written.groups), "to_ns": max(g.to_ns for g in written.groups),
            "commit_max": max(g.commit_max for g in written.groups), "changed_ns": now_ns, "upload": "",
            "row_groups": pack_groups(written.groups),
        }  # fmt: skip
        with self._database.write(day.tenant) as connection:
            if _parts(connection, day) != draft.parts:
                return False
            if connection.execute(update(a).where(*_mine(draft)).values(**said)).rowcount != 1:
                return False
            older = (*_of(day), a.c.generation != draft.generation, a.c.state == int(FileState.KEPT))
            connection.execute(update(a).where(*older).values(state=int(FileState.SUPERSEDED), changed_ns=now_ns))
            for table in (hours, hour_parts):
                connection.execute(delete(table).where(*_within(table, day)))
        return True

    def leave_archive(self, draft: Draft, state: FileState, now_ns: int) -> None:
        """See `Archives.leave_archive`."""
        with self._database.write(draft.day.tenant) as connection:
            connection.execute(update(a).where(*_mine(draft)).values(state=int(state), changed_ns=now_ns))

    def archive_leftovers(self, now_ns: int, limit: int) -> tuple[Archive, ...]:
        """See `Archives.archive_leftovers`."""
        with self._database.read() as connection:
            rows = connection.execute(_LEFT, {"before_ns": now_ns - GRACE_NS, "limit": limit}).mappings().all()
        return tuple(archive_of(dict(row)) for row in rows)

    def forget_archive(self, file: Archive) -> None:
        """See `Archives.forget_archive`."""
        with self._database.write(file.day.tenant) as connection:
            gone = a.c.state.in_([int(FileState.SUPERSEDED), int(FileState.ABANDONED)])
            connection.execute(delete(a).where(*_is(file.day, file.generation), gone))

    def archives(self, tenant: str = "*", *, limit: int = 1_000_000) -> tuple[Archive, ...]:
        """See `Archives.archives`."""
        statement = _ALL.limit(limit)
        if tenant != "*":
            statement = statement.where(a.c.tenant == tenant)
        with self._database.read(tenant) as connection:
            return tuple(archive_of(dict(row)) for row in connection.execute(statement).mappings())

    def _kept(self, connection: Connection, day: Day) -> list[Archive]:
        rows = connection.execute(_OF_DAY, _key(day)).mappings()
        return [archive_of(dict(row)) for row in rows if row["state"] == FileState.KEPT]


def peek(state_dir: Path) -> tuple[Archive, ...]:
    """The rows of an embedded store that a service holds, read beside it.

    Raises:
        StorageError: STORE_CORRUPT when the file cannot be read.
    """
    path = state_dir / DATABASE
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)) as plain:
            plain.row_factory = sqlite3.Row
            rows = plain.execute(str(_ALL))
            return tuple(archive_of(dict(row)) for row in rows)
    except sqlite3.Error as error:
        raise StorageError("STORE_CORRUPT", f"{path}: {error}", path=str(path)) from error


def peek_shared(database: Database) -> tuple[Archive, ...]:
    """The rows of a database that coordinators share."""
    with database.read() as connection:
        return tuple(archive_of(dict(row)) for row in connection.execute(_ALL).mappings())


def _parts(connection: Connection, day: Day) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(row) for row in connection.execute(_PARTS, _span(day)).all())


def _date(day_ns: int) -> str:
    from datetime import UTC, datetime  # noqa: PLC0415 for names alone

    return f"{datetime.fromtimestamp(day_ns // SECOND_NS, UTC):%Y-%m-%d}"


def _key(day: Day) -> dict[str, Any]:
    return {"tenant": day.tenant, "gateway_id": day.gateway_id, "day_ns": day.day_ns}


def _span(day: Day) -> Mapping[str, Any]:
    return {"tenant": day.tenant, "gateway_id": day.gateway_id, "from_ns": day.day_ns, "to_ns": day.day_ns + DAY_NS}


def _of(day: Day) -> tuple[ColumnElement[bool], ...]:
    return (a.c.tenant == day.tenant, a.c.gateway_id == day.gateway_id, a.c.day_ns == day.day_ns)


def _is(day: Day, generation: int) -> tuple[ColumnElement[bool], ...]:
    return (*_of(day), a.c.generation == generation)


def _mine(draft: Draft) -> tuple[ColumnElement[bool], ...]:
    """The row of a draft, while it is its worker's."""
    mine = (a.c.state == int(FileState.DRAFT), a.c.worker == draft.worker)
    return (*_is(draft.day, draft.generation), *mine)


def _within(table: Table, day: Day) -> tuple[ColumnElement[bool], ...]:
    c = table.c
    of = (c.tenant == day.tenant, c.gateway_id == day.gateway_id)
    return (*of, c.hour_ns >= day.day_ns, c.hour_ns < day.day_ns + DAY_NS)


_ALL = select(a).order_by(a.c.tenant, a.c.gateway_id, a.c.day_ns, a.c.generation)
_OF_DAY = select(a).where(
    a.c.tenant == bindparam("tenant"), a.c.gateway_id == bindparam("gateway_id"), a.c.day_ns == bindparam("day_ns")
)
_NAMES = select(t.gateways.c.site, t.gateways.c.gateway).where(t.gateways.c.id == bindparam("id"))
_PARTS = (
    select(
        hour_parts.c.hour_ns, hour_parts.c.part, hour_parts.c.samples, hour_parts.c.block_min, hour_parts.c.block_max
    )
    .where(
        hour_parts.c.tenant == bindparam("tenant"),
        hour_parts.c.gateway_id == bindparam("gateway_id"),
        hour_parts.c.hour_ns >= bindparam("from_ns"),
        hour_parts.c.hour_ns < bindparam("to_ns"),
    )
    .order_by(hour_parts.c.hour_ns, hour_parts.c.part)
)
_SIGNALS = (
    select(points.c.signal)
    .join(hours, and_(hours.c.tenant == points.c.tenant, hours.c.point_id == points.c.id))
    .where(
        hours.c.tenant == bindparam("tenant"),
        hours.c.gateway_id == bindparam("gateway_id"),
        hours.c.hour_ns >= bindparam("from_ns"),
        hours.c.hour_ns < bindparam("to_ns"),
    )
    .distinct()
)
_day = (hour_parts.c.hour_ns - hour_parts.c.hour_ns % DAY_NS).label("day_ns")
_OPEN = (
    select(hour_parts.c.tenant, hour_parts.c.gateway_id, _day)
    # The remainder of a negative time is negative: what claims to be older than 1970 stays in the hours.
    .where(hour_parts.c.hour_ns >= 0, hour_parts.c.hour_ns < bindparam("before_ns"))
    .group_by(hour_parts.c.tenant, hour_parts.c.gateway_id, _day)
    # Not before all of it has been summed up in buckets.
    .having(func.min(case((hour_parts.c.bucketed.is_(True), 1), else_=0)) == 1)
    .subquery()
)
_WAITING = exists().where(
    # Blocks that are not compacted yet belong into the same file.
    t.blocks.c.gateway_id == _OPEN.c.gateway_id,
    t.blocks.c.t_max_ns >= _OPEN.c.day_ns,
    or_(
        and_(
            t.blocks.c.wide.is_(False),
            t.blocks.c.t_min_ns >= _OPEN.c.day_ns - WIDE_NS,
            t.blocks.c.t_min_ns < _OPEN.c.day_ns + DAY_NS,
        ),
        and_(t.blocks.c.wide.is_(True), t.blocks.c.t_min_ns < _OPEN.c.day_ns + DAY_NS),
    ),
)
_BUSY = exists().where(
    a.c.tenant == _OPEN.c.tenant,
    a.c.gateway_id == _OPEN.c.gateway_id,
    a.c.day_ns == _OPEN.c.day_ns,
    a.c.state == int(FileState.KEPT),
    a.c.changed_ns > bindparam("merged_ns"),
)
_DAYS = (
    select(_OPEN.c.tenant, _OPEN.c.gateway_id, _OPEN.c.day_ns)
    .where(~_WAITING, ~_BUSY)
    .order_by(_OPEN.c.day_ns, _OPEN.c.gateway_id)
    .limit(bindparam("limit"))
)
_LEFT = (
    select(a)
    .where(
        or_(
            and_(a.c.state == int(FileState.SUPERSEDED), a.c.changed_ns < bindparam("before_ns")),
            a.c.state == int(FileState.ABANDONED),
        )
    )
    .order_by(a.c.changed_ns)
    .limit(bindparam("limit"))
)
