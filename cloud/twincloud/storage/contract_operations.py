"""The part of the store contract that keeps operations."""

from __future__ import annotations

from typing import Protocol

from twincloud.storage.records import Page
from twincloud.storage.records_operations import Failure, Json, Operation, Question


class Operations(Protocol):
    """Long work: asked by people, done by workers of any replica."""

    def ask(self, tenant: str, question: Question, *, by: str, now_ns: int) -> Operation:
        """Queues work; the same question gives the operation that answers it already, `cached`.

        Raises RATE_LIMITED when the tenant has too much waiting, NOT_FOUND for an unknown tenant, LIMIT_EXCEEDED.
        """
        ...

    def operation(self, tenant: str, number: int) -> Operation:
        """One operation; raises NOT_FOUND."""
        ...

    def operations(
        self, tenant: str, *, kind: str = "", state: str = "", target: str = "", limit: int = 100, token: str = ""
    ) -> Page[Operation]:
        """Operations, newest first."""
        ...

    def cancel_operation(self, tenant: str, number: int, now_ns: int) -> Operation:
        """Ends what waits; asks what runs to end; leaves what has ended as it is. Raises NOT_FOUND."""
        ...

    def claim_operation(self, worker: str, kinds: tuple[str, ...], now_ns: int, lease_ns: int) -> Operation | None:
        """The next work for a worker, its own until the lease ends: the oldest that waits, or whose worker is gone."""
        ...

    def beat_operation(self, operation: Operation, worker: str, progress: float, now_ns: int, lease_ns: int) -> bool:
        """Says that a worker still works; False when it shall stop: cancelled, or another worker has taken over."""
        ...

    def finish_operation(self, operation: Operation, worker: str, outcome: Json | Failure | None, now_ns: int) -> bool:
        """Keeps an answer, a failure, or None for cancelled; False when it was no longer this worker's."""
        ...

    def release_operation(self, operation: Operation, worker: str) -> None:
        """Puts work back that the worker cannot go on with, for the next one."""
        ...

    def forget_operations(self, before_ns: int, limit: int) -> int:
        """Deletes what ended before a time; how many."""
        ...
