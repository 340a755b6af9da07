"""One import from start to end: a file in, profiles that are accepted out, and everything that was refused."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from twinmodel.errors import ConfigError, ConflictError, InputError
from twinmodel.profile.firmware import parse_range
from twinmodel.profile.importers.edgex import read_edgex
from twinmodel.profile.importers.found import Device, Note, Refusal, Source, Wanted, slug
from twinmodel.profile.importers.intake import clean, read_source
from twinmodel.profile.importers.nodeset import read_nodeset
from twinmodel.profile.importers.settle import Settled, settle
from twinmodel.profile.importers.sunspec import read_sunspec
from twinmodel.profile.importers.table import read_table
from twinmodel.profile.importers.telegraf import read_telegraf
from twinmodel.profile.importers.thingsboard import read_thingsboard
from twinmodel.profile.importers.victron import read_victron
from twinmodel.profile.load import load_profile

FORMATS: Mapping[str, Callable[[Source, Wanted], list[Device]]] = {
    "sunspec": read_sunspec,
    "edgex": read_edgex,
    "telegraf": read_telegraf,
    "thingsboard": read_thingsboard,
    "victron": read_victron,
    "nodeset2": read_nodeset,
    "csv": read_table,
}
BASED = {"sunspec", "edgex", "csv"}
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}/[a-z0-9][a-z0-9._-]{0,99}")


@dataclass(frozen=True, slots=True)
class ImportedProfile:
    """One profile of an import.

    Attributes:
        part: the device within the source, "" where there is only one.
        name: `vendor/device`.
        version: name of its file, without `.yaml`.
        settled: its text and what an agent reads of it; None where every point was refused.
        found, carried: points of the source; what is neither carried nor here is among `refusals`.
    """

    part: str
    name: str
    version: str
    settled: Settled | None
    found: int
    carried: int
    refusals: tuple[Refusal, ...]
    notes: tuple[Note, ...]


@dataclass(frozen=True, slots=True)
class Import:
    """Everything that became of a file; `found` is always `carried` plus the number of refusals."""

    source: Path
    digest: str
    profiles: tuple[ImportedProfile, ...]

    @property
    def found(self) -> int:
        """Points of the source."""
        return sum(p.found for p in self.profiles)

    @property
    def carried(self) -> int:
        """Points of the source that are in one of the profiles."""
        return sum(p.carried for p in self.profiles)

    @property
    def refusals(self) -> tuple[Refusal, ...]:
        """All refusals, in the order of the source's devices."""
        return tuple(r for p in self.profiles for r in p.refusals)


def import_profiles(
    form: str, path: Path, wanted: Wanted, *, name: str = "", firmware: str = "*", part: str = ""
) -> Import:
    """Reads a file of another tool.

    Args:
        form: a key of `FORMATS`.
        path: the file.
        wanted: what the file does not say.
        name: `vendor/device` of the profile; of several, each gets its part behind it.
        firmware: versions the profiles are for.
        part: the one device to import, of several.

    Raises:
        InputError: FILE_MISSING, LIMIT_EXCEEDED, SOURCE_INVALID: the file cannot be read as this format;
            REQUEST_INVALID: an option is missing or wrong.
    """
    _check(form, wanted, name, firmware)
    source = read_source(path)
    try:
        devices = FORMATS[form](source, wanted)
    except ConfigError:
        raise
    except InputError as wrong:  # a bound or a shape, found below the top of the file
        if wrong.reason == "REQUEST_INVALID":
            raise
        raise ConfigError(wrong.reason, wrong.message, hint=wrong.hint, path=str(path)) from None
    if part:
        chosen = [device for device in devices if device.part == part]
        if not chosen:
            parts = ", ".join(device.part for device in devices[:20] if device.part) or "none: it is one device"
            raise InputError("REQUEST_INVALID", f"--part {part!r} is none of the source's; there are {parts}")
        devices = chosen
    taken: set[str] = set()
    return Import(path, source.digest, tuple(_profile(d, source, name, firmware, len(devices), taken) for d in devices))


def write_profiles(profiles: Sequence[ImportedProfile], folder: Path, *, force: bool = False) -> list[Path]:
    """Writes profiles to `folder/vendor/device/version.yaml`, each once it was read back; returns their places.

    All places are looked at before anything is written, so that a name that is taken leaves nothing half done.

    Raises:
        ConflictError: ALREADY_EXISTS, a file is there with another content and `force` is not set.
        ConfigError: one cannot be written, or reads back as something else.
    """
    texts = {folder / p.name / f"{p.version}.yaml": p.settled for p in profiles if p.settled is not None}
    for path, settled in texts.items():
        try:
            same = path.is_file() and not path.is_symlink() and path.read_bytes() == settled.text.encode()
            taken = not same and (path.is_symlink() or path.exists())
        except OSError as cause:
            raise ConfigError("FILE_MISSING", f"cannot write: {cause.strerror}", path=str(path)) from cause
        if taken and not force:
            message = f"{path} exists with another content"
            raise ConflictError("ALREADY_EXISTS", message, hint="use another --name, or --force writes over it")
    for path, settled in texts.items():
        _write(path, settled)
    return list(texts)


def _write(path: Path, settled: Settled) -> None:
    """Writes one file in one step: a cut leaves the old one."""
    fresh = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh.write_bytes(settled.text.encode())
        if load_profile(fresh) != settled.profile:
            raise ConfigError("VALUE_INVALID", "reads back as another profile; it was not written", path=str(path))
        fresh.replace(path)
    except OSError as cause:
        raise ConfigError("FILE_MISSING", f"cannot write: {cause.strerror}", path=str(path)) from cause
    finally:
        with suppress(OSError):
            fresh.unlink(missing_ok=True)


def _check(form: str, wanted: Wanted, name: str, firmware: str) -> None:
    if form not in FORMATS:
        raise InputError("REQUEST_INVALID", f"no format {form!r}; there are {', '.join(FORMATS)}")
    if wanted.base is not None and form not in BASED:
        raise InputError("REQUEST_INVALID", f"--base says nothing to {form}: its addresses count from 0")
    if wanted.counts and form != "sunspec":
        raise InputError("REQUEST_INVALID", "--count is of the repeating groups of SunSpec models")
    if name and not _NAME.fullmatch(name):
        raise InputError("REQUEST_INVALID", f"--name {name!r}: write vendor/device, lower case")
    try:
        parse_range(firmware)
    except ValueError as wrong:
        raise InputError("REQUEST_INVALID", f"--firmware: {wrong}") from None


def _profile(
    device: Device, source: Source, name: str, firmware: str, devices: int, taken: set[str]
) -> ImportedProfile:
    called = name or f"{device.vendor}/{device.device}"
    if name and devices > 1:
        called = f"{name}-{slug(device.part) or 'device'}"
    fresh, number = called, 1
    while fresh in taken:
        number += 1
        fresh = f"{called}-{number}"
    taken.add(fresh)
    about = clean(f"{device.about}; imported from {source.path.name}, sha256 {source.digest}")
    settled = settle(device, fresh, firmware, about)
    return ImportedProfile(
        device.part,
        fresh,
        _version(firmware),
        settled,
        device.found,
        len(device.entries),
        tuple(device.refusals),
        tuple(device.notes),
    )


def _version(firmware: str) -> str:
    """Name of the file: the first version of the range that lies in it, `all` where there is none."""
    fits = parse_range(firmware).fits
    versions: Sequence[str] = re.findall(r"\d+(?:\.\d+){0,5}", firmware)
    return next((version for version in versions if len(version) < 40 and fits(version)), "all")
