"""Profiles as canonical YAML: keys and points in a stable order, one line a point, quotes only where needed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from twinmodel.profile.importers.found import Device
from twinmodel.profile.yaml_text import quoted

_KEYS = (
    "at", "as", "topic", "where", "payload", "time", "time_unit", "key", "order", "scale", "offset", "absent", "unit",
    "device_unit", "range", "resolution", "class", "wraps", "states", "every", "queue", "priority", "description",
)  # fmt: skip


def yaml_of_device(device: Device, name: str, firmware: str, source: str) -> str:
    """The profile `name` of a device, as text."""
    head: dict[str, object] = {"profile": name, "firmware": firmware, "protocol": device.protocol, "source": source}
    if device.base is not None:
        head["base"] = device.base
    lines = [f"{key}: {_flow(value)}" for key, value in (head | device.header).items()]
    lines.append("points:")
    lines += [f"  {_key(point)}: {_flow(_ordered(fields))}" for point, fields in device.points.items()]
    return "\n".join(lines) + "\n"


def first_line(device: Device) -> int:
    """Line of the first point in what `yaml_of_device` makes; each further point stands one line below."""
    return 4 + (device.base is not None) + len(device.header) + 2


def _ordered(fields: Mapping[str, object]) -> dict[str, object]:
    return {key: fields[key] for key in _KEYS if key in fields}


def _flow(value: object, key: object = None) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_key(k)}: {_flow(v, k)}" for k, v in value.items()) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ", ".join(_flow(v) for v in value) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return f"0x{value:X}" if key == "absent" and value >= 0x7FFF else str(value)
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    return quoted(str(value))


def _key(key: object) -> str:
    """A key; names such as `no` need no quotes, for keys are always text."""
    text = str(key)
    return text if re.fullmatch(r"-?[A-Za-z0-9_][A-Za-z0-9_.-]*", text) else quoted(text)
