"""Whether what a device says of itself is what its profile is for; the same for every protocol."""

from __future__ import annotations

from fnmatch import fnmatchcase

from twinmodel.profile.firmware import parse_range


def objection(said: str, pattern: str, *, firmware: bool) -> tuple[str, str] | None:
    """Reason and text of what is wrong with it, None for nothing.

    Args:
        said: what the device says.
        pattern: a shell pattern, or a range of versions.
        firmware: whether it is a range of firmware.
    """
    if firmware:
        text = f"the device has firmware {said!r}, its profile is for {pattern!r}"
        hint = "add a profile for it, or name one in site.yaml as vendor/device/version"
        return None if parse_range(pattern).fits(said) else ("FIRMWARE_UNKNOWN", f"{text}; {hint}")
    text = f"the device says it is {said!r}, its profile is for {pattern!r}"
    return None if fnmatchcase(said, pattern) else ("DEVICE_MISMATCH", text)
