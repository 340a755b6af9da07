"""What a piece of background work is, and how it fares."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol, TypeAlias

Lease: TypeAlias = Callable[[str], AbstractContextManager[bool]]
"""`store.lease`: inside, no other replica works under the name; False when one does."""


class Task(Protocol):
    """Background work in steps."""

    name: str
    period_s: float

    def run(self, now_ns: int) -> int:
        """Does a step of at most about a second, blocking, in a thread; more than 0: there is more to do at once."""
        ...


@dataclass(frozen=True, slots=True)
class Fare:
    """How a task fares.

    Attributes:
        name: of the task.
        steps: steps it did since the start.
        failures: failures since the last step that went well.
        reason: why the last step failed, "" when it did not.
        detail: what it said.
        since_ns: when that began, 0 when all is well.
    """

    name: str
    steps: int = 0
    failures: int = 0
    reason: str = ""
    detail: str = ""
    since_ns: int = 0
