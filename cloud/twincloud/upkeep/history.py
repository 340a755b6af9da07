"""The task that keeps history small and fast to read: compaction first, then what is derived from its hours."""

from __future__ import annotations

from typing import Final

from twincloud.storage.contract_hours import Hours

PERIOD_S: Final = 30.0


class Compaction:
    """See `Task`."""

    name = "compaction"
    period_s = PERIOD_S

    def __init__(self, store: Hours) -> None:
        self._store = store

    def run(self, now_ns: int) -> int:
        """A step: of compaction while there is any to do, else of what is made of hours that are over."""
        store = self._store
        return store.compact(now_ns) or store.merge(now_ns) or store.bucket(now_ns) or store.pack_commits(now_ns)
