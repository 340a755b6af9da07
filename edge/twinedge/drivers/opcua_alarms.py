"""Alarms and conditions of an OPC UA server (Part 9): heard over the session of its values, and asked for anew.

    begin ─▶ subscription to events of the Server object ─▶ ConditionRefresh ─▶ hear ─▶ DeviceAlarm ─▶ take
                                                                     Acknowledge ◀─────────── acknowledge

The server is asked for its events, and to repeat those that stand. What stood before a refresh and is not repeated has
gone meanwhile. It is told nothing but what a person has seen, and that only where the site says so.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections import deque
from collections.abc import Sequence
from typing import Any, Final

import asyncua.ua
from asyncua.client.client import Client
from asyncua.common.utils import Buffer
from asyncua.ua.ua_binary import struct_from_binary
from asyncua.ua.uaerrors import UaStatusCodeError

from twinedge.drivers.link import DeviceLink
from twinedge.drivers.opcua_acknowledge import Unseen, acknowledge
from twinedge.drivers.opcua_publish import Publishing
from twinedge.ports import AlarmsRepeated, DeviceAlarm
from twinmodel.alarms.records import TEXT_CHARS_MAX, printable
from twinmodel.errors import ConflictError, UnreachableError

ua: Any = asyncua.ua  # it re-exports its names without saying so, which strict typing refuses

PUBLISH_MS: Final = 250
KEEPALIVES: Final = 8
LIFETIME_KEEPALIVES: Final = 30
QUEUE: Final = 1000
CONDITIONS_MAX: Final = 2000
"""Conditions of one server that are kept in mind; further ones are counted as an error of the device."""
TAKEN_MAX: Final = 5000
NAME_CHARS_MAX: Final = 120
HANDLE: Final = 1
_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_REFRESH_START, _REFRESH_END, _REFRESH_REQUIRED = 2787, 2788, 2789
# Browse path of a field -> the type it belongs to; the last one is the condition's own node id.
_FIELDS: Final[Sequence[tuple[tuple[str, ...], int]]] = (
    (("EventType",), 2041),
    (("SourceName",), 2041),
    (("Time",), 2041),
    (("Message",), 2041),
    (("Severity",), 2041),
    (("ConditionName",), 2782),
    (("BranchId",), 2782),
    (("Retain",), 2782),
    (("EnabledState", "Id"), 2782),
    (("AckedState", "Id"), 2881),
    (("ActiveState", "Id"), 2915),
    ((), 2782),
    (("EventId",), 2041),
)


class AlarmFeed:
    """What one server says of its conditions, kept from one connection to the next.

    Args:
        links: devices of the connection that ask for alarms; an event belongs to the one whose root its source names,
            else to the first.
    """

    def __init__(self, links: Sequence[DeviceLink]) -> None:
        self._links = links
        self._taken: deque[DeviceAlarm | AlarmsRepeated] = deque()
        self._known: dict[str, DeviceAlarm] = {}
        self._unseen: dict[str, Unseen] = {}
        self._names: dict[tuple[str, str], str] = {}
        self._seen: set[str] | None = None
        self._first = True
        self._client: Client | None = None
        self._refresh = False
        self.subscription: int | None = None

    def take(self) -> list[DeviceAlarm | AlarmsRepeated]:
        """What was said since the last call, oldest first."""
        taken, self._taken = list(self._taken), deque()
        return taken

    async def begin(self, client: Client, publishing: Publishing) -> None:
        """Subscribes on a new connection; a server that has no events is told as an error of its devices."""
        self.subscription, self._seen, self._client = None, None, client
        if not self._links:
            return
        try:
            made = await publishing.create(_subscription())
            (result,) = await client.uaclient.session.create_monitored_items(_item(made.id))
            result.StatusCode.check()
        except UaStatusCodeError as refused:
            self._fault(f"the server tells no alarms: {type(refused).__name__}")
            return
        self.subscription, self._refresh = made.id, True

    async def keep(self) -> None:
        """Asks the server to repeat what stands, where something may have been missed; called now and then."""
        if not self._refresh or self._client is None or self.subscription is None:
            return
        self._refresh = False
        call = ua.CallMethodRequest(
            ObjectId=ua.NodeId(ua.ObjectIds.ConditionType),
            MethodId=ua.NodeId(ua.ObjectIds.ConditionType_ConditionRefresh),
            InputArguments=[ua.Variant(self.subscription, ua.VariantType.UInt32)],
        )
        try:
            (result,) = await self._client.uaclient.session.call([call])
            result.StatusCode.check()
        except UaStatusCodeError as refused:
            self._fault(f"the server does not repeat its alarms: {type(refused).__name__}")

    def end(self) -> None:
        """The connection is gone; nothing can be told until the next one."""
        self._client = self.subscription = None

    def answers(self, device: str) -> bool:
        """See `AlarmAnswering`."""
        return any(link.name == device and link.assignment.device.acknowledges for link in self._links)

    async def acknowledge(self, device: str, condition: str, comment: str) -> str:
        """See `AlarmAnswering`."""
        known = next((i for i, a in self._known.items() if (a.device, a.condition) == (device, condition)), "")
        if self._client is None or not self._linked(device):
            hint = "acknowledge the alarm again once it is back"
            raise UnreachableError(
                "DEVICE_UNREACHABLE", "the server is not connected: it was not told", hint=hint, device=device
            )
        unseen = self._unseen.get(known)
        if unseen is None:
            return ""
        try:
            return await acknowledge(self._client, device, unseen, comment)
        except ConflictError as refused:
            self._refresh = self._refresh or refused.reason == "ALARM_CHANGED"
            raise

    def missed(self) -> None:
        """Messages of the subscription are lost: what stands is asked for."""
        self._refresh = True

    def hear(self, events: Sequence[bytes], now_ns: int) -> None:
        """Takes the event notifications of one message."""
        for body in events:
            try:
                found = struct_from_binary(ua.EventNotificationList, Buffer(body))
            except Exception as wrong:  # noqa: BLE001 - the library raises whatever its decoder meets
                self._fault(f"an event cannot be read: {type(wrong).__name__}")
                self._refresh = True
                continue
            for event in found.Events:
                values = [field.Value for field in event.EventFields]
                if len(values) == len(_FIELDS):
                    self._event(values, now_ns)

    def _event(self, values: Sequence[Any], now_ns: int) -> None:
        kind, source, time, message, severity, name, branch, retain, enabled, acked, active, condition, event = values
        number = getattr(kind, "Identifier", None) if getattr(kind, "NamespaceIndex", None) == 0 else None
        if number == _REFRESH_START:
            self._seen = set()
        elif number == _REFRESH_END:
            self._forget_unseen(now_ns)
        elif number == _REFRESH_REQUIRED:
            self._refresh = True
        elif condition is not None and (branch is None or branch.is_null()):
            standing = enabled is not False
            told = str(condition.to_string())
            self._unseen.pop(told, None)
            if acked is False and standing and isinstance(event, bytes) and len(self._unseen) < CONDITIONS_MAX:
                self._unseen[told] = Unseen(condition, event)
            self._told(
                told,
                source=_text(source),
                name=_text(name),
                text=_text(message),
                severity=severity if isinstance(severity, int) else 1,
                # What has no active state is a condition to be seen while the server retains it.
                active=(holds := standing and bool(retain if active is None else active)),
                acked=not holds if acked is None else not standing or not retain or bool(acked),
                t_ns=_ns(time, now_ns),
            )

    def _told(
        self, condition: str, *, source: str, name: str, text: str, severity: int, active: bool, acked: bool, t_ns: int
    ) -> None:
        if self._seen is not None:
            self._seen.add(condition)
        if condition not in self._known and len(self._known) >= CONDITIONS_MAX:
            self._fault(f"the server has more than {CONDITIONS_MAX} conditions")
            return
        device = self._device(source)
        label = self._name(device, condition, ".".join(word for word in (source, name) if word) or condition)
        alarm = DeviceAlarm(device, label, active, acked, min(max(severity, 1), 1000), text or label, t_ns)
        if self._known.get(condition) != alarm:
            self._known[condition] = alarm
            self._put(alarm)

    def _forget_unseen(self, now_ns: int) -> None:
        if self._seen is None:
            return
        for condition in self._known.keys() - self._seen:
            gone = self._known.pop(condition)
            self._unseen.pop(condition, None)
            if gone.active or not gone.acked:
                self._put(DeviceAlarm(gone.device, gone.condition, False, True, gone.severity, gone.text, now_ns))
        if self._first and len(self._known) < CONDITIONS_MAX:
            # Those before this feed, in an agent that was restarted or under another configuration, heard of others.
            standing = frozenset((alarm.device, alarm.condition) for alarm in self._known.values())
            self._put(AlarmsRepeated(frozenset(link.name for link in self._links), standing, now_ns))
            self._first = False
        self._seen = None

    def _put(self, alarm: DeviceAlarm | AlarmsRepeated) -> None:
        if len(self._taken) >= TAKEN_MAX:
            self._taken.popleft()
        self._taken.append(alarm)

    def _device(self, source: str) -> str:
        for link in self._links:
            root = link.assignment.device.root.rpartition("/")[2].rpartition(":")[2]
            if root and root in source:
                return link.name
        return self._links[0].name

    def _name(self, device: str, condition: str, wanted: str) -> str:
        """A name for people; of two conditions of one name the second has a part of its node id beside it."""
        name = printable(wanted, NAME_CHARS_MAX)
        owner = self._names.setdefault((device, name), condition)
        return (
            name if owner == condition else f"{name}~{hashlib.blake2b(condition.encode(), digest_size=4).hexdigest()}"
        )

    def _linked(self, device: str) -> bool:
        return any(link.name == device and link.connected for link in self._links)

    def _fault(self, text: str) -> None:
        self._links[0].fault(text)


def _subscription() -> Any:
    params = ua.CreateSubscriptionParameters()
    params.RequestedPublishingInterval = PUBLISH_MS
    params.RequestedMaxKeepAliveCount = KEEPALIVES
    params.RequestedLifetimeCount = LIFETIME_KEEPALIVES * KEEPALIVES
    params.MaxNotificationsPerPublish = QUEUE
    params.PublishingEnabled = True
    return params


def _item(subscription: int) -> Any:
    """Asks for the events of the Server object, which carries those of all others."""
    clauses = []
    for path, owner in _FIELDS:
        names = [ua.QualifiedName(name, 0) for name in path]
        attribute = ua.AttributeIds.Value if path else ua.AttributeIds.NodeId
        clauses.append(ua.SimpleAttributeOperand(ua.NodeId(owner), names, attribute))
    wanted = ua.MonitoringParameters()
    wanted.ClientHandle, wanted.SamplingInterval, wanted.QueueSize, wanted.DiscardOldest = HANDLE, 0.0, QUEUE, True
    wanted.Filter = ua.EventFilter(SelectClauses=clauses)
    request = ua.MonitoredItemCreateRequest()
    request.ItemToMonitor = ua.ReadValueId(
        NodeId=ua.NodeId(ua.ObjectIds.Server), AttributeId=ua.AttributeIds.EventNotifier
    )
    request.MonitoringMode = ua.MonitoringMode.Reporting
    request.RequestedParameters = wanted
    params = ua.CreateMonitoredItemsParameters()
    params.SubscriptionId = subscription
    params.TimestampsToReturn = ua.TimestampsToReturn.Both
    params.ItemsToCreate = [request]
    return params


def _text(value: Any) -> str:
    """The text of a string or a localized text, "" for anything else."""
    text = getattr(value, "Text", value)
    return printable(text, TEXT_CHARS_MAX) if isinstance(text, str) else ""


def _ns(time: Any, now_ns: int) -> int:
    if not isinstance(time, dt.datetime):
        return now_ns
    aware = time if time.tzinfo else time.replace(tzinfo=dt.UTC)
    t_ns = (aware - _EPOCH) // dt.timedelta(microseconds=1) * 1000
    return t_ns if t_ns > 0 else now_ns
