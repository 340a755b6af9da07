"""Folds records of alarms into the table of alarms, in the transaction that takes the block they came in.

    block of the alarm lane ─ samples of `@alarms` ─▶ records ─▶ newest of each alarm ─▶ rows, events
                                                   └▶ unreadable: counted; the sample itself is in history all the same

Newest is what the gateway said last: the row of its boot in `boots`, which grows along the chain of boots, then the
number of the sample. So what comes twice or late changes nothing, and neither does a clock that jumps.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import structlog
from sqlalchemy import Connection, bindparam, delete, func, select

from twincloud.storage.alarm_counts import Counts
from twincloud.storage.database import Database, Row
from twincloud.storage.part import Bound, News
from twincloud.storage.records import GatewayKey
from twincloud.storage.records_alarms import OWN, RANKS, alarm_id
from twincloud.storage.schema_alarms import alarms
from twinmodel.alarms.records import AlarmRecord, decode, encode
from twinmodel.alarms.states import State
from twinmodel.errors import TwinError
from twinmodel.signal import ALARMS_SIGNAL, Batch, Kind

ALARMS_MAX: Final = 10_000
"""Alarms kept of one gateway; as many as it may have rules."""
FORGOTTEN: Final = 100
"""Alarms that are forgotten at once where there is no room, of those that are over, the oldest first."""
TWINS_MAX: Final = 16
"""Twins that one alarm is shown at."""
_I64_MAX: Final = 2**63 - 1

_log = structlog.get_logger("twincloud.alarms")


@dataclass(frozen=True, slots=True)
class _Said:
    """One record as it came."""

    key: GatewayKey
    gateway_id: int
    record: AlarmRecord
    twins: tuple[str, ...]
    t_ns: int
    boot_id: int
    seq: int
    received_ns: int


class AlarmFold:
    """The alarms of one transaction: `take` what came, then `write`.

    Attributes:
        unreadable: samples that were no record, by gateway id.
    """

    def __init__(self, connection: Connection, database: Database) -> None:
        self._connection = connection
        self._database = database
        self._said: list[_Said] = []
        self._counts = Counts()
        self.unreadable: dict[int, int] = {}

    def take(
        self,
        key: GatewayKey,
        gateway_id: int,
        place: tuple[int, int],
        batches: Sequence[Batch],
        bound: Bound,
        received_ns: int,
    ) -> tuple[str, ...]:
        """Takes the records of a block; `place` is the row of its boot and its first number.

        Returns:
            Twins that its alarms are about.
        """
        if ALARMS_SIGNAL not in bound.names:
            return ()
        signal, twins = bound.names.index(ALARMS_SIGNAL), dict[str, None]()
        boot_id, seq = place
        sources = Sources(bound)
        for batch in batches:
            if batch.kind is Kind.STRING:
                for at in np.flatnonzero(batch.signal == signal).tolist():
                    said = self._read(key, gateway_id, str(batch.value[at]))
                    if said is not None:
                        of = sources.twins_about(said.source)
                        twins |= dict.fromkeys(of)
                        t_ns = int(batch.t_ns[at])
                        one = _Said(key, gateway_id, said, of, t_ns, boot_id, seq + at, received_ns)
                        self._said.append(one)
            seq += len(batch)
        return tuple(twins)

    def _read(self, key: GatewayKey, gateway_id: int, text: str) -> AlarmRecord | None:
        try:
            record = decode(text)
        except TwinError as error:
            self._refuse(key, gateway_id, error.message)
            return None
        if record.alarm.startswith(OWN[0]):
            self._refuse(key, gateway_id, f"{record.alarm!r} is a name of the coordinator's own")
            return None
        return record

    def _refuse(self, key: GatewayKey, gateway_id: int, why: str) -> None:
        if gateway_id not in self.unreadable:
            _log.warning("record of an alarm passed over", tenant=key.tenant, gateway=key.gateway, detail=why)
        self.unreadable[gateway_id] = self.unreadable.get(gateway_id, 0) + 1

    def write(self, now_ns: int) -> list[News]:
        """Writes the alarms that changed and returns what happened; to be called once."""
        if not self._said:
            return []
        wanted = {(one.gateway_id, one.record.alarm): one.key for one in self._said}
        asked = [{"of_gateway": gateway_id, "of_alarm": alarm} for gateway_id, alarm in wanted]
        names = KNOWN.selected_columns.keys()
        found = self._database.read_many(self._connection, KNOWN, asked)
        rows: dict[tuple[int, str], dict[str, Any]] = {
            (row[0], row[1]): dict(zip(names, row, strict=True)) for row in found
        }
        before = dict(rows)
        room = self._room({gateway_id for gateway_id, _ in wanted.keys() - rows.keys()})
        changed: dict[tuple[int, str], dict[str, Any]] = {}
        full: set[int] = set()
        for one in self._said:
            name = (one.gateway_id, one.record.alarm)
            known = rows.get(name)
            if known is None:
                if not room[one.gateway_id] and one.gateway_id not in full:
                    room[one.gateway_id] = self._forget(one.gateway_id, wanted.keys())
                if not room[one.gateway_id]:
                    full.add(one.gateway_id)
                    self._refuse(one.key, one.gateway_id, f"{ALARMS_MAX} alarms of one gateway")
                    continue
                room[one.gateway_id] -= 1
            row = folded(known, one, now_ns)
            if row is not known:
                rows[name] = changed[name] = row
        self._said.clear()
        self._database.upsert(self._connection, alarms, list(changed.values()))
        for name, row in changed.items():
            self._counts.move(before.get(name), row)
        self._counts.write(self._connection, self._database)
        return [news_of(wanted[name], row, now_ns) for name, row in changed.items()]

    def _forget(self, gateway_id: int, needed: Collection[tuple[int, str]]) -> int:
        """Makes room for alarms of new names, as of devices that name each lot's by its own; gives how much."""
        over = self._connection.execute(_OVER, {"of_gateway": gateway_id, "many": FORGOTTEN}).mappings().all()
        doomed = [row for row in over if (gateway_id, row["alarm"]) not in needed]
        if doomed:
            names = [row["alarm"] for row in doomed]
            self._connection.execute(delete(alarms).where(alarms.c.gateway_id == gateway_id, alarms.c.alarm.in_(names)))
        for row in doomed:
            self._counts.move(row, None)
        return len(doomed)

    def _room(self, gateways: Iterable[int]) -> dict[int, int]:
        """How many more alarms each gateway may have; only asked where there is a new one."""
        count = self._connection.execute
        return {one: ALARMS_MAX - int(count(_COUNT, {"of_gateway": one}).scalar_one()) for one in gateways}


def folded(known: dict[str, Any] | None, said: _Said, now_ns: int) -> dict[str, Any]:
    """The row after one more record: `known` itself where that changes nothing."""
    record = said.record
    occurrence = min(record.occurrence, _I64_MAX)
    since_ns = said.t_ns
    if known is not None:
        same = known["occurrence"] == occurrence
        since_ns = min(since_ns, known["since_ns"]) if same else since_ns
        if (said.boot_id, said.seq) <= (known["boot_id"], known["seq"]):
            # Late: only when it all began can still be learnt of it.
            return {**known, "since_ns": since_ns} if same and since_ns < known["since_ns"] else known
    twins = said.twins
    row = row_of(said.key, said.gateway_id, record, since_ns=since_ns, changed_ns=said.t_ns, now_ns=now_ns)
    return row | {
        "twins": f"\n{chr(10).join(twins)}\n" if twins else "",
        "received_ns": said.received_ns, "boot_id": said.boot_id, "seq": said.seq,
    }  # fmt: skip


def row_of(
    key: GatewayKey, gateway_id: int, record: AlarmRecord, *, since_ns: int, changed_ns: int, now_ns: int
) -> dict[str, Any]:
    """The row of a record that is about no twin."""
    return {
        "gateway_id": gateway_id, "alarm": record.alarm, "tenant": key.tenant, "id": alarm_id(key, record.alarm),
        "rule": record.rule, "source": record.source, "twins": "", "state": record.state.value,
        "active": record.active, "acked": record.acked, "standing": record.state is not State.NORM,
        "severity": record.severity, "priority": record.priority.value, "rank": RANKS[record.priority],
        "cause": record.cause, "occurrence": min(record.occurrence, _I64_MAX), "since_ns": since_ns,
        "changed_ns": changed_ns, "until_ns": record.until_ns, "received_ns": now_ns, "committed_ns": now_ns,
        "boot_id": 0, "seq": 0, "record": encode(record),
    }  # fmt: skip


def news_of(key: GatewayKey, row: Row, now_ns: int) -> News:
    """The event of a change."""
    twins = str(row["twins"]).split("\n")[1:-1]
    body: dict[str, object] = {name: row[name] for name in ("alarm", "state", "priority", "occurrence")}
    body |= {"gateway": key.gateway, "twins": twins}
    return News(key.tenant, key.site, "alarm", str(row["id"]), now_ns, body)


class Sources:
    """What the alarms of a block are about: signals and twins by name, looked up for each of them.

    A gateway may tell of thousands at once, each of another of its signals, while all others wait for the commit.
    """

    def __init__(self, bound: Bound) -> None:
        self._bound = bound
        self._twins: frozenset[str] | None = None
        self._sorted: tuple[list[str], list[int]] = ([], [])
        self._found: dict[str, tuple[str, ...]] = {}

    def twins_about(self, source: str) -> tuple[str, ...]:
        """Twins it is about: the one it names, else those that its signal, or its device's signals, make up."""
        known = self._found.get(source)
        if known is None:
            known = self._found[source] = self._look(source)
        return known

    def _look(self, source: str) -> tuple[str, ...]:
        if self._twins is None:
            names = self._bound.names
            places = sorted(range(len(names)), key=names.__getitem__) if self._bound.twins else []
            self._twins = frozenset(key.twin for key in self._bound.twins)
            self._sorted = ([names[place] for place in places], places)
        twin = source.partition("/")[0]
        if twin in self._twins:
            return (twin,)
        ordered, order = self._sorted
        # Of those that begin with "device." the first one not smaller, and the first behind them all: "/" follows ".".
        spans = ((bisect_left(ordered, source), bisect_right(ordered, source)),
                 (bisect_left(ordered, f"{source}."), bisect_left(ordered, f"{source}/")))  # fmt: skip
        found = [place for first, last in spans for place in order[first:last]]
        if not found:
            return ()
        return tuple(key.twin for key in self._bound.twins_of(np.asarray(found, np.uint32))[:TWINS_MAX])


KNOWN = select(alarms).where(alarms.c.gateway_id == bindparam("of_gateway"), alarms.c.alarm == bindparam("of_alarm"))
_COUNT = select(func.count()).select_from(alarms).where(alarms.c.gateway_id == bindparam("of_gateway"))
_OVER = (
    select(alarms)
    .where(alarms.c.gateway_id == bindparam("of_gateway"), alarms.c.standing.is_(False), alarms.c.alarm != OWN)
    .order_by(alarms.c.committed_ns, alarms.c.alarm)
    .limit(bindparam("many"))
)
