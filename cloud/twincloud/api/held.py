"""Twins as encoded answers, kept as long as they are the answers of now.

    who asks ─▶ together: one look at the versions of all twins asked for ─▶ same version, same second: the bytes kept
                                                                         └▶ else: read and encoded anew

A version is read from the database each time, so that what another replica committed is seen at once. What time alone
changes, such as how old a value is, is at most a second behind.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from twincloud.api.conditional import weak_tag
from twincloud.api.fleet import Fleet
from twincloud.api.threads import Threads
from twincloud.api.together import Together
from twincloud.storage.contract import Store, TwinKey
from twincloud.storage.part import Recent
from twinmodel.clock import SECOND_NS, Clock
from twinmodel.errors import TwinError

KEPT_MAX = 5_000


@dataclass(frozen=True, slots=True)
class Held:
    """An answer: JSON, its tag, the version it was made of, the second and the commit (`Store.commits`) it is of."""

    body: bytes
    tag: str
    version: tuple[Any, ...]
    second: int
    commits: int | None


class HeldViews:
    """Answers of `GET .../twins/{twin}`."""

    def __init__(self, store: Store, threads: Threads, fleet: Fleet, clock: Clock) -> None:
        self._store, self._fleet, self._clock = store, fleet, clock
        self._kept: Recent[TwinKey, Held] = Recent(KEPT_MAX)
        self._together: Together[TwinKey, Held] = Together(threads, self._answer)

    async def twin(self, key: TwinKey) -> Held:
        """The twin of this moment; raises UNKNOWN_TWIN."""
        return self.now(key) or await self._together.ask(key)

    def now(self, key: TwinKey) -> Held | None:
        """The same when nothing was committed since it was looked at; None when the store must be asked."""
        commits, kept = self._store.commits(), self._kept.get(key)
        if commits is None or kept is None or kept.commits != commits:
            return None
        return kept if kept.second == self._clock.wall_ns() // SECOND_NS else None

    def ask(self, key: TwinKey) -> asyncio.Future[Held]:
        """Asks the store; for who does not wait."""
        return self._together.put(key)

    def _answer(self, keys: Sequence[TwinKey]) -> list[Held | Exception]:
        wanted: dict[str, list[TwinKey]] = {}
        for key in dict.fromkeys(keys):
            wanted.setdefault(key.tenant, []).append(key)
        found: dict[TwinKey, Held | Exception] = {}
        second = self._clock.wall_ns() // SECOND_NS
        # Before the versions are read: what is committed after that is looked at again.
        commits = self._store.commits()
        for tenant, of_tenant in wanted.items():
            versions = self._store.twin_versions(tenant, [(key.site, key.twin) for key in of_tenant])
            old: list[tuple[TwinKey, tuple[Any, ...] | None]] = []
            for key, version in zip(of_tenant, versions, strict=True):
                kept = self._kept.get(key)
                if kept is not None and kept.version == version and kept.second == second:
                    found[key] = self._kept.put(key, replace(kept, commits=commits))
                else:
                    old.append((key, version))
            views = self._fleet.read_twins(tenant, [key for key, _ in old])
            for (key, version), view in zip(old, views, strict=True):
                if isinstance(view, TwinError):
                    found[key] = view
                    continue
                alarms = (view.alarms.unacked, view.alarms.active, view.alarms.highest) if view.alarms.highest else ()
                tag = weak_tag(view.revision, view.health, *alarms)
                held = Held(view.model_dump_json().encode(), tag, version or (), second, commits)
                found[key] = self._kept.put(key, held) if version is not None else held
        return [found[key] for key in keys]
