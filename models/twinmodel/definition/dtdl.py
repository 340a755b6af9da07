"""DTDL version 3: our definitions as interfaces, twins and relationships as the graph file of Azure Digital Twins.

    {"digitalTwinsModels": [interface, ...],
     "digitalTwinsGraph": {"digitalTwins": [...], "relationships": [...]}}

Read are such files, a list of interfaces, or one. A version of a definition is a DTMI of its own (`dtmi_of`). What DTDL
has no word for (limits, tolerance, a unit it does not know, a least number of relationships, a target of any version)
stands in `comment` as `hybridtwin {...}`, which `dtdl_read.read` understands. What cannot be carried
is named, never guessed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from twinmodel.definition.dtdl_units import NAMES, UNITS
from twinmodel.definition.exchange import Bundle, LinkSpec, Tally, TwinSpec, refuse
from twinmodel.definition.schema import DefinitionSpec, PropertySpec, RelationshipSpec

CONTEXT: Final = ("dtmi:dtdl:context;3", "dtmi:dtdl:extension:quantitativeTypes;1")
TEXT_MAX: Final = 512
OURS: Final = "dtmi:hybridtwin:"
_SCHEMAS: Final = {"bool": "boolean", "float": "double", "int": "long", "string": "string"}
_DTMI = re.compile(
    r"dtmi:([A-Za-z](?:[A-Za-z0-9_]*[A-Za-z0-9])?(?::[A-Za-z](?:[A-Za-z0-9_]*[A-Za-z0-9])?)*)"
    r"(?:;([1-9][0-9]{0,8}(?:\.(?:0|[1-9][0-9]{0,5}))?))?"
)
_PLAIN_VERSION = re.compile(r"[1-9][0-9]{0,8}(\.(0|[1-9][0-9]{0,5}))?")
_PATCH_VERSION = re.compile(r"([1-9][0-9]{0,8}\.(?:0|[1-9][0-9]{0,5}))\.(0|[1-9][0-9]*)")
_ESCAPES: Final = {"-": "_2d", ".": "_2e", "+": "_2b", "_": "_5f"}
_ESCAPED = re.compile(r"_(2d|2e|2b|5f)|^x_3([0-9])")


def segment_of(name: str) -> str:
    """A name of ours as one of DTDL, which has letters, digits and inner underscores alone; see `name_of`."""
    parts = []
    for at, letter in enumerate(name):
        escaped = letter in "-.+" or (
            letter == "_" and (name[at + 1 : at + 3] in ("2d", "2e", "2b", "5f") or at == len(name) - 1)
        )
        parts.append(_ESCAPES[letter] if escaped else letter)
    text = "".join(parts)
    if text[:1].isdigit():
        return f"x_3{text}"
    return re.sub(r"^x_3(?=[0-9])", "x_5f3", text)


def name_of(segment: str) -> str:
    """The name that `segment_of` made it of."""
    back = {code[1:]: letter for letter, code in _ESCAPES.items()}
    return _ESCAPED.sub(lambda found: back[found[1]] if found[1] else found[2], segment)


def dtmi_of(reference: str) -> str:
    """`pump@1` is `dtmi:hybridtwin:pump;1`, `pump@1.2.3` is `...:pump:patch3;1.2`, others are `...:version_...;1`."""
    name, _, version = reference.partition("@")
    head = OURS + segment_of(name)
    if _PLAIN_VERSION.fullmatch(version):
        return f"{head};{version}"
    patch = _PATCH_VERSION.fullmatch(version)
    if patch:
        return f"{head}:patch{patch[2]};{patch[1]}"
    return f"{head}:version_{segment_of('v' + version)};1"


def reference_of(dtmi: object) -> str:
    """`name@version` of a DTMI; those of others keep their path, joined by `-`, and `0` where they have no version."""
    found = _DTMI.fullmatch(dtmi) if isinstance(dtmi, str) else None
    if found is None:
        raise refuse(f"{str(dtmi)[:100]!r} is no DTMI")
    path, version = found[1].split(":"), found[2] or "0"
    if path[0] != OURS.split(":")[1] or len(path) < 2:
        return f"{'-'.join(path)}@{version}"
    if len(path) == 3 and path[2].startswith("patch") and path[2][5:].isdigit():
        return f"{name_of(path[1])}@{version}.{path[2][5:]}"
    if len(path) == 3 and path[2].startswith("version_"):
        return f"{name_of(path[1])}@{name_of(path[2][8:])[1:]}"
    return f"{name_of(path[1])}@{version}"


def write(bundle: Bundle) -> tuple[dict[str, Any], Tally]:
    """The graph file, and what of the bundle it carries."""
    tally = Tally()
    known = {spec.reference: spec for spec in bundle.definitions}
    models = [_interface(spec, known, tally) for spec in bundle.definitions]
    twins = [_digital_twin(twin, tally) for twin in bundle.twins]
    links = [_digital_link(link, tally) for link in bundle.links]
    graph = {"digitalTwins": twins, "relationships": links}
    about = {"fileVersion": "1.0.0"}
    return {"digitalTwinsFileInfo": about, "digitalTwinsGraph": graph, "digitalTwinsModels": models}, tally


def _interface(spec: DefinitionSpec, known: Mapping[str, DefinitionSpec], tally: Tally) -> dict[str, Any]:
    place = f"definitions.{spec.reference}"
    above = _inherited(spec, known)
    contents = []
    for name, prop in spec.properties.items():
        if name in above:
            tally.leave(f"{place}.properties.{name}", "DTDL lets no interface say again what it inherits")
            continue
        tally.take(f"{place}.properties.{name}", lambda: None)
        contents.append(_property(name, prop, f"{place}.properties.{name}", tally))
    for name, relation in spec.relationships.items():
        at = f"{place}.relationships.{name}"
        if name in above:
            tally.leave(at, "DTDL lets no interface say again what it inherits")
            continue
        if name in spec.properties:
            tally.leave(at, "DTDL has one name for one thing, and a property has it")
            continue
        tally.take(at, lambda: None)
        contents.append(_relationship(name, relation, at, tally))
    told: dict[str, Any] = {"@context": list(CONTEXT), "@id": dtmi_of(spec.reference), "@type": "Interface"}
    told["displayName"] = spec.reference[:64]
    if spec.parents:
        told["extends"] = [dtmi_of(parent) for parent in spec.parents]
    tally.take(place, lambda: None)
    return told | _description(spec.description, place, tally) | {"contents": contents}


def _inherited(spec: DefinitionSpec, known: Mapping[str, DefinitionSpec]) -> set[str]:
    names: set[str] = set()
    above, seen = list(spec.parents), set[str]()
    while above:
        reference = above.pop()
        if reference in seen or reference not in known:
            continue
        seen.add(reference)
        parent = known[reference]
        names |= {*parent.properties, *parent.relationships}
        above += parent.parents
    return names


def _description(text: str, place: str, tally: Tally) -> dict[str, str]:
    if len(text) > TEXT_MAX:
        tally.leave(f"{place}.description", f"DTDL has room for {TEXT_MAX} characters")
        return {}
    return {"description": text} if text else {}


def _comment(beside: Mapping[str, object], place: str, tally: Tally) -> dict[str, str]:
    if not beside:
        return {}
    text = f"hybridtwin {json.dumps(beside, separators=(',', ':'))}"
    if len(text) > TEXT_MAX:
        tally.leave(f"{place}.comment", f"DTDL has room for {TEXT_MAX} characters")
        return {}
    return {"comment": text}


def _property(name: str, spec: PropertySpec, place: str, tally: Tally) -> dict[str, Any]:
    unit = NAMES.get(spec.unit)
    beside = spec.model_dump(mode="json", by_alias=True, include={"low", "high", "tolerance"}, exclude_defaults=True)
    if spec.unit and (unit is None or UNITS[unit][1] != spec.unit):
        beside["unit"] = spec.unit
    kinds: str | list[str] = "Property" if unit is None else ["Property", UNITS[unit][0]]
    told: dict[str, Any] = {"@type": kinds, "name": segment_of(name), "schema": _SCHEMAS[spec.kind]}
    told |= {"writable": spec.desired} | ({"unit": unit} if unit else {})
    return told | _description(spec.description, place, tally) | _comment(beside, place, tally)


def _relationship(name: str, spec: RelationshipSpec, place: str, tally: Tally) -> dict[str, Any]:
    beside: dict[str, object] = {"min": spec.least} if spec.least else {}
    told: dict[str, Any] = {"@type": "Relationship", "name": segment_of(name)}
    if "@" in spec.target:
        told["target"] = dtmi_of(spec.target)
    elif spec.target:
        beside["target"] = spec.target
    if spec.most is not None:
        told["maxMultiplicity"] = spec.most
    if spec.properties:
        told["properties"] = [_property(n, p, f"{place}.properties.{n}", tally) for n, p in spec.properties.items()]
    return told | _description(spec.description, place, tally) | _comment(beside, place, tally)


def _digital_twin(twin: TwinSpec, tally: Tally) -> dict[str, Any]:
    place = f"twins.{twin.site}/{twin.twin}"
    tally.take(place, lambda: None)
    for part, value, plain in (("state", twin.state, "draft"), ("run", twin.run, "edge"), ("tags", twin.tags, {}),
                               ("attributes", twin.attributes, {})):  # fmt: skip
        if value != plain:
            tally.leave(f"{place}.{part}", "a graph of DTDL twins has no word for it")
    told: dict[str, Any] = {"$dtId": f"{twin.site}.{twin.twin}", "$metadata": {}}
    if twin.definition:
        told["$metadata"] = {"$model": dtmi_of(twin.definition)}
    return told | {segment_of(name): value for name, value in twin.desired.items()}


def _digital_link(link: LinkSpec, tally: Tally) -> dict[str, Any]:
    source, target = f"{link.site}.{link.twin}", f"{link.target_site}.{link.target}"
    tally.take(f"relationships.{source}.{link.type}.{target}", lambda: None)
    told = {"$relationshipId": f"{link.type}.{target}", "$relationshipName": segment_of(link.type)}
    told |= {"$sourceId": source, "$targetId": target}
    return told | {segment_of(name): value for name, value in link.properties.items()}
