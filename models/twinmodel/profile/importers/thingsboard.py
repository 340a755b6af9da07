"""ThingsBoard IoT Gateway's Modbus connector (JSON); addresses count from 0.

`byteOrder` LITTLE swaps the bytes of each register, `wordOrder` LITTLE reverses the registers, LITTLE is the default
of both; text and bits stand as sent. Each slave is a device. Attributes and time series are read; what function codes
write is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction

from twinmodel.errors import InputError
from twinmodel.profile.importers.found import Carried, Device, Fields, Source, Wanted
from twinmodel.profile.importers.intake import clean, invalid, json_of, mapping, whole, words
from twinmodel.profile.importers.terms import number_of, order_of, put_scale

SECTIONS = ("attributes", "timeseries", "attributeUpdates", "rpc")
TABLES = {1: "coil", 2: "discrete", 3: "holding", 4: "input"}
WRITES = {5, 6, 15, 16}
SIZES = {
    **{f"{n}{kind}": (f"{kind}{n}", n // 16) for n in (16, 32, 64) for kind in ("int", "uint", "float")},
    "8int": ("int8h", 1),
    "8uint": ("uint8h", 1),
}
GENERIC = {"int": "int", "long": "int", "integer": "int", "uint": "uint", "float": "float", "double": "float"}
BITS_MAX = 256
SEARCH_MAX = 8
Entry = Mapping[str, object]


def read_thingsboard(source: Source, wanted: Wanted) -> list[Device]:
    """The devices of a connector: its slaves. Raises InputError SOURCE_INVALID or LIMIT_EXCEEDED."""
    del wanted
    slaves = list(_slaves(json_of(source), "", 0))
    if not slaves:
        hint = "give the configuration of a Modbus connector; other connectors are not read"
        raise invalid(source, "is no Modbus connector of ThingsBoard: it has no list `master.slaves`", hint=hint)
    devices: list[Device] = []
    for number, (place, raw) in enumerate(slaves):
        slave = mapping(raw, place)
        title = clean(str(slave.get("deviceName") or slave.get("name") or f"slave-{number + 1}"))
        taken = [device.part for device in devices]
        device = Device(title if title not in taken else f"{title}-{number + 1}", protocol="modbus",
                        vendor="thingsboard", base=0)  # fmt: skip
        device.about = f"ThingsBoard Modbus connector, {title!r}"
        period = slave.get("pollPeriod")
        if isinstance(period, int) and not isinstance(period, bool) and 1 <= period <= 86_400_000:
            device.header["defaults"] = {"every": f"{period}ms"}
        for section in SECTIONS:
            entries = slave.get(section, [])
            if not isinstance(entries, list):
                raise invalid(source, f"{place}.{section} is no list")
            for index, entry in enumerate(entries):
                tag = clean(str(entry.get("tag") or "")) if isinstance(entry, dict) else ""
                key = f"{place}.{section}[{index}]"
                shown = tag or f"{section}[{index}]"
                device.take(
                    shown,
                    key,
                    lambda e=entry, k=key, s=slave, n=shown, c=section, d=device: _carry(d, mapping(e, k), s, n, c),  # type: ignore[misc]
                )
        devices.append(device)
    return devices


def _slaves(content: object, place: str, depth: int) -> Iterator[tuple[str, object]]:
    """Slaves of every `master` of the file, in order; connectors lie a few levels down in collections."""
    if not isinstance(content, dict) or depth > SEARCH_MAX:
        return
    for key, value in content.items():
        where = f"{place}.{key}" if place else clean(str(key))
        if key == "master" and isinstance(value, dict) and isinstance(value.get("slaves"), list):
            yield from ((f"{where}.slaves[{n}]", slave) for n, slave in enumerate(value["slaves"]))
        elif isinstance(value, dict):
            yield from _slaves(value, where, depth + 1)


def _carry(device: Device, entry: Entry, slave: Entry, shown: str, section: str) -> Carried:
    code = whole(entry.get("functionCode"), "functionCode", 1, 127)
    if code in WRITES:
        raise InputError("POINT_NOT_READABLE", f"function code {code} writes")
    if code not in TABLES:
        raise InputError("VALUE_INVALID", f"function code {code} reads no register")
    address = entry.get("address")
    if isinstance(address, str) and "-" in address:
        raise InputError("POINT_AMBIGUOUS", f"{clean(address)!r} is a range of points; write them one by one")
    start = whole(address, "address", 0, 65535)
    count = entry.get("objectsCount", entry.get("registersCount", entry.get("registerCount", 1)))
    cells = whole(count, "objectsCount", 1, BITS_MAX)
    kind = words(entry.get("type"), "type").lower()
    if code in {1, 2}:
        made = _coils(device, TABLES[code], start, cells, kind, shown)
    else:
        made = {device.name(shown): _register(entry, slave, TABLES[code], start, cells, kind)}
    notes = ("is read on demand there, and every period here",) if section in {"rpc", "attributeUpdates"} else ()
    return Carried(made, notes)


def _coils(device: Device, table: str, start: int, cells: int, kind: str, shown: str) -> dict[str, Fields]:
    """One bit, or a list of bits in the order of their addresses: one point each."""
    if kind == "bit" and cells == 1:
        return {device.name(shown): {"at": f"{table} {start}", "as": "bit"}}
    if kind == "bits":
        names = [device.name(f"{shown}.{number}") for number in range(cells)]
        return {name: {"at": f"{table} {start + number}", "as": "bit"} for number, name in enumerate(names)}
    raise InputError("POINT_TYPE_UNKNOWN", f"{kind!r} of {cells} bits")


def _register(entry: Entry, slave: Entry, table: str, start: int, cells: int, kind: str) -> Fields:
    if kind in {"bit", "bits"} and "bit" in entry and cells == 1:
        return {"at": f"{table} {start}.{whole(entry['bit'], 'bit', 0, 15)}", "as": "bit"}
    if kind in {"bit", "bits"}:
        message = f"which bits of {cells} registers are meant differs from release to release of the gateway"
        raise InputError("POINT_AMBIGUOUS", message, hint=f"write e.g. at: {table} {start}.0 for its lowest bit")
    if kind == "string":
        return {"at": f"{table} {start}", "as": f"string({2 * cells})"}
    as_, wide = SIZES.get(kind, ("", 0))
    if kind in GENERIC and f"{16 * cells}{GENERIC[kind]}" in SIZES:
        as_, wide = SIZES[f"{16 * cells}{GENERIC[kind]}"]
    if not as_:
        raise InputError("POINT_TYPE_UNKNOWN", f"type {kind!r} of {cells} registers is none of profiles")
    if wide != cells:
        message = f"objectsCount {cells} does not fit {kind}, which fills {wide}: which registers are meant?"
        raise InputError("POINT_AMBIGUOUS", message)
    fields: Fields = {"at": f"{table} {start}", "as": as_}
    order = order_of(
        bytes_swapped=_little(entry.get("byteOrder") or slave.get("byteOrder"), "byteOrder"),
        words_swapped=_little(entry.get("wordOrder") or slave.get("wordOrder"), "wordOrder"),
    )
    if order != "ABCD" and not as_.endswith("8h"):
        fields["order"] = order
    divider, multiplier = (number_of(entry.get(k) or 1, k) for k in ("divider", "multiplier"))
    if not divider:
        raise InputError("VALUE_INVALID", "a divider of 0")
    put_scale(fields, Fraction(multiplier) / divider)
    return fields


def _little(value: object, what: str) -> bool:
    text = words(value or "LITTLE", what).upper()
    if text not in {"LITTLE", "BIG"}:
        raise InputError("VALUE_INVALID", f"{what} {text!r} is neither BIG nor LITTLE")
    return text == "LITTLE"
