"""`twinctl twin export-graph|import-graph`: definitions, twins and relationships in the formats of others."""

from __future__ import annotations

import json
from pathlib import Path

import click

from twinctl.options import FileVerb, Verb, client_of
from twinctl.render import Column, emit, field_of, say
from twinmodel.errors import ConflictError, InputError

FORMATS = ("dtdl", "wot")
_format = click.option("--format", "form", type=click.Choice(FORMATS), default="dtdl", show_default=True)


@click.command("export-graph", cls=FileVerb)
@_format
@click.option("--site", default="", help="Only twins of this site.")
@click.option("-o", "--output-file", "path", required=True, type=click.Path(path_type=Path, dir_okay=False))
@click.option("--force", is_flag=True, help="Replace the file.")
@click.pass_context
def export_graph(ctx: click.Context, form: str, site: str, path: Path, *, force: bool) -> None:
    """Write all definitions, twins and relationships to a file of another system."""
    if path.exists() and not force:
        raise ConflictError("ALREADY_EXISTS", f"{path} exists", hint="choose another name, or --force")
    found = json.loads(b"".join(client_of(ctx).stream("/twinGraph:export", format=form, site=site)))
    path.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    say(f"{path}: {path.stat().st_size} bytes")


@click.command("import-graph", cls=Verb)
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@_format
@click.option("--site", default="", help="Site of twins whose file names none.")
@click.option("--dry-run", is_flag=True, help="Change nothing, and say what would be carried.")
@click.pass_context
def import_graph(ctx: click.Context, file: Path, form: str, site: str, *, dry_run: bool) -> None:
    """Take in definitions, twins and relationships of FILE; what is not carried is listed."""
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as wrong:
        raise InputError("VALUE_INVALID", f"{file}: it is no JSON: {wrong}") from None
    told = client_of(ctx).send(
        "POST", "/twinGraph:import", document, format=form, site=site, dry_run="true" if dry_run else "false"
    )
    would = "would be " if dry_run else ""
    say(f"{told['carried']} of {told['found']} parts {would}carried, {told['refused']} are not")
    emit(ctx, told["items"], _REFUSED, empty="everything is carried")


COMMANDS = (export_graph, import_graph)
_REFUSED: list[Column] = [
    ("part", field_of("place")),
    ("reason", field_of("reason")),
    ("why", field_of("message")),
]
