"""site.yaml and the profiles it names, read together and checked against each other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from twinedge.config.address import RANGE_MAX, parse_modbus, spread_address, spread_units
from twinedge.config.alarm_check import check_alarms
from twinedge.config.schema import Device, Site
from twinmodel.errors import ConfigError
from twinmodel.profile.document import Document, read_document
from twinmodel.profile.find import default_folders, find_profile
from twinmodel.profile.load import load_profile
from twinmodel.profile.schema import FirmwareProfile
from twinmodel.profile.topics import parse_node

SCHEMES = {"modbus": ("tcp", "rtu+tcp", "rtu"), "opcua": ("opc.tcp",), "mqtt": ("mqtt", "mqtts")}


@dataclass(frozen=True, slots=True)
class LoadedSite:
    """A gateway's configuration, complete.

    Attributes:
        site: content of site.yaml.
        profiles: device -> its firmware profile; devices of one profile share the object.
        path: where site.yaml lies; relative paths in it start there.
        document: places of its keys, for errors found later.
    """

    site: Site
    profiles: Mapping[str, FirmwareProfile]
    path: Path
    document: Document

    def beside(self, relative: str) -> Path:
        """A path that site.yaml names, made absolute."""
        return (self.path.parent / relative).resolve()


def load_site(path: Path | str) -> LoadedSite:
    """Reads site.yaml and every profile its devices name.

    Raises:
        ConfigError: with path, line and column: whatever `read_yaml` and `load_profile` raise, PROFILE_MISSING,
            VALUE_INVALID for an address or a profile of another protocol.
    """
    document = read_document(path)
    site = document.validate(Site)
    first = (document.path.parent / site.profiles).resolve() if site.profiles is not None else None
    if first is not None and not first.is_dir():
        raise document.error("FILE_MISSING", ("profiles",), f"no folder {first}")
    folders = default_folders(first)
    loaded: dict[str, FirmwareProfile] = {}
    profiles: dict[str, FirmwareProfile] = {}
    devices: dict[str, Device] = {}
    for name, device in site.devices.items():
        if device.profile not in loaded:
            loaded[device.profile] = _profile(document, name, device, folders)
        profile = loaded[device.profile]
        members = _members(document, name, device)
        for member in members.values():
            _check_address(document, name, member)
        if profile.protocol != device.protocol:
            message = f"profile {device.profile} speaks {profile.protocol}, the address is for {device.protocol}"
            raise document.error("VALUE_INVALID", ("devices", name, "profile"), message)
        _check_security(document, name, device)
        _check_root(document, name, device, profile)
        if twice := sorted(members.keys() & (devices.keys() | site.devices.keys() - {name})):
            message = f"the range makes a device {twice[0]!r}, which stands here by itself"
            raise document.error("VALUE_INVALID", ("devices", name), message, key=True)
        _check_line(document, name, device, devices.values())
        devices |= members
        profiles |= dict.fromkeys(members, profile)
    made = LoadedSite(site.model_copy(update={"devices": devices}), profiles, document.path, document)
    check_alarms(made)
    return made


def _members(document: Document, name: str, device: Device) -> dict[str, Device]:
    """The devices that an entry stands for: itself, or `NAME-1`, `NAME-2` ... of a range, unit by unit of each host."""
    try:
        addresses, place = [device.address], "modbus"
        if device.modbus is not None:
            addresses = spread_address(device.modbus)
        place = "unit_id"
        units = spread_units(device.unit_id)
    except ValueError as wrong:
        raise document.error("VALUE_INVALID", ("devices", name, place), str(wrong)) from None
    if len(addresses) * len(units) > RANGE_MAX:
        message = f"{len(addresses)} addresses of {len(units)} units, at most {RANGE_MAX} devices a range"
        raise document.error("VALUE_INVALID", ("devices", name, place), message)
    if len(addresses) == 1 and addresses[0] == device.address and isinstance(device.unit_id, int):
        return {name: device}
    pairs = [(address, unit) for address in addresses for unit in units]
    return {
        f"{name}-{number}": device.model_copy(update={"modbus": address, "unit_id": unit})
        for number, (address, unit) in enumerate(pairs, start=1)
    }


def _profile(document: Document, name: str, device: Device, folders: list[Path]) -> FirmwareProfile:
    try:
        path = find_profile(device.profile, folders)
    except ConfigError as missing:
        keys = ("devices", name, "profile")
        raise document.error(missing.reason, keys, missing.message, hint=missing.hint) from None
    return load_profile(path)


def _check_address(document: Document, name: str, device: Device) -> None:
    keys = ("devices", name, device.protocol)
    schemes = SCHEMES[device.protocol]
    expected = " or ".join(f"{s}://host:port" for s in schemes)
    try:
        parts = urlsplit(device.address)
        if parts.username is not None or parts.password is not None:
            hint = "use security.user and security.password_file"
            raise document.error("VALUE_INVALID", keys, "no user or password in an address", hint=hint)
        if device.protocol == "modbus":
            parse_modbus(device.address)
            return
        well_formed = parts.scheme in schemes and parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError as wrong:
        if device.protocol == "modbus":
            raise document.error("VALUE_INVALID", keys, str(wrong)) from None
        well_formed = False
    if not well_formed:
        raise document.error("VALUE_INVALID", keys, f"{device.address!r} is no address; write {expected}")


def _check_line(document: Document, name: str, device: Device, others: Iterable[Device]) -> None:
    """All units of a serial line are spoken to at one speed."""
    if device.modbus is None or not device.modbus.startswith("rtu:"):
        return
    mine = parse_modbus(device.modbus)
    for other in others:
        if other.modbus is not None and other.modbus.startswith("rtu:"):
            theirs = parse_modbus(other.modbus)
            if theirs.path == mine.path and theirs != mine:
                message = f"{mine.path} has another baud, parity or stop in a device before"
                raise document.error("VALUE_INVALID", ("devices", name, "modbus"), message)


def _check_root(document: Document, name: str, device: Device, profile: FirmwareProfile) -> None:
    keys = ("devices", name, "root")
    if profile.protocol != "mqtt":
        return
    if any(c in device.root for c in "+#\0"):
        raise document.error("VALUE_INVALID", keys, f"{device.root!r} is no beginning of a topic: no + or #")
    if profile.defaults.payload == "sparkplug":
        try:
            parse_node(device.root)
        except ValueError as wrong:
            raise document.error("VALUE_INVALID", keys, str(wrong)) from None


def _check_security(document: Document, name: str, device: Device) -> None:
    keys = ("devices", name, "security")
    security = device.security
    if (security.policy == "None") != (security.mode == "none"):
        message = f"policy {security.policy} and mode {security.mode} do not fit; give both or neither"
        raise document.error("VALUE_INVALID", keys, message)
    if (security.certificate is None) != (security.key is None):
        raise document.error("VALUE_INVALID", keys, "`certificate` and `key` belong together")
    for key in ("password_file", "server_certificate", "ca", "certificate", "key"):
        relative = getattr(security, key)
        if relative is not None and not (document.path.parent / relative).is_file():
            raise document.error("FILE_MISSING", (*keys, key), f"no file {document.path.parent / relative}")
