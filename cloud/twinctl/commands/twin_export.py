"""`twinctl twin export`: the history of a twin as one file, CSV or Parquet, whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import click

from twinctl.options import FileVerb, client_of
from twinctl.paths import twin_path
from twinctl.render import instant, say
from twinctl.spans import time_of
from twinmodel.clock import SystemClock
from twinmodel.errors import ConflictError, StorageError


@click.command(cls=FileVerb)
@click.argument("twin")
@click.option("--csv", "form", flag_value="csv", help="A row per time, a column per property; units in the header.")
@click.option("--parquet", "form", flag_value="parquet", help="Every bit, with commits; read by any tool.")
@click.option("--from", "from_", default="1d", show_default=True, help="RFC 3339, or an age as 90s, 15min, 1h, 7d.")
@click.option("--to", default="0s", help="RFC 3339, or an age; now.")
@click.option("--properties", default="", metavar="A,B", help="Only these; all.")
@click.option("--roles", default="", metavar="A,B", help="measured, estimate, sigma ...; all but substitutes.")
@click.option(
    "-o", "--output-file", "path", required=True, type=click.Path(path_type=Path, dir_okay=False), help="File to write."
)
@click.option("--force", is_flag=True, help="Replace the file.")
@click.pass_context
def export(
    ctx: click.Context, twin: str, form: str | None, from_: str, to: str, properties: str, roles: str, path: Path,
    force: bool,  # noqa: FBT001 a flag of the command
) -> None:  # fmt: skip
    """Write what TWIN measured and its model said in a span to a file."""
    if form is None:
        form = "parquet" if path.suffix == ".parquet" else "csv"
    if path.exists() and not force:
        raise ConflictError("ALREADY_EXISTS", f"{path} exists", hint="choose another name, or --force")
    client = client_of(ctx)
    site, name = client.twin(twin)
    now_ns = SystemClock().wall_ns()
    asked = {"format": form, "from": time_of(from_, now_ns), "to": time_of(to, now_ns)}
    draft = path.with_name(f".{path.name}.part")
    try:
        with draft.open("wb") as file:
            path_of = f"{twin_path(site, name)}/export"
            for chunk in client.stream(path_of, _say_expired, **asked, properties=properties, roles=roles):
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        if path.exists() and not force:
            raise ConflictError("ALREADY_EXISTS", f"{path} exists", hint="choose another name, or --force")
        draft.replace(path)
    except OSError as error:
        raise StorageError("STORE_FULL", f"{path}: {error.strerror}", hint="free disk space, or another -o") from error
    finally:
        draft.unlink(missing_ok=True)
    say(f"{path}: {path.stat().st_size} bytes")


def _say_expired(headers: Mapping[str, str]) -> None:
    since = headers.get("kept-from")
    if since:
        say(f"warning: not all of it is kept from before {instant(since)}; see `twinctl retention show`")
