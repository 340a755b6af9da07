"""EdgeX device profiles (YAML) of the Modbus device service.

From EdgeX 2 on addresses count from 0, values stand most significant register first, `isByteSwap` and `isWordSwap`
apply to values of 32 bits alone; profiles of EdgeX 1 (`properties.value`) do not say where they count from, so that
`base` must. Facts from device-modbus-go: attributes, raw types, swaps, `N.bit` addresses.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

from twinmodel.errors import InputError
from twinmodel.profile.importers.found import Carried, Device, Fields, Source, Wanted
from twinmodel.profile.importers.intake import clean, invalid, mapping, whole, words, yaml_of
from twinmodel.profile.importers.terms import (
    cut_note,
    describe,
    number_of,
    order_of,
    put_range,
    put_scale,
    put_states,
    put_unit,
)

TABLES = {
    "COILS": "coil",
    "DISCRETES_INPUT": "discrete",
    "DISCRETE_INPUTS": "discrete",
    "INPUT_REGISTERS": "input",
    "HOLDING_REGISTERS": "holding",
}
TYPES = {
    **{f"{kind}{n}": f"{kind}{n}" for kind in ("int", "uint") for n in (16, 32, 64)},
    "float32": "float32",
    "float64": "float64",
}
RAW_TYPES = {"float32": {"int16", "uint16", "float32"}, "float64": {"int16", "uint16", "int32", "float64"}}
KNOWN = {"primarytable", "startingaddress", "rawtype", "isbyteswap", "iswordswap", "stringregistersize"}
_NEUTRAL = {"mask": {0}, "shift": {0}, "base": {0, 1}}


def read_edgex(source: Source, wanted: Wanted) -> list[Device]:
    """The one device of a profile. Raises InputError SOURCE_INVALID or LIMIT_EXCEEDED."""
    content = yaml_of(source)
    resources = content.get("deviceResources") if isinstance(content, dict) else None
    if not isinstance(content, dict) or not isinstance(resources, list):
        hint = "give the device profile; lists of devices (deviceList) hold no points"
        raise invalid(source, "is no EdgeX device profile: it has no list `deviceResources`", hint=hint)
    maker = clean(str(content.get("manufacturer") or "edgex"))
    model = clean(str(content.get("model") or content.get("name") or source.path.stem))
    old = any(isinstance(r, dict) and "value" in _properties(r) for r in resources)
    base = 0 if wanted.base is None else whole(wanted.base, "--base", 0, 1)
    device = Device("", protocol="modbus", vendor=maker, device=model, base=base)
    device.about = f"EdgeX device profile {clean(str(content.get('name') or source.path.stem))}"
    states = _mappings(content)
    unsaid = old and wanted.base is None
    for number, raw in enumerate(resources):
        name = clean(str(raw.get("name") or "")) if isinstance(raw, dict) else ""
        shown = name or f"resource {number + 1}"
        device.take(
            shown,
            f"deviceResources[{number}]",
            lambda r=raw, n=shown: _carry(device, r, n, states.get(n), unsaid=unsaid),  # type: ignore[misc]
        )
    return [device]


def _properties(resource: Mapping[str, object]) -> Mapping[str, object]:
    found = resource.get("properties")
    return found if isinstance(found, dict) else {}


def _mappings(content: Mapping[str, object]) -> dict[str, dict[int, str]]:
    """What commands call the values of a resource; those that commands call differently are left out."""
    found: dict[str, dict[int, str]] = {}
    mixed: set[str] = set()
    commands = content.get("deviceCommands")
    for command in commands if isinstance(commands, list) else []:
        operations = command.get("resourceOperations") if isinstance(command, dict) else None
        for operation in operations if isinstance(operations, list) else []:
            states = _states(operation.get("mappings")) if isinstance(operation, dict) else None
            if states:
                name = clean(str(operation.get("deviceResource")))
                if found.setdefault(name, states) != states:
                    mixed.add(name)
    return {name: states for name, states in found.items() if name not in mixed}


def _states(mappings: object) -> dict[int, str] | None:
    if not isinstance(mappings, dict):
        return None
    numbers = {"true": "1", "false": "0"}
    try:
        return {
            whole(numbers.get(str(k).lower(), k), "mapping", -(1 << 63), 1 << 63): words(v, "mapping")
            for k, v in mappings.items()
        }
    except InputError:
        return None


def _carry(device: Device, raw: object, name: str, states: dict[int, str] | None, *, unsaid: bool) -> Carried:
    resource = mapping(raw, "the resource")
    attributes = {str(k).lower(): v for k, v in mapping(resource.get("attributes", {}), "attributes").items()}
    properties = _properties(resource)
    if "primarytable" not in attributes or "startingaddress" not in attributes:
        message = "names no register (primaryTable, startingAddress): it is of another device service than Modbus"
        raise InputError("POINT_AMBIGUOUS", message, hint="write the point by hand, with its topic or node")
    if unsaid:
        hint = "give --base 0 or --base 1: does this profile of EdgeX 1 count registers from 0 or from 1?"
        raise InputError("POINT_AMBIGUOUS", "the profile does not say where its addresses count from", hint=hint)
    strange = sorted(attributes.keys() - KNOWN)
    if strange:
        raise InputError("POINT_AMBIGUOUS", f"the attribute {clean(strange[0])!r} is not known here")
    value = properties.get("value") if isinstance(properties.get("value"), dict) else properties
    assert isinstance(value, dict)  # just seen
    access = words(value.get("readWrite", "R"), "readWrite").upper()
    if "R" not in access:
        raise InputError("POINT_NOT_READABLE", "is written only (readWrite: W)")
    fields, notes = _typed(attributes, words(value.get("valueType", value.get("type")), "valueType").lower())
    notes += _transformed(fields, value)
    unit = properties.get("units", "")
    notes += put_unit(fields, words(unit.get("defaultValue", "") if isinstance(unit, dict) else unit, "units"))
    if states:
        notes += put_states(fields, states)
    describe(fields, words(resource.get("description") or "", "description"))
    if "W" in access:
        notes += ("can be written in the source; add `write:` rules to allow that",)
    return Carried({device.name(name): fields}, notes)


def _typed(attributes: Mapping[str, object], kind: str) -> tuple[Fields, tuple[str, ...]]:
    """Address, type and order of a resource."""
    table = TABLES.get(words(attributes["primarytable"], "primaryTable").upper())
    if table is None:
        raise InputError("VALUE_INVALID", f"primaryTable {words(attributes['primarytable'], 'primaryTable')!r} is none")
    address, bit = _address(attributes["startingaddress"])
    swaps = {key: _flag(attributes.get(key)) for key in ("isbyteswap", "iswordswap")}
    swapped = any(swaps.values())
    raw = words(attributes.get("rawtype", kind), "rawType").lower()
    if table in {"coil", "discrete"} or kind == "bool":
        if kind != "bool":
            raise InputError("POINT_TYPE_UNKNOWN", f"{kind!r} of a table of bits")
        at = f"{table} {address}" if table in {"coil", "discrete"} else f"{table} {address}.{bit}"
        return {"at": at, "as": "bit"}, ()
    if kind == "string":
        size = whole(attributes.get("stringregistersize"), "stringRegisterSize", 1, 123)
        return {"at": f"{table} {address}", "as": f"string({2 * size})"}, ()
    if kind not in TYPES or raw not in RAW_TYPES.get(kind, {kind}):
        said = repr(kind) + (f" of raw type {raw!r}" if raw != kind else "")
        raise InputError("POINT_TYPE_UNKNOWN", f"{said} is nothing that the Modbus device service reads")
    fields: Fields = {"at": f"{table} {address}", "as": TYPES[raw]}
    if swapped and raw.endswith("64"):
        raise InputError("POINT_AMBIGUOUS", "the Modbus device service does not swap 64 bits: which order is meant?")
    if swapped and raw.endswith("32"):
        fields["order"] = order_of(bytes_swapped=swaps["isbyteswap"], words_swapped=swaps["iswordswap"])
    return fields, ("swaps do nothing with 16 bits; left out",) if swapped and raw.endswith("16") else ()


def _address(value: object) -> tuple[int, int]:
    """Register and bit of `120`, `"120.3"`, or the number 10.10, which EdgeX reads with two digits: bit 10."""
    text = f"{value:.2f}" if isinstance(value, float) else words(value, "startingAddress")
    register, _, bit = text.partition(".")
    return whole(register, "startingAddress", 0, 65536), whole(bit or 0, "the bit of startingAddress", 0, 15)


def _flag(value: object) -> bool:
    if value is None or isinstance(value, bool):
        return bool(value)
    text = words(value, "a swap").lower()
    if text not in {"true", "false", "0", "1", "t", "f"}:
        raise InputError("VALUE_INVALID", f"a swap is {text!r}, not true or false")
    return text in {"true", "1", "t"}


def _transformed(fields: Fields, value: Mapping[str, object]) -> tuple[str, ...]:
    """Factor, offset and bounds; mask, shift and base are not of profiles."""
    numbers: dict[str, Fraction] = {}
    for key in ("mask", "shift", "base", "scale", "offset", "minimum", "maximum"):
        if value.get(key) not in (None, ""):
            numbers[key] = number_of(value[key], key)
    for key, neutral in _NEUTRAL.items():
        if numbers.get(key, Fraction(0)) not in neutral:
            raise InputError("POINT_TYPE_UNKNOWN", f"`{key}` has no counterpart in a profile")
    as_ = str(fields["as"])
    if as_ == "bit" or as_.startswith("string"):
        if numbers.get("scale", 1) not in {0, 1} or numbers.get("offset"):
            raise InputError("VALUE_INVALID", f"a {as_.partition('(')[0]} has no scale or offset")
        return ()
    put_scale(fields, numbers.get("scale") or Fraction(1), numbers.get("offset", Fraction(0)))
    notes = put_range(fields, numbers.get("minimum"), numbers.get("maximum"))
    kind = words(value.get("valueType", value.get("type")), "valueType").lower()
    return notes + cut_note(fields, kind)
