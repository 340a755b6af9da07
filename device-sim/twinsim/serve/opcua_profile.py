"""OPC UA devices made from profiles: one server, an object each below Objects, nodes where the profile has points.

A browse path becomes folders with a variable at its end, a node id a variable below the device; names and ids lie in
the namespaces the profile names by URI. Numbers have EngineeringUnits and EURange. What counts as served is what
clients acknowledge, as in `opcua.py`. `renumber`, an update to another profile, and a reboot of all devices take the
server down for a while; namespaces have other numbers after a renumbering.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import structlog
from asyncua import ua
from asyncua.server.server import Server
from asyncua.ua.status_codes import StatusCodes

from twinmodel import units
from twinmodel.clock import SECOND_NS, Clock
from twinmodel.errors import InputError
from twinmodel.profile.node import BrowseAddress, NodeAddress, parse_node
from twinmodel.profile.schema import Method, Point
from twinsim.faults import FaultKind
from twinsim.image.codec import Value
from twinsim.image.device import ProfileDevice, Written
from twinsim.image.identity import told_of
from twinsim.serve.opcua_alarm import Conditions
from twinsim.serve.opcua_server import Acknowledged, prepared_server, stamp_of
from twinsim.served import ServedLog

DEFAULT_URI = "urn:hybridtwin:twinsim:device"
SPARE_URI = "urn:hybridtwin:twinsim:update"
UNECE_URI = "http://www.opcfoundation.org/UA/units/un/cefact"
# Codes of UNECE recommendation 20; OPC UA Part 8, 5.6.3 makes numbers of their letters.
_CODES = {
    "degC": "CEL", "K": "KEL", "V": "VLT", "A": "AMP", "W": "WTT", "kW": "KWT", "Hz": "HTZ", "bar": "BAR",
    "Pa": "PAL", "%": "P1", "m": "MTR", "mm": "MMT", "m/s": "MTS", "m3/h": "MQH", "m3": "MTQ", "rpm": "RPM",
    "kWh": "KWH", "Wh": "WHR", "s": "SEC", "h": "HUR", "kg": "KGM", "N": "NEW", "l": "LTR",
}  # fmt: skip
_TYPES = {
    "bit": "Boolean", "bool": "Boolean", "string": "String", "float32": "Float", "float64": "Double",
    "int16": "Int16", "int32": "Int32", "int64": "Int64", "uint16": "UInt16", "uint32": "UInt32", "uint64": "UInt64",
}  # fmt: skip
_EMPTY: dict[str, Value] = {"Boolean": False, "String": ""}
_log = structlog.get_logger(__name__)


def variant_type(device: str, name: str, point: Point) -> ua.VariantType:
    """The type of a node. Raises InputError VALUE_INVALID for one OPC UA has not."""
    found = _TYPES.get("string" if (point.as_ or "").startswith("string") else point.as_ or "float64")
    if found is None:
        raise InputError(
            "VALUE_INVALID", f"{device} cannot be simulated: {name}: OPC UA has no {point.as_}", point=name
        )
    return ua.VariantType[found]


def check_nodes(devices: Sequence[ProfileDevice]) -> None:
    """Refuses what cannot be served, before a server is made. Raises InputError VALUE_INVALID."""
    for name, point in devices[0].source.profile.points.items():
        variant_type(devices[0].source.profile.name, name, point)
        if len(devices) > 1 and isinstance(parse_node(point.at), NodeAddress):
            text = f"{devices[1].name} cannot be simulated: {name}: another device of this server has {point.at}"
            raise InputError("VALUE_INVALID", text, hint="simulate one device, or write browse paths", point=name)


class _Variable:
    """One node, and the points it carries: several when it is an array."""

    def __init__(self, nodeid: ua.NodeId, kind: ua.VariantType) -> None:
        self.nodeid, self.kind = nodeid, kind
        self.elements: dict[str, int | None] = {}
        self.shown: object = None

    def value(self, device: ProfileDevice) -> Any:
        """What the node holds now."""
        blank = _EMPTY.get(self.kind.name, 0)
        if None in self.elements.values():
            value = _wire(device, next(iter(self.elements)))
            return value if value is None else self._fit(value)
        size = 1 + max(e for e in self.elements.values() if e is not None)
        found = [blank] * size
        for name, element in self.elements.items():
            value = _wire(device, name)
            if element is not None and value is not None:
                found[element] = self._fit(value)
        return found

    def _fit(self, value: Value) -> Value:
        if self.kind.name in {"Float", "Double"}:
            return float(value)
        return value if isinstance(value, bool | str) else int(value)


def _wire(device: ProfileDevice, name: str) -> Value | None:
    """A value in the unit the device gives it in."""
    value, point = device.typed.wire(name), device.source.profile.points[name]
    if point.device_unit and isinstance(value, float):
        return units.convert(value, point.unit, point.device_unit)
    return value


class _Space:
    """The address space of one running server."""

    def __init__(self, server: Server, subscriptions: Acknowledged) -> None:
        self.server = server
        self._subscriptions = subscriptions
        self._made: dict[ua.NodeId, Any] = {}
        self._parents: dict[ua.NodeId, tuple[Any, ua.QualifiedName]] = {}
        self.variables: dict[str, list[_Variable]] = {}
        self.conditions = Conditions(server)

    async def add(self, device: ProfileDevice) -> None:
        """Adds the nodes of one device."""
        profile = device.source.profile
        own = await self._index(profile.namespace or DEFAULT_URI)
        top = await self._object(self.server.nodes.objects, device.name, own, ua.QualifiedName(device.name, own))
        found: dict[ua.NodeId, _Variable] = {}
        for name, point in profile.points.items():
            address, kind = parse_node(point.at), variant_type(device.name, name, point)
            nodeid = await self._place(device, top, own, address)
            variable = found.get(nodeid)
            if variable is None:
                variable = found[nodeid] = _Variable(nodeid, kind)
            variable.elements[name] = address.element
        for nodeid, variable in found.items():
            await self._variable(device, variable, self._parents[nodeid])
        for name, method in profile.methods.items():
            await self._method(device, top, own, name, method)
        await self._identity(device, top, own, found)
        self.variables[device.name] = list(found.values())

    async def _identity(self, device: ProfileDevice, top: Any, own: int, points: Mapping[ua.NodeId, Any]) -> None:
        """What the device, or the server's BuildInfo, says of itself where `identify` looks; a point says its own."""
        for at, text in told_of(device.source):
            address = parse_node(at)
            nodeid = await self._place(device, top, own, address)
            if isinstance(address, NodeAddress) and address.zero:
                await self.server.get_node(nodeid).write_value(text)
            elif nodeid not in points:
                parent, name = self._parents[nodeid]
                await parent.add_variable(nodeid, name, text)

    async def _method(self, device: ProfileDevice, top: Any, own: int, name: str, method: Method) -> None:
        """A method that only takes note of its call, among the writes of clients; it gives how often it was called."""
        nodeid = await self._place(device, top, own, parse_node(method.at or ""))
        parent, qualified = self._parents[nodeid]
        kinds = [variant_type(device.name, name, Point(at=name, as_=a.as_)) for a in method.inputs.values()]

        async def called(_parent: Any, *arguments: Any) -> list[Any]:
            given = [a.Value for a in arguments]
            device.wrote(Written(device.t_ns, "", name, json.dumps(given), 0))
            _log.info("method called", device=device.name, method=name, arguments=given)
            count = sum(w.point == name for w in device.writes)
            return [ua.Variant(count, ua.VariantType.UInt32)]

        await parent.add_method(nodeid, qualified, called, kinds, [ua.VariantType.UInt32])

    async def _index(self, uri: str) -> int:
        return int(await self.server.register_namespace(uri))

    async def _object(self, parent: Any, path: str, own: int, name: ua.QualifiedName) -> Any:
        nodeid = _node_id(path, own)
        if nodeid not in self._made:
            self._made[nodeid] = await parent.add_object(nodeid, name)
        return self._made[nodeid]

    async def _place(
        self, device: ProfileDevice, top: Any, own: int, address: BrowseAddress | NodeAddress
    ) -> ua.NodeId:
        """Id of the node at an address; folders on the way are made."""
        if isinstance(address, NodeAddress):
            index = 0 if address.zero else own if address.uri is None else await self._index(address.uri)
            nodeid = ua.NodeId.from_string(f"ns={index};{address.kind}={address.identifier}")
            name = ua.QualifiedName(address.identifier.rpartition(".")[2] or "Value", index)
            parent = top
        else:
            parent, path = top, device.name
            indices = [
                n.index if n.index is not None else own if n.uri is None else await self._index(n.uri)
                for n in address.path
            ]
            for step, index in zip(address.path[:-1], indices[:-1], strict=True):
                path += f"/{index}:{step.name}"
                parent = await self._object(parent, path, own, ua.QualifiedName(step.name, index))
            last, index = address.path[-1], indices[-1]
            nodeid = _node_id(f"{path}/{index}:{last.name}", own)
            name = ua.QualifiedName(last.name, index)
        self._parents.setdefault(nodeid, (parent, name))
        return nodeid

    async def _variable(self, device: ProfileDevice, variable: _Variable, place: tuple[Any, ua.QualifiedName]) -> None:
        parent, name = place
        first = next(iter(variable.elements))
        point = device.source.profile.points[first]
        value = variable.value(device)
        empty: Any = _EMPTY.get(variable.kind.name, 0)
        node = await parent.add_variable(variable.nodeid, name, empty if value is None else value, variable.kind)
        self._made[variable.nodeid] = node
        if point.write is not None:
            await node.set_writable()
        label = point.device_unit or point.unit
        if label:
            await node.add_property(self._property(variable, "Unit"), "0:EngineeringUnits", _information(label))
        if point.range is not None:
            limits = ua.Range(Low=point.range[0], High=point.range[1])
            await node.add_property(self._property(variable, "Range"), "0:EURange", limits)
        self._subscriptions.points[variable.nodeid] = (device.name, first)

    @staticmethod
    def _property(variable: _Variable, name: str) -> ua.NodeId:
        return _node_id(f"{variable.nodeid.to_string()}#{name}", int(variable.nodeid.NamespaceIndex) or 1)


def _node_id(text: str, index: int) -> ua.NodeId:
    made: Any = ua.NodeId  # the library's own integers are no `int` to a type checker
    found: ua.NodeId = made(text, index)
    return found


def _information(label: str) -> ua.EUInformation:
    code = _CODES.get(label)
    number = int.from_bytes(code.encode(), "big") if code else -1
    shown = {"degC": "°C"}.get(label, label)
    return ua.EUInformation(
        NamespaceUri=UNECE_URI if code else "",
        UnitId=number,
        DisplayName=ua.LocalizedText(shown),
        Description=ua.LocalizedText(shown),
    )


class NodeFleet:
    """Devices behind one server, which goes away and comes back as their faults have it."""

    def __init__(
        self, devices: Sequence[ProfileDevice], log: ServedLog | None, clock: Clock, state: Path, host: str
    ) -> None:
        self._devices, self._log, self._clock, self._state, self._host = devices, log, clock, state, host
        self._space: _Space | None = None
        self._shift = 0
        self._renumbering = False
        self._profiles: list[tuple[str, str]] = []
        self._silent: set[str] = set()
        self.port = 0

    async def begin(self, port: int) -> None:
        """Starts a server with the nodes of all devices. Raises ConflictError PORT_IN_USE, and InputError."""
        server, subscriptions = await prepared_server(
            self._log, self._clock, state=self._state, host=self._host, port=port
        )
        for spare in range(self._shift):
            await server.register_namespace(f"{SPARE_URI}:{spare}")
        space = _Space(server, subscriptions)
        for device in self._devices:
            await space.add(device)
        self._space, self._profiles = space, self._told()
        self._silent.clear()
        for device in self._devices:
            await self.publish(device)
        await server.start()
        listening: Any = server.bserver
        self.port = listening.port

    async def end(self) -> None:
        """Stops the server."""
        space, self._space = self._space, None
        if space is not None:
            await space.server.stop()

    async def after_tick(self) -> None:
        """Takes the server down and brings it back, as the faults of its devices have it."""
        renumbering = any(d.faults.size(FaultKind.RENUMBER) is not None for d in self._devices)
        if renumbering and not self._renumbering:
            self._shift += 1
        self._renumbering = renumbering
        down = renumbering or all(d.away for d in self._devices)
        moved = not down and self._profiles != self._told()
        if self._space is not None and (down or moved):
            _log.info("server goes down", port=self.port)
            await self.end()
        if self._space is None and not down:
            await self.begin(self.port)
            _log.info("server is back", port=self.port, namespaces_moved_by=self._shift)

    def _told(self) -> list[tuple[str, str]]:
        return [(device.profile, device.source.firmware) for device in self._devices]

    async def publish(self, device: ProfileDevice) -> None:
        """Writes what a device holds now into its nodes."""
        if self._space is None:
            return
        faults, status = device.faults, int(StatusCodes.Good)
        if faults.silent or device.away:
            if device.name in self._silent:
                return
            self._silent.add(device.name)
            status = StatusCodes.BadNoCommunication
        else:
            self._silent.discard(device.name)
            device.next_sample()
        for kind in (FaultKind.UNCERTAIN, FaultKind.BAD_STATUS):
            status = int(faults.size(kind) or status)
        if faults.refusing:
            status = StatusCodes.BadDeviceFailure
        ahead_s = (faults.size(FaultKind.FUTURE_CLOCK) or 0.0) - (faults.size(FaultKind.OLD_CLOCK) or 0.0)
        t_ns = max(0, device.t_ns + round(ahead_s * SECOND_NS))
        for variable in self._space.variables[device.name]:
            await self._take_write(device, variable)
            value = variable.value(device)
            changes = int(faults.size(FaultKind.OVERFLOW) or 1)
            if changes > 1 and isinstance(value, float):
                for i in range(1, changes):
                    await self._write(variable, value * (1 + i * 1e-6), status, t_ns - (changes - i) * 1000)
            await self._write(variable, value, status, t_ns)
        await self._space.conditions.show(device)

    async def _take_write(self, device: ProfileDevice, variable: _Variable) -> None:
        """What a client wrote since the last tick is kept when its rule allows it, else put back."""
        name = next(iter(variable.elements))
        rules = device.source.profile.points[name].write
        if rules is None or self._space is None or variable.shown is None:
            return
        held = self._space.server.get_node(variable.nodeid)
        variant = (await held.read_data_value(raise_on_bad_status=False)).Value
        value = None if variant is None else variant.Value
        if value == variable.shown or value is None or isinstance(value, list):
            return
        if device.faults.size(FaultKind.WRITE_IGNORED) is not None:
            return
        beyond = isinstance(value, int | float) and rules.range is not None and not (
            rules.range[0] <= float(value) <= rules.range[1]
        )  # fmt: skip
        device.wrote(Written(device.t_ns, "", name, value, int(beyond)))
        _log.info("write refused" if beyond else "write taken", device=device.name, point=name, value=value)
        if not beyond:
            device.typed.hold(name, value)

    async def _write(self, variable: _Variable, value: Any, status: int, t_ns: int) -> None:
        assert self._space is not None, "only a running server is written to"
        if value is None:  # no value now: OPC UA says so by its status
            status = status or StatusCodes.BadNoData
            value = _EMPTY.get(variable.kind.name, 0)
        variable.shown = value
        stamp = stamp_of(t_ns)
        sample = ua.DataValue(
            Value=ua.Variant(value, variable.kind),
            StatusCode=ua.StatusCode(ua.UInt32(status)),
            SourceTimestamp=stamp,
            ServerTimestamp=stamp,
        )
        await self._space.server.write_attribute_value(variable.nodeid, sample)


@asynccontextmanager
async def serve_nodes(
    devices: Sequence[ProfileDevice],
    log: ServedLog | None,
    clock: Clock,
    *,
    state: Path,
    host: str = "127.0.0.1",
    port: int = 0,
) -> AsyncIterator[NodeFleet]:
    """Serves devices and sets the `address` and `root` of each, as site.yaml takes them.

    Raises:
        ConflictError: PORT_IN_USE.
        InputError: VALUE_INVALID; it names the point that cannot be simulated and why.
    """
    check_nodes(devices)
    fleet = NodeFleet(devices, log, clock, state, host)
    await fleet.begin(port)
    for device in devices:
        device.address, device.root = f"opc.tcp://{host}:{fleet.port}/twinsim", device.name
    try:
        yield fleet
    finally:
        await fleet.end()
