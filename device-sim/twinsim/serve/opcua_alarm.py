"""The one condition of a simulated OPC UA device: stands while the fault `alarm` is on, repeated and acknowledged."""

from __future__ import annotations

from typing import Any

from asyncua import ua
from asyncua.server.server import Server
from asyncua.ua.status_codes import StatusCodes

from twinsim.faults import FaultKind
from twinsim.image.device import ProfileDevice, Written
from twinsim.serve.opcua_server import stamp_of

CONDITION = "Fault"
ALARM_TYPE = "i=2915"  # AlarmConditionType
ACKNOWLEDGE = "i=9111"  # AcknowledgeableConditionType.Acknowledge


class Conditions:
    """The conditions of one running server, made when they are raised first."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._made: dict[str, Any] = {}
        self._devices: dict[ua.NodeId, ProfileDevice] = {}
        self._standing: set[str] = set()

    async def show(self, device: ProfileDevice) -> None:
        """Tells clients when the device's alarm begins and ends; it waits for a client to acknowledge it."""
        severity = device.faults.size(FaultKind.ALARM)
        if (severity is not None) is (device.name in self._standing):
            return
        active = severity is not None
        if device.name not in self._made:
            self._made[device.name] = await self._make(device)
        generator = self._made[device.name]
        event = generator.event
        setattr(event, "ActiveState/Id", active)
        setattr(event, "AckedState/Id", not active and getattr(event, "AckedState/Id"))
        event.Retain = active
        event.Severity = int(severity) if severity is not None else event.Severity
        text = f"{device.name} has a fault" if active else f"{device.name} is well"
        event.Message = ua.LocalizedText(text)
        (self._standing.add if active else self._standing.discard)(device.name)
        await generator.trigger(time_attr=stamp_of(device.t_ns))

    async def _acknowledge(self, condition: ua.NodeId, event_id: Any, comment: Any) -> ua.StatusCode:
        """Part 9, 5.7.3: of a state that is over nothing can be acknowledged."""
        device = self._devices.get(condition)
        if device is None:
            return _status(StatusCodes.BadNodeIdInvalid)
        event = self._made[device.name].event
        if event_id.Value != event.EventId.Value:
            return _status(StatusCodes.BadEventIdUnknown)
        if getattr(event, "AckedState/Id"):
            return _status(StatusCodes.BadConditionBranchAlreadyAcked)
        device.wrote(Written(device.t_ns, "", CONDITION, str(comment.Value.Text or ""), 0))
        setattr(event, "AckedState/Id", True)
        await self._made[device.name].trigger(time_attr=stamp_of(device.t_ns))
        return _status(StatusCodes.Good)

    async def _make(self, device: ProfileDevice) -> Any:
        generator: Any = await self._server.get_event_generator(ua.NodeId.from_string(ALARM_TYPE))
        event = generator.event
        event.ConditionName, event.SourceName = CONDITION, device.name
        event.NodeId = ua.NodeId.from_string(f"ns=1;s={device.name}.{CONDITION}")
        for name, value in (("EnabledState/Id", True), ("AckedState/Id", False), ("ActiveState/Id", False)):
            event.add_variable(name, value, ua.VariantType.Boolean)
        if not self._devices:
            self._server.link_method(self._server.get_node(ua.NodeId.from_string(ACKNOWLEDGE)), self._acknowledge)
        # The library calls methods of nodes alone.
        await self._server.nodes.server.add_object(event.NodeId, ua.QualifiedName(f"{device.name}.{CONDITION}", 1))
        self._devices[event.NodeId] = device
        return generator


def _status(code: int) -> ua.StatusCode:
    return ua.StatusCode(ua.UInt32(code))
