"""`twinctl operation`: long work that was asked for, how far it is, and what came of it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from twinctl.options import Noun, client_of
from twinctl.render import Column, Json, emit, field_of, instant, say
from twinmodel.clock import SECOND_NS, SystemClock
from twinmodel.errors import ConflictError, UnreachableError

if TYPE_CHECKING:
    from twinctl.client import Client

LOOK_S = 0.5
STATES = ("queued", "running", "done", "failed", "cancelled")


@click.group(cls=Noun)
def operation() -> None:
    """Long work: list, show, wait, cancel."""


@operation.command("list")
@click.option("--kind", default="", help="Only of this kind, e.g. backtest.")
@click.option("--state", type=click.Choice(STATES), help="Only in this state.")
@click.pass_context
def list_(ctx: click.Context, kind: str, state: str | None) -> None:
    """List operations, newest first."""
    rows = list(client_of(ctx).pages("/operations", kind=kind, state=state or ""))
    emit(ctx, rows, OPERATION, empty="no operations")


@operation.command()
@click.argument("number", type=click.IntRange(min=1))
@click.pass_context
def show(ctx: click.Context, number: int) -> None:
    """Show operation NUMBER; its result is in `-o json`."""
    emit(ctx, client_of(ctx).get(f"/operations/{number}"), OPERATION)


@operation.command()
@click.argument("number", type=click.IntRange(min=1))
@click.option("--for", "patience_s", type=click.FloatRange(0), default=3_600.0, show_default=True, help="Seconds.")
@click.pass_context
def wait(ctx: click.Context, number: int, patience_s: float) -> None:
    """Wait until operation NUMBER has ended; exits 1 when it failed or was cancelled."""
    client = client_of(ctx)
    emit(ctx, ended(client, client.get(f"/operations/{number}"), patience_s), OPERATION)


@operation.command()
@click.argument("number", type=click.IntRange(min=1))
@click.pass_context
def cancel(ctx: click.Context, number: int) -> None:
    """Cancel operation NUMBER; one that has ended stays as it is."""
    emit(ctx, client_of(ctx).send("POST", f"/operations/{number}:cancel", {}), OPERATION)


def ended(client: Client, asked: Json, patience_s: float) -> Json:
    """The operation once it is done.

    Raises:
        ConflictError: why it failed, or OPERATION_CANCELLED.
        UnreachableError: NOT_READY when it takes longer than the patience.
    """
    clock = SystemClock()
    end_ns = clock.boot_ns() + round(patience_s * SECOND_NS)
    view, told = asked, ""
    while view["state"] in ("queued", "running"):
        said = f"operation {view['id']}: {view['state']} {view['progress']:.0%}"
        if said != told:
            say(said)
            told = said
        if clock.boot_ns() >= end_ns:
            hint = f"it goes on; see `twinctl operation show {view['id']}`"
            raise UnreachableError("NOT_READY", f"operation {view['id']} is still {view['state']}", hint=hint)
        time.sleep(LOOK_S)
        view = client.get(f"/operations/{view['id']}")
    if view["state"] == "failed":
        raise ConflictError(view["reason"], view["detail"], hint=view["hint"])
    if view["state"] == "cancelled":
        raise ConflictError("OPERATION_CANCELLED", f"operation {view['id']} was cancelled")
    return view


OPERATION: list[Column] = [
    ("id", field_of("id")),
    ("kind", field_of("kind")),
    ("target", field_of("target")),
    ("state", lambda o: "cancelling" if o["cancelling"] and o["state"] == "running" else o["state"]),
    ("progress", lambda o: f"{o['progress']:.0%}"),
    ("by", field_of("created_by")),
    ("created", lambda o: instant(o["created"])),
    ("ended", lambda o: instant(o["ended"])),
    ("reason", lambda o: ": ".join(part for part in (o["reason"], o["detail"]) if part)),
]
