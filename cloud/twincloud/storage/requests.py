"""Requests that are carried out once, however often they are sent: keys, who carries them out, and what was answered.

    claim ─▶ OPEN ─ a change is committed ─▶ CHANGED ─ answered ─▶ ANSWERED ─ a day ─▶ forgotten
              │ refused: forgotten                └─ crash: ANSWER_LOST
              └ crash: after `LEASE_NS` the next one may carry it out

Keys count per tenant and answers in bytes are bounded.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, bindparam, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from twincloud.storage.packing import pack, unpack
from twincloud.storage.part import Part, Recent
from twincloud.storage.records_requests import Answer, Claim
from twincloud.storage.schema_requests import requests
from twincloud.storage.stamps import ANSWERED, OPEN
from twinmodel.clock import SECOND_NS
from twinmodel.errors import ConflictError, InputError, UnreachableError

KEPT_NS = 86_400 * SECOND_NS
LEASE_NS = 60 * SECOND_NS
KEYS_MAX = 10_000
BODY_BYTES_MAX = 32 << 10
_RECOUNT = 100
_PRUNED_MAX = 50
_TENANTS_MAX = 1_000


class RequestStore(Part):
    """Keeps requests; see `Requests`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # How many more keys a tenant may take before they are counted again: counting takes longer than claiming.
        self._key_room: Recent[str, int] = Recent(_TENANTS_MAX)

    def claim_request(self, claim: Claim, fingerprint: bytes, now_ns: int) -> Answer | None:
        """See `Requests.claim_request`."""
        of = {"of_tenant": claim.tenant, "of_digest": claim.digest}
        with self._database.write(claim.tenant) as connection:
            row = connection.execute(_FIND, of).mappings().first()
            fresh = {
                "fingerprint": fingerprint, "owner": claim.owner, "state": OPEN,
                "status": 0, "headers": b"", "body": None,
                "lease_ns": now_ns + LEASE_NS, "until_ns": now_ns + KEPT_NS,
            }  # fmt: skip
            if row is None:
                self._make_room(connection, claim.tenant, now_ns)
                self._insert(connection, {"tenant": claim.tenant, "digest": claim.digest, **fresh})
                return None
            if row["until_ns"] > now_ns:
                _check_same(row["fingerprint"], fingerprint)
                if row["state"] == ANSWERED and row["body"] is not None:
                    headers = tuple((bytes(name), bytes(text)) for name, text in unpack(row["headers"]))
                    return Answer(row["status"], headers, row["body"])
                _check_free(row["state"], row["lease_ns"], now_ns)
            taken = connection.execute(_TAKE, {**of, "of_owner": row["owner"], **fresh})
            if taken.rowcount != 1:
                raise _in_progress()
            return None

    def keep_answer(self, claim: Claim, answer: Answer, now_ns: int) -> None:
        """See `Requests.keep_answer`."""
        body = answer.body if len(answer.body) <= BODY_BYTES_MAX else None
        kept = {"state": ANSWERED, "status": answer.status, "headers": pack(answer.headers), "body": body}
        with self._database.write(claim.tenant) as connection:
            connection.execute(_TAKE, {**_of(claim), **kept, "until_ns": now_ns + KEPT_NS})

    def release_request(self, claim: Claim) -> None:
        """See `Requests.release_request`."""
        with self._database.write(claim.tenant) as connection:
            connection.execute(_RELEASE, _of(claim))

    def _insert(self, connection: Connection, row: dict[str, object]) -> None:
        try:
            with connection.begin_nested():
                connection.execute(insert(requests), row)
        except IntegrityError:
            raise _in_progress() from None  # another replica was first, this very moment

    def _make_room(self, connection: Connection, tenant: str, now_ns: int) -> None:
        doomed = connection.execute(_OVER, {"of_tenant": tenant, "now_ns": now_ns}).scalars().all()
        if doomed:
            connection.execute(_FORGET, {"of_tenant": tenant, "digests": doomed})
        room = self._key_room.get(tenant) or 0
        if room <= 0:
            room = min(_RECOUNT, KEYS_MAX - int(connection.execute(_COUNT, {"of_tenant": tenant}).scalar_one()))
        if room <= 0:
            raise UnreachableError(
                "RATE_LIMITED",
                f"tenant {tenant!r} used {KEYS_MAX} idempotency keys within a day",
                hint="send conditional requests (If-Match) instead: they need no key",
            )
        self._key_room.put(tenant, room - 1)


def _of(claim: Claim) -> dict[str, object]:
    return {"of_tenant": claim.tenant, "of_digest": claim.digest, "of_owner": claim.owner}


def _check_same(kept: bytes, fingerprint: bytes) -> None:
    if bytes(kept) != fingerprint:
        raise InputError("KEY_REUSED", "Idempotency-Key: it was used for a request with another body or query")


def _check_free(state: int, lease_ns: int, now_ns: int) -> None:
    if state == ANSWERED:
        raise ConflictError("ANSWER_LOST", "the request was carried out; its answer was too large to be kept")
    if state != OPEN and lease_ns <= now_ns:
        raise ConflictError(
            "ANSWER_LOST", "a change of this request is committed, but the coordinator stopped before it answered"
        )
    if lease_ns > now_ns:
        raise _in_progress()


def _in_progress() -> ConflictError:
    return ConflictError("IN_PROGRESS", "the same request is being carried out at this moment")


_MINE = (requests.c.tenant == bindparam("of_tenant"), requests.c.digest == bindparam("of_digest"))
_OWNED = (*_MINE, requests.c.owner == bindparam("of_owner"))
_FIND = select(requests).where(*_MINE)
_TAKE = update(requests).where(*_OWNED)
_RELEASE = delete(requests).where(*_OWNED, requests.c.state == OPEN)
_COUNT = select(func.count()).select_from(requests).where(requests.c.tenant == bindparam("of_tenant"))
_OVER = (
    select(requests.c.digest)
    .where(requests.c.tenant == bindparam("of_tenant"), requests.c.until_ns <= bindparam("now_ns"))
    .order_by(requests.c.until_ns)
    .limit(_PRUNED_MAX)
)
_FORGET = delete(requests).where(
    requests.c.tenant == bindparam("of_tenant"), requests.c.digest.in_(bindparam("digests", expanding=True))
)
