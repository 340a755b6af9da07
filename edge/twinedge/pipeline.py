"""What happens to a sample between its driver and the disk.

    driver ─▶ put ─▶ gathered ─▶ replays ─▶ gate ─▶ late? ─▶ align ─▶ estimate ─▶ lanes ─▶ commit: spool ─▶ uplink
                                                              (brokers may forget) Delivery.done ◀──┘

`put` runs in the event loop without waiting: a slow or full disk never stops polling or models. What many devices
bring within some milliseconds goes through gate and lanes as one: a thousand small deliveries a second cost what
fifty do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from itertools import groupby

import numpy as np
import structlog
from numpy.typing import NDArray

from twinedge.config.numbers import Numbered
from twinedge.estimate.readers import Readers
from twinedge.estimate.runner import TwinRunner
from twinedge.gate.gate import Gate
from twinedge.lanes import Edition, Flush, Lanes
from twinedge.ports import Delivery, NotAcquired, Watcher
from twinedge.replays import Replays
from twinedge.unsound import declared, sound
from twinmodel.clock import SECOND_NS, Clock
from twinmodel.ensemble import Due, Ensemble
from twinmodel.errors import StorageError
from twinmodel.estimator import Estimate
from twinmodel.quality import GOOD, QualityReason, good
from twinmodel.signal import Batch, Catalogue, concat
from twinsync import item

log = structlog.get_logger()

TICK_S = 0.1
GATHER_S = 0.02
GATHERED_MAX = 5000
"""Samples that are gathered at most before they go on."""
RETRY_S = 1.0
_LATE = good(QualityReason.LATE)
REST_S = 60.0
"""How long a model that failed is left alone."""

Commit = Callable[[Flush, Catalogue], Awaitable[None]]
"""Makes a flush durable or raises, having stored nothing of it; anything but a StorageError is a defect.

With the fact `refused` the policy for a full disk says so, with `declared` what fits is stored and the rest declared.
"""


class Pipeline:
    """Gate, models and lanes of one agent; all calls come from its event loop.

    Drivers, gate and models speak of signals by number, lanes and watchers by place in the catalogue.

    Attributes:
        watchers: shown all that goes into the lanes but their own records; may grow before the first catalogue.
    """

    def __init__(
        self,
        replays: Replays,
        gate: Gate,
        lanes: Lanes,
        runners: Sequence[TwinRunner],
        commit: Commit,
        clock: Clock,
    ) -> None:
        self._replays = replays
        self._gate = gate
        self._lanes = lanes
        self._runners = runners
        self._readers = Readers(runners)
        self._ensemble = Ensemble()
        self._rests_until_ns: dict[str, int] = {}
        self._commit = commit
        self._clock = clock
        self._places: NDArray[np.int64] | None = None
        self._before: tuple[Edition, NDArray[np.int64]] | None = None
        self.watchers: list[Watcher] = []
        self._due = asyncio.Event()
        self._committing = asyncio.Lock()
        self._ending = False
        self._gathered: list[Delivery] = []
        self._gathered_samples = 0
        self._going_on: asyncio.TimerHandle | None = None
        self.commits = 0
        self.refused = 0
        self.strays = 0
        self.trouble: StorageError | None = None
        self.progress = 0
        self.flushes = 0

    async def use(self, catalogue: Catalogue, numbered: Numbered | None = None) -> None:
        """Goes on with another catalogue; what is buffered stays under the one it came with. Does not wait.

        Args:
            catalogue: of what goes into the lanes from now on.
            numbered: numbers of what drivers deliver, as gate and replays know them by now; None while they are the
                places in the catalogue, or as they were.
        """
        if self._gathered:
            self._go_on()
        before = self._lanes.use(catalogue)
        if numbered is not None:
            if self._places is not None:
                self._before = before, self._places
            self._places = numbered.places
        for runner in self._runners:
            runner.publish_as(catalogue)
        self._told(lambda watcher: watcher.use(catalogue))

    def run_models(self, runners: Sequence[TwinRunner]) -> None:
        """Steps these from now on; follow it by `use` before anything is awaited."""
        if self._gathered:
            self._go_on()
        self._runners = runners
        self._readers = Readers(runners)

    def _placed(self, gated: Sequence[Batch]) -> tuple[list[Batch], tuple[Edition, list[Batch]] | None]:
        """The same samples by their places in the catalogue, and those that belong to the one before it.

        A driver that is about to stop may still deliver what the newest configuration does not have: it goes into the
        record under the configuration it was read by.
        """
        if self._places is None:
            return list(gated), None
        present: list[Batch] = []
        late: list[Batch] = []
        for batch in gated:
            place = self._places[batch.signal]
            old = place < 0
            if not old.any():
                present.append(replace(batch, signal=place.astype(np.uint32)))
                continue
            if not old.all():
                present.append(replace(batch.take(~old), signal=place[~old].astype(np.uint32)))
            rest = batch.take(old)
            known = self._before[1] if self._before is not None else np.zeros(0, np.int64)
            place = np.append(known, -1)[np.minimum(rest.signal, len(known))]
            late.append(replace(rest.take(place >= 0), signal=place[place >= 0].astype(np.uint32)))
            self.strays += int(np.count_nonzero(place < 0))
        return present, (self._before[0], late) if late and self._before is not None else None

    async def put_right(
        self, span_ns: tuple[int, int], shift_ns: int, store: Callable[[tuple[int, int], int], Awaitable[int]]
    ) -> int:
        """Moves times inside `span_ns` by `shift_ns` wherever they are kept; what is committed by `store`.

        Returns:
            How many samples and records were moved. What the disk refuses to change keeps its times and its CLOCK.
        """
        if self._gathered:
            self._go_on()
        async with self._committing:  # nothing is between lanes and disk meanwhile
            moved = self._lanes.put_right(span_ns, shift_ns)
            self._gate.put_right(span_ns, shift_ns)
            for runner in self._runners:
                runner.start_over()
            try:
                moved += await store(span_ns, shift_ns)
            except StorageError as error:
                log.warning("times on the disk cannot be put right", reason=error.reason, detail=error.message)
        log.info("clock was set, times of what waits are put right", shift_s=shift_ns / SECOND_NS, moved=moved)
        return moved

    async def put(self, arrival: Delivery | NotAcquired) -> None:
        """Takes what a driver read, up to the lanes; never waits."""
        if isinstance(arrival, NotAcquired):
            self._lanes.declare(item.NotAcquired(arrival.device, arrival.reason, arrival.from_ns, arrival.to_ns))
            self._due.set()
            return
        self._gathered.append(arrival)
        self._gathered_samples += len(arrival)
        if arrival.urgent or self._gathered_samples >= GATHERED_MAX:
            self._go_on()
        elif self._going_on is None:
            self._going_on = asyncio.get_running_loop().call_later(GATHER_S, self._go_on)

    def record(self, batches: Sequence[Batch]) -> None:
        """Takes samples of the agent's own making, such as alarms, past gate and models."""
        self._lanes.add(batches, self._clock.boot_ns())
        self._due.set()

    def _show(self, batches: Sequence[Batch]) -> None:
        """Shows the watchers what went into the lanes."""
        self._told(lambda watcher: watcher.see(batches))

    def _told(self, what: Callable[[Watcher], None]) -> None:
        """Tells all watchers; a defect in one of them must not stop a sample, or the agent."""
        for watcher in self.watchers:
            try:
                what(watcher)
            except Exception:
                log.exception("watcher failed", watcher=type(watcher).__name__)

    def _go_on(self) -> None:
        """Takes what was gathered through gate and models into the lanes, in the order of its arrival."""
        if self._going_on is not None:
            self._going_on.cancel()
            self._going_on = None
        arrived, self._gathered, self._gathered_samples = self._gathered, [], 0
        fresh: list[Batch] = []
        shown: list[Batch] = []
        for acknowledged, run in groupby(arrived, key=lambda d: d.on_committed is not None):
            deliveries = list(run)
            batches = [b for d in deliveries for b in d.batches]
            try:
                gated = [self._stamped(self._gate.apply(self._replays.fresh(b))) for b in concat(batches)]
            except Exception as error:  # noqa: BLE001 - see declared
                for record in declared(batches, error):
                    self._lanes.declare(record)
                # Declared, so that no broker sends it again for ever.
                _tell(deliveries)
                continue
            done = partial(_tell, deliveries) if acknowledged else None
            placed, late = self._placed(gated)
            self._lanes.add(placed, self._clock.boot_ns(), done, deliveries=len(deliveries), late=late)
            if any(d.urgent for d in deliveries):
                self._lanes.hurry()
            fresh += gated
            shown += placed
        if shown:
            self._show(shown)
        # Last, so that whatever a model does, all that came is in the lanes.
        self._estimate(fresh)

    def _stamped(self, batch: Batch) -> Batch:
        """Good samples that come too late for the tick of a model say so: it has not seen them, and never will."""
        now_ns, boot_ns = self._clock.wall_ns(), self._clock.boot_ns()
        found: NDArray[np.bool_] | None = None
        for runner in self._readers.of(batch):
            resting = boot_ns < self._rests_until_ns.get(runner.wiring.twin, 0)
            try:
                late = runner.meet(batch, now_ns, resting=resting)
            except Exception as error:  # noqa: BLE001 - see _rest
                self._rest(runner, error)
                continue
            if late is not None:
                found = late if found is None else found | late
        if found is None:
            return batch
        return batch.with_quality(np.where(found & (batch.quality == GOOD), _LATE, batch.quality).astype(np.uint16))

    def _taken(self, *, everything: bool) -> Flush | None:
        if self._gathered:
            self._go_on()
        return self._lanes.take(self._clock.boot_ns(), everything=everything)

    def _estimate(self, arrived: Sequence[Batch] = ()) -> None:
        """Hands samples to the models and steps every one whose tick has closed, those of one signature in one call."""
        now_ns = self._clock.wall_ns()
        came: dict[TwinRunner, list[Batch]] = {}
        for batch in arrived:
            for runner in self._readers.of(batch):
                came.setdefault(runner, []).append(batch)
        awake = [runner for runner in self._runners if self._prepare(runner, came.get(runner, ()), now_ns)]
        while dues := self._dues(awake):
            results = self._ensemble.step([due for _, mine in dues for due in mine])
            at = 0
            for runner, mine in dues:
                found = self._take(runner, mine, results[at : at + len(mine)])
                at += len(mine)
                if found:
                    self._lanes.add(found, self._clock.boot_ns())
                    self._show(found)
        self._due.set()

    def _prepare(self, runner: TwinRunner, arrived: Sequence[Batch], now_ns: int) -> bool:
        """Hands samples to one model; False while it rests."""
        if self._clock.boot_ns() < self._rests_until_ns.get(runner.wiring.twin, 0):
            return False
        try:
            for batch in arrived:
                runner.push(batch, now_ns)
            runner.close(now_ns)
        except Exception as error:  # noqa: BLE001 - see _rest
            self._rest(runner, error)
            return False
        return True

    def _dues(self, runners: Sequence[TwinRunner]) -> list[tuple[TwinRunner, list[Due]]]:
        """The next tick of every model that has one."""
        found = []
        for runner in runners:
            try:
                dues = runner.due()
            except Exception as error:  # noqa: BLE001 - see _rest
                self._rest(runner, error)
                continue
            if dues:
                found.append((runner, dues))
        return found

    def _take(self, runner: TwinRunner, dues: list[Due], results: list[Estimate | Exception]) -> list[Batch]:
        try:
            return runner.take(dues, results)
        except Exception as error:  # noqa: BLE001 - see _rest
            self._rest(runner, error)
            return []

    def _rest(self, runner: TwinRunner, error: Exception) -> None:
        """Not even a defect in one model may stop the devices and the other models of the gateway."""
        twin = runner.wiring.twin
        log.error("model failed, it goes on after a rest", twin=twin, rest_s=REST_S, exc_info=error)
        self._rests_until_ns[twin] = self._clock.boot_ns() + round(REST_S * SECOND_NS)
        withdrawn = runner.withdraw(self._clock.wall_ns())
        if withdrawn:
            self._lanes.add(withdrawn, self._clock.boot_ns())
            self._show(withdrawn)
        runner.start_over()

    async def tick(self) -> None:
        """Closes ticks for which nothing more comes; runs until cancelled."""
        while True:
            self._estimate()
            self.progress += 1
            await asyncio.sleep(TICK_S)

    async def flush(self) -> None:
        """Commits lanes as their windows pass, until `end`.

        It is ended, not cancelled: a commit that is cut would be durable, and its delivery never acknowledged.
        """
        while not self._ending:
            self.flushes += 1
            self._due.clear()
            due_ns = self._lanes.due_ns()
            now_ns = self._clock.boot_ns()
            if due_ns is not None and due_ns <= now_ns:
                if not await self.commit(everything=False):
                    await asyncio.sleep(RETRY_S)
                continue
            wait_s = None if due_ns is None else (due_ns - now_ns) / SECOND_NS
            try:
                async with asyncio.timeout(wait_s):
                    await self._due.wait()
            except TimeoutError:
                continue

    def end(self) -> None:
        """Makes `flush` return after the commit that runs."""
        self._ending = True
        self._due.set()

    async def commit(self, *, everything: bool) -> bool:
        """Commits the lanes that are due, or all of them; False when the disk refused and they were put back."""
        async with self._committing:
            flush = self._taken(everything=everything)
            return flush is None or await self._store(flush)

    async def _store(self, flush: Flush) -> bool:
        try:
            await self._commit(flush, flush.catalogue)
        except StorageError as error:
            if "declared" in error.facts:
                flush.committed()
            elif "refused" in error.facts:
                rest = self._lanes.refused(flush, self._clock.boot_ns())
                if rest is not None:
                    return await self._store(rest)
            else:
                self._lanes.give_back(flush, self._clock.boot_ns())
            self.refused += 1
            if self.trouble is None:
                log.warning("the spool refuses", reason=error.reason, detail=error.message, memory=len(self._lanes))
            self.trouble = error
            return False
        except Exception as error:
            if not flush.parts:
                raise
            return await self._store(sound(flush, flush.catalogue, error))
        if self.trouble is not None:
            log.info("the spool is back", after=self.trouble.reason)
            self.trouble = None
        self.commits += 1
        flush.committed()
        return True


def _tell(deliveries: Iterable[Delivery]) -> None:
    for delivery in deliveries:
        delivery.done()
