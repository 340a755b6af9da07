"""The firmware profiles there are, for a device that is looked at: which of them say how to recognise it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twinmodel.profile.find import default_folders
from twinmodel.profile.load import examine
from twinmodel.profile.schema import FirmwareProfile, Protocol

FILES_MAX = 2000


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
    """All profiles of a protocol that can be read, those of `first` before the usual folders; a name counts once."""
    found: dict[str, Known] = {}
    for path in _files(default_folders(first)):
        name = "/".join(path.with_suffix("").parts[-3:])
        if name in found:
            continue
        read = examine(path)
        if read.profile is not None and not read.errors and read.profile.protocol == protocol:
            found[name] = Known(name, read.profile)
    return list(found.values())


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
