"""What a simulated device says of itself: texts that the profile's `identify` and `firmware` accept."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from twinmodel.errors import InputError
from twinmodel.profile.address import WireType
from twinmodel.profile.firmware import parse_range
from twinmodel.profile.schema import FirmwareProfile

if TYPE_CHECKING:
    from twinsim.image.source import Source


def example_of(pattern: str) -> str:
    """A text that a shell pattern matches: `16[45]?` gives `1640`."""
    made, position = "", 0
    while position < len(pattern):
        letter = pattern[position]
        end = pattern.find("]", position + 2) if letter == "[" else -1
        if letter == "[" and end > 0:
            inside = pattern[position + 1 : end]
            if inside[0] == "!":
                made += next(c for c in "0123456789ABCXYZ" if not fnmatchcase(c, pattern[position : end + 1]))
            else:
                made += inside[0]
            position = end + 1
            continue
        made += {"*": "", "?": "0"}.get(letter, letter)
        position += 1
    return made


def identity_of(profile: FirmwareProfile, wire: WireType) -> str | int:
    """What is read at `identify.at`. Raises InputError VALUE_INVALID when no number of the type matches."""
    pattern = profile.identify.match if profile.identify is not None else "*"
    text = example_of(pattern)
    if wire.name == "string":
        return text
    for candidate in (text, text + "0", text + "1", text + "10"):
        if candidate.isdecimal() and fnmatchcase(str(int(candidate)), pattern):
            return int(candidate)
    raise _impossible(profile, f"identify: no number matches {pattern!r}")


def firmware_of(profile: FirmwareProfile, wire: WireType | None, hints: Sequence[str] = ()) -> str:
    """A firmware text in the profile's range.

    Args:
        profile: whose range.
        wire: type it is told in; None for text.
        hints: texts to try first, e.g. the name of the profile's file.

    Raises:
        InputError: VALUE_INVALID when none is found.
    """
    found = parse_range(profile.firmware)
    numbers = wire is not None and wire.name != "string"
    versions = [c.version for c in found.clauses]
    tried = [*hints, *versions, *(f"{v}.0" for v in versions), *(f"{v}.1" for v in versions), "1.0", "0.1", "100", "1"]
    for text in tried:
        if any(c.isdigit() for c in text) and found.fits(text) and (not numbers or text.isdecimal()):
            return text
    raise _impossible(profile, f"firmware: no version found in {profile.firmware!r}; name one with --firmware")


def told_of(source: Source) -> list[tuple[str, str]]:
    """What a device that tells texts says, and where; nothing without `identify`."""
    identify = source.profile.identify
    if identify is None:
        return []
    told = [(identify.at, example_of(identify.match))]
    if identify.firmware is not None:
        told.append((identify.firmware.at, source.firmware or firmware_of(source.profile, None, source.hints)))
    return told


def _impossible(profile: FirmwareProfile, why: str) -> InputError:
    return InputError("VALUE_INVALID", f"{profile.name} cannot be simulated: {why}", profile=profile.name)
