"""site.yaml and the profiles it names, read together and checked against each other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from twinedge.config.alarm_check import check_alarms
from twinedge.config.commands import check_commands
from twinedge.config.device_check import check_address, check_line, check_root, check_security, members
from twinedge.config.northbound import check_northbound
from twinedge.config.schema import Device, Site, Twin
from twinmodel.errors import ConfigError
from twinmodel.profile.document import Document, in_order, joined, read_document
from twinmodel.profile.find import default_folders, find_profile
from twinmodel.profile.load import load_profile
from twinmodel.profile.schema import FirmwareProfile

ReadProfile = Callable[[Path, Sequence[Path]], FirmwareProfile]


@dataclass(frozen=True, slots=True)
class LoadedSite:
    """A gateway's configuration, complete.

    Attributes:
        site: content of site.yaml.
        profiles: device -> its firmware profile; devices of one profile share the object.
        path: where site.yaml lies; relative paths in it start there.
        document: places of its keys, for errors found later.
        entries: name in site.yaml -> the devices it stands for.
        files: device -> the file its profile is read from.
    """

    site: Site
    profiles: Mapping[str, FirmwareProfile]
    path: Path
    document: Document
    entries: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    files: Mapping[str, Path] = field(default_factory=dict)

    def beside(self, relative: str) -> Path:
        """A path that site.yaml names, made absolute."""
        return (self.path.parent / relative).resolve()


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with one part of a configuration.

    Attributes:
        part: `device`, `twin`, or `site` for what concerns all of it.
        name: of the device or twin as site.yaml calls it, "" for the site.
        error: reason, place, hint.
    """

    part: str
    name: str
    error: ConfigError

    def document(self) -> dict[str, Any]:
        """As JSON."""
        places = {key: self.error.facts.get(key) for key in ("path", "line", "column")}
        told = {"reason": self.error.reason, "message": self.error.message, "hint": self.error.hint}
        return {"part": self.part, "name": self.name, **told, **places}


@dataclass(frozen=True, slots=True)
class Examined:
    """A configuration and everything wrong with it.

    Attributes:
        loaded: what can run, without the parts that are wrong, or with what they were before; None when nothing can.
        faults: in the order of their places.
    """

    loaded: LoadedSite | None
    faults: tuple[Fault, ...]


def load_site(path: Path | str) -> LoadedSite:
    """Reads site.yaml and every profile its devices name.

    Raises:
        ConfigError: with path, line and column; it lists everything wrong: whatever `read_yaml` and `load_profile`
            raise, PROFILE_MISSING, VALUE_INVALID for an address or a profile of another protocol.
    """
    return sound(examine_site(read_document(path)))


def sound(examined: Examined) -> LoadedSite:
    """The configuration, if nothing is wrong with it; else raises one ConfigError that lists all that is."""
    if examined.faults or examined.loaded is None:
        raise joined(list(dict.fromkeys(fault.error for fault in examined.faults)))
    return examined.loaded


def examine_site(
    document: Document,
    *,
    before: LoadedSite | None = None,
    overlay: Path | None = None,
    read_profile: ReadProfile = load_profile,
) -> Examined:
    """Reads what site.yaml says, and tells everything wrong with it; raises nothing.

    Args:
        document: site.yaml.
        before: what runs; a device or twin that is wrong now stays as it is there.
        overlay: folder of profiles that go before those of site.yaml.
        read_profile: reads one file.
    """
    examination = _Examination(document, before, read_profile)
    loaded = examination.site(overlay)
    return Examined(loaded, tuple(_ordered(examination.faults)))


class _Examination:
    """One reading of site.yaml."""

    def __init__(self, document: Document, before: LoadedSite | None, read_profile: ReadProfile) -> None:
        self.document = document
        self.before = before
        self.faults: list[Fault] = []
        self._read_profile = read_profile
        self._read: dict[str, tuple[FirmwareProfile, Path] | ConfigError] = {}
        self._devices: dict[str, Device] = {}
        self._profiles: dict[str, FirmwareProfile] = {}
        self._entries: dict[str, tuple[str, ...]] = {}
        self._files: dict[str, Path] = {}

    def site(self, overlay: Path | None) -> LoadedSite | None:
        site = self._shaped()
        if site is None:
            return None
        first = (self.document.path.parent / site.profiles).resolve() if site.profiles is not None else None
        if first is not None and not first.is_dir():
            self._refuse(self.document.error("FILE_MISSING", ("profiles",), f"no folder {first}"))
            return None
        folders = [*([overlay] if overlay is not None else []), *default_folders(first)]
        written = self.document.content
        assert isinstance(written, dict), "it has the shape of a site"
        for name in written["devices"]:
            device = site.devices.get(name)
            try:
                if device is None:
                    self._as_before(name)
                else:
                    self._device(name, device, folders, site.devices.keys())
            except ConfigError as error:
                self.faults.append(Fault("device", name, error))
                self._as_before(name)
        if not self._devices:
            return None
        twins = {name: site.twins.get(name) or self._twin_before(name) for name in written.get("twins") or {}}
        kept = {name: twin for name, twin in twins.items() if twin is not None}
        whole = site.model_copy(update={"devices": self._devices, "twins": kept})
        loaded = LoadedSite(
            whole, self._profiles, self.document.path, self.document, self._entries, self._files
        )  # fmt: skip
        if self.faults and self.before is None:
            return loaded  # what rules say of devices that are wrong is no news
        try:
            check_alarms(loaded)
            check_commands(loaded)
            check_northbound(self.document, site.northbound)
        except ConfigError as error:
            self._refuse(error)
            return None
        return loaded

    def _refuse(self, error: ConfigError) -> None:
        self.faults.append(Fault("site", "", error))

    def _shaped(self) -> Site | None:
        """The site without the devices and twins that have not the shape of one; None when more than that is wrong."""
        fitted = self.document.fit(Site)
        if not isinstance(fitted, list):
            return fitted
        bad: dict[str, set[str]] = {"devices": set(), "twins": set()}
        for error in fitted:
            fault = self._fault(error)
            self.faults.append(fault)
            if fault.part != "site":
                bad[f"{fault.part}s"].add(fault.name)
        content = self.document.content
        if not isinstance(content, dict) or any(fault.part == "site" for fault in self.faults):
            return None
        rest = {part: _without(content[part], names) for part, names in bad.items() if names}
        fitted = replace(self.document, content=content | rest).fit(Site)
        return None if isinstance(fitted, list) else fitted

    def _fault(self, error: ConfigError) -> Fault:
        """Which part of site.yaml an error is about."""
        content, key = self.document.content, str(error.facts.get("key", ""))
        for part in ("devices", "twins"):
            named = content.get(part) if isinstance(content, dict) else None
            for name in named if isinstance(named, dict) else ():
                if key == f"{part}.{name}" or key.startswith(f"{part}.{name}."):
                    return Fault(part[:-1], name, error)
        return Fault("site", "", error)

    def _as_before(self, name: str) -> None:
        """A device that is wrong stays what it was, if it was there."""
        before = self.before
        for member in before.entries.get(name, ()) if before is not None else ():
            assert before is not None, "it has entries"
            if member not in self._devices:
                self._add(name, member, before.site.devices[member], before.profiles[member], before.files[member])

    def _twin_before(self, name: str) -> Twin | None:
        return None if self.before is None else self.before.site.twins.get(name)

    def _add(self, entry: str, member: str, device: Device, profile: FirmwareProfile, file: Path) -> None:
        self._devices[member], self._profiles[member], self._files[member] = device, profile, file
        self._entries[entry] = (*self._entries.get(entry, ()), member)

    def _device(self, name: str, device: Device, folders: list[Path], others: Iterable[str]) -> None:
        """Reads one entry; raises ConfigError."""
        document = self.document
        profile, file = self._profile(name, device, folders)
        made = members(document, name, device)
        for member in made.values():
            check_address(document, name, member)
        if profile.protocol != device.protocol:
            message = f"profile {device.profile} speaks {profile.protocol}, the address is for {device.protocol}"
            raise document.error("VALUE_INVALID", ("devices", name, "profile"), message)
        check_security(document, name, device)
        check_root(document, name, device, profile)
        if twice := sorted(made.keys() & (self._devices.keys() | set(others) - {name})):
            message = f"the range makes a device {twice[0]!r}, which stands here by itself"
            raise document.error("VALUE_INVALID", ("devices", name), message, key=True)
        check_line(document, name, device, self._devices.values())
        for each, one in made.items():
            self._add(name, each, one, profile, file)

    def _profile(self, name: str, device: Device, folders: list[Path]) -> tuple[FirmwareProfile, Path]:
        """The profile of a device, read once for all that name it; raises ConfigError."""
        if device.profile not in self._read:
            try:
                path = find_profile(device.profile, folders)
                self._read[device.profile] = self._read_profile(path, folders), path
            except ConfigError as error:
                self._read[device.profile] = error
        found = self._read[device.profile]
        if not isinstance(found, ConfigError):
            return found
        if found.facts.get("path") is not None:
            raise found
        keys = ("devices", name, "profile")
        raise self.document.error(found.reason, keys, found.message, hint=found.hint) from None


def _without(named: object, names: set[str]) -> dict[str, object]:
    return {key: value for key, value in named.items() if key not in names} if isinstance(named, dict) else {}


def _ordered(faults: Iterable[Fault]) -> list[Fault]:
    """By place; one error of several devices that share its cause is told for each of them."""
    order = {id(error): number for number, error in enumerate(in_order(fault.error for fault in faults))}
    return sorted(faults, key=lambda fault: order[id(fault.error)])
