"""What the gateway's side of a session takes and asks for: states, events, actions, and which may follow which."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto

from twinmodel.clock import SECOND_NS
from twinsync.command import Command, CommandConfirmed
from twinsync.directive import Directive
from twinsync.item import Item, Mark
from twinsync.session.messages import Coarsen, Committed, Heartbeat, Hello, Items, Nack, Part, Reject, Welcome


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


EdgeEvent = (
    LinkUp
    | LinkDown
    | Appended
    | Pulled
    | Tick
    | Welcome
    | Reject
    | Committed
    | Nack
    | Directive
    | Heartbeat
    | Coarsen
    | Command
    | CommandConfirmed
)

TRANSITIONS: Mapping[EdgeState, Mapping[type[EdgeEvent], EdgeState]] = {
    EdgeState.DISCONNECTED: {LinkUp: EdgeState.HELLO_SENT},
    EdgeState.HELLO_SENT: {Welcome: EdgeState.OPEN, Reject: EdgeState.REJECTED},
    EdgeState.OPEN: {
        Committed: EdgeState.OPEN,
        Nack: EdgeState.OPEN,
        Directive: EdgeState.OPEN,
        Heartbeat: EdgeState.OPEN,
        Coarsen: EdgeState.OPEN,
        Command: EdgeState.OPEN,
        CommandConfirmed: EdgeState.OPEN,
        Appended: EdgeState.OPEN,
        Pulled: EdgeState.OPEN,
        Reject: EdgeState.REJECTED,
    },
    EdgeState.REJECTED: {},
    EdgeState.CLOSED: {},
}
"""What may happen in a state and where it leads. LinkDown always leads to DISCONNECTED, Tick stays or closes."""

LOCAL = (Appended, Pulled, Tick, LinkDown)
"""Events of the gateway itself that come when they come: out of place they change nothing."""


@dataclass(frozen=True, slots=True)
class Send:
    """Write this message."""

    message: Hello | Items | Part


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
