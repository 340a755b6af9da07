"""The gateway's side of a session: events in, actions out, no clock and no I/O.

    DISCONNECTED ──LinkUp──▶ HELLO_SENT ──Welcome──▶ OPEN
         ▲                        │  Reject            │  Reject
         │                        ▼                    ▼
         └──────LinkDown────── CLOSED ◀──silence──  REJECTED

Two rules. Nothing counts as delivered before the coordinator's mark covers it: a cursor runs ahead of the marks and
falls back to them. Every message from the coordinator is checked against `TRANSITIONS` first: what has no place there
ends the session.
"""

from __future__ import annotations

from collections.abc import Iterable

from twinmodel.clock import MILLISECOND_NS
from twinmodel.signal import Stream
from twinsync.command import Command
from twinsync.item import Block, Item, Mark
from twinsync.session.edge_events import (
    LOCAL,
    TRANSITIONS,
    Acknowledge,
    Appended,
    Beat,
    Close,
    Compare,
    EdgeAction,
    EdgeEvent,
    EdgeLimits,
    EdgeState,
    Established,
    LinkDown,
    LinkUp,
    Progressed,
    Pull,
    Pulled,
    Rewind,
    Send,
    SendCatalogue,
    Tick,
)
from twinsync.session.messages import Committed, Heartbeat, Hello, Items, Key, Nack, Reject, Welcome
from twinsync.session.pacing import Lane, Pacer
from twinsync.session.verdicts import verdict_of
from twinsync.session.window import Window

HEARTBEAT_MIN_NS = 100 * MILLISECOND_NS


__all__ = [
    "TRANSITIONS",
    "Acknowledge",
    "Appended",
    "Beat",
    "Close",
    "Compare",
    "EdgeAction",
    "EdgeEvent",
    "EdgeLimits",
    "EdgeSession",
    "EdgeState",
    "Established",
    "LinkDown",
    "LinkUp",
    "Progressed",
    "Pull",
    "Pulled",
    "Rewind",
    "Send",
    "SendCatalogue",
    "Tick",
]


class EdgeSession:
    """One gateway's sessions with its coordinator, one after the other.

    Args:
        edge_limits: patience.
        pacer: shares the link between what is urgent, present and past; None sends whatever the credit allows.

    Attributes:
        acked: marks the coordinator confirmed; LinkDown keeps them, so that a coordinator that comes back with less
            is found out even where the spool has nothing left to send.
    """

    def __init__(self, edge_limits: EdgeLimits | None = None, pacer: Pacer | None = None) -> None:
        self.limits = edge_limits or EdgeLimits()
        self.pacer = pacer
        self.state = EdgeState.DISCONNECTED
        self.acked: dict[Key, int] = {}
        self._reset()

    def _reset(self) -> None:
        self.session = 0
        self.window = Window()
        self._hello: Hello | None = None
        self._schemas: set[bytes] = set()
        self._pulling = self._dry = self._news = False
        self._lane = Lane.LIVE
        if self.pacer is not None:
            self.pacer.drop()
        self._nacked: dict[Key, int] = {}
        self._stalls = 0
        self._heartbeat_ns = 0
        self._since_ns = 0
        self._heard_ns = 0
        self._beat_ns = 0
        self._progress_ns = 0

    def receive(self, event: EdgeEvent, now_ns: int) -> list[EdgeAction]:
        """Takes one event at boot time `now_ns` and returns what is to be done, in order."""
        if isinstance(event, LinkDown):
            self.state = EdgeState.DISCONNECTED
            self._reset()
            return []
        if isinstance(event, Tick):
            return self._tick(now_ns)
        following = TRANSITIONS[self.state].get(type(event))
        if following is None:
            if isinstance(event, LOCAL) or self.state in (EdgeState.REJECTED, EdgeState.CLOSED):
                return []
            return self._close("PROTOCOL_VIOLATION", f"{type(event).__name__} while {self.state.name}")
        self.state = following
        if not isinstance(event, LOCAL):
            self._heard_ns = now_ns
        return self._dispatch(event, now_ns)

    def deadline_ns(self) -> int | None:
        """Boot time at which a `Tick` is due, None when nothing is awaited."""
        if self.state is EdgeState.HELLO_SENT:
            return self._since_ns + self.limits.hello_timeout_ns
        if self.state is not EdgeState.OPEN:
            return None
        due = [self._beat_ns + self._heartbeat_ns, self._silence_ns()]
        if self.window.items:
            due.append(self._progress_ns + self.limits.progress_timeout_ns)
        paced_ns = self.pacer.due_ns() if self.pacer is not None else None
        return min(due if paced_ns is None else [*due, paced_ns])

    def _dispatch(self, event: EdgeEvent, now_ns: int) -> list[EdgeAction]:
        actions: list[EdgeAction] = []
        match event:
            case LinkUp():
                actions = self._greet(event.hello, now_ns)
            case Welcome():
                actions = self._open(event, now_ns)
            case Committed():
                actions = self._commit(event, now_ns)
            case Nack():
                actions = self._go_back(event.expected, now_ns)
            case Reject():
                verdict = verdict_of(event.reason)
                wait_ns = max(verdict.wait_ns, event.retry_after_ns)
                actions = [Close(event.reason, event.detail, wait_ns, verdict.needs_operator)]
            case Appended():
                self._dry, self._news = False, True
                if self.pacer is not None:
                    self.pacer.news()
                actions = self._pull()
            case Pulled():
                actions = self._forward(event, now_ns)
            case Heartbeat():
                actions = [Progressed()]
            case Command() if event.session != self.session:
                actions = self._close("PROTOCOL_VIOLATION", f"a command of session {event.session}")
        return actions

    def _commit(self, committed: Committed, now_ns: int) -> list[EdgeAction]:
        self.window.grant(committed.credit_bytes, committed.credit_items)
        if self.pacer is not None and self.pacer.received(committed.received, now_ns):
            self._progress_ns = now_ns
        return [*self._advance(committed.marks, now_ns), *self._go_on(now_ns)]

    def _greet(self, hello: Hello, now_ns: int) -> list[EdgeAction]:
        self._hello = hello
        self._schemas = set(hello.schemas)
        # Nothing of an earlier session counts: the spool may not have been able to take over what that one found.
        self.acked = {(r.boot, r.stream): r.first_unacked for r in hello.ranges}
        self._since_ns = now_ns
        return [Send(hello)]

    def _open(self, welcome: Welcome, now_ns: int) -> list[EdgeAction]:
        hello = self._hello
        assert hello is not None, "HELLO_SENT is entered with a Hello"
        if not hello.protocol_min <= welcome.protocol <= hello.protocol_max:
            return self._close("UPGRADE_REQUIRED", f"the coordinator chose protocol {welcome.protocol}")
        self.session = welcome.session
        self.window.limit_message(welcome.message_bytes_max)
        self.window.grant(welcome.credit_bytes, welcome.credit_items)
        self._heartbeat_ns = max(welcome.heartbeat_ns, HEARTBEAT_MIN_NS)
        self._beat_ns = self._progress_ns = now_ns
        if self.pacer is not None:
            self.pacer.start(welcome.session, [boot.id for boot in hello.boots], now_ns)
        missing = [digest for digest in welcome.missing_schemas if digest in self._schemas]
        actions: list[EdgeAction] = [Established(welcome.session, welcome.server_ns)]
        actions += self._compare(hello, welcome.marks)
        actions += [SendCatalogue(digest) for digest in missing]
        actions += [Beat(welcome.session)]
        return actions + self._pull()

    def _compare(self, hello: Hello, marks: Iterable[Mark]) -> list[EdgeAction]:
        """Takes over the coordinator's marks: those ahead are acks that got lost, those behind a restored store."""
        known = {(m.boot, m.stream): m.next_seq for m in marks}
        named = [boot.id for boot in hello.boots]
        # The coordinator tells marks of the boots it was asked for; silence about another boot means nothing.
        told = {key: known.get(key, 0 if key[0] in named else acked) for key, acked in self.acked.items()}
        regressed = [Mark(*key, mark) for key, mark in told.items() if mark < self.acked[key]]
        # What the spool did not list is acknowledged or was never there; only the spool can tell.
        unlisted = [(boot, stream) for boot in named for stream in Stream if (boot, stream) not in self.acked]
        compared = tuple(Mark(*key, known.get(key, 0)) for key in unlisted)
        ahead = tuple(Mark(*key, mark) for key, mark in known.items() if mark > self.acked.get(key, mark))
        self.acked.update({(m.boot, m.stream): m.next_seq for m in (*regressed, *compared, *ahead)})
        actions: list[EdgeAction] = [Rewind(tuple(regressed))] if regressed else []
        actions += [Compare(compared)] if compared else []
        return actions + ([Acknowledge(ahead)] if ahead else [])

    def _advance(self, marks: Iterable[Mark], now_ns: int) -> list[EdgeAction]:
        advanced = tuple(m for m in marks if m.next_seq > self.acked.get((m.boot, m.stream), 0))
        for mark in advanced:
            key = (mark.boot, mark.stream)
            self.acked[key] = mark.next_seq
            self._nacked.pop(key, None)
            self.window.land(mark)
        if not advanced:
            return []
        self._progress_ns = now_ns
        self._stalls = 0
        return [Acknowledge(advanced), Progressed()]

    def _go_back(self, expected: Mark, now_ns: int) -> list[EdgeAction]:
        key = (expected.boot, expected.stream)
        if self._nacked.get(key) == expected.next_seq:
            return []  # the echo of what was in flight behind the first one; a real loss meets the progress timeout
        actions: list[EdgeAction] = []
        if expected.next_seq < self.acked.get(key, 0):
            self.acked[key] = expected.next_seq
            actions.append(Rewind((expected,)))
        else:
            actions += self._advance((expected,), now_ns)
        self._nacked[key] = expected.next_seq
        self._fall_back(key)
        return actions + self._go_on(now_ns)

    def _fall_back(self, key: Key | None = None) -> None:
        self.window.fall_back(key)
        self._dry = False
        if self.pacer is not None:
            self.pacer.drop(key)
            self.pacer.went_back()

    def _pull(self) -> list[EdgeAction]:
        room_bytes, room_items = self.window.room()
        if self._pulling or self._dry or room_items <= 0 or room_bytes <= 0:
            return []
        hidden: tuple[Mark, ...] = ()
        if self.pacer is not None:
            wanted = self.pacer.wanted()
            if wanted is None:
                return []
            self._lane, wanted_bytes = wanted
            hidden, room_bytes = self.pacer.masks(self._lane), min(room_bytes, wanted_bytes)
        self._pulling, self._news = True, False
        return [Pull(self.window.generation, (*self.window.ahead(), *hidden), room_bytes, room_items)]

    def _go_on(self, now_ns: int) -> list[EdgeAction]:
        """Sends what the pacer lets go and reads what it wants next."""
        return [*self._flow(now_ns), *self._pull()]

    def _flow(self, now_ns: int) -> list[EdgeAction]:
        actions: list[EdgeAction] = []
        while self.pacer is not None and (message := self.pacer.next(now_ns)) is not None:
            items = message.items if isinstance(message, Items) else (message.item,) if message.item else ()
            actions += [*self._name_schemas(items), Send(message)]
        return actions

    def _name_schemas(self, items: Iterable[Item]) -> list[EdgeAction]:
        """Catalogues that have to go before these items."""
        actions: list[EdgeAction] = []
        for item in items:
            if isinstance(item.content, Block) and item.content.schema not in self._schemas:
                self._schemas.add(item.content.schema)
                actions.append(SendCatalogue(item.content.schema))
        return actions

    def _forward(self, pulled: Pulled, now_ns: int) -> list[EdgeAction]:
        self._pulling = False
        if pulled.generation != self.window.generation:
            return self._pull()
        dry = not pulled.items and not self._news
        if self.pacer is None:
            self._dry = dry
        elif not pulled.items and (self._lane is Lane.HISTORY or not self._news):
            self.pacer.dried(self._lane)
        if not self.window.items:
            self._progress_ns = now_ns
        chosen = self.window.launch(pulled.items)
        if self.pacer is not None:
            self.pacer.offer(chosen)
            # What was read and does not fit the credit waits for more of it.
            return self._flow(now_ns) if pulled.items and not chosen else self._go_on(now_ns)
        if not chosen:
            return [] if pulled.items else self._pull()
        return [*self._name_schemas(chosen), Send(Items(self.session, chosen)), *self._pull()]

    def _silence_ns(self) -> int:
        return self._heard_ns + self.limits.silence_heartbeats_max * self._heartbeat_ns

    def _tick(self, now_ns: int) -> list[EdgeAction]:
        if self.state is EdgeState.HELLO_SENT and now_ns - self._since_ns >= self.limits.hello_timeout_ns:
            return self._close("COORDINATOR_UNREACHABLE", "no answer to Hello")
        if self.state is not EdgeState.OPEN:
            return []
        if now_ns >= self._silence_ns():
            return self._close("COORDINATOR_UNREACHABLE", "the coordinator fell silent")
        actions: list[EdgeAction] = []
        if now_ns - self._beat_ns >= self._heartbeat_ns:
            self._beat_ns = now_ns
            actions.append(Beat(self.session))
        if self.window.items and now_ns - self._progress_ns >= self.limits.progress_timeout_ns:
            self._stalls += 1
            if self._stalls >= self.limits.stalls_max:
                return self._close("COORDINATOR_UNREACHABLE", "nothing was committed for too long")
            self._progress_ns = now_ns
            self._nacked.clear()
            self._fall_back()
            actions += self._pull()
        return actions + self._flow(now_ns)

    def _close(self, reason: str, detail: str) -> list[EdgeAction]:
        self.state = EdgeState.CLOSED
        verdict = verdict_of(reason)
        return [Close(reason, detail, verdict.wait_ns, verdict.needs_operator)]
