"""The working set of one commit transaction: read once, changed in memory, written once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ClauseElement, Connection, bindparam, func, insert, select, update

from twincloud.storage import schema as t
from twincloud.storage.alarm_fold import AlarmFold
from twincloud.storage.contract import Arrival, Commit, GatewayKey, TwinKey
from twincloud.storage.database import Database, Row
from twincloud.storage.dedupe import Verdict, fault, judge, tail
from twincloud.storage.newest import SAVE_BLOCKS, saved_row
from twincloud.storage.part import NUMBERS, Bound, News, Recent, check_session, event_row, take_numbers_fast
from twincloud.storage.span import span_ns_of, span_of
from twincloud.twins.history import Decoded
from twincloud.twins.latest import Fresh, Latest, not_overtaken
from twincloud.twins.state import Origin
from twinmodel.errors import InputError
from twinmodel.signal import Batch, Stream
from twinsync.item import Block, Gap, Item, Mark, NotAcquired, Outage

LETTERS_MAX = 1_000
LETTERS_BYTES_MAX = 16 << 20
"""Dead letters kept per gateway; beyond it a block is declared lost (DEAD_LETTER_QUOTA) in the loss ledger."""


class Newest(Protocol):
    """`NewestStore._newest`."""

    def __call__(self, connection: Connection, gateway_id: int, last_block: int, *, writing: bool) -> Latest:
        """Readings of a gateway."""
        ...


Slot = tuple[int, int]
"""Boot id in the database and stream."""


@dataclass(slots=True)
class Taken:
    """What became of one request so far."""

    key: GatewayKey
    gateway_id: int
    slots: dict[Slot, bytes] = field(default_factory=dict)
    stopped: set[Slot] = field(default_factory=set)
    rejected: list[tuple[bytes, Stream, int, str]] = field(default_factory=list)
    nack: Mark | None = None
    blocks: int = 0
    samples: int = 0
    duplicates: int = 0
    twins: dict[TwinKey, None] = field(default_factory=dict)
    fresh: list[tuple[Bound, Fresh]] = field(default_factory=list)


class Work:
    """Everything one transaction reads and writes."""

    def __init__(
        self,
        connection: Connection,
        database: Database,
        boots: Recent[tuple[int, bytes], tuple[int, int]],
        newest: Newest,
        now_ns: int,
        received_ns: int,
    ) -> None:
        self.decoded: dict[int, Decoded] = {}
        self.latest: dict[int, Latest] = {}
        self._connection = connection
        self._database = database
        self._known_boots = boots
        self._newest = newest
        self._now_ns = now_ns
        self._received_ns = received_ns
        self._sessions: dict[int, tuple[int, int]] = {}
        self._boots: dict[tuple[int, bytes], tuple[int, int]] = {}
        self._marks: dict[Slot, int] = {}
        self._changed: set[Slot] = set()
        self._blocks: list[tuple[dict[str, object], Decoded]] = []
        self._losses: list[dict[str, object]] = []
        self._thinned: dict[Slot, tuple[int, dict[str, Any]]] = {}
        self._letters: list[dict[str, object]] = []
        self._letters_held: dict[int, tuple[int, int]] = {}
        self._taken: list[Taken] = []
        self._news: list[News] = []
        self._alarms = AlarmFold(connection, database)

    def load(self, requests: Sequence[tuple[int, Sequence[Arrival]]]) -> None:
        """Reads gateways, boots and marks of all requests, (gateway id, arrivals) each."""
        ids = sorted({gateway_id for gateway_id, _ in requests})
        self._sessions = {key: (session, block) for key, session, block in self._read(_SESSION, "key", ids)}
        wanted = {(gateway_id, arrival.item.boot) for gateway_id, arrivals in requests for arrival in arrivals}
        for slot in wanted:
            known = self._known_boots.get(slot)
            if known is not None:
                self._boots[slot] = known
        unknown = wanted - self._boots.keys()
        if unknown:
            names = {"gateways": sorted({g for g, _ in unknown}), "boots": sorted({b for _, b in unknown})}
            for gateway_id, boot, boot_id, counter in self._connection.execute(_BOOTS, names):
                self._boots[gateway_id, boot] = self._known_boots.put((gateway_id, boot), (boot_id, counter))
        boots = sorted({boot_id for boot_id, _ in self._boots.values()})
        self._marks = {(boot_id, stream): next_seq for boot_id, stream, next_seq in self._read(_MARKS, "boot", boots)}

    def take(
        self, key: GatewayKey, gateway_id: int, session: int, arrivals: Sequence[Arrival], bounds: Mapping[bytes, Bound]
    ) -> Taken:
        """Judges the items of one gateway and takes what is new.

        Raises:
            ConflictError: FENCED.
            InputError: PROTOCOL_VIOLATION for a boot that no hello has named; nothing was taken.
        """
        check_session(key, self._sessions[gateway_id][0], session)
        for arrival in arrivals:
            if (gateway_id, arrival.item.boot) not in self._boots:
                raise InputError(
                    "PROTOCOL_VIOLATION", f"item.boot: no hello has named {arrival.item.boot.hex()}", field="item.boot"
                )
        taken = Taken(key, gateway_id)
        for arrival in arrivals:
            self._take_one(taken, arrival, bounds)
        self._taken.append(taken)
        return taken

    def finish(self, taken: Taken) -> Commit:
        """The answer to a request, once all is written."""
        marks = tuple(Mark(boot, Stream(slot[1]), self._marks.get(slot, 0)) for slot, boot in taken.slots.items())
        unreadable = self._alarms.unreadable.get(taken.gateway_id, 0)
        return Commit(marks, tuple(taken.rejected), taken.nack, taken.samples, tuple(taken.twins), unreadable)

    def _take_one(self, taken: Taken, arrival: Arrival, bounds: Mapping[bytes, Bound]) -> None:
        item = arrival.item
        boot_id, counter = self._boots[taken.gateway_id, item.boot]
        slot = (boot_id, int(item.stream))
        if slot in taken.stopped:
            return
        taken.slots[slot] = item.boot
        next_seq = self._marks.get(slot, 0)
        verdict = judge(item, next_seq)
        if verdict is Verdict.COVERED:
            taken.duplicates += item.count
            return
        if verdict is Verdict.AHEAD:
            taken.stopped.add(slot)
            taken.nack = taken.nack or Mark(item.boot, item.stream, next_seq)
            return
        if verdict is Verdict.OVERLAP:
            self._bury(taken, item, boot_id, next_seq, "PROTOCOL_VIOLATION")
        elif not isinstance(item.content, Block):
            self._declare(taken, tail(item, next_seq), boot_id)
        else:
            reason = arrival.poison or fault(item, arrival.batches, bounds.get(item.content.schema))
            if reason:
                self._bury(taken, item, boot_id, next_seq, reason)
            else:
                self._keep(taken, item, boot_id, counter, arrival.batches or (), bounds[item.content.schema])
        self._marks[slot] = item.last_seq + 1
        self._changed.add(slot)

    def _keep(
        self, taken: Taken, item: Item, boot_id: int, counter: int, batches: Sequence[Batch], bound: Bound
    ) -> None:
        assert isinstance(item.content, Block)
        span_ns = span_ns_of(batches)
        row: dict[str, object] = {
            "tenant": taken.key.tenant, "gateway_id": taken.gateway_id, "boot_id": boot_id, "stream": int(item.stream),
            "first_seq": item.first_seq, "last_seq": item.last_seq, "schema_id": bound.schema_id,
            "received_ns": self._received_ns, "committed_ns": self._now_ns, "payload": item.content.payload,
            **span_of(span_ns),
        }  # fmt: skip
        order = (counter, item.boot, int(item.stream), item.first_seq)
        self._blocks.append((row, Decoded(order, bound.schema_id, tuple(batches))))
        origin = Origin(counter, item.boot, int(item.stream), item.first_seq, self._received_ns, self._now_ns)
        taken.fresh.append((bound, Fresh(bound.schema_id, batches, origin, *span_ns)))
        if item.stream is Stream.ALARM:
            place = (boot_id, item.first_seq)
            about = self._alarms.take(taken.key, taken.gateway_id, place, batches, bound, self._received_ns)
            taken.twins |= {TwinKey(taken.key.tenant, taken.key.site, twin): None for twin in about}
        samples = sum([len(batch.signal) for batch in batches])
        taken.blocks += 1
        taken.samples += samples
        if samples < item.count:
            self._declare_thinned(taken, item, boot_id, item.count - samples)

    def _declare_thinned(self, taken: Taken, item: Item, boot_id: int, count: int) -> None:
        """Counts what a full gateway thinned away; blocks that follow each other make one line of the ledger."""
        assert isinstance(item.content, Block)
        slot = (boot_id, int(item.stream))
        next_seq, row = self._thinned.get(slot, (-1, {}))
        if next_seq == item.first_seq:
            row["count"] += count
            row["from_ns"] = min(row["from_ns"], item.content.t_min_ns)
            row["to_ns"] = max(row["to_ns"], item.content.t_max_ns)
        else:
            row = self._loss(taken, item, boot_id, "THINNED", count)
            row |= {"reason": "STORE_FULL", "from_ns": item.content.t_min_ns, "to_ns": item.content.t_max_ns}
            self._losses.append(row)
        self._thinned[slot] = (item.last_seq + 1, row)

    def _declare(self, taken: Taken, item: Item, boot_id: int) -> None:
        content = item.content
        row = self._loss(taken, item, boot_id, type(content).__name__.upper(), 0)
        if isinstance(content, Gap):
            row |= {"reason": content.reason, "count": content.count}
            row |= {"from_ns": content.from_ns, "to_ns": content.to_ns}
        elif isinstance(content, Outage):
            row |= {"reason": "AGENT_DOWN", "from_ns": content.from_ns, "to_ns": content.to_ns}
        elif isinstance(content, NotAcquired):
            row |= {"kind": "NOT_ACQUIRED", "reason": content.reason, "device": content.device}
            row |= {"from_ns": content.from_ns, "to_ns": content.to_ns}
            if self._known_interval(taken.gateway_id, content):
                return
        self._losses.append(row)

    def _known_interval(self, gateway_id: int, record: NotAcquired) -> bool:
        """Whether a NOT_ACQUIRED interval is in the ledger already; closes it there when it was open."""
        same = {"gateway_id": gateway_id, "device": record.device, "reason": record.reason, "from_ns": record.from_ns}
        for row in self._losses:
            if row["kind"] == "NOT_ACQUIRED" and all(row[name] == value for name, value in same.items()):
                row["to_ns"] = row["to_ns"] or record.to_ns
                return True
        found = self._connection.execute(_INTERVAL, same).first()
        if found is None:
            return False
        if record.to_ns and not found.to_ns:
            self._connection.execute(_CLOSE, {"key": found.id, "to_ns": record.to_ns})
        return True

    def _bury(self, taken: Taken, item: Item, boot_id: int, next_seq: int, reason: str) -> None:
        """Keeps the bytes of a block that cannot be taken, within the quota."""
        assert isinstance(item.content, Block)
        first_seq, size = max(item.first_seq, next_seq), len(item.content.payload)
        if taken.gateway_id not in self._letters_held:
            count, total = self._connection.execute(_LETTERS, {"gateway_id": taken.gateway_id}).one()
            self._letters_held[taken.gateway_id] = (int(count), int(total or 0))
        count, total = self._letters_held[taken.gateway_id]
        taken.rejected.append((item.boot, item.stream, item.first_seq, reason))
        kept = count < LETTERS_MAX and total + size <= LETTERS_BYTES_MAX
        if kept:
            self._letters_held[taken.gateway_id] = (count + 1, total + size)
            self._letters.append(
                {"tenant": taken.key.tenant, "gateway_id": taken.gateway_id, "boot_id": boot_id,
                 "stream": int(item.stream), "first_seq": first_seq, "last_seq": item.last_seq, "reason": reason,
                 "received_ns": self._received_ns, "size": size, "schema_digest": item.content.schema,
                 "crc32c": item.content.crc32c, "payload": item.content.payload}
            )  # fmt: skip
        else:
            row = self._loss(taken, item, boot_id, "GAP", item.last_seq - first_seq + 1)
            times = {"from_ns": item.content.t_min_ns, "to_ns": item.content.t_max_ns}
            self._losses.append(row | {"reason": "DEAD_LETTER_QUOTA", "first_seq": first_seq} | times)
        body: dict[str, object] = {"reason": reason, "kept": kept, "first_seq": first_seq, "last_seq": item.last_seq}
        key = taken.key
        self._news.append(News(key.tenant, key.site, "deadletter", key.gateway, self._now_ns, body))

    def _loss(self, taken: Taken, item: Item, boot_id: int, kind: str, count: int) -> dict[str, object]:
        return {
            "tenant": taken.key.tenant, "gateway_id": taken.gateway_id, "boot_id": boot_id, "kind": kind, "reason": "",
            "stream": int(item.stream), "first_seq": item.first_seq, "count": count, "from_ns": 0, "to_ns": 0,
            "device": "", "received_ns": self._received_ns,
        }  # fmt: skip

    def write(self) -> None:
        """Folds what was taken into the newest readings and writes everything; the caller commits."""
        for taken in self._taken:
            self._fold(taken)
        news = self._news + [n for taken in self._taken if (n := self._news_of(taken)) is not None]
        news += self._alarms.write(self._now_ns)
        rows = [row for row, _ in self._blocks] + self._losses + self._letters
        number = 0
        if rows or news:
            number = take_numbers_fast(self._database, self._connection, NUMBERS, 1 + len(rows) + len(news))
            for place, row in enumerate(rows, number + 1):
                row |= {"id": place, "commit_no": number}
            for table, some in (
                (t.blocks, [row for row, _ in self._blocks]),
                (t.losses, self._losses),
                (t.dead_letters, self._letters),
                (t.events, [event_row(n, place) for place, n in enumerate(news, number + 1 + len(rows))]),
            ):
                self._write(_INSERTS[table.name], some)
            self.decoded = {number + 1 + place: decoded for place, (_, decoded) in enumerate(self._blocks)}
        owners = {slot: taken.key.tenant for taken in self._taken for slot in taken.slots}
        marks = [
            {"tenant": owners[slot], "boot_id": slot[0], "stream": slot[1], "next_seq": self._marks[slot]}
            for slot in sorted(self._changed)
        ]
        self._database.upsert(self._connection, t.marks, marks)
        self._keep_newest(number)
        gateways = [
            {"key": taken.gateway_id, "new_blocks": taken.blocks, "new_samples": taken.samples,
             "new_duplicates": taken.duplicates, "seen_ns": self._received_ns,
             "last": self._last_block(taken.gateway_id)}
            for taken in self._taken
            if taken.slots
        ]  # fmt: skip
        self._write(_COUNT, gateways)

    def _fold(self, taken: Taken) -> None:
        bounds = {fresh.schema_id: bound for bound, fresh in taken.fresh}
        changed: dict[int, list[NDArray[np.uint32]]] = {}
        for fresh in not_overtaken([fresh for _, fresh in taken.fresh]):
            bound, latest = bounds[fresh.schema_id], self._draft(taken.gateway_id)
            slots = latest.slots_of(fresh.schema_id, bound.names)
            signals = latest.fold(fresh.batches, slots, bound.depth, fresh.origin)
            changed.setdefault(fresh.schema_id, []).append(signals)
        for schema_id, some in changed.items():
            taken.twins |= dict.fromkeys(bounds[schema_id].twins_of(np.concatenate(some)))
        taken.fresh.clear()

    def _news_of(self, taken: Taken) -> News | None:
        if not any(slot in self._changed for slot in taken.slots):
            return None
        body: dict[str, object] = {"samples": taken.samples, "twins": sorted(key.twin for key in taken.twins)}
        return News(taken.key.tenant, taken.key.site, "commit", taken.key.gateway, self._now_ns, body)

    def _keep_newest(self, number: int) -> None:
        """Notes what this commit changed; saves the readings of gateways that have not been saved for long."""
        for place, (row, _) in enumerate(self._blocks, number + 1):
            latest = self.latest[int(str(row["gateway_id"]))]
            latest.through = place
            latest.unsaved += 1
        for taken in self._taken:
            if taken.twins:
                twins = (key.twin for key in taken.twins)
                self.latest[taken.gateway_id].changed |= dict.fromkeys(twins, (number, self._now_ns))
        saved = [gateway_id for gateway_id, latest in self.latest.items() if latest.unsaved >= SAVE_BLOCKS]
        owners = {taken.gateway_id: taken.key.tenant for taken in self._taken}
        rows = [saved_row(owners[gateway_id], gateway_id, self.latest[gateway_id]) for gateway_id in saved]
        self._database.upsert(self._connection, t.gateway_states, rows)
        for gateway_id in saved:
            self.latest[gateway_id].unsaved = 0

    def _last_block(self, gateway_id: int) -> int:
        latest = self.latest.get(gateway_id)
        return self._sessions[gateway_id][1] if latest is None else latest.through

    def _draft(self, gateway_id: int) -> Latest:
        """Readings of a gateway as this transaction changes them; one that is rolled back has changed none."""
        draft = self.latest.get(gateway_id)
        if draft is None:
            held = self._newest(self._connection, gateway_id, self._sessions[gateway_id][1], writing=True)
            draft = self.latest[gateway_id] = held.draft()
        return draft

    def _read(self, statement: ClauseElement, parameter: str, keys: Iterable[int]) -> list[tuple[Any, ...]]:
        return self._database.read_many(self._connection, statement, [{parameter: key} for key in keys])

    def _write(self, statement: ClauseElement, rows: Sequence[Row]) -> None:
        self._database.write_many(self._connection, statement, rows)


_SESSION = select(t.gateways.c.id, t.gateways.c.session, t.gateways.c.last_block).where(
    t.gateways.c.id == bindparam("key")
)
_BOOTS = select(t.boots.c.gateway_id, t.boots.c.boot, t.boots.c.id, t.boots.c.counter).where(
    t.boots.c.gateway_id.in_(bindparam("gateways", expanding=True)),
    t.boots.c.boot.in_(bindparam("boots", expanding=True)),
)
_MARKS = select(t.marks.c.boot_id, t.marks.c.stream, t.marks.c.next_seq).where(t.marks.c.boot_id == bindparam("boot"))
_COUNT = (
    update(t.gateways)
    .where(t.gateways.c.id == bindparam("key"))
    .values(
        blocks=t.gateways.c.blocks + bindparam("new_blocks"),
        samples=t.gateways.c.samples + bindparam("new_samples"),
        duplicates_refused=t.gateways.c.duplicates_refused + bindparam("new_duplicates"),
        last_seen_ns=bindparam("seen_ns"),
        last_block=bindparam("last"),
    )
)
_LETTERS = select(func.count(), func.sum(t.dead_letters.c.size)).where(
    t.dead_letters.c.gateway_id == bindparam("gateway_id")
)
_INTERVAL = select(t.losses.c.id, t.losses.c.to_ns).where(
    t.losses.c.gateway_id == bindparam("gateway_id"),
    t.losses.c.kind == "NOT_ACQUIRED",
    t.losses.c.device == bindparam("device"),
    t.losses.c.reason == bindparam("reason"),
    t.losses.c.from_ns == bindparam("from_ns"),
)
_CLOSE = update(t.losses).where(t.losses.c.id == bindparam("key")).values(to_ns=bindparam("to_ns"))
_INSERTS = {table.name: insert(table) for table in (t.blocks, t.losses, t.dead_letters, t.events)}
