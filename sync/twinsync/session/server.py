"""The coordinator's side of a session: events in, actions out, no clock and no I/O.

    WAITING_HELLO ──Hello──▶ OPENING ──Granted──▶ OPEN ──▶ CLOSED
                                │                            ▲
                                └──────────Refused───────────┘

Two rules. A mark leaves only in answer to `Stored`, which the driver raises after the database commit. Whatever the
gateway sends is checked against `TRANSITIONS`, the credit it was granted and the bounds of a message, before anything
is done with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto

from twinmodel.clock import SECOND_NS
from twinmodel.signal import Catalogue
from twinsync import limits
from twinsync.directive import Directive, DirectiveState
from twinsync.item import Item, Mark
from twinsync.session.messages import (
    PROTOCOL,
    PROTOCOL_MIN,
    Committed,
    Heartbeat,
    Hello,
    Items,
    Nack,
    Reject,
    Rejected,
    Welcome,
    item_bytes,
)


class ServerState(Enum):
    """Where the session stands."""

    WAITING_HELLO = auto()
    OPENING = auto()
    OPEN = auto()
    CLOSED = auto()


@dataclass(frozen=True, slots=True)
class Credit:
    """What a gateway may have in flight; (0, 0) pauses it."""

    bytes: int
    items: int


@dataclass(frozen=True, slots=True)
class Granted:
    """The store has opened the session."""

    session: int
    marks: tuple[Mark, ...]
    missing_schemas: tuple[bytes, ...]
    credit: Credit
    wall_ns: int


@dataclass(frozen=True, slots=True)
class Refused:
    """The session must end: the store, the operator or the service says so."""

    reason: str
    detail: str
    retry_after_ns: int = 0


@dataclass(frozen=True, slots=True)
class Stored:
    """The commit of earlier `Store` actions, `bytes` and `items` of them, is durable."""

    marks: tuple[Mark, ...]
    rejected: tuple[Rejected, ...]
    nack: Mark | None
    bytes: int
    items: int
    credit: Credit


@dataclass(frozen=True, slots=True)
class Regrant:
    """The load of the coordinator has changed: grant this credit from now on."""

    credit: Credit


@dataclass(frozen=True, slots=True)
class Desired:
    """A directive to deliver."""

    directive: Directive


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed."""

    wall_ns: int


ServerEvent = (
    Hello | Catalogue | Items | DirectiveState | Heartbeat | Granted | Refused | Stored | Regrant | Desired | Tick
)

TRANSITIONS: Mapping[ServerState, Mapping[type[ServerEvent], ServerState]] = {
    ServerState.WAITING_HELLO: {Hello: ServerState.OPENING, Refused: ServerState.CLOSED},
    ServerState.OPENING: {Granted: ServerState.OPEN, Refused: ServerState.CLOSED},
    ServerState.OPEN: {
        Catalogue: ServerState.OPEN,
        Items: ServerState.OPEN,
        DirectiveState: ServerState.OPEN,
        Heartbeat: ServerState.OPEN,
        Stored: ServerState.OPEN,
        Regrant: ServerState.OPEN,
        Desired: ServerState.OPEN,
        Refused: ServerState.CLOSED,
    },
    ServerState.CLOSED: {},
}
"""What may happen in a state and where it leads; Tick stays or closes."""

_LOCAL = (Granted, Refused, Stored, Regrant, Desired, Tick)


@dataclass(frozen=True, slots=True)
class Open:
    """Ask the store for a session; answer with `Granted` or `Refused`."""

    hello: Hello


@dataclass(frozen=True, slots=True)
class Keep:
    """Keep a catalogue, before any item that follows it."""

    catalogue: Catalogue


@dataclass(frozen=True, slots=True)
class Store:
    """Commit these items; answer with `Stored`."""

    session: int
    items: tuple[Item, ...]
    bytes: int


@dataclass(frozen=True, slots=True)
class Settle:
    """Keep the outcome of a directive."""

    state: DirectiveState


@dataclass(frozen=True, slots=True)
class Note:
    """Keep what the gateway says of itself."""

    heartbeat: Heartbeat


@dataclass(frozen=True, slots=True)
class Send:
    """Write this message."""

    message: Welcome | Reject | Committed | Nack | Directive | Heartbeat


@dataclass(frozen=True, slots=True)
class Established:
    """The session is open; deliver its directives, cut the one before it."""

    session: int


@dataclass(frozen=True, slots=True)
class Close:
    """End the stream once what was sent before is written."""

    reason: str
    detail: str


ServerAction = Open | Keep | Store | Settle | Note | Send | Established | Close


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """Patience of the coordinator and bounds of one stream.

    Attributes:
        overuse_max: how often the granted window may be in flight: a gateway that goes back to its oldest
            unacknowledged item sends the window again while the first copy still waits here.
    """

    hello_timeout_ns: int = 6 * SECOND_NS
    heartbeat_ns: int = 5 * SECOND_NS
    silence_heartbeats_max: int = 3
    message_bytes_max: int = limits.MESSAGE_BYTES_MAX
    boots_max: int = 4096
    ranges_max: int = 4096
    schemas_max: int = 1024
    overuse_max: int = 4


class ServerSession:
    """One stream as the coordinator sees it."""

    def __init__(self, now_ns: int, server_limits: ServerLimits = ServerLimits()) -> None:
        self._limits = server_limits
        self.state = ServerState.WAITING_HELLO
        self.session = 0
        self._protocol = PROTOCOL
        self.waiting_bytes = 0
        self.waiting_items = 0
        self._window = Credit(0, 0)
        self._granted = Credit(0, 0)
        self._since_ns = now_ns
        self._heard_ns = now_ns
        self._spoke_ns = now_ns

    def receive(self, event: ServerEvent, now_ns: int) -> list[ServerAction]:
        """Takes one event at boot time `now_ns` and returns what is to be done, in order."""
        if isinstance(event, Tick):
            return self._sent(self._tick(event, now_ns), now_ns)
        following = TRANSITIONS[self.state].get(type(event))
        if following is None:
            if isinstance(event, _LOCAL) or self.state is ServerState.CLOSED:
                return []
            return self._refuse("PROTOCOL_VIOLATION", f"{type(event).__name__} while {self.state.name}")
        self.state = following
        if not isinstance(event, _LOCAL):
            self._heard_ns = now_ns
        return self._sent(self._dispatch(event), now_ns)

    @property
    def paused(self) -> bool:
        """Whether the gateway was last told to pause."""
        return self.state is ServerState.OPEN and not self._granted.bytes

    def deadline_ns(self) -> int | None:
        """Boot time at which a `Tick` is due, None when nothing is awaited."""
        if self.state is ServerState.WAITING_HELLO:
            return self._since_ns + self._limits.hello_timeout_ns
        if self.state is ServerState.OPEN:
            return min(self._spoke_ns + self._limits.heartbeat_ns, self._silence_ns())
        return None

    def _dispatch(self, event: ServerEvent) -> list[ServerAction]:
        actions: list[ServerAction] = []
        match event:
            case Hello():
                actions = self._greet(event)
            case Granted():
                actions = self._open(event)
            case Refused():
                actions = self._refuse(event.reason, event.detail, event.retry_after_ns)
            case Catalogue():
                actions = [Keep(event)]
            case Items():
                actions = self._take(event)
            case DirectiveState():
                actions = [Settle(event)]
            case Heartbeat() if event.session != self.session:
                actions = self._refuse("PROTOCOL_VIOLATION", f"heartbeat of session {event.session}")
            case Heartbeat():
                actions = [Note(event)]
            case Stored():
                actions = self._acknowledge(event)
            case Regrant():
                self._grant(event.credit)
                actions = [Send(Committed((), event.credit.bytes, event.credit.items))]
            case Desired():
                actions = [Send(event.directive)]
        return actions

    def _greet(self, hello: Hello) -> list[ServerAction]:
        self._protocol = min(PROTOCOL, hello.protocol_max)
        if self._protocol < max(PROTOCOL_MIN, hello.protocol_min):
            spoken = f"{hello.protocol_min} to {hello.protocol_max}, the coordinator {PROTOCOL_MIN} to {PROTOCOL}"
            return self._refuse("UPGRADE_REQUIRED", f"the agent speaks protocol {spoken}")
        bounds = (
            ("boots", len(hello.boots), self._limits.boots_max),
            ("ranges", len(hello.ranges), self._limits.ranges_max),
            ("schemas", len(hello.schemas), self._limits.schemas_max),
        )
        for name, count, count_max in bounds:
            if count > count_max:
                return self._refuse("LIMIT_EXCEEDED", f"hello.{name}: {count}, at most {count_max}")
        if not hello.boots:
            return self._refuse("PROTOCOL_VIOLATION", "hello.boots: is empty")
        return [Open(hello)]

    def _open(self, granted: Granted) -> list[ServerAction]:
        self.session = granted.session
        self._grant(granted.credit)
        welcome = Welcome(
            self._protocol,
            granted.session,
            granted.marks,
            granted.credit.bytes,
            granted.credit.items,
            granted.wall_ns,
            granted.missing_schemas,
            self._limits.message_bytes_max,
            self._limits.heartbeat_ns,
        )
        return [Send(welcome), Established(granted.session)]

    def _take(self, message: Items) -> list[ServerAction]:
        if message.session != self.session:
            return self._refuse("PROTOCOL_VIOLATION", f"items of session {message.session}, not {self.session}")
        count = len(message.items)
        if not 1 <= count <= limits.ITEMS_PER_MESSAGE_MAX:
            return self._refuse("LIMIT_EXCEEDED", f"{count} items, at most {limits.ITEMS_PER_MESSAGE_MAX}")
        size = sum(item_bytes(item) for item in message.items)
        self.waiting_bytes += size
        self.waiting_items += count
        # One message more than the window is always fine: a single item may be larger than what was granted.
        bytes_max = self._limits.overuse_max * self._window.bytes + self._limits.message_bytes_max
        items_max = self._limits.overuse_max * self._window.items + limits.ITEMS_PER_MESSAGE_MAX
        if self.waiting_bytes > bytes_max or self.waiting_items > items_max:
            return self._refuse("LIMIT_EXCEEDED", "more was sent than the credit allows")
        return [Store(self.session, message.items, size)]

    def _acknowledge(self, stored: Stored) -> list[ServerAction]:
        self.waiting_bytes -= stored.bytes
        self.waiting_items -= stored.items
        self._grant(stored.credit)
        committed = Committed(stored.marks, stored.credit.bytes, stored.credit.items, stored.rejected)
        actions: list[ServerAction] = [Send(committed)]
        if stored.nack is not None:
            actions.append(Send(Nack(stored.nack)))
        return actions

    def _grant(self, credit: Credit) -> None:
        self._granted = credit
        # What is in flight was sent under the widest window granted so far.
        self._window = Credit(max(self._window.bytes, credit.bytes), max(self._window.items, credit.items))

    def _silence_ns(self) -> int:
        return self._heard_ns + self._limits.silence_heartbeats_max * self._limits.heartbeat_ns

    def _tick(self, tick: Tick, now_ns: int) -> list[ServerAction]:
        if self.state is ServerState.WAITING_HELLO and now_ns - self._since_ns >= self._limits.hello_timeout_ns:
            return self._refuse("PROTOCOL_VIOLATION", "no Hello in time")
        if self.state is not ServerState.OPEN:
            return []
        if now_ns >= self._silence_ns():
            return self._refuse("RETRY_AFTER", "the gateway fell silent")
        if now_ns - self._spoke_ns >= self._limits.heartbeat_ns:
            # The credit is told again, so that a pause whose end got lost does not last.
            credit = Committed((), self._granted.bytes, self._granted.items)
            return [Send(Heartbeat(self.session, tick.wall_ns)), Send(credit)]
        return []

    def _refuse(self, reason: str, detail: str, retry_after_ns: int = 0) -> list[ServerAction]:
        self.state = ServerState.CLOSED
        return [Send(Reject(reason, detail, retry_after_ns)), Close(reason, detail)]

    def _sent(self, actions: list[ServerAction], now_ns: int) -> list[ServerAction]:
        if any(isinstance(action, Send) for action in actions):
            self._spoke_ns = now_ns
        return actions
