"""Marks, in the very transaction that makes a change, the keys of the requests that asked for it.

Whoever carries out a request under an Idempotency-Key does so within `under(claims)`; every write transaction of that
context then says of the key that a change is committed. So a crash between the change and its answer is known for what
it is: the key says "done, answer lost" when the transaction was committed, and is free again when it was not. A claim
that another took over meanwhile rolls the transaction back.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextvars import ContextVar

from sqlalchemy import Connection, bindparam, update

from twincloud.storage.records_requests import Claim
from twincloud.storage.schema_requests import requests
from twinmodel.errors import ConflictError

OPEN, CHANGED, ANSWERED = 0, 1, 2
"""States of a request: claimed, a change of it is committed, its answer is kept."""

_CLAIMS: ContextVar[tuple[Claim, ...]] = ContextVar("claims", default=())


def current() -> tuple[Claim, ...]:
    """Claims of this context."""
    return _CLAIMS.get()


@contextlib.contextmanager
def under(claims: Sequence[Claim]) -> Iterator[None]:
    """Lets the write transactions of a context stand for these claims alone."""
    token = _CLAIMS.set(tuple(claims))
    try:
        yield
    finally:
        _CLAIMS.reset(token)


def stamp(connection: Connection) -> None:
    """Marks the claims of this context; the last act of a write transaction.

    Raises:
        ConflictError: IN_PROGRESS when another has taken a claim over; the transaction must not be committed.
    """
    for claim in _CLAIMS.get():
        mine = {"of_tenant": claim.tenant, "of_digest": claim.digest, "of_owner": claim.owner}
        if connection.execute(_STAMP, mine).rowcount != 1:
            raise ConflictError("IN_PROGRESS", "another carries out this request meanwhile")


_STAMP = (
    update(requests)
    .where(
        requests.c.tenant == bindparam("of_tenant"),
        requests.c.digest == bindparam("of_digest"),
        requests.c.owner == bindparam("of_owner"),
    )
    .values(state=CHANGED)
)
