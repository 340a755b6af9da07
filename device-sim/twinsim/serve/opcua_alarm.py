"""The one condition of a simulated OPC UA device: it stands while the fault `alarm` is on, and is repeated if asked."""

from __future__ import annotations

from typing import Any

from asyncua import ua
from asyncua.server.server import Server

from twinsim.faults import FaultKind
from twinsim.image.device import ProfileDevice
from twinsim.serve.opcua_server import stamp_of

CONDITION = "Fault"
ALARM_TYPE = "i=2915"  # AlarmConditionType


class Conditions:
    """The conditions of one running server, made when they are raised first."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._made: dict[str, Any] = {}
        self._standing: set[str] = set()

    async def show(self, device: ProfileDevice) -> None:
        """Tells clients when the device's alarm begins and ends; it is never acknowledged here."""
        severity = device.faults.size(FaultKind.ALARM)
        if (severity is not None) is (device.name in self._standing):
            return
        active = severity is not None
        if device.name not in self._made:
            self._made[device.name] = await self._make(device.name)
        generator = self._made[device.name]
        event = generator.event
        setattr(event, "ActiveState/Id", active)
        event.Retain = active
        event.Severity = int(severity) if severity is not None else event.Severity
        text = f"{device.name} has a fault" if active else f"{device.name} is well"
        event.Message = ua.LocalizedText(text)
        (self._standing.add if active else self._standing.discard)(device.name)
        await generator.trigger(time_attr=stamp_of(device.t_ns))

    async def _make(self, device: str) -> Any:
        generator: Any = await self._server.get_event_generator(ua.NodeId.from_string(ALARM_TYPE))
        event = generator.event
        event.ConditionName, event.SourceName = CONDITION, device
        event.NodeId = ua.NodeId.from_string(f"ns=1;s={device}.{CONDITION}")
        for name, value in (("EnabledState/Id", True), ("AckedState/Id", False), ("ActiveState/Id", False)):
            event.add_variable(name, value, ua.VariantType.Boolean)
        return generator
