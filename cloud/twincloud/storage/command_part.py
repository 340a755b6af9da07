"""What all that changes commands shares: their rows, their clocks, and how they end without the gateway's word."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import Connection, bindparam, select, update

from twincloud.storage import schema as t
from twincloud.storage.command_rows import COORDINATOR, Row, add_step
from twincloud.storage.contract import GatewayKey
from twincloud.storage.definitions import DefinitionStore
from twincloud.storage.records_commands import UNANSWERED, CommandState
from twincloud.storage.schema_commands import commands as c
from twinmodel.clock import SECOND_NS

SKEW_NS: Final = 5 * SECOND_NS
"""How far the clocks of coordinators may be apart; one from further in the future shows a clock that went back."""
LATE: Final = "its deadline passed before it was sent"
OVER: Final = "the session it was issued in is over"
SILENT: Final = {
    LATE: "it was sent, and the gateway has not said in time what became of it",
    OVER: "it was sent, and the session has ended before the gateway said what became of it",
}
_REASONS = {LATE: "COMMAND_LATE", OVER: "COMMAND_SESSION_ENDED"}

_ENDS_MAX = 10_000


class CommandPart(DefinitionStore):
    """Base of the parts of the store that keep commands."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # When each command issued here ends by the clock that nobody sets; written in write transactions alone.
        self._command_ends: dict[str, int] = {}

    def _start_clock(self, command: str, for_ns: int) -> None:
        if len(self._command_ends) >= _ENDS_MAX:
            self._command_ends.pop(next(iter(self._command_ends)))
        self._command_ends[command] = self._clock.boot_ns() + for_ns

    def _left(self, row: Row, now_ns: int) -> int:
        """What is left until a command's deadline, whatever became of the wall clock since."""
        if now_ns < row["issued_ns"] - SKEW_NS:
            return 0
        left_ns: int = row["deadline_ns"] - max(now_ns, row["issued_ns"])
        end_ns = self._command_ends.get(row["id"])
        return left_ns if end_ns is None else min(left_ns, end_ns - self._clock.boot_ns())

    def _give_up(self, connection: Connection, row: Row, why: str, now_ns: int) -> None:
        """Ends a command because of what has happened: OVER or LATE."""
        if row["state"] in UNANSWERED:
            self._end(connection, row, CommandState.UNKNOWN, "COMMAND_UNANSWERED", SILENT[why], now_ns)
        else:
            self._end(connection, row, CommandState.FAILED, _REASONS[why], why, now_ns)

    def _end(
        self,
        connection: Connection,
        row: Row,
        state: CommandState,
        reason: str,
        detail: str,
        now_ns: int,
        by: str = COORDINATOR,
        *,
        step: str = "",
    ) -> dict[str, Any]:
        """Ends a command without the gateway's word."""
        after = self._change(connection, row, state=state, reason=reason, detail=detail, ended_ns=now_ns)
        add_step(connection, after, step or state, now_ns, by, reason=reason, detail=detail)
        self._command_ends.pop(row["id"], None)
        return after

    def _change(self, connection: Connection, row: Row, **changed: object) -> dict[str, Any]:
        connection.execute(_CHANGE, {"of_tenant": row["tenant"], "of_id": row["id"], **changed})
        return {**row, **changed}

    def _commanded(self, gateway: GatewayKey) -> int:
        known = self._gateway_ids.get(gateway)
        if known is not None:
            return known
        with self._database.read(gateway.tenant) as connection:
            return self._gateway_id(connection, gateway)


COMMAND: Final = select(
    c, t.gateways.c.gateway, t.gateways.c.session.label("gateway_session"), t.gateways.c.connected,
    t.gateways.c.state.label("gateway_state"),
).join(t.gateways, t.gateways.c.id == c.c.gateway_id)  # fmt: skip
"""Commands with what is known of their gateway."""
IN_STATE: Final = (c.c.gateway_id == bindparam("of_gateway"), c.c.state.in_(bindparam("states", expanding=True)))
_CHANGE = update(c).where(c.c.tenant == bindparam("of_tenant"), c.c.id == bindparam("of_id"))
