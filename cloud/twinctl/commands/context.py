"""`twinctl context` and `twinctl login`: which coordinator, which tenant, as whom."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import click

from twinctl.contexts import DEFAULT_TENANT, Context, Contexts, check_context, contexts_path, save_contexts
from twinctl.options import Noun, Verb, client_of, context_of, contexts_of, options_of
from twinctl.render import emit, field_of, say
from twinmodel.errors import InputError


@click.group(cls=Noun)
def context() -> None:
    """Coordinators this person knows."""


@context.command()
@click.argument("name")
@click.option("--url", required=True, help="Base URL of the coordinator, e.g. http://127.0.0.1:8420.")
@click.option("--tenant", default=DEFAULT_TENANT, show_default=True, help="Tenant to work in.")
@click.option("--token", default="", help="API token; better give it to `twinctl login`, which does not show it.")
@click.pass_context
def add(ctx: click.Context, name: str, url: str, tenant: str, token: str) -> None:
    """Add or change context NAME and make it the current one."""
    check_context(name, url)
    known = contexts_of(ctx)
    old = known.items.get(name, Context())
    # a token belongs to one coordinator: it is never sent to another
    kept = token or (old.token if old.url == url.rstrip("/") else "")
    fresh = Context(url.rstrip("/"), tenant, kept)
    save_contexts(_path(ctx), Contexts(name, {**known.items, name: fresh}))
    say(f"context {name} is current" + ("" if fresh.token else "; now run `twinctl login`"))


@context.command()
@click.argument("name")
@click.pass_context
def use(ctx: click.Context, name: str) -> None:
    """Make context NAME the current one."""
    known = contexts_of(ctx)
    known.pick(name)
    save_contexts(_path(ctx), replace(known, current=name))
    say(f"context {name} is current")


@context.command("list")
@click.pass_context
def list_(ctx: click.Context) -> None:
    """List contexts; tokens are never shown."""
    known = contexts_of(ctx)
    rows = [{"name": name, "current": name == known.current, **_open(item)} for name, item in known.items.items()]
    columns = [(name, field_of(name)) for name in ("name", "current", "url", "tenant", "token")]
    emit(ctx, rows, columns, empty="no contexts yet")


@context.command()
@click.pass_context
def show(ctx: click.Context) -> None:
    """Show the context in force, environment included."""
    known = contexts_of(ctx)
    name = options_of(ctx).context or known.current
    row = {"name": name, **_open(context_of(ctx)), "file": str(_path(ctx))}
    emit(ctx, row, [(key, field_of(key)) for key in row])


@click.command(cls=Verb)
@click.option("--token-stdin", is_flag=True, help="Read the token from standard input.")
@click.pass_context
def login(ctx: click.Context, *, token_stdin: bool) -> None:
    """Check an API token and keep it in the current context."""
    stdin = sys.stdin
    if token_stdin or not stdin.isatty():
        token = stdin.readline().strip()
    else:
        token = click.prompt("API token", hide_input=True, err=True).strip()
    if not token:
        raise InputError("REQUEST_INVALID", "no token was given", hint="`twincloud token create` prints one")
    known = contexts_of(ctx)
    name = options_of(ctx).context or known.current or "default"
    wanted = replace(context_of(ctx), token=token)
    client_of(ctx, wanted).get("/fleet")
    save_contexts(_path(ctx), Contexts(known.current or name, {**known.items, name: wanted}))
    say(f"signed in at {wanted.url}, tenant {wanted.tenant}; kept in context {name}")


def _path(ctx: click.Context) -> Path:
    return contexts_path(options_of(ctx).environ)


def _open(item: Context) -> dict[str, str]:
    return {"url": item.url, "tenant": item.tenant, "token": "set" if item.token else "none"}
