"""The address space of what is served: nodes that come into being when somebody looks at them.

    Objects / GATEWAY / Devices / press / level
                      / Twins / tank-1 / level / measured, estimate, sigma, prediction, innovation, drift

asyncua keeps eight kilobytes for a node; a gateway of ten thousand signals has sixty thousand, of which a client looks
at a few. So the nodes of our namespace are made out of the layout when they are asked for, and another catalogue costs
nothing. Their ids are texts and stay the same over restarts and configurations: `press.level`, `tank-1/level#sigma`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Final

import asyncua.ua
from asyncua.server.address_space import AttributeValue, NodeData

from twinedge.northbound.layout import Layout
from twinedge.northbound.opcua_values import VARIANTS, data_value
from twinedge.northbound.store import Latest
from twinedge.unece import CODES, UNECE_URI, unit_id
from twinmodel.clock import Clock
from twinmodel.quality import describe
from twinmodel.signal import Kind, Signal

ua: Any = asyncua.ua  # it re-exports its names without saying so, which strict typing refuses

NAMESPACE: Final = "urn:hybridtwin:northbound"
INDEX: Final = 2  # 0 is that of OPC UA, 1 that of the application
ROOT, DEVICES, TWINS = "Gateway", "Devices", "Twins"
NODES_KEPT: Final = 2_000
QUALITY, UNITS, RANGE = "Quality", "EngineeringUnits", "EURange"
_MARK: Final = "/@"
_IDS = ua.ObjectIds
_ATTRIBUTES = ua.AttributeIds
_CONSTANT: Final = {
    int(a): a
    for a in (
        _ATTRIBUTES.NodeClass,
        _ATTRIBUTES.DataType,
        _ATTRIBUTES.ValueRank,
        _ATTRIBUTES.AccessLevel,
        _ATTRIBUTES.UserAccessLevel,
        _ATTRIBUTES.Historizing,
    )
}
_VARIABLE, _ANALOG, _ANALOG_UNIT = _IDS.BaseDataVariableType, _IDS.AnalogItemType, _IDS.AnalogUnitType
_UNIT_CODES: Final = {symbol: code for code, symbol in reversed(list(CODES.items()))}
_ROLES_TOLD: Final = {
    "measured": "what the device measures",
    "estimate": "what the model holds for true",
    "sigma": "standard deviation of the estimate",
    "prediction": "what the model expected before it was measured",
    "innovation": "measured less predicted",
    "drift": "figure of the drift detector; above 1 model and machine disagree",
    "substitute": "stands in for a measurement that is missing",
}


class Space(dict[Any, NodeData]):
    """The nodes of a server: those of OPC UA as asyncua keeps them, and ours out of the layout.

    Args:
        store: the newest samples.
        clock: server time of what is read.
    """

    def __init__(self, store: Latest, clock: Clock) -> None:
        super().__init__()
        self._made: OrderedDict[str, NodeData] = OrderedDict()
        self._store, self._clock = store, clock
        self._gateway = ""
        self._constants: dict[tuple[Kind, int], Any] = {}
        self._layout = Layout({}, {})
        self._ranges: Mapping[str, tuple[float, float]] = {}

    def show(self, gateway: str, layout: Layout, ranges: Mapping[str, tuple[float, float]]) -> None:
        """Shows another layout from now on; `ranges` are those of measured signals, by name."""
        self._gateway, self._layout, self._ranges = gateway, layout, ranges
        self._made.clear()
        objects = self.get(ua.NodeId(_IDS.ObjectsFolder))
        if objects is not None:
            root = ua.NodeId(ROOT, INDEX)
            objects.references[:] = [r for r in objects.references if r.NodeId != root]
            objects.references.append(self._forward(_IDS.Organizes, ROOT, gateway, _IDS.FolderType))

    def signal(self, node: Any) -> Signal | None:
        """The signal whose values a node carries, None for any other node."""
        return self._layout.by_id.get(node.Identifier) if node.NamespaceIndex == INDEX else None

    def read(self, signal: Signal) -> Any:
        """The newest sample of a signal as a DataValue."""
        return data_value(signal.kind, self._store.reading(signal), self._clock.wall_ns())

    def constant(self, node: Any, attribute: int) -> Any:
        """What is the same for all signals of a kind; clients ask for it of every node when they connect."""
        signal = self.signal(node)
        if signal is None or attribute not in _CONSTANT:
            return None
        known = self._constants.get((signal.kind, attribute))
        if known is None:
            known = self._constants[signal.kind, attribute] = self[node].attributes[_CONSTANT[attribute]].value
        return known

    def __missing__(self, node: Any) -> NodeData:
        if node.NamespaceIndex != INDEX:
            raise KeyError(node)
        made = self._made.get(node.Identifier)
        if made is None:
            made = self._make(node)
            if made is None:
                raise KeyError(node)
            self._made[node.Identifier] = made
            if len(self._made) > NODES_KEPT:
                self._made.popitem(last=False)
        return made

    def get(self, node: Any, default: Any = None) -> Any:
        """See `dict.get`; nodes of ours are made."""
        try:
            return self[node]
        except KeyError:
            return default

    def __contains__(self, node: object) -> bool:
        return self.get(node) is not None

    def _make(self, node: Any) -> NodeData | None:
        place = node.Identifier
        if not isinstance(place, str):
            return None
        signal = self._layout.by_id.get(place)
        if signal is not None:
            return self._variable(node, place, signal)
        owner, mark, name = place.rpartition(_MARK)
        if mark:
            signal = self._layout.by_id.get(owner)
            return None if signal is None else self._property(node, owner, signal, name)
        return self._folder(node, place)

    def _folder(self, node: Any, place: str) -> NodeData | None:
        head, _, rest = place.partition("/")
        layout = self._layout
        if place == ROOT:
            inner = [(DEVICES, DEVICES), (TWINS, TWINS)]
            parent = self._backward(_IDS.Organizes, ua.NodeId(_IDS.ObjectsFolder))
            return self._object(node, self._gateway, parent, [self._folder_ref(p, n) for p, n in inner])
        if place in {DEVICES, TWINS}:
            names = layout.devices if place == DEVICES else layout.twins
            inside = [self._folder_ref(f"{place}/{name}", name) for name in names]
            return self._object(node, place, self._inside(ROOT), inside)
        if head == DEVICES and rest in layout.devices:
            points = [self._variable_ref(f"{rest}.{p}", p, s) for p, s in layout.devices[rest].items()]
            return self._object(node, rest, self._inside(DEVICES), points)
        return self._twin_folder(node, rest) if head == TWINS else None

    def _twin_folder(self, node: Any, rest: str) -> NodeData | None:
        layout = self._layout
        twin, _, output = rest.partition("/")
        if twin not in layout.twins:
            return None
        if not output:
            inside = [self._folder_ref(f"{TWINS}/{twin}/{name}", name) for name in layout.twins[twin]]
            return self._object(node, twin, self._inside(TWINS), inside)
        roles = layout.twins[twin].get(output)
        if roles is None:
            return None
        inside = [self._variable_ref(f"{twin}/{output}#{role}", role, s) for role, s in roles.items()]
        return self._object(node, output, self._inside(f"{TWINS}/{twin}"), inside)

    def _object(self, node: Any, name: str, parent: Any, inside: list[Any]) -> NodeData:
        data = _node(node, ua.NodeClass.Object, name)
        _attribute(data, _ATTRIBUTES.EventNotifier, 0, ua.VariantType.Byte)
        data.references = [_type(_IDS.FolderType), parent, *inside]
        return data

    def _variable(self, node: Any, place: str, signal: Signal) -> NodeData:
        parent, name = _owner(place)
        role = place.rpartition("#")[2] if "#" in place else ""
        data = _node(node, ua.NodeClass.Variable, name, _ROLES_TOLD.get(role, ""))
        _value(data, VARIANTS[signal.kind], signal.period_ns / 1e6)
        value = data.attributes[_ATTRIBUTES.Value]
        value.value_callback = lambda _node, _attribute: self.read(signal)
        data.references = [_type(self._type_of(signal)), self._inside(parent, _IDS.HasComponent)]
        data.references += [self._property_ref(place, name) for name in self._properties(signal)]
        return data

    def _property(self, node: Any, owner: str, signal: Signal, name: str) -> NodeData | None:
        if name not in self._properties(signal):
            return None
        data = _node(node, ua.NodeClass.Variable, name, namespace=INDEX if name == QUALITY else 0)
        data.references = [_type(_IDS.PropertyType), self._inside(owner, _IDS.HasProperty)]
        if name == QUALITY:
            _value(data, ua.VariantType.String, 0.0)

            def told(_node: Any, _attribute: Any) -> Any:
                text = describe(self._store.reading(signal).quality)
                return ua.DataValue(ua.Variant(text, ua.VariantType.String))

            data.attributes[_ATTRIBUTES.Value].value_callback = told
            return data
        if name == UNITS:
            code = _UNIT_CODES.get(signal.unit)
            shown = ua.LocalizedText(signal.unit)
            uri = UNECE_URI if code else "urn:hybridtwin:units"
            value: Any = ua.EUInformation(uri, unit_id(code) if code else -1, shown, shown)
            kind = _IDS.EUInformation
        else:
            value, kind = ua.Range(*self._ranges[signal.name]), _IDS.Range
        _value(data, ua.VariantType.ExtensionObject, 0.0, kind)
        data.attributes[_ATTRIBUTES.Value].value = ua.DataValue(ua.Variant(value, ua.VariantType.ExtensionObject))
        return data

    def _properties(self, signal: Signal) -> tuple[str, ...]:
        number = signal.kind in {Kind.FLOAT, Kind.INT}
        units = (UNITS,) if number and signal.unit else ()
        return (QUALITY, *units, *((RANGE,) if number and signal.name in self._ranges else ()))

    def _type_of(self, signal: Signal) -> int:
        properties = self._properties(signal)
        if RANGE in properties:
            return int(_ANALOG)
        return int(_ANALOG_UNIT if UNITS in properties else _VARIABLE)

    def _folder_ref(self, place: str, name: str) -> Any:
        return self._forward(_IDS.Organizes, place, name, _IDS.FolderType)

    def _variable_ref(self, place: str, name: str, signal: Signal) -> Any:
        return self._forward(_IDS.HasComponent, place, name, self._type_of(signal), ua.NodeClass.Variable)

    def _property_ref(self, place: str, name: str) -> Any:
        made = self._forward(_IDS.HasProperty, place + _MARK + name, name, _IDS.PropertyType, ua.NodeClass.Variable)
        if name != QUALITY:
            made.BrowseName = ua.QualifiedName(name, 0)
        return made

    def _inside(self, place: str, by: int = _IDS.Organizes) -> Any:
        return self._backward(by, ua.NodeId(place, INDEX))

    def _forward(self, by: int, place: str, name: str, kind: int, klass: Any = ua.NodeClass.Object) -> Any:
        return ua.ReferenceDescription(
            ReferenceTypeId=ua.NodeId(by),
            IsForward=True,
            NodeId=ua.NodeId(place, INDEX),
            BrowseName=ua.QualifiedName(name, INDEX),
            DisplayName=ua.LocalizedText(name),
            NodeClass=klass,
            TypeDefinition=ua.NodeId(kind),
        )

    def _backward(self, by: int, target: Any) -> Any:
        name = "Objects" if target.NamespaceIndex == 0 else _owner(target.Identifier)[1]
        name = self._gateway if target.Identifier == ROOT else name
        return ua.ReferenceDescription(
            ReferenceTypeId=ua.NodeId(by),
            IsForward=False,
            NodeId=target,
            BrowseName=ua.QualifiedName(name, target.NamespaceIndex),
            DisplayName=ua.LocalizedText(name),
            NodeClass=ua.NodeClass.Variable if by == _IDS.HasProperty else ua.NodeClass.Object,
            TypeDefinition=ua.NodeId(_IDS.FolderType),
        )


def _owner(place: str) -> tuple[str, str]:
    """Id of the folder in which a place lies, and its name there."""
    if "#" in place:
        output, _, role = place.rpartition("#")
        return f"{TWINS}/{output}", role
    head, _, _ = place.partition("/")
    if head in {DEVICES, TWINS}:
        folder, _, name = place.rpartition("/")
        return folder or ROOT, name
    device, _, point = place.partition(".")
    return f"{DEVICES}/{device}", point


def _node(node: Any, klass: Any, name: str, told: str = "", namespace: int = INDEX) -> NodeData:
    data = NodeData(node)
    _attribute(data, _ATTRIBUTES.NodeId, node, ua.VariantType.NodeId)
    _attribute(data, _ATTRIBUTES.NodeClass, klass, ua.VariantType.Int32)
    _attribute(data, _ATTRIBUTES.BrowseName, ua.QualifiedName(name, namespace), ua.VariantType.QualifiedName)
    _attribute(data, _ATTRIBUTES.DisplayName, ua.LocalizedText(name), ua.VariantType.LocalizedText)
    _attribute(data, _ATTRIBUTES.Description, ua.LocalizedText(told), ua.VariantType.LocalizedText)
    _attribute(data, _ATTRIBUTES.WriteMask, 0, ua.VariantType.UInt32)
    _attribute(data, _ATTRIBUTES.UserWriteMask, 0, ua.VariantType.UInt32)
    return data


def _value(data: NodeData, variant: Any, period_ms: float, kind: int | None = None) -> None:
    """Attributes of a variable that may be read, and never written."""
    _attribute(data, _ATTRIBUTES.Value, None, ua.VariantType.Null)
    _attribute(data, _ATTRIBUTES.DataType, ua.NodeId(kind or variant.value), ua.VariantType.NodeId)
    _attribute(data, _ATTRIBUTES.ValueRank, -1, ua.VariantType.Int32)
    _attribute(data, _ATTRIBUTES.AccessLevel, 1, ua.VariantType.Byte)
    _attribute(data, _ATTRIBUTES.UserAccessLevel, 1, ua.VariantType.Byte)
    _attribute(data, _ATTRIBUTES.MinimumSamplingInterval, period_ms, ua.VariantType.Double)
    _attribute(data, _ATTRIBUTES.Historizing, False, ua.VariantType.Boolean)


def _attribute(data: NodeData, attribute: Any, value: Any, variant: Any) -> None:
    data.attributes[attribute] = AttributeValue(ua.DataValue(ua.Variant(value, variant)))


def _type(kind: int) -> Any:
    return ua.ReferenceDescription(
        ReferenceTypeId=ua.NodeId(_IDS.HasTypeDefinition),
        IsForward=True,
        NodeId=ua.NodeId(kind),
        BrowseName=ua.QualifiedName("", 0),
        DisplayName=ua.LocalizedText(""),
        NodeClass=ua.NodeClass.ObjectType if kind == _IDS.FolderType else ua.NodeClass.VariableType,
    )
