"""Which configuration this gateway runs: chosen at the start, kept with each change, told in the status.

    site.yaml ─┐
    history ───┴─▶ begin ─▶ loaded, digest, record ─▶ (reload.py) ─▶ keep

At the start site.yaml runs, unless what runs came from elsewhere and the file is as it was then. What came from the
coordinator stays until somebody applies the file: an edit nobody meant to take must not push it aside at a reboot.
A site.yaml that cannot run leaves the last one that did in force: a gateway comes back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import structlog

from twinedge.config.catalogue import ModelPorts
from twinedge.config.fitting import fitting
from twinedge.config.history import History, InForce, Record
from twinedge.config.load import Fault, LoadedSite
from twinedge.config.source import Reader, Reading, Source
from twinmodel.clock import Clock
from twinmodel.errors import ConfigError, MissingError, StorageError, TwinError

log = structlog.get_logger(__name__)

FAULTS_TOLD_MAX = 50
LAPSED = "the agent ended before the configuration had proven itself"


class Configuration:
    """The configuration in force.

    Args:
        path: the gateway's site.yaml.
        state: the agent's state directory.
        clock: times of records.

    Attributes:
        loaded: what runs.
        digest: its name.
        record: what is told of it; numbered 0 while the disk has not taken it.
        faults: parts that were refused and run as they did before.
        trouble: why it is not kept, None when it is.
        history: all that were in force.
    """

    loaded: LoadedSite
    digest: str
    record: Record

    def __init__(self, path: Path, state: Path, clock: Clock) -> None:
        self.path = path
        self.history = History(state)
        self.faults: tuple[Fault, ...] = ()
        self.trouble: StorageError | None = None
        self._clock = clock
        self._reader = Reader()
        self._unkept: tuple[Reading, Record] | None = None
        self._lapsed: tuple[Record, Record] | None = None
        self._settled: Record | None = None
        self._refused: tuple[Reading, Record] | None = None

    def begin(self) -> LoadedSite:
        """Chooses what runs; blocks. Writes nothing: another agent may hold the state directory; see `keep_begun`.

        Raises:
            ConfigError: site.yaml cannot run, and nothing ran before.
        """
        last = self._last()
        kept = self._kept(last) if last is not None else None
        if last is None or kept is None:
            reading = self.read(Source.of(self.path))
            self.loaded, self.faults = fitting(reading.examined, None, {})
            self._take(reading, self.note("file", "agent", "first start" if last is None else "the last is lost"))
            return self.loaded
        before, reading = kept
        self.loaded, self.digest, self.record = before, reading.digest, last
        try:
            there = self.read(Source.of(self.path), before)
            if there.digest == last.digest or (there.digest == last.file_digest or last.origin == "directive"):
                return self._as_it_was(there, last)
            self.loaded, self.faults = fitting(there.examined, before, {})
        except ConfigError as wrong:
            self.faults = (Fault("site", "", wrong),)
            log.warning("site.yaml cannot run, the last configuration that did goes on", detail=str(wrong))
            return before
        self._take(there, self.note("file", "agent", "edited before the start"))
        return self.loaded

    def _as_it_was(self, there: Reading, last: Record) -> LoadedSite:
        if there.digest != last.digest:
            log.info("site.yaml is not what runs", runs=last.number, origin=last.origin, digest=last.digest[:12])
        elif there.examined.loaded is not None:
            self.loaded, self.faults = fitting(there.examined, self.loaded, {})
        return self.loaded

    def _last(self) -> Record | None:
        """The last configuration that has proven itself; one that was on trial when the agent ended has not."""
        in_force = self.history.in_force()
        if in_force is None:
            return None
        try:
            if not in_force.fallback:
                return self._proven(self.history.get(in_force.number))
            last = self.history.get(in_force.fallback)
            self._lapsed = self.history.get(in_force.number), last
        except MissingError:
            return None
        log.error("configuration was on trial when the agent ended, the one before it is back", back=last.number)
        return last

    def _proven(self, last: Record) -> Record:
        """One whose trial had ended well when the agent did, though its record does not say so yet."""
        if last.outcome == "probation":
            last = self._settled = replace(last, outcome="applied")
        return last

    def _kept(self, last: Record) -> tuple[LoadedSite, Reading] | None:
        """What a record stands for; a part that was refused is as it was in those before it."""
        chain, records = [last], {record.number: record for record in self.history.records()}
        while chain[0].outcome == "partly" and chain[0].number - 1 in records:
            chain.insert(0, records[chain[0].number - 1])
        found: tuple[LoadedSite, Reading] | None = None
        for record in chain:
            if record.outcome == "failed":
                continue
            try:
                reading = self.read(self.history.source(record), found[0] if found else None)
                loaded = found[0] if found else reading.examined.loaded
                if loaded is not None:
                    found = fitting(reading.examined, loaded, {})[0], reading
            except TwinError as error:
                log.warning("a configuration of the history cannot be read", number=record.number, detail=error.message)
        return found if found is not None and found[1].digest == last.digest else None

    def read(self, source: Source, before: LoadedSite | None = None) -> Reading:
        """Reads a configuration; blocks, raises ConfigError when it cannot even be parsed."""
        return self._reader.read(source, before)

    def judge(self, reading: Reading, running: Mapping[str, ModelPorts]) -> tuple[LoadedSite, tuple[Fault, ...]]:
        """What of it can run in place of what does; see `fitting`."""
        return fitting(reading.examined, self.loaded, running)

    def file_digest(self) -> str:
        """Digest of what lies at site.yaml now, "" for what cannot be read; blocks."""
        try:
            return self.read(Source.of(self.path), self.loaded if hasattr(self, "loaded") else None).digest
        except ConfigError:
            return ""

    def note(self, origin: str, who: str, why: str, directive: str = "") -> Record:
        """A record of a configuration that is applied now."""
        now_ns = self._clock.wall_ns()
        return Record(0, now_ns, who, why, origin, "", "applied", path=str(self.path), directive=directive)

    def keep_begun(self) -> None:
        """Writes what `begin` found; blocks. A disk that refuses keeps nobody from running."""
        if self._unkept is not None:
            self.keep(*self._unkept)
        try:
            if self._settled is not None:
                self.history.settle(self._settled)
            if self._lapsed is None:
                return
            tried, last = self._lapsed
            if self._unkept is None:
                self.history.put_in_force(InForce(last.number))
            self.history.settle(replace(tried, outcome="failed", detail=LAPSED))
        except StorageError as error:
            self.trouble = error
            log.warning("end of a trial not kept", reason=error.reason, detail=error.message)

    def _take(self, reading: Reading, record: Record) -> None:
        self.take(reading, self.loaded, self.faults)
        self.record = replace(record, digest=reading.digest, file_digest=reading.digest)
        self._unkept = reading, self.record

    def take(self, reading: Reading, loaded: LoadedSite, faults: tuple[Fault, ...]) -> None:
        """This one runs now."""
        self.loaded, self.faults, self.digest = loaded, faults, reading.digest

    def keep(self, reading: Reading, record: Record) -> None:
        """Writes what runs into the history; blocks. A disk that refuses changes nothing but that it is told."""
        outcome = "partly" if self.faults and record.outcome == "applied" else record.outcome
        faults = tuple(fault.document() for fault in self.faults[:FAULTS_TOLD_MAX])
        self.record = replace(record, digest=reading.digest, outcome=outcome, faults=faults)
        try:
            self.record = self.history.add(self.record, reading)
        except StorageError as error:
            if self.trouble is None:
                log.warning("configuration runs, but is not kept", reason=error.reason, detail=error.message)
            self.trouble, self._refused = error, (reading, record)
        else:
            self.trouble = self._refused = None

    def keep_again(self) -> None:
        """Writes what the disk has refused to take; blocks."""
        if self._refused is not None:
            self.keep(*self._refused)

    def keep_trial(self, reading: Reading, record: Record) -> Record:
        """Keeps a configuration that is to be tried, and which one comes back if it fails; blocks.

        Raises:
            StorageError: the disk refuses; what runs is in force as before.
        """
        in_force = self.history.in_force()
        if in_force is None or self.record.number == 0:
            raise self.trouble or StorageError("STATE_INVALID", "what runs is not kept, so nothing could come back")
        kept = self.history.add(replace(record, digest=reading.digest), reading, in_force=False)
        self.history.put_in_force(InForce(kept.number, in_force.fallback or in_force.number))
        return kept

    def end_trial(self, record: Record, failure: str = "") -> None:
        """A trial is over: it stays, or failed and the one before it counts again; blocks, raises StorageError."""
        in_force = self.history.in_force()
        if failure:
            if in_force is not None and in_force.number == record.number:
                self.history.put_in_force(InForce(in_force.fallback))
            self.history.settle(replace(record, outcome="failed", detail=failure))
            return
        self.history.put_in_force(InForce(record.number))
        applied = replace(record, outcome="applied")
        self.history.settle(applied)
        if self.record.number == record.number:
            self.record = applied

    def degraded(self) -> list[str]:
        """What is wrong with it, by reason."""
        return ["CONFIG_REFUSED"] if self.faults else []

    def status(self) -> dict[str, Any]:
        """What runs, for people."""
        record = self.record
        return {
            "number": record.number,
            "digest": self.digest,
            "origin": record.origin,
            "who": record.who,
            "why": record.why,
            "at_ns": record.at_ns,
            "outcome": record.outcome,
            "kept": self.trouble is None,
            "faults": [fault.document() for fault in self.faults[:FAULTS_TOLD_MAX]],
        }
