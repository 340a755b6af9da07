"""The part of the store contract that keeps commands."""

from __future__ import annotations

from typing import Protocol

from twincloud.storage.records import GatewayKey, Page, TwinKey
from twincloud.storage.records_commands import CommandRecord, Order, Targets
from twinsync.command import CommandState as GatewayWord


class Commands(Protocol):
    """What devices are told to do: issued by people, sent at most once, in the session that was open at their issue."""

    def issue_command(self, key: TwinKey, order: Order, *, by: str, now_ns: int) -> CommandRecord:
        """Takes a command, to be sent now or once enough others have approved it.

        What is refused although twin and gateway are known is kept as FAILED, so that people see who tried what.

        Raises:
            MissingError: UNKNOWN_TWIN, UNKNOWN_PROPERTY, UNKNOWN_SIGNAL, UNKNOWN_DEVICE.
            InputError: VALUE_INVALID, REQUEST_INVALID, UNIT_CLASH, UNIT_UNKNOWN, LIMIT_EXCEEDED.
            ConflictError: TWIN_UNREPORTED, TWIN_OUT_OF_SERVICE, NOT_WRITABLE, IDENTITY_FORK.
            UnreachableError: GATEWAY_OFFLINE, RATE_LIMITED.
        """
        ...

    def approve_command(self, key: TwinKey, command: str, *, by: str, now_ns: int) -> CommandRecord:
        """Adds an approval; the same person twice is no error and counts once.

        Raises:
            MissingError: NOT_FOUND.
            DeniedError: OWN_APPROVAL for who issued it.
            ConflictError: COMMAND_CLOSED when it waits for no approval.
        """
        ...

    def cancel_command(self, key: TwinKey, command: str, *, by: str, now_ns: int) -> CommandRecord:
        """Ends a command that was not sent; raises NOT_FOUND, COMMAND_CLOSED."""
        ...

    def command(self, key: TwinKey, command: str) -> CommandRecord:
        """One command with its steps; raises NOT_FOUND."""
        ...

    def commands_of(
        self, tenant: str, *, site: str = "", twin: str = "", state: str = "", limit: int = 100, token: str = ""
    ) -> Page[CommandRecord]:
        """Commands of a tenant with their steps, newest first; raises REQUEST_INVALID."""
        ...

    def commandables(self, key: TwinKey) -> Targets:
        """What the gateway of a twin lets be commanded; raises UNKNOWN_TWIN."""
        ...

    def due_commands(self, gateway: GatewayKey, session: int, now_ns: int) -> tuple[CommandRecord, ...]:
        """Commands to be sent in this session; SENT from this moment on, whatever becomes of the message."""
        ...

    def settle_command(self, gateway: GatewayKey, word: GatewayWord, now_ns: int) -> None:
        """Keeps a step that the gateway tells; the same one twice is no error. Raises NOT_FOUND."""
        ...

    def end_commands(self, gateway: GatewayKey, session: int, now_ns: int) -> None:
        """Ends what waits for this session, and what it has not answered: FAILED, or UNKNOWN when it was sent."""
        ...

    def sweep_commands(self, now_ns: int) -> int:
        """Ends commands whose deadline has passed or whose session is over; how many."""
        ...

    def forget_commands(self, before_ns: int, limit: int) -> int:
        """Deletes commands, and steps of the chain, that ended before a time; how many."""
        ...
