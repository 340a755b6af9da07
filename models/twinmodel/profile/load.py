"""Firmware profiles from disk: found by name, read with places, checked before any device is touched."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from itertools import takewhile
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel

from twinmodel import units
from twinmodel.errors import ConfigError, InputError
from twinmodel.profile.address import parse_address, parse_json_path, parse_type, scale_point
from twinmodel.profile.document import Document, KeyPath, nearest, read_document
from twinmodel.profile.node import parse_node
from twinmodel.profile.schema import FirmwareProfile, Point
from twinmodel.profile.topics import KNOWN, parse_metric, parse_payload_path, parse_template, parse_topic

M = TypeVar("M", bound=BaseModel)

SYSTEM_FOLDER = Path("/etc/hybridtwin/firmware-profiles")
_VERSION = re.compile(r"\d+|[A-Za-z]+")


def read_yaml(path: Path | str, model: type[M]) -> M:
    """Reads a YAML file into a pydantic model.

    Raises:
        ConfigError: FILE_MISSING, LIMIT_EXCEEDED, YAML_INVALID, UNKNOWN_KEY or VALUE_INVALID; it names path, line,
            column and key, lists every finding, and hints at the nearest valid key.
    """
    return read_document(path).validate(model)


def load_profile(path: Path | str) -> FirmwareProfile:
    """Reads one firmware profile, checks what the schema cannot, and fills in the types a protocol implies.

    Raises:
        ConfigError: as `read_yaml`, and UNIT_UNKNOWN.
    """
    document = read_document(path)
    profile = document.validate(FirmwareProfile)
    points = {name: _typed(profile, point) for name, point in profile.points.items()}
    profile = profile.model_copy(update={"points": points})
    check_profile(profile, document)
    return profile


def find_profile(name: str, folders: Sequence[Path]) -> Path:
    """The newest firmware file of profile `vendor/device`; the first folder that has any wins.

    `vendor/device/firmware` names one file. Raises ConfigError PROFILE_MISSING with the nearest name.
    """
    if re.fullmatch(r"[a-z0-9][a-z0-9._-]*(/[a-z0-9][a-z0-9._-]*){1,2}", name) and ".." not in name:
        for folder in folders:
            exact = folder / f"{name}.yaml"
            if name.count("/") == 2 and exact.is_file():
                return exact
            versions = [p for p in (folder / name).glob("*.yaml") if p.is_file()] if name.count("/") == 1 else []
            if versions:
                return max(versions, key=lambda p: version_key(p.stem))
    known = sorted({f"{p.parent.parent.name}/{p.parent.name}" for f in folders for p in f.glob("*/*/*.yaml")})
    guess = nearest(name, known)
    looked = ", ".join(str(f) for f in folders) or "no folder"
    hint = f"did you mean `{guess}`?" if guess else None
    raise ConfigError("PROFILE_MISSING", f"no profile {name!r} in {looked}", hint=hint, profile=name)


def default_folders(first: Path | None = None) -> list[Path]:
    """Folders searched for profiles, most specific first: `first`, the system's, the installed, the checkout's."""
    checkout = Path(__file__).resolve().parents[3]
    folders = [first] if first is not None else []
    folders += [SYSTEM_FOLDER, Path(sys.prefix) / "share/hybridtwin/firmware-profiles"]
    if (checkout / "pyproject.toml").is_file():
        folders.append(checkout / "firmware-profiles")
    return [f for f in folders if f.is_dir()]


def version_key(text: str) -> tuple[tuple[int, int, str], ...]:
    """Order of firmware versions: 2.10 comes after 2.9, and 2.0-beta before 2.0."""
    parts = _VERSION.findall(text)
    numbers = [(1, int(p), "") for p in takewhile(str.isdigit, parts)]
    while numbers and numbers[-1][1] == 0:
        numbers.pop()
    rest = [p for p in parts if not p.isdigit()]
    return (*numbers, (0, 0, "".join(rest)) if rest else (0, 1, ""))


def check_profile(profile: FirmwareProfile, document: Document) -> None:
    """Checks units, addresses, types, topics and ranges; raises ConfigError at the first one's place."""
    if profile.protocol == "modbus" and profile.base is None:
        hint = "add `base: 0` or `base: 1`: does the maker count registers from 0 or from 1?"
        raise document.error("VALUE_INVALID", ("protocol",), "a modbus profile needs `base`", hint=hint)
    if profile.protocol == "modbus" and profile.identify is not None:
        _checked(document, ("identify", "at"), lambda text: parse_address(text, profile.base or 0), profile.identify.at)
        _checked(document, ("identify", "as"), parse_type, profile.identify.as_)
    if profile.protocol == "opcua" and not profile.namespace:
        hint = "add `namespace:` with the URI of the namespace that the browse names lie in"
        raise document.error("VALUE_INVALID", ("protocol",), "an opcua profile needs `namespace`", hint=hint)
    if profile.protocol == "mqtt":
        _check_availability(profile, document)
    for name, point in profile.points.items():
        keys = ("points", name)
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,126}", name):
            raise document.error("VALUE_INVALID", keys, "names of points are letters, digits, _ . -", key=True)
        try:
            units.parse(point.unit)
        except InputError as wrong:
            raise document.error(wrong.reason, (*keys, "unit"), wrong.message, hint=wrong.hint) from None
        for key, low_high in (("range", point.range), ("write", point.write.range if point.write else None)):
            if low_high is not None and not low_high[0] < low_high[1]:
                message = f"the range must ascend, found {low_high[0]:g} .. {low_high[1]:g}"
                raise document.error("VALUE_INVALID", (*keys, key), message)
        if profile.every_ns(point) == 0:
            raise document.error("VALUE_INVALID", (*keys, "every"), "must be longer than 0")
        _CHECKS[profile.protocol](profile, document, keys, point)


def _typed(profile: FirmwareProfile, point: Point) -> Point:
    """Modbus tells the type of a point without `as`: a bit where a bit is addressed, else one register."""
    if profile.protocol != "modbus" or point.as_ is not None:
        return point
    bits = point.at.split(" ")[0] in {"coil", "discrete"} or "." in point.at
    return point.model_copy(update={"as_": "bit" if bits else "uint16"})


def _check_modbus(profile: FirmwareProfile, document: Document, keys: KeyPath, point: Point) -> None:
    address = _checked(document, (*keys, "at"), lambda text: parse_address(text, profile.base or 0), point.at)
    wire = _checked(document, (*keys, "as"), parse_type, point.as_ or "uint16")
    if (address.single_bits or address.bit is not None) and wire.name != "bit":
        raise document.error("VALUE_INVALID", (*keys, "as"), f"{point.at} is one bit, not {point.as_}")
    if not address.single_bits and address.bit is None and wire.name == "bit":
        raise document.error("VALUE_INVALID", (*keys, "at"), "which bit? write e.g. holding 120.3")
    if wire.registers > profile.limits.max_read:
        message = f"{point.as_} fills {wire.registers} registers, limits.max_read is {profile.limits.max_read}"
        raise document.error("VALUE_INVALID", (*keys, "as"), message)
    if wire.name in {"bit", "string"} and (point.scale is not None or point.offset is not None):
        raise document.error("VALUE_INVALID", keys, f"a {wire.name} has no scale or offset")
    factor = _checked(document, (*keys, "scale"), scale_point, point.scale)
    if factor is not None and factor not in profile.points:
        guess = nearest(factor, profile.points)
        hint = f"did you mean `{guess}`?" if guess else None
        raise document.error("VALUE_INVALID", (*keys, "scale"), f"no point {factor!r} in this profile", hint=hint)


def _check_opcua(profile: FirmwareProfile, document: Document, keys: KeyPath, point: Point) -> None:
    del profile
    _checked(document, (*keys, "at"), parse_node, point.at)
    _check_plain(document, keys, point)


def _check_availability(profile: FirmwareProfile, document: Document) -> None:
    said = profile.availability
    if said is None:
        return
    _checked(document, ("availability", "topic"), parse_topic, said.topic)
    _checked(document, ("availability", "at"), parse_json_path, said.at)
    if said.online == said.offline:
        raise document.error("VALUE_INVALID", ("availability",), "`online` and `offline` must differ")
    if profile.defaults.payload == "sparkplug":
        raise document.error("VALUE_INVALID", ("availability",), "Sparkplug has births and deaths of its own")


def _check_mqtt(profile: FirmwareProfile, document: Document, keys: KeyPath, point: Point) -> None:
    payload = point.payload or profile.defaults.payload
    if (payload == "sparkplug") != (profile.defaults.payload == "sparkplug"):
        hint = "write it under `defaults`: sessions of Sparkplug carry whole devices"
        raise document.error("VALUE_INVALID", (*keys, "payload"), "sparkplug is for all points or none", hint=hint)
    if payload == "sparkplug":
        _checked(document, (*keys, "at"), parse_metric, point.at)
        for key in ("topic", "where", "time", "time_unit", "key", "each", "spacing", "unit_at", "qos", "payload"):
            if getattr(point, key):
                raise document.error("VALUE_INVALID", (*keys, key), f"Sparkplug says itself what `{key}` would say")
    else:
        _check_topic(profile, document, keys, point)
        _check_payload(profile, document, keys, point)
    _check_plain(document, keys, point)


def _check_topic(profile: FirmwareProfile, document: Document, keys: KeyPath, point: Point) -> None:
    topic = point.topic or profile.defaults.topic
    if not topic:
        raise document.error("VALUE_INVALID", keys, "an mqtt point needs `topic`, here or under `defaults`")
    captures = _checked(document, (*keys, "topic"), parse_template, topic)
    for name, text in point.where.items():
        if name not in captures or name in KNOWN:
            hint = f"captures of {topic!r}: {', '.join(c for c in captures if c not in KNOWN) or 'none'}"
            raise document.error("VALUE_INVALID", (*keys, "where", name), f"the topic captures no {name!r}", hint=hint)
        if not text or any(c in text for c in "/+#"):
            raise document.error("VALUE_INVALID", (*keys, "where", name), f"{text!r} is not one level of a topic")


def _check_payload(profile: FirmwareProfile, document: Document, keys: KeyPath, point: Point) -> None:
    raw = (point.payload or profile.defaults.payload) == "raw"
    paths = {key: getattr(point, key) or getattr(profile.defaults, key) for key in ("time", "key", "each", "unit_at")}
    for key, path in ({"at": point.at} | paths).items():
        if path is not None:
            _checked(document, (*keys, key), lambda text: parse_json_path(parse_payload_path(text)), path)
            if raw and path.strip() != "$":
                raise document.error("VALUE_INVALID", (*keys, key), "a raw payload is one value, `$`, and no more")
    if (point.spacing or profile.defaults.spacing) is not None and paths["each"] is None:
        raise document.error("VALUE_INVALID", (*keys, "spacing"), "`spacing` is of the elements of `each`")
    if paths["unit_at"] is not None and not point.unit:
        raise document.error(
            "VALUE_INVALID", (*keys, "unit_at"), "a unit in the payload needs the `unit` to convert to"
        )
    _check_plain(document, keys, point)


def _check_plain(document: Document, keys: KeyPath, point: Point) -> None:
    """Protocols that carry typed values: `as` names a type, a scale is a number."""
    if point.as_ is not None:
        _checked(document, (*keys, "as"), lambda t: t == "string" or parse_type(t), point.as_)
    if isinstance(point.scale, str):
        raise document.error("VALUE_INVALID", (*keys, "scale"), "must be a number; 10^@point is for modbus")


_CHECKS: dict[str, Callable[[FirmwareProfile, Document, KeyPath, Point], None]] = {
    "modbus": _check_modbus,
    "opcua": _check_opcua,
    "mqtt": _check_mqtt,
}

T = TypeVar("T")
A = TypeVar("A")


def _checked(document: Document, keys: KeyPath, read: Callable[[A], T], text: A) -> T:
    """Reads one small language and gives its complaint a place."""
    try:
        return read(text)
    except ValueError as wrong:
        raise document.error("VALUE_INVALID", keys, str(wrong)) from None
