"""What a piece of background work is, and how it fares."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

from twinmodel.clock import SECOND_NS, Clock

STEP_NS: Final = SECOND_NS

Lease: TypeAlias = Callable[[str], AbstractContextManager[bool]]
"""`store.lease`: inside, no other replica works under the name; False when one does."""


class Task(Protocol):
    """Background work in steps."""

    name: str
    period_s: float

    def run(self, now_ns: int) -> int:
        """Does a step of at most about a second, blocking, in a thread; more than 0: there is more to do at once."""
        ...


class Stepwise(ABC):
    """The `run` of a task whose work is a generator: it goes on where the step before has stopped.

    Args:
        clock: measures steps.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._work: Iterator[None] | None = None

    @abstractmethod
    def steps(self, now_ns: int) -> Iterator[None]:
        """All there is to do now, in small steps."""

    def run(self, now_ns: int) -> int:
        """See `Task.run`; after an error the next call begins anew, with what the last one left."""
        until_ns = self._clock.boot_ns() + STEP_NS
        work, self._work = self._work or self.steps(now_ns), None
        for _ in work:
            if self._clock.boot_ns() >= until_ns:
                self._work = work
                return 1
        return 0


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
