"""What readers and keepers of history need of a store, beyond what a twin's page shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from twincloud.storage.records import Twin, TwinKey
from twincloud.storage.tiers import KNOWN_ALL, Run, Wanted
from twincloud.twins.buckets import Buckets


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
        """A step of compaction: moves blocks committed minutes ago to point-hour blocks; gives how many.

        Raises StorageError (nothing was moved) and STATE_LOCKED when another moved the same blocks meanwhile.
        """
        ...

    def merge(self, now_ns: int) -> int:
        """A step of upkeep: makes the parts of an hour that is over one row per point; gives the rows, 0 for none.

        Raises StorageError (nothing was changed) and STATE_LOCKED when another changed the same rows meanwhile.
        """
        ...

    def known_at(self, t_ns: int, now_ns: int) -> int:
        """The number of the last commit that was known at a time, the same for ever; raises KNOWN_AT_OPEN."""
        ...

    def pack_commits(self, now_ns: int) -> int:
        """A step of upkeep: packs the times of old commits; gives how many, 0 when there is nothing to do at once."""
        ...

    def twin_as_of(self, key: TwinKey, as_of_ns: int, known: int = KNOWN_ALL) -> Twin:
        """A twin by what was known at a commit of the time up to `as_of_ns`; raises UNKNOWN_TWIN."""
        ...

    def bucket(self, now_ns: int) -> int:
        """A step of upkeep: makes the minutes of one gateway's compacted hour; gives the points it made, 0 for none."""
        ...

    def buckets(
        self,
        key: TwinKey,
        prop: str,
        roles: Sequence[str],
        from_ns: int,
        to_ns: int,
        resolution: str,
        known: int = KNOWN_ALL,
    ) -> Mapping[str, Buckets]:
        """History of a property by role in buckets of `1m`, `15m` or `1h` that touch [from_ns, to_ns), whole ones.

        Raises REQUEST_INVALID for another resolution, LIMIT_EXCEEDED for a span that is too long.
        """
        ...
