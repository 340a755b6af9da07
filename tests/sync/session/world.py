"""Both session machines over a link that loses, repeats and cuts, in virtual time; both ends may restart."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from random import Random

from twinmodel.clock import MILLISECOND_NS, SECOND_NS, ClockQuality
from twinmodel.signal import Stream
from twinsync.backoff import Backoff
from twinsync.item import Boot, Gap, Item, Mark, Range
from twinsync.session import EdgeSession, EdgeState, ServerLimits, ServerSession
from twinsync.session import edge as e
from twinsync.session import server as s
from twinsync.session.messages import PROTOCOL, Heartbeat, Hello, item_bytes

FAULTS_END_NS = 60 * SECOND_NS
HORIZON_NS = 600 * SECOND_NS


class Disk:
    """What survives a restart of the agent."""

    def __init__(self) -> None:
        self.boots: list[Boot] = []
        self.items: list[Item] = []
        self.acked: dict = {}
        self.next_seq: dict = {}

    def waiting(self, after=()) -> list[Item]:
        cursors = {(m.boot, m.stream): m.next_seq for m in after}
        found = []
        for item in self.items:
            key = (item.boot, item.stream)
            if item.last_seq >= max(self.acked.get(key, 0), cursors.get(key, 0)):
                found.append(item)
        order = {boot.id: boot.counter for boot in self.boots}
        return sorted(found, key=lambda i: (i.stream, order[i.boot], i.first_seq))

    def read(self, pull: e.Pull) -> tuple[Item, ...]:
        chosen, used = [], 0
        for item in self.waiting(pull.after)[: pull.items_max]:
            used += item_bytes(item)
            if chosen and used > pull.bytes_max:
                break
            chosen.append(item)
        return tuple(chosen)


class Database:
    """What survives a restart of the coordinator."""

    def __init__(self) -> None:
        self.marks: dict = {}
        self.history: list[tuple] = []
        self.session = 0

    def copy(self) -> Database:
        other = Database()
        other.marks, other.history, other.session = dict(self.marks), list(self.history), self.session
        return other


class World:
    def __init__(self, seed: int, *, faults: bool = True, restores: bool = False) -> None:
        r = self.random = Random(seed)
        self.now_ns = 0
        self.queue: list = []
        self.count = 0
        self.faults = faults
        self.restores = restores
        self.loss = r.choice([0, 0.02, 0.2]) if faults else 0
        self.repeat = r.choice([0, 0.02, 0.2]) if faults else 0
        self.cut = r.choice([0, 0.05, 0.3]) if faults else 0
        self.credit = r.choice([s.Credit(1 << 20, 512), s.Credit(4000, 4), s.Credit(700, 1)])
        self.link = 0
        self.closed_until_ns = 0
        self.disk = Disk()
        self.database = Database()
        self.backup = self.database.copy()
        self.server: ServerSession | None = None
        self.machine = EdgeSession()
        self.backoff = Backoff(Random(seed))
        self.edge_life = 0
        self.sessions = 0
        self.rejects: list[str] = []
        self.boot_edge()
        self.produce()
        self.nemesis()

    # time

    def at(self, delay_ns: int, call: Callable[[], None]) -> None:
        self.count += 1
        heapq.heappush(self.queue, (self.now_ns + delay_ns, self.count, call))

    def run(self) -> None:
        while self.queue and self.now_ns < HORIZON_NS:
            self.now_ns, _, call = heapq.heappop(self.queue)
            call()
            if self.now_ns > FAULTS_END_NS and not self.disk.waiting():
                return

    @property
    def healthy(self) -> bool:
        return not self.faults or self.now_ns >= FAULTS_END_NS

    # the world outside

    def produce(self) -> None:
        r = self.random
        for _ in range(r.choice([1, 1, 5])):
            key = (self.disk.boots[-1].id, r.choice(list(Stream)))
            first = self.disk.next_seq.get(key, 0)
            count = r.randint(1, 9)
            self.disk.items.append(Item(*key, first, first + count - 1, Gap("TEST", count, 0, 0)))
            self.disk.next_seq[key] = first + count
        self.edge(e.Appended())
        if self.now_ns < FAULTS_END_NS:
            self.at(r.randint(1, 2000) * MILLISECOND_NS, self.produce)

    def nemesis(self) -> None:
        r = self.random
        if self.healthy:
            return
        if r.random() < self.cut:
            self.hang_up()
        if r.random() < self.cut / 4:
            self.closed_until_ns = self.now_ns + r.randint(1, 30) * SECOND_NS
            self.hang_up()
        if r.random() < self.cut / 4:
            self.boot_edge()
        if r.random() < self.cut / 4:
            self.server = None
            self.hang_up()
        if self.restores and r.random() < 0.02:
            self.backup = self.database.copy()
        if self.restores and r.random() < 0.02:
            session = self.database.session
            self.database = self.backup.copy()
            self.database.session = session
            self.server = None
            self.hang_up()
        self.at(SECOND_NS, self.nemesis)

    # the link

    def hang_up(self) -> None:
        """Cuts the link; the gateway notices at once or a little later."""
        self.link += 1
        self.server = None
        link, life = self.link, self.edge_life

        def notice() -> None:
            if self.link == link and self.edge_life == life:
                self.edge(e.LinkDown())
                self.at(self.backoff.failed(self.now_ns) - self.now_ns, lambda: self.connect(life))

        self.at(self.random.choice([0, 500]) * MILLISECOND_NS, notice)

    def connect(self, life: int) -> None:
        if life != self.edge_life or self.machine.state is not EdgeState.DISCONNECTED:
            return
        if self.now_ns < self.closed_until_ns:
            self.at(self.backoff.failed(self.now_ns) - self.now_ns, lambda: self.connect(life))
            return
        self.link += 1
        self.server = ServerSession(self.now_ns, ServerLimits())
        self.watch_server(self.server)
        marks = ((k, self.disk.acked.get(k, 0), n) for k, n in self.disk.next_seq.items())
        ranges = tuple(Range(*key, acked, following) for key, acked, following in marks if acked < following)
        hello = Hello(
            PROTOCOL, PROTOCOL, "test", tuple(self.disk.boots), ranges, 0, self.now_ns, ClockQuality.FREE, (), ()
        )
        self.edge(e.LinkUp(hello))
        self.watch_edge(life)

    def transmit(self, receive: Callable, message) -> None:
        link = self.link
        copies = 1
        if not self.healthy:
            copies = 0 if self.random.random() < self.loss else 2 if self.random.random() < self.repeat else 1
        for _ in range(copies):
            self.at(5 * MILLISECOND_NS, lambda: receive(message) if self.link == link else None)

    # the gateway

    def boot_edge(self) -> None:
        previous = self.disk.boots[-1].id if self.disk.boots else b""
        counter = len(self.disk.boots) + 1
        self.disk.boots.append(Boot(self.random.randbytes(16), previous, counter, 0, ClockQuality.FREE))
        self.machine = EdgeSession()
        self.edge_life += 1
        self.link += 1
        self.server = None
        self.connect(self.edge_life)

    def watch_edge(self, life: int) -> None:
        due = self.machine.deadline_ns()
        if life != self.edge_life or due is None:
            return
        if due <= self.now_ns:
            self.edge(e.Tick())
        self.at(
            max((self.machine.deadline_ns() or self.now_ns) - self.now_ns, MILLISECOND_NS),
            lambda: self.watch_edge(life),
        )

    def edge(self, event) -> None:
        actions = self.machine.receive(event, self.now_ns)
        while actions:
            action = actions.pop(0)
            match action:
                case e.Send():
                    self.transmit(self.serve, action.message)
                case e.Beat():
                    self.transmit(self.serve, Heartbeat(action.session, 0))
                case e.Pull():
                    self.read(action)
                case e.Acknowledge():
                    self.disk.acked.update({(m.boot, m.stream): m.next_seq for m in action.marks})
                case e.Rewind() | e.Compare():
                    for mark in action.marks:
                        key = (mark.boot, mark.stream)
                        self.disk.acked[key] = min(self.disk.acked.get(key, 0), mark.next_seq)
                case e.Established():
                    self.sessions += 1
                case e.Progressed():
                    self.backoff.progressed()
                case e.Close():
                    self.rejects.append(action.reason)
                    self.hang_up()

    def read(self, pull: e.Pull) -> None:
        """Answers a little later with what was there when it was asked for."""
        link, found = self.link, e.Pulled(pull.generation, self.disk.read(pull))
        delay_ns = self.random.choice([0, 0, 30]) * MILLISECOND_NS
        self.at(delay_ns, lambda: self.edge(found) if self.link == link else None)

    # the coordinator

    def watch_server(self, server: ServerSession) -> None:
        due = server.deadline_ns()
        if server is not self.server or due is None:
            return
        if due <= self.now_ns:
            self.server_does(server, s.Tick(0))
        following = server.deadline_ns()
        if following is not None:
            self.at(max(following - self.now_ns, MILLISECOND_NS), lambda: self.watch_server(server))

    def serve(self, message) -> None:
        if self.server is not None:
            self.server_does(self.server, message)

    def server_does(self, server: ServerSession, event) -> None:
        for action in server.receive(event, self.now_ns):
            match action:
                case s.Send():
                    self.transmit(self.edge, action.message)
                case s.Open():
                    self.database.session += 1
                    boots = {boot.id for boot in action.hello.boots}
                    marks = tuple(Mark(*k, n) for k, n in self.database.marks.items() if k[0] in boots)
                    self.server_does(server, s.Granted(self.database.session, marks, (), self.credit, 0))
                    self.watch_server(server)
                case s.Store():
                    delay_ns = self.random.choice([1, 20, 400]) * MILLISECOND_NS
                    self.at(delay_ns, lambda action=action: self.commit(server, action))
                case s.Close():
                    self.rejects.append(action.reason)
                    self.hang_up()

    def commit(self, server: ServerSession, action: s.Store) -> None:
        if self.server is not server or action.session != self.database.session:
            return
        database, nack, touched = self.database, None, {}
        for item in action.items:
            key = (item.boot, item.stream)
            mark = database.marks.get(key, 0)
            touched[key] = mark
            if item.last_seq < mark:
                continue
            if item.first_seq > mark:
                nack = Mark(*key, mark)
                break
            database.history += [(*key, n) for n in range(mark, item.last_seq + 1)]
            database.marks[key] = touched[key] = item.last_seq + 1
        if not self.healthy and self.random.random() < self.cut / 8:
            self.hang_up()  # committed, and died before it said so
            return
        marks = tuple(Mark(*k, n) for k, n in touched.items())
        credit = self.credit
        if self.faults and self.random.random() < 0.1:
            credit = s.Credit(0, 0)
            self.at(
                SECOND_NS, lambda: self.server_does(server, s.Regrant(self.credit)) if self.server is server else None
            )
        self.server_does(server, s.Stored(marks, (), nack, action.bytes, len(action.items), credit))
