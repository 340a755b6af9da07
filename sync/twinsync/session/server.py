"""The coordinator's side of a session: events in, actions out, no clock and no I/O.

    WAITING_HELLO ──Hello──▶ OPENING ──Granted──▶ OPEN ──▶ CLOSED
                                │                            ▲
                                └──────────Refused───────────┘

Two rules. A mark leaves only in answer to `Stored`, which the driver raises after the database commit. Whatever the
gateway sends is checked against `TRANSITIONS`, the credit it was granted and the bounds of a message, before anything
is done with it.
"""

from __future__ import annotations

from dataclasses import replace

from twinmodel.signal import Catalogue
from twinsync import limits
from twinsync.command import CommandState
from twinsync.directive import DirectiveState
from twinsync.item import Block, Item, Mark
from twinsync.session.messages import (
    PROTOCOL,
    PROTOCOL_MIN,
    Committed,
    Heartbeat,
    Hello,
    Items,
    Nack,
    Part,
    Reject,
    Rejected,
    Welcome,
    item_bytes,
    part_bytes,
)
from twinsync.session.server_events import (
    COMMANDS_PROTOCOL,
    LOCAL,
    PARTS_PROTOCOL,
    TRANSITIONS,
    Close,
    Credit,
    Desired,
    Established,
    Granted,
    Keep,
    Note,
    Open,
    Ordered,
    Refused,
    Regrant,
    Send,
    ServerAction,
    ServerEvent,
    ServerLimits,
    ServerState,
    Settle,
    Store,
    Stored,
    Tick,
    Wished,
)

__all__ = [
    "TRANSITIONS",
    "Close",
    "Credit",
    "Desired",
    "Established",
    "Granted",
    "Keep",
    "Note",
    "Open",
    "Ordered",
    "Refused",
    "Regrant",
    "Send",
    "ServerAction",
    "ServerEvent",
    "ServerLimits",
    "ServerSession",
    "ServerState",
    "Settle",
    "Store",
    "Stored",
    "Tick",
    "Wished",
]


class ServerSession:
    """One stream as the coordinator sees it."""

    def __init__(self, now_ns: int, server_limits: ServerLimits | None = None) -> None:
        self._limits = server_limits or ServerLimits()
        self.state = ServerState.WAITING_HELLO
        self.session = 0
        self._protocol = PROTOCOL
        self.waiting_bytes = 0
        self.waiting_items = 0
        self._received = 0
        self._parts: dict[int, tuple[Item, int, list[bytes]]] = {}
        self._parts_bytes = 0
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
            if isinstance(event, LOCAL) or self.state is ServerState.CLOSED:
                return []
            return self._refuse("PROTOCOL_VIOLATION", f"{type(event).__name__} while {self.state.name}")
        self.state = following
        if not isinstance(event, LOCAL):
            self._heard_ns = now_ns
        return self._sent(self._dispatch(event), now_ns)

    @property
    def paused(self) -> bool:
        """Whether the gateway was last told to pause."""
        return self.state is ServerState.OPEN and not self._granted.bytes

    @property
    def takes_commands(self) -> bool:
        """Whether the agent knows what a command is."""
        return self._protocol >= COMMANDS_PROTOCOL

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
            case Items() | Part():
                actions = self._count(event)
            case DirectiveState() | CommandState():
                actions = [Settle(event)]
            case Heartbeat() if event.session != self.session:
                actions = self._refuse("PROTOCOL_VIOLATION", f"heartbeat of session {event.session}")
            case Heartbeat():
                actions = [Note(event)]
            case Stored():
                actions = self._acknowledge(event)
            case Regrant():
                self._grant(event.credit)
                actions = [self._tell()]
            case Desired() | Ordered() | Wished():
                actions = self._deliver(event)
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

    def _deliver(self, event: Desired | Ordered | Wished) -> list[ServerAction]:
        if isinstance(event, Desired):
            return [Send(event.directive)]
        # An older agent would not know what is meant, and end the session.
        if isinstance(event, Ordered):
            return [Send(event.message)] if self.takes_commands else []
        return [Send(event.coarsen)] if self._protocol >= PARTS_PROTOCOL else []

    def _count(self, message: Items | Part) -> list[ServerAction]:
        if isinstance(message, Part):
            self._received += part_bytes(message)
            return self._join(message)
        self._received += sum(map(item_bytes, message.items))
        return self._take(message)

    def _take(self, message: Items) -> list[ServerAction]:
        if message.session != self.session:
            return self._refuse("PROTOCOL_VIOLATION", f"items of session {message.session}, not {self.session}")
        count = len(message.items)
        if not 1 <= count <= limits.ITEMS_PER_MESSAGE_MAX:
            return self._refuse("LIMIT_EXCEEDED", f"{count} items, at most {limits.ITEMS_PER_MESSAGE_MAX}")
        size = sum(item_bytes(item) for item in message.items)
        self.waiting_bytes += size
        self.waiting_items += count
        items_max = self._limits.overuse_max * self._window.items + limits.ITEMS_PER_MESSAGE_MAX
        if self.waiting_bytes > self._bytes_max() or self.waiting_items > items_max:
            return self._refuse("LIMIT_EXCEEDED", "more was sent than the credit allows")
        return [Store(self.session, message.items, size)]

    def _join(self, part: Part) -> list[ServerAction]:
        """Puts a divided block together; each part is acknowledged as received, the whole as committed."""
        if part.session != self.session:
            return self._refuse("PROTOCOL_VIOLATION", f"a part of session {part.session}, not {self.session}")
        if part.item is not None:
            self._forget_parts(part.lane)
            self._parts[part.lane] = (part.item, part.total, [])
        item, total, pieces = self._parts.get(part.lane, (None, 0, []))
        have = sum(map(len, pieces))
        if item is None or not isinstance(item.content, Block) or (have, total) != (part.offset, part.total):
            return self._refuse("PROTOCOL_VIOLATION", f"a part at {part.offset} of lane {part.lane}, not at {have}")
        pieces.append(part.piece)
        self._parts_bytes += len(part.piece)
        if self.waiting_bytes + self._parts_bytes > self._bytes_max():
            return self._refuse("LIMIT_EXCEEDED", "more was sent than the credit allows")
        if have + len(part.piece) < total:
            return [self._tell()]
        self._forget_parts(part.lane)
        whole = replace(item, content=replace(item.content, payload=b"".join(pieces)))
        return [self._tell(), *self._take(Items(self.session, (whole,)))]

    def _forget_parts(self, lane: int) -> None:
        _, _, pieces = self._parts.pop(lane, (None, 0, ()))
        self._parts_bytes -= sum(map(len, pieces))

    def _tell(self, marks: tuple[Mark, ...] = (), rejected: tuple[Rejected, ...] = ()) -> Send:
        return Send(Committed(marks, self._granted.bytes, self._granted.items, rejected, self._received))

    def _bytes_max(self) -> int:
        # One message more than the window is always fine: a single item may be larger than what was granted.
        return self._limits.overuse_max * self._window.bytes + self._limits.message_bytes_max

    def _acknowledge(self, stored: Stored) -> list[ServerAction]:
        self.waiting_bytes -= stored.bytes
        self.waiting_items -= stored.items
        self._grant(stored.credit)
        actions: list[ServerAction] = [self._tell(stored.marks, stored.rejected)]
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
            return [Send(Heartbeat(self.session, tick.wall_ns)), self._tell()]
        return []

    def _refuse(self, reason: str, detail: str, retry_after_ns: int = 0) -> list[ServerAction]:
        self.state = ServerState.CLOSED
        return [Send(Reject(reason, detail, retry_after_ns)), Close(reason, detail)]

    def _sent(self, actions: list[ServerAction], now_ns: int) -> list[ServerAction]:
        if any(isinstance(action, Send) for action in actions):
            self._spoke_ns = now_ns
        return actions
