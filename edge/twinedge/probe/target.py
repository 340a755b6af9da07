"""What a person writes on the command line as the place of a device, read generously: a host alone is enough."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

from twinedge.config import broker
from twinedge.config.address import PORT, ModbusAddress, parse_modbus
from twinmodel.errors import InputError

OPCUA_PORT = 4840
UNITS_MAX = 256
_HOST = re.compile(r"[A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\]")
_NUMBERS = re.compile(r"[0-9.]+")
_PART = re.compile(r"(\d{1,3})(?:(?:\.\.|-)(\d{1,3}))?")
_RANGE = re.compile(r"[\[(]?\s*([-+0-9.eE]+)\s*(?:\.\.|,)\s*([-+0-9.eE]+)\s*[\])]?")


def modbus_target(text: str) -> ModbusAddress:
    """`10.0.0.7`, `10.0.0.7:502`, `tcp://...`, `rtu+tcp://...`, `rtu:///dev/ttyUSB0?baud=9600`, `/dev/ttyUSB0`.

    Raises:
        InputError: VALUE_INVALID.
    """
    whole = text
    if text.startswith("/dev/"):
        whole = f"rtu://{text}"
    elif text.startswith("rtu:/dev/"):
        whole = f"rtu://{text.removeprefix('rtu:')}"
    elif "://" not in text:
        whole = f"tcp://{text}" if _has_port(text) else f"tcp://{text}:{PORT}"
    _refuse_no_host(text, urlsplit(whole).netloc)
    try:
        return parse_modbus(whole)
    except ValueError as wrong:
        raise InputError("VALUE_INVALID", str(wrong), hint="write e.g. 10.0.0.7:502 or rtu:///dev/ttyUSB0") from None


def url_target(text: str, protocol: str) -> str:
    """The URL of an OPC UA server or an MQTT broker; a host alone gets scheme and port. Raises InputError."""
    schemes = ("opc.tcp",) if protocol == "opcua" else ("mqtt", "mqtts")
    port = OPCUA_PORT if protocol == "opcua" else broker.PORT
    example = "opc.tcp://10.0.0.9:4840" if protocol == "opcua" else "mqtt://broker:1883"
    url = text
    if "://" not in text:
        url = f"{schemes[0]}://{text}" if _has_port(text) else f"{schemes[0]}://{text}:{port}"
    parts = urlsplit(url)
    try:
        fits = parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
        if fits and not parts.port:
            port = broker.PORT_TLS if parts.scheme == "mqtts" else port
            url = f"{parts.scheme}://{parts.netloc}:{port}{parts.path}"
    except ValueError:
        fits = False
    if not fits or not _HOST.fullmatch((parts.netloc.rpartition("@")[2]).rsplit(":", 1)[0] or "?"):
        raise InputError("VALUE_INVALID", f"{text!r} is no address", hint=f"write e.g. {example}")
    _refuse_no_host(text, parts.netloc.rpartition("@")[2])
    if parts.username is not None or parts.password is not None:
        hint = "use --user and --password-file: what stands on a command line is seen by everybody on this machine"
        raise InputError("VALUE_INVALID", "no user or password in an address", hint=hint)
    return url


def units_of(text: str) -> list[int]:
    """Unit ids: `1`, `1..32`, `1,5,10..20`. Raises InputError."""
    found: dict[int, None] = {}
    for part in text.split(","):
        match = _PART.fullmatch(part.strip())
        low, high = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if not 0 <= low <= high < UNITS_MAX:
            hint = "write e.g. 1, 1..32 or 1,5,10..20; unit ids are 0..255"
            raise InputError("VALUE_INVALID", f"{part.strip()!r} is no range of unit ids", hint=hint)
        found |= dict.fromkeys(range(low, high + 1))
    return list(found)


def range_of(text: str | None) -> tuple[float, float] | None:
    """`0..100`, `-5,5` or `[0, 100]` as two numbers. Raises InputError."""
    if text is None:
        return None
    match = _RANGE.fullmatch(text.strip())
    try:
        low, high = (float(match[1].rstrip(".")), float(match[2])) if match else (1.0, 0.0)
    except ValueError:
        low, high = 1.0, 0.0
    if not low < high:
        raise InputError("VALUE_INVALID", f"{text!r} is no range", hint="write e.g. 0..100, the lower number first")
    return low, high


def _refuse_no_host(text: str, place: str) -> None:
    """Raises InputError for numbers that are no IPv4 address, which a name server would be asked for."""
    host = place.rpartition(":")[0] if _has_port(place) else place
    if _NUMBERS.fullmatch(host) and not _is_ipv4(host):
        hint = "an IPv4 address has four numbers of 0..255, such as 10.0.0.7"
        raise InputError("VALUE_INVALID", f"{text!r} is no address", hint=hint)


def _is_ipv4(host: str) -> bool:
    try:
        ipaddress.IPv4Address(host)
    except ValueError:
        return False
    return True


def _has_port(text: str) -> bool:
    return bool(re.search(r"[^:\]]:\d+(/|$)|\]:\d+(/|$)", text))
