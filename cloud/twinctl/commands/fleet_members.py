"""`twinctl fleet VERB`: fleets by name or by filter, what they add up to, and who stands out."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING
from urllib.parse import quote

import click

from twinctl.options import Verb, client_of, confirm, options_of
from twinctl.render import Column, Json, emit, field_of, instant, say
from twinmodel.errors import InputError

if TYPE_CHECKING:
    from twinctl.client import Client

ROLES = click.Choice(["measured", "estimated"])
_property = click.option("--property", "prop", default="", help="Only this property.")
_role = click.option("--role", type=ROLES, help="Only measured or only estimated values.")
_filter = click.option("--filter", "text", default=None, help="""In the filter language: 'site = "mill"'.""")
_member = click.option("--member", "members", multiple=True, metavar="TWIN", help="SITE/TWIN; again for more.")
_about = click.option("--description", default=None, help="What it is for.")


def fleet_path(name: str) -> str:
    """A fleet."""
    return f"/fleets/{quote(name, safe='')}"


@click.command("list", cls=Verb)
@click.pass_context
def list_(ctx: click.Context) -> None:
    """List fleets."""
    emit(ctx, list(client_of(ctx).pages("/fleets")), FLEET, empty="no fleets; make one with `twinctl fleet create`")


@click.command(cls=Verb)
@click.argument("name")
@click.pass_context
def show(ctx: click.Context, name: str) -> None:
    """Show what fleet NAME is."""
    emit(ctx, client_of(ctx).get(fleet_path(name)), FLEET)


@click.command(cls=Verb)
@click.argument("name")
@_filter
@_member
@_about
@click.pass_context
def create(ctx: click.Context, name: str, text: str | None, members: tuple[str, ...], description: str | None) -> None:
    """Make fleet NAME of a filter, which follows twins as they change, or of members by name."""
    client = client_of(ctx)
    body = {"description": description or "", "filter": text or "", "members": _members(client, members)}
    emit(ctx, client.send("PUT", fleet_path(name), body, headers={"if-none-match": "*"}), FLEET)


@click.command(cls=Verb)
@click.argument("name")
@_filter
@_member
@_about
@click.pass_context
def update(ctx: click.Context, name: str, text: str | None, members: tuple[str, ...], description: str | None) -> None:
    """Change fleet NAME; what is not given stays."""
    client = client_of(ctx)
    if text is None and not members and description is None:
        raise InputError("REQUEST_INVALID", "nothing to change", hint="give --filter, --member or --description")
    now = client.get(fleet_path(name))
    body: Json = {"description": now["description"], "filter": now["filter"], "members": now["members"] or []}
    if description is not None:
        body["description"] = description
    if text is not None:
        body |= {"filter": text, "members": []}
    if members:
        body |= {"filter": "" if text is None else text, "members": _members(client, members)}
    emit(ctx, client.send("PUT", fleet_path(name), body, headers=_match(now)), FLEET)


@click.command(cls=Verb)
@click.argument("name")
@click.pass_context
def delete(ctx: click.Context, name: str) -> None:
    """Forget fleet NAME; its twins stay."""
    client = client_of(ctx)
    now = client.get(fleet_path(name))
    confirm(ctx, f"Forget fleet {name}?")
    client.send("DELETE", fleet_path(name), headers=_match(now))
    say(f"fleet {name} is forgotten")


@click.command(cls=Verb)
@click.argument("name")
@click.pass_context
def members(ctx: click.Context, name: str) -> None:
    """List the members of fleet NAME as they are now."""
    rows = list(client_of(ctx).pages(f"{fleet_path(name)}/members"))
    emit(ctx, rows, [("site", field_of("site")), ("twin", field_of("twin"))], empty="no members")


@click.command(cls=Verb)
@click.argument("name")
@_property
@_role
@click.pass_context
def aggregate(ctx: click.Context, name: str, prop: str, role: str | None) -> None:
    """Show fleet NAME in numbers: with their uncertainty, and how many of its members they are made of."""
    found = client_of(ctx).get(f"{fleet_path(name)}/aggregate", property=prop, role=role or "")
    if options_of(ctx).output == "json":
        emit(ctx, found, [])
        return
    emit(ctx, found["properties"], _AGGREGATE, empty="no member has a property")


@click.command(cls=Verb)
@click.argument("name")
@_property
@_role
@click.pass_context
def outliers(ctx: click.Context, name: str, prop: str, role: str | None) -> None:
    """List members of fleet NAME that are too far from the others, the farthest first."""
    rows = client_of(ctx).get(f"{fleet_path(name)}/outliers", property=prop, role=role or "")["items"]
    emit(ctx, rows, _OUTLIER, empty="no outliers")


def _members(client: Client, names: tuple[str, ...]) -> list[Json]:
    return [dict(zip(("site", "twin"), client.twin(name), strict=True)) for name in names]


def _match(view: Json) -> dict[str, str]:
    return {"if-match": f'"{view["revision"]}"'}


def _with_sigma(name: str) -> Column:
    """A number to a tenth of its sigma, that both read as one."""

    def read(row: Json) -> object:
        value, known = row[name], row["uncertainty"]
        if value is None or not known or not known[name] > 0:
            return value
        decimals = max(0, 1 - math.floor(math.log10(known[name])))
        return f"{value:.{decimals}f} ± {known[name]:.2g}"

    return (name, read)


def _quantile(q: float) -> Column:
    name = f"p{round(q * 100)}"
    return (name, lambda row: next((x["value"] for x in row["quantiles"] if x["q"] == q), None))


FLEET: list[Column] = [
    ("fleet", field_of("fleet")),
    ("kind", field_of("kind")),
    ("filter", field_of("filter")),
    ("members", lambda f: "-" if f["members"] is None else len(f["members"])),
    ("description", field_of("description")),
    ("updated", lambda f: instant(f["updated"])),
    ("by", field_of("updated_by")),
]
_AGGREGATE: list[Column] = [
    ("property", field_of("property")),
    ("role", field_of("role")),
    ("unit", field_of("unit")),
    ("of", lambda p: f"{p['count']}/{p['members']}"),
    _with_sigma("mean"),
    _with_sigma("total"),
    ("min", field_of("minimum")),
    _quantile(0.5),
    ("max", field_of("maximum")),
    ("outliers", field_of("outliers")),
    ("missing", lambda p: ", ".join(f"{n} {why}" for why, n in p["missing"].items())),
]
_OUTLIER: list[Column] = [
    ("twin", lambda o: f"{o['site']}/{o['twin']}"),
    ("property", field_of("property")),
    ("role", field_of("role")),
    ("z", field_of("z")),
    ("why", field_of("why")),
]
VERBS = (list_, show, create, update, delete, members, aggregate, outliers)
