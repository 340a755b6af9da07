"""`twinctl directive` and `twinctl deadletter`: what was asked of gateways, and what came that nobody could read."""

from __future__ import annotations

import click

from twinctl.options import Noun, client_of
from twinctl.render import Column, emit, field_of, instant


@click.group(cls=Noun)
def directive() -> None:
    """Desired things sent to gateways, and how they ended."""


@directive.command("list")
@click.option("--target", default="", help="Only of this twin.")
@click.pass_context
def list_directives(ctx: click.Context, target: str) -> None:
    """List directives, newest first."""
    emit(ctx, list(client_of(ctx).pages("/directives", target=target)), _DIRECTIVES, empty="no directives")


@click.group(cls=Noun)
def deadletter() -> None:
    """Blocks that arrived damaged; their bytes are kept."""


@deadletter.command("list")
@click.pass_context
def list_letters(ctx: click.Context) -> None:
    """List dead letters, newest first."""
    emit(ctx, list(client_of(ctx).pages("/deadLetters")), _LETTERS, empty="no dead letters")


@deadletter.command("requeue")
@click.argument("letter", type=click.IntRange(min=1))
@click.pass_context
def requeue(ctx: click.Context, letter: int) -> None:
    """Read dead letter LETTER again, after an upgrade say, and take it into history."""
    row = client_of(ctx).send("POST", f"/deadLetters/{letter}:requeue", {})
    emit(ctx, row, [("letter", field_of("id")), ("samples", field_of("samples"))])


_DIRECTIVES: list[Column] = [
    ("created", lambda d: instant(d["created"])),
    ("target", lambda d: f"{d['site']}/{d['target']}"),
    ("kind", field_of("kind")),
    ("name", field_of("name")),
    ("outcome", lambda d: d["outcome"] or "open"),
    ("reason", lambda d: ": ".join(part for part in (d["reason"], d["detail"]) if part)),
    ("by", field_of("created_by")),
    ("ended", lambda d: instant(d["ended"])),
]
_LETTERS: list[Column] = [
    ("id", field_of("id")),
    ("gateway", lambda x: f"{x['site']}/{x['gateway']}"),
    ("stream", field_of("stream")),
    ("numbers", lambda x: f"{x['first_seq']}-{x['last_seq']}"),
    ("reason", field_of("reason")),
    ("received", lambda x: instant(x["received"])),
    ("bytes", field_of("size")),
]
