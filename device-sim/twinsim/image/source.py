"""Where profiles of simulated devices come from: a name or a file, with the values that are to stay."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from twinmodel.errors import ConfigError, InputError, MissingError
from twinmodel.profile.document import nearest
from twinmodel.profile.find import default_folders, find_profile
from twinmodel.profile.load import load_profile
from twinmodel.profile.schema import FirmwareProfile, kind_of
from twinmodel.signal import Kind
from twinsim.image.codec import Value

ABSENT_WORD = "absent"


@dataclass(frozen=True, slots=True)
class Source:
    """A profile to simulate.

    Attributes:
        profile: what it says.
        file: where it was read.
        firmware: text the device is to tell, "" for any that fits.
    """

    profile: FirmwareProfile
    file: Path
    firmware: str = ""

    @property
    def title(self) -> str:
        """`vendor/device/version`, as `find_profile` takes it."""
        return f"{self.profile.name}/{self.file.stem}"

    @property
    def hints(self) -> tuple[str, ...]:
        """Firmware texts that are likely: the name of the file."""
        return (self.file.stem,)


def find_source(name: str, firmware: str = "") -> Source:
    """Reads a profile.

    Args:
        name: `vendor/device`, `vendor/device/version`, or the path of a file.
        firmware: text the device is to tell; chooses among the files of `vendor/device`.

    Raises:
        ConfigError: PROFILE_MISSING with the nearest name, FIRMWARE_UNKNOWN, and what `load_profile` raises.
    """
    path = Path(name)
    if path.suffix not in {".yaml", ".yml"}:
        path = find_profile(name, default_folders(), firmware or None)
    return Source(load_profile(path), path, firmware)


def updated(source: Source, to: str) -> Source:
    """What a firmware update of a device leads to: another profile, or another version of the same device.

    A version that no profile of the device is for leaves the registers as they are and tells its text.

    Raises:
        ConfigError: as `find_source`.
        InputError: VALUE_INVALID when the profile speaks another protocol.
    """
    if "/" in to or to.endswith((".yaml", ".yml")):
        found = find_source(to)
        if found.profile.protocol != source.profile.protocol:
            text = f"{to} is a profile of {found.profile.protocol}, the device speaks {source.profile.protocol}"
            raise InputError("VALUE_INVALID", text)
        return found
    try:
        return find_source(source.profile.name, to)
    except ConfigError as unknown:
        if unknown.reason not in {"FIRMWARE_UNKNOWN", "PROFILE_MISSING"}:
            raise
        return Source(source.profile, source.file, to)


def settings_of(profile: FirmwareProfile, texts: Mapping[str, str]) -> dict[str, Value | None]:
    """Values that stay, from text: numbers, true, false, a state's label, text, or `absent`.

    Raises:
        MissingError: UNKNOWN_SIGNAL with the nearest point.
        InputError: VALUE_INVALID.
    """
    found: dict[str, Value | None] = {}
    for name, text in texts.items():
        if name not in profile.points:
            guess = nearest(name, profile.points)
            hint = f"did you mean `{guess}`?" if guess else f"use one of {', '.join(profile.points)}"
            raise MissingError("UNKNOWN_SIGNAL", f"{profile.name} has no point {name!r}", hint=hint)
        found[name] = None if text == ABSENT_WORD else _value(profile, name, text)
    return found


def _value(profile: FirmwareProfile, name: str, text: str) -> Value:
    point = profile.points[name]
    kind = kind_of(point)
    labels = {label: number for number, label in point.states.items()}
    if kind is Kind.STRING:
        return text
    if text in labels:
        return bool(labels[text]) if kind is Kind.BOOL else labels[text]
    if kind is Kind.BOOL and text.lower() in {"true", "false", "on", "off", "1", "0"}:
        return text.lower() in {"true", "on", "1"}
    try:
        value = int(text, 0) if kind is Kind.INT else float(text)
    except ValueError:
        value = math.nan
    if kind is Kind.BOOL or not math.isfinite(value):
        what = "true or false" if kind is Kind.BOOL else "a whole number" if kind is Kind.INT else "a number"
        labelled = f" or one of {', '.join(labels)}" if labels else ""
        raise InputError("VALUE_INVALID", f"{name} takes {what}{labelled}, not {text!r}")
    return value


def split_settings(texts: Iterable[str]) -> dict[str, str]:
    """`point=value` texts as a table. Raises InputError VALUE_INVALID."""
    found = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not sign or not name:
            raise InputError("VALUE_INVALID", f"{text!r} is no POINT=VALUE")
        found[name] = value
    return found
