"""The task that ends commands nobody answers in time, and forgets old ones."""

from __future__ import annotations

from typing import Final

import structlog

from twincloud.storage.command_sessions import KEPT_NS
from twincloud.storage.contract_commands import Commands

PERIOD_S: Final = 1.0
FORGET_EVERY: Final = 600
ROWS_MAX: Final = 1_000

_log = structlog.get_logger("twincloud.upkeep")


class CommandTask:
    """See `Task`."""

    name = "commands"
    period_s = PERIOD_S

    def __init__(self, store: Commands) -> None:
        self._store = store
        self._steps = 0

    def run(self, now_ns: int) -> int:
        """Ends what is late or whose session is over; now and then it forgets what is very old."""
        ended = self._store.sweep_commands(now_ns)
        if ended:
            _log.info("commands ended without an answer", commands=ended)
        self._steps += 1
        if self._steps % FORGET_EVERY:
            return 0
        gone = self._store.forget_commands(now_ns - KEPT_NS, ROWS_MAX)
        if gone >= ROWS_MAX:
            self._steps -= 1
            return 1
        return 0
