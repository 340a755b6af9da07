"""What the agent says of itself, each second: its status document, and to its supervisor that it works."""

from __future__ import annotations

import asyncio
import importlib.metadata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import structlog

from twinedge.configuration import Configuration
from twinedge.connections import Connections
from twinedge.health import report
from twinedge.health.clock import ClockWatch
from twinedge.health.liveness import Liveness
from twinedge.health.server import StatusServer
from twinedge.lanes import Lanes
from twinedge.models import Models
from twinedge.pipeline import Pipeline
from twinedge.ports import NotAcquired
from twinedge.publication import Publication
from twinedge.replays import Replays
from twinedge.spool.store import Spool
from twinedge.storage import Storage
from twinedge.uplink.sender import Uplink
from twinmodel.clock import SECOND_NS
from twinmodel.errors import StorageError
from twinmodel.process import notify, watchdog_period_s

log = structlog.get_logger(__name__)

STATUS_S = 1.0
VERSION = importlib.metadata.version("hybridtwin")


@dataclass(frozen=True, slots=True)
class Told:
    """What the status is made of.

    Attributes:
        name: of the gateway.
        sections: further entries of the document, by name.
        troubles: further degraded states.
        loops: rounds of those that must go on, by name, besides ticks and commits.
    """

    name: str
    watch: ClockWatch
    storage: Storage
    configuration: Configuration
    connections: Connections
    models: Models
    replays: Replays
    lanes: Lanes
    pipeline: Pipeline
    publication: Publication
    uplink: Uplink | None
    sections: Mapping[str, Callable[[], Any]]
    troubles: Callable[[], list[str]]
    loops: Mapping[str, Callable[[], int]]


class Telling:
    """Publishes the status and feeds the watchdog while real work is done."""

    def __init__(self, told: Told, server: StatusServer) -> None:
        self._told = told
        self._server = server
        loops = {"ticks": lambda: told.pipeline.progress, "commits": lambda: told.pipeline.flushes, **told.loops}
        self._liveness = Liveness(loops, told.watch.clock.boot_ns())
        self._stuck: list[str] = []
        self._speechless: set[str] = set()

    async def run(self) -> NoReturn:
        """Runs until cancelled."""
        period_s = watchdog_period_s()
        fed_ns = 0
        clock = self._told.watch.clock
        while True:
            await self._look_at_time()
            self._server.publish(await self.status())
            now_ns = clock.boot_ns()
            self._look_at_loops(now_ns)
            if period_s is not None and now_ns - fed_ns >= period_s / 2 * SECOND_NS and not self._stuck:
                notify("WATCHDOG=1")
                fed_ns = now_ns
            await asyncio.sleep(STATUS_S)

    async def _look_at_time(self) -> None:
        """A suspended machine measured nothing, and its timers stood still: it says so, and comes back at once."""
        told = self._told
        slept = told.watch.look()
        if (put := told.watch.taken_put()) is not None:
            await told.pipeline.put_right(put.span_ns, put.shift_ns, self._put_right_stored)
        if slept is not None:
            await told.pipeline.put(NotAcquired("*", "AGENT_SUSPENDED", slept.from_ns, slept.to_ns))
            if told.uplink is not None:
                told.uplink.retry_now()

    async def _put_right_stored(self, span_ns: tuple[int, int], shift_ns: int) -> int:
        return await self._told.storage.call(Spool.put_right, span_ns, shift_ns)

    def _look_at_loops(self, now_ns: int) -> None:
        """Names the loops that stand still; the spool answered, or this line would not be reached."""
        stuck = self._liveness.stuck(now_ns)
        if stuck and stuck != self._stuck:
            log.error("loops stand still", loops=stuck)
        elif self._stuck and not stuck:
            log.info("all loops go on", loops=self._stuck)
        self._stuck = stuck

    async def status(self) -> Mapping[str, Any]:
        """The status document."""
        storage = self._told.storage
        try:
            waiting = await storage.call(Spool.backlog)
            disk_bytes = await storage.call(Spool.disk_bytes)
            forecast = await storage.call(Spool.forecast)
        except StorageError as error:
            return self._document(report.NO_SPOOL, [error])
        age_ns = self._told.watch.clock.wall_ns() - waiting.oldest_ns if waiting.oldest_ns is not None else 0
        spool = {
            "bytes": disk_bytes,
            "backlog_bytes": waiting.bytes,
            "backlog_samples": waiting.samples,
            "backlog_age_s": max(age_ns, 0) / SECOND_NS,
            "hours_until_full": forecast.hours_until_full,
        }
        return self._document(spool, [])

    def _document(self, spool: Mapping[str, Any], troubles: list[StorageError]) -> Mapping[str, Any]:
        told = self._told
        uplink = told.uplink.status() if told.uplink is not None else None
        stages = (told.pipeline.trouble, told.publication.trouble, told.configuration.trouble)
        troubles += [error for error in stages if error is not None]
        degraded = [error.reason for error in troubles] + ["LOOP_STUCK"] * bool(self._stuck)
        if uplink is not None and uplink.needs_operator:
            degraded.append(uplink.reason)
        degraded += told.configuration.degraded()
        degraded += told.troubles()
        return {
            "gateway": told.name,
            "version": VERSION,
            "degraded": list(dict.fromkeys(degraded)),
            "stuck": self._stuck,
            "clock": told.watch.quality().name,
            "time": told.watch.document(),
            "devices": report.devices(told.connections.drivers),
            "twins": report.twins(told.models.runners),
            "uplink": report.uplink(uplink),
            "repeats": told.replays.found,
            **self._sections(),
            **report.buffers(told.lanes, told.pipeline, spool),
        }

    def _sections(self) -> dict[str, Any]:
        """What parts say of themselves; a defect in one must not end the status, and with it the watchdog's food."""
        said: dict[str, Any] = {}
        for name, section in self._told.sections.items():
            try:
                said[name] = section()
            except Exception:
                if name not in self._speechless:
                    log.exception("part cannot say how it is, the status goes without it", part=name)
                self._speechless.add(name)
        self._speechless -= said.keys()
        return said
