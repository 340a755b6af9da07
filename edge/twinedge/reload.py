"""Another configuration while the agent runs: only what it changes is touched.

    read ─▶ fit ─▶ plan (models, numbers) ─┬─▶ gate, models, catalogue: between two samples ─▶ connections ─▶ history
            └── refused: nothing changes   └── no disk is waited for

A part that is wrong stays as it is and is named; a file that cannot be parsed changes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import structlog

from twinedge.config.fitting import refused
from twinedge.config.history import Record
from twinedge.config.load import Fault, LoadedSite
from twinedge.config.source import Reading, Source
from twinedge.configuration import Configuration
from twinedge.connections import Changed, Connections
from twinedge.drivers.registry import assignments_of
from twinedge.gate.gate import Gate
from twinedge.gate.rules import rules_of
from twinedge.lanes import Lanes, windows_of
from twinedge.models import Models
from twinedge.pipeline import Pipeline
from twinedge.publication import Publication
from twinedge.replays import Replays, source_stamped
from twinmodel.clock import MILLISECOND_NS, Clock

log = structlog.get_logger(__name__)

Follower = Callable[[LoadedSite], None]
RESTART = ("site", "status")
"""Sections that count from the next start of the agent on."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What a configuration reaches."""

    models: Models
    replays: Replays
    gate: Gate
    lanes: Lanes
    pipeline: Pipeline
    connections: Connections
    publication: Publication


@dataclass(frozen=True, slots=True)
class Reloaded:
    """What a reload did.

    Attributes:
        took_ms: from being asked to the last connection that had to change, without what is written to the history.
        changed: what became of connections.
        faults: parts that were refused.
        at_restart: sections that changed and count from the next start on.
        record: what the history says of it.
        unchanged: whether all of it ran already.
    """

    took_ms: float
    changed: Changed
    faults: tuple[Fault, ...]
    at_restart: tuple[str, ...]
    record: Record
    unchanged: bool = False

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "number": self.record.number,
            "digest": self.record.digest,
            "outcome": self.record.outcome,
            "unchanged": self.unchanged,
            "took_ms": self.took_ms,
            **{name: list(names) for name, names in asdict(self.changed).items()},
            "faults": [fault.document() for fault in self.faults],
            "at_restart": list(self.at_restart),
        }


class Reload:
    """Brings configurations about, one after the other; all calls come from the event loop.

    Args:
        configuration: what runs, and what it is called.
        parts: what it reaches.
        clock: how long it took.

    Attributes:
        amend: what the agent itself has found out, worked into each configuration that was read.
        count: configurations that were brought about.
    """

    def __init__(self, configuration: Configuration, parts: Parts, clock: Clock) -> None:
        self._configuration = configuration
        self._parts = parts
        self._clock = clock
        self._one = asyncio.Lock()
        self._followers: list[Follower] = []
        self.amend: Callable[[LoadedSite], LoadedSite] = lambda loaded: loaded
        self.count = 0

    def follow(self, follower: Follower) -> None:
        """Calls this with each configuration that is about to run, before its catalogue is used."""
        self._followers.append(follower)

    async def apply(self, source: Source, record: Record, *, whole: bool = False) -> Reloaded:
        """Runs another configuration.

        Args:
            source: from where.
            record: who wants it and why.
            whole: whether a single part that is wrong refuses all of it.

        Raises:
            ConfigError: nothing of it can run, or not the whole; nothing has changed then.
            StorageError: of one on trial, the way back cannot be kept; nothing has changed then.
        """
        async with self._one:
            asked_ns = self._clock.boot_ns()
            configuration = self._configuration
            reading = await asyncio.to_thread(configuration.read, source, configuration.loaded)
            running = self._parts.models.running()
            loaded, faults = await asyncio.to_thread(configuration.judge, reading, running)
            if whole and faults:
                raise refused(faults)
            before, loaded = configuration.loaded, self.amend(loaded)
            on_trial = record.outcome == "probation"
            if on_trial:  # before it runs: what dies with it must find the way back
                record = await asyncio.to_thread(configuration.keep_trial, reading, record)
            try:
                changed = await self._switch(loaded)
            except BaseException:
                if on_trial:
                    await asyncio.to_thread(configuration.end_trial, record, "it could not be brought about")
                raise
            took_ms = (self._clock.boot_ns() - asked_ns) / MILLISECOND_NS
            unchanged = reading.digest == configuration.digest and not faults and not configuration.faults
            configuration.take(reading, loaded, faults)
            if on_trial:
                configuration.record = record
            elif not unchanged:
                await self._keep(reading, record)
            done = Reloaded(took_ms, changed, faults, _at_restart(before, loaded), configuration.record, unchanged)
            self._tell(done, record)
            return done

    async def switch(self) -> Changed:
        """Amends what runs, when its turn has come; the history says nothing of it."""
        async with self._one:
            # Not what ran when it was asked for: another configuration may have come meanwhile.
            loaded = self.amend(self._configuration.loaded)
            changed = await self._switch(loaded)
            self._configuration.loaded = loaded
            return changed

    async def keep_again(self) -> None:
        """Keeps what runs, where the disk has refused it before."""
        async with self._one:
            await asyncio.to_thread(self._configuration.keep_again)

    async def _switch(self, loaded: LoadedSite) -> Changed:
        """Everything up to the first wait of `change` happens between two samples."""
        parts = self._parts
        await parts.connections.settled()
        plan = await asyncio.to_thread(parts.models.plan, loaded)
        wanted = assignments_of(loaded, plan.numbered)
        fresh = parts.connections.fresh(wanted)
        rules = rules_of(loaded, plan.numbered)
        parts.models.adopt(plan)
        parts.pipeline.run_models(parts.models.runners)
        parts.gate.use(rules, plan.numbered.begun)
        stamped = source_stamped(loaded, plan.numbered.signals.values())
        parts.replays.use(*stamped, plan.numbered.begun)
        parts.lanes.resize(windows_of(loaded.site.spool.sync, loaded.site.spool.sync_telemetry))
        for follower in self._followers:
            self._tell_follower(follower, loaded)
        await parts.publication.use(parts.models.catalogue(), plan.numbered)
        self.count += 1
        return await parts.connections.change(wanted, fresh)

    @staticmethod
    def _tell_follower(follower: Follower, loaded: LoadedSite) -> None:
        """A defect in one must not leave the drivers with one configuration and the lanes with another."""
        try:
            follower(loaded)
        except Exception:
            log.exception("part does not follow the configuration", part=str(follower))

    async def _keep(self, reading: Reading, record: Record) -> None:
        configuration = self._configuration
        if not record.file_digest:
            file_digest = (
                reading.digest if record.origin == "file" else await asyncio.to_thread(configuration.file_digest)
            )
            record = replace(record, file_digest=file_digest)
        await asyncio.to_thread(configuration.keep, reading, record)

    @staticmethod
    def _tell(done: Reloaded, record: Record) -> None:
        facts: Mapping[str, Any] = {
            "number": done.record.number,
            "origin": record.origin,
            "who": record.who,
            "why": record.why,
            "took_ms": round(done.took_ms, 1),
            "restarted": list(done.changed.restarted)[:20],
            "changed": list(done.changed.changed)[:20],
            "started": list(done.changed.started)[:20],
            "stopped": list(done.changed.stopped)[:20],
        }
        if done.unchanged:
            log.info("configuration is the one that runs", digest=done.record.digest[:12])
        else:
            log.info("configuration changed", **facts)
        for fault in done.faults:
            place = ":".join(str(fault.error.facts[k]) for k in ("path", "line") if fault.error.facts.get(k))
            log.error(
                "part of the configuration refused, it stays as it was",
                part=fault.part, name=fault.name, reason=fault.error.reason, place=place, detail=fault.error.message,
            )  # fmt: skip


def _at_restart(before: LoadedSite, after: LoadedSite) -> tuple[str, ...]:
    return tuple(name for name in RESTART if getattr(before.site, name) != getattr(after.site, name))
