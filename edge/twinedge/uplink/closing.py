"""How a session ended, as its errors say; and the boots it may open with."""

from __future__ import annotations

from collections.abc import Sequence

import grpc
import grpc.aio

from twinmodel.errors import TwinError
from twinsync import limits
from twinsync.item import Boot
from twinsync.session.edge import Close
from twinsync.session.verdicts import verdict_of

BOOTS_MAX = limits.HELLO_BOOTS_MAX
ANEW = Close("RETRY_AFTER", "the session opens anew, with an older catalogue or elsewhere", 0, needs_operator=False)
"""Of a session that is to be another one: nothing more is for whoever is at its other end."""


def chain_of(boots: Sequence[Boot]) -> tuple[Boot, ...]:
    """The newest boots that follow each other without a hole, oldest first; a spool forgets old boots one by one."""
    chain = list(boots[-1:])
    for boot in reversed(boots[:-1]):
        if chain[-1].previous != boot.id or len(chain) == BOOTS_MAX:
            break
        chain.append(boot)
    return tuple(reversed(chain))


def close_of(error: Exception) -> Close:
    """How a session ends by an error."""
    if isinstance(error, TwinError):
        verdict = verdict_of(error.reason)
        return Close(error.reason, error.message, verdict.wait_ns, verdict.needs_operator)
    if isinstance(error, grpc.aio.AioRpcError):
        return unreachable(error.details() or error.code().name)
    return unreachable("the link was cut")


def unreachable(detail: str) -> Close:
    """How a session ends that was cut."""
    return Close("COORDINATOR_UNREACHABLE", detail, 0, needs_operator=False)
