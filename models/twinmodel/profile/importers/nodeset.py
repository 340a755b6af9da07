"""OPC UA NodeSet2 XML: variables as browse paths, with types, engineering units and ranges (OPC 10000-6, annex F).

A type of objects becomes a profile whose paths begin at an instance of it; an object that stands in the address space
itself becomes one whose paths begin at that object. Only what the file defines is followed: what a type inherits from
another file is imported from there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from twinmodel.errors import InputError
from twinmodel.profile.importers.found import Carried, Device, Fields, Source, Wanted
from twinmodel.profile.importers.intake import clean, invalid, whole
from twinmodel.profile.importers.node_path import Named, path_of
from twinmodel.profile.importers.node_types import Types, states_of_enumeration
from twinmodel.profile.importers.terms import describe, number_of, put_range, put_states, put_unit
from twinmodel.profile.importers.xml_tree import Element, xml_of

SPACE = "http://opcfoundation.org/UA/2011/03/UANodeSet.xsd"
UA = "http://opcfoundation.org/UA/"
DEPTH_MAX = 24
ELEMENTS_MAX = 64
"""Elements of an array that become points."""
_NODES = {"UAObject", "UAVariable", "UAMethod", "UAObjectType", "UAVariableType", "UADataType", "UAReferenceType",
          "UAView"}  # fmt: skip
_HOLDS = {"i=35": "Organizes", "i=46": "HasProperty", "i=47": "HasComponent", "i=49": "HasOrderedComponent"}
_HOLDING = {*_HOLDS, *_HOLDS.values()}
_PLACEHOLDERS = {"i=11508", "i=11510"}
_RULE = {"i=37", "HasModellingRule"}


@dataclass(slots=True, eq=False)
class _Node:
    """One node of the file; `parent` is the id of the node that holds it, "" for none."""

    element: Element
    id: str
    name: Named
    parent: str
    rule: str
    parts: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Set:
    nodes: Mapping[str, _Node]
    types: Types
    uris: tuple[str, ...]


def read_nodeset(source: Source, wanted: Wanted) -> list[Device]:
    """The devices of a node set: its types of objects, and its objects. Raises InputError SOURCE_INVALID ..."""
    del wanted
    root = xml_of(source)
    if root.tag != "UANodeSet" or root.space != SPACE:
        raise invalid(source, f"is no NodeSet2: its root is <{clean(root.tag)[:60]}>", line=root.line)
    uris = root.first("NamespaceUris")
    named = (UA, *(clean(uri.text).strip() for uri in (uris.each("Uri") if uris is not None else ())))
    nodes = _nodes(root, named)
    aliases = root.first("Aliases")
    known = {a.attributes.get("Alias", ""): a.text.strip() for a in (aliases.each("Alias") if aliases else ())}
    own = _Set(nodes, Types({n.id: n.element for n in nodes.values()}, known), named)
    if len(named) < 2:
        raise invalid(source, "names no namespace (NamespaceUris)")
    devices: dict[str, Device] = {}
    for node in nodes.values():
        if node.element.tag == "UAVariable":
            chain = _chain(own, node)
            top = chain[0] if chain else None
            device = devices.get(top.id if top else "")
            if device is None:
                device = devices[top.id if top else ""] = _device(own, top)
            shown = "/".join(n.name.name for n in [*chain[1:], node])
            device.take(shown, f"line {node.element.line}", lambda n=node, c=chain, d=device: _carry(d, own, c, n))  # type: ignore[misc]
    if not devices:
        raise invalid(source, "holds no variable")
    parts: dict[str, int] = {}
    for device in devices.values():
        parts[device.part] = parts.get(device.part, 0) + 1
        if parts[device.part] > 1:
            device.part = f"{device.part}-{parts[device.part]}"
    return list(devices.values())


def _nodes(root: Element, uris: tuple[str, ...]) -> dict[str, _Node]:
    """Nodes by id; each knows what holds it, by its own word or by a reference of either of the two."""
    nodes: dict[str, _Node] = {}
    held: dict[str, str] = {}
    for element in root.children:
        if element.tag not in _NODES:
            continue
        own = element.attributes.get("NodeId", "").strip()
        if not own or own in nodes:
            raise InputError(
                "SOURCE_INVALID", f"line {element.line}: the node id {clean(own)!r} is missing or stands twice"
            )
        parent, rule = element.attributes.get("ParentNodeId", "").strip(), ""
        references = element.first("References")
        for reference in references.each("Reference") if references is not None else ():
            kind, target = reference.attributes.get("ReferenceType", "").strip(), reference.text.strip()
            forward = reference.attributes.get("IsForward", "true").strip().lower() not in {"false", "0"}
            if kind in _HOLDING and forward:
                held.setdefault(target, own)
            elif kind in _HOLDING:
                parent = parent or target
            elif kind in _RULE and forward:
                rule = target
        nodes[own] = _Node(element, own, _named(element.attributes.get("BrowseName", ""), uris), parent, rule)
    for node in nodes.values():
        node.parent = node.parent or held.get(node.id, "")
        if node.parent in nodes:
            nodes[node.parent].parts.append(node.id)
    return nodes


def _named(text: str, uris: tuple[str, ...]) -> Named:
    """A browse name such as `2:Manufacturer`, its namespace by URI; None for an index the file does not name."""
    index, colon, name = text.partition(":")
    if not colon or not index.isdecimal() or len(index) > 5:
        return Named(clean(text), UA)
    return Named(clean(name), uris[int(index)] if int(index) < len(uris) else None)


def _chain(own: _Set, node: _Node) -> list[_Node]:
    """What holds a node within the file, outermost first; empty when nothing does or it leads in a circle."""
    chain: list[_Node] = []
    parent = own.nodes.get(node.parent)
    while parent is not None:
        if len(chain) >= DEPTH_MAX or parent is node or parent in chain:
            return []
        chain.append(parent)
        parent = own.nodes.get(parent.parent)
    return chain[::-1]


def _device(own: _Set, top: _Node | None) -> Device:
    namespace = top.name.uri if top and top.name.uri not in {None, UA} else own.uris[1]
    title = top.name.name if top else "Objects"
    model = (namespace or "").rstrip("/").rpartition("/")[2]
    device = Device(title, protocol="opcua", vendor=model or "opcua", device=title)
    device.header["namespace"] = namespace
    kind = top.element.tag[2:] if top else "folder"
    where = "a device's root is an instance of it" if kind.endswith("Type") else "a device's root is this node"
    device.about = f"NodeSet2 {namespace}, {kind} {title} ({where})"
    return device


def _carry(device: Device, own: _Set, chain: list[_Node], node: _Node) -> Carried:
    attributes = node.element.attributes
    _reachable(own, chain, node)
    if not whole(attributes.get("AccessLevel", "1"), "AccessLevel", 0, 255) & 1:
        raise InputError("POINT_NOT_READABLE", "its AccessLevel does not let it be read")
    as_, enumeration = own.types.of(attributes.get("DataType", "i=24"))
    base: Fields = {}
    notes: tuple[str, ...] = ()
    if as_:
        base["as"] = as_
    for child in (own.nodes[i] for i in node.parts):
        notes += _property(base, child, as_)
    if enumeration is not None:
        notes += put_states(base, states_of_enumeration(enumeration))
    text = node.element.first("Description")
    describe(base, text.text if text is not None else "")
    if own.types.is_time(attributes.get("DataType", "")):
        describe(base, "nanoseconds since 1970")
    path = path_of([n.name for n in [*chain[1:], node]], str(device.header["namespace"]))
    shown = ".".join(n.name.name for n in [*chain[1:], node])
    elements = list(_elements(attributes))
    made: dict[str, Fields] = {}
    for element in elements:
        suffix = "" if element is None else f"[{element}]"
        name = device.name(shown if element is None else f"{shown}.{element}")
        made[name] = {"at": path + suffix} | base
    if whole(attributes.get("AccessLevel", "1"), "AccessLevel", 0, 255) & 2:
        notes += ("can be written in the source; add `write:` rules to allow that",)
    return Carried(made, notes)


def _reachable(own: _Set, chain: list[_Node], node: _Node) -> None:
    """Whether a device has the node, at a path that the file tells."""
    if not chain:
        if node.parent in own.nodes:
            raise InputError("POINT_AMBIGUOUS", "what holds it leads in a circle, or too deep")
        if node.parent not in {"", "i=85", "ObjectsFolder"}:
            raise InputError("POINT_AMBIGUOUS", "is held by a node of another file", hint="import that file too")
    for holder in chain:
        if holder.element.tag in {"UADataType", "UAVariableType", "UAReferenceType", "UAMethod"}:
            message = f"belongs to the {holder.element.tag[2:]} {holder.name.name}, which is no part of a device"
            raise InputError("POINT_RESERVED", message)
    for named in [*chain[1:], node]:
        if named.rule in _PLACEHOLDERS or named.name.name.startswith("<"):
            raise InputError("POINT_AMBIGUOUS", f"{named.name.name} stands for nodes whose names only a device knows")
        if named.name.uri is None or not named.name.name:
            raise InputError("VALUE_INVALID", f"the browse name of {clean(named.id)} is none")


def _property(fields: Fields, child: _Node, as_: str) -> tuple[str, ...]:
    """What a property says about the variable that holds it: EngineeringUnits, EURange."""
    value = child.element.first("Value")
    if value is None or child.name.uri != UA or not as_.startswith(("int", "uint", "float")):
        return ()
    if child.name.name == "EngineeringUnits":
        shown = value.below("DisplayName")
        text = shown.below("Text") if shown is not None else None
        return put_unit(fields, text.text, {"C": "degC", "F": "degF"}) if text is not None else ()
    if child.name.name == "EURange":
        bounds = [value.below("Low"), value.below("High")]
        try:
            low, high = (number_of(b.text.strip(), "EURange") if b is not None else None for b in bounds)
        except InputError:
            return ("its EURange is no pair of numbers, it is left out",)
        return put_range(fields, low, high)
    return ()


def _elements(attributes: Mapping[str, str]) -> Iterator[int | None]:
    """None for a scalar, the indices of an array of known length. Raises InputError POINT_TYPE_UNKNOWN."""
    rank = whole(attributes.get("ValueRank", "-1"), "ValueRank", -3, 100)
    if rank == -1:
        yield None
        return
    sizes = [part.strip() for part in attributes.get("ArrayDimensions", "").split(",")]
    if rank != 1 or len(sizes) != 1 or not sizes[0].isdecimal() or not 1 <= int(sizes[0][:9]) <= ELEMENTS_MAX:
        hint = "write a point for each element: at: Path[0]"
        raise InputError("POINT_TYPE_UNKNOWN", f"is an array (rank {rank}) of no fixed length", hint=hint)
    yield from range(int(sizes[0]))
