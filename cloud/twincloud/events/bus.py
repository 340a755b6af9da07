"""The bell between the thread that commits and the event streams: it says that something changed, never what it is.

What changed is read back from the store, so that a lost ring costs a moment and never a fact.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable
from dataclasses import dataclass

from twincloud.storage.contract import GatewayKey, TwinKey

PENDING_MAX = 20_000


@dataclass(frozen=True, slots=True)
class Change:
    """A thing whose view is no longer current; `kind` is `twin`, `gateway`, `alarm`, `command` or `directive`."""

    tenant: str
    kind: str
    site: str
    name: str


@dataclass(frozen=True, slots=True)
class News:
    """Changes since the last look; `overflow` says that there were more than could be kept: look at everything."""

    changes: tuple[Change, ...]
    overflow: bool


class Bus:
    """Collects changes from any thread for one reader on an event loop; the same change twice is kept once."""

    def __init__(self, pending_max: int = PENDING_MAX) -> None:
        self._lock = threading.Lock()
        self._pending: dict[Change, None] = {}
        self._overflow = False
        self._max = pending_max
        self._loop: asyncio.AbstractEventLoop | None = None
        self._rung = asyncio.Event()
        self._scheduled = False

    def attach(self) -> None:
        """Names the running loop as the one to wake; to be called by the reader."""
        with self._lock:
            self._loop = asyncio.get_running_loop()
            self._rung = asyncio.Event()
            self._scheduled = False

    def detach(self) -> None:
        """Forgets the loop; later notifications are kept, but wake nobody."""
        with self._lock:
            self._loop = None

    def notify(self, changes: Iterable[Change] = ()) -> None:
        """Rings, from any thread; without changes it only says that the outbox has grown."""
        with self._lock:
            for change in changes:
                if len(self._pending) >= self._max:
                    self._overflow = True
                    break
                self._pending[change] = None
            if self._loop is None or self._scheduled or self._loop.is_closed():
                return
            self._scheduled = True
            self._loop.call_soon_threadsafe(self._ring)

    def notify_twins(self, twins: Iterable[TwinKey]) -> None:
        """Rings for twins a commit touched."""
        self.notify(Change(key.tenant, "twin", key.site, key.twin) for key in twins)

    def notify_gateway(self, gateway: GatewayKey) -> None:
        """Rings for a gateway that came, went or told something of itself."""
        self.notify([Change(gateway.tenant, "gateway", gateway.site, gateway.gateway)])

    async def wait(self) -> None:
        """Returns at the next ring; a ring since the last `take` returns at once."""
        await self._rung.wait()

    def take(self) -> News:
        """Takes what was collected and silences the bell."""
        with self._lock:
            news = News(tuple(self._pending), self._overflow)
            self._pending.clear()
            self._overflow = False
            self._rung.clear()
        return news

    def _ring(self) -> None:
        with self._lock:
            self._scheduled = False
            self._rung.set()
