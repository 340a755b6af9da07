"""What the coordinator's side of a session takes and asks for: states, events, actions, and which may follow which."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto

from twinmodel.clock import SECOND_NS
from twinmodel.signal import Catalogue
from twinsync import limits
from twinsync.command import Command, CommandConfirmed, CommandState
from twinsync.directive import Directive, DirectiveState
from twinsync.item import Item, Mark
from twinsync.session.messages import Coarsen, Down, Heartbeat, Hello, Items, Part, Rejected

PARTS_PROTOCOL = 3
"""The version that brought parts, counts of received bytes and wishes."""

COMMANDS_PROTOCOL = 4
"""The version that brought commands."""


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
class Ordered:
    """A command to deliver, or that the end of one is held."""

    message: Command | CommandConfirmed


@dataclass(frozen=True, slots=True)
class Wished:
    """A wish for a coarser period to deliver."""

    coarsen: Coarsen


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed."""

    wall_ns: int


ServerEvent = (
    Hello
    | Catalogue
    | Items
    | Part
    | DirectiveState
    | CommandState
    | Heartbeat
    | Granted
    | Refused
    | Stored
    | Regrant
    | Desired
    | Ordered
    | Wished
    | Tick
)

TRANSITIONS: Mapping[ServerState, Mapping[type[ServerEvent], ServerState]] = {
    ServerState.WAITING_HELLO: {Hello: ServerState.OPENING, Refused: ServerState.CLOSED},
    ServerState.OPENING: {Granted: ServerState.OPEN, Refused: ServerState.CLOSED},
    ServerState.OPEN: {
        Catalogue: ServerState.OPEN,
        Items: ServerState.OPEN,
        Part: ServerState.OPEN,
        DirectiveState: ServerState.OPEN,
        CommandState: ServerState.OPEN,
        Heartbeat: ServerState.OPEN,
        Stored: ServerState.OPEN,
        Regrant: ServerState.OPEN,
        Desired: ServerState.OPEN,
        Ordered: ServerState.OPEN,
        Wished: ServerState.OPEN,
        Refused: ServerState.CLOSED,
    },
    ServerState.CLOSED: {},
}
"""What may happen in a state and where it leads; Tick stays or closes."""

LOCAL = (Granted, Refused, Stored, Regrant, Desired, Ordered, Wished, Tick)
"""Events of the coordinator itself that come when they come: out of place they change nothing."""


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
    """Keep the outcome of a directive, or a step of a command."""

    state: DirectiveState | CommandState


@dataclass(frozen=True, slots=True)
class Note:
    """Keep what the gateway says of itself."""

    heartbeat: Heartbeat


@dataclass(frozen=True, slots=True)
class Send:
    """Write this message."""

    message: Down


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
    boots_max: int = limits.HELLO_BOOTS_MAX
    ranges_max: int = limits.HELLO_RANGES_MAX
    schemas_max: int = 1024
    overuse_max: int = 4
