"""What a client subscribes to: columns of slots, looked through once a publishing interval.

asyncua tells every monitored item of every change, with a deep copy of each value. Here the items of our signals are
rows of arrays: a subscription looks which of its slots have changed since it told of them, and only then builds bytes.
A value that is overwritten before the interval is over is not told: this is a view of the newest, not a record.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import asyncua.ua
import numpy as np
from asyncua.server.internal_subscription import InternalSubscription
from asyncua.server.monitored_item_service import MonitoredItemService
from asyncua.ua.uaprotocol_auto import DataChangeFilter
from numpy.typing import NDArray

from twinedge.northbound.opcua_nodes import INDEX, Space
from twinedge.northbound.opcua_status import status_of
from twinedge.northbound.opcua_values import BAD, changes, notification
from twinedge.northbound.store import Latest
from twinmodel.clock import Clock
from twinmodel.signal import Kind

ua: Any = asyncua.ua  # it re-exports its names without saying so, which strict typing refuses

NOTIFICATIONS_MAX: Final = 10_000
"""Changes in one message; the rest follows with the next interval."""
GONE: Final = int(ua.StatusCodes.BadNodeIdUnknown)
_NUMBERS: Final = (Kind.FLOAT, Kind.INT, Kind.BOOL)
_TRIGGER: Final = ua.DataChangeTrigger
_DEADBAND: Final = ua.DeadbandType


@dataclass(slots=True)
class Item:
    """One monitored item of a signal of ours."""

    node: Any
    handle: int
    mode: Any
    trigger: Any
    deadband: float


@dataclass(slots=True)
class _Columns:
    """The items that report, as columns; `told` is the number of the change each has told, -1 for none."""

    item: NDArray[np.int64]
    slot: NDArray[np.intp]
    kind: NDArray[np.uint8]
    handle: NDArray[np.uint32]
    trigger: NDArray[np.uint8]
    deadband: NDArray[np.float64]
    told: NDArray[np.int64]
    status: NDArray[np.int64]
    value: NDArray[np.float64]
    other: NDArray[Any]
    t_ns: NDArray[np.int64]


@dataclass(slots=True)
class Source:
    """Where feeds get their values: the newest samples, the nodes that show them, and the time.

    Attributes:
        told: changes told to clients since the start.
    """

    store: Latest
    space: Space
    clock: Clock
    told: int = 0


class Items(MonitoredItemService):
    """The monitored items of one subscription; those of other nodes are asyncua's own."""

    def __init__(self, feed: Feed, aspace: Any, source: Source) -> None:
        super().__init__(feed, aspace)
        self._source = source
        self._ours: dict[int, Item] = {}
        self._columns: _Columns | None = None
        self._stale = True
        self._generation = -1
        self._from = 0

    def __len__(self) -> int:
        return len(self._ours) + len(self._monitored_items)

    async def create_monitored_items(self, params: Any) -> list[Any]:
        """See `MonitoredItemService`."""
        results = []
        for request in params.ItemsToCreate:
            wanted = request.ItemToMonitor
            if wanted.NodeId.NamespaceIndex == INDEX and wanted.AttributeId != ua.AttributeIds.EventNotifier:
                results.append(await self._create(request))
            else:
                one = ua.CreateMonitoredItemsParameters(params.SubscriptionId, params.TimestampsToReturn, [request])
                results += await super().create_monitored_items(one)
        return results

    async def _create(self, request: Any) -> Any:
        result, told = self._make_monitored_item_common(request)
        result.RevisedQueueSize = 1
        node = request.ItemToMonitor.NodeId
        is_value = request.ItemToMonitor.AttributeId == ua.AttributeIds.Value
        if not is_value or self._source.space.signal(node) is None:
            return await self._once(request, result, told)
        item = Item(node, told.client_handle or 0, told.mode, _TRIGGER.StatusValue, 0.0)
        result.StatusCode = ua.StatusCode(_filtered(item, request.RequestedParameters.Filter))
        if result.StatusCode.is_good():
            self._ours[result.MonitoredItemId] = item
            self._stale = True
        return result

    async def _once(self, request: Any, result: Any, told: Any) -> Any:
        """A property, or another attribute: it is told once, as it does not change."""
        found = self.aspace.read_attribute_value(request.ItemToMonitor.NodeId, request.ItemToMonitor.AttributeId)
        if found.StatusCode is not None and found.StatusCode.is_bad():
            result.StatusCode = found.StatusCode
            return result
        self._monitored_items[result.MonitoredItemId] = told
        event = ua.MonitoredItemNotification(told.client_handle, found)
        await self.isub.enqueue_datachange_event(result.MonitoredItemId, event, 1)
        return result

    def _modify_monitored_item(self, params: Any) -> Any:
        item = self._ours.get(params.MonitoredItemId)
        if item is None:
            if params.MonitoredItemId not in self._monitored_items:
                return ua.MonitoredItemModifyResult(ua.StatusCode(ua.StatusCodes.BadMonitoredItemIdInvalid))
            return super()._modify_monitored_item(params)
        wanted = params.RequestedParameters
        result = ua.MonitoredItemModifyResult(ua.StatusCode(_filtered(item, wanted.Filter)))
        result.RevisedSamplingInterval = self.isub.data.RevisedPublishingInterval
        result.RevisedQueueSize = 1
        item.handle = wanted.ClientHandle
        self._stale = True
        return result

    async def _set_monitoring_mode(self, mode: Any, mid: int) -> Any:
        item = self._ours.get(mid)
        if item is None:
            return await super()._set_monitoring_mode(mode, mid)
        item.mode = mode
        self._stale = True
        return ua.StatusCode()

    def _delete_monitored_items(self, mid: int) -> Any:
        if self._ours.pop(mid, None) is not None:
            self._stale = True
            return ua.StatusCode()
        return super()._delete_monitored_items(mid)

    def delete_all_monitored_items(self) -> None:
        """See `MonitoredItemService`, whose own way changes the table it goes through."""
        self._ours.clear()
        self._stale = True
        self.delete_monitored_items(list(self._monitored_items))

    def due(self) -> bool:
        """Whether a signal has changed since it was told."""
        columns = self._fresh()
        return bool(len(self._changed(columns)))

    def take(self, most: int) -> tuple[Any | None, bool]:
        """The notification of what has changed, None for nothing, and whether there is more."""
        columns = self._fresh()
        found = self._changed(columns)
        if not len(found):
            return None, False
        more = len(found) > most
        if more:  # those that were passed over come first the next time
            found = np.roll(found, -int(np.searchsorted(found, self._from)))[:most]
            self._from = int(found[-1]) + 1
        return self._told(columns, found), more

    def _fresh(self) -> _Columns:
        store = self._source.store
        if self._columns is None or self._stale or self._generation != store.generation:
            self._columns = self._build(self._columns)
            self._generation, self._stale = store.generation, False
        return self._columns

    def _build(self, before: _Columns | None) -> _Columns:
        """Columns of the items that report; what was told of those that stay is known on."""
        reporting = {mid: item for mid, item in self._ours.items() if item.mode == ua.MonitoringMode.Reporting}
        items = list(reporting.values())
        signals = [self._source.space.signal(item.node) for item in items]
        count = len(items)
        other: NDArray[Any] = np.full(count, None, object)
        made = _Columns(
            np.array(list(reporting), np.int64),
            np.array([-1 if s is None else s.id for s in signals], np.intp),
            np.array([0 if s is None else s.kind for s in signals], np.uint8),
            np.array([item.handle for item in items], np.uint32),
            np.array([item.trigger for item in items], np.uint8),
            np.array([item.deadband for item in items], np.float64),
            np.full(count, -1, np.int64),
            np.full(count, -1, np.int64),
            np.full(count, np.nan),
            other,
            np.full(count, -1, np.int64),
        )
        if before is not None:
            places = {mid: place for place, mid in enumerate(before.item.tolist())}
            kept = [(place, places[mid]) for place, mid in enumerate(reporting) if mid in places]
            if kept:
                new, old = np.array(kept, np.intp).T
                for name in ("status", "value", "other", "t_ns"):
                    getattr(made, name)[new] = getattr(before, name)[old]
        return made

    def _changed(self, columns: _Columns) -> NDArray[np.intp]:
        """Rows whose slot has another value or status than was told, or another time where that is asked for."""
        store = self._source.store
        if not len(columns.slot):
            return np.zeros(0, np.intp)
        if not len(store.changed):
            return np.flatnonzero(columns.status != GONE)
        there = columns.slot >= 0
        rows = np.flatnonzero(np.where(there, store.changed[columns.slot] > columns.told, columns.status != GONE))
        if not len(rows):
            return rows
        slot, kind = columns.slot[rows], columns.kind[rows]
        status = status_of(store.quality[slot], store.t_ns[slot])
        value = np.where(kind == Kind.FLOAT, store.floats[slot], store.ints[slot])
        before = columns.value[rows]
        with np.errstate(invalid="ignore"):
            moved = np.abs(value - before) > columns.deadband[rows]
        differs = moved | (np.isnan(value) != np.isnan(before))
        exact = (kind == Kind.INT) | (kind == Kind.STRING)
        if exact.any():
            at = np.flatnonzero(exact)
            newest = np.where(kind[at] == Kind.STRING, store.texts[slot[at]], store.ints[slot[at]])
            band = columns.deadband[rows[at]] > 0
            differs[at] = np.where(band, differs[at], newest != columns.other[rows[at]])
        trigger = columns.trigger[rows]
        told = (differs & (status < BAD) & (trigger != _TRIGGER.Status)) | (status != columns.status[rows])
        told |= (trigger == _TRIGGER.StatusValueTimestamp) & (store.t_ns[slot] != columns.t_ns[rows])
        gone = columns.slot[rows] < 0
        columns.told[rows[~told & ~gone]] = store.changes
        found: NDArray[np.intp] = rows[told | gone]
        return found

    def _told(self, columns: _Columns, rows: NDArray[np.intp]) -> Any:
        """The notification of some rows, which are told from now on."""
        store, now_ns = self._source.store, self._source.clock.wall_ns()
        parts: list[bytes] = []
        gone = rows[columns.slot[rows] < 0]
        if len(gone):
            status = np.full(len(gone), GONE, np.uint32)
            none = np.zeros(len(gone))
            parts += changes(Kind.FLOAT, columns.handle[gone], none, status, np.zeros(len(gone), np.int64), now_ns)
            columns.status[gone] = GONE
        for kind in Kind:
            mine = rows[(columns.kind[rows] == kind) & (columns.slot[rows] >= 0)]
            if not len(mine):
                continue
            slot = columns.slot[mine]
            value = store.column(kind)[slot]
            status, t_ns = status_of(store.quality[slot], store.t_ns[slot]), store.t_ns[slot]
            parts += changes(kind, columns.handle[mine], value, status, t_ns, now_ns)
            columns.status[mine], columns.t_ns[mine], columns.told[mine] = status, t_ns, store.changes
            if kind in _NUMBERS:
                columns.value[mine] = value
            if kind in {Kind.INT, Kind.STRING}:
                columns.other[mine] = value
        self._source.told += len(rows)
        return notification(len(rows), parts)


class Feed(InternalSubscription):
    """One subscription of a client."""

    @property
    def items(self) -> int:
        """Monitored items."""
        return len(self._items)

    def __init__(self, data: Any, aspace: Any, source: Source, most: int, **more: Any) -> None:
        super().__init__(data, aspace, **more)
        self._items = Items(self, aspace, source)
        self.monitored_item_srv = self._items
        self._most = min(most or NOTIFICATIONS_MAX, NOTIFICATIONS_MAX)

    def has_published_results(self) -> bool:
        """See `InternalSubscription`."""
        if self._publishing_enabled and self._items.due():
            return True
        return bool(super().has_published_results())

    def _pop_triggered_datachanges(self, result: Any) -> None:
        super()._pop_triggered_datachanges(result)
        told, _ = self._items.take(self._most)
        if told is not None:
            result.NotificationMessage.NotificationData.append(told)


def _filtered(item: Item, wanted: Any) -> int:
    """Takes a filter into an item; a status code."""
    if not wanted:  # also a null ExtensionObject
        item.trigger, item.deadband = _TRIGGER.StatusValue, 0.0
        return int(ua.StatusCodes.Good)
    if not isinstance(wanted, DataChangeFilter):
        return int(ua.StatusCodes.BadMonitoredItemFilterUnsupported)
    if wanted.DeadbandType == _DEADBAND.Percent or wanted.DeadbandValue < 0:
        return int(ua.StatusCodes.BadDeadbandFilterInvalid)
    item.trigger = wanted.Trigger
    item.deadband = wanted.DeadbandValue if wanted.DeadbandType == _DEADBAND.Absolute else 0.0
    return int(ua.StatusCodes.Good)
