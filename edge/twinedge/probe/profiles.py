"""The firmware profiles there are, for a device that is looked at: which of them say how to recognise it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twinmodel.profile.find import default_folders
from twinmodel.profile.load import examine, examine_text
from twinmodel.profile.schema import FirmwareProfile, Protocol

FILES_MAX = 2000
_PROTOCOL = re.compile(r"^protocol:\s*(\w+)", re.MULTILINE)
_POINTS = re.compile(r"^points:.*\n(?:[ \t#].*\n|\n)*", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Known:
    """One profile file; `name` is `vendor/device/version`, as site.yaml may write it."""

    name: str
    profile: FirmwareProfile


@dataclass(frozen=True, slots=True)
class Match:
    """A profile that fits a device.

    Attributes:
        profile: `vendor/device/version`.
        sure: whether the device said who it is; else its points are there.
        text: what fits.
        root: `root` to write in site.yaml.
    """

    profile: str
    sure: bool
    text: str
    root: str = ""

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {"profile": self.profile, "sure": self.sure, "why": self.text, "root": self.root}


def known_profiles(protocol: Protocol, first: Path | None = None) -> list[Known]:
    """All profiles of a protocol that can be read, those of `first` before the usual folders; a name counts once.

    Of Modbus profiles the header alone is read, for it tells how a device is recognised: their points are left out.
    """
    found: dict[str, Known | None] = {}
    for path in _files(default_folders(first)):
        name = "/".join(path.with_suffix("").parts[-3:])
        if name not in found:
            found[name] = _known(name, path, protocol)
    return [known for known in found.values() if known is not None]


def _known(name: str, path: Path, protocol: Protocol) -> Known | None:
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError):
        return None
    said = _PROTOCOL.search(text)
    if said is not None and said[1] != protocol:
        return None
    read = None
    if protocol == "modbus" and said is not None and "inherits" not in text:
        read = examine_text(_POINTS.sub("points: {none: {at: holding 1}}\n", text), path)
    if read is None or read.profile is None or read.errors:
        read = examine(path)
    if read.profile is None or read.errors or read.profile.protocol != protocol:
        return None
    return Known(name, read.profile)


def _files(folders: Sequence[Path]) -> Iterator[Path]:
    count = 0
    for folder in folders:
        for path in sorted(folder.glob("*/*/*.yaml")):
            count += 1
            if count > FILES_MAX:
                return
            yield path


def matches_text(matches: Sequence[dict[str, Any]], *, indent: str = "") -> str:
    """Matches for people."""
    return "\n".join(
        f"{indent}{'*' if m['sure'] else ' '} {m['profile']}{'  root: ' + m['root'] if m['root'] else ''}  ({m['why']})"
        for m in matches
    )
