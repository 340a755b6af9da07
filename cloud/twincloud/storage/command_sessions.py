"""Commands and sessions: sent at most once, in the session that was open at their issue, ended by answer or clock.

A command is SENT in the transaction that hands it out, so that after a crash it is UNKNOWN and never sent again.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import bindparam, delete, func, or_, select

from twincloud.storage import schema as t
from twincloud.storage.command_part import COMMAND, IN_STATE, LATE, OVER, SKEW_NS, CommandPart
from twincloud.storage.command_rows import COORDINATOR, Row, add_step, record_of
from twincloud.storage.contract import GatewayKey
from twincloud.storage.packing import pack, plain
from twincloud.storage.records_commands import OPEN, UNANSWERED, UNSENT, CommandRecord, CommandState
from twincloud.storage.schema_commands import command_steps as s
from twincloud.storage.schema_commands import commands as c
from twincloud.storage.sessions import FORKED
from twinmodel.clock import SECOND_NS
from twinmodel.errors import MissingError
from twinsync.command import CommandState as GatewayWord

KEPT_MAX: Final = 50_000
"""Commands of one tenant that are kept, whatever their age."""
KEPT_NS: Final = 400 * 86_400 * SECOND_NS
GRACE_NS: Final = 10 * SECOND_NS
"""How long after its deadline a command that was sent may be answered before it counts as UNKNOWN."""
STEPS_MAX: Final = 32
"""Steps of one command: a gateway that repeats itself fills no table."""
_LATE_MAX = 500


class CommandSessionStore(CommandPart):
    """Hands out and ends commands; see `Commands`."""

    def due_commands(self, gateway: GatewayKey, session: int, now_ns: int) -> tuple[CommandRecord, ...]:
        """See `Commands.due_commands`; none while the gateway is forked, or for an older session."""
        of = {"of_gateway": self._commanded(gateway), "states": [CommandState.PENDING]}
        with self._database.read(gateway.tenant) as connection:
            # Most looks find nothing: they shall not wait for those who write.
            if connection.execute(_ANY, of).first() is None:
                return ()
        found = []
        with self._database.write(gateway.tenant) as connection:
            for row in connection.execute(_OF_GATEWAY, of).mappings().all():
                if row["gateway_session"] != session or row["gateway_state"] == FORKED:
                    continue
                left_ns = self._left(row, now_ns)
                if row["session"] != session:
                    self._end(connection, row, CommandState.FAILED, "COMMAND_SESSION_ENDED", OVER, now_ns)
                elif left_ns <= 0:
                    self._end(connection, row, CommandState.FAILED, "COMMAND_LATE", LATE, now_ns)
                else:
                    sent = self._change(connection, row, state=CommandState.SENT, sent_ns=now_ns)
                    add_step(connection, sent, CommandState.SENT, now_ns, COORDINATOR)
                    found.append(record_of(sent, left_ns=left_ns))
        return tuple(found)

    def settle_command(self, gateway: GatewayKey, word: GatewayWord, now_ns: int) -> None:
        """See `Commands.settle_command`; a gateway's end stands, another one that it tells later is only written down.

        An end that the coordinator gave for want of an answer is replaced by the gateway's.
        """
        by = f"gateway {gateway.gateway}"
        asked = {"of_gateway": self._commanded(gateway), "of_id": word.id}
        with self._database.write(gateway.tenant) as connection:
            found = connection.execute(_SAID_OF, asked).mappings().first()
            if found is None:
                raise MissingError("NOT_FOUND", f"no command {word.id!r} of gateway {gateway.gateway!r}")
            row: Row = found
            said = {"reason": plain(word.reason), "detail": plain(word.detail)}
            told = connection.execute(_TOLD, {"of_tenant": gateway.tenant, "of_command": word.id}).all()
            if len(told) >= STEPS_MAX or (word.step.name, by, said["reason"]) in [tuple(one) for one in told]:
                return
            if not word.step.last:
                if row["state"] == CommandState.SENT:
                    row = self._change(connection, row, state=CommandState.ACCEPTED)
            elif not row["answered"] or row["state"] == CommandState.UNKNOWN:
                ended = {"state": CommandState(word.step.name), "answered": 1, "ended_ns": now_ns}
                row = self._change(connection, row, **said, **ended, read_back=pack(word.read_back))
                self._command_ends.pop(word.id, None)
            add_step(connection, row, word.step.name, now_ns, by, **said, content=pack(word.read_back))

    def end_commands(self, gateway: GatewayKey, session: int, now_ns: int) -> None:
        """See `Commands.end_commands`."""
        of = {"of_gateway": self._commanded(gateway), "states": list(OPEN)}
        with self._database.read(gateway.tenant) as connection:
            if connection.execute(_ANY, of).first() is None:
                return
        with self._database.write(gateway.tenant) as connection:
            for row in connection.execute(_OF_GATEWAY, of).mappings().all():
                if row["session"] == session:
                    self._give_up(connection, row, OVER, now_ns)

    def sweep_commands(self, now_ns: int) -> int:
        """See `Commands.sweep_commands`."""
        boot_ns = self._clock.boot_ns()
        late = [name for name, end_ns in list(self._command_ends.items()) if end_ns <= boot_ns][:_LATE_MAX]
        asked = {"now_ns": now_ns, "silent_ns": now_ns - GRACE_NS, "future_ns": now_ns + SKEW_NS, "late": late}
        with self._database.read() as connection:
            found = connection.execute(_SWEPT, asked).mappings().all()
            # Those that others have ended.
            for name in set(late) - {row["id"] for row in found}:
                self._command_ends.pop(name, None)
        if not found:
            return 0
        ended = 0
        with self._database.write() as connection:
            for row in connection.execute(_SWEPT, asked).mappings().all():
                over = row["session"] != row["gateway_session"] or not row["connected"]
                if over or self._is_silent(row, now_ns, boot_ns):
                    self._give_up(connection, row, OVER if over else LATE, now_ns)
                    ended += 1
        return ended

    def _is_silent(self, row: Row, now_ns: int, boot_ns: int) -> bool:
        """Whether nobody waits any longer for what was late: an answer has a while more than the sending."""
        if row["state"] in UNSENT or row["deadline_ns"] <= now_ns - GRACE_NS:
            return True
        return bool(self._command_ends.get(row["id"], boot_ns) <= boot_ns - GRACE_NS)

    def forget_commands(self, before_ns: int, limit: int) -> int:
        """See `Commands.forget_commands`; a chain is only ever cut at its old end."""
        with self._database.write() as connection:
            gone = 0
            for tenant in connection.execute(_TENANTS).scalars().all():
                of = {"of_tenant": tenant, "before_ns": before_ns, "limit": max(0, limit - gone)}
                many = connection.execute(_BEYOND, of).scalar() or 0
                kept = connection.execute(_FIRST_KEPT, {**of, "many": many}).scalar()
                last = kept if kept is not None else connection.execute(_NEWEST, of).scalar_one() + 1
                for table, rows in ((c, _OLD_COMMANDS), (s, _OLD_STEPS)):
                    doomed = connection.execute(rows, {**of, "last": last}).scalars().all()
                    if doomed:
                        connection.execute(delete(table).where(table.c.tenant == tenant, table.c.number.in_(doomed)))
                        gone += len(doomed)
        return gone


_ANY = select(c.c.id).where(*IN_STATE).limit(1)
_OF_GATEWAY = COMMAND.where(*IN_STATE).order_by(c.c.number).with_for_update(of=c)
_SAID_OF = COMMAND.where(c.c.gateway_id == bindparam("of_gateway"), c.c.id == bindparam("of_id")).with_for_update(of=c)
_TOLD = select(s.c.step, s.c.said_by, s.c.reason).where(
    s.c.tenant == bindparam("of_tenant"), s.c.command == bindparam("of_command")
)
_SWEPT = COMMAND.where(
    c.c.state.in_(OPEN),
    or_(
        c.c.state.in_(UNSENT) & (c.c.deadline_ns <= bindparam("now_ns")),
        c.c.state.in_(UNSENT) & (c.c.issued_ns > bindparam("future_ns")),
        c.c.state.in_(UNANSWERED) & (c.c.deadline_ns <= bindparam("silent_ns")),
        c.c.id.in_(bindparam("late", expanding=True)),
        t.gateways.c.session != c.c.session,
        t.gateways.c.connected.is_(False),
    ),
).order_by(c.c.number)
_OWN = c.c.tenant == bindparam("of_tenant")
_TENANTS = select(s.c.tenant).distinct()
_BEYOND = select(c.c.number).where(_OWN).order_by(c.c.number.desc()).offset(KEPT_MAX).limit(1)
_FIRST_KEPT = select(func.min(c.c.number)).where(
    _OWN,
    or_(
        c.c.state.in_(OPEN),
        (c.c.issued_ns >= bindparam("before_ns")) & (c.c.number > bindparam("many")),
    ),
)
_NEWEST = select(func.max(s.c.number)).where(s.c.tenant == bindparam("of_tenant"))
_OLD_COMMANDS = (
    select(c.c.number).where(_OWN, c.c.number < bindparam("last")).order_by(c.c.number).limit(bindparam("limit"))
)
_OLD_STEPS = (
    select(s.c.number)
    .where(s.c.tenant == bindparam("of_tenant"), s.c.number < bindparam("last"))
    .order_by(s.c.number)
    .limit(bindparam("limit"))
)
