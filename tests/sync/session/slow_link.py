"""A gateway with a backlog behind a slow, lossy link, in virtual time: both production machines and the pacer.

The link carries packets one after the other; a lost one is sent again as TCP does, after the three that follow it are
noticed or after a timeout, and what follows it waits at the other end. The way back is as long and loses as many.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from twinmodel.clock import MILLISECOND_NS, SECOND_NS, ClockQuality
from twinmodel.signal import Stream
from twinsync import limits
from twinsync.item import Block, Boot, Item, Mark, Range
from twinsync.session import EdgeSession, ServerSession
from twinsync.session import edge as e
from twinsync.session import server as s
from twinsync.session.messages import PROTOCOL, Heartbeat, Hello, Items, Part, item_bytes, part_bytes
from twinsync.session.pacing import Pacer

PACKET_BYTES = 1400
MESSAGE_BYTES = 60
"""gRPC, HTTP/2 and TLS frames around a message; TCP and IP headers are counted with each packet."""
HEADER_BYTES = 40
COMMIT_NS = 5 * MILLISECOND_NS
SCHEMA = b"s" * 32
OLD, NEW = (Boot(b"o" * 16, b"", 1, 0, ClockQuality.SYNCED), Boot(b"n" * 16, b"o" * 16, 2, 0, ClockQuality.SYNCED))


@dataclass(frozen=True)
class Path:
    """A link: bytes per second (0: no bound), there and back, share of packets lost."""

    bytes_per_s: float = 8000.0
    round_trip_ns: int = 600 * MILLISECOND_NS
    loss: float = 0.02


@dataclass
class Live:
    """A block of the live load: how many bytes each so often."""

    stream: Stream
    bytes: int
    every_ns: int


@dataclass
class Way:
    """One direction of the link: when does what was written at a time come out, in order."""

    path: Path
    rate: float
    random: Random
    free_ns: int = 0
    out_ns: int = 0

    def carry(self, size: int, now_ns: int) -> int:
        left = size + MESSAGE_BYTES
        while left > 0:
            packet = min(left, PACKET_BYTES)
            left -= packet
            self._send(packet + HEADER_BYTES, now_ns)
            arrives_ns = self.free_ns + self.path.round_trip_ns // 2
            again_ns = self.path.round_trip_ns + 100 * MILLISECOND_NS
            while self.random.random() < self.path.loss:
                # Seen as lost after a round trip; then sent again, in front of what waits: it takes its room, too.
                self._send(packet + HEADER_BYTES, now_ns)
                arrives_ns += again_ns
                again_ns *= 2
            self.out_ns = max(self.out_ns, arrives_ns)
        return self.out_ns

    def _send(self, size: int, now_ns: int) -> None:
        self.free_ns = max(self.free_ns, now_ns) + (int(size * SECOND_NS / self.rate) if self.rate else 0)

    def waits_ns(self, now_ns: int) -> int:
        return max(self.free_ns - now_ns, 0)


@dataclass
class Plant:
    """Runs for a while and keeps what came of it.

    Attributes:
        late: per stream of the live load, seconds each block took beyond propagation and its own bytes' time.
        history: bytes of history committed.
        repeated: items that came a second time.
    """

    seed: int
    loads: tuple[Live, ...]
    path: Path = Path()
    backlog_bytes: int = 0
    block_bytes: int = 16_000
    paced: bool = True
    late: dict[Stream, list[float]] = field(default_factory=dict)
    history: int = 0
    repeated: int = 0
    queued_ns: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = Random(self.seed)
        self.now_ns = 0
        self.queue: list = []
        self.count = 0
        self.up = Way(self.path, self.path.bytes_per_s, Random(self.seed + 1))
        self.down = Way(self.path, 0, Random(self.seed + 2))
        self.lanes: dict = {}
        self.firsts: dict = {}
        self.acked: dict = {}
        self.marks: dict = {}
        self.born: dict = {}
        payload = bytes(self.block_bytes)
        self.lanes[OLD.id, Stream.TELEMETRY] = [
            Item(OLD.id, Stream.TELEMETRY, n, n, Block(SCHEMA, 0, payload, 0, 0))
            for n in range(self.backlog_bytes // self.block_bytes)
        ]
        self.pacer = Pacer() if self.paced else None
        self.machine = EdgeSession(pacer=self.pacer)
        self.server = ServerSession(0)

    def run(self, seconds: float) -> Plant:
        end_ns = int(seconds * SECOND_NS)
        ranges = tuple(Range(*key, 0, len(items)) for key, items in self.lanes.items())
        boots = (OLD, NEW)
        self.edge(e.LinkUp(Hello(PROTOCOL, PROTOCOL, "t", boots, ranges, 0, 0, ClockQuality.SYNCED, (), (SCHEMA,))))
        for load in self.loads:
            self.at(self.random.randrange(load.every_ns), lambda load=load: self.produce(load))
        self.watch()
        while self.queue and self.queue[0][0] < end_ns:
            self.now_ns, _, call = heapq.heappop(self.queue)
            call()
        return self

    def at(self, delay_ns: int, call: Callable[[], None]) -> None:
        self.count += 1
        heapq.heappush(self.queue, (self.now_ns + delay_ns, self.count, call))

    def append(self, boot: Boot, stream: Stream, size: int) -> Item:
        lane = self.lanes.setdefault((boot.id, stream), [])
        item = Item(boot.id, stream, len(lane), len(lane), Block(SCHEMA, 0, bytes(size), 0, 0))
        lane.append(item)
        return item

    def produce(self, load: Live) -> None:
        size = int(load.bytes * self.random.uniform(0.8, 1.2))
        self.born[self.append(NEW, load.stream, size)] = self.now_ns
        self.edge(e.Appended())
        self.at(load.every_ns, lambda: self.produce(load))

    def read(self, pull: e.Pull) -> tuple[Item, ...]:
        cursors = {(m.boot, m.stream): m.next_seq for m in pull.after}
        chosen: list[Item] = []
        room = pull.bytes_max
        for stream in Stream:
            for boot in (OLD, NEW):
                key = (boot.id, stream)
                lane = self.lanes.get(key, ())
                start = max(self.acked.get(key, 0), cursors.get(key, 0))
                for item in lane[start:] if start < limits.SEQ_MAX else ():
                    if chosen and (item_bytes(item) > room or len(chosen) >= pull.items_max):
                        return tuple(chosen)
                    chosen.append(item)
                    room -= item_bytes(item)
                    if room <= 0:
                        return tuple(chosen)
        return tuple(chosen)

    def watch(self) -> None:
        due = self.machine.deadline_ns()
        if due is not None and due <= self.now_ns:
            self.edge(e.Tick())
        due = self.server.deadline_ns()
        if due is not None and due <= self.now_ns:
            self.serve(s.Tick(0))
        self.at(20 * MILLISECOND_NS, self.watch)

    def edge(self, event) -> None:
        actions = self.machine.receive(event, self.now_ns)
        while actions:
            action = actions.pop(0)
            match action:
                case e.Send():
                    self.write(action.message)
                case e.Beat():
                    self.write(Heartbeat(action.session, 0))
                case e.Pull():
                    self.edge(e.Pulled(action.generation, self.read(action)))
                case e.Acknowledge():
                    self.acked.update({(m.boot, m.stream): m.next_seq for m in action.marks})
                case e.Close():
                    raise AssertionError(action)

    def write(self, message) -> None:
        size = 100
        if isinstance(message, Items):
            size = sum(map(item_bytes, message.items))
        elif isinstance(message, Part):
            size = part_bytes(message)
        self.queued_ns.append(self.up.waits_ns(self.now_ns))
        self.at(self.up.carry(size, self.now_ns) - self.now_ns, lambda: self.serve(message))

    def serve(self, event) -> None:
        for action in self.server.receive(event, self.now_ns):
            match action:
                case s.Send():
                    arrives_ns = self.down.carry(60, self.now_ns)
                    self.at(arrives_ns - self.now_ns, lambda m=action.message: self.edge(m))
                case s.Open():
                    credit = s.Credit(4 << 20, 512)
                    marks = tuple(Mark(*key, n) for key, n in self.marks.items())
                    self.serve(s.Granted(1, marks, (), credit, 0))
                case s.Store():
                    self.at(COMMIT_NS, lambda action=action: self.commit(action))
                case s.Close():
                    raise AssertionError(action)

    def commit(self, store: s.Store) -> None:
        touched = {}
        for item in store.items:
            key = (item.boot, item.stream)
            assert item.first_seq <= self.marks.get(key, 0), "lost or out of order"
            if item.last_seq < self.marks.get(key, 0):
                # A link that was silent for too long: what was in flight was sent again, and is only acknowledged.
                touched[key] = self.marks[key]
                self.repeated += 1
                continue
            self.marks[key] = touched[key] = item.last_seq + 1
            assert item in self.lanes[key][item.first_seq : item.last_seq + 1], "another item than was stored"
            if item.boot == OLD.id:
                self.history += item_bytes(item)
                continue
            own_ns = self.path.round_trip_ns // 2 + int(item_bytes(item) * SECOND_NS / self.path.bytes_per_s)
            late_ns = self.now_ns - self.born.pop(item) - own_ns
            self.late.setdefault(item.stream, []).append(late_ns / SECOND_NS)
        marks = tuple(Mark(*key, n) for key, n in touched.items())
        self.serve(s.Stored(marks, (), None, store.bytes, len(store.items), s.Credit(4 << 20, 512)))


def quantile(found: list[float], share: float) -> float:
    ranked = sorted(found)
    return ranked[min(int(len(ranked) * share), len(ranked) - 1)]
