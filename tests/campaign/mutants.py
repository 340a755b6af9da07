"""Known mistakes, planted into production's own objects one at a time: a judge that misses them is no judge.

Each names the faults that can show it; the campaign must catch it within a bounded number of seeds.
"""

from __future__ import annotations

import contextlib
import itertools
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from unittest.mock import patch

from tests.campaign.beginning import other_template
from tests.campaign.nemesis import Only
from twincloud.ingest import writer
from twincloud.ingest.stream import GatewayStream
from twincloud.storage import commits, work
from twincloud.storage.dedupe import Verdict, judge
from twincloud.storage.sessions import SessionStore
from twincloud.twins.latest import Latest
from twinedge.spool import coarser, outgoing, retention, store
from twinedge.spool.connection import Connection
from twinedge.spool.reading import Reading
from twinedge.spool.rows import Lane, boots_of, item_of, lanes_of, set_lane
from twinedge.spool.sending import Sending
from twinedge.spool.store import Spool
from twinmodel.errors import StorageError
from twinmodel.signal import Stream
from twinsync.item import Block, Mark, NotAcquired
from twinsync.session.edge import EdgeSession
from twinsync.session.server import Stored

Planted = Callable[[], AbstractContextManager[object]]


@dataclass(frozen=True, slots=True)
class Mutant:
    """A mistake; `only` are the faults under which it shows."""

    plant: Planted
    only: Only


def _every(count: int) -> Callable[[], bool]:
    """True at each `count`-th call."""
    calls = itertools.count(1)
    return lambda: next(calls) % count == 0


def ack_before_commit() -> AbstractContextManager[object]:
    commit = writer.Writer._commit

    async def early(self, thread, shares):
        for share in shares:
            ends = {(t.boot, t.stream): t.last_seq + 1 for ticket in share.tickets for t in ticket.items}
            marks = tuple(Mark(*key, end) for key, end in ends.items())
            share.sender.feed(Stored(marks, (), None, 0, 0, self.credit()))
        await commit(self, thread, shares)

    return patch.object(writer.Writer, "_commit", early)


def delete_on_send() -> AbstractContextManager[object]:
    unsent = Sending.unsent

    def forgetful(self, after=(), *, bytes_max, items_max):
        items = unsent(self, after, bytes_max=bytes_max, items_max=items_max)
        self.acknowledge([Mark(i.boot, i.stream, i.last_seq + 1) for i in items])
        return items

    return patch.object(Sending, "unsent", forgetful)


def no_dedupe() -> AbstractContextManager[object]:
    # The unique index of blocks is a second lock on the same door: it must be open, too.
    stack = contextlib.ExitStack()
    stack.enter_context(other_template(_drop_unique_index))
    seen = {Verdict.COVERED: Verdict.TAKE}
    stack.enter_context(patch.object(work, "judge", lambda i, n: seen.get(judge(i, n), judge(i, n))))
    return stack


def _drop_unique_index(database: Path) -> None:
    with contextlib.closing(sqlite3.connect(database)) as db:
        db.executescript("CREATE TABLE b AS SELECT * FROM blocks; DROP TABLE blocks; ALTER TABLE b RENAME TO blocks")


def accept_gap() -> AbstractContextManager[object]:
    return patch.object(work, "judge", lambda i, n: Verdict.TAKE if (v := judge(i, n)) is Verdict.AHEAD else v)


def torn_transaction() -> AbstractContextManager[object]:
    write, due = work.Work.write, _every(3)

    def torn(self):
        if not due() or not self._changed:
            write(self)
            return
        blocks, self._blocks = self._blocks, []
        write(self)
        self._connection.exec_driver_sql("COMMIT")
        self._connection.exec_driver_sql("BEGIN IMMEDIATE")
        raise StorageError("STORE_SYNC_FAILED", f"died before {len(blocks)} blocks")

    return patch.object(work.Work, "write", torn)


def _same_boot(*, numbers_kept: bool) -> AbstractContextManager[object]:
    start = Spool._start

    def again(self, boot_id, quality, **options):
        with self._file.write() as db:
            boots = boots_of(db)
        if not boots:
            start(self, boot_id, quality, **options)
            return
        self.boot = boots[-1]
        self._boots = {boot.counter: boot.id for boot in boots}
        with self._file.write() as db:
            mine = [lane for lane in lanes_of(db) if lane.boot == self.boot.counter]
            if not numbers_kept:
                mine = [Lane(lane.boot, lane.stream, 0, 0, 0, lane.at_ns) for lane in mine]
                for lane in mine:
                    set_lane(db, lane)
        self._next = {Stream(lane.stream): lane.next_seq for lane in mine}

    return patch.object(Spool, "_start", again)


def volatile_sequence() -> AbstractContextManager[object]:
    return _same_boot(numbers_kept=False)


def id_per_disk() -> AbstractContextManager[object]:
    return _same_boot(numbers_kept=True)


def no_fork_check() -> AbstractContextManager[object]:
    return patch.object(SessionStore, "_refusal", lambda *_: None)


def poison_blocks() -> AbstractContextManager[object]:
    take = work.Work._take_one

    def stuck(self, taken, arrival, bounds):
        if arrival.poison:
            slot = (self._boots[taken.gateway_id, arrival.item.boot][0], int(arrival.item.stream))
            taken.stopped.add(slot)
            raise StorageError("STORE_CORRUPT", "this block cannot be stored")
        take(self, taken, arrival, bounds)

    return patch.object(work.Work, "_take_one", stuck)


def silent_drop() -> AbstractContextManager[object]:
    insert, due = store.insert, _every(7)

    def forgetful(db, boot, stream, first_seq, last_seq, content, catalogue, at_ns):
        if not (isinstance(content, Block) and due()):
            insert(db, boot, stream, first_seq, last_seq, content, catalogue, at_ns)

    return patch.object(store, "insert", forgetful)


def ack_of_a_wrong_boot() -> AbstractContextManager[object]:
    acknowledge = Sending.acknowledge

    def mixed(self, marks):
        return acknowledge(self, [replace(mark, boot=self.boot.id) for mark in marks])

    return patch.object(Sending, "acknowledge", mixed)


def late_drop() -> AbstractContextManager[object]:
    keep, due = work.Work._keep, _every(11)

    def forgetful(self, *args):
        if not due():
            keep(self, *args)

    return patch.object(work.Work, "_keep", forgetful)


def mark_too_far() -> AbstractContextManager[object]:
    finish = work.Work.finish

    def generous(self, taken):
        commit = finish(self, taken)
        return replace(commit, marks=tuple(replace(m, next_seq=m.next_seq + 3) for m in commit.marks))

    return patch.object(work.Work, "finish", generous)


def no_rewind() -> AbstractContextManager[object]:
    return patch.object(EdgeSession, "_compare", lambda *_: [])


def losses_not_counted() -> AbstractContextManager[object]:
    stack = contextlib.ExitStack()
    for module in (store, retention, coarser):
        stack.enter_context(patch.object(module, "count_loss", lambda *_: None))
    return stack


def bitmap_forgotten() -> AbstractContextManager[object]:
    def bare(row, boots, digests):
        item = item_of(row, boots, digests)
        if item is not None and isinstance(item.content, Block) and item.content.kept:
            return replace(item, content=replace(item.content, kept=b""))
        return item

    return patch.object(outgoing, "item_of", bare)


def state_not_folded() -> AbstractContextManager[object]:
    fold, due = Latest.fold, _every(4)

    def forgetful(self, batches, slots, depth, origin):
        return fold(self, () if due() else batches, slots, depth, origin)

    return patch.object(Latest, "fold", forgetful)


def dropped_without_gap() -> AbstractContextManager[object]:
    def gone(db, lane, first_seq, last_seq, gap, now_ns, *, row=None):
        store.insert  # noqa: B018 - the row goes, nothing comes in its place
        if row is not None:
            db.execute("DELETE FROM items WHERE row = ?", (row,))

    return patch.object(retention, "put_gap", gone)


def decoded_values_shifted() -> AbstractContextManager[object]:
    take = commits.Work.take
    due = _every(5)

    def shifted(self, key, gateway_id, session, arrivals, bounds):
        if due():
            arrivals = [
                replace(
                    a, item=replace(a.item, content=replace(a.item.content, payload=arrivals[0].item.content.payload))
                )
                if isinstance(a.item.content, Block) and isinstance(arrivals[0].item.content, Block)
                else a
                for a in arrivals
            ]
        return take(self, key, gateway_id, session, arrivals, bounds)

    return patch.object(commits.Work, "take", shifted)


def interval_told_twice() -> AbstractContextManager[object]:
    return patch.object(work.Work, "_known_interval", lambda *_: False)


def interval_left_open() -> AbstractContextManager[object]:
    known = work.Work._known_interval
    return patch.object(work.Work, "_known_interval", lambda self, g, r: known(self, g, replace(r, to_ns=0)))


def absence_not_kept() -> AbstractContextManager[object]:
    declare = work.Work._declare

    def forgetful(self, taken, item, boot_id):
        if not isinstance(item.content, NotAcquired):
            declare(self, taken, item, boot_id)

    return patch.object(work.Work, "_declare", forgetful)


def refusal_swallowed() -> AbstractContextManager[object]:
    write = Connection.write

    @contextlib.contextmanager
    def careless(self):
        with contextlib.suppress(StorageError), write(self) as db:
            yield db

    return patch.object(Connection, "write", careless)


def not_settled() -> AbstractContextManager[object]:
    return patch.object(Spool, "_settle", lambda *_: None)


def lanes_read_once() -> AbstractContextManager[object]:
    stored = Reading._stored_lanes

    def stale(self, db):
        if self._lanes_read is None or self._lanes_read[0] is not db:
            return stored(self, db)
        return self._lanes_read[2]

    return patch.object(Reading, "_stored_lanes", stale)


def revocation_not_seen() -> AbstractContextManager[object]:
    return patch.object(GatewayStream, "recheck", lambda _: None)


def suspension_not_seen() -> AbstractContextManager[object]:
    refusal = SessionStore._refusal

    def lenient(self, connection, gateway, row, hello, now_ns):
        found = refusal(self, connection, gateway, row, hello, now_ns)
        return None if found is not None and found.reason == "SUSPENDED" else found

    return patch.object(SessionStore, "_refusal", lenient)


def silence_not_heard() -> AbstractContextManager[object]:
    return patch.object(GatewayStream, "watch", lambda *_: None)


_KILLS = ("agent killed", "agent killed at a step", "cut")
MUTANTS: dict[str, Mutant] = {
    "ack before commit": Mutant(ack_before_commit, Only(("center disk",))),
    "delete on send": Mutant(delete_on_send, Only(("cut", "loss"))),
    "no dedupe": Mutant(no_dedupe, Only(("repeat", "deaf"))),
    "accept gap": Mutant(accept_gap, Only(("loss", "repeat"))),
    "torn transaction": Mutant(torn_transaction, Only(("cut",))),
    "volatile sequence": Mutant(volatile_sequence, Only(_KILLS)),
    "id per disk": Mutant(id_per_disk, Only(("clone", "agent killed"))),
    "no fork check": Mutant(no_fork_check, Only(("clone", "disk restored"))),
    "poison blocks the stream": Mutant(poison_blocks, Only(("poison",))),
    "silent drop": Mutant(silent_drop, Only(("cut",))),
    "ack of a wrong boot": Mutant(ack_of_a_wrong_boot, Only(("agent killed", "parted"))),
    "late drop": Mutant(late_drop, Only(("cut",))),
    "mark too far": Mutant(mark_too_far, Only(("cut", "parted"))),
    "no rewind": Mutant(no_rewind, Only(("center restored",))),
    "losses not counted": Mutant(losses_not_counted, Only(("cut",), large=True, policy="drop_oldest")),
    "bitmap forgotten": Mutant(bitmap_forgotten, Only(("cut",), large=True, policy="thin")),
    "dropped without gap": Mutant(dropped_without_gap, Only(("cut",), large=True, policy="drop_oldest")),
    "state not folded": Mutant(state_not_folded, Only(("cut",))),
    "interval told twice": Mutant(interval_told_twice, Only(("device lost", "cut"))),
    "interval left open": Mutant(interval_left_open, Only(("device lost",))),
    "absence not kept": Mutant(absence_not_kept, Only(("device lost",))),
    "refusal swallowed": Mutant(refusal_swallowed, Only(("disk full", "disk read-only"))),
    "file not settled": Mutant(not_settled, Only(("disk error", "agent killed", "slow disk"))),
    "ack though the disk refused": Mutant(ack_before_commit, Only(("center disk", "center killed"))),
    "lanes read once": Mutant(lanes_read_once, Only(("cut", "agent killed"))),
    "revocation not seen": Mutant(revocation_not_seen, Only(("key stolen",))),
    "end of a certificate not seen": Mutant(revocation_not_seen, Only(("certificate expired",))),
    "suspension not seen": Mutant(suspension_not_seen, Only(("suspended", "agent killed"))),
    "silence not heard": Mutant(silence_not_heard, Only(("paused",))),
    "payload of another block": Mutant(decoded_values_shifted, Only(("parted", "slow"))),
}


@contextlib.contextmanager
def planted(name: str) -> Iterator[Mutant]:
    """The mutant lives while the context is open."""
    mutant = MUTANTS[name]
    with mutant.plant():
        yield mutant
