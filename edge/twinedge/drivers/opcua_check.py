"""What a server says about its nodes against what the profile says: units, ranges, types; before any value counts.

A point whose value would be read wrongly (another unit, another type, a structure, an array without an index) is
refused: it is bad(DEVICE_FAULT) and the finding says why. What is only odd (a range that differs) is a warning.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import asyncua.ua
import structlog
from asyncua.client.client import Client

from twinedge.drivers.opcua_items import Item, Tap
from twinedge.drivers.opcua_monitor import Limits, translate
from twinedge.drivers.opcua_table import ItemTable
from twinedge.drivers.opcua_units import agrees, symbol_of
from twinmodel.signal import Kind

ua: Any = asyncua.ua  # it re-exports its names without saying so, which strict typing refuses
_log = structlog.get_logger("twinedge.drivers")

FINDINGS_MAX: Final = 200
LOGGED_MAX: Final = 5
ANCESTORS_MAX: Final = 12
LABELS_MAX: Final = 1024
NUMBERS: Final = frozenset((*range(2, 12), 26, 27, 28))
WHOLE: Final = frozenset((*range(2, 10), 27, 28))
BOOLEAN, STRING, DATE_TIME, LOCALIZED_TEXT, STRUCTURE, ANY, ENUMERATION = 1, 12, 13, 21, 22, 24, 29
_TYPE_NAMES: Final = {
    1: "a Boolean",
    12: "a String",
    13: "a DateTime",
    14: "a GUID",
    15: "a byte string",
    16: "XML",
    17: "a node id",
    19: "a status code",
    20: "a qualified name",
    21: "a text",
    22: "a structure",
    29: "an enumeration",
}
_FITTING: Final[Mapping[Kind, frozenset[int]]] = {
    Kind.FLOAT: NUMBERS | {ANY, ENUMERATION},
    Kind.INT: NUMBERS | {ANY, ENUMERATION, DATE_TIME},
    Kind.BOOL: WHOLE | {ANY, BOOLEAN},
    Kind.STRING: frozenset({ANY, STRING, LOCALIZED_TEXT, DATE_TIME, ENUMERATION}),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One disagreement of server and profile.

    Attributes:
        link: number of the device among the links of the driver.
        point: name in the profile.
        reason: DEVICE_MISMATCH.
        text: what server and profile say, and what to do.
        fatal: whether the point is refused; else it is a warning.
    """

    link: int
    point: str
    reason: str
    text: str
    fatal: bool


@dataclass(slots=True)
class Told:
    """What the server says about one node; None where it says nothing."""

    data_type: int | None = None
    type_node: Any = None
    rank: int | None = None
    unit: tuple[str | None, int, str | None] | None = None
    low_high: tuple[float, float] | None = None


class Checker:
    """Compares at each connect; a server that was neither restarted nor renumbered since is not asked again."""

    def __init__(self, table: ItemTable) -> None:
        self._table = table
        self._seen: object = None
        self._ancestors: dict[Any, int] = {}
        self._known: set[Finding] = set()
        self.findings: tuple[Finding, ...] = ()
        self.refused: frozenset[int] = frozenset()

    async def run(self, client: Client, limits: Limits) -> tuple[Finding, ...]:
        """Asks the server about every resolved item and sets `findings` and `refused`; each finding is logged once."""
        started = await client.uaclient.session.read_attributes(
            [ua.NodeId(ua.ObjectIds.Server_ServerStatus_StartTime), ua.NodeId(ua.ObjectIds.Server_NamespaceArray)],
            ua.AttributeIds.Value,
        )
        nodes = tuple(item.node for item in self._table.items)
        seen = ([value.Value.Value if value.Value is not None else None for value in started], nodes)
        if seen == self._seen:
            return self.findings
        self._ancestors.clear()
        found: list[Finding] = []
        refused: set[int] = set()
        items = [item for item in self._table.items if item.node is not None]
        for item, told in zip(items, await self._ask(client, limits, items), strict=True):
            for tap in item.taps:
                for text, fatal in _compare(tap, told):
                    found.append(Finding(tap.link, tap.name, "DEVICE_MISMATCH", f"{tap.name}: {text}", fatal))
                    if fatal:
                        refused.add(tap.index)
        self.findings, self.refused, self._seen = tuple(found[:FINDINGS_MAX]), frozenset(refused), seen
        self._table.refuse(self.refused)
        news = [f for f in self.findings if f not in self._known]
        self._known = set(self.findings)
        for finding in news[:LOGGED_MAX]:
            device = self._table.links[finding.link].name
            _log.warning("profile differs from server", device=device, reason=finding.reason, error=finding.text)
        return self.findings

    async def _ask(self, client: Client, limits: Limits, items: Sequence[Item]) -> list[Told]:
        """Types and ranks of all nodes, properties of those that have a unit or a range in the profile."""
        told = [Told() for _ in items]
        reads = [(i, attribute) for i in items for attribute in (ua.AttributeIds.DataType, ua.AttributeIds.ValueRank)]
        values = await read_attributes(client, limits, [(item.node, attribute) for item, attribute in reads])
        for number, answer in enumerate(told):
            type_node, rank = values[2 * number], values[2 * number + 1]
            answer.rank = rank if isinstance(rank, int) else None
            answer.type_node = type_node
            if isinstance(type_node, ua.NodeId):
                answer.data_type = await self._base(client, type_node)
        await self._properties(client, limits, items, told)
        await self._labels(client, limits, items, told)
        return told

    async def _properties(self, client: Client, limits: Limits, items: Sequence[Item], told: Sequence[Told]) -> None:
        wanted: list[tuple[int, str]] = []
        for number, item in enumerate(items):
            if any(tap.point.unit for tap in item.taps):
                wanted.append((number, "EngineeringUnits"))
            if any(tap.point.range for tap in item.taps):
                wanted.append((number, "EURange"))
        found = await property_values(client, limits, [(items[number].node, name) for number, name in wanted])
        for (number, _), value in zip(wanted, found, strict=True):
            if isinstance(value, ua.EUInformation):
                shown = value.DisplayName.Text if value.DisplayName is not None else None
                told[number].unit = (value.NamespaceUri, int(value.UnitId), shown)
            elif isinstance(value, ua.Range):
                told[number].low_high = (float(value.Low), float(value.High))

    async def _labels(self, client: Client, limits: Limits, items: Sequence[Item], told: Sequence[Told]) -> None:
        """Names of enumerations, for points that are texts."""
        enums = [
            (item, answer.type_node)
            for item, answer in zip(items, told, strict=True)
            if answer.data_type == ENUMERATION and any(tap.signal.kind is Kind.STRING for tap in item.taps)
        ]
        types = list({node: None for _, node in enums})
        names = ("EnumStrings", "EnumValues")
        found = await property_values(client, limits, [(node, name) for node in types for name in names])
        labels = {node: _labels_of(found[2 * n : 2 * n + 2]) for n, node in enumerate(types)}
        self._table.labels = {tap.index: labels[node] for item, node in enums for tap in item.taps}

    async def _base(self, client: Client, node: Any) -> int:
        """Number of the built-in or abstract type that a data type comes from; 0 when that cannot be found out."""
        if node in self._ancestors:
            return self._ancestors[node]
        base, at = 0, node
        for _ in range(ANCESTORS_MAX):
            if at.NamespaceIndex == 0 and isinstance(at.Identifier, int) and at.Identifier <= ENUMERATION:
                base = at.Identifier
                break
            description = ua.BrowseDescription()
            description.NodeId = at
            description.BrowseDirection = ua.BrowseDirection.Inverse
            description.ReferenceTypeId = ua.NodeId(ua.ObjectIds.HasSubtype)
            description.IncludeSubtypes = True
            description.ResultMask = ua.BrowseResultMask.None_
            params = ua.BrowseParameters()
            params.NodesToBrowse = [description]
            (result,) = await client.uaclient.session.browse(params)
            if not result.References:
                break
            parent = result.References[0].NodeId
            at = ua.NodeId(parent.Identifier, parent.NamespaceIndex, parent.NodeIdType)
        self._ancestors[node] = base
        return base


def _compare(tap: Tap, told: Told) -> Iterable[tuple[str, bool]]:
    """Texts of what differs, and whether the point must not be used."""
    point, kind = tap.point, tap.signal.kind
    if told.data_type and told.data_type not in _FITTING[kind]:
        has = _TYPE_NAMES.get(told.data_type, "a number")
        hint = "a structure's parts are nodes of their own in many servers" if told.data_type == STRUCTURE else ""
        yield f"the server has {has}, the profile says {kind.name.lower()}; {hint or 'correct `as`'}", True
    if told.rank is not None and told.rank >= 0 and tap.element is None:
        yield "the server has an array; name one element, as in `Path[3]`", True
    if told.rank == -1 and tap.element is not None:
        yield f"the server has a single value, the profile asks for element {tap.element}", True
    if told.unit is not None and point.unit:
        symbol = point.device_unit or symbol_of(*told.unit)
        shown = told.unit[2] or f"UnitId {told.unit[1]}"
        if symbol is None:
            yield f"the server's unit {shown!r} is not known here, the profile says {point.unit}; compare them", False
        elif symbol and not agrees(symbol, point.unit, tap.scale, tap.offset):
            hint = "correct `unit`, or convert with `scale` and `offset`; if the server's label is wrong, say what it "
            hint += "really sends with `device_unit`"
            yield f"unit says {shown}, profile says {point.unit}; {hint}", True
    if told.low_high is not None and point.range is not None and told.low_high[0] < told.low_high[1]:
        low, high = sorted(raw * tap.scale + tap.offset for raw in told.low_high)
        if high <= point.range[0] or low >= point.range[1]:
            ours = f"{point.range[0]:g}..{point.range[1]:g}"
            yield f"the server's range {low:g}..{high:g} lies outside the profile's {ours}", False


def _labels_of(values: Sequence[Any]) -> Mapping[int, str]:
    strings, pairs = values
    if isinstance(pairs, list):
        return {int(p.Value): str(p.DisplayName.Text) for p in pairs[:LABELS_MAX] if hasattr(p, "DisplayName")}
    if isinstance(strings, list):
        return {n: str(text.Text) for n, text in enumerate(strings[:LABELS_MAX])}
    return {}


async def read_data(client: Client, limits: Limits, wanted: Sequence[tuple[Any, Any]]) -> list[Any]:
    """Data values of attributes of nodes, in requests as large as the server takes."""

    async def ask(part: Sequence[tuple[Any, Any]]) -> Sequence[Any]:
        params = ua.ReadParameters()
        params.NodesToRead = [ua.ReadValueId(NodeId=node, AttributeId=attribute) for node, attribute in part]
        found: Sequence[Any] = await client.uaclient.session.read(params)
        return found

    return await limits.batches("read", wanted, ask)


async def read_attributes(client: Client, limits: Limits, wanted: Sequence[tuple[Any, Any]]) -> list[Any]:
    """Attributes of nodes; None where there is none or the server refuses."""
    answers = await read_data(client, limits, wanted)
    return [a.Value.Value if a.Value is not None and a.StatusCode.is_good() else None for a in answers]


async def property_values(client: Client, limits: Limits, wanted: Sequence[tuple[Any, str]]) -> list[Any]:
    """Values of properties of nodes by their names in the namespace of OPC UA; None where there is none."""
    paths = []
    for node, name in wanted:
        element = ua.RelativePathElement(
            ReferenceTypeId=ua.NodeId(ua.ObjectIds.HasProperty),
            IsInverse=False,
            IncludeSubtypes=True,
            TargetName=ua.QualifiedName(name, 0),
        )
        paths.append(ua.BrowsePath(StartingNode=node, RelativePath=ua.RelativePath(Elements=[element])))
    found = await translate(client, limits, paths)
    targets = [r.Targets[0].TargetId if r.StatusCode.is_good() and r.Targets else None for r in found]
    there = [(ua.NodeId(t.Identifier, t.NamespaceIndex, t.NodeIdType), ua.AttributeIds.Value) for t in targets if t]
    values = iter(await read_attributes(client, limits, there))
    return [next(values) if target else None for target in targets]
