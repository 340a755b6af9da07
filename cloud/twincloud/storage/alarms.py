"""Alarms as people see them: listings, numbers, the journal, and what is asked of them.

    ask ─▶ directive `@alarm/NAME` ─▶ gateway ─▶ record ─▶ `alarm_fold` ─▶ the state people see

Of a gateway's alarm nothing changes here but that something is asked of it. The coordinator's own, of gateways that
are away, are in `alarm_watch`.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

import numpy as np
from sqlalchemy import ColumnElement, Connection, RowMapping, Select, bindparam, case, func, select, tuple_

from twincloud.filters import Field, Fields, Filter, Kind
from twincloud.filters.fields import Path
from twincloud.filters.sql import Columns
from twincloud.storage import schema as t
from twincloud.storage.alarm_counts import gateways_of, read_counts
from twincloud.storage.alarm_watch import AlarmWatchStore
from twincloud.storage.contract import Directive, GatewayKey, Page
from twincloud.storage.mailbox import MailboxStore, directive_of
from twincloud.storage.paging import page_of, place_of
from twincloud.storage.part import News, limited, record
from twincloud.storage.readings import newest_directives
from twincloud.storage.records_alarms import (
    OWN,
    RANKS,
    TARGET,
    Alarm,
    AlarmAsk,
    AlarmChoice,
    AlarmMarks,
    AlarmStep,
    Highest,
)
from twincloud.storage.schema_alarms import alarms
from twincloud.storage.tiers import Wanted, joined
from twinmodel.alarms.records import Priority, decode
from twinmodel.alarms.states import State
from twinmodel.clock import SECOND_NS
from twinmodel.errors import ConflictError, MissingError, TwinError
from twinmodel.signal import ALARMS_SIGNAL

ALARM: Final = "alarm"
"""Kind of directives for alarms."""
COUNTED: Final = (State.UNACK.value, State.ACKED.value, State.RTNUN.value)
"""States that nothing hides."""
_UNDOES: Final = {"unshelve": ("shelve", State.SHELVED), "in_service": ("out_of_service", State.OUT_OF_SERVICE)}

ALARM_FIELDS: Final = Fields(
    (
        Field("site", Kind.TEXT),
        Field("gateway", Kind.TEXT),
        Field("alarm", Kind.TEXT, about="its name"),
        Field("rule", Kind.TEXT, about="of site.yaml, `communication`, or the device that raises it itself"),
        Field("source", Kind.TEXT, about="signal, device, twin or gateway it is about"),
        Field("twins", Kind.NAMES, about='`twins has "pump-7"`'),
        Field("state", Kind.TEXT, one_of=tuple(str(state) for state in State)),
        Field("active", Kind.BOOLEAN),
        Field("acked", Kind.BOOLEAN),
        Field("severity", Kind.WHOLE, about="1 to 1000"),
        Field("priority", Kind.TEXT, one_of=tuple(str(priority) for priority in Priority)),
        Field("cause", Kind.TEXT, about="alarm or device this one is a consequence of"),
        Field("occurrence", Kind.WHOLE),
        Field("since", Kind.TIME, about="when this occurrence began"),
        Field("changed", Kind.TIME, about="when its state changed last"),
        Field("until", Kind.TIME, about="end of shelving"),
    )
)


def _about(path: Path) -> ColumnElement[Any]:
    return case((_names(path[-1]), 1))


def _names(twin: str) -> ColumnElement[bool]:
    # LIKE folds case on one engine and not on the other.
    return func.replace(alarms.c.twins, f"\n{twin}\n", "") != alarms.c.twins


ALARM_COLUMNS: Final[Columns] = {
    "site": t.gateways.c.site,
    "gateway": t.gateways.c.gateway,
    **{
        name: alarms.c[name] for name in ("alarm", "rule", "source", "state", "active", "acked", "severity", "priority")
    },
    "cause": func.nullif(alarms.c.cause, ""),
    "occurrence": alarms.c.occurrence,
    "since": alarms.c.since_ns,
    "changed": alarms.c.changed_ns,
    "until": func.nullif(alarms.c.until_ns, 0),
    "twins.*": _about,
}


class AlarmStore(AlarmWatchStore, MailboxStore):
    """Keeps alarms; see `Alarms`."""

    def alarms(
        self,
        tenant: str,
        wanted: AlarmChoice,
        *,
        chosen: Filter | None = None,
        limit: int = 100,
        token: str = "",
    ) -> Page[Alarm]:
        """See `Alarms.alarms`."""
        c = alarms.c
        statement = _ALARM.where(*_choice(wanted))
        if chosen is not None:
            statement = statement.where(chosen.sql(ALARM_COLUMNS))
        first, *last = place_of(token, int, int, str) if token else (min(RANKS.values()),)
        rows: list[RowMapping] = []
        with self._database.read(tenant) as connection:
            of = _gateways(connection, tenant, wanted)
            changed: ColumnElement[int] = c.changed_ns
            if of is None:
                statement = statement.where(c.tenant == tenant)
            else:
                # No index has their order: one that did would be read to its end for the few of these gateways.
                statement, changed = statement.where(c.gateway_id.in_(of)), c.changed_ns + 0
            order = (changed, c.id)
            # Priority by priority: then an index has all of them in their order, and none is sorted for a page.
            for rank in sorted(rank for rank in RANKS.values() if rank >= first):
                some = statement.where(c.rank == rank).order_by(*(column.desc() for column in order))
                if last and rank == first:
                    some = some.where(tuple_(*order) < tuple_(*last))
                rows += connection.execute(limited(some, limit - len(rows))).mappings().all()
                if len(rows) > limit:
                    break
            page = page_of(rows, limit, lambda row: (row["rank"], row["changed_ns"], row["id"]))
            actions = _actions(connection, page.items)
        return Page(tuple(_alarm(row, actions) for row in page.items), page.next_token)

    def alarm(self, tenant: str, alarm: str) -> Alarm:
        """See `Alarms.alarm`."""
        with self._database.read(tenant) as connection:
            return self._one(connection, tenant, alarm)

    def alarm_marks(self, tenant: str) -> AlarmMarks:
        """See `Alarms.alarm_marks`."""
        with self._database.read(tenant) as connection:
            return _marks([row[2:] for row in read_counts(connection, tenant, ("",))])

    def twin_marks(self, tenant: str, twins: Collection[str]) -> Mapping[tuple[str, str], AlarmMarks]:
        """See `Alarms.twin_marks`."""
        with self._database.read(tenant) as connection:
            rows = read_counts(connection, tenant, twins)
        found: dict[tuple[str, str], list[tuple[Any, ...]]] = {}
        for site, twin, *marks in rows:
            found.setdefault((site, twin), []).append(tuple(marks))
        return {name: _marks(some) for name, some in found.items()}

    def alarm_journal(self, alarm: Alarm, from_ns: int, to_ns: int, limit: int) -> tuple[AlarmStep, ...]:
        """See `Alarms.alarm_journal`."""
        with self._database.read(alarm.gateway.tenant) as connection:
            ids = (self._gateway_id(connection, alarm.gateway),)
            wanted = Wanted(alarm.gateway.tenant, ids, frozenset({ALARMS_SIGNAL}), from_ns, to_ns)
            runs = self._history.runs(connection, wanted).get(ALARMS_SIGNAL, [])
        steps: list[AlarmStep] = []
        if not runs:
            return ()
        run, name = joined(runs), alarm.record.alarm
        for at in reversed(np.arange(len(run)).tolist()):
            try:
                said = decode(str(run.value[at]))
            except TwinError:
                continue  # counted when it came
            if said.alarm == name:
                origin = run.origins[int(run.origin[at])]
                steps.append(AlarmStep(said, int(run.t_ns[at]), origin.received_ns, origin.committed_ns))
                if len(steps) == limit:
                    break
        return tuple(steps)

    def ask_alarms(self, tenant: str, asked: Sequence[AlarmAsk], now_ns: int) -> list[Alarm | TwinError]:
        """See `Alarms.ask_alarms`."""
        answers: list[Alarm | TwinError] = []
        with self._database.write(tenant) as connection:
            for one in asked:
                try:
                    answers.append(self._ask(connection, tenant, one, now_ns))
                except (ConflictError, MissingError) as refused:
                    answers.append(refused)
        return answers

    def _ask(self, connection: Connection, tenant: str, asked: AlarmAsk, now_ns: int) -> Alarm:
        """One of them; what can be refused is refused before anything is written."""
        alarm = self._one(connection, tenant, asked.id)
        _check(alarm, asked)
        if asked.do == "ack" and alarm.record.acked:
            return alarm
        if alarm.record.alarm == OWN:
            self._ask_own(connection, alarm, asked, now_ns)
            return self._one(connection, tenant, asked.id)
        content = {"do": asked.do, "occurrence": alarm.record.occurrence, "for_s": asked.for_s, "by": asked.by}
        wanted = {
            "target": f"{TARGET}{alarm.record.alarm}", "kind": ALARM, "name": asked.do,
            "content": json.dumps({**content, "comment": asked.comment}, separators=(",", ":")).encode(),
            "created_ns": now_ns, "created_by": asked.by,
            # One who shelves for an hour does not want it shelved tomorrow, when the gateway is back.
            "deadline_ns": now_ns + asked.for_s * SECOND_NS if asked.do == "shelve" else 0,
        }  # fmt: skip
        self._open(connection, alarm.gateway, self._gateway_id(connection, alarm.gateway), wanted)
        body: dict[str, object] = {"do": asked.do, "by": asked.by, "gateway": alarm.gateway.gateway, "twins": []}
        record(connection, [News(tenant, alarm.gateway.site, ALARM, alarm.id, now_ns, body)])
        return self._one(connection, tenant, asked.id)

    def _one(self, connection: Connection, tenant: str, alarm: str) -> Alarm:
        row = connection.execute(_ONE, {"of_tenant": tenant, "of_id": alarm}).mappings().first()
        if row is None:
            raise MissingError("UNKNOWN_ALARM", f"no alarm {alarm!r}")
        return _alarm(row, _actions(connection, [row]))


def _check(alarm: Alarm, asked: AlarmAsk) -> None:
    """Refuses what would be done to another occurrence than was seen, or undo what somebody else has just asked."""
    now = alarm.record
    if asked.occurrence is not None and asked.occurrence != now.occurrence:
        raise ConflictError(
            "ALARM_CHANGED",
            f"alarm {now.alarm!r} was raised anew: occurrence {now.occurrence}, not {asked.occurrence}",
            occurrence=now.occurrence,
        )
    waits = alarm.action
    if waits is not None and not waits.outcome and waits.name != asked.do and asked.do in ("ack", "comment"):
        raise ConflictError(
            "IN_PROGRESS",
            f"alarm {now.alarm!r}: {waits.name} by {waits.created_by} waits for gateway {alarm.gateway.gateway}",
            hint="wait until the gateway has answered",
        )
    undone, needed = _UNDOES.get(asked.do, ("", now.state))
    on_its_way = waits is not None and not waits.outcome and waits.name == undone
    if now.state is not needed and not on_its_way:
        raise ConflictError(
            "PRECONDITION_FAILED",
            f"alarm {now.alarm!r} is {now.state}, not {needed}",
            hint="look at it again",
        )


def _gateways(connection: Connection, tenant: str, wanted: AlarmChoice) -> list[int] | None:
    """The few gateways that can have what is wanted; None where that is not known."""
    if wanted.twin:
        return gateways_of(connection, tenant, wanted.twin)
    if wanted.gateway:
        c = t.gateways.c
        named = select(c.id).where(c.tenant == tenant, c.gateway == wanted.gateway)
        return list(connection.execute(named.where(c.site == wanted.site) if wanted.site else named).scalars())
    return None


def _choice(wanted: AlarmChoice) -> list[ColumnElement[bool]]:
    c = alarms.c
    parts: list[ColumnElement[bool]] = []
    texts = (
        (t.gateways.c.site, wanted.site), (t.gateways.c.gateway, wanted.gateway), (c.state, wanted.state),
        (c.priority, wanted.priority), (c.cause, wanted.cause),
    )  # fmt: skip
    parts += [column == text for column, text in texts if text]
    for column, flag in ((c.active, wanted.active), (c.acked, wanted.acked), (c.standing, wanted.standing)):
        if flag is not None:
            parts.append(column.is_(flag))
    if wanted.twin:
        parts.append(_names(wanted.twin))
    return parts


def _actions(connection: Connection, rows: Sequence[RowMapping]) -> Mapping[tuple[int, str], RowMapping]:
    """The newest directive for each of these alarms."""
    found = newest_directives(connection, [(row["gateway_id"], f"{TARGET}{row['alarm']}") for row in rows])
    return {(gateway_id, target.removeprefix(TARGET)): row for (gateway_id, target), row in found.items()}


def _alarm(row: RowMapping, actions: Mapping[tuple[int, str], RowMapping]) -> Alarm:
    key = GatewayKey(row["tenant"], row["site"], row["gateway"])
    action = actions.get((row["gateway_id"], row["alarm"]))
    asked: Directive | None = None if action is None else directive_of(action, key)
    return Alarm(
        id=row["id"],
        gateway=key,
        record=decode(row["record"]),
        twins=tuple(row["twins"].split("\n")[1:-1]),
        since_ns=row["since_ns"],
        changed_ns=row["changed_ns"],
        received_ns=row["received_ns"],
        committed_ns=row["committed_ns"],
        seen_ns=row["last_seen_ns"],
        connected=bool(row["connected"]),
        action=asked,
    )


def _marks(rows: Sequence[tuple[Any, ...]]) -> AlarmMarks:
    """Numbers of (rank, state, how many, how many of them active)."""
    seen = [row for row in rows if row[1] in COUNTED]
    unacked: dict[str, int] = {}
    active, highest = 0, min((row[0] for row in seen), default=None)
    for rank, state, count, holds in seen:
        active += int(holds)
        if state != State.ACKED:
            unacked[_NAMES[rank]] = unacked.get(_NAMES[rank], 0) + int(count)
    return AlarmMarks(unacked, active, "" if highest is None else _NAMES[highest])


_NAMES: Final[Mapping[int, Highest]] = {rank: priority.value for priority, rank in RANKS.items()}
_ALARM: Select[Any] = select(
    alarms, t.gateways.c.site, t.gateways.c.gateway, t.gateways.c.connected, t.gateways.c.last_seen_ns
).join(t.gateways, t.gateways.c.id == alarms.c.gateway_id)
_ONE = _ALARM.where(alarms.c.tenant == bindparam("of_tenant"), alarms.c.id == bindparam("of_id"))
