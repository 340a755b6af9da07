"""OPC UA sessions: a subscription that keeps what a server notifies of, and a server that notifies of it again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from asyncua import ua
from asyncua.client.client import Client
from asyncua.ua.uaerrors import UaError

from twinmodel.clock import SECOND_NS, Clock
from twinmodel.errors import InputError, UnreachableError
from twinsim.background import Background
from twinsim.recording.file import Recorder, Recording
from twinsim.serve.opcua_server import ns_of, prepared_server, stamp_of

VARIABLES_MAX = 10_000
DEPTH_MAX = 12
_SCALARS = {
    "Boolean", "SByte", "Byte", "Int16", "UInt16", "Int32", "UInt32", "Int64", "UInt64", "Float", "Double", "String",
}  # fmt: skip
Path_ = list[list[str]]
"""Names with their namespaces, from Objects down."""
Found = dict[ua.NodeId, tuple[str, Path_]]


class _Keeper:
    """Handler of the library's subscription."""

    def __init__(self, recorder: Recorder, names: Mapping[ua.NodeId, tuple[str, Path_]]) -> None:
        self._recorder, self._names = recorder, names

    def datachange_notification(self, node: Any, value: object, data: Any) -> None:
        """See the library."""
        found: ua.DataValue = data.monitored_item.Value
        kind = "" if found.Value is None else found.Value.VariantType.name
        if kind and (kind not in _SCALARS or not isinstance(value, bool | int | float | str)):
            self._recorder.lost += 1
            return
        if isinstance(value, float) and not abs(value) <= 1.7976931348623157e308:
            value, kind = None, ""
        source = found.SourceTimestamp
        src = None if source is None else ns_of(source)
        node_id, path = self._names[node.nodeid]
        status = 0 if found.StatusCode is None else int(found.StatusCode.value)
        self._recorder.add({"node": node_id, "path": path, "type": kind, "v": value, "status": status, "src": src})


async def record_nodes(recorder: Recorder, url: str, root: str, stop: asyncio.Event, *, every_ms: float = 500) -> int:
    """Keeps the changes of all variables below a browse path until `stop`; returns how many variables there are.

    Args:
        recorder: where to.
        url: of the server; without security, as nobody.
        root: browse path below Objects, names with namespace numbers (`2:Pump`); "" for all but the server's own.
        stop: ends it.
        every_ms: publishing and sampling interval.

    Raises:
        UnreachableError: DEVICE_UNREACHABLE.
        InputError: VALUE_INVALID when there is nothing below `root`, LIMIT_EXCEEDED beyond 10,000 variables.
    """
    try:
        async with Client(url, timeout=10) as client:
            uris = await client.get_namespace_array()
            top = client.nodes.objects
            if root:
                top = await top.get_child(root.split("/"))
            found: Found = {}
            await _walk(top, uris, [], found, 0)
            if not found:
                raise InputError("VALUE_INVALID", f"no variables below {root or 'Objects'} of {url}")
            subscription = await client.create_subscription(every_ms, _Keeper(recorder, found))
            await subscription.subscribe_data_change([client.get_node(n) for n in found], queuesize=10)
            await stop.wait()
            await subscription.delete()
            return len(found)
    except (OSError, UaError, TimeoutError) as silent:
        raise UnreachableError("DEVICE_UNREACHABLE", f"{url}: {silent or type(silent).__name__}") from silent


async def _walk(node: Any, uris: list[str], path: Path_, found: Found, depth: int) -> None:
    for child in await node.get_children_descriptions():
        nodeid, name = child.NodeId, child.BrowseName
        if nodeid.NamespaceIndex == 0 and depth == 0:
            continue  # the server's own
        step = [*path, [uris[name.NamespaceIndex], name.Name]]
        if child.NodeClass == ua.NodeClass.Variable:
            text = nodeid.to_string().partition(";")[2] or nodeid.to_string()
            found[nodeid] = f"nsu={uris[nodeid.NamespaceIndex]};{text}", step
        if len(found) > VARIABLES_MAX:
            raise InputError("LIMIT_EXCEEDED", f"more than {VARIABLES_MAX} variables", hint="name a --root below")
        if child.NodeClass == ua.NodeClass.Object and depth < DEPTH_MAX:
            await _walk(type(node)(node.session, nodeid), uris, step, found, depth + 1)


@asynccontextmanager
async def replaying_nodes(
    recording: Recording,
    clock: Clock,
    tasks: Background,
    *,
    state: Path,
    speed: float = 1.0,
    host: str = "127.0.0.1",
    port: int = 0,
) -> AsyncIterator[int]:
    """Serves a recording as the server it was made of, over and over; yields its port.

    Source times move with the replay: a value is as old as it was then.

    Raises:
        ConflictError: PORT_IN_USE.
        InputError: VALUE_INVALID for a node that is none.
    """
    server, _ = await prepared_server(None, clock, state=state, host=host, port=port)
    made: dict[str, ua.NodeId] = {}
    folders: dict[str, Any] = {"": server.nodes.objects}
    for event in recording.events:
        if event["node"] not in made and event["type"]:
            made[event["node"]] = await _add(server, folders, event)
    await server.start()
    try:
        listening: Any = server.bserver
        tasks.start(_play(server, made, recording, clock, speed), "replay")
        yield listening.port
    finally:
        await server.stop()


async def _add(server: Any, folders: dict[str, Any], event: Mapping[str, Any]) -> ua.NodeId:
    uri, _, text = event["node"].removeprefix("nsu=").rpartition(";")
    steps = event.get("path") or [[uri, text]]
    parent, path = folders[""], ""
    try:
        for space, name in steps[:-1]:
            path += f"/{space}|{name}"
            if path not in folders:
                folders[path] = await parent.add_object(await server.register_namespace(space), name)
            parent = folders[path]
        space, name = steps[-1]
        browse = ua.QualifiedName(name, await server.register_namespace(space))
        nodeid = ua.NodeId.from_string(f"ns={await server.register_namespace(uri)};{text}")
        node = await parent.add_variable(nodeid, browse, event["v"], ua.VariantType[event["type"]])
    except (UaError, KeyError, ValueError, TypeError) as wrong:
        raise InputError("VALUE_INVALID", f"the recording's node {event['node']!r} is none: {wrong}") from wrong
    found: ua.NodeId = node.nodeid
    return found


async def _play(server: Any, made: Mapping[str, ua.NodeId], recording: Recording, clock: Clock, speed: float) -> None:
    while recording.events:
        start_ns, began_ns = clock.boot_ns(), clock.wall_ns()
        for event in recording.events:
            due_ns = start_ns + round(event["at"] / speed)
            await asyncio.sleep(max(0.0, (due_ns - clock.boot_ns()) / SECOND_NS))
            if event["node"] not in made:
                continue
            src = event.get("src")
            t_ns = began_ns + round(((src - recording.t_ns) if src is not None else event["at"]) / speed)
            value = None if event["v"] is None else ua.Variant(event["v"], ua.VariantType[event["type"]])
            status = ua.StatusCode(ua.UInt32(event["status"]))
            sample = ua.DataValue(Value=value, StatusCode=status, SourceTimestamp=stamp_of(max(0, t_ns)))
            await server.write_attribute_value(made[event["node"]], sample)
        await asyncio.sleep(1.0 / speed)
