"""The coordinator's own alarms: one of each gateway that is away, beside the alarms of it that nobody can follow now.

    connected or not, last seen ─▶ raised, cleared ─▶ the states of any other alarm, kept in the same table

What people ask of them is done at once: here is where their truth is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from sqlalchemy import Connection, RowMapping, and_, bindparam, select

from twincloud.storage import schema as t
from twincloud.storage.alarm_counts import Counts
from twincloud.storage.alarm_fold import KNOWN, news_of, row_of
from twincloud.storage.database import Row
from twincloud.storage.part import News, Part, record
from twincloud.storage.records import GatewayKey
from twincloud.storage.records_alarms import OWN, Alarm, AlarmAsk
from twincloud.storage.records_cloud import CLOUD
from twincloud.storage.schema_alarms import alarms
from twincloud.storage.sessions import SUSPENDED
from twinmodel.alarms import states
from twinmodel.alarms.records import SEVERITIES, AlarmRecord, Priority, decode
from twinmodel.alarms.states import Manner, Standing, State
from twinmodel.clock import SECOND_NS

BY: Final = "coordinator"
_MANNER: Final = Manner()
_PRIORITY: Final = Priority.HIGH


class AlarmWatchStore(Part):
    """Raises and ends them; see `Alarms`."""

    def watch_gateways(self, now_ns: int, away_ns: int) -> int:
        """See `Alarms.watch_gateways`; a reader looks first, so that a quiet fleet costs no transaction that writes."""
        with self._database.read() as connection:
            if not self._due(connection, now_ns, away_ns):
                return 0
        with self._database.write() as connection:
            news: list[News] = []
            for row in self._due(connection, now_ns, away_ns):
                news += self._settle_own(connection, row, now_ns, away_ns)
            record(connection, news)
        return len(news)

    def _due(self, connection: Connection, now_ns: int, away_ns: int) -> list[RowMapping]:
        """Gateways whose alarm is not what it should be."""
        rows = connection.execute(_GATEWAYS, {"name": OWN}).mappings()
        return [row for row in rows if _is_due(row, now_ns, away_ns)]

    def _settle_own(self, connection: Connection, row: RowMapping, now_ns: int, away_ns: int) -> list[News]:
        key = GatewayKey(row["tenant"], row["site"], row["gateway"])
        known = None if row["record"] is None else decode(row["record"])
        standing = _standing(known)
        if standing.shelved_until_ns and standing.shelved_until_ns <= now_ns:
            standing = states.unshelved(standing)
        if row["state"] == SUSPENDED:
            return self._close(connection, row["id"], key, now_ns)
        away = _is_away(row, now_ns, away_ns)
        # A gateway that was away begins so at its last word, not when it was noticed.
        at_ns = row["last_seen_ns"] if away and not standing.active else now_ns
        after, text = standing, f"gateway {key.gateway} is away; what it said last stands"
        if away:
            after = states.raised(standing, _MANNER)
        elif row["connected"]:
            after, text = states.cleared(standing, _MANNER), f"gateway {key.gateway} is back"
        return [self._keep_own(connection, row["id"], key, known, after, now_ns, at_ns=at_ns, text=text)]

    def _close(self, connection: Connection, gateway_id: int, key: GatewayKey, now_ns: int) -> list[News]:
        """Ends all alarms of a gateway that is out of service for good."""
        news = []
        for row in connection.execute(_STANDING, {"of_gateway": gateway_id}).mappings():
            said = _with(decode(row["record"]), Standing(occurrence=row["occurrence"]), now_ns, by=BY)
            kept = {**row, **row_of(key, gateway_id, said, since_ns=row["since_ns"], changed_ns=now_ns, now_ns=now_ns)}
            kept |= {name: row[name] for name in ("twins", "boot_id", "seq")}
            self._put_alarm(connection, row, kept)
            news.append(news_of(key, kept, now_ns))
        return news

    def _put_alarm(self, connection: Connection, before: Mapping[Any, Any] | None, row: Row) -> None:
        """Writes an alarm and counts it."""
        self._database.upsert(connection, alarms, [row])
        counts = Counts()
        counts.move(before, row)
        counts.write(connection, self._database)

    def _ask_own(self, connection: Connection, alarm: Alarm, asked: AlarmAsk, now_ns: int) -> None:
        """Does what somebody asks of one of them."""
        does: Mapping[str, Callable[[Standing], Standing]] = {
            "ack": states.acknowledged,
            "comment": lambda standing: standing,
            "shelve": lambda standing: states.shelved(standing, now_ns + asked.for_s * SECOND_NS),
            "unshelve": states.unshelved,
            "out_of_service": states.taken_out,
            "in_service": states.put_back,
        }
        after = does[asked.do](_standing(alarm.record))
        gateway_id = self._gateway_id(connection, alarm.gateway)
        kept = self._keep_own(
            connection, gateway_id, alarm.gateway, alarm.record, after, now_ns,
            at_ns=now_ns, text=alarm.record.text, by=asked.by, comment=asked.comment,
        )  # fmt: skip
        record(connection, [kept])

    def _keep_own(
        self,
        connection: Connection,
        gateway_id: int,
        key: GatewayKey,
        known: AlarmRecord | None,
        after: Standing,
        now_ns: int,
        *,
        at_ns: int,
        text: str,
        by: str = "",
        comment: str = "",
    ) -> News:
        said = _with(known or _first(key), after, at_ns, text=text, by=by, comment=comment)
        raised = known is None or after.occurrence != known.occurrence
        before = connection.execute(KNOWN, {"of_gateway": gateway_id, "of_alarm": OWN}).mappings().first()
        since_ns = at_ns if raised or before is None else before["since_ns"]
        row = row_of(key, gateway_id, said, since_ns=since_ns, changed_ns=at_ns, now_ns=now_ns)
        self._put_alarm(connection, before, row)
        return news_of(key, row, now_ns)


def _is_away(row: Mapping[Any, Any], now_ns: int, away_ns: int) -> bool:
    return not row["connected"] and now_ns - row["last_seen_ns"] > away_ns


def _is_due(row: Mapping[Any, Any], now_ns: int, away_ns: int) -> bool:
    """Whether the alarm of a gateway has to change; one that never came is not away, it is not there yet."""
    if row["gateway"] == CLOUD:
        return False
    if row["state"] == SUSPENDED:
        return bool(row["open"])
    if row["until_ns"] and row["until_ns"] <= now_ns:
        return True
    if row["active"]:
        return bool(row["connected"])
    return bool(row["last_seen_ns"]) and _is_away(row, now_ns, away_ns)


def _standing(known: AlarmRecord | None) -> Standing:
    if known is None:
        return Standing()
    return Standing(
        active=known.active,
        acked=known.acked,
        occurrence=known.occurrence,
        shelved_until_ns=known.until_ns,
        out_of_service=known.state is State.OUT_OF_SERVICE,
    )


def _first(key: GatewayKey) -> AlarmRecord:
    return AlarmRecord(
        alarm=OWN, rule="communication", source=key.gateway, state=State.NORM, active=False, acked=True,
        severity=SEVERITIES[_PRIORITY], priority=_PRIORITY, text="", value=None, limit=None, unit="", quality="",
        cause="", count=1, by="", comment="", until_ns=0, occurrence=0, at_ns=0,
    )  # fmt: skip


def _with(
    known: AlarmRecord, after: Standing, at_ns: int, *, text: str = "", by: str = "", comment: str = ""
) -> AlarmRecord:
    """The record after a step."""
    return replace(
        known, state=after.state, active=after.active, acked=after.acked, occurrence=after.occurrence,
        until_ns=after.shelved_until_ns, by=by, comment=comment, at_ns=at_ns, text=text or known.text,
    )  # fmt: skip


_OWN = alarms.alias("own")
_OPEN = select(alarms.c.gateway_id).where(alarms.c.gateway_id == t.gateways.c.id, alarms.c.standing.is_(True)).exists()
_GATEWAYS = select(
    t.gateways.c.id, t.gateways.c.tenant, t.gateways.c.site, t.gateways.c.gateway, t.gateways.c.state,
    t.gateways.c.connected, t.gateways.c.last_seen_ns, _OWN.c.active, _OWN.c.until_ns, _OWN.c.record,
    and_(t.gateways.c.state == SUSPENDED, _OPEN).label("open"),
).select_from(
    t.gateways.outerjoin(_OWN, (_OWN.c.gateway_id == t.gateways.c.id) & (_OWN.c.alarm == bindparam("name")))
)  # fmt: skip
_STANDING = select(alarms).where(alarms.c.gateway_id == bindparam("of_gateway"), alarms.c.standing.is_(True))
