"""`twinctl profile`: firmware profiles checked, shown and compared here, before any gateway reads them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from twinctl.commands.model_source import opened, package_of
from twinctl.commands.profile_import import import_
from twinctl.options import Noun, options_of
from twinctl.render import Column, Json, emit, field_of, say
from twinmodel.errors import ConfigError, Exit, InputError

if TYPE_CHECKING:
    from twinmodel.package.archive import ModelPackage
    from twinmodel.profile.diff import Need
    from twinmodel.profile.schema import FirmwareProfile, Point

FILES_MAX = 10_000
_PLACE = click.Path(path_type=Path)
_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
_profiles = click.option("--profiles", type=_FOLDER, help="Folder of profiles that is looked into first.")


@click.group(cls=Noun)
def profile() -> None:
    """Firmware profiles: what one firmware of one device exposes."""


@profile.command()
def schema() -> None:
    """Print the JSON Schema of profile files, for editors."""
    from twinmodel.profile.shape import json_schema  # noqa: PLC0415 - pydantic takes 60 ms that `--help` does not pay

    click.echo(json.dumps(json_schema(), indent=2))


@profile.command()
@click.argument("files", nargs=-1, required=True, type=_PLACE, metavar="FILE|FOLDER...")
@_profiles
@click.pass_context
def validate(ctx: click.Context, files: tuple[Path, ...], profiles: Path | None) -> None:
    """Check profile files, or all of a FOLDER, and list everything wrong with them.

    The exit code is 2 when any is refused; warnings alone leave it 0.
    """
    from twinmodel.profile.find import default_folders  # noqa: PLC0415 - pydantic takes 60 ms
    from twinmodel.profile.load import examine  # noqa: PLC0415 - as above
    from twinmodel.profile.remarks import findings  # noqa: PLC0415 - as above

    folders = default_folders(profiles)
    paths = _files_of(files)
    rows = list(dict.fromkeys(f for path in paths for f in findings(examine(path, folders), path)))
    emit(ctx, [asdict(row) for row in rows], _FINDINGS, empty=f"{len(paths)} checked, nothing wrong")
    refused = len({row.file for row in rows if row.severity == "error"})
    if refused:
        say(f"{refused} of {len(paths)} refused")
        ctx.exit(Exit.USAGE)


@profile.command("list")
@_profiles
@click.pass_context
def list_(ctx: click.Context, profiles: Path | None) -> None:
    """List the profiles there are."""
    from twinmodel.profile.find import default_folders  # noqa: PLC0415 - pydantic takes 60 ms
    from twinmodel.profile.load import examine  # noqa: PLC0415 - as above

    folders = default_folders(profiles)
    rows: dict[str, Json] = {}
    for folder in folders:
        for path in sorted(folder.glob("*/*/*.yaml"))[:FILES_MAX]:
            read = examine(path, folders)
            name = "/".join(path.with_suffix("").parts[-3:])
            found = None if read.errors else read.profile
            row = {"name": name, "file": str(path), "firmware": "", "protocol": "", "points": 0, "source": ""}
            if found is not None:
                row |= {"firmware": found.firmware, "protocol": found.protocol, "points": len(found.points)}
                row["source"] = found.source
            rows.setdefault(name, row | {"refused": found is None})
    emit(ctx, [rows[name] for name in sorted(rows)], _LIST, empty="no profiles")


@profile.command()
@click.argument("name", metavar="PROFILE")
@click.option("--firmware", help="What the device says of itself; the profile that is for it is shown.")
@_profiles
@click.pass_context
def show(ctx: click.Context, name: str, firmware: str | None, profiles: Path | None) -> None:
    """Show PROFILE, a file or VENDOR/DEVICE[/VERSION], with all it inherits and implies."""
    found = _profile_of(name, profiles, firmware)
    if options_of(ctx).output == "json":
        emit(ctx, found.model_dump(mode="json", by_alias=True, exclude_defaults=True), [])
        return
    say(f"{found.name}, firmware {found.firmware}, {found.protocol}; source: {found.source or 'not told'}")
    emit(ctx, [_row(found, point, p) for point, p in found.points.items()], _POINTS)


@profile.command()
@click.argument("old")
@click.argument("new")
@click.option("--model", "models", multiple=True, help="Model that reads OLD: package, YAML file or NAME@VERSION.")
@click.option("--models", "folder", type=_FOLDER, help="Folder of model packages.")
@click.option("--map", "pairs", multiple=True, metavar="PORT=POINT", help="Which point a port of the models reads.")
@_profiles
@click.pass_context
def diff(
    ctx: click.Context,
    old: str,
    new: str,
    models: tuple[str, ...],
    folder: Path | None,
    pairs: tuple[str, ...],
    profiles: Path | None,
) -> None:
    """Show what changes between profiles OLD and NEW, and which models survive it.

    Both are files or VENDOR/DEVICE/VERSION. A port of a model is matched with the point of its name, else of its tag.
    The exit code is 1 when something changes; with models, only when one of them breaks.
    """
    from twinmodel.profile.diff import differences, survival  # noqa: PLC0415 - pydantic takes 60 ms

    before, after = _profile_of(old, profiles), _profile_of(new, profiles)
    names = _names_of(pairs)
    given = [*models, *(str(path) for path in sorted(folder.glob("*.twin")))] if folder else list(models)
    packages = [opened(model, package_of(ctx, model)) for model in given]
    changes = differences(before, after)
    verdicts = [survival(p.manifest.id, _needs(p), before, after, names) for p in packages]
    if options_of(ctx).output == "json":
        rows = {"changes": [asdict(c) for c in changes], "models": [asdict(v) for v in verdicts]}
        emit(ctx, rows, [])
    else:
        emit(ctx, [asdict(c) for c in changes], _CHANGES, empty="nothing changes")
        if given:
            click.echo()
            emit(ctx, [asdict(v) for v in verdicts], _VERDICTS)
    broken = any(v.verdict == "breaks" for v in verdicts)
    ctx.exit(Exit.FAILED if broken or (changes and not given) else Exit.OK)


def _files_of(places: Iterable[Path]) -> list[Path]:
    """Files named, and those below the folders named."""
    paths: dict[Path, None] = {}
    for place in places:
        found = sorted(p for p in place.rglob("*.yaml") if p.is_file()) if place.is_dir() else [place]
        if not found:
            raise ConfigError("FILE_MISSING", f"no *.yaml below {place}", path=str(place))
        paths |= dict.fromkeys(found)
    if len(paths) > FILES_MAX:
        raise InputError("LIMIT_EXCEEDED", f"{len(paths)} files, at most {FILES_MAX} at once")
    return list(paths)


def _profile_of(name: str, profiles: Path | None, firmware: str | None = None) -> FirmwareProfile:
    """A profile by its file or its name."""
    from twinmodel.profile.find import default_folders, find_profile  # noqa: PLC0415 - pydantic takes 60 ms
    from twinmodel.profile.load import load_profile  # noqa: PLC0415 - as above

    folders = default_folders(profiles)
    path = Path(name)
    if path.suffix not in {".yaml", ".yml"} and not path.is_file():
        path = find_profile(name, folders, firmware)
    return load_profile(path, folders)


def _names_of(pairs: Sequence[str]) -> dict[str, str]:
    names: dict[str, str] = {}
    for pair in pairs:
        port, equals, point = pair.partition("=")
        if not equals or not port or not point or port in names:
            raise InputError("REQUEST_INVALID", f"--map {pair}: write PORT=POINT, once for each port")
        names[port] = point
    return names


def _needs(package: ModelPackage) -> list[Need]:
    from twinmodel.profile.diff import Need  # noqa: PLC0415 - pydantic takes 60 ms that `--help` does not pay

    manifest = package.manifest
    inputs = [Need(p.name, "input", p.unit, p.low, p.high, p.tag) for p in manifest.inputs]
    return inputs + [Need(p.name, "output", p.unit, p.low, p.high, p.tag) for p in manifest.outputs]


def _row(found: FirmwareProfile, name: str, point: Point) -> Json:
    span = "" if point.range is None else f"{point.range[0]:g} .. {point.range[1]:g}"
    scale = "" if point.scale is None else str(point.scale)
    return {
        "point": name,
        "at": point.at,
        "as": point.as_ or "",
        "scale": scale,
        "unit": point.unit,
        "range": span,
        "every_s": found.every_ns(point) / 1e9,
        "class": point.klass,
        "writable": point.write is not None,
    }


def _why(verdict: Json) -> str:
    told: list[Any] = [lack["text"] for lack in verdict["lacks"]]
    return "\n".join(told or verdict["notes"]) or "-"


profile.add_command(import_)

_FINDINGS: list[Column] = [
    ("place", lambda f: f"{f['file']}:{f['line']}:{f['column']}"),
    ("severity", field_of("severity")),
    ("reason", field_of("reason")),
    ("finding", field_of("message")),
    ("hint", field_of("hint")),
]
_LIST: list[Column] = [
    ("profile", field_of("name")),
    ("firmware", lambda p: "refused" if p["refused"] else p["firmware"]),
    ("protocol", field_of("protocol")),
    ("points", field_of("points")),
    ("source", field_of("source")),
]
_POINTS: list[Column] = [
    ("point", field_of("point")),
    ("at", field_of("at")),
    ("as", field_of("as")),
    ("scale", field_of("scale")),
    ("unit", field_of("unit")),
    ("range", field_of("range")),
    ("every", lambda p: f"{p['every_s']:g} s"),
    ("class", field_of("class")),
    ("write", field_of("writable")),
]
_CHANGES: list[Column] = [
    ("what", field_of("what")),
    ("point", field_of("point")),
    ("key", field_of("key")),
    ("old", field_of("old")),
    ("new", field_of("new")),
]
_VERDICTS: list[Column] = [
    ("model", field_of("model")),
    ("verdict", field_of("verdict")),
    ("why", _why),
]
