"""What the archive needs of the store: days that are ripe, their samples, and the one step that moves them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from twincloud.archive.objects import ObjectStore
from twincloud.archive.runs import Written
from twincloud.storage.records import GatewayKey
from twincloud.storage.records_archives import Archive, Day, Draft, FileState
from twincloud.storage.tiers import Run


class Archives(Protocol):
    """Archived days; every method is one transaction."""

    def use_archive(self, objects: ObjectStore) -> None:
        """Says where archived files are read from; without it a span that needs them is ARCHIVE_UNREACHABLE."""
        ...

    def archive_days(self, before_ns: int, now_ns: int, limit: int) -> tuple[Day, ...]:
        """Days that ended at `before_ns` or earlier and can be archived now, the oldest first.

        All that is known of them is compacted and summed up, and no file of them was written within the last day.
        """
        ...

    def begin_archive(self, day: Day, worker: str, now_ns: int) -> Draft | None:
        """Reserves the key of a file, or takes up a draft; None when another works on it, or nothing is left."""
        ...

    def archive_signals(self, draft: Draft) -> tuple[str, ...]:
        """Signals of the day, in the hours and in the file before."""
        ...

    def archive_runs(self, draft: Draft, signal: str) -> Sequence[Run]:
        """Samples of one signal of the day, in the hours and in the file before; a run per kind and unit."""
        ...

    def note_upload(self, draft: Draft, *, sha256: str, upload: str) -> None:
        """Remembers what is being sent, before it is."""
        ...

    def finish_archive(self, draft: Draft, written: Written, now_ns: int) -> bool:
        """Makes the file the one place of its samples and removes the hours; False when those changed meanwhile."""
        ...

    def leave_archive(self, draft: Draft, state: FileState, now_ns: int) -> None:
        """Gives a draft up: ABANDONED when what was sent can go, FOREIGN when the key is somebody else's."""
        ...

    def archive_leftovers(self, now_ns: int, limit: int) -> tuple[Archive, ...]:
        """Files that can be deleted: abandoned ones, and those superseded an hour ago."""
        ...

    def forget_archive(self, file: Archive) -> None:
        """Removes the row of a leftover, once its object is gone."""
        ...

    def archived_samples(self, gateway: GatewayKey) -> int:
        """How many samples of a gateway lie in archived files, which `Twins.samples` does not list."""
        ...

    def archives(self, tenant: str = "*", *, limit: int = 1_000_000) -> tuple[Archive, ...]:
        """All files there are rows of, by tenant, gateway, day and generation."""
        ...
