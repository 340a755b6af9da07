"""What a stream of a gateway needs besides the store: directives and commands, and their ends."""

from __future__ import annotations

from typing import Protocol

from twincloud.storage.contract import GatewayKey
from twinsync.command import Command, CommandState
from twinsync.directive import Directive, DirectiveState


class DirectiveSource(Protocol):
    """Where directives wait for a gateway; both methods block and are called in a thread."""

    def waiting(self, gateway: GatewayKey) -> tuple[Directive, ...]:
        """Directives without an outcome, oldest first."""
        ...

    def settle(self, gateway: GatewayKey, state: DirectiveState) -> None:
        """Keeps an outcome; the same outcome twice is no error."""
        ...


class CommandSource(Protocol):
    """Where commands wait for the open session of a gateway; all methods block and are called in a thread."""

    def due(self, gateway: GatewayKey, session: int) -> tuple[Command, ...]:
        """Commands to send in this session; each is given out once, as sent."""
        ...

    def settle(self, gateway: GatewayKey, state: CommandState) -> None:
        """Keeps a step; the same step twice is no error. Raises MissingError for an unknown command."""
        ...

    def session_ended(self, gateway: GatewayKey, session: int) -> None:
        """Ends what was not sent in it, and what was sent and not answered is UNKNOWN from now on."""
        ...
