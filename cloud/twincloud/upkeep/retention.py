"""The task that lets go of history beyond what its policies keep, in steps of about a second."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import structlog

from twincloud.archive.objects import ObjectStore
from twincloud.storage.contract_archives import Archives
from twincloud.storage.contract_retention import Retention
from twincloud.storage.records_retention import Holder
from twincloud.upkeep.archive import cleaned
from twincloud.upkeep.task import Stepwise
from twinmodel.clock import Clock

PERIOD_S: Final = 600.0

_log = structlog.get_logger("twincloud.retention")


class RetentionTask(Stepwise):
    """See `Task`; one of a process.

    Args:
        store: history and its policies.
        archives: the table of archived files.
        objects: where they are.
        archiving: whether days are archived; then another task deletes the files given up, else this one.
        clock: measures steps.
    """

    name = "retention"
    period_s = PERIOD_S

    def __init__(
        self, store: Retention, archives: Archives, objects: ObjectStore, *, archiving: bool, clock: Clock
    ) -> None:
        super().__init__(clock)
        self._store = store
        self._archives = archives
        self._objects = objects
        self._archiving = archiving
        self._looked: set[tuple[str, int]] = set()

    def steps(self, now_ns: int) -> Iterator[None]:
        """All there is to do now, in small steps."""
        for holder in self._store.holders(archiving=self._archiving):
            yield from self._let_go(holder, now_ns)
        if not self._archiving:
            yield from cleaned(self._archives, self._objects, now_ns)

    def _let_go(self, holder: Holder, now_ns: int) -> Iterator[None]:
        points = self._store.let_go(holder, now_ns)
        yield
        rows = 0
        while some := self._store.delete_expired(holder):
            rows += some
            yield
        # Which files can go changes with the limits alone, at most once a day.
        place = (holder.tenant, holder.gateway_id)
        if points or place not in self._looked:
            after_ns = self._store.expire_archives(holder, 0, now_ns)
            while after_ns:
                yield
                after_ns = self._store.expire_archives(holder, after_ns, now_ns)
            self._looked.add(place)
            yield
        if rows:
            _log.info("history expired", tenant=holder.tenant, gateway=holder.gateway_id, points=points, rows=rows)
