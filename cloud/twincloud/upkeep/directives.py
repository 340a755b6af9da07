"""The task that forgets directives that ended long ago."""

from __future__ import annotations

from typing import Final

import structlog

from twincloud.storage.contract_listings import Listings
from twinmodel.clock import SECOND_NS

PERIOD_S: Final = 600.0
KEPT_NS: Final = 400 * 86_400 * SECOND_NS
"""As long as commands."""
ROWS_MAX: Final = 1_000

_log = structlog.get_logger("twincloud.upkeep")


class DirectiveTask:
    """See `Task`."""

    name = "directives"
    period_s = PERIOD_S

    def __init__(self, store: Listings) -> None:
        self._store = store

    def run(self, now_ns: int) -> int:
        """Forgets some; 1 when there are more."""
        gone = self._store.forget_directives(now_ns - KEPT_NS, ROWS_MAX)
        if gone:
            _log.info("old directives forgotten", directives=gone)
        return int(gone >= ROWS_MAX)
