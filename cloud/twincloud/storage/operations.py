"""Operations in the database: asked once, claimed under a lease, taken up again when a worker is gone.

    queued ─claim─▶ running ─finish─▶ done | failed | cancelled
      │   ▲            │
      │   └─release────┤ the lease lapses: the next claim takes it up, at most ATTEMPTS_MAX times
      └─cancel─▶ cancelled

The same question has one operation: who asks it again is given the one that works on it, or has the answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import RowMapping, and_, bindparam, delete, func, insert, or_, select, update

from twincloud.storage.contract import Page
from twincloud.storage.models import check_tenant
from twincloud.storage.packing import pack, unpack
from twincloud.storage.paging import page_of, place_of
from twincloud.storage.part import NUMBERS, News, Part, limited, record, take_numbers
from twincloud.storage.records_operations import (
    CANCELLED,
    DONE,
    FAILED,
    OPEN,
    QUEUED,
    RUNNING,
    Failure,
    Json,
    Operation,
    Question,
)
from twincloud.storage.schema_operations import operations as o
from twinmodel.clock import SECOND_NS
from twinmodel.errors import InputError, MissingError, UnreachableError

OPEN_MAX = 32
"""Operations of one tenant that wait or run."""
KEPT_MAX = 1_000
"""Operations of one tenant that have ended."""
KEPT_NS = 30 * 86_400 * SECOND_NS
"""How long an answer is given to who asks the same again."""
ATTEMPTS_MAX = 3
REQUEST_BYTES_MAX = 1 << 16
RESULT_BYTES_MAX = 4 << 20


class OperationStore(Part):
    """Keeps operations; see `Operations`."""

    def ask(self, tenant: str, question: Question, *, by: str, now_ns: int) -> Operation:
        """See `Operations.ask`."""
        request = pack(dict(question.request))
        if len(request) > REQUEST_BYTES_MAX:
            raise InputError("LIMIT_EXCEEDED", f"the request has {len(request)} bytes, at most {REQUEST_BYTES_MAX}")
        with self._database.write(tenant) as connection:
            check_tenant(connection, tenant)
            same = {"tenant": tenant, "digest": question.digest, "kind": question.kind, "since_ns": now_ns - KEPT_NS}
            known = connection.execute(_SAME, same).mappings().first() if question.digest else None
            if known is not None:
                return _operation(known, cached=True)
            if connection.execute(_OPEN, {"tenant": tenant}).scalar_one() >= OPEN_MAX:
                raise UnreachableError(
                    "RATE_LIMITED",
                    f"{OPEN_MAX} operations of tenant {tenant!r} wait or run already",
                    hint="wait for one of them, or cancel it; see `twinctl operation list`",
                )
            row = {
                "tenant": tenant, "number": take_numbers(connection, NUMBERS, 1), "kind": question.kind,
                "target": question.target, "digest": question.digest, "state": QUEUED, "progress_permille": 0,
                "request": request, "result": b"", "reason": "", "detail": "", "hint": "", "created_by": by,
                "created_ns": now_ns, "started_ns": 0, "ended_ns": 0, "worker": "", "lease_until_ns": 0,
                "attempts": 0, "cancelling": False,
            }  # fmt: skip
            connection.execute(insert(o), row)
            self._trim(connection, tenant)
            record(connection, [_news(row, now_ns)])
            return _operation(row)

    def operation(self, tenant: str, number: int) -> Operation:
        """See `Operations.operation`."""
        with self._database.read(tenant) as connection:
            return _operation(_found(connection.execute(_ONE, _key(tenant, number)).mappings().first(), number))

    def operations(
        self, tenant: str, *, kind: str = "", state: str = "", target: str = "", limit: int = 100, token: str = ""
    ) -> Page[Operation]:
        """See `Operations.operations`."""
        statement = select(o).where(o.c.tenant == tenant)
        for column, wanted in ((o.c.kind, kind), (o.c.state, state), (o.c.target, target)):
            if wanted:
                statement = statement.where(column == wanted)
        if token:
            statement = statement.where(o.c.number < place_of(token, int)[0])
        with self._database.read(tenant) as connection:
            rows = connection.execute(limited(statement.order_by(o.c.number.desc()), limit)).mappings().all()
        return page_of([_operation(row) for row in rows], limit, lambda one: (one.number,))

    def cancel_operation(self, tenant: str, number: int, now_ns: int) -> Operation:
        """See `Operations.cancel_operation`."""
        with self._database.write(tenant) as connection:
            row = _found(connection.execute(_LOCKED, _key(tenant, number)).mappings().first(), number)
            if row["state"] == QUEUED:
                changed: dict[str, object] = {"state": CANCELLED, "ended_ns": now_ns}
            elif row["state"] == RUNNING:
                changed = {"cancelling": True}
            else:
                return _operation(row)
            after: dict[str, Any] = {**row, **changed}
            connection.execute(_CHANGE, {**_of(row), **changed})
            record(connection, [_news(after, now_ns)])
            return _operation(after)

    def claim_operation(self, worker: str, kinds: tuple[str, ...], now_ns: int, lease_ns: int) -> Operation | None:
        """See `Operations.claim_operation`."""
        wanted = {"kinds": list(kinds), "now_ns": now_ns}
        with self._database.read() as connection:
            # Most looks find nothing: they shall not wait for those who write.
            if connection.execute(_WAITING, wanted).first() is None:
                return None
        with self._database.write() as connection:
            while (row := connection.execute(_NEXT, wanted).mappings().first()) is not None:
                changed: dict[str, object] = {
                    "state": RUNNING, "worker": worker, "lease_until_ns": now_ns + lease_ns, "started_ns": now_ns,
                    "attempts": row["attempts"] + 1, "progress_permille": 0,
                }  # fmt: skip
                if row["cancelling"]:
                    changed = {"state": CANCELLED, "ended_ns": now_ns}
                elif row["attempts"] >= ATTEMPTS_MAX:
                    detail = f"{ATTEMPTS_MAX} workers began and none came back"
                    hint = "ask for less at once; see the log of the coordinator"
                    changed = {"state": FAILED, "reason": "OPERATION_LOST", "detail": detail, "hint": hint}
                    changed["ended_ns"] = now_ns
                after = {**row, **changed}
                connection.execute(_CHANGE, {**_of(row), **changed})
                record(connection, [_news(after, now_ns)])
                if after["state"] == RUNNING:
                    return _operation(after)
        return None

    def beat_operation(self, operation: Operation, worker: str, progress: float, now_ns: int, lease_ns: int) -> bool:
        """See `Operations.beat_operation`."""
        said = {"progress_permille": round(1_000 * min(max(progress, 0.0), 1.0)), "lease_until_ns": now_ns + lease_ns}
        with self._database.write(operation.tenant) as connection:
            row = connection.execute(_LOCKED, _key(operation.tenant, operation.number)).mappings().first()
            if row is None or not _is_of(row, worker):
                return False
            connection.execute(_CHANGE, {**_of(row), **said})
            return not row["cancelling"]

    def finish_operation(self, operation: Operation, worker: str, outcome: Json | Failure | None, now_ns: int) -> bool:
        """See `Operations.finish_operation`."""
        changed: dict[str, object] = {"ended_ns": now_ns}
        if outcome is None:
            changed |= {"state": CANCELLED}
        elif isinstance(outcome, Failure):
            changed |= {"state": FAILED, "reason": outcome.reason, "detail": outcome.detail, "hint": outcome.hint}
        else:
            packed = pack(dict(outcome))
            if len(packed) > RESULT_BYTES_MAX:
                raise InputError("LIMIT_EXCEEDED", f"the result has {len(packed)} bytes, at most {RESULT_BYTES_MAX}")
            changed |= {"state": DONE, "result": packed, "progress_permille": 1_000}
        with self._database.write(operation.tenant) as connection:
            row = connection.execute(_LOCKED, _key(operation.tenant, operation.number)).mappings().first()
            if row is None or not _is_of(row, worker):
                return False
            connection.execute(_CHANGE, {**_of(row), **changed})
            record(connection, [_news({**row, **changed}, now_ns)])
            return True

    def release_operation(self, operation: Operation, worker: str) -> None:
        """See `Operations.release_operation`; the attempt does not count."""
        with self._database.write(operation.tenant) as connection:
            row = connection.execute(_LOCKED, _key(operation.tenant, operation.number)).mappings().first()
            if row is not None and _is_of(row, worker):
                attempts = max(row["attempts"] - 1, 0)
                changed = {"state": QUEUED, "worker": "", "lease_until_ns": 0, "attempts": attempts}
                connection.execute(_CHANGE, {**_of(row), **changed})

    def forget_operations(self, before_ns: int, limit: int) -> int:
        """See `Operations.forget_operations`."""
        with self._database.write() as connection:
            old = connection.execute(_OLD, {"before_ns": before_ns, "limit": limit}).mappings().all()
            if old:
                connection.execute(_DELETE, [_of(row) for row in old])
        return len(old)

    def _trim(self, connection: Any, tenant: str) -> None:
        """Deletes the oldest of a tenant that has asked for very much."""
        oldest = connection.execute(_BEYOND, {"tenant": tenant}).scalar()
        if oldest is not None:
            connection.execute(_DELETE_UNTIL, {"tenant": tenant, "number": oldest})


def _found(row: RowMapping | None, number: int) -> RowMapping:
    if row is None:
        raise MissingError("NOT_FOUND", f"no operation {number}", hint="see `twinctl operation list`")
    return row


def _is_of(row: RowMapping, worker: str) -> bool:
    return bool(row["state"] == RUNNING and row["worker"] == worker)


def _key(tenant: str, number: int) -> dict[str, object]:
    return {"tenant": tenant, "number": number}


def _of(row: Mapping[str, Any] | RowMapping) -> dict[str, Any]:
    return {"of_tenant": row["tenant"], "of_number": row["number"]}


def _news(row: Mapping[str, Any], now_ns: int) -> News:
    body: dict[str, object] = {"operation": row["number"], "kind": row["kind"], "state": row["state"]}
    return News(row["tenant"], "", "operation", str(row["number"]), now_ns, body)


def _operation(row: Mapping[str, Any] | RowMapping, *, cached: bool = False) -> Operation:
    facts = dict(row)
    for name in ("worker", "lease_until_ns"):
        del facts[name]
    result = facts.pop("result")
    progress = facts.pop("progress_permille") / 1_000
    return Operation(
        **{**facts, "request": unpack(facts["request"]), "cancelling": bool(facts["cancelling"])},
        result=unpack(result) if result else None,
        progress=progress,
        cached=cached,
    )


_SAME = (
    select(o)
    .where(
        o.c.tenant == bindparam("tenant"),
        o.c.digest == bindparam("digest"),
        o.c.kind == bindparam("kind"),
        or_(and_(o.c.state.in_(OPEN), o.c.cancelling.is_(False)), o.c.state == DONE),
        o.c.created_ns >= bindparam("since_ns"),
    )
    .order_by(o.c.number.desc())
    .limit(1)
)
_OPEN = select(func.count()).select_from(o).where(o.c.tenant == bindparam("tenant"), o.c.state.in_(OPEN))
_ONE = select(o).where(o.c.tenant == bindparam("tenant"), o.c.number == bindparam("number"))
_LOCKED = _ONE.with_for_update()
_CHANGE = update(o).where(o.c.tenant == bindparam("of_tenant"), o.c.number == bindparam("of_number"))
_CLAIMABLE = (
    o.c.kind.in_(bindparam("kinds", expanding=True)),
    or_(o.c.state == QUEUED, and_(o.c.state == RUNNING, o.c.lease_until_ns < bindparam("now_ns"))),
)
_WAITING = select(o.c.number).where(*_CLAIMABLE).limit(1)
# What another worker is claiming at this moment is passed over, where the engine has several writers.
_NEXT = select(o).where(*_CLAIMABLE).order_by(o.c.number).limit(1).with_for_update(skip_locked=True)
_ENDED = o.c.state.not_in(OPEN)
_OLD = select(o.c.tenant, o.c.number).where(_ENDED, o.c.ended_ns < bindparam("before_ns")).limit(bindparam("limit"))
_DELETE = delete(o).where(o.c.tenant == bindparam("of_tenant"), o.c.number == bindparam("of_number"))
_BEYOND = (
    select(o.c.number)
    .where(o.c.tenant == bindparam("tenant"), _ENDED)
    .order_by(o.c.number.desc())
    .offset(KEPT_MAX)
    .limit(1)
)
_DELETE_UNTIL = delete(o).where(o.c.tenant == bindparam("tenant"), _ENDED, o.c.number <= bindparam("number"))
