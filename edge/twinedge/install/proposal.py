"""A first site.yaml from what was found; what fits no profile stands in it as a comment with the next step."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from twinedge.config.load import load_site
from twinedge.config.schema import NAME, parse_bytes
from twinedge.install.search import Found
from twinmodel.errors import ConflictError, InputError, MissingError
from twinmodel.profile.find import default_folders, find_profile
from twinmodel.profile.yaml_text import quoted, visible

_HEAD = """\
# Proposed by `twinedge init`; look at every line, then:
#   twinedge test       reads each device once
#   twinedge plan       tells what it will cost
"""


def named(found: Sequence[Found]) -> dict[str, Found]:
    """Names for what was found: its profile's device and a number."""
    counts: dict[str, int] = {}
    names: dict[str, Found] = {}
    for one in found:
        counts[one.stem] = counts.get(one.stem, 0) + 1
        names[f"{one.stem}-{counts[one.stem]}"] = one
    return names


def site_text(site: str, devices: Mapping[str, Found], *, disk: str, profiles: str | None) -> str:
    """The text of site.yaml."""
    fitting = {name: one for name, one in devices.items() if one.profile}
    rest = {name: one for name, one in devices.items() if not one.profile}
    folders = default_folders(Path(profiles) if profiles else None)
    lines = [_HEAD, f"site: {site}"]
    lines += [f"profiles: {quoted(profiles)}"] if profiles else []
    lines.append("devices:")
    for name, one in fitting.items():
        lines.append(f"  # {'it is one' if one.sure else 'it may be one'}: {_one_line(one.why)}")
        lines += [f"  # first: {_one_line(one.step)}"] if one.step else []
        lines.append(f"  {name}: {{{', '.join(_entries(one, short_name(one.profile, folders)))}}}")
    if rest:
        lines.append("# Found, but read by no profile; draft one, or write it from the maker's document:")
    for name, one in rest.items():
        lines.append(f"#  {_one_line(one.why)}")
        lines.append(f"#  {draft_command(name, one)}")
        lines.append(f"#  {name}: {{{', '.join(_entries(one, 'VENDOR/DEVICE'))}}}")
    lines.append(f"spool: {{disk: {disk}}}")
    return "\n".join(lines) + "\n"


def write_site(path: Path, text: str, *, replace: bool) -> Path | None:
    """Puts site.yaml in place once it has been read back without an error.

    Returns:
        Where the one before it is kept, None when there was none.

    Raises:
        ConflictError: ALREADY_EXISTS without `replace`.
        ConfigError: the text is not valid; nothing has changed.
    """
    refuse_existing(path, replace=replace)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.part")
    # Whoever runs the agent reads it, so it is not for its owner alone; it is whole or not there after a power cut.
    with partial.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    try:
        load_site(partial)
        kept = None
        if path.exists():
            kept = path.with_name(f"{path.name}.before")
            kept.write_bytes(path.read_bytes())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return kept


def refuse_existing(path: Path, *, replace: bool) -> None:
    """Raises ConflictError ALREADY_EXISTS for a file that is there and is not to be replaced."""
    if path.exists() and not replace:
        hint = "edit it, or give --replace: the old one is kept beside it"
        raise ConflictError("ALREADY_EXISTS", f"{path} is there already", hint=hint)


def refuse_unfit(site: str, disk: str) -> None:
    """Raises InputError VALUE_INVALID for what site.yaml could not hold: before anybody is asked, not after."""
    if not re.fullmatch(NAME, site):
        raise InputError(
            "VALUE_INVALID", f"--site {site!r} is no name", hint="letters, digits, - and _, without blanks"
        )
    try:
        parse_bytes(disk)
    except ValueError as wrong:
        raise InputError("VALUE_INVALID", f"--disk: {wrong}", hint="write e.g. 512MiB or 2GiB") from None


def refuse_nothing(devices: Mapping[str, Found]) -> None:
    """Raises MissingError NO_DEVICE_FOUND when no profile fits anything that was found."""
    if not any(one.profile for one in devices.values()):
        what = f"{len(devices)} found, none of a known profile" if devices else "nobody answers there"
        hint = "look closer with `twinedge probe modbus|opcua|mqtt ADDRESS`"
        if devices:
            hint = f"draft a profile, e.g. with `{draft_command(*next(iter(devices.items())))}`"
        raise MissingError("NO_DEVICE_FOUND", f"{what}: nothing was written", hint=hint)


def draft_command(name: str, one: Found) -> str:
    """What drafts a profile for it, as a shell takes it."""
    words = ["twinedge", "browse", one.protocol, one.address]
    if one.protocol == "modbus":
        words += ["--unit", str(one.unit_id)]
    if one.root:
        words += ["--path", one.root]
    return shlex.join([*words, "--as-profile", f"{name}.yaml"])


def short_name(profile: str, folders: Sequence[Path]) -> str:
    """`vendor/device` where that leads to the same file: the device may then be given another firmware."""
    short = profile.rpartition("/")[0]
    return short if find_profile(short, folders) == find_profile(profile, folders) else profile


def _entries(one: Found, profile: str) -> list[str]:
    entries = [f"{one.protocol}: {quoted(one.address)}"]
    entries += [f"unit_id: {one.unit_id}"] if one.protocol == "modbus" else []
    entries += [f"root: {quoted(one.root)}"] if one.root else []
    entries.append(f"profile: {profile}")
    if one.security is not None:
        entries.append(f"security: {{policy: {one.security[0]}, mode: {one.security[1]}}}")
    return entries


def _one_line(text: str) -> str:
    """What devices say, in a comment."""
    return visible(" ".join(text.split()))
