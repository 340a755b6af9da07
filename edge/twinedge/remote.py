"""Configurations that the coordinator sends: checked whole, tried for a while, and taken back when they do not hold.

    directive ─▶ base, profiles ─▶ marker on the disk ─▶ reload ─▶ probation ─┬─▶ APPLIED
                                                                              └─▶ the last good one ─▶ REJECTED

One at a time: another one that comes meanwhile waits until the trial has ended, and is judged by what runs then.
Whatever ends the agent while one is on trial, the next start is with the last good one: a mistake sent to a gateway
nobody can reach must not be the last thing that gateway hears.
"""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import msgpack
import structlog

from twinedge.config.history import Record
from twinedge.config.source import Source
from twinedge.configuration import LAPSED, Configuration
from twinedge.downlink.receiver import StillOpenError
from twinedge.reload import Reload
from twinmodel.clock import SECOND_NS, Clock
from twinmodel.errors import ConfigError, ConflictError, DeniedError, InputError, StorageError, TwinError
from twinmodel.files import storage_error
from twinmodel.profile.find import default_folders
from twinmodel.profile.load import load_profile
from twinsync.directive import Directive

log = structlog.get_logger(__name__)

TARGET = "@config"
LOOK_S = 0.5
TEXT_MAX = 500
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}(/[a-z0-9][a-z0-9._-]{0,62}){2}")

Status = Callable[[], Awaitable[Mapping[str, Any]]]
Conclude = Callable[[Directive, TwinError | None], None]


@dataclass(frozen=True, slots=True)
class Sent:
    """What a directive carries.

    Attributes:
        site: text of site.yaml.
        profiles: `vendor/device/version` -> text of a profile that goes before those on the gateway.
        by, why: who sent it, and why.
        base: digest of the configuration it was written against, "" for any.
    """

    site: str
    profiles: Mapping[str, str]
    by: str
    why: str
    base: str


@dataclass(slots=True)
class _Trial:
    """A configuration that has to prove itself."""

    directive: Directive
    record: Record
    before: Mapping[str, Any]
    end_ns: int


class Remote:
    """Tries what the coordinator sends; all calls come from the event loop.

    Args:
        configuration: what runs.
        reload: brings another one about.
        status: what the agent says of itself.
        conclude: told how a trial ended.
        folder: where profiles that came are put.
        clock: measures the probation.
    """

    def __init__(
        self,
        configuration: Configuration,
        reload: Reload,
        status: Status,
        conclude: Conclude,
        folder: Path,
        clock: Clock,
    ) -> None:
        self._configuration = configuration
        self._reload = reload
        self._status = status
        self._conclude = conclude
        self._folder = folder
        self._clock = clock
        self._trial: _Trial | None = None
        self._begun = asyncio.Event()

    def digest(self) -> bytes:
        """Digest of what runs."""
        return bytes.fromhex(self._configuration.digest)

    def on_trial(self) -> dict[str, Any] | None:
        """What is being tried and for how long yet, None for nothing."""
        trial = self._trial
        if trial is None:
            return None
        left_s = max(trial.end_ns - self._clock.boot_ns(), 0) / SECOND_NS
        return {"number": trial.record.number, "left_s": left_s, "directive": trial.directive.id}

    async def obey(self, directive: Directive) -> None:
        """Begins to try a configuration; raises StillOpenError once it runs, or why it does not.

        Raises:
            TwinError: FORBIDDEN, CONFIG_CONFLICT, PROBATION_FAILED of one that was tried before, what is wrong with
                it; a StorageError when the way back cannot be kept.
        """
        configuration = self._configuration
        sent = parse(directive.content)
        if await self._has_proven_itself(directive):
            return
        if not configuration.loaded.site.config.remote:
            hint = "write `config: {remote: true}` into site.yaml on the gateway and reload it"
            text = "this gateway takes no configuration from afar: its own site.yaml must say `config: {remote: true}`"
            raise DeniedError("FORBIDDEN", text, hint=hint)
        if sent.base and sent.base != configuration.digest:
            text = f"written against {sent.base[:12]}, but {configuration.digest[:12]} runs"
            raise ConflictError("CONFIG_CONFLICT", text)
        overlay = await asyncio.to_thread(_put, self._folder, sent.profiles)
        record = configuration.note("directive", sent.by, sent.why, directive.id)
        file_digest = await asyncio.to_thread(configuration.file_digest)
        probation_ns = configuration.loaded.site.config.probation
        before = self._trial.before if self._trial is not None else await self._status()
        source = Source(sent.site, configuration.path, overlay)
        await asyncio.to_thread(self._check, source, sent.profiles)
        done = await self._reload.apply(source, _tried(record, file_digest), whole=True)
        if done.unchanged and done.record.directive != directive.id:
            return
        self._trial = _Trial(directive, done.record, before, self._clock.boot_ns() + probation_ns)
        self._begun.set()
        raise StillOpenError

    async def _has_proven_itself(self, directive: Directive) -> bool:
        """A directive that comes again: it runs, is being tried, or its trial was cut by the end of the agent.

        Raises:
            ConflictError: PROBATION_FAILED.
            StillOpenError: it is being tried.
        """
        if self._trial is not None and self._trial.directive.id == directive.id:
            raise StillOpenError
        records = await asyncio.to_thread(self._configuration.history.records)
        mine = [record for record in records if record.directive == directive.id]
        if mine and mine[-1].outcome != "applied":
            raise ConflictError("PROBATION_FAILED", mine[-1].detail or LAPSED)
        return bool(mine) and mine[-1].number == self._configuration.record.number

    def _check(self, source: Source, profiles: Mapping[str, str]) -> None:
        """What cannot be tried, or would be without effect.

        Raises:
            DeniedError: FORBIDDEN: a port that is taken shows at the next start, when nothing takes it back.
            ConfigError: what is wrong with a profile, also with one that no device names; it would be lost.
        """
        reading = self._configuration.read(source, self._configuration.loaded)
        loaded = reading.examined.loaded
        if loaded is None:
            return  # what is wrong with it is told when it is applied
        for name in profiles.keys() - reading.profiles.keys() if not reading.examined.faults else ():
            path = (source.overlay or self._folder) / f"{name}.yaml"
            load_profile(path, [path.parents[2], *default_folders()])
            hint = f"leave it out, or have a device name it: `profile: {name}`"
            raise ConfigError("VALUE_INVALID", f"no device is read by profile {name}, which was sent along", hint=hint)
        if loaded.site.status != self._configuration.loaded.site.status:
            hint = "leave `status` as it is, and change it in site.yaml on the gateway"
            raise DeniedError("FORBIDDEN", "`status` counts from the next start on and cannot be tried", hint=hint)

    async def run(self) -> NoReturn:
        """Watches trials to their end, until cancelled."""
        while True:
            if self._trial is None:  # there is one after a defect in the round before
                await self._begun.wait()
            self._begun.clear()
            while (trial := self._trial) is not None:
                left_ns = trial.end_ns - self._clock.boot_ns()
                if self._configuration.record.number != trial.record.number:
                    await self._end(trial, "it was replaced on site before it had proven itself", back=False)
                elif left_ns > 0:
                    await asyncio.sleep(min(LOOK_S, left_ns / SECOND_NS))
                else:
                    await self._end(trial, failure(trial.before, await self._status()), back=True)

    async def _end(self, trial: _Trial, why: str, *, back: bool) -> None:
        """Keeps how a trial ended, and tells it once the disk has it; what failed is replaced at once."""
        if why and back:
            log.error(
                "configuration failed its probation, the last good one comes back", number=trial.record.number, why=why
            )
            await self._back(trial)
        while True:
            try:
                await asyncio.to_thread(self._configuration.end_trial, trial.record, why)
                break
            except StorageError as error:
                log.warning("end of a trial not kept, trying on", reason=error.reason, detail=error.message)
                await asyncio.sleep(1.0)
        if self._trial is trial:
            self._trial = None
        self._conclude(trial.directive, ConflictError("PROBATION_FAILED", why) if why else None)

    async def _back(self, trial: _Trial) -> None:
        configuration = self._configuration
        history = configuration.history
        in_force = await asyncio.to_thread(history.in_force)
        if in_force is None or not in_force.fallback:
            return
        note = configuration.note("rollback", "agent", f"{trial.record.number} failed its probation")
        try:
            last = await asyncio.to_thread(history.get, in_force.fallback)
            await self._reload.apply(await asyncio.to_thread(history.source, last), note)
        except TwinError as error:  # a person has to look: the next start tries it again
            log.exception("the last good configuration does not come back", number=in_force.fallback, detail=str(error))


def parse(content: bytes) -> Sent:
    """Reads what a directive carries; raises InputError REQUEST_INVALID."""
    try:
        document = msgpack.unpackb(content)
        profiles = document.get("profiles") or {}
        sent = Sent(document["site"], profiles, *(str(document.get(k) or "")[:TEXT_MAX] for k in ("by", "why", "base")))
        assert isinstance(sent.site, str), "no text of a site.yaml"
        for name, text in profiles.items():
            assert isinstance(text, str), f"profile {name!r} is no text"
            assert _NAME.fullmatch(name), f"{name!r} names no profile, write vendor/device/version"
            assert ".." not in name, f"{name!r} names no profile"
    except (AssertionError, AttributeError, KeyError, TypeError, ValueError, msgpack.UnpackException) as wrong:
        raise InputError("REQUEST_INVALID", f"no configuration: {wrong}") from None
    return sent


def failure(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """Why a configuration has not proven itself, "" when it has.

    Args:
        before: status before it ran.
        after: status at the end of its probation.
    """
    devices = {device["device"]: device for device in after["devices"]}
    answered = [device["device"] for device in before["devices"] if device["connected"]]
    silent = [name for name in answered if name in devices and not devices[name]["connected"]]
    found = []
    if silent:
        shown = ", ".join(f"{name} ({devices[name]['last_error'] or 'no answer'})" for name in silent[:5])
        found.append(f"{len(silent)} devices that answered before do not: {shown}")
    if before["uplink"]["connected"] and not after["uplink"]["connected"]:
        found.append(f"there is no session with the coordinator: {after['uplink']['last_error']}")
    worse = [reason for reason in after["degraded"] if reason not in before["degraded"]]
    if worse:
        found.append(f"the agent is degraded: {', '.join(worse)}")
    return "; ".join(found)


def _tried(record: Record, file_digest: str) -> Record:
    return replace(record, outcome="probation", file_digest=file_digest)


def _put(folder: Path, profiles: Mapping[str, str]) -> Path | None:
    """Writes profiles where they are read from before they are kept; raises StorageError."""
    try:
        shutil.rmtree(folder, ignore_errors=True)
        for name, text in profiles.items():
            path = folder / f"{name}.yaml"
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            path.write_text(text)
    except OSError as error:
        raise storage_error(error, folder) from error
    return folder if profiles else None
