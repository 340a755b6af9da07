"""The messages of a session as plain records, and the size both ends count credit in."""

from __future__ import annotations

from dataclasses import dataclass

from twinmodel.clock import ClockQuality
from twinmodel.signal import Catalogue, Stream
from twinsync.command import Command, Commandable, CommandConfirmed, CommandState
from twinsync.directive import Directive, DirectiveState, Running
from twinsync.item import Block, Boot, Item, Mark, Range

PROTOCOL = 4
"""The newest protocol version this build speaks, an agent the only one.

2 brought blocks of version 2; 3 large items in parts, the count of received bytes, and coarser periods on request; 4
commands, and directives that say themselves what is desired.
"""

PROTOCOL_MIN = 1
"""The oldest version a coordinator of this build understands."""

_ITEM_OVERHEAD_BYTES = 128
_PART_OVERHEAD_BYTES = 32

PART_LANES_MAX = 16
"""Items of one session that may be on their way in parts at the same time."""

Key = tuple[bytes, Stream]
"""A numbered stream: (boot, stream)."""


def item_bytes(item: Item) -> int:
    """What an item counts against the credit: an upper bound of its size on the wire."""
    content = item.content
    if isinstance(content, Block):
        return _ITEM_OVERHEAD_BYTES + len(content.payload) + len(content.kept)
    return _ITEM_OVERHEAD_BYTES * 5


@dataclass(frozen=True, slots=True)
class Hello:
    """What a gateway says of itself; `ranges` is what it holds unacknowledged.

    Attributes:
        boots: from the last boot the coordinator confirmed to the present one, oldest first.
        schemas: digests of the catalogues that unacknowledged blocks and the present configuration need.
    """

    protocol_min: int
    protocol_max: int
    agent_version: str
    boots: tuple[Boot, ...]
    ranges: tuple[Range, ...]
    wall_ns: int
    boot_ns: int
    clock: ClockQuality
    running: tuple[Running, ...]
    schemas: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Welcome:
    """A session granted.

    Attributes:
        session: fencing token.
        marks: high-water marks of the boots named in Hello.
        credit_bytes, credit_items: what may be sent and not yet committed at any time; 0 pauses.
        missing_schemas: catalogues to send before anything else.
        heartbeat_ns: distance of heartbeats of both sides.
    """

    protocol: int
    session: int
    marks: tuple[Mark, ...]
    credit_bytes: int
    credit_items: int
    server_ns: int
    missing_schemas: tuple[bytes, ...]
    message_bytes_max: int
    heartbeat_ns: int


@dataclass(frozen=True, slots=True)
class Reject:
    """A session refused or ended by the coordinator, with its reason."""

    reason: str
    detail: str
    retry_after_ns: int


@dataclass(frozen=True, slots=True)
class Items:
    """Several items at once, each in the order of its (boot, stream)."""

    session: int
    items: tuple[Item, ...]


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a block that is too large to be sent at once: more urgent items travel between two of its parts.

    Attributes:
        lane: which of several divided items it belongs to; parts of one lane come in order.
        item: with the first part, the item with an empty payload.
        offset: place of `piece` in the payload; 0 starts anew and drops what the lane held before.
        total: bytes of the whole payload.
    """

    session: int
    lane: int
    item: Item | None
    offset: int
    total: int
    piece: bytes


def part_bytes(part: Part) -> int:
    """What a part counts in `Committed.received`."""
    return (_ITEM_OVERHEAD_BYTES if part.item is not None else _PART_OVERHEAD_BYTES) + len(part.piece)


@dataclass(frozen=True, slots=True)
class Rejected:
    """An item that was committed as a dead letter."""

    boot: bytes
    stream: Stream
    first_seq: int
    reason: str


@dataclass(frozen=True, slots=True)
class Committed:
    """Marks are sent only after the database commit; the credit replaces the one granted before.

    Attributes:
        received: bytes of items and parts received in this session so far, committed or not; the gateway paces
            itself by them.
    """

    marks: tuple[Mark, ...]
    credit_bytes: int
    credit_items: int
    rejected: tuple[Rejected, ...] = ()
    received: int = 0


@dataclass(frozen=True, slots=True)
class Nack:
    """An item came out of order: go back to `expected`."""

    expected: Mark


@dataclass(frozen=True, slots=True)
class Coarsen:
    """A wish: of signals of this stream that no model uses, send at most one sample in each `period_ns`.

    It replaces the wish before it for the same stream and signal, 0 ends it. A session begins with all that hold; those
    of the session before it are over then. Alarms are never made coarser.

    Attributes:
        until_ns: server time at which it ends by itself, 0 for never.
        signal: the only signal it is for, which wins over a wish for the whole stream; "" for all.
    """

    stream: Stream
    period_ns: int
    until_ns: int
    signal: str = ""


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """A sign of life; from the gateway with what runs and what waits.

    Attributes:
        commandables: what may be commanded, where that is news; None for none.
    """

    session: int
    wall_ns: int
    running: tuple[Running, ...] = ()
    backlog_bytes: int = 0
    backlog_samples: int = 0
    oldest_ns: int = 0
    commandables: tuple[Commandable, ...] | None = None


Up = Hello | Catalogue | Items | Part | DirectiveState | Heartbeat | CommandState
Down = Welcome | Reject | Committed | Nack | Directive | Heartbeat | Coarsen | Command | CommandConfirmed
