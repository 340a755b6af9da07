"""`twinedge browse opcua`: the tree of a server with type, unit, value and access, and a profile drafted from it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

import asyncua.ua
from asyncua.client.client import Client

from twinedge.drivers.opcua_browse import BrowseLimits, Offered, browse
from twinedge.drivers.opcua_check import read_data
from twinedge.drivers.opcua_connect import Secured
from twinedge.drivers.opcua_items import Item
from twinedge.drivers.opcua_monitor import Limits, resolve
from twinedge.drivers.opcua_units import symbol_of
from twinedge.probe.draft import Draft, Value
from twinedge.probe.opcua import session
from twinedge.probe.opcua_server import node_of
from twinedge.probe.tables import table
from twinmodel.clock import SECOND_NS
from twinmodel.errors import InputError, MissingError
from twinmodel.profile.node import parse_node

ua: Any = asyncua.ua  # it re-exports its names without saying so, which strict typing refuses

TEXT_MAX: Final = 60
_TYPES: Final = {
    "Double": "float64",
    "Float": "float32",
    "Boolean": "bool",
    "String": "string",
    "LocalizedText": "string",
    "DateTime": "string",
    "SByte": "int16",
    "Byte": "uint16",
    **{name: name.lower() for name in ("Int16", "UInt16", "Int32", "UInt32", "Int64", "UInt64")},
}
Json = dict[str, Any]


async def browse_opcua(secured: Secured, url: str, *, path: str, limits: BrowseLimits) -> Json:
    """Everything the command says.

    Raises:
        TwinError: as `session`; MissingError NOT_FOUND for a path that leads nowhere.
    """
    async with session(secured, url) as client:
        learned = Limits()
        await learned.read(client)
        uris = await client.get_namespace_array()
        root = await _root(client, learned, path, uris) if path else None
        hidden = [] if path else [ua.NodeId(ua.ObjectIds.Server)]
        offered, complete = await browse(client, root, limits, without=hidden)
        nodes = [_found(one) for one in offered]
        async with asyncio.timeout(limits.within_s):
            await _values(client, learned, nodes, uris)
    tree = _with_properties(nodes)
    main = _main_namespace(tree, uris)
    for node in tree:
        node["at"] = node["path"].replace(f"nsu={main};", "")
        node["node"] = node["node"].replace(f"nsu={main};", "")
    return {
        "url": url,
        "path": path.replace(f"nsu={main};", ""),
        "namespace": main,
        "complete": complete,
        "nodes": tree,
    }


def draft_of(document: Json) -> Draft:
    """A profile of the variables that were found."""
    namespace = document["namespace"] or "http://opcfoundation.org/UA/"
    draft = Draft("opcua", document["url"], {"namespace": namespace, "defaults": {"every": "1s"}})
    for node in document["nodes"]:
        if node["kind"] != "Variable" or (document["namespace"] and node["at"].startswith("0:")):
            continue  # of objects that every server has, only those asked for by --path
        as_ = _TYPES.get(node["type"])
        if as_ is None or node["array"]:
            what = f"{node['type'] or 'no value'}{' array' if node['array'] else ''}"
            hint = "; name one element, as in `Path[0]`" if node["array"] and as_ else ""
            draft.left_out.append(f"{node['at']}: {what}{hint}")
            continue
        keys: dict[str, Value] = {"at": node["at"], "as": as_}
        if node["symbol"]:
            keys["unit"] = node["symbol"]
        if node["range"]:
            keys["range"] = node["range"]
        draft.add(node["at"], keys)
    return draft


async def _root(client: Client, limits: Limits, path: str, uris: Sequence[str]) -> Any:
    """The node of a path below Objects, or of a node id; names without a namespace are looked for in each."""
    try:
        address = parse_node(path)
    except ValueError as wrong:
        raise InputError("VALUE_INVALID", str(wrong)) from None
    for uri in [*uris[1:], uris[0]]:
        item = Item(1, None, address, uri, path, (), SECOND_NS, None, None)
        await resolve(client, limits, [item])
        if item.node is not None:
            return item.node
    raise MissingError("NOT_FOUND", f"the server has no {path!r}", hint="browse without --path to see what there is")


def _found(one: Offered) -> Json:
    return {
        "path": one.path, "node": one.node, "kind": one.kind, "type": "", "array": False, "value": None,
        "unit": "", "symbol": "", "range": None, "access": "", "status": "",
    }  # fmt: skip


async def _values(client: Client, limits: Limits, nodes: Sequence[Json], uris: Sequence[str]) -> None:
    """Values and access rights of all variables, in requests as large as the server takes."""
    variables = [n for n in nodes if n["kind"] == "Variable"]
    wanted = [
        (node_of(n["node"], uris), attribute)
        for n in variables
        for attribute in (ua.AttributeIds.Value, ua.AttributeIds.UserAccessLevel)
    ]
    answers = await read_data(client, limits, wanted)
    for number, node in enumerate(variables):
        value, access = answers[2 * number], answers[2 * number + 1]
        node["status"] = "" if value.StatusCode is None or value.StatusCode.is_good() else value.StatusCode.name
        if value.Value is not None:
            node["type"] = value.Value.VariantType.name if value.Value.Value is not None else ""
            node["raw"] = value.Value.Value
            node["array"] = isinstance(value.Value.Value, list)
            node["value"] = _plain(value.Value.Value)
        level = access.Value.Value if access.Value is not None else 0
        node["access"] = "".join(
            letter for bit, letter in ((1, "r"), (2, "w")) if isinstance(level, int) and level & bit
        )


def _with_properties(nodes: Sequence[Json]) -> list[Json]:
    """Objects and variables, with units and ranges at the variables they belong to."""
    by_path = {n["path"]: n for n in nodes}
    kept = []
    for node in nodes:
        parent, _, leaf = node["path"].rpartition("/")
        raw = node.pop("raw", None)
        owner = by_path.get(parent)
        if not leaf.startswith("0:") or owner is None or owner["kind"] != "Variable":
            kept.append(node)
        elif leaf == "0:EngineeringUnits" and hasattr(raw, "UnitId"):
            shown = raw.DisplayName.Text if raw.DisplayName is not None else None
            owner["unit"] = shown or ""
            owner["symbol"] = symbol_of(raw.NamespaceUri, int(raw.UnitId), shown) or ""
        elif leaf == "0:EURange" and hasattr(raw, "Low") and raw.Low < raw.High:
            owner["range"] = [float(raw.Low), float(raw.High)]
    return kept


def _main_namespace(nodes: Sequence[Json], uris: Sequence[str]) -> str:
    """The namespace in which most names of variables lie; "" for none but that of OPC UA."""
    counts: Counter[str] = Counter()
    for node in nodes:
        for uri in uris[1:]:
            counts[uri] += node["path"].count(f"nsu={uri};")
    return max(counts, key=lambda uri: counts[uri], default="") if any(counts.values()) else ""


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(v) for v in value[:4]] + (["..."] if len(value) > 4 else [])
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if hasattr(value, "Text"):
        return value.Text
    if hasattr(value, "isoformat"):
        return f"{value:%Y-%m-%dT%H:%M:%SZ}"
    return str(value)[:TEXT_MAX]


def tree_text(document: Json) -> str:
    """The tree for people: a line a node, indented by its depth."""
    rows = []
    for node in sorted(document["nodes"], key=lambda n: n["at"].split("/")):
        depth = node["at"].count("/")
        leaf = node["at"].rpartition("/")[2]
        kind = f"{node['type']}{'[]' if node['array'] else ''}" if node["kind"] == "Variable" else ""
        value = "" if node["kind"] != "Variable" else node["status"] or str(node["value"])[:TEXT_MAX]
        rows.append(("  " * depth + leaf, kind, value, node["unit"], node["access"]))
    head = f"{document['url']}{', ' + document['path'] if document['path'] else ''}, names in {document['namespace']}"
    end = "" if document["complete"] else "\nnot all of it: raise --depth, --nodes or --within, or give --path"
    return f"{head}\n{table(('NODE', 'TYPE', 'VALUE', 'UNIT', 'ACCESS'), rows)}{end}"
