"""Runs tasks beside the service, each in a thread of its own and under its lease; one that fails is tried again, later.

    wait a period ─▶ lease? ─▶ step in a thread ─▶ more to do? rest as long as the step took, then go on
         ▲             │ no        │ fails
         └─────────────┴───────────┴─▶ told once, wait twice as long each time

Every exception of a step is taken as its failure: background work must never end the service.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from random import Random

import structlog

from twincloud.upkeep.task import Fare, Lease, Task
from twinmodel.clock import SECOND_NS, Clock
from twinmodel.errors import TwinError

BACKOFF_MAX_S = 300.0
REST_MAX_S = 1.0
"""Rest between two steps that follow each other: others want the processor and the disk too."""

_log = structlog.get_logger("twincloud.upkeep")


class Runner:
    """All tasks of one process."""

    def __init__(self, tasks: Sequence[Task], lease: Lease, clock: Clock, rng: Random) -> None:
        self._tasks = tuple(tasks)
        self._lease = lease
        self._clock = clock
        self._rng = rng
        self._fares = {task.name: Fare(task.name) for task in tasks}

    @property
    def fares(self) -> tuple[Fare, ...]:
        """How each task fares."""
        return tuple(self._fares.values())

    @property
    def failing(self) -> tuple[Fare, ...]:
        """Those whose last step failed."""
        return tuple(fare for fare in self._fares.values() if fare.reason)

    async def run(self) -> None:
        """Runs until cancelled; a step that runs then is waited for."""
        # A thread for each: twins in the cloud must not wait for a step that moves a day to the archive.
        with ThreadPoolExecutor(max(len(self._tasks), 1), "upkeep") as threads:
            async with asyncio.TaskGroup() as group:
                for task in self._tasks:
                    group.create_task(self._repeat(task, threads), name=f"upkeep {task.name}")

    async def _repeat(self, task: Task, threads: ThreadPoolExecutor) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(task.period_s * self._rng.uniform(0.2, 1.0))
        while True:
            more, took_s = await loop.run_in_executor(threads, self.step, task)
            failures = self._fares[task.name].failures
            if failures:
                await asyncio.sleep(min(BACKOFF_MAX_S, task.period_s * 2 ** min(failures, 16)))
            elif more:
                await asyncio.sleep(min(REST_MAX_S, took_s))
            else:
                await asyncio.sleep(task.period_s * self._rng.uniform(0.9, 1.1))

    def step(self, task: Task) -> tuple[int, float]:
        """One step of a task: whether there is more to do at once (> 0), and how long it took, seconds."""
        began_ns = self._clock.boot_ns()
        fare = self._fares[task.name]
        try:
            with self._lease(f"upkeep {task.name}") as granted:
                more = task.run(self._clock.wall_ns()) if granted else 0
        except Exception as error:  # noqa: BLE001 whatever fails in the background is told, and must not end the service
            self._fares[task.name] = self._failed(fare, error)
            return 0, 0.0
        if fare.reason:
            _log.info("works again", task=task.name, failures=fare.failures)
        self._fares[task.name] = Fare(task.name, fare.steps + int(granted))
        return more, (self._clock.boot_ns() - began_ns) / SECOND_NS

    def _failed(self, fare: Fare, error: Exception) -> Fare:
        reason = error.reason if isinstance(error, TwinError) else "INTERNAL"
        detail = error.message if isinstance(error, TwinError) else f"{type(error).__name__}: {error}"
        if fare.reason != reason:
            _log.error("fails and is tried again", task=fare.name, reason=reason, detail=detail)
        since_ns = fare.since_ns or self._clock.wall_ns()
        return Fare(fare.name, fare.steps, fare.failures + 1, reason, detail, since_ns)
