"""What readers and keepers of history need of a store, beyond what a twin's page shows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from twincloud.storage.records import TwinKey
from twincloud.storage.tiers import Run, Wanted


class Hours(Protocol):
    """History in tiers."""

    def runs(self, wanted: Wanted) -> Mapping[str, list[Run]]:
        """The samples of some signals out of all tiers: signal -> a run per gateway, kind and unit it had.

        Raises LIMIT_EXCEEDED when the span holds more than one answer may look at; ask in shorter spans.
        """
        ...

    def owners(self, key: TwinKey) -> tuple[int, ...]:
        """Ids of the gateways that ever served a twin, for `Wanted.gateways`; raises UNKNOWN_TWIN."""
        ...

    def compact(self, now_ns: int) -> int:
        """A step of compaction: moves the blocks of hours that are over to point-hour blocks; gives how many.

        Raises StorageError (nothing was moved) and STATE_LOCKED when another moved the same blocks meanwhile.
        """
        ...
