"""Points of OPC UA devices as monitored items: browse paths to nodes, sampling, queues and filters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import asyncua.ua
from asyncua.client.client import Client

from twinedge.drivers.decode import Converter, converter
from twinedge.drivers.link import DeviceLink
from twinmodel.clock import MILLISECOND_NS
from twinmodel.signal import Signal

ua: Any = asyncua.ua  # it re-exports its names without saying so, which strict typing refuses

QUEUE_MIN = 10
FILTER_REFUSED = (ua.StatusCodes.BadMonitoredItemFilterUnsupported, ua.StatusCodes.BadFilterNotAllowed)


@dataclass(slots=True)
class Item:
    """One point as a monitored item.

    Attributes:
        handle: client handle that its values come under.
        last_ns: event time of the newest sample, 0 before the first.
        confirm_ns: when the device was lost, until the first value after its return has come; 0 otherwise.
    """

    handle: int
    link: DeviceLink
    path: tuple[str, ...]
    signal: Signal
    convert: Converter | None
    absent: object
    every_ns: int
    last_ns: int = 0
    confirm_ns: int = 0


def items_of(links: Sequence[DeviceLink]) -> list[Item]:
    """All points of all devices, numbered from 1."""
    made: list[Item] = []
    for link in links:
        profile, root = link.assignment.profile, link.assignment.device.root
        for name, point in profile.points.items():
            path = tuple(p for p in (*root.split("/"), *point.at.split("/")) if p)
            scale = point.scale if isinstance(point.scale, (int, float)) else None
            convert = converter(scale, point.offset)
            signal = link.assignment.signals[name]
            made.append(Item(len(made) + 1, link, path, signal, convert, point.absent, profile.every_ns(point)))
    return made


def relative_path(item: Item, uris: Sequence[str]) -> Any:
    """The browse path with the index that the profile's namespace has on this server now; `n:name` gives its own."""
    uri = item.link.assignment.profile.namespace
    default = uris.index(uri) if uri in uris else 0xFFFF
    elements = []
    for part in item.path:
        index, colon, name = part.partition(":")
        qualified = ua.QualifiedName(name, int(index)) if colon and index.isdigit() else ua.QualifiedName(part, default)
        elements.append(
            ua.RelativePathElement(
                ReferenceTypeId=ua.NodeId(ua.ObjectIds.HierarchicalReferences),
                IsInverse=False,
                IncludeSubtypes=True,
                TargetName=qualified,
            )
        )
    return ua.RelativePath(Elements=elements)


async def create_items(
    client: Client,
    subscription: int,
    nodes: list[tuple[Item, Any]],
    publish_ms: int,
    missing: list[Item],
    *,
    filtered: bool,
) -> list[tuple[Item, Any]]:
    """Creates monitored items for pairs of item and node id.

    Returns those whose filter the server refuses; adds items it refuses for other reasons to `missing`.
    """
    if not nodes:
        return []
    requests = [item_request(item, node, publish_ms, filtered=filtered) for item, node in nodes]
    params = ua.CreateMonitoredItemsParameters()
    params.SubscriptionId = subscription
    params.TimestampsToReturn = ua.TimestampsToReturn.Both
    params.ItemsToCreate = requests
    results = await client.uaclient.create_monitored_items(params)
    again: list[tuple[Item, Any]] = []
    for (item, node), result in zip(nodes, results, strict=True):
        if filtered and result.StatusCode.value in FILTER_REFUSED:
            again.append((item, node))
        elif not result.StatusCode.is_good():
            missing.append(item)
    return again


def item_request(item: Item, node: Any, publish_ms: int, *, filtered: bool) -> Any:
    """With the filter, an update of the source's time alone is delivered too: an equal value is still a sample."""
    every_ms = item.every_ns / MILLISECOND_NS
    wanted = ua.MonitoringParameters()
    wanted.ClientHandle = item.handle
    wanted.SamplingInterval = every_ms
    wanted.QueueSize = max(QUEUE_MIN, 4 * round(publish_ms / every_ms))
    wanted.DiscardOldest = True
    if filtered:
        wanted.Filter = ua.DataChangeFilter(Trigger=ua.DataChangeTrigger.StatusValueTimestamp)
    request = ua.MonitoredItemCreateRequest()
    request.ItemToMonitor = ua.ReadValueId(NodeId=node, AttributeId=ua.AttributeIds.Value)
    request.MonitoringMode = ua.MonitoringMode.Reporting
    request.RequestedParameters = wanted
    return request
