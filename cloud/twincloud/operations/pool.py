"""Workers of one coordinator: they claim operations, keep their leases, and end with the service.

ask ─▶ store ─▶ claim ─▶ thread (reads) ─▶ child (sums) ─▶ finish
         ▲        │
         └────────┴── beat: still here? cancelled? taken over?
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import ParamSpec, TypeVar

import structlog

from twincloud.operations.task import Cancelled, Task, Work, failure_of
from twincloud.storage.contract import Store
from twincloud.storage.operations import KEPT_NS
from twincloud.storage.records_operations import Failure, Json, Operation
from twinmodel.clock import SECOND_NS, Clock
from twinmodel.errors import StorageError, TwinError

P = ParamSpec("P")
R = TypeVar("R")

LEASE_NS = 60 * SECOND_NS
BEAT_S = 5.0
LOOK_S = 1.0
FORGET_S = 600.0
FORGET_MAX = 500
_log = structlog.get_logger("twincloud.operations")


class Pool:
    """A bounded number of workers.

    Args:
        store: where operations wait.
        clock: server time.
        kinds: kind of operation -> how it is done.
        workers: operations done at once.
        cache_dir: folder of compiled kernels.
    """

    def __init__(
        self, store: Store, clock: Clock, kinds: Mapping[str, Work], *, workers: int = 1, cache_dir: Path | None = None
    ) -> None:
        self._store = store
        self._clock = clock
        self._kinds = dict(kinds)
        self._workers = workers
        self._cache_dir = cache_dir
        self._name = secrets.token_hex(8)
        self._threads = ThreadPoolExecutor(2 * workers + 1, thread_name_prefix="operation")
        self._asked = asyncio.Event()
        self._tasks: set[Task] = set()

    def wake(self) -> None:
        """Says that something was asked; from the loop's thread."""
        self._asked.set()

    async def run(self) -> None:
        """Works until cancelled; what runs then is put back for the next worker."""
        try:
            async with asyncio.TaskGroup() as group:
                for number in range(self._workers):
                    group.create_task(self._work(f"{self._name}-{number}"), name=f"operations {number}")
                group.create_task(self._forget(), name="operations forgotten")
        finally:
            for task in self._tasks:
                task.stop()
            self._threads.shutdown(wait=False, cancel_futures=True)

    async def _work(self, worker: str) -> None:
        failing = False
        while True:
            try:
                operation = await self._call(
                    self._store.claim_operation, worker, tuple(self._kinds), self._clock.wall_ns(), LEASE_NS
                )
                if failing:
                    _log.info("operations are worked on again")
                failing = False
            except TwinError as error:
                if not failing:
                    _log.error("operations cannot be claimed", reason=error.reason, detail=error.message)
                failing, operation = True, None
            if operation is not None:
                await self._do(operation, worker)
                continue
            self._asked.clear()
            try:
                async with asyncio.timeout(LOOK_S):
                    await self._asked.wait()
            except TimeoutError:
                continue

    async def _do(self, operation: Operation, worker: str) -> None:
        task = Task(operation, self._store, cache_dir=self._cache_dir)
        self._tasks.add(task)
        try:
            async with asyncio.TaskGroup() as group:
                beats = group.create_task(self._beat(task, worker), name=f"beats of operation {operation.number}")
                outcome = await self._call(self._outcome, task)
                await self._call(self._finish, task, worker, outcome)
                beats.cancel()
        except asyncio.CancelledError:
            task.stop()
            self._release(operation, worker)
            raise
        finally:
            self._tasks.discard(task)

    def _outcome(self, task: Task) -> Json | Failure | None:
        operation = task.operation
        try:
            return self._kinds[operation.kind](task)
        except Cancelled:
            return None
        except TwinError as error:
            return failure_of(error)
        except Exception:  # noqa: BLE001 the boundary of work: whatever went wrong, who asked is told, the log has one entry
            _log.exception("operation failed", kind=operation.kind, number=operation.number, tenant=operation.tenant)
            return Failure("INTERNAL", f"the coordinator failed at {operation.kind}", "see the log of the coordinator")

    def _finish(self, task: Task, worker: str, outcome: Json | Failure | None) -> None:
        operation, now_ns = task.operation, self._clock.wall_ns()
        try:
            self._store.finish_operation(operation, worker, outcome, now_ns)
        except StorageError as error:
            # Its lease lapses, and it is done again when the disk takes it.
            _log.error("the answer of an operation is not kept", number=operation.number, reason=error.reason)
        except TwinError as error:
            self._store.finish_operation(operation, worker, failure_of(error), now_ns)

    def _release(self, operation: Operation, worker: str) -> None:
        try:
            self._store.release_operation(operation, worker)
        except TwinError as error:
            _log.warning("an operation waits for its lease to end", number=operation.number, reason=error.reason)

    async def _beat(self, task: Task, worker: str) -> None:
        while True:
            await asyncio.sleep(BEAT_S)
            try:
                goes_on = await self._call(
                    self._store.beat_operation, task.operation, worker, task.share, self._clock.wall_ns(), LEASE_NS
                )
            except TwinError:
                continue  # the lease outlasts a disk that refuses for a moment; then another worker begins anew
            if not goes_on:
                task.stop()
                return

    async def _forget(self) -> None:
        while True:
            await asyncio.sleep(FORGET_S)
            try:
                await self._call(self._store.forget_operations, self._clock.wall_ns() - KEPT_NS, FORGET_MAX)
            except TwinError as error:
                _log.warning("old operations are kept for now", reason=error.reason)

    async def _call(self, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        return await asyncio.get_running_loop().run_in_executor(self._threads, partial(call, *args, **kwargs))
