"""Changes of twin records that come at the same moment, committed together: one transaction, one sync of the disk.

Each is judged under its own condition and answered after the commit that holds it; one that is refused leaves the
others as they are. When the transaction fails, none of its changes is made, and each is told so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from twincloud.api.threads import Threads
from twincloud.api.together import Together
from twincloud.events.bus import Bus
from twincloud.storage.contract import Store, TwinKey
from twincloud.storage.records_twins import TwinChange, TwinRecord
from twinmodel.clock import Clock
from twinmodel.errors import TwinError

TOGETHER_MAX = 250
"""Changes of one transaction: others wait for no more than these."""


class Changes:
    """Makes changes."""

    def __init__(self, store: Store, threads: Threads, bus: Bus, clock: Clock) -> None:
        self._store, self._bus, self._clock = store, bus, clock
        self._together: Together[TwinChange, TwinRecord | None] = Together(
            threads, self._make, together_max=TOGETHER_MAX
        )

    async def make(self, change: TwinChange) -> TwinRecord | None:
        """The record once the change is committed, None when it was deleted; raises what the store says of it."""
        return await self._together.ask(change)

    def ask(self, change: TwinChange) -> asyncio.Future[TwinRecord | None]:
        """The same for who does not wait."""
        return self._together.put(change)

    def _make(self, changes: Sequence[TwinChange]) -> list[TwinRecord | Exception | None]:
        places: dict[str, list[int]] = {}
        for place, change in enumerate(changes):
            places.setdefault(change.key.tenant, []).append(place)
        answers: list[TwinRecord | Exception | None] = [None] * len(changes)
        changed: list[TwinKey] = []
        for tenant, own in places.items():
            found: Sequence[TwinRecord | Exception | None]
            try:
                found = self._store.patch_twins(tenant, [changes[place] for place in own], self._clock.wall_ns())
            except TwinError as error:
                found = [error] * len(own)
            for place, answer in zip(own, found, strict=True):
                answers[place] = answer
                if not isinstance(answer, Exception):
                    changed.append(changes[place].key)
        self._bus.notify_twins(changed)
        return answers
