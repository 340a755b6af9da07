"""Writes to OPC UA nodes and calls of methods, on the session that reads them.

A value is written with the exact type the node has now, without status and time stamps, which many servers refuse.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import asyncua.ua
from asyncua.client.client import Client
from asyncua.ua.uaerrors import UaStatusCodeError

from twinedge.drivers.decode import typed_value, unscaled
from twinedge.drivers.link import DeviceLink
from twinedge.drivers.opcua_check import Checker
from twinedge.drivers.opcua_items import Item, Tap
from twinedge.drivers.opcua_monitor import Limits, read_values, resolve
from twinedge.drivers.opcua_table import ItemTable
from twinedge.drivers.opcua_values import quality_of
from twinedge.ports import Permit, Shown
from twinmodel.errors import ConflictError, DeniedError, InputError, TwinError, UnreachableError
from twinmodel.profile.node import BrowseAddress, NodeAddress, parse_node, parse_path
from twinmodel.profile.schema import Method
from twinmodel.quality import QualityClass, class_of
from twinmodel.signal import Kind
from twinsync.command import Arguments, Value

ua: Any = asyncua.ua  # it re-exports its names without saying so, which strict typing refuses

# Statuses with which a server says that it does not know what became of it (Part 4, 7.39.2).
UNKNOWN: Final = frozenset({
    "BadTimeout", "BadRequestTimeout", "BadCommunicationError", "BadNoCommunication", "BadConnectionClosed",
    "BadConnectionRejected", "BadDisconnect", "BadServerNotConnected", "BadServerHalted", "BadShutdown",
    "BadWaitingForResponse", "BadUnknownResponse", "BadUnexpectedError", "BadInternalError", "BadResourceUnavailable",
    "BadSecureChannelClosed", "BadRequestInterrupted",
})  # fmt: skip
BOOLEAN, STRING = 1, 12
INTEGERS: Final = {2: (-128, 127), 3: (0, 255)} | {
    kind: (-(1 << bits - 1), (1 << bits - 1) - 1) if kind % 2 == 0 else (0, (1 << bits) - 1)
    for kind, bits in ((4, 16), (5, 16), (6, 32), (7, 32), (8, 64), (9, 64))
}
FLOAT, DOUBLE = 10, 11
_FLOAT_MAX: Final = 3.4028234663852886e38
_BY_NAME: Final = {
    "bit": BOOLEAN, "bool": BOOLEAN, "string": STRING, "int16": 4, "uint16": 5, "int32": 6, "uint32": 7, "int64": 8,
    "uint64": 9, "float32": FLOAT, "float64": DOUBLE,
}  # fmt: skip


class NodeWriter:
    """The `Writer` of an OPC UA driver.

    Args:
        table: its items and devices.
        checker: knows which points the server has otherwise than the profile says.
        limits: of the server.
    """

    def __init__(self, table: ItemTable, checker: Checker, limits: Limits) -> None:
        self._table, self._checker, self._limits = table, checker, limits
        self._links: Mapping[str, DeviceLink] = {link.name: link for link in table.links}
        self._taps: Mapping[tuple[str, str], tuple[Item, Tap]] = {
            (table.links[tap.link].name, tap.name): (item, tap) for item in table.items for tap in item.taps
        }
        self._client: Client | None = None

    def attach(self, client: Client | None) -> None:
        """Speaks over this connection from now on; None while there is none."""
        self._client = client

    def step(self, device: str, point: str, value: Value) -> float:
        """See `Writer.step`: the node's type is known when it is written; a float32 is assumed at worst."""
        _, tap = self._of(device, point)
        if tap.signal.kind is not Kind.FLOAT or not isinstance(value, (int, float)):
            return 0.0
        return max(abs(float(value)) * 2.0**-23, abs(tap.scale) if tap.convert is not None else 0.0)

    async def write(self, device: str, point: str, value: Value, about: Mapping[str, Value], permit: Permit) -> str:
        """See `Writer.write`."""
        del about
        item, tap = self._of(device, point)
        await self._put(device, item, tap, value, permit)
        return "the device"

    async def feed(self, device: str, point: str, beat: int, permit: Permit) -> None:
        """See `Writer.feed`."""
        rules = self._links[device].assignment.profile.points[point].write
        watchdog = None if rules is None else rules.watchdog
        assert watchdog is not None, "only points with a watchdog are held"
        count = 1 if watchdog.feed == "one" else beat
        if watchdog.point is not None:
            item, tap = self._of(device, watchdog.point)
            fed: Value = bool(count & 1) if tap.signal.kind is Kind.BOOL else 1 + (count - 1) % 127
            await self._put(device, item, tap, fed, permit)
            return
        nodes = await self._nodes(device, [watchdog.at or ""])
        kind = await self._kind(device, nodes[0])
        number: Value = bool(count & 1) if kind == BOOLEAN else 1 + (count - 1) % 127
        await self._send(device, nodes[0], _variant(f"{device}: {watchdog.at}", kind, number), permit)

    async def call(
        self, device: str, method: str, arguments: Sequence[Value], about: Mapping[str, Value], permit: Permit
    ) -> Arguments:
        """See `Writer.call`: what a method gives, one value or a list."""
        del about
        said = self._links[device].assignment.profile.methods.get(method)
        if said is None or said.at is None:
            raise DeniedError("COMMAND_NOT_ALLOWED", f"{device} has no method {method} any more")
        client = self._connected(device)
        node, owner = await self._nodes(device, [said.at, _owner(said)])
        request = ua.CallMethodRequest()
        request.ObjectId, request.MethodId = owner, node
        request.InputArguments = [
            _variant(f"{device}.{method}: {name}", _type_of(argument.as_), value)
            for (name, argument), value in zip(said.inputs.items(), arguments, strict=True)
        ]
        permit()
        result = (await self._asked(device, client.uaclient.session.call([request])))[0]
        wrong = [
            f"{name} {status.name}"
            for name, status in zip(said.inputs, result.InputArgumentResults, strict=False)
            if not status.is_good()
        ]
        _judge(device, result.StatusCode, f"{method}{' (' + ', '.join(wrong) + ')' if wrong else ''}")
        given = [_plain(variant.Value) for variant in result.OutputArguments]
        return None if not given else given[0] if len(given) == 1 else given

    async def read(self, device: str, point: str) -> Shown | None:
        """See `Writer.read`."""
        item, tap = self._of(device, point)
        client = self._connected(device)
        try:
            found = (await read_values(client, self._limits, [item]))[0]
        except Exception as silent:
            raise _away(device, silent) from silent
        status = found.StatusCode.value if found.StatusCode is not None else 0
        quality, raw = quality_of(status), found.Value.Value if found.Value is not None else None
        if class_of(quality) is QualityClass.BAD:
            return Shown(None, quality, self._links[device].now_ns())
        value, decoded = typed_value(raw, tap.signal.kind, tap.convert, tap.absent)
        assert isinstance(value, (bool, int, float, str)), "of the kind of the signal"
        return Shown(value, decoded or quality, self._links[device].now_ns())

    # ---- one request -----------------------------------------------------------------------------------------------

    async def _put(self, device: str, item: Item, tap: Tap, value: Value, permit: Permit) -> None:
        if tap.index in self._checker.refused:
            text = f"{device}.{tap.name}: the server has it otherwise than the profile says"
            raise DeniedError("COMMAND_NOT_ALLOWED", text, hint="see the findings of `twinedge test`")
        if tap.element is not None or tap.index in self._table.labels:
            raise DeniedError("COMMAND_NOT_ALLOWED", f"{device}.{tap.name} is not a node of its own")
        self._connected(device)
        if item.node is None:
            raise UnreachableError("DEVICE_UNREACHABLE", f"{device}: the server has no node {item.text}")
        kind = await self._kind(device, item.node)
        await self._send(device, item.node, _variant(f"{device}.{tap.name}", kind, _raw(tap, kind, value)), permit)

    async def _kind(self, device: str, node: Any) -> int:
        """The built-in type that the node's value has now, else that its definition names."""
        session = self._connected(device).uaclient.session
        try:
            found = (await session.read_attributes([node], ua.AttributeIds.Value))[0]
            if found.Value is not None and found.Value.Value is not None:
                return int(found.Value.VariantType.value)
            told = (await session.read_attributes([node], ua.AttributeIds.DataType))[0]
        except Exception as silent:
            raise _away(device, silent) from silent
        type_id = None if told.Value is None else told.Value.Value
        if type_id is None or type_id.NamespaceIndex or not isinstance(type_id.Identifier, int):
            raise DeniedError("COMMAND_NOT_ALLOWED", f"{device}: the type of {node} is not known")
        return int(type_id.Identifier)

    async def _send(self, device: str, node: Any, variant: Any, permit: Permit) -> None:
        client = self._connected(device)
        wanted = ua.WriteValue()
        wanted.NodeId, wanted.AttributeId = node, ua.AttributeIds.Value
        wanted.Value = ua.DataValue(Value=variant, StatusCode=None)
        request = ua.WriteParameters()
        request.NodesToWrite = [wanted]
        permit()
        results = await self._asked(device, client.uaclient.session.write(request))
        _judge(device, results[0], "the write")

    async def _asked(self, device: str, asking: Any) -> Any:
        try:
            return await asking
        except UaStatusCodeError as fault:
            _judge(device, ua.StatusCode(fault.code), "the request")
            raise UnreachableError("COMMAND_UNANSWERED", f"{device}: {fault}") from fault
        except TwinError:
            raise
        except Exception as silent:
            text = f"{device}: no answer: {type(silent).__name__} {silent}".strip()
            raise UnreachableError("COMMAND_UNANSWERED", text) from silent

    async def _nodes(self, device: str, texts: Sequence[str]) -> list[Any]:
        """Ids that addresses of a profile have on the server now."""
        client, link = self._connected(device), self._links[device]
        root = link.assignment.device.root.strip("/")
        namespace = link.assignment.profile.namespace or ""
        items = [item_at(root, text, namespace) for text in texts]
        try:
            await resolve(client, self._limits, items)
        except Exception as silent:
            raise _away(device, silent) from silent
        for item in items:
            if item.node is None:
                text = f"{device}: the server has no node {item.text or 'of its root'}"
                raise UnreachableError("DEVICE_UNREACHABLE", text, hint="correct `at`, `object` or `root`")
        return [item.node for item in items]

    def _of(self, device: str, point: str) -> tuple[Item, Tap]:
        found = self._taps.get((device, point))
        if found is None:
            raise DeniedError("COMMAND_NOT_ALLOWED", f"{device} has no point {point} any more")
        return found

    def _connected(self, device: str) -> Client:
        if self._client is None or not self._links[device].connected:
            raise UnreachableError("DEVICE_UNREACHABLE", f"{device} is not connected")
        return self._client


def _owner(method: Method) -> str:
    """Address of the object of a method: as told, else the path before its last name; "" is the device's root."""
    if method.object is not None:
        return method.object
    at = method.at or ""
    last = at.rfind("/")
    while last > 0 and at[last - 1] == "&":
        last = at.rfind("/", 0, last)
    return at[:last] if last > 0 else ""


def item_at(root: str, text: str, namespace: str) -> Item:
    """An address below a device's root as something to resolve; an empty one is the root itself."""
    start = parse_node(root) if root else None
    address = parse_node(text) if text else start
    if address is None:
        address = NodeAddress("i", str(int(ua.ObjectIds.ObjectsFolder)), None, zero=True)
    if isinstance(address, BrowseAddress) and not text:
        return Item(0, None, BrowseAddress(parse_path(root)), namespace, root, (), 1, None, None)
    return Item(0, start, address, namespace, text, (), 1, None, None)


def _type_of(as_: str) -> int:
    return _BY_NAME.get("string" if as_.startswith("string") else as_, DOUBLE)


def _raw(tap: Tap, kind: int, value: Value) -> Value:
    """The value before scale and offset."""
    if isinstance(value, (bool, str)) or value is None or tap.convert is None:
        return value
    raw = unscaled(value, tap.scale, tap.offset)
    return float(raw) if kind in {FLOAT, DOUBLE} else round(raw)


def _variant(name: str, kind: int, value: Value) -> Any:
    """The value with the exact type that is wanted. Raises InputError COMMAND_INVALID."""
    made: Any = None
    if kind == BOOLEAN and isinstance(value, (bool, int)) and value in {0, 1}:
        made = bool(value)
    elif kind in INTEGERS and isinstance(value, (int, float)) and float(value).is_integer():
        low, high = INTEGERS[kind]
        made = int(value) if low <= int(value) <= high else None
    elif kind in {FLOAT, DOUBLE} and isinstance(value, (int, float)) and not isinstance(value, bool):
        made = float(value) if math.isfinite(value) and (kind == DOUBLE or abs(value) <= _FLOAT_MAX) else None
    elif kind == STRING and isinstance(value, str):
        made = value
    if made is None:
        type_name = ua.VariantType(kind).name if kind in range(1, 26) else str(kind)
        message = f"{name}: {value!r} is no {type_name}, which the server has there"
        raise InputError("COMMAND_INVALID", message, value=str(value)[:80], limit=type_name)
    return ua.Variant(made, ua.VariantType(kind))


def _judge(device: str, status: Any, what: str) -> None:
    """Passes for a good status; a bad one refuses, or says that nobody knows."""
    if status is None or status.is_good():
        return
    name, code = status.name, int(status.value)
    if name in UNKNOWN or (code >> 30) == 1:
        raise UnreachableError("COMMAND_UNANSWERED", f"{device}: {what}: {name} (0x{code:08X})", code=name)
    raise ConflictError("COMMAND_REFUSED_BY_DEVICE", f"{device} refuses {what}: {name} (0x{code:08X})", code=name)


def _away(device: str, silent: Exception) -> TwinError:
    if isinstance(silent, TwinError):
        return silent
    return UnreachableError("DEVICE_UNREACHABLE", f"{device}: {type(silent).__name__} {silent}".strip())


def _plain(value: Any) -> Value:
    """What a method gives, as far as a step can carry it."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value)[:1000]
