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

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum, auto

from twinmodel.clock import MILLISECOND_NS, SECOND_NS
from twinmodel.signal import Stream
from twinsync.directive import Directive
from twinsync.item import Block, Item, Mark
from twinsync.session.messages import (
    Committed,
    Heartbeat,
    Hello,
    Items,
    Key,
    Nack,
    Reject,
    Welcome,
)
from twinsync.session.verdicts import verdict_of
from twinsync.session.window import Window

HEARTBEAT_MIN_NS = 100 * MILLISECOND_NS


class EdgeState(Enum):
    """Where the session stands."""

    DISCONNECTED = auto()
    HELLO_SENT = auto()
    OPEN = auto()
    REJECTED = auto()
    CLOSED = auto()


@dataclass(frozen=True, slots=True)
class LinkUp:
    """The stream is open; `hello` is what the gateway has to say."""

    hello: Hello


@dataclass(frozen=True, slots=True)
class LinkDown:
    """The stream is gone."""


@dataclass(frozen=True, slots=True)
class Appended:
    """The spool has new items."""


@dataclass(frozen=True, slots=True)
class Pulled:
    """The answer to `Pull` of the same generation; no items means that nothing waits."""

    generation: int
    items: tuple[Item, ...]


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed."""


EdgeEvent = LinkUp | LinkDown | Appended | Pulled | Tick | Welcome | Reject | Committed | Nack | Directive | Heartbeat

TRANSITIONS: Mapping[EdgeState, Mapping[type[EdgeEvent], EdgeState]] = {
    EdgeState.DISCONNECTED: {LinkUp: EdgeState.HELLO_SENT},
    EdgeState.HELLO_SENT: {Welcome: EdgeState.OPEN, Reject: EdgeState.REJECTED},
    EdgeState.OPEN: {
        Committed: EdgeState.OPEN,
        Nack: EdgeState.OPEN,
        Directive: EdgeState.OPEN,
        Heartbeat: EdgeState.OPEN,
        Appended: EdgeState.OPEN,
        Pulled: EdgeState.OPEN,
        Reject: EdgeState.REJECTED,
    },
    EdgeState.REJECTED: {},
    EdgeState.CLOSED: {},
}
"""What may happen in a state and where it leads. LinkDown always leads to DISCONNECTED, Tick stays or closes."""

_LOCAL = (Appended, Pulled, Tick, LinkDown)


@dataclass(frozen=True, slots=True)
class Send:
    """Write this message."""

    message: Hello | Items


@dataclass(frozen=True, slots=True)
class SendCatalogue:
    """Write the catalogue of this digest."""

    digest: bytes


@dataclass(frozen=True, slots=True)
class Beat:
    """Write a heartbeat with what runs and what waits."""

    session: int


@dataclass(frozen=True, slots=True)
class Pull:
    """Read unacknowledged items that lie at or behind `after`, most urgent first, and answer with `Pulled`.

    At least one item is returned when one waits, be it larger than `bytes_max`.
    """

    generation: int
    after: tuple[Mark, ...]
    bytes_max: int
    items_max: int


@dataclass(frozen=True, slots=True)
class Acknowledge:
    """The coordinator holds everything below these marks."""

    marks: tuple[Mark, ...]


@dataclass(frozen=True, slots=True)
class Rewind:
    """SERVER_REGRESSED: the coordinator lost what it had confirmed beyond these marks; take the tail back."""

    marks: tuple[Mark, ...]


@dataclass(frozen=True, slots=True)
class Compare:
    """As `Rewind`, for streams the spool did not list: where it has acknowledged more, it takes the tail back."""

    marks: tuple[Mark, ...]


@dataclass(frozen=True, slots=True)
class Established:
    """The session is open."""

    session: int
    server_ns: int


@dataclass(frozen=True, slots=True)
class Progressed:
    """The peer did something useful: a retry loop may start from its shortest delay again."""


@dataclass(frozen=True, slots=True)
class Close:
    """Drop the link; come back not before `wait_ns`.

    Attributes:
        needs_operator: no retry will help until a person has acted; retries go on, seldom.
    """

    reason: str
    detail: str
    wait_ns: int
    needs_operator: bool


EdgeAction = Send | SendCatalogue | Beat | Pull | Acknowledge | Rewind | Compare | Established | Progressed | Close


@dataclass(frozen=True, slots=True)
class EdgeLimits:
    """Patience of the gateway."""

    hello_timeout_ns: int = 10 * SECOND_NS
    progress_timeout_ns: int = 10 * SECOND_NS
    stalls_max: int = 3
    silence_heartbeats_max: int = 3


class EdgeSession:
    """One gateway's sessions with its coordinator, one after the other.

    Attributes:
        acked: marks the coordinator confirmed; LinkDown keeps them, so that a coordinator that comes back with less
            is found out even where the spool has nothing left to send.
    """

    def __init__(self, edge_limits: EdgeLimits = EdgeLimits()) -> None:
        self.limits = edge_limits
        self.state = EdgeState.DISCONNECTED
        self.acked: dict[Key, int] = {}
        self._reset()

    def _reset(self) -> None:
        self.session = 0
        self.window = Window()
        self._hello: Hello | None = None
        self._schemas: set[bytes] = set()
        self._pulling = self._dry = self._news = False
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
            if isinstance(event, _LOCAL) or self.state in (EdgeState.REJECTED, EdgeState.CLOSED):
                return []
            return self._close("PROTOCOL_VIOLATION", f"{type(event).__name__} while {self.state.name}")
        self.state = following
        if not isinstance(event, _LOCAL):
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
        return min(due)

    def _dispatch(self, event: EdgeEvent, now_ns: int) -> list[EdgeAction]:
        actions: list[EdgeAction] = []
        match event:
            case LinkUp():
                actions = self._greet(event.hello, now_ns)
            case Welcome():
                actions = self._open(event, now_ns)
            case Committed():
                self.window.grant(event.credit_bytes, event.credit_items)
                actions = [*self._advance(event.marks, now_ns), *self._pull()]
            case Nack():
                actions = self._go_back(event.expected, now_ns)
            case Reject():
                verdict = verdict_of(event.reason)
                wait_ns = max(verdict.wait_ns, event.retry_after_ns)
                actions = [Close(event.reason, event.detail, wait_ns, verdict.needs_operator)]
            case Appended():
                self._dry, self._news = False, True
                actions = self._pull()
            case Pulled():
                actions = self._forward(event, now_ns)
            case Heartbeat():
                actions = [Progressed()]
        return actions

    def _greet(self, hello: Hello, now_ns: int) -> list[EdgeAction]:
        self._hello = hello
        self._schemas = set(hello.schemas)
        self.acked.update({(r.boot, r.stream): r.first_unacked for r in hello.ranges})
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
        self.window.fall_back(key)
        self._dry = False
        return actions + self._pull()

    def _pull(self) -> list[EdgeAction]:
        room_bytes, room_items = self.window.room()
        if self._pulling or self._dry or room_items <= 0 or room_bytes <= 0:
            return []
        self._pulling, self._news = True, False
        return [Pull(self.window.generation, self.window.ahead(), room_bytes, room_items)]

    def _forward(self, pulled: Pulled, now_ns: int) -> list[EdgeAction]:
        self._pulling = False
        if pulled.generation != self.window.generation:
            return self._pull()
        self._dry = not pulled.items and not self._news
        if not self.window.items:
            self._progress_ns = now_ns
        chosen = self.window.launch(pulled.items)
        if not chosen:
            return [] if pulled.items else self._pull()
        actions: list[EdgeAction] = []
        for item in chosen:
            if isinstance(item.content, Block) and item.content.schema not in self._schemas:
                self._schemas.add(item.content.schema)
                actions.append(SendCatalogue(item.content.schema))
        return [*actions, Send(Items(self.session, chosen)), *self._pull()]

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
            self.window.fall_back()
            self._dry = False
            actions += self._pull()
        return actions

    def _close(self, reason: str, detail: str) -> list[EdgeAction]:
        self.state = EdgeState.CLOSED
        verdict = verdict_of(reason)
        return [Close(reason, detail, verdict.wait_ns, verdict.needs_operator)]
