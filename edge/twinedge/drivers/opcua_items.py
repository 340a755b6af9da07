"""Points of OPC UA devices as monitored items: one per node, whatever number of points is read from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import asyncua.ua

from twinedge.drivers.decode import Converter, converter
from twinedge.drivers.link import DeviceLink
from twinmodel.clock import MILLISECOND_NS
from twinmodel.errors import ConfigError
from twinmodel.profile.node import BrowseAddress, Name, NodeAddress, parse_node
from twinmodel.profile.schema import FirmwareProfile, Point
from twinmodel.signal import Kind, Signal

ua: Any = asyncua.ua  # it re-exports its names without saying so, which strict typing refuses

QUEUE_MIN = 10
MISSING_NAMESPACE = 0xFFFF


@dataclass(frozen=True, slots=True)
class Deadband:
    """What the server may leave out.

    Attributes:
        value: change of the raw value, or percent of the node's EURange.
        percent: which of the two.
    """

    value: float
    percent: bool = False


@dataclass(frozen=True, slots=True)
class Tap:
    """One point, read from one item.

    Attributes:
        index: its number among all points of the driver.
        link: number of its device among the links of the driver.
        element: index into an array value, None for the value itself.
        convert: scale and offset, None for none.
        scale, offset: the same as numbers.
        absent: value that means "no value".
    """

    index: int
    link: int
    name: str
    point: Point
    signal: Signal
    element: int | None
    convert: Converter | None
    scale: float
    offset: float
    absent: object


@dataclass(slots=True)
class Item:
    """One node as a monitored item.

    Attributes:
        handle: client handle that its values come under, counted from 1.
        root: where its browse path starts: a node id, or a browse path below Objects.
        address: its node id, or its browse path below the root.
        namespace: URI of names and node ids that give none.
        text: the address as profile and site.yaml write it.
        taps: points that its value feeds.
        queue: queue size to ask for, None for the default.
        node: its node id on the server of this connection, None while it is not resolved.
    """

    handle: int
    root: BrowseAddress | NodeAddress | None
    address: BrowseAddress | NodeAddress
    namespace: str
    text: str
    taps: tuple[Tap, ...]
    every_ns: int
    queue: int | None
    deadband: Deadband | None
    node: Any = None


def items_of(links: Sequence[DeviceLink]) -> list[Item]:
    """All points of all devices as items, numbered from 1.

    Raises:
        ConfigError: VALUE_INVALID for a `root` that is no address.
    """
    groups: dict[tuple[object, ...], list[Tap]] = {}
    made: dict[tuple[object, ...], tuple[Any, ...]] = {}
    count = 0
    for number, link in enumerate(links):
        profile, root = link.assignment.profile, _root(link)
        for name, point in profile.points.items():
            address = parse_node(point.at)
            element = address.element
            whole = _without_element(address)
            band = deadband_of(profile, point) if name not in link.assignment.bound else None
            queue = point.queue if point.queue is not None else profile.defaults.queue
            every_ns = profile.every_ns(point)
            key = (root, whole, profile.namespace, every_ns, queue, band)
            signal = link.assignment.signals[name]
            groups.setdefault(key, []).append(_tap(count, number, name, point, signal, element))
            text = point.at if isinstance(whole, NodeAddress) else "/".join(filter(None, (_root_text(link), point.at)))
            made.setdefault(key, (root, whole, profile.namespace or "", text, every_ns, queue, band))
            count += 1
    return [
        Item(handle, root, address, namespace, text, tuple(groups[key]), every_ns, queue, band)
        for handle, (key, (root, address, namespace, text, every_ns, queue, band)) in enumerate(made.items(), 1)
    ]


def deadband_of(profile: FirmwareProfile, point: Point) -> Deadband | None:
    """The filter that `report` asks for: absolute in the point's unit, or percent of `range`, else of EURange."""
    report = point.report if point.report is not None else profile.defaults.report
    numeric = point.as_ is None or point.as_.startswith(("int", "uint", "float"))
    if report is None or report.deadband is None or not numeric:
        return None
    scale = abs(point.scale) if isinstance(point.scale, (int, float)) and point.scale else 1.0
    text = str(report.deadband).strip()
    if not text.endswith("%"):
        return Deadband(float(text) / scale)
    percent = float(text[:-1])
    if point.range is not None:
        return Deadband(percent / 100 * (point.range[1] - point.range[0]) / scale)
    return Deadband(percent, percent=True)


def _tap(index: int, link: int, name: str, point: Point, signal: Signal, element: int | None) -> Tap:
    scale = float(point.scale) if isinstance(point.scale, (int, float)) else None
    return Tap(
        index=index,
        link=link,
        name=name,
        point=point,
        signal=signal,
        element=element,
        convert=converter(scale, point.offset),
        scale=1.0 if scale is None else scale,
        offset=point.offset or 0.0,
        absent=point.absent,
    )


def _root_text(link: DeviceLink) -> str:
    return link.assignment.device.root.strip("/")


def _root(link: DeviceLink) -> BrowseAddress | NodeAddress | None:
    text = _root_text(link)
    try:
        return parse_node(text) if text else None
    except ValueError as wrong:
        where = f"device {link.name}: root: {wrong}"
        raise ConfigError("VALUE_INVALID", where, device=link.name) from wrong


def _without_element(address: BrowseAddress | NodeAddress) -> BrowseAddress | NodeAddress:
    if isinstance(address, BrowseAddress):
        return BrowseAddress(address.path)
    return NodeAddress(address.kind, address.identifier, address.uri, address.zero)


def node_id(address: NodeAddress, namespace: str, uris: Sequence[str]) -> Any:
    """The node id with the index its namespace has on this server now; None when the server lacks the namespace."""
    index = 0 if address.zero else _index(address.uri, namespace, uris)
    if index == MISSING_NAMESPACE:
        return None
    return ua.NodeId.from_string(f"ns={index};{address.kind}={address.identifier}")


def browse_path(item: Item, uris: Sequence[str]) -> Any:
    """The path of an item addressed by names, from Objects or from the device's root; None without its namespace."""
    start = ua.NodeId(ua.ObjectIds.ObjectsFolder)
    names: tuple[Name, ...] = ()
    if isinstance(item.root, NodeAddress):
        start = node_id(item.root, item.namespace, uris)
    elif item.root is not None:
        names = item.root.path
    if start is None or not isinstance(item.address, BrowseAddress):
        return None
    elements = [_element(name, item.namespace, uris) for name in (*names, *item.address.path)]
    return ua.BrowsePath(StartingNode=start, RelativePath=ua.RelativePath(Elements=elements))


def _element(name: Name, namespace: str, uris: Sequence[str]) -> Any:
    index = name.index if name.index is not None else _index(name.uri, namespace, uris)
    return ua.RelativePathElement(
        ReferenceTypeId=ua.NodeId(ua.ObjectIds.HierarchicalReferences),
        IsInverse=False,
        IncludeSubtypes=True,
        TargetName=ua.QualifiedName(name.name, index),
    )


def _index(uri: str | None, namespace: str, uris: Sequence[str]) -> int:
    wanted = namespace if uri is None else uri
    return uris.index(wanted) if wanted in uris else MISSING_NAMESPACE


def item_request(item: Item, publish_ms: float, *, filtered: bool) -> Any:
    """Asks for one item.

    With the filter, an update of the source's time alone is delivered, too: an equal value is still a sample. With a
    deadband the server may leave those out.
    """
    every_ms = item.every_ns / MILLISECOND_NS
    wanted = ua.MonitoringParameters()
    wanted.ClientHandle = item.handle
    wanted.SamplingInterval = every_ms
    wanted.QueueSize = item.queue or max(QUEUE_MIN, 4 * round(publish_ms / every_ms))
    wanted.DiscardOldest = True
    if filtered:
        wanted.Filter = _filter(item)
    request = ua.MonitoredItemCreateRequest()
    request.ItemToMonitor = ua.ReadValueId(NodeId=item.node, AttributeId=ua.AttributeIds.Value)
    request.MonitoringMode = ua.MonitoringMode.Reporting
    request.RequestedParameters = wanted
    return request


def _filter(item: Item) -> Any:
    band = item.deadband
    if band is None or any(tap.signal.kind not in {Kind.FLOAT, Kind.INT} for tap in item.taps):
        return ua.DataChangeFilter(Trigger=ua.DataChangeTrigger.StatusValueTimestamp)
    kind = ua.DeadbandType.Percent if band.percent else ua.DeadbandType.Absolute
    trigger = ua.DataChangeTrigger.StatusValue
    return ua.DataChangeFilter(Trigger=trigger, DeadbandType=kind, DeadbandValue=band.value)
