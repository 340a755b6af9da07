"""Which file is the profile of a device: by name, and by the firmware the device tells."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from twinmodel.errors import ConfigError
from twinmodel.profile.document import nearest, read_document
from twinmodel.profile.firmware import FirmwareRange, parse_range, version_key

SYSTEM_FOLDER = Path("/etc/hybridtwin/firmware-profiles")
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*(/[a-z0-9][a-z0-9._-]*){1,2}")


def find_profile(name: str, folders: Sequence[Path], firmware: str | None = None) -> Path:
    """The file of profile `vendor/device`, of the first folder that has any.

    Args:
        name: `vendor/device`, or `vendor/device/firmware`, which names one file.
        folders: where to look, most specific first.
        firmware: what the device says of itself, e.g. `2.4.1`; of the files whose `firmware:` it lies in, the one
            whose range begins latest, then ends soonest. None takes the newest file.

    Raises:
        ConfigError: PROFILE_MISSING with the nearest name; FIRMWARE_UNKNOWN with the ranges there are.
    """
    if _NAME.fullmatch(name) and ".." not in name:
        for folder in folders:
            exact = folder / f"{name}.yaml"
            if name.count("/") == 2 and exact.is_file():
                return exact
            versions = [p for p in (folder / name).glob("*.yaml") if p.is_file()] if name.count("/") == 1 else []
            if versions and firmware is not None:
                return _fitting(name, versions, firmware)
            if versions:
                return max(versions, key=lambda p: version_key(p.stem))
    files = (p for f in folders for p in f.glob("*/*/*.yaml"))
    parts = name.count("/") + 1
    known = sorted({"/".join(p.with_suffix("").parts[-3:][:parts]) for p in files})
    guess = nearest(name, known)
    looked = ", ".join(dict.fromkeys(str(f) for f in folders)) or "no folder"
    hint = f"did you mean `{guess}`?" if guess else None
    raise ConfigError("PROFILE_MISSING", f"no profile {name!r} in {looked}", hint=hint, profile=name)


def _fitting(name: str, files: Sequence[Path], firmware: str) -> Path:
    """The most specific of the files whose range the firmware lies in; a file that cannot be read is none."""
    ranges = {path: found for path in sorted(files) if (found := range_of(path)) is not None}
    fitting = [path for path, found in ranges.items() if found.fits(firmware)]
    if fitting:
        latest = max(ranges[path].start for path in fitting)
        late = [path for path in fitting if ranges[path].start == latest]
        soonest = min(ranges[path].end for path in late)
        return max((p for p in late if ranges[p].end == soonest), key=lambda p: version_key(p.stem))
    known = "; ".join(f"{path.stem} is for {found.text}" for path, found in ranges.items())
    broken = ", ".join(path.name for path in sorted(files) if path not in ranges)
    text = f"no profile {name} is for firmware {firmware!r}: {known or 'none can be read'}"
    raise ConfigError(
        "FIRMWARE_UNKNOWN",
        text + (f" (cannot be read: {broken})" if broken else ""),
        profile=name,
        firmware=firmware,
        ranges={path.stem: found.text for path, found in ranges.items()},
    )


def range_of(path: Path) -> FirmwareRange | None:
    """The `firmware:` of a file, without the rest of it; None when the file or its range cannot be read."""
    try:
        content = read_document(path).content
        text = content.get("firmware", "*") if isinstance(content, dict) else None
        return None if text is None else parse_range(str(text))
    except (ConfigError, ValueError):
        return None


def default_folders(first: Path | None = None) -> list[Path]:
    """Folders searched for profiles, most specific first: `first`, the system's, the installed, the checkout's."""
    checkout = Path(__file__).resolve().parents[3]
    folders = [first] if first is not None else []
    folders += [SYSTEM_FOLDER, Path(sys.prefix) / "share/hybridtwin/firmware-profiles"]
    if (checkout / "pyproject.toml").is_file():
        folders.append(checkout / "firmware-profiles")
    return [f for f in folders if f.is_dir()]
