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
from twinmodel.errors import ConflictError, StorageError, TwinError

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
        except StorageError as error:
            if error.reason != "STATE_INVALID":
                raise
            self._tell(twin, error, now_ns)
        except ConflictError as error:
            # Another replica, or a person, was faster: the next round begins with what they have left.
            self._stepper.forget(twin.key.tenant, twin.key.site)
            if error.reason == "FENCED":
                return 1
            self._tell(twin, error, now_ns)
        except TwinError as error:
            self._tell(twin, error, now_ns)
        else:
            if self._lost.pop(twin.key, None) is not None:
                _log.info("cloud twin goes on", tenant=twin.key.tenant, twin=name)
            return int(more)
        return 0

    def _tell(self, twin: CloudTwin, error: TwinError, now_ns: int) -> None:
        """Says once why a twin stands still, in the log and with the twin."""
        if self._lost.get(twin.key) == error.reason:
            return
        self._lost[twin.key] = error.reason
        _log.warning(
            "cloud twin stands still", tenant=twin.key.tenant, twin=f"{twin.key.site}/{twin.key.twin}",
            reason=error.reason, detail=error.message,
        )  # fmt: skip
        stopped = replace(twin, reason=error.reason, detail=error.message)
        self._store.keep_cloud_step(twin, stopped, None, {}, now_ns)
