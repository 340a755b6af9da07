"""The background task that steps all cloud twins of a coordinator, under one lease over all replicas."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Final

import structlog

from twincloud.estimate.stepping import Stepper
from twincloud.storage.contract import Store
from twincloud.storage.records_cloud import CloudTwin
from twinmodel.clock import SECOND_NS, Clock
from twinmodel.errors import ConflictError, TwinError

STEP_NS: Final = SECOND_NS
"""Work of one step of the task, about."""
_log = structlog.get_logger("twincloud.estimate")


class CloudTwins:
    """Steps cloud twins in turn, those that feed others first as they come; see `upkeep.task.Task`."""

    name = "cloud twins"
    period_s = 1.0

    def __init__(self, store: Store, clock: Clock, stepper: Stepper) -> None:
        self._store = store
        self._clock = clock
        self._stepper = stepper
        self._seen = -1
        self._next = 0
        self._lost: dict[object, str] = {}

    def run(self, now_ns: int) -> int:
        """One round, or as much of it as fits into about a second."""
        newest = self._store.newest_commit()
        if newest == self._seen:
            return 0
        twins = self._store.cloud_twins()
        began_ns, more, done = self._clock.boot_ns(), 0, 0
        by_site = {
            place: list(group) for place, group in itertools.groupby(twins, lambda one: (one.key.tenant, one.key.site))
        }
        for place in range(len(twins)):
            twin = twins[(self._next + place) % len(twins)]
            more += self._step(twin, by_site[twin.key.tenant, twin.key.site], now_ns)
            done += 1
            if self._clock.boot_ns() - began_ns > STEP_NS:
                break
        if done < len(twins):
            self._next = (self._next + done) % len(twins)
            return 1
        self._seen = newest
        return more

    def _step(self, twin: CloudTwin, peers: list[CloudTwin], now_ns: int) -> int:
        name = f"{twin.key.site}/{twin.key.twin}"
        try:
            more = self._stepper.step(twin, peers, now_ns)
        except ConflictError as error:
            # Another replica, or a person, was faster: the next round begins with what they have left.
            self._stepper.forget(twin.key.tenant, twin.key.site)
            if error.reason == "FENCED":
                return 1
            self._tell(twin, error, now_ns)
        except Exception as error:  # noqa: BLE001 whatever is wrong with one twin is told with it; the others go on
            self._tell(twin, error, now_ns)
        else:
            if self._lost.pop(twin.key, None) is not None:
                _log.info("cloud twin goes on", tenant=twin.key.tenant, twin=name)
            return int(more)
        return 0

    def _tell(self, twin: CloudTwin, error: Exception, now_ns: int) -> None:
        """Says once why a twin stands still, in the log and with the twin.

        Raises StorageError when the store takes nothing at all: then no twin can go on.
        """
        reason = error.reason if isinstance(error, TwinError) else "INTERNAL"
        detail = error.message if isinstance(error, TwinError) else f"{type(error).__name__}: {error}"
        if self._lost.get(twin.key) == reason:
            return
        try:
            self._store.keep_cloud_step(twin, replace(twin, reason=reason, detail=detail), None, {}, now_ns)
        except ConflictError:
            return  # it was changed meanwhile: the next round tries what it is now
        self._lost[twin.key] = reason
        _log.warning(
            "cloud twin stands still", tenant=twin.key.tenant, twin=f"{twin.key.site}/{twin.key.twin}",
            reason=reason, detail=detail, exc_info=None if isinstance(error, TwinError) else error,
        )  # fmt: skip
