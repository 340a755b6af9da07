"""`twinctl profile import`: collections of other tools as profiles, each point carried or refused with a reason."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from twinctl.options import Verb, options_of
from twinctl.render import Column, Json, emit, field_of, say
from twinmodel.errors import ConfigError, Exit, InputError

if TYPE_CHECKING:
    from twinmodel.profile.importers.run import Import, ImportedProfile

FORMATS = ("sunspec", "edgex", "telegraf", "thingsboard", "victron", "nodeset2", "csv")
NOTHING_LOST = "POINT_RESERVED"
SHOWN_MAX = 50


@click.command("import", cls=Verb)
@click.argument("form", metavar="FORMAT", type=click.Choice(FORMATS))
@click.argument("file", metavar="FILE|MODEL")
@click.option("--base", type=int, metavar="N", help="sunspec: address of the model's ID, from 0; edgex, csv: 0 or 1.")
@click.option("--count", "counts", multiple=True, metavar="GROUP=N", help="sunspec: how often a group stands.")
@click.option("--models", type=click.Path(file_okay=False, path_type=Path), help="sunspec: folder of models by number.")
@click.option(
    "--protocol", type=click.Choice(["modbus", "opcua", "mqtt"]), default="modbus", help="csv: what it is of."
)
@click.option("--namespace", metavar="URI", help="csv of opcua: the namespace its names lie in.")
@click.option("--part", default="", help="Only this device of the source.")
@click.option("--name", default="", metavar="VENDOR/DEVICE", help="Name of the profile.")
@click.option("--firmware", default="*", metavar="RANGE", help="Versions the profile is for, e.g. '>=2.3, <3'.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Folder of profiles to write to.")
@click.option("--force", is_flag=True, help="Write over profiles that are there.")
@click.pass_context
def import_(
    ctx: click.Context,
    form: str,
    file: str,
    base: int | None,
    counts: tuple[str, ...],
    models: Path | None,
    protocol: str,
    namespace: str | None,
    part: str,
    name: str,
    firmware: str,
    out: Path | None,
    force: bool,  # noqa: FBT001 - click passes flags so
) -> None:
    """Turn FILE of another tool, or a SunSpec MODEL by its number, into profiles.

    Every point is carried without loss or refused with a reason. Without --out one profile is printed. The exit code
    is 1 when a point was refused that has a value, 0 when all were carried or stand for nothing.
    """
    from twinmodel.profile.importers.found import Wanted  # noqa: PLC0415 - pydantic takes 60 ms `--help` does not pay
    from twinmodel.profile.importers.run import import_profiles, write_profiles  # noqa: PLC0415 - as above

    wanted = Wanted(base=base, counts=_counts(counts), protocol=protocol, namespace=namespace)
    done = import_profiles(form, _place(form, file, models), wanted, name=name, firmware=firmware, part=part)
    made = [p for p in done.profiles if p.settled is not None]
    files: dict[str, Path] = {}
    if out is not None:
        files = dict(zip((p.name for p in made), write_profiles(made, out, force=force), strict=True))
    elif len(made) > 1 and options_of(ctx).output != "json":
        parts = ", ".join(p.part for p in made[:20]) + (" ..." if len(made) > 20 else "")
        hint = f"give --out FOLDER, or --part with one of {parts}"
        raise InputError("REQUEST_INVALID", f"{file} holds {len(made)} devices", hint=hint)
    if options_of(ctx).output == "json":
        emit(ctx, _json(form, done, files, texts=out is None), [])
    else:
        _tell(ctx, done, made, files)
    lost = any(refusal.reason != NOTHING_LOST for refusal in done.refusals)
    ctx.exit(Exit.FAILED if lost or not made else Exit.OK)


def _place(form: str, file: str, models: Path | None) -> Path:
    """The file; of SunSpec also by the number of the model."""
    path = Path(file)
    if form != "sunspec" or not file.isdecimal() or len(file) > 5 or path.exists():
        return path
    if models is None:
        hint = "give --models FOLDER with the models of SunSpec as JSON, or the file itself"
        raise ConfigError("FILE_MISSING", f"no file {file!r}; where are the models?", hint=hint, path=file)
    names = [models / f"model_{int(file)}.json", models / "json" / f"model_{int(file)}.json"]
    found = next((name for name in names if name.is_file()), None)
    if found is None:
        raise ConfigError("FILE_MISSING", f"no {names[0].name} in {models}", path=str(models))
    return found


def _counts(pairs: tuple[str, ...]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for pair in pairs:
        group, _, number = pair.partition("=")
        if not group or not number.isdecimal() or not 1 <= int(number[:9]) <= 256 or group in counts:
            raise InputError("REQUEST_INVALID", f"--count {pair}: write GROUP=N, N of 1 to 256, once for each group")
        counts[group] = int(number)
    return counts


def _json(form: str, done: Import, files: dict[str, Path], *, texts: bool) -> Json:
    profiles = []
    for p in done.profiles:
        row: Json = {
            "part": p.part,
            "profile": p.name,
            "file": str(files[p.name]) if p.name in files else None,
            "found": p.found,
            "carried": p.carried,
            "refused": len(p.refusals),
            "points": len(p.settled.profile.points) if p.settled else 0,
        }
        if texts:
            row["text"] = p.settled.text if p.settled else None
        profiles.append(row)
    return {
        "format": form,
        "source": str(done.source),
        "sha256": done.digest,
        "found": done.found,
        "carried": done.carried,
        "refused": len(done.refusals),
        "profiles": profiles,
        "refusals": [asdict(refusal) for refusal in done.refusals],
        "notes": [asdict(note) for p in done.profiles for note in p.notes],
    }


def _tell(ctx: click.Context, done: Import, made: list[ImportedProfile], files: dict[str, Path]) -> None:
    """For people: the profile or the list of files on stdout, what was refused and noted on stderr."""
    if files:
        rows: list[Json] = [
            {"file": str(files[p.name]), "found": p.found, "carried": p.carried, "refused": len(p.refusals)}
            for p in made
        ]
        emit(ctx, rows, _WRITTEN)
    elif made and made[0].settled is not None:
        click.echo(made[0].settled.text, nl=False)
    for refusal in done.refusals[:SHOWN_MAX]:
        where = f"{refusal.part}: {refusal.point}" if refusal.part else refusal.point
        say(f"refused: {refusal.reason} {where} ({refusal.place}): {refusal.message}; {refusal.hint}")
    notes = [note for p in made for note in p.notes]
    for note in notes[:SHOWN_MAX]:
        where = ": ".join(text for text in (note.part, note.point) if text)
        say(f"note: {where}: {note.text}")
    more = max(0, len(done.refusals) - SHOWN_MAX) + max(0, len(notes) - SHOWN_MAX)
    if more:
        say(f"... and {more} more; -o json lists all")
    say(f"{done.found} points: {done.carried} carried, {len(done.refusals)} refused")


_WRITTEN: list[Column] = [
    ("file", field_of("file")),
    ("points", field_of("found")),
    ("carried", field_of("carried")),
    ("refused", field_of("refused")),
]
