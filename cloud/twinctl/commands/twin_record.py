"""`twinctl twin create|set|desired|relate|graph|delete|define|definitions|definition`: what people say of twins."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from twinctl.options import Verb, client_of, confirm, options_of
from twinctl.paths import twin_path
from twinctl.render import Column, Json, emit, field_of, instant, say, text_of
from twinmodel.errors import InputError

STATES = ("draft", "commissioned", "active", "suspended", "retired")
RUNS = ("edge", "cloud")


@click.command(cls=Verb)
@click.argument("twin")
@click.option("--definition", default=None, help="NAME@VERSION.")
@click.option("--state", type=click.Choice(STATES[:3]), default="draft", show_default=True)
@click.option("--run", type=click.Choice(RUNS), default="edge", show_default=True, help="Where its model runs.")
@click.option("--tag", "tags", multiple=True, metavar="NAME=VALUE", help="May be given more than once.")
@click.pass_context
def create(ctx: click.Context, twin: str, definition: str | None, state: str, run: str, tags: tuple[str, ...]) -> None:
    """Describe a twin SITE/TWIN before any gateway tells of it."""
    site, slash, name = twin.partition("/")
    if not (slash and site and name) or "/" in name:
        raise InputError("REQUEST_INVALID", f"{twin!r} names no site", hint="write SITE/TWIN")
    body: Json = {"definition": definition, "state": state, "run": run, "tags": dict(_pair(tag) for tag in tags)}
    path = f"{twin_path(site, name)}/record"
    emit(ctx, client_of(ctx).send("PUT", path, body, headers={"If-None-Match": "*"}), _RECORD)


@click.command("set", cls=Verb)
@click.argument("twin")
@click.option("--definition", help="NAME@VERSION; an empty one takes it away.")
@click.option("--state", type=click.Choice(STATES), help="The next state; see docs/twins.md for what may follow what.")
@click.option("--run", type=click.Choice(RUNS), help="Where its model runs.")
@click.option("--tag", "tags", multiple=True, metavar="NAME=VALUE", help="Set a tag; may be given more than once.")
@click.option("--untag", multiple=True, metavar="NAME", help="Remove a tag; may be given more than once.")
@click.option(
    "--attribute", "attributes", multiple=True, metavar="NAME=JSON", help="Set an attribute; null removes it."
)
@click.option("--if-revision", type=click.IntRange(0), help="Only if nobody has changed it since this revision.")
@click.pass_context
def set_(
    ctx: click.Context,
    twin: str,
    definition: str | None,
    state: str | None,
    run: str | None,
    tags: tuple[str, ...],
    untag: tuple[str, ...],
    attributes: tuple[str, ...],
    if_revision: int | None,
) -> None:
    """Change what is said of TWIN: its state, definition, tags, attributes."""
    patch: Json = {"definition": definition or None} if definition is not None else {}
    patch |= {name: value for name, value in (("state", state), ("run", run)) if value is not None}
    if tags or untag:
        patch["tags"] = dict(_pair(tag) for tag in tags) | dict.fromkeys(untag)
    if attributes:
        patch["attributes"] = {name: _json(name, value) for name, value in map(_pair, attributes)}
    if not patch:
        raise InputError("REQUEST_INVALID", "nothing to change", hint="give e.g. --state, --definition or --tag")
    client = client_of(ctx)
    headers = {} if if_revision is None else {"If-Match": f'"{if_revision}"'}
    path = f"{twin_path(*client.twin(twin))}/record"
    emit(ctx, client.send("PATCH", path, patch, headers=headers), _RECORD)


@click.command(cls=Verb)
@click.argument("twin")
@click.argument("property", required=False)
@click.argument("value", required=False)
@click.option("--unit", help="Unit of VALUE; without it that of the definition.")
@click.option("--clear", is_flag=True, help="Desire nothing of PROPERTY any more.")
@click.pass_context
def desired(
    ctx: click.Context,
    twin: str,
    property: str | None,  # noqa: A002 - the argument's name
    value: str | None,
    unit: str | None,
    *,
    clear: bool,
) -> None:
    """Say what PROPERTY of TWIN should be; without VALUE show what is desired and what is."""
    client = client_of(ctx)
    site, name = client.twin(twin)
    if property is not None and (value is not None or clear):
        if clear and value is not None:
            raise InputError("REQUEST_INVALID", "give one of VALUE and --clear")
        said = None if clear else {"value": _value(str(value))} | ({"unit": unit} if unit is not None else {})
        client.send("PATCH", f"{twin_path(site, name)}/desired", {property: said})
    elif clear:
        raise InputError("REQUEST_INVALID", "name the property that --clear is for")
    rows = [p for p in client.twin_view(site, name)["properties"] if p.get("desired") and property in (None, p["name"])]
    emit(ctx, rows, _DESIRED, empty="nothing is desired")


@click.command(cls=Verb)
@click.argument("twin")
@click.argument("type")
@click.argument("target")
@click.option("--property", "properties", multiple=True, metavar="NAME=VALUE", help="May be given more than once.")
@click.option("--remove", is_flag=True, help="End the relationship.")
@click.pass_context
def relate(
    ctx: click.Context,
    twin: str,
    type: str,  # noqa: A002 - the argument's name
    target: str,
    properties: tuple[str, ...],
    *,
    remove: bool,
) -> None:
    """Relate TWIN to TARGET by a TYPE of its definition."""
    client = client_of(ctx)
    source, (target_site, target_name) = client.twin(twin), client.twin(target)
    there = "/".join(quote(part, safe="") for part in (type, target_site, target_name))
    path = f"{twin_path(*source)}/relationships/{there}"
    if remove:
        client.send("DELETE", path)
        say(f"{'/'.join(source)} {type} {target_site}/{target_name} ended")
        return
    said = {name: _value(value) for name, value in map(_pair, properties)}
    emit(ctx, client.send("PUT", path, {"properties": said}), _RELATIONS)


@click.command(cls=Verb)
@click.argument("twin")
@click.option("--type", "type_", default="", help="Only relationships of this type.")
@click.option("--depth", type=click.IntRange(1, 10), default=3, show_default=True)
@click.option("--direction", type=click.Choice(["out", "in", "both"]), default="out", show_default=True)
@click.pass_context
def graph(ctx: click.Context, twin: str, type_: str, depth: int, direction: str) -> None:
    """Show what TWIN is related to, by how many steps."""
    client = client_of(ctx)
    where = client.twin(twin)
    found = client.get(f"{twin_path(*where)}/graph", type=type_, depth=depth, direction=direction, nodes=1_000)
    if found["truncated"]:
        say(f"not all is shown: the search ended by its {found['truncated']}")
    if found["cycle"]:
        say(f"a circle: {' -> '.join(found['cycle'])}")
    if options_of(ctx).output == "json":
        emit(ctx, found, [])
        return
    emit(ctx, found["relationships"], _RELATIONS, empty="no relationships")


@click.command(cls=Verb)
@click.argument("twin")
@click.pass_context
def delete(ctx: click.Context, twin: str) -> None:
    """Delete TWIN: a draft, or a retired one that no gateway ever reported."""
    client = client_of(ctx)
    site, name = client.twin(twin)
    path = f"{twin_path(site, name)}/record"
    revision = client.get(path)["revision"]
    confirm(ctx, f"Delete {site}/{name} and its relationships?")
    client.send("DELETE", path, headers={"If-Match": f'"{revision}"'})
    say(f"{site}/{name} deleted")


@click.command(cls=Verb)
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.pass_context
def define(ctx: click.Context, files: tuple[Path, ...]) -> None:
    """Publish the definitions of FILES together, all or none; they may extend one another."""
    from twinmodel.definition.load import load_definition  # noqa: PLC0415 - ruamel and pydantic take 150 ms

    specs = [load_definition(path) for path in files]
    items = [spec.model_dump(mode="json", by_alias=True, exclude_defaults=True) for spec in specs]
    made = client_of(ctx).send("POST", "/twinDefinitions", {"items": items})
    emit(ctx, made["items"], _DEFINITIONS)


@click.command(cls=Verb)
@click.option("--name", default="", help="Only versions of this one.")
@click.pass_context
def definitions(ctx: click.Context, name: str) -> None:
    """List definitions by name and version."""
    rows = list(client_of(ctx).pages("/twinDefinitions", name=name))
    emit(ctx, rows, _DEFINITIONS, empty="no definitions")


@click.command(cls=Verb)
@click.argument("reference", metavar="NAME@VERSION")
@click.pass_context
def definition(ctx: click.Context, reference: str) -> None:
    """Show a definition with all it inherits."""
    name, at, version = reference.partition("@")
    if not (name and at and version):
        raise InputError("REQUEST_INVALID", f"{reference!r} has no version", hint="write NAME@VERSION")
    view = client_of(ctx).get(f"/twinDefinitions/{quote(name, safe='')}/versions/{quote(version, safe='')}")
    options = options_of(ctx)
    if options.output == "json" or options.fields:
        emit(ctx, view, _DEFINITIONS)
        return
    emit(ctx, view, _DEFINITIONS)
    click.echo()
    rows = [
        {"name": name, **spec, "origin": view["origins"][f"properties.{name}"]}
        for name, spec in view["properties"].items()
    ]
    emit(ctx, rows, _PROPERTIES, empty="no properties")
    types = [
        {"name": name, **spec, "origin": view["origins"][f"relationships.{name}"]}
        for name, spec in view["relationships"].items()
    ]
    if types:
        click.echo()
        emit(ctx, types, _TYPES)


COMMANDS = (create, set_, desired, relate, graph, delete, define, definitions, definition)


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise InputError("REQUEST_INVALID", f"{text!r} is no NAME=VALUE")
    return name, value


def _json(name: str, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        hint = f"""write texts with quotes: --attribute '{name}="{text}"'"""
        raise InputError("REQUEST_INVALID", f"attribute {name!r}: {text!r} is no JSON", hint=hint) from None


def _value(text: str) -> float | int | bool | str:
    """A number, true, false, or else the text itself."""
    try:
        found = json.loads(text)
    except ValueError:
        return text
    return found if isinstance(found, bool | int | float) else text


def _limits(row: Json) -> str:
    low, high = row["min"], row["max"]
    return "" if low is None and high is None else f"{text_of(low)} .. {text_of(high)}"


_RECORD: list[Column] = [
    ("twin", lambda r: f"{r['site']}/{r['twin']}"),
    ("state", field_of("state")),
    ("definition", field_of("definition")),
    ("run", field_of("run")),
    ("tags", lambda r: ", ".join(f"{name}={value}" for name, value in sorted(r["tags"].items()))),
    ("attributes", lambda r: r["attributes"] or None),
    ("revision", field_of("revision")),
    ("updated", lambda r: instant(r["updated"])),
    ("by", field_of("updated_by")),
]
_DESIRED: list[Column] = [
    ("property", field_of("name")),
    ("desired", lambda p: p["desired"]["value"]),
    ("reported", lambda p: p["reported"] and p["reported"]["value"]),
    ("unit", lambda p: p["desired"]["unit"]),
    ("difference", field_of("delta")),
    ("agrees", lambda p: None if p["differs"] is None else not p["differs"]),
    ("by", lambda p: p["desired"]["by"]),
    ("since", lambda p: instant(p["desired"]["t_event"])),
]
_RELATIONS: list[Column] = [
    ("twin", lambda r: f"{r['site']}/{r['twin']}"),
    ("type", field_of("type")),
    ("target", lambda r: f"{r['target_site']}/{r['target']}"),
    ("properties", lambda r: r["properties"] or None),
]
_DEFINITIONS: list[Column] = [
    ("definition", lambda d: f"{d['name']}@{d['version']}"),
    ("extends", lambda d: ", ".join(d["chain"][1:])),
    ("properties", lambda d: len(d["properties"])),
    ("relationships", lambda d: len(d["relationships"])),
    ("created", lambda d: instant(d["created"])),
    ("by", field_of("created_by")),
]
_PROPERTIES: list[Column] = [
    ("property", field_of("name")),
    ("kind", field_of("kind")),
    ("unit", field_of("unit")),
    ("limits", _limits),
    ("desired", field_of("desired")),
    ("from", field_of("origin")),
]
_TYPES: list[Column] = [
    ("relationship", field_of("name")),
    ("target", lambda r: r["target"] or "any"),
    ("number", lambda r: f"{r['min']} .. {'any' if r['max'] is None else r['max']}"),
    ("from", field_of("origin")),
]
