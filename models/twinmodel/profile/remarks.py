"""Findings in profile files as rows: errors that refuse a profile, and remarks on what is allowed but likely wrong."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from twinmodel.errors import ConfigError
from twinmodel.profile.address import parse_type
from twinmodel.profile.firmware import parse_range
from twinmodel.profile.load import Examined
from twinmodel.profile.schema import FirmwareProfile, Point


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding; `file`, `line` and `column` say where, `key` which key of the file, dotted."""

    file: str
    line: int
    column: int
    severity: Literal["error", "warning"]
    reason: str
    key: str
    message: str
    hint: str


def findings(examined: Examined, path: Path) -> list[Finding]:
    """Everything to say of a file that `load.examine` read, in the order of its places."""
    found = [_finding(error, "error", path) for error in examined.errors]
    if examined.profile is not None and not examined.errors:
        found += [_finding(remark, "warning", path) for remark in _remarks(examined.profile, examined, path)]
    return sorted(found, key=lambda f: (f.file, f.line, f.column))


def _finding(error: ConfigError, severity: Literal["error", "warning"], path: Path) -> Finding:
    facts = error.facts
    line, column = facts.get("line"), facts.get("column")
    return Finding(
        str(facts.get("path", path)),
        line if isinstance(line, int) else 1,
        column if isinstance(column, int) else 1,
        severity,
        error.reason,
        str(facts.get("key", "")),
        error.message,
        error.hint,
    )


def _remarks(profile: FirmwareProfile, examined: Examined, path: Path) -> Iterator[ConfigError]:
    say = examined.document.error
    if not profile.source:
        hint = "add `source:`, the maker's document and its revision"
        yield say("VALUE_INVALID", (), "says not where its facts come from", hint=hint)
    place = path.resolve()
    folder = f"{place.parent.parent.name}/{place.parent.name}"
    if folder != profile.name:
        hint = f"move it to {profile.name}/{path.name} in a folder of profiles"
        yield say("VALUE_INVALID", ("profile",), f"{profile.name} lies in {folder}: it is not found there", hint=hint)
    if any(c.isdigit() for c in path.stem) and not parse_range(profile.firmware).fits(path.stem):
        text = f"the file is called {path.stem}, which {profile.firmware!r} leaves out"
        yield say("VALUE_INVALID", ("firmware",), text, hint="name the file after a version it is for")
    for name, point in profile.points.items():
        reach = _reach(point) if profile.protocol == "modbus" else None
        if point.range is not None and reach is not None:
            low, high = reach
            if point.range[1] < low or point.range[0] > high:
                text = f"{point.as_} with its scale reaches {low:g} .. {high:g}, never this range"
                yield say("VALUE_INVALID", ("points", name, "range"), text, hint="correct type, scale or range")


def _reach(point: Point) -> tuple[float, float] | None:
    """Least and largest value an integer of a fixed scale can have; None where that says nothing."""
    wire = parse_type(point.as_ or "uint16")
    if wire.name not in {"int", "uint"} or isinstance(point.scale, str):
        return None
    ends = (-(2.0 ** (wire.size - 1)), 2.0 ** (wire.size - 1)) if wire.name == "int" else (0.0, 2.0**wire.size)
    scaled = sorted(end * (1.0 if point.scale is None else point.scale) + (point.offset or 0.0) for end in ends)
    return scaled[0], scaled[1]
