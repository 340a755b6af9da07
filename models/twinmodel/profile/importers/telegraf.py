"""Telegraf's `inputs.modbus` (TOML): the styles `register`, `request` and `metric`; addresses count from 0.

Each slave of each plugin is a device. Orders are Telegraf's own names; decimals that Telegraf cuts off a scaled
integer are kept here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from fractions import Fraction

from twinmodel.errors import InputError
from twinmodel.profile.address import parse_type
from twinmodel.profile.importers.found import Carried, Device, Fields, Source, Wanted
from twinmodel.profile.importers.intake import clean, invalid, mapping, toml_of, whole, words
from twinmodel.profile.importers.terms import cut_note, number_of, put_scale

REGISTER_TABLES = {
    "discrete_inputs": "discrete",
    "coils": "coil",
    "holding_registers": "holding",
    "input_registers": "input",
}
ORDERS = {
    **{order: order for order in ("ABCD", "BADC", "CDAB", "DCBA")},
    "AB": "ABCD",
    "BA": "DCBA",
    "ABCDEFGH": "ABCD",
    "BADCFEHG": "BADC",
    "GHEFCDAB": "CDAB",
    "HGFEDCBA": "DCBA",
    "MSW-BE": "ABCD",
    "MSW-LE": "BADC",
    "LSW-BE": "CDAB",
    "LSW-LE": "DCBA",
}
TYPES = {
    **{f"{kind}{n}": f"{kind.lower()}{n}" for kind in ("INT", "UINT") for n in (16, 32, 64)},
    **{f"{kind}8{half}": f"{kind.lower()}8{half.lower()}" for kind in ("INT", "UINT") for half in "HL"},
    **{f"FLOAT{n}": f"float{n}" for n in (16, 32, 64)},
}
FIXED = {"FIXED": "int", "UFIXED": "uint", "FLOAT32": "uint"}
_EVERY = re.compile(r"\d+(\.\d+)?(ms|s|h)")
Field = Mapping[str, object]


def read_telegraf(source: Source, wanted: Wanted) -> list[Device]:
    """The devices of a configuration: one for each plugin and slave. Raises InputError SOURCE_INVALID ..."""
    del wanted
    content = toml_of(source)
    inputs = content.get("inputs") if isinstance(content, dict) else None
    plugins = inputs.get("modbus") if isinstance(inputs, dict) else None
    if isinstance(plugins, dict):
        plugins = [plugins]
    if not isinstance(plugins, list) or not plugins:
        raise invalid(source, "is no Telegraf configuration with [[inputs.modbus]]")
    devices: dict[tuple[int, int], Device] = {}
    for number, plugin in enumerate(plugins):
        key = f"inputs.modbus[{number}]"
        one = mapping(plugin, key)
        style = one.get("configuration_type", "register")
        if style not in ("register", "request", "metric"):
            raise invalid(source, f"{key}: configuration_type {clean(str(style))!r} is none of Telegraf's")
        title = clean(str(one.get("name") or source.path.stem))
        for slave, place, field, shared in _fields_of(one, key, str(style)):
            device = devices.get((number, slave))
            if device is None:
                device = devices[number, slave] = _device(one, title, slave)
            _take(device, place, field, shared, style == "register")
    parts = [device.part for device in devices.values()]
    for (number, _), device in devices.items():
        if parts.count(device.part) > 1:
            device.part = f"{device.part}-{number + 1}"
    return list(devices.values())


def _device(plugin: Field, title: str, slave: int) -> Device:
    device = Device(f"{title}-{slave}", protocol="modbus", vendor="telegraf", device=f"{title}-{slave}", base=0)
    device.about = f"Telegraf inputs.modbus {title!r}, slave {slave}"
    interval = plugin.get("interval")
    if isinstance(interval, str) and _EVERY.fullmatch(interval):
        device.header["defaults"] = {"every": interval}
    elif interval is not None:
        device.say("its interval is no single duration; points are read every second")
    return device


def _fields_of(plugin: Field, key: str, style: str) -> Iterator[tuple[int, str, object, Field]]:
    """Slave, place, field and what is said for its whole block, of every field; nothing is left out."""
    if style == "register":
        slave = _slave(plugin, key)
        for name, table in REGISTER_TABLES.items():
            for number, field in enumerate(_list(plugin.get(name), f"{key}.{name}")):
                yield slave, f"{key}.{name}[{number}]", field, {"register": table}
        return
    for number, raw in enumerate(_list(plugin.get(style), f"{key}.{style}")):
        where = f"{key}.{style}[{number}]"
        block = mapping(raw, where)
        workarounds = plugin.get("workarounds")
        shared: dict[str, object] = {
            k: block[k] for k in ("register", "byte_order", "measurement", "tags") if k in block
        }
        if isinstance(workarounds, dict):
            shared["string_at"] = workarounds.get("string_register_location", "")
        for inner, field in enumerate(_list(block.get("fields"), f"{where}.fields")):
            yield _slave(block, where), f"{where}.fields[{inner}]", field, shared


def _list(value: object, what: str) -> list[object]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise InputError("SOURCE_INVALID", f"{what} is no list")
    return value


def _slave(table: Field, what: str) -> int:
    return whole(table.get("slave_id", 0), f"{what}.slave_id", 0, 255)


def _take(device: Device, place: str, raw: object, shared: Field, original: bool) -> None:  # noqa: FBT001 - private
    name = clean(str(raw.get("name") or "")) if isinstance(raw, dict) else ""
    shown = name or place.rpartition(".")[2]
    read = _register if original else _request
    device.take(shown, place, lambda: _carry(device, mapping(raw, place), shared, shown, read))


def _carry(device: Device, field: Field, shared: Field, shown: str, read: object) -> Carried:
    if field.get("omit") is True:
        raise InputError("POINT_RESERVED", "is omitted there: it fills a gap of a request")
    fields, notes = read(field, shared)  # type: ignore[operator]  # one of the two below
    measurement = field.get("measurement", shared.get("measurement"))
    name = f"{words(measurement, 'measurement')}.{shown}" if measurement else shown
    tags = shared.get("tags")
    if isinstance(tags, dict) and tags:
        notes += (f"tags are left out: {clean(', '.join(f'{k}={v}' for k, v in tags.items()))[:200]}",)
    return Carried({device.name(name): fields}, notes)


def _register(field: Field, shared: Field) -> tuple[Fields, tuple[str, ...]]:
    """A field of the original style: a list of addresses, an order as long as they are."""
    table = str(shared["register"])
    addresses = field.get("address")
    if not isinstance(addresses, list) or not addresses or len(addresses) > 125:
        raise InputError("VALUE_INVALID", "address is no list of registers")
    cells = [whole(a, "address", 0, 65535) for a in addresses]
    if cells != list(range(cells[0], cells[0] + len(cells))):
        raise InputError("VALUE_INVALID", f"registers {cells[:8]} do not follow one another")
    if table in {"coil", "discrete"}:
        return _bit(table, cells, field)
    kind = words(field.get("data_type"), "data_type")
    text = words(field.get("byte_order"), "byte_order")
    order = ORDERS.get(text)
    if order is None or "-" in text or (kind != "STRING" and len(text) != 2 * len(cells)):
        raise InputError("VALUE_INVALID", f"byte_order {text!r} is none of {len(cells)} registers")
    if kind == "BIT":
        bit = whole(field.get("bit", 0), "bit", 0, 15)
        return _ordered({"at": f"{table} {cells[0]}.{bit}", "as": "bit"}, order), ()
    if kind == "STRING":
        return _ordered({"at": f"{table} {cells[0]}", "as": f"string({2 * len(cells)})"}, order), ()
    as_ = f"{FIXED[kind]}{16 * len(cells)}" if kind in FIXED else TYPES.get(kind.removesuffix("-IEEE"), "")
    if not as_ or (kind.startswith("FLOAT") and not kind.endswith("-IEEE") and kind != "FLOAT32"):
        raise InputError("POINT_TYPE_UNKNOWN", f"data_type {kind!r} is none of Telegraf's")
    return _number(field, f"{table} {cells[0]}", as_, len(cells), order, cuts=kind not in FIXED)


def _bit(table: str, cells: list[int], field: Field) -> tuple[Fields, tuple[str, ...]]:
    if len(cells) != 1:
        raise InputError("VALUE_INVALID", f"one {table} has one address")
    if field.get("scale", 1) not in (0, 1):
        raise InputError("VALUE_INVALID", "a bit has no scale")
    return {"at": f"{table} {cells[0]}", "as": "bit"}, ()


def _request(field: Field, shared: Field) -> tuple[Fields, tuple[str, ...]]:
    """A field of the styles `request` and `metric`: first address and type."""
    table = words(field.get("register", shared.get("register", "holding")) or "holding", "register")
    if table not in REGISTER_TABLES.values():
        raise InputError("VALUE_INVALID", f"register {table!r} is none of Telegraf's")
    start = whole(field.get("address"), "address", 0, 65535)
    if table in {"coil", "discrete"}:
        return _bit(table, [start], field)
    order = ORDERS.get(words(shared.get("byte_order") or "ABCD", "byte_order"), "")
    if not order or len(str(shared.get("byte_order") or "ABCD")) in {2, 8}:
        raise InputError("VALUE_INVALID", f"byte_order {words(shared['byte_order'], 'byte_order')!r} is none")
    kind = words(field.get("type"), "type")
    if kind == "BIT":
        bit = whole(field.get("bit", 0), "bit", 0, 15)
        return _ordered({"at": f"{table} {start}.{bit}", "as": "bit"}, order), ()
    if kind == "STRING":
        if shared.get("string_at") not in (None, "", "both"):
            raise InputError("POINT_TYPE_UNKNOWN", "text in one byte of each register is no type of profiles")
        length = whole(field.get("length"), "length", 1, 125)
        return _ordered({"at": f"{table} {start}", "as": f"string({2 * length})"}, order), ()
    as_ = TYPES.get(kind)
    if as_ is None:
        raise InputError("POINT_TYPE_UNKNOWN", f"type {kind!r} is none of Telegraf's")
    cuts = words(field.get("output") or "", "output") in {"INT64", "UINT64"}
    return _number(field, f"{table} {start}", as_, None, order, cuts=cuts)


def _number(
    field: Field, at: str, as_: str, cells: int | None, order: str, *, cuts: bool
) -> tuple[Fields, tuple[str, ...]]:
    try:
        wide = parse_type(as_).registers
    except ValueError:
        wide = 0  # such as FIXED over three registers
    if not wide or wide != (cells or wide):
        raise InputError("VALUE_INVALID", f"{as_} does not fill {cells} registers")
    if as_[-1] in "hl" and order in {"CDAB", "BADC"}:
        raise InputError("VALUE_INVALID", "bytes of a register have the orders ABCD and DCBA alone")
    fields = _ordered({"at": at, "as": as_}, order)
    scale = number_of(field.get("scale", 0), "scale") or Fraction(1)
    put_scale(fields, scale)
    return fields, cut_note(fields, as_) if cuts else ()


def _ordered(fields: Fields, order: str) -> Fields:
    """With the order where it is not the profile's own."""
    return fields if order == "ABCD" else fields | {"order": order}
