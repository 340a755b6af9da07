"""OPC UA server for many heat exchangers: one object each below Objects.

    Objects/HX-1/{HotInlet, ColdInlet, HotOutlet, ColdOutlet}   Double, with EngineeringUnits and EURange
    Objects/HX-1/SampleNumber                                   UInt32
    Objects/HX-1/Running                                        Boolean

All in namespace `urn:hybridtwin:plants`, node ids `HX-1.HotInlet`. All variables of one update carry the same source
timestamp, a whole millisecond. Security: None, Basic256Sha256 Sign and SignAndEncrypt, with a certificate of its own.

What counts as served: values of a data change notification whose sequence number the client has acknowledged in a
later Publish request. asyncua's server keeps a sent notification until then (`InternalSubscription.
_not_acknowledged_results`), and its client acknowledges after its handler has returned. A notification written to a
dead connection is therefore not served, and neither is the last one before a client goes away without acknowledging.
One record per device and source timestamp in a notification message, so that one update may give several records.
A faulty device (`dropout`, `refuse`) writes its last values once with BadNoCommunication or at each update with
BadDeviceFailure; these are notifications, too, and are logged alike.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from asyncua import ua
from asyncua.server.server import Server
from asyncua.ua.status_codes import StatusCodes

from twinmodel.clock import Clock
from twinmodel.errors import ConflictError
from twinsim.device import Device
from twinsim.serve.opcua_server import Acknowledged, prepared_server, stamp_of
from twinsim.served import ServedLog

NAMESPACE = "urn:hybridtwin:plants"
VARIABLES = {"HotInlet": "hot_in", "ColdInlet": "cold_in", "HotOutlet": "hot_out", "ColdOutlet": "cold_out"}
_DEGREE_CELSIUS = ua.EUInformation(
    NamespaceUri="http://www.opcfoundation.org/UA/units/un/cefact",
    UnitId=4408652,  # UNECE code CEL as a number, OPC UA Part 8, 5.6.3
    DisplayName=ua.LocalizedText("°C"),
    Description=ua.LocalizedText("degree Celsius"),
)


class ExchangerServer:
    """The running server; `publish` shows a device's latest readings to the clients."""

    def __init__(self, server: Server, subscriptions: Acknowledged) -> None:
        self._server = server
        self._subscriptions = subscriptions
        self._nodes: dict[str, dict[str, ua.NodeId]] = {}
        self._silent: set[str] = set()

    async def add(self, device: Device, index: int) -> None:
        """Adds the object of one device; `index` is that of the namespace."""
        node = await self._server.nodes.objects.add_object(
            _node_id(device.name, index), ua.QualifiedName(device.name, index)
        )
        nodes: dict[str, ua.NodeId] = {}

        async def variable(name: str, point: str, value: object, kind: ua.VariantType) -> Any:
            made = await node.add_variable(
                _node_id(f"{device.name}.{name}", index), ua.QualifiedName(name, index), value, kind
            )
            nodes[point] = made.nodeid
            self._subscriptions.points[made.nodeid] = (device.name, point)
            return made

        for name, point in VARIABLES.items():
            sensor = next(s for s in device.kind.sensors if s.name == point)
            made = await variable(name, point, device.reading[point], ua.VariantType.Double)
            await made.add_property(
                _node_id(f"{device.name}.{name}.Unit", index), "0:EngineeringUnits", _DEGREE_CELSIUS
            )
            limits = ua.Range(Low=sensor.low, High=sensor.high)
            await made.add_property(_node_id(f"{device.name}.{name}.Range", index), "0:EURange", limits)
        await variable("SampleNumber", "sample_no", 0, ua.VariantType.UInt32)
        await variable("Running", "running", True, ua.VariantType.Boolean)
        self._nodes[device.name] = nodes
        await self.publish(device)  # so that no client ever sees a value without its tick

    async def publish(self, device: Device) -> None:
        """Writes all variables of the device with its tick's time as source timestamp."""
        status = StatusCodes.Good
        if device.faults.silent:
            if device.name in self._silent:
                return
            self._silent.add(device.name)
            status = StatusCodes.BadNoCommunication
        else:
            self._silent.discard(device.name)
            if device.faults.refusing:
                status = StatusCodes.BadDeviceFailure
            device.next_sample()
        await self._write(device, status)

    async def _write(self, device: Device, status: int) -> None:
        stamp = stamp_of(device.t_ns)
        values: Mapping[str, ua.Variant] = {
            **{point: ua.Variant(device.reading[point], ua.VariantType.Double) for point in VARIABLES.values()},
            "running": ua.Variant(True, ua.VariantType.Boolean),
            "sample_no": ua.Variant(device.sample_no, ua.VariantType.UInt32),
        }
        for point, value in values.items():
            sample = ua.DataValue(
                Value=value, StatusCode=ua.StatusCode(ua.UInt32(status)), SourceTimestamp=stamp, ServerTimestamp=stamp
            )
            await self._server.write_attribute_value(self._nodes[device.name][point], sample)


def _node_id(name: str, index: int) -> ua.NodeId:
    return ua.NodeId.from_string(f"ns={index};s={name}")


@asynccontextmanager
async def serve_opcua(
    devices: Sequence[Device],
    log: ServedLog,
    clock: Clock,
    *,
    state: Path,
    port: int = 0,
    host: str = "127.0.0.1",
    login: tuple[str, str] | None = None,
) -> AsyncIterator[tuple[ExchangerServer, int]]:
    """Serves devices and yields the server and its port.

    Args:
        devices: what to serve.
        log: where deliveries are noted.
        clock: dates the certificate.
        state: directory of the certificate.
        port: to listen on, 0 for any.
        host: address to listen on.
        login: name and password clients must give; None lets everybody in.

    Raises:
        ConflictError: PORT_IN_USE.
    """
    server, subscriptions = await prepared_server(log, clock, state=state, host=host, port=port, login=login)
    index = await server.register_namespace(NAMESPACE)
    shown = ExchangerServer(server, subscriptions)
    for device in devices:
        await shown.add(device, index)
    try:
        await server.start()
    except OSError as refused:
        raise ConflictError("PORT_IN_USE", f"cannot listen on {host}:{port} for opcua", port=port) from refused
    try:
        listening: Any = server.bserver
        yield shown, listening.port
    finally:
        await server.stop()
