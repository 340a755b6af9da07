"""What is wrong with one device of site.yaml by itself: its address, its security, the devices a range stands for."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit

from twinedge.config.address import RANGE_MAX, parse_modbus, spread_address, spread_units
from twinedge.config.schema import Device
from twinmodel.profile.document import Document
from twinmodel.profile.schema import FirmwareProfile
from twinmodel.profile.topics import parse_node

SCHEMES = {"modbus": ("tcp", "rtu+tcp", "rtu"), "opcua": ("opc.tcp",), "mqtt": ("mqtt", "mqtts")}


def members(document: Document, name: str, device: Device) -> dict[str, Device]:
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


def check_address(document: Document, name: str, device: Device) -> None:
    """Raises ConfigError VALUE_INVALID for what is no address of its protocol, or holds a password."""
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


def check_line(document: Document, name: str, device: Device, others: Iterable[Device]) -> None:
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


def check_root(document: Document, name: str, device: Device, profile: FirmwareProfile) -> None:
    """Raises ConfigError VALUE_INVALID for a root that its profile can do nothing with."""
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


def check_security(document: Document, name: str, device: Device) -> None:
    """Raises ConfigError for security that contradicts itself, or names a file that is not there."""
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
