"""What an OPC UA server says of itself once a session stands: product, namespaces, limits, clock, profiles that fit."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any, Final

import asyncua.ua
from asyncua.client.client import Client

from twinedge.drivers.opcua_browse import BrowseLimits, Offered, browse
from twinedge.drivers.opcua_values import EPOCH
from twinedge.probe.profiles import Known, Match
from twinmodel.clock import SECOND_NS, Clock
from twinmodel.profile.node import NodeAddress, parse_node

ua: Any = asyncua.ua  # it re-exports its names without saying so, which strict typing refuses

ROOTS_MAX: Final = 8
LOOK: Final = BrowseLimits(nodes=4000, depth=6, within_s=10.0)
_ABOUT: Final = {
    "product": "Server_ServerStatus_BuildInfo_ProductName",
    "maker": "Server_ServerStatus_BuildInfo_ManufacturerName",
    "version": "Server_ServerStatus_BuildInfo_SoftwareVersion",
    "build": "Server_ServerStatus_BuildInfo_BuildNumber",
    "state": "Server_ServerStatus_State",
    "started": "Server_ServerStatus_StartTime",
}
_LIMITS: Final = {
    "nodes per read": "Server_ServerCapabilities_OperationLimits_MaxNodesPerRead",
    "nodes per browse": "Server_ServerCapabilities_OperationLimits_MaxNodesPerBrowse",
    "monitored items per call": "Server_ServerCapabilities_OperationLimits_MaxMonitoredItemsPerCall",
    "monitored items per subscription": "Server_ServerCapabilities_MaxMonitoredItemsPerSubscription",
    "sessions": "Server_ServerCapabilities_MaxSessions",
    "subscriptions per session": "Server_ServerCapabilities_MaxSubscriptionsPerSession",
    "fastest sampling [ms]": "Server_ServerCapabilities_MinSupportedSampleRate",
}
_STATES: Final = ("running", "failed", "no configuration", "suspended", "shutdown", "test", "communication fault")
Json = dict[str, Any]


async def about(client: Client, clock: Clock) -> Json:
    """Product, limits, namespaces and clock; what the server does not tell is left out."""
    names = {**_ABOUT, **_LIMITS}
    nodes = [ua.NodeId(getattr(ua.ObjectIds, name)) for name in names.values()]
    found = await client.uaclient.session.read_attributes(nodes, ua.AttributeIds.Value)
    said = {
        key: value.Value.Value
        for key, value in zip(names, found, strict=True)
        if value.StatusCode is not None and value.StatusCode.is_good() and value.Value is not None
    }
    state = said.get("state")
    if isinstance(state, int) and 0 <= state < len(_STATES):
        said["state"] = _STATES[state]
    return {
        "server": {key: _plain(said[key]) for key in _ABOUT if said.get(key) not in {None, ""}},
        "limits": {key: said[key] for key in _LIMITS if said.get(key)},
        "namespaces": list(await client.get_namespace_array()),
        "clock_offset_s": await _clock_offset_s(client, clock),
    }


async def _clock_offset_s(client: Client, clock: Clock) -> float | None:
    """Seconds that the server's clock is ahead of ours, to half the time of one exchange."""
    node = ua.NodeId(ua.ObjectIds.Server_ServerStatus_CurrentTime)
    before_ns, before_boot_ns = clock.wall_ns(), clock.boot_ns()
    (found,) = await client.uaclient.session.read_attributes([node], ua.AttributeIds.Value)
    took_ns = clock.boot_ns() - before_boot_ns
    stamp = found.Value.Value if found.Value is not None else None
    if stamp is None:
        return None
    moment = stamp if stamp.tzinfo is not None else stamp.replace(tzinfo=EPOCH.tzinfo)
    server_ns = round((moment - EPOCH).total_seconds() * SECOND_NS)
    offset_s: float = round((server_ns - before_ns - took_ns // 2) / SECOND_NS, 3)
    return offset_s


async def fitting(client: Client, known: Sequence[Known], uris: Sequence[str]) -> list[Match]:
    """Profiles whose namespace the server has and whose points it holds, with the root of each device."""
    known = [k for k in known if k.profile.namespace in uris]
    if not known:
        return []
    offered, _ = await browse(client, limits=LOOK, without=[ua.NodeId(ua.ObjectIds.Server)])
    found: list[Match] = []
    for one in known:
        found += await _of_profile(client, one, offered)
    return sorted(found, key=lambda m: not m.sure)


async def _of_profile(client: Client, known: Known, offered: Sequence[Offered]) -> list[Match]:
    profile = known.profile
    strip = f"nsu={profile.namespace};"
    paths = {o.path.replace(strip, "") for o in offered}
    nodes = {o.node.replace(strip, "") for o in offered}
    fixed = sum(1 for p in profile.points.values() if p.at in nodes)
    wanted = [p.at.partition("[")[0] for p in profile.points.values() if not isinstance(parse_node(p.at), NodeAddress)]
    total = len(profile.points)
    counts: dict[str, int] = {}
    for path in paths:
        for at in wanted:
            if path == at:
                counts[""] = counts.get("", 0) + 1
            elif path.endswith(f"/{at}"):
                root = path[: -len(at) - 1]
                counts[root] = counts.get(root, 0) + 1
    if fixed and not counts:
        counts[""] = 0
    found = []
    for root, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:ROOTS_MAX]:
        there = count + fixed
        if 2 * there < total:
            continue
        told = f"{there} of {total} points are there"
        identity = await _identity(client, known, root, offered)
        sure = there == total if identity is None else identity[0]
        found.append(Match(known.name, sure=sure, text=f"{identity[1]}, {told}" if identity else told, root=root))
    return found


async def _identity(client: Client, known: Known, root: str, offered: Sequence[Offered]) -> tuple[bool, str] | None:
    """What the node of `identify` says; None where the profile has none or the server has no such node."""
    identify = known.profile.identify
    if identify is None:
        return None
    strip = f"nsu={known.profile.namespace};"
    path = f"{root}/{identify.at}" if root else identify.at
    uris = await client.get_namespace_array()
    for one in offered:
        if path == one.path.replace(strip, "") or identify.at == one.node.replace(strip, ""):
            (value,) = await client.uaclient.session.read_attributes([node_of(one.node, uris)], ua.AttributeIds.Value)
            text = str(value.Value.Value) if value.Value is not None else ""
            return fnmatchcase(text, identify.match), f"it says it is {text!r}"
    return None


def node_of(text: str, uris: Sequence[str]) -> Any:
    """The node id that `Offered.node` writes, with the index its namespace has on this server."""
    if not text.startswith("nsu="):
        return ua.NodeId.from_string(text)
    uri, _, rest = text.removeprefix("nsu=").rpartition(";i=")
    kind = "i"
    for letter in ("i", "s", "g", "b"):
        head, mark, tail = text.removeprefix("nsu=").partition(f";{letter}=")
        if mark and head in uris:
            uri, rest, kind = head, tail, letter
            break
    return ua.NodeId.from_string(f"ns={uris.index(uri)};{kind}={rest}")


def _plain(value: Any) -> Any:
    return f"{value:%Y-%m-%dT%H:%M:%SZ}" if hasattr(value, "isoformat") else value
