"""What the uplink needs of the agent; everything that touches the spool is awaited, as the spool lives in a thread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from twinmodel.clock import ClockQuality
from twinmodel.signal import Catalogue
from twinsync.command import Command, Commandable, CommandConfirmed, CommandState
from twinsync.directive import Directive, DirectiveState, Running
from twinsync.item import Boot, Item, Mark, Range
from twinsync.session.messages import Coarsen


@dataclass(frozen=True, slots=True)
class HelloFacts:
    """What a session opens with.

    Attributes:
        boots: the boots of this disk that are kept, oldest first, the present one last. The more are named, the
            older a backup a coordinator may be restored from without taking this gateway for a clone.
        ranges: what is held unacknowledged.
        clock: how far the wall clock can be trusted.
        schemas: digests of the catalogues that unacknowledged blocks need, and last the present configuration's.
    """

    boots: tuple[Boot, ...]
    ranges: tuple[Range, ...]
    clock: ClockQuality
    schemas: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits for the coordinator; `oldest_ns` is the event time of its oldest sample, 0 for none."""

    bytes: int
    samples: int
    oldest_ns: int


class SpoolPort(Protocol):
    """The spool, as the uplink sees it; errors are StorageErrors and end the session, which is tried again."""

    async def hello_facts(self) -> HelloFacts:
        """See `HelloFacts`."""
        ...

    async def unsent(self, after: Sequence[Mark], bytes_max: int, items_max: int) -> Sequence[Item]:
        """Unacknowledged items that end at or behind their cursor, most urgent stream first, oldest boot first.

        Args:
            after: cursors of what is in flight; a (boot, stream) that is not named starts at its mark.
            bytes_max: size of the answer by `twinsync.session.messages.item_bytes`; one item may exceed it.
            items_max: items of the answer.
        """
        ...

    async def confirm_boot(self) -> None:
        """The coordinator has accepted the chain of boots up to the present one."""
        ...

    async def acknowledge(self, marks: Sequence[Mark]) -> None:
        """The coordinator holds everything below these marks."""
        ...

    async def rewind(self, marks: Sequence[Mark]) -> None:
        """The coordinator holds no more than this: unacknowledge what lies behind, declare a Gap where it is gone.

        A mark at or beyond what is acknowledged, or of an unknown (boot, stream), changes nothing.
        """
        ...

    async def catalogue(self, digest: bytes) -> Catalogue | None:
        """A catalogue that blocks of the spool name; None when it is not known."""
        ...

    async def coarsen(self, wish: Coarsen) -> None:
        """The coordinator can do without some samples of a stream, see `Coarsen`."""
        ...

    async def backlog(self) -> Backlog:
        """See `Backlog`."""
        ...


class DownlinkPort(Protocol):
    """The downlink, as the uplink sees it; calls come from the event loop and do not block."""

    def offer(self, directive: Directive) -> None:
        """Hands over a directive; the same one may come again."""
        ...

    def states(self) -> Sequence[DirectiveState]:
        """Outcomes the coordinator may not have yet, oldest first; they are told at the start of each session."""
        ...

    def running(self) -> tuple[Running, ...]:
        """The models that run now."""
        ...


class CommandPort(Protocol):
    """Who carries out commands, as the uplink sees it; calls come from the event loop and do not block."""

    def order(self, command: Command) -> None:
        """Hands over a command of the session that is open; each is sent once."""
        ...

    def confirmed(self, confirmed: CommandConfirmed) -> None:
        """The coordinator holds the end of a command."""
        ...

    def states(self) -> Sequence[CommandState]:
        """Ends the coordinator may not have yet, oldest first; they are told at the start of each session."""
        ...

    def commandables(self) -> tuple[Commandable, ...] | None:
        """What may be commanded, once after each call of `states` and where it changed since; else None."""
        ...

    def session_ended(self) -> None:
        """The session is over: what it ordered and nobody has begun must not be done any more."""
        ...
