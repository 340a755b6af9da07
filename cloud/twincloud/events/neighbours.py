"""Coordinators on one database hear of one another: commits, directives, and who is no longer there.

    commit there ─▶ bell of the database ─▶ bus here: event streams look ─┬─▶ sessions with news are woken
                                                                          └─▶ work that waits is looked for

A bell that was missed costs a moment and never a fact, as on the bus. Alone on a file nobody rings.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from twincloud.events.bus import Bus
from twincloud.storage.contract import GatewayKey
from twincloud.storage.contract_sharing import Sharing
from twinmodel.clock import Clock
from twinmodel.errors import TwinError

LOOK_S = 3.0
"""How often others are looked for; sessions of one that was missing twice in a row are ended."""

_log = structlog.get_logger("twincloud")


class Neighbours:
    """Follows what other coordinators do.

    Args:
        store: shared with them, or not.
        bus: rung for every commit, by whomever.
        wake: called for each gateway that was told something elsewhere.
        wake_work: called for every commit.
        clock: gives the time of sessions that are ended.
    """

    def __init__(
        self, store: Sharing, bus: Bus, wake: Callable[[GatewayKey], None], wake_work: Callable[[], None], clock: Clock
    ) -> None:
        self._store = store
        self._bus = bus
        self._wake = wake
        self._wake_work = wake_work
        self._clock = clock
        self._after = 0
        self._missing: tuple[str, ...] = ()

    async def run(self) -> None:
        """Follows until it is cancelled; while the database is away it waits for it."""
        loop, rung = asyncio.get_running_loop(), asyncio.Event()

        def ring() -> None:
            loop.call_soon_threadsafe(rung.set)

        with self._store.announce(ring):
            while True:
                try:
                    async with asyncio.timeout(LOOK_S):
                        await rung.wait()
                except TimeoutError:
                    await self._look_for_missing()
                else:
                    rung.clear()
                    await self._hear()

    async def _hear(self) -> None:
        self._bus.notify()
        self._wake_work()
        try:
            self._after, gateways = await asyncio.to_thread(self._store.addressed, self._after)
        except TwinError:
            return  # the bell rings again when the database is back
        for gateway in gateways:
            self._wake(gateway)

    async def _look_for_missing(self) -> None:
        try:
            now_ns = self._clock.wall_ns()
            missing = await asyncio.to_thread(self._store.end_absent, now_ns, self._missing)
        except TwinError:
            self._missing = ()
            return
        ended = set(missing) & set(self._missing)
        if ended:
            _log.warning("coordinators are gone, their sessions are ended", replicas=sorted(ended))
            self._bus.notify()
        self._missing = tuple(set(missing) - ended)
