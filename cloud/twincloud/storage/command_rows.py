"""Rows of commands and of the chain of their steps, as records, and how the chain is linked.

    digest of a step = SHA-256 (digest of the tenant's step before it, and every column of its own)

Who changes a row, or takes one out of the middle, breaks the chain there: `twincloud db verify` names the place.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias

from sqlalchemy import Connection, RowMapping, bindparam, insert, select

from twincloud.storage.contract import GatewayKey, TwinKey
from twincloud.storage.packing import pack, unpack
from twincloud.storage.part import NUMBERS, News, record, take_numbers
from twincloud.storage.records_commands import CommandRecord, CommandState, StepRecord
from twincloud.storage.schema_commands import command_steps as s
from twincloud.storage.schema_commands import commands as c
from twinsync.command import CommandKind

ISSUED, APPROVED, CANCELLED = "ISSUED", "APPROVED", "CANCELLED"
COORDINATOR = "coordinator"
NOTHING = pack(None)
Row: TypeAlias = Mapping[str, Any] | RowMapping
_COLUMNS = ("tenant", "number", "command", "step", "at_ns", "said_by", "reason", "detail", "content")


def link(previous: bytes, row: Row) -> bytes:
    """The digest of a step that follows one with the digest `previous`, b"" for the first one."""
    return hashlib.sha256(pack([previous, *(row[name] for name in _COLUMNS)])).digest()


def add_step(
    connection: Connection,
    row: Row,
    step: str,
    at_ns: int,
    by: str,
    *,
    reason: str = "",
    detail: str = "",
    content: bytes = NOTHING,
) -> int:
    """Writes the next step of a command, and rings for it; gives its number.

    Args:
        connection: of the transaction that changes the command.
        row: the command as it is after the step; `number` may be missing before the first one.
        step: what happened.
        at_ns: when.
        by: who did it or said so.
        reason: UPPER_SNAKE, "" for none.
        detail: one sentence.
        content: packed: what was ordered, or read back.
    """
    # The number first: whoever has it is the only one who writes to the chain.
    number = take_numbers(connection, NUMBERS, 1)
    fresh = {
        "tenant": row["tenant"], "number": number, "command": row["id"], "step": step, "at_ns": at_ns, "said_by": by,
        "reason": reason, "detail": detail, "content": content,
    }  # fmt: skip
    previous = connection.execute(_LAST, {"of_tenant": row["tenant"]}).scalar() or b""
    connection.execute(insert(s), {**fresh, "digest": link(bytes(previous), fresh)})
    body: dict[str, object] = {"command": row["id"], "state": row["state"], "reason": row["reason"]}
    record(connection, [News(row["tenant"], row["site"], "command", row["twin"], at_ns, body)])
    return number


def ordered(row: Row) -> bytes:
    """What the first step of a command says of it."""
    names = ("site", "twin", "session", "kind", "property", "target", "arguments", "unit", "why", "approvals")
    return pack({name: row[name] for name in (*names, "deadline_ns")})


def records_of(connection: Connection, rows: Iterable[Row]) -> tuple[CommandRecord, ...]:
    """Commands with their steps; each row has `gateway` beside its columns."""
    rows = list(rows)
    found: dict[str, list[StepRecord]] = {row["id"]: [] for row in rows}
    if rows:
        asked = {"of_tenant": rows[0]["tenant"], "ids": list(found)}
        for step in connection.execute(_STEPS, asked):
            back = None if step.step == ISSUED else unpack(step.content)
            found[step.command].append(
                StepRecord(step.number, step.step, step.at_ns, step.said_by, step.reason, step.detail, _tuple(back))
            )
    return tuple(record_of(row, tuple(found[row["id"]])) for row in rows)


def record_of(row: Row, steps: tuple[StepRecord, ...] = (), left_ns: int = 0) -> CommandRecord:
    """A command; its row has `gateway` beside its columns."""
    same = ("number", "id", "session", "property", "target", "unit", "why", "approvals", "issued_by", "reason",
            "detail", "issued_ns", "deadline_ns", "sent_ns", "ended_ns")  # fmt: skip
    return CommandRecord(
        **{name: row[name] for name in same},
        key=TwinKey(row["tenant"], row["site"], row["twin"]),
        gateway=GatewayKey(row["tenant"], row["site"], row["gateway"]),
        kind=CommandKind(row["kind"]),
        arguments=_tuple(unpack(row["arguments"])),
        approved_by=tuple(unpack(row["approved_by"])),
        state=CommandState(row["state"]),
        read_back=_tuple(unpack(row["read_back"])),
        steps=steps,
        left_ns=left_ns,
    )


def broken_links(connection: Connection) -> Iterator[str]:
    """A line for each place where a chain does not hold, and for each command that is not as it was issued."""
    tenant, previous = None, b""
    for row in connection.execute(_CHAIN).mappings():
        first = row["tenant"] != tenant
        # What came before the oldest step that is kept is gone: its own digest has to be taken as it is.
        if not first and bytes(row["digest"]) != link(previous, row):
            yield f"step {row['number']} of command {row['command']} of tenant {row['tenant']}: the chain breaks here"
        tenant, previous = row["tenant"], bytes(row["digest"])
    for row in connection.execute(_FIRSTS).mappings():
        if bytes(row["content"]) != ordered(row):
            yield f"command {row['id']} of tenant {row['tenant']}: it is not as it was issued"


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


_LAST = select(s.c.digest).where(s.c.tenant == bindparam("of_tenant")).order_by(s.c.number.desc()).limit(1)
_STEPS = (
    select(s)
    .where(s.c.tenant == bindparam("of_tenant"), s.c.command.in_(bindparam("ids", expanding=True)))
    .order_by(s.c.number)
)
_CHAIN = select(s).order_by(s.c.tenant, s.c.number).execution_options(yield_per=256)
_FIRSTS = (
    select(c, s.c.content)
    .join(s, (s.c.tenant == c.c.tenant) & (s.c.number == c.c.number))
    .order_by(c.c.tenant, c.c.number)
    .execution_options(yield_per=256)
)
