"""The task that watches for gateways that are away, and raises and ends the coordinator's own alarms of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from twincloud.storage.contract_alarms import Alarms
from twinmodel.clock import SECOND_NS

PERIOD_S: Final = 5.0
AWAY_NS: Final = 10 * SECOND_NS
"""As for the health of gateways and their twins."""


class GatewayWatch:
    """See `Task`.

    Args:
        store: alarms.
        ring: called when any changed.
    """

    name = "gateways"
    period_s = PERIOD_S

    def __init__(self, store: Alarms, ring: Callable[[], None] = lambda: None) -> None:
        self._store = store
        self._ring = ring

    def run(self, now_ns: int) -> int:
        """See `Task.run`."""
        if self._store.watch_gateways(now_ns, AWAY_NS):
            self._ring()
        return 0
