"""A firmware profile drafted from what a device offers: valid at once, to be checked by a person."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from twinmodel.errors import ConflictError, InputError
from twinmodel.profile.load import examine_text, load_profile
from twinmodel.profile.schema import Protocol
from twinmodel.profile.yaml_text import quoted, visible

ROUNDS_MAX: Final = 5
LEFT_OUT_MAX: Final = 50
_PART: Final = re.compile(r"[a-z0-9][a-z0-9._-]*")
Value = str | float | int | bool | Sequence[float]


@dataclass(slots=True)
class Draft:
    """A profile on its way to a file.

    Attributes:
        protocol: of the device.
        origin: where it was found, for `source`.
        header: further keys of the file, in order.
        points: name -> keys, in order.
        left_out: what became no point, and why.
    """

    protocol: Protocol
    origin: str
    header: dict[str, Value | Mapping[str, Value]] = field(default_factory=dict)
    points: dict[str, dict[str, Value]] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)

    def add(self, name: str, keys: Mapping[str, Value]) -> None:
        """Appends a point under a name that is free."""
        base = name_of(name)
        free, number = base, 2
        while free in self.points:
            free, number = f"{base}_{number}", number + 1
        self.points[free] = dict(keys)


def name_of(text: str) -> str:
    """A point's name from a path or a word: `Pump/HotInlet` becomes `pump_hot_inlet`."""
    text = re.sub(r"nsu=[^;]*;|\d+:", "", text)
    text = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", text)
    text = re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_").lower()
    return (text or "point")[:100]


def write_draft(draft: Draft, path: Path, *, replace: bool = False) -> tuple[int, list[str]]:
    """Writes the profile; points the profile language refuses are left out and named.

    Returns:
        Number of points, and what was left out.

    Raises:
        InputError: VALUE_INVALID when there is no point at all, or the folder cannot be written.
        ConflictError: ALREADY_EXISTS.
    """
    if path.exists() and not replace:
        raise ConflictError("ALREADY_EXISTS", f"{path} is there already", hint="name another file, or give --replace")
    for _ in range(ROUNDS_MAX):
        if not draft.points:
            hint = "look with a wider --path, longer, or with rights to read"
            raise InputError("VALUE_INVALID", "nothing was found that can be a point", hint=hint)
        text = _text(draft, _profile_name(path))
        errors = examine_text(text, path).errors
        if not errors:
            break
        for error in errors:
            name = re.match(r"points\.([A-Za-z0-9_]+)", str(error.facts.get("key", "")))
            if name is None:
                raise error
            point = draft.points.pop(name[1], None)
            if point is not None:
                draft.left_out.append(
                    f"{point.get('at', name[1])}: {error.message.partition(': ')[2] or error.message}"
                )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    except OSError as refused:
        raise InputError(
            "VALUE_INVALID", f"cannot write {path}: {refused.strerror}", hint="name another file"
        ) from None
    load_profile(path)
    return len(draft.points), draft.left_out


def _profile_name(path: Path) -> str:
    """`vendor/device` of a file that lies so, else `draft/` and the file's name."""
    vendor, device = (*(p.lower() for p in path.resolve().parts[-3:-1]), "", "")[:2]
    in_folder = path.resolve().parts[-4:-3] == ("firmware-profiles",)
    if in_folder and _PART.fullmatch(vendor) and _PART.fullmatch(device):
        return f"{vendor}/{device}"
    stem = re.sub(r"[^a-z0-9._-]+", "-", path.stem.lower()).strip("-._") or "device"
    return f"draft/{stem}"


def _text(draft: Draft, name: str) -> str:
    lines = [
        f"# Drafted by `twinedge browse` from {draft.origin}: check names, types, units and ranges with the maker's",
        "# document, then move it to firmware-profiles/VENDOR/DEVICE/VERSION.yaml and write them into `profile:`.",
        f"profile: {name}",
        'firmware: "*"',
        f"protocol: {draft.protocol}",
        f"source: {_value(f'found on {draft.origin}')}",
        *(f"{key}: {_any(value)}" for key, value in draft.header.items()),
        "points:",
    ]
    width = max(len(point) for point in draft.points) + 1
    lines += [f"  {point + ':':<{width}} {_flow(keys)}" for point, keys in draft.points.items()]
    lines += [f"# left out: {visible(text)}" for text in draft.left_out[:LEFT_OUT_MAX]]
    if len(draft.left_out) > LEFT_OUT_MAX:
        lines.append(f"# and {len(draft.left_out) - LEFT_OUT_MAX} more")
    return "\n".join(lines) + "\n"


def _any(value: Value | Mapping[str, Value]) -> str:
    return _flow(value) if isinstance(value, Mapping) else _value(value)


def _flow(keys: Mapping[str, Value]) -> str:
    return "{" + ", ".join(f"{key}: {_value(value)}" for key, value in keys.items()) + "}"


def _value(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, (int, float)):
        return f"{value:g}" if isinstance(value, float) and abs(value) < 1e15 else str(value)
    return "[" + ", ".join(_value(float(part)) for part in value) + "]"
