"""Commands in the database: issued once, sent at most once, ended by the gateway's word or by the clock.

    WAITING_APPROVAL ─approve─▶ PENDING ─due─▶ SENT ─▶ ACCEPTED ─▶ SUCCEEDED | FAILED
      │ cancelled, session over,  │              └──────┴─ no answer ─▶ UNKNOWN ─ the gateway's later word ─▶ either
      └ deadline: FAILED ─────────┘

A command belongs to the session that was open when it was issued. It is SENT in the transaction that hands it out, so
that after a crash it is UNKNOWN and never sent again.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import Connection, bindparam, func, insert, select

from twincloud.storage import schema as t
from twincloud.storage.command_part import COMMAND, IN_STATE, LATE, OVER, CommandPart
from twincloud.storage.command_rows import (
    APPROVED,
    CANCELLED,
    COORDINATOR,
    ISSUED,
    NOTHING,
    Row,
    add_step,
    ordered,
    records_of,
)
from twincloud.storage.contract import Page, TwinKey
from twincloud.storage.packing import pack, plain, unpack, unpack_binding, unpack_commandables
from twincloud.storage.paging import page_of, place_of
from twincloud.storage.part import limited
from twincloud.storage.readings import twin_row
from twincloud.storage.records_commands import OPEN, UNSENT, CommandRecord, CommandState, Order, Targets
from twincloud.storage.schema_commands import commands as c
from twincloud.storage.sessions import FORKED
from twincloud.storage.stamps import under
from twincloud.twins.commanding import Goal, approvals_for, check_limits, goal_of, targets_of
from twincloud.twins.lifecycle import State, check_changeable
from twinmodel.clock import MILLISECOND_NS, SECOND_NS
from twinmodel.errors import ConflictError, DeniedError, InputError, MissingError, TwinError, UnreachableError
from twinsync.limits import APPROVALS_MAX, ARGUMENTS_BYTES_MAX, COMMAND_MS_MAX

OPEN_MAX: Final = 32
"""Commands of one gateway that wait, are sent, or are being carried out."""
ISSUED_MAX: Final = 120
"""Commands of one gateway within `ISSUED_NS`, those that were refused too."""
ISSUED_NS: Final = 60 * SECOND_NS
WHY_CHARS_MAX: Final = 500

_ID_BYTES = 16


class CommandStore(CommandPart):
    """Keeps commands; see `Commands`."""

    def issue_command(self, key: TwinKey, order: Order, *, by: str, now_ns: int) -> CommandRecord:
        """See `Commands.issue_command`."""
        check_order(order)
        row: dict[str, Any] = {}
        try:
            with self._database.write(key.tenant) as connection:
                twin = twin_row(connection, key)
                self._check_room(connection, twin["gateway_id"], now_ns)
                row = _fresh(key, twin, order, by, now_ns)
                row |= self._resolved_order(connection, key, twin, order)
                self._start_clock(row["id"], order.for_ns)
                return self._put(connection, row)
        except (InputError, MissingError, ConflictError, DeniedError, UnreachableError) as error:
            if row:
                self._keep_refused(row, error, now_ns)
            raise

    def approve_command(self, key: TwinKey, command: str, *, by: str, now_ns: int) -> CommandRecord:
        """See `Commands.approve_command`."""
        with self._database.write(key.tenant) as connection:
            row = self._locked(connection, key, command)
            given = unpack(row["approved_by"])
            if by == row["issued_by"]:
                raise DeniedError("OWN_APPROVAL", f"{by!r} issued command {command}, and cannot approve it")
            if by in given:
                return records_of(connection, [row])[0]
            if row["state"] != CommandState.WAITING_APPROVAL:
                raise _closed(row, "approved")
            if not row["connected"] or row["session"] != row["gateway_session"]:
                raise ConflictError("COMMAND_SESSION_ENDED", f"command {command}: {OVER}")
            if self._left(row, now_ns) <= 0:
                raise ConflictError("COMMAND_LATE", f"command {command}: {LATE}")
            given.append(by)
            enough = len(given) >= row["approvals"]
            state = CommandState.PENDING if enough else CommandState.WAITING_APPROVAL
            row = self._change(connection, row, approved_by=pack(given), state=state)
            add_step(connection, row, APPROVED, now_ns, by)
            return records_of(connection, [row])[0]

    def cancel_command(self, key: TwinKey, command: str, *, by: str, now_ns: int) -> CommandRecord:
        """See `Commands.cancel_command`."""
        with self._database.write(key.tenant) as connection:
            row = self._locked(connection, key, command)
            if row["reason"] != "COMMAND_CANCELLED":
                if row["state"] not in UNSENT:
                    raise _closed(row, "cancelled")
                detail = f"{by} cancelled it before it was sent"
                row = self._end(
                    connection, row, CommandState.FAILED, "COMMAND_CANCELLED", detail, now_ns, by, step=CANCELLED
                )
            return records_of(connection, [row])[0]

    def command(self, key: TwinKey, command: str) -> CommandRecord:
        """See `Commands.command`."""
        with self._database.read(key.tenant) as connection:
            return records_of(connection, [self._locked(connection, key, command, lock=False)])[0]

    def commands_of(
        self, tenant: str, *, site: str = "", twin: str = "", state: str = "", limit: int = 100, token: str = ""
    ) -> Page[CommandRecord]:
        """See `Commands.commands_of`."""
        statement = COMMAND.where(c.c.tenant == tenant)
        for column, wanted in ((c.c.site, site), (c.c.twin, twin), (c.c.state, state)):
            if wanted:
                statement = statement.where(column == wanted)
        if token:
            statement = statement.where(c.c.number < place_of(token, int)[0])
        with self._database.read(tenant) as connection:
            rows = connection.execute(limited(statement.order_by(c.c.number.desc()), limit)).mappings().all()
            page = page_of(rows, limit, lambda row: (row["number"],))
            return Page(records_of(connection, page.items), page.next_token)

    def commandables(self, key: TwinKey) -> Targets:
        """See `Commands.commandables`."""
        with self._database.read(key.tenant) as connection:
            twin = twin_row(connection, key)
            gateway = connection.execute(_GATEWAY, {"of_gateway": twin["gateway_id"]}).one()
            catalogue = self._catalogue_by_id(connection, twin["schema_id"])
        told = unpack_commandables(gateway.commandables)
        found = targets_of(unpack_binding(twin["binding"]), catalogue, told)
        return Targets(twin["gateway"], bool(gateway.connected), told is not None, found)

    def _check_room(self, connection: Connection, gateway_id: int, now_ns: int) -> None:
        of = {"of_gateway": gateway_id, "states": list(OPEN), "since_ns": now_ns - ISSUED_NS}
        if connection.execute(_COUNT, of).scalar_one() >= OPEN_MAX:
            raise UnreachableError(
                "RATE_LIMITED",
                f"{OPEN_MAX} commands of this gateway are open already",
                hint="wait for one, or cancel it",
            )
        if connection.execute(_LATELY, of).scalar_one() >= ISSUED_MAX:
            raise UnreachableError("RATE_LIMITED", f"{ISSUED_MAX} commands were issued to this gateway within a minute")

    def _resolved_order(
        self, connection: Connection, key: TwinKey, twin: Mapping[Any, Any], order: Order
    ) -> dict[str, object]:
        """What goes over the wire, and in which session; what can be refused is refused here."""
        check_changeable(key.twin, State(twin["state"]), "properties")
        catalogue = self._catalogue_by_id(connection, twin["schema_id"])
        goal = goal_of(
            unpack_binding(twin["binding"]), catalogue, order.kind, order.property, order.target, order.arguments,
            order.unit,
        )  # fmt: skip
        self._check_definition(connection, key.tenant, twin["said"] or "", goal)
        gateway = connection.execute(_GATEWAY, {"of_gateway": twin["gateway_id"]}).one()
        if gateway.state == FORKED:
            raise ConflictError(
                "IDENTITY_FORK", f"two machines speak as gateway {twin['gateway']!r}: it is told nothing"
            )
        if not gateway.connected:
            raise UnreachableError(
                "GATEWAY_OFFLINE", f"gateway {twin['gateway']!r} has no open session: nothing was sent, nothing waits"
            )
        told = unpack_commandables(gateway.commandables)
        approvals = order.approvals if told is None else approvals_for(told, twin["gateway"], goal, order.approvals)
        arguments = pack(goal.arguments)
        return {
            "approvals": approvals,
            "state": CommandState.WAITING_APPROVAL if approvals else CommandState.PENDING,
            "property": goal.property, "target": goal.target, "arguments": arguments, "unit": goal.unit,
            "session": gateway.session,
        }  # fmt: skip

    def _check_definition(self, connection: Connection, tenant: str, definition: str, goal: Goal) -> None:
        if definition and goal.property:
            check_limits(self._definition_of(connection, tenant)(definition).properties.get(goal.property), goal)

    def _keep_refused(self, row: dict[str, Any], error: TwinError, now_ns: int) -> None:
        """Writes down who tried what; apart from any idempotency key: what was refused may be tried again."""
        row |= {
            "state": CommandState.FAILED,
            "reason": error.reason,
            "detail": plain(error.message),
            "ended_ns": now_ns,
        }
        with under(()), self._database.write(row["tenant"]) as connection:
            self._put(connection, row)

    def _put(self, connection: Connection, row: dict[str, Any]) -> CommandRecord:
        number = add_step(connection, row, ISSUED, row["issued_ns"], row["issued_by"], content=ordered(row))
        row["number"] = number
        connection.execute(insert(c), {column.name: row[column.name] for column in c.columns})
        if row["state"] == CommandState.FAILED:
            add_step(
                connection, row, CommandState.FAILED, row["ended_ns"], COORDINATOR, reason=row["reason"],
                detail=row["detail"],
            )  # fmt: skip
        return records_of(connection, [row])[0]

    def _locked(self, connection: Connection, key: TwinKey, command: str, *, lock: bool = True) -> Row:
        of = {"of_tenant": key.tenant, "of_site": key.site, "of_twin": key.twin, "of_id": command}
        row = connection.execute(_ONE_LOCKED if lock else _ONE, of).mappings().first()
        if row is None:
            raise MissingError(
                "NOT_FOUND", f"twin {key.twin!r} has no command {command!r}", hint="see `twinctl command list`"
            )
        return dict(row)


def check_order(order: Order) -> None:
    """Lets an order within the bounds of the wire pass.

    Raises:
        InputError: VALUE_INVALID, REQUEST_INVALID, LIMIT_EXCEEDED.
    """
    if not 0 < order.for_ns <= COMMAND_MS_MAX * MILLISECOND_NS:
        text = f"deadline_s: {order.for_ns / SECOND_NS:g} s is not within 0 to {COMMAND_MS_MAX // 1000} s"
        raise InputError("VALUE_INVALID", text, field="deadline_s")
    if not 0 <= order.approvals <= APPROVALS_MAX:
        text = f"approvals: {order.approvals} is not within 0 to {APPROVALS_MAX}"
        raise InputError("VALUE_INVALID", text, field="approvals")
    if len(order.why) > WHY_CHARS_MAX:
        raise InputError("LIMIT_EXCEEDED", f"why: it is longer than {WHY_CHARS_MAX} characters", field="why")
    try:
        size = len(pack(order.arguments))
    except (OverflowError, ValueError):
        raise InputError("VALUE_INVALID", "value: it is nothing that travels to a device", field="value") from None
    if size > ARGUMENTS_BYTES_MAX:
        raise InputError("LIMIT_EXCEEDED", f"the arguments have {size} bytes, at most {ARGUMENTS_BYTES_MAX}")


def _fresh(key: TwinKey, twin: Mapping[Any, Any], order: Order, by: str, now_ns: int) -> dict[str, Any]:
    return {
        "tenant": key.tenant, "id": secrets.token_hex(_ID_BYTES), "number": 0, "gateway_id": twin["gateway_id"],
        "gateway": twin["gateway"], "session": 0, "site": key.site, "twin": key.twin, "kind": int(order.kind),
        "property": plain(order.property), "target": plain(order.target), "arguments": pack(order.arguments),
        "unit": plain(order.unit), "why": plain(order.why), "approvals": order.approvals, "approved_by": pack([]),
        "issued_by": by,
        "state": CommandState.WAITING_APPROVAL if order.approvals else CommandState.PENDING, "reason": "", "detail": "",
        "read_back": NOTHING, "answered": 0, "issued_ns": now_ns, "deadline_ns": now_ns + order.for_ns, "sent_ns": 0,
        "ended_ns": 0,
    }  # fmt: skip


def _closed(row: Row, what: str) -> ConflictError:
    return ConflictError(
        "COMMAND_CLOSED", f"command {row['id']} is {row['state']}: it cannot be {what} any more", state=row["state"]
    )


_GATEWAY = select(t.gateways.c.session, t.gateways.c.connected, t.gateways.c.state, t.gateways.c.commandables).where(
    t.gateways.c.id == bindparam("of_gateway")
)
_ONE = COMMAND.where(
    c.c.tenant == bindparam("of_tenant"),
    c.c.site == bindparam("of_site"),
    c.c.twin == bindparam("of_twin"),
    c.c.id == bindparam("of_id"),
)
_ONE_LOCKED = _ONE.with_for_update(of=c)
_COUNT = select(func.count()).select_from(c).where(*IN_STATE)
_LATELY = (
    select(func.count())
    .select_from(c)
    .where(c.c.gateway_id == bindparam("of_gateway"), c.c.issued_ns > bindparam("since_ns"))
)
