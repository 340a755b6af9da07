"""What a coordinator asks of a store that others may share."""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from typing import Protocol

from twincloud.storage.artifacts import Documents
from twincloud.storage.records import GatewayKey


class Sharing(Protocol):
    """Coordinators that share one database; alone on a file, every lease is granted and nobody else is heard."""

    def lease(self, name: str) -> AbstractContextManager[bool]:
        """Whether this coordinator alone does the work of that name until the block ends; raises StorageError."""
        ...

    def announce(self, ring: Callable[[], None]) -> AbstractContextManager[None]:
        """Tells the others that this coordinator runs; `ring` is called, from a thread, when anybody has committed."""
        ...

    def end_absent(self, now_ns: int, missed: Collection[str]) -> tuple[str, ...]:
        """Coordinators that hold sessions and are gone; sessions of those that were `missed` before are ended.

        After a restart of the database all need a moment to be there again, so once is not enough. A gateway that
        came to another coordinator is that one's.
        """
        ...

    def documents(self) -> Documents:
        """What all coordinators of the database keep together beside its tables."""
        ...

    def addressed(self, after: int) -> tuple[int, tuple[GatewayKey, ...]]:
        """Gateways that events after the number `after` have something to tell, and the number to go on from."""
        ...

    def reclaim(self) -> int:
        """Gives back what deleted blocks took, as far as that is cheap; returns the partitions dropped."""
        ...
