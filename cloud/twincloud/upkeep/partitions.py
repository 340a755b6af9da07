"""The task that gives back what compaction and retention have emptied: whole partitions of a shared database."""

from __future__ import annotations

from typing import Final

import structlog

from twincloud.storage.contract_sharing import Sharing

PERIOD_S: Final = 600.0

_log = structlog.get_logger("twincloud.upkeep")


class Reclaim:
    """See `Task`; a file has no partitions, and uses the pages of deleted rows again by itself."""

    name = "reclaim"
    period_s = PERIOD_S

    def __init__(self, store: Sharing) -> None:
        self._store = store

    def run(self, _now_ns: int) -> int:
        """Drops what is empty and will stay so, all at once."""
        dropped = self._store.reclaim()
        if dropped:
            _log.info("empty partitions dropped", partitions=dropped)
        return 0
