"""The commands of each gateway as messages of its session, and their steps back into the store."""

from __future__ import annotations

from twincloud.storage.contract_commands import Commands
from twincloud.storage.records import GatewayKey
from twinmodel.clock import Clock
from twinsync.command import Command, CommandState


class CommandDesk:
    """Hands commands out and settles them; blocking, so call it in a thread."""

    def __init__(self, store: Commands, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def due(self, gateway: GatewayKey, session: int) -> tuple[Command, ...]:
        """Commands to send in this session; each is given out once, as sent."""
        return tuple(
            Command(
                one.id, session, one.kind, one.target, one.arguments, one.left_ns, one.issued_ns, one.issued_by,
                one.approved_by,
            )
            for one in self._store.due_commands(gateway, session, self._clock.wall_ns())
        )  # fmt: skip

    def settle(self, gateway: GatewayKey, state: CommandState) -> None:
        """Keeps a step; the same step twice is no error.

        Raises:
            MissingError: the store knows no such command of this gateway.
            StorageError: the store refuses; the gateway tells the step again in its next session.
        """
        self._store.settle_command(gateway, state, self._clock.wall_ns())

    def session_ended(self, gateway: GatewayKey, session: int) -> None:
        """Ends what was not sent in it, and what was sent and not answered is UNKNOWN from now on."""
        self._store.end_commands(gateway, session, self._clock.wall_ns())
