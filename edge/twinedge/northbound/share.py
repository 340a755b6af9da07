"""A bound on what serving costs: after each piece of work comes a rest in proportion."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from twinmodel.clock import SECOND_NS, Clock


class Share:
    """Keeps work to a share of a core, so that the agent's own work always has the rest.

    What was not used for a while may be used at once: a client that connects asks for much, and then for little.

    Args:
        percent: of a core.
        clock: measures work.
        burst_ns: work that may be done without a rest after a long silence.
    """

    def __init__(self, percent: int, clock: Clock, burst_ns: int = 2 * SECOND_NS) -> None:
        self._rest = (100 - percent) / percent
        self._clock = clock
        self._credit_ns = round(burst_ns * self._rest)
        self._free_ns = -self._credit_ns

    async def turn(self) -> None:
        """Waits until the next piece may be done."""
        wait_ns = self._free_ns - self._clock.boot_ns()
        if wait_ns > 0:
            await asyncio.sleep(wait_ns / SECOND_NS)

    @contextmanager
    def spending(self) -> Iterator[None]:
        """Accounts for the work inside."""
        began_ns = self._clock.boot_ns()
        try:
            yield
        finally:
            now_ns = self._clock.boot_ns()
            since_ns = max(self._free_ns, now_ns - self._credit_ns)
            self._free_ns = since_ns + round((now_ns - began_ns) * self._rest)
