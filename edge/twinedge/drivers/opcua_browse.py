"""What a server offers, as a bounded list: for `twinedge browse`, and for whoever writes a profile from a server."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

import asyncua.ua
from asyncua.client.client import Client

ua: Any = asyncua.ua  # it re-exports its names without saying so, which strict typing refuses

REFERENCES_MAX: Final = 1000


@dataclass(frozen=True, slots=True)
class BrowseLimits:
    """How far to look.

    Attributes:
        nodes: most nodes to return.
        depth: levels below the root; 1 gives its children.
        within_s: time after which nothing more is asked.
    """

    nodes: int = 10_000
    depth: int = 8
    within_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Offered:
    """One node below the root.

    Attributes:
        path: browse path from the root as a profile's `at` writes it, other namespaces than the profile's by URI.
        node: node id as `at` writes it.
        kind: `Object` or `Variable`.
    """

    path: str
    node: str
    kind: str


async def browse(
    client: Client,
    root: Any = None,
    limits: BrowseLimits = BrowseLimits(),
    *,
    namespace: str = "",
    without: Collection[Any] = (),
) -> tuple[list[Offered], bool]:
    """Objects and variables below a node, level by level; each node once, also where references form a circle.

    Args:
        client: connected.
        root: node id to start from, the Objects folder by default.
        limits: bounds of count and depth.
        namespace: URI that names and ids need not give, that of the profile.
        without: node ids to leave out, with what lies below them.

    Returns:
        What was found, and whether that is all of it.
    """
    uris = await client.get_namespace_array()
    start = ua.NodeId(ua.ObjectIds.ObjectsFolder) if root is None else root
    found: list[Offered] = []
    seen: set[Any] = {start, *without}
    waiting: deque[tuple[Any, tuple[str, ...]]] = deque([(start, ())])
    complete = True
    end_s = asyncio.get_running_loop().time() + limits.within_s
    while waiting:
        if asyncio.get_running_loop().time() > end_s:
            return found, False
        node, path = waiting.popleft()
        if len(path) >= limits.depth:
            complete = False
            continue
        for reference in await _children(client, node):
            target = reference.NodeId
            if getattr(target, "ServerIndex", 0) or getattr(target, "NamespaceUri", None):
                continue  # it lies on another server
            child = ua.NodeId(target.Identifier, target.NamespaceIndex, target.NodeIdType)
            if child in seen:
                continue
            if len(found) >= limits.nodes:
                return found, False
            seen.add(child)
            below = (*path, _name(reference.BrowseName, uris, namespace))
            found.append(Offered("/".join(below), _node(child, uris, namespace), reference.NodeClass.name))
            waiting.append((child, below))
    return found, complete


async def _children(client: Client, node: Any) -> list[Any]:
    """Hierarchical references to objects and variables, with all continuation points followed."""
    description = ua.BrowseDescription()
    description.NodeId = node
    description.BrowseDirection = ua.BrowseDirection.Forward
    description.ReferenceTypeId = ua.NodeId(ua.ObjectIds.HierarchicalReferences)
    description.IncludeSubtypes = True
    description.NodeClassMask = ua.NodeClass.Object | ua.NodeClass.Variable
    description.ResultMask = ua.BrowseResultMask.All
    params = ua.BrowseParameters()
    params.NodesToBrowse = [description]
    params.RequestedMaxReferencesPerNode = REFERENCES_MAX
    (result,) = await client.uaclient.session.browse(params)
    references = list(result.References or ())
    while result.ContinuationPoint:
        more = ua.BrowseNextParameters()
        more.ContinuationPoints = [result.ContinuationPoint]
        (result,) = await client.uaclient.session.browse_next(more)
        references += result.References or ()
    return references


def _name(name: Any, uris: Sequence[str], namespace: str) -> str:
    text = "".join(f"&{c}" if c in "&/" else c for c in name.Name)
    if name.NamespaceIndex == 0:
        return f"0:{text}"
    uri = uris[name.NamespaceIndex] if name.NamespaceIndex < len(uris) else str(name.NamespaceIndex)
    return text if uri == namespace else f"nsu={uri};{text}"


def _node(node: Any, uris: Sequence[str], namespace: str) -> str:
    text = node.to_string()
    plain = text.partition(";")[2] if text.startswith("ns=") else text
    if node.NamespaceIndex == 0:
        return f"ns=0;{plain}"
    uri = uris[node.NamespaceIndex] if node.NamespaceIndex < len(uris) else str(node.NamespaceIndex)
    return plain if uri == namespace else f"nsu={uri};{plain}"
