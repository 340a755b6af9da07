"""WoT Thing Descriptions 1.1: our definitions as Thing Models, our twins as Things that name theirs.

A document is a list of both. What the vocabulary of the W3C lacks stands under the prefix `ht`, which JSON-LD allows,
so that nothing of ours is lost. Read are such lists, and single Thing Models or Thing Descriptions of others.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from twinmodel import units
from twinmodel.definition.dtdl_units import SHARES, UNITS
from twinmodel.definition.exchange import Bundle, LinkSpec, Tally, TwinSpec, made, refuse
from twinmodel.definition.schema import NAME, DefinitionSpec, PropertySpec, RelationshipSpec

CONTEXT: Final = ("https://www.w3.org/2022/wot/td/v1.1", {"ht": "urn:hybridtwin:terms:"})
MODEL: Final = "urn:hybridtwin:definition:"
TWIN: Final = "urn:hybridtwin:twin:"
_TYPES: Final = {"float": "number", "int": "integer", "bool": "boolean", "string": "string"}
_KINDS: Final = {name: kind for kind, name in _TYPES.items()}
_NAME = re.compile(NAME)
_SCALAR = bool | int | float | str


def write(bundle: Bundle) -> tuple[list[dict[str, Any]], Tally]:
    """Thing Models of all definitions and Thing Descriptions of all twins; everything is carried."""
    tally = Tally()
    links: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for one in bundle.links:
        told = {"rel": f"ht:{one.type}", "href": f"{TWIN}{one.target_site}:{one.target}"}
        links.setdefault((one.site, one.twin), []).append(told | {"ht:properties": dict(one.properties)})
        tally.take(f"relationships.{one.site}/{one.twin}.{one.type}", lambda: None)
    document = []
    for spec in bundle.definitions:
        document.append(_model(spec))
        tally.take(f"definitions.{spec.reference}", lambda: None)
    for twin in bundle.twins:
        document.append(_thing(twin, links.pop((twin.site, twin.twin), [])))
        tally.take(f"twins.{twin.site}/{twin.twin}", lambda: None)
    return document, tally


def _model(spec: DefinitionSpec) -> dict[str, Any]:
    relations = {
        n: r.model_dump(mode="json", by_alias=True, exclude_defaults=True) for n, r in spec.relationships.items()
    }
    return {
        "@context": list(CONTEXT),
        "@type": "tm:ThingModel",
        "id": MODEL + spec.reference,
        "title": spec.definition,
        "version": {"model": spec.version},
        "description": spec.description,
        "links": [{"rel": "tm:extends", "href": MODEL + parent} for parent in spec.parents],
        "properties": {name: _property(prop) for name, prop in spec.properties.items()},
        "ht:relationships": relations,
    }


def _property(spec: PropertySpec) -> dict[str, Any]:
    told: dict[str, Any] = {"type": _TYPES[spec.kind], "readOnly": not spec.desired}
    for name, value in (("unit", spec.unit), ("description", spec.description), ("ht:tolerance", spec.tolerance)):
        told |= {name: value} if value else {}
    for name, limit in (("minimum", spec.low), ("maximum", spec.high)):
        told |= {name: limit} if limit is not None else {}
    return told


def _thing(twin: TwinSpec, links: list[dict[str, Any]]) -> dict[str, Any]:
    kind = [{"rel": "type", "href": MODEL + twin.definition, "type": "application/tm+json"}] if twin.definition else []
    return {
        "@context": list(CONTEXT),
        "@type": "Thing",
        "id": f"{TWIN}{twin.site}:{twin.twin}",
        "title": f"{twin.site}/{twin.twin}",
        "securityDefinitions": {"bearer": {"scheme": "bearer"}},
        "security": "bearer",
        "links": kind + links,
        "ht:state": twin.state,
        "ht:run": twin.run,
        "ht:tags": dict(twin.tags),
        "ht:attributes": dict(twin.attributes),
        "ht:desired": dict(twin.desired),
    }


def read(document: object, site: str = "") -> tuple[Bundle, Tally]:
    """What a list of Thing Models and Things says; a Thing that is none of ours becomes a twin of `site`.

    Raises:
        InputError: VALUE_INVALID when the document is none of WoT.
    """
    things = document if isinstance(document, list) else [document]
    if not all(isinstance(one, dict) and "@context" in one for one in things):
        raise refuse("it is no WoT: neither a Thing, a Thing Model, nor a list of them")
    tally = Tally()
    definitions: dict[str, DefinitionSpec] = {}
    twins: list[TwinSpec] = []
    links: list[LinkSpec] = []
    for at, one in enumerate(things):
        place = f"[{at}] {str(one.get('id', one.get('title', '')))[:100]}"
        types = one.get("@type", [])
        model = "tm:ThingModel" in (types if isinstance(types, list) else [types])
        definition = ""
        if model or isinstance(one.get("properties"), dict):
            spec = _definition(one, place, tally)
            if spec is not None:
                definitions[spec.reference] = spec
                definition = spec.reference
        if not model:
            _take_thing(one, place, site, definition, tally, twins, links)
    return Bundle(tuple(definitions.values()), tuple(twins), tuple(links)), tally


def _slug(text: object) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", str(text)).strip("-")[:63]


def _definition(one: Mapping[str, Any], place: str, tally: Tally) -> DefinitionSpec | None:
    name, version = _slug(one.get("title", "")), "0"
    told = one.get("version")
    if isinstance(told, dict):
        version = str(told.get("model", told.get("instance", "0")))
    if str(one.get("id", "")).startswith(MODEL):
        name, _, version = one["id"].removeprefix(MODEL).partition("@")
    properties: dict[str, object] = {}
    inner = Tally()
    for key, element in _mapping(one, "properties").items():
        prop = inner.take(f"{place} properties.{key}", lambda element=element: _read_property(element))  # type: ignore[misc]
        if prop is not None:
            properties[key] = prop
    for part in ("actions", "events"):
        for key in _mapping(one, part):
            inner.leave(f"{place} {part}.{key}", f"{part} have no place in a definition")

    def convert() -> DefinitionSpec:
        parents = [
            str(link.get("href", "")).removeprefix(MODEL)
            for link in _links(one)
            if isinstance(link, dict) and link.get("rel") == "tm:extends"
        ]
        relations = {
            n: made(RelationshipSpec, _mapping({n: r}, n)) for n, r in _mapping(one, "ht:relationships").items()
        }
        fields = {"definition": name, "version": version, "description": str(one.get("description", ""))[:1000]}
        return made(DefinitionSpec, fields | {"extends": parents, "properties": properties, "relationships": relations})

    spec = tally.take(place, convert)
    tally.join(inner, None if spec is not None else refuse("its Thing is not carried"))
    return spec


def _links(one: Mapping[str, Any]) -> list[Any]:
    found = one.get("links")
    return found if isinstance(found, list) else []


def _mapping(one: Mapping[str, Any], key: str) -> dict[str, Any]:
    found = one.get(key)
    return found if isinstance(found, dict) else {}


def _read_property(element: object) -> PropertySpec:
    if not isinstance(element, dict) or str(element.get("type")) not in _KINDS:
        said = element.get("type", "none") if isinstance(element, dict) else element
        raise refuse(f"its type {str(said)[:60]!r} is none of {', '.join(_KINDS)}")
    kind = _KINDS[str(element["type"])]
    fields: dict[str, object] = {"kind": kind, "description": str(element.get("description", ""))[:1000]}
    fields["desired"] = element.get("readOnly") is False
    fields["tolerance"] = element.get("ht:tolerance", 0.0)
    if kind in ("float", "int"):
        fields |= {"min": element.get("minimum"), "max": element.get("maximum")}
        fields["unit"] = _unit(str(element.get("unit", "")))
    return made(PropertySpec, fields)


def _unit(said: str) -> str:
    name = said.rpartition(":")[2]
    if name in SHARES:
        return SHARES[name]
    symbol = UNITS[name][1] if name in UNITS else said
    units.parse(symbol)
    return symbol


def _take_thing(
    one: Mapping[str, Any], place: str, site: str, definition: str, tally: Tally, twins: list[TwinSpec],
    links: list[LinkSpec],
) -> None:  # fmt: skip
    own = str(one.get("id", ""))
    where, _, name = (
        own.removeprefix(TWIN).partition(":") if own.startswith(TWIN) else (site, "", _slug(one.get("title")))
    )

    def convert() -> TwinSpec:
        kinds = [x.get("href") for x in _links(one) if isinstance(x, dict) and x.get("rel") == "type"]
        said = str(kinds[0]).removeprefix(MODEL) if kinds and str(kinds[0]).startswith(MODEL) else definition
        if not (_NAME.fullmatch(where) and _NAME.fullmatch(name)):
            raise refuse(f"it names no twin: site {where!r}, name {name!r}; say which site all are of")
        desired = {k: v for k, v in _mapping(one, "ht:desired").items() if isinstance(v, _SCALAR)}
        return TwinSpec(
            where, name, said, desired, str(one.get("ht:state", "draft")), str(one.get("ht:run", "edge")),
            _mapping(one, "ht:tags"), _mapping(one, "ht:attributes"),
        )  # fmt: skip

    twin = tally.take(f"{place} twin", convert)
    if twin is None:
        return
    twins.append(twin)
    for link in _links(one):
        rel, href = (str(link.get("rel", "")), str(link.get("href", ""))) if isinstance(link, dict) else ("", "")
        if rel == "type":
            continue
        there, _, target = href.removeprefix(TWIN).partition(":")
        if not (rel.startswith("ht:") and href.startswith(TWIN) and target):
            tally.leave(f"{place} links {rel} {href[:100]}", "it leads to no twin of ours")
            continue
        tally.take(f"{place} links {rel} {href}", lambda: None)
        links.append(LinkSpec(where, name, rel[3:], there, target, _mapping(link, "ht:properties")))
