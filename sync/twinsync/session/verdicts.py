"""What each refusal means to the gateway that is refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from twinmodel.clock import SECOND_NS


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a refusal means to the one refused."""

    wait_ns: int
    needs_operator: bool


VERDICTS: Mapping[str, Verdict] = {
    # Of two agents with one identity each would cut the other at once: the older one steps back for a minute.
    "FENCED": Verdict(60 * SECOND_NS, needs_operator=False),
    "IDENTITY_FORK": Verdict(300 * SECOND_NS, needs_operator=True),
    "UPGRADE_REQUIRED": Verdict(600 * SECOND_NS, needs_operator=True),
    "SUSPENDED": Verdict(300 * SECOND_NS, needs_operator=True),
    "CERT_EXPIRED": Verdict(60 * SECOND_NS, needs_operator=True),
    "CERT_INVALID": Verdict(300 * SECOND_NS, needs_operator=True),
    "UNKNOWN_GATEWAY": Verdict(60 * SECOND_NS, needs_operator=True),
    "RETRY_AFTER": Verdict(0, needs_operator=False),
}
"""Waits by reason of `Reject`."""


def verdict_of(reason: str) -> Verdict:
    """The verdict of a reason; one that is not named waits as long as the retry loop says."""
    return VERDICTS.get(reason, _UNNAMED)


_UNNAMED = Verdict(0, needs_operator=False)
