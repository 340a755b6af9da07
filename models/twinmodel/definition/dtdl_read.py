"""DTDL interfaces and graph files as definitions, twins and relationships of ours; see `dtdl`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from twinmodel import units
from twinmodel.definition.dtdl import OURS, name_of, reference_of
from twinmodel.definition.dtdl_units import SHARES, UNITS
from twinmodel.definition.exchange import Bundle, LinkSpec, Tally, TwinSpec, made, refuse
from twinmodel.definition.schema import NAME, DefinitionSpec, PropertySpec, RelationshipSpec
from twinmodel.errors import InputError

_KINDS: Final = {
    "boolean": "bool", "double": "float", "float": "float", "integer": "int", "long": "int", "string": "string",
}  # fmt: skip
_NAME = re.compile(NAME)


def read(document: object, site: str = "") -> tuple[Bundle, Tally]:
    """What a file says; twins whose `$dtId` is no SITE.TWIN are of `site`.

    Raises:
        InputError: VALUE_INVALID when the document is none of DTDL.
    """
    tally = Tally()
    models, graph = _parts(document)
    specs = [_definition(one, f"models[{at}]", tally) for at, one in enumerate(models)]
    definitions = {spec.reference: spec for spec in specs if spec is not None}
    twins = [
        _twin(one, f"digitalTwins[{at}]", site, definitions, tally)
        for at, one in enumerate(_list(graph, "digitalTwins"))
    ]
    ours = {str(one.get("$dtId")) for one in _list(graph, "digitalTwins") if isinstance(one, dict) and _is_ours(one)}
    links = [
        _link(one, f"relationships[{at}]", site, ours, tally) for at, one in enumerate(_list(graph, "relationships"))
    ]
    bundle = Bundle(
        tuple(definitions.values()), tuple(t for t in twins if t is not None), tuple(k for k in links if k is not None)
    )
    return bundle, tally


def _parts(document: object) -> tuple[list[Any], Mapping[str, Any]]:
    if isinstance(document, list):
        return document, {}
    if isinstance(document, dict) and ("digitalTwinsModels" in document or "digitalTwinsGraph" in document):
        graph = document.get("digitalTwinsGraph", {})
        return _list(document, "digitalTwinsModels"), graph if isinstance(graph, dict) else {}
    if isinstance(document, dict) and document.get("@type") == "Interface":
        return [document], {}
    raise refuse("it is no DTDL: neither an interface, nor a list of them, nor a graph file")


def _list(holder: Mapping[str, Any], key: str) -> list[Any]:
    found = holder.get(key, [])
    return found if isinstance(found, list) else [found]


def _is_ours(twin: Mapping[str, Any]) -> bool:
    about = twin.get("$metadata")
    return isinstance(about, dict) and str(about.get("$model", "")).startswith(OURS)


def _types(element: Mapping[str, Any]) -> list[str]:
    found = element.get("@type", [])
    return [str(one) for one in found] if isinstance(found, list) else [str(found)]


def _text(element: Mapping[str, Any], key: str) -> str:
    """A text that may be given in several languages: English, else the first."""
    found = element.get(key, "")
    if isinstance(found, dict):
        found = found.get("en", next(iter(found.values()), ""))
    return found if isinstance(found, str) else ""


def _beside(element: Mapping[str, Any]) -> dict[str, Any]:
    """What our own exports keep in the comment."""
    text = element.get("comment", "")
    if not isinstance(text, str) or not text.startswith("hybridtwin {"):
        return {}
    try:
        found = json.loads(text.removeprefix("hybridtwin "))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _definition(one: object, place: str, tally: Tally) -> DefinitionSpec | None:
    inner = Tally()
    try:
        spec = _interface(one, place, inner)
    except InputError as wrong:
        tally.join(inner, wrong)
        tally.leave(place, wrong.message, wrong.reason)
        return None
    tally.join(inner)
    tally.take(place, lambda: None)
    return spec


def _interface(one: object, place: str, tally: Tally) -> DefinitionSpec:
    if not isinstance(one, dict) or "Interface" not in _types(one):
        raise refuse("it is no DTDL interface")
    dtmi = one.get("@id")
    name, _, version = reference_of(dtmi).partition("@")
    place, ours = f"{place} {dtmi}", str(dtmi).startswith(OURS)
    context = one.get("@context", "")
    if not any(str(c).startswith("dtmi:dtdl:context;") for c in (context if isinstance(context, list) else [context])):
        raise refuse("its @context names no version of DTDL")
    properties: dict[str, object] = {}
    relationships: dict[str, object] = {}
    for element in _list(one, "contents"):
        if not isinstance(element, dict):
            tally.leave(f"{place} contents", "it is no JSON object")
            continue
        said = str(element.get("name", ""))
        own, at, types = name_of(said) if ours else said, f"{place} {said}", _types(element)
        if "Property" in types or "Telemetry" in types:
            prop = tally.take(at, lambda element=element, types=types: _property(element, types))  # type: ignore[misc]
            if prop is not None:
                properties[own] = prop
        elif "Relationship" in types:
            relation = _relationship(element, at, ours, tally)
            if relation is not None:
                relationships[own] = relation
        else:
            tally.leave(at, f"{' '.join(types) or 'what has no @type'} has no place in a definition")
    for key in sorted(set(one) & {"schemas"}):
        tally.leave(f"{place} {key}", "definitions have no schemas of their own")
    parents = []
    for parent in _list(one, "extends"):
        if isinstance(parent, dict):
            raise refuse("it extends an interface that is written inside it: list that one by itself")
        parents.append(reference_of(parent))
    fields = {"definition": name, "version": version, "description": _text(one, "description"), "extends": parents}
    return made(DefinitionSpec, fields | {"properties": properties, "relationships": relationships})


def _property(element: Mapping[str, Any], types: list[str]) -> PropertySpec:
    schema = element.get("schema")
    if not isinstance(schema, str) or schema not in _KINDS:
        inside = schema.get("@type", "object") if isinstance(schema, dict) else schema
        raise refuse(f"its schema {str(inside)[:60]!r} is none of {', '.join(_KINDS)}")
    fields: dict[str, object] = {"kind": _KINDS[schema], "description": _text(element, "description")}
    fields["desired"] = "Property" in types and element.get("writable") is True
    beside = _beside(element)
    fields |= {key: beside[key] for key in ("min", "max", "tolerance") if key in beside}
    symbol = _unit(element.get("unit"))
    ours = beside.get("unit")
    if isinstance(ours, str):
        if symbol is not None and units.parse(symbol) != units.parse(ours):
            raise refuse(f"its unit is {element['unit']}, its comment says {ours}", "UNIT_CLASH")
        symbol = ours
    return made(PropertySpec, fields | {"unit": symbol or ""})


def _unit(said: object) -> str | None:
    if said is None:
        return None
    name = str(said)
    if name in SHARES:
        return SHARES[name]
    if name not in UNITS:
        raise refuse(f"unit {name[:60]!r} has no symbol of ours", "UNIT_UNKNOWN")
    return UNITS[name][1]


def _relationship(element: Mapping[str, Any], place: str, ours: bool, tally: Tally) -> RelationshipSpec | None:  # noqa: FBT001
    beside, inner = _beside(element), Tally()
    properties: dict[str, object] = {}
    for one in _list(element, "properties"):
        if not isinstance(one, dict):
            inner.leave(f"{place} properties", "it is no JSON object")
            continue
        said = str(one.get("name", ""))
        prop = inner.take(f"{place} {said}", lambda one=one: _property(one, _types(one)))  # type: ignore[misc]
        if prop is not None:
            properties[name_of(said) if ours else said] = prop

    def convert() -> RelationshipSpec:
        target = reference_of(element["target"]) if "target" in element else beside.get("target", "")
        fields = {"target": target, "description": _text(element, "description"), "properties": properties}
        least = element.get("minMultiplicity", 0) or beside.get("min", 0)
        return made(RelationshipSpec, fields | {"min": least, "max": element.get("maxMultiplicity")})

    relation = tally.take(place, convert)
    tally.join(inner, None if relation is not None else refuse("its relationship is not carried"))
    return relation


def _place_of(identity: object, site: str) -> tuple[str, str]:
    text = str(identity)
    own, dot, twin = text.partition(".")
    found = (own, twin) if dot else (site, text)
    if not all(_NAME.fullmatch(part) for part in found):
        hint = "it names no SITE.TWIN" if dot or site else "it names no site: say which one all are of"
        raise refuse(f"$dtId {text[:100]!r}: {hint}")
    return found


def _twin(
    one: object, place: str, site: str, definitions: Mapping[str, DefinitionSpec], tally: Tally
) -> TwinSpec | None:
    about = one.get("$metadata") if isinstance(one, dict) else None
    model = about.get("$model") if isinstance(about, dict) else None

    def convert() -> TwinSpec:
        if not isinstance(one, dict):
            raise refuse("it is no JSON object")
        own, twin = _place_of(one.get("$dtId"), site)
        return TwinSpec(own, twin, reference_of(model) if model is not None else "")

    found = tally.take(f"{place} {one.get('$dtId')}" if isinstance(one, dict) else place, convert)
    if found is None or not isinstance(one, dict):
        return None
    known, desired = _all_of(found.definition, definitions), {}
    for said, value in one.items():
        if said.startswith("$"):
            continue
        name, at = name_of(said) if _is_ours(one) else said, f"{place} {one['$dtId']} {said}"
        if not isinstance(value, bool | int | float | str):
            tally.leave(at, "it is no plain value: components, maps and arrays are not carried")
        elif name in known and not known[name].desired:
            tally.leave(at, "it is reported, not desired: its values come from gateways")
        else:
            tally.take(at, lambda: None)
            desired[name] = value
    return TwinSpec(found.site, found.twin, found.definition, desired)


def _all_of(reference: str, definitions: Mapping[str, DefinitionSpec]) -> dict[str, PropertySpec]:
    found: dict[str, PropertySpec] = {}
    open_, seen = [reference], set[str]()
    while open_:
        one = open_.pop()
        if one in definitions and one not in seen:
            seen.add(one)
            found = dict(definitions[one].properties) | found
            open_ += definitions[one].parents
    return found


def _link(one: object, place: str, site: str, ours: set[str], tally: Tally) -> LinkSpec | None:
    def convert() -> LinkSpec:
        if not isinstance(one, dict):
            raise refuse("it is no JSON object")
        source, target = _place_of(one.get("$sourceId"), site), _place_of(one.get("$targetId"), site)
        own = str(one.get("$sourceId")) in ours
        said = str(one.get("$relationshipName", ""))
        kind = name_of(said) if own else said
        if not _NAME.fullmatch(kind):
            raise refuse(f"$relationshipName {said[:60]!r} is no name of a relationship")
        properties = {name_of(k) if own else k: v for k, v in one.items() if not k.startswith("$")}
        if not all(isinstance(v, bool | int | float | str) for v in properties.values()):
            raise refuse("it says something that is no plain value")
        return LinkSpec(*source, kind, *target, properties)

    return tally.take(f"{place} {one.get('$relationshipId')}" if isinstance(one, dict) else place, convert)
