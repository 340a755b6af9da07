"""Devices whose firmware changes while they are read: the profile of that version takes over, or none does.

    driver meets another firmware ─▶ quarantine ─▶ profile of that version ─┬─▶ read on by it, over the same socket
                                                                             └─▶ none fits: it stays, with its reason

Only a profile that site.yaml names as `vendor/device` may be exchanged: who names a version means it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

import structlog

from twinedge.config.load import LoadedSite
from twinedge.config.source import profile_name
from twinedge.configuration import Configuration
from twinedge.connections import Connections
from twinedge.reload import Reload
from twinmodel.errors import ConfigError, TwinError
from twinmodel.profile.find import default_folders, find_profile
from twinmodel.profile.load import load_profile
from twinmodel.profile.schema import FirmwareProfile

log = structlog.get_logger(__name__)

LOOK_S = 0.5


@dataclass(frozen=True, slots=True)
class _Match:
    """The profile that reads a device in the place of the newest one."""

    named: str
    firmware: str
    path: Path
    profile: FirmwareProfile


class Rematch:
    """Gives devices the profile of the firmware they tell; all calls come from the event loop.

    Args:
        configuration: what runs.
        reload: changes it, and asks for what was found here with each further one.
        connections: the drivers.
    """

    def __init__(self, configuration: Configuration, reload: Reload, connections: Connections) -> None:
        self._configuration = configuration
        self._reload = reload
        self._connections = connections
        self._matches: dict[str, _Match] = {}
        self._tried: dict[str, tuple[str, str, int]] = {}
        reload.amend = self.amended

    async def run(self) -> NoReturn:
        """Looks for devices in quarantine, until cancelled."""
        while True:
            for driver in self._connections.drivers:
                for health in driver.health():
                    if health.quarantine == "FIRMWARE_UNKNOWN":
                        await self._meet(health.device, health.firmware)
                    elif not health.quarantine:
                        self._tried.pop(health.device, None)
            await asyncio.sleep(LOOK_S)

    async def _meet(self, device: str, firmware: str) -> None:
        loaded = self._configuration.loaded
        entry = loaded.site.devices.get(device)
        if entry is None or entry.profile.count("/") != 1:
            return
        # Once more after each reload: that is how a profile that was added is told.
        tried = entry.profile, firmware, self._reload.count
        if self._tried.get(device) == tried:
            return
        self._tried[device] = tried
        try:
            match = await asyncio.to_thread(_found, loaded, entry.profile, firmware)
            if match.path == loaded.files[device]:
                return  # its profile says it is for this one, in other words than the device does
            before = self._matches.get(device)
            self._matches[device] = match
            try:
                await self._reload.switch()
            except TwinError:
                self._matches.pop(device)
                if before is not None:
                    self._matches[device] = before
                raise
        except TwinError as error:
            log.warning(
                "device stays in quarantine", device=device, firmware=firmware, reason=error.reason, detail=str(error)
            )
            return
        log.info("device has another firmware", device=device, firmware=firmware, profile=profile_name(match.path))

    def amended(self, loaded: LoadedSite) -> LoadedSite:
        """A configuration with the profiles that devices were found to need."""
        matches = {name: match for name, match in self._matches.items() if _named(loaded, name) == match.named}
        if not matches:
            return loaded
        return replace(
            loaded,
            profiles=dict(loaded.profiles) | {name: match.profile for name, match in matches.items()},
            files=dict(loaded.files) | {name: match.path for name, match in matches.items()},
        )

    def profiles(self) -> Mapping[str, str]:
        """Device -> profile it is read by in the place of the newest one."""
        return {name: profile_name(match.path) for name, match in self._matches.items()}


def _named(loaded: LoadedSite, device: str) -> str:
    entry = loaded.site.devices.get(device)
    return "" if entry is None else entry.profile


def _found(loaded: LoadedSite, named: str, firmware: str) -> _Match:
    """The profile for a firmware; raises ConfigError FIRMWARE_UNKNOWN, PROFILE_MISSING, or what is wrong with it."""
    first = loaded.beside(loaded.site.profiles) if loaded.site.profiles is not None else None
    folders = default_folders(first)
    path = find_profile(named, folders, firmware)
    profile = load_profile(path, folders)
    known = next(device.protocol for device in loaded.site.devices.values() if device.profile == named)
    if profile.protocol != known:
        raise ConfigError("PROFILE_MISSING", f"{path} speaks {profile.protocol}, the device {known}", path=str(path))
    return _Match(named, firmware, path, profile)
