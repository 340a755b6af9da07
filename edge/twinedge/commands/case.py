"""One command under way, from its acceptance to its end."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from twinedge.commands import guard
from twinedge.commands.book import Entry
from twinedge.ports import Writer
from twinmodel.clock import MILLISECOND_NS, Clock
from twinmodel.errors import ConflictError
from twinsync.command import Arguments, CommandState, CommandStep, Value

_WHY = {
    "COMMAND_SESSION_ENDED": "the session it was sent in has ended",
    "COMMAND_SUPERSEDED": "another command for the same point took its place",
    "COMMAND_NOT_ALLOWED": "the configuration was changed meanwhile, and has other rules for it",
}


@dataclass(slots=True)
class Case:
    """What is known of it while it is open.

    Attributes:
        order: what is to be done.
        entry: as the ledger has it, or will.
        over: set when its session has ended, or another command took its place.
        why: reason of `over`.
        sent: whether the device may have been told.
    """

    order: guard.Order
    entry: Entry
    over: asyncio.Event = field(default_factory=asyncio.Event)
    why: str = ""
    sent: bool = False

    @property
    def id(self) -> str:
        """Name of the command."""
        return self.order.command.id

    @property
    def target(self) -> str:
        """What it is for."""
        return self.order.rule.target

    @property
    def about(self) -> Mapping[str, Value]:
        """What a device may be told beside the value."""
        return {"id": self.id, "issued": self.order.command.issued_ns // MILLISECOND_NS}

    def end(self, why: str) -> None:
        """Has it end as soon as it can; what was sent stays sent."""
        self.why = self.why or why
        self.over.set()

    def check(self) -> None:
        """Raises ConflictError COMMAND_SESSION_ENDED, COMMAND_SUPERSEDED or COMMAND_NOT_ALLOWED once it is over."""
        if self.why:
            text = _WHY.get(self.why, "it is over")
            raise ConflictError(self.why, f"{self.target}: {text}", value=self.order.command.session)

    def state(
        self, step: CommandStep, at_ns: int, reason: str = "", detail: str = "", read_back: Arguments = None
    ) -> CommandState:
        """A step of it."""
        return CommandState(self.id, step, reason, detail, read_back, at_ns)


@dataclass(frozen=True, slots=True)
class Way:
    """How a device is reached: the driver that can tell it something, and the connection whose turn it takes."""

    writer: Writer
    connection: str


class Permission:
    """The permit of one call: passes as long as session, deadline and interlocks do, and takes note that it passed."""

    def __init__(self, case: Case, facts: guard.Facts, clock: Clock) -> None:
        self._case, self._facts, self._clock = case, facts, clock

    def __call__(self) -> None:
        """See `twinedge.ports.Permit`."""
        self._case.check()
        guard.may_go(self._case.order, self._facts, self._clock.boot_ns())
        self._case.sent = True
