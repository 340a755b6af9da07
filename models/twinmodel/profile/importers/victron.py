"""Victron Energy's list of Modbus TCP registers as CSV (`attributes.csv` of dbus-modbustcp).

    service, D-Bus path, D-Bus type, unit or states, address, type, scale factor, R or W

Each service is a device: they share a GX device's registers, under unit ids of their own. Addresses count from 0,
the value is the register divided by the scale factor, and whatever can be written can be read too.
"""

from __future__ import annotations

import re

from twinmodel.errors import InputError
from twinmodel.profile.importers.found import Carried, Device, Fields, Source, Wanted
from twinmodel.profile.importers.intake import invalid, rows_of, whole
from twinmodel.profile.importers.terms import number_of, put_scale, put_states, put_unit, states_of

SERVICE = re.compile(r"com\.victronenergy\.([a-z0-9_]{1,40})")
TYPES = ("int16", "uint16", "int32", "uint32", "int64", "uint64")
COLUMNS = 8
_STRING = re.compile(r"string\[(\d{1,3})\]")
_RESERVED = re.compile(r"(?:reserved|internal)(?:\[\d{1,3}\])?", re.IGNORECASE)


def read_victron(source: Source, wanted: Wanted) -> list[Device]:
    """The devices of the list, one for each service. Raises InputError SOURCE_INVALID or LIMIT_EXCEEDED."""
    del wanted
    devices: dict[str, Device] = {}
    for line, row in rows_of(source):
        service = SERVICE.fullmatch(row[0])
        if service is None or not 5 <= len(row) <= COLUMNS + 4:
            hint = "give attributes.csv: service, path, D-Bus type, unit, address, type, scale, R or W"
            raise invalid(source, "is no line of Victron's register list", line=line, hint=hint)
        name = service[1]
        if name not in devices:
            devices[name] = Device(name, protocol="modbus", vendor="victron", device=name, base=0)
            devices[name].about = f"Victron Modbus TCP register list, service {row[0]}"
        device = devices[name]
        cells = [*row, *[""] * (COLUMNS - len(row))]
        device.take(row[1] or f"register {row[4]}", f"line {line}", lambda c=cells, d=device: _carry(d, c))  # type: ignore[misc]
    if not devices:
        raise invalid(source, "holds no line")
    return list(devices.values())


def _carry(device: Device, row: list[str]) -> Carried:
    _, path, _, meaning, number, kind, factor, access, *_ = row
    if _RESERVED.fullmatch(kind):
        raise InputError("POINT_RESERVED", f"{kind}: the maker keeps these registers")
    address = whole(number, "address", 0, 65535)
    text = _STRING.fullmatch(kind)
    if text is None and kind not in TYPES:
        raise InputError("POINT_TYPE_UNKNOWN", f"{kind!r} is no type of this list")
    if access not in {"R", "W", "RW"}:
        raise InputError("VALUE_INVALID", f"{access!r} is neither R nor W")
    as_ = f"string({2 * whole(text[1], 'length', 1, 125)})" if text is not None else kind
    fields: Fields = {"at": f"holding {address}", "as": as_}
    if text is None:
        if not factor:
            raise InputError("POINT_AMBIGUOUS", "has no scale factor")
        divisor = number_of(factor, "scale factor")
        if not divisor:
            raise InputError("VALUE_INVALID", "a scale factor of 0")
        put_scale(fields, 1 / divisor)
    states = states_of(meaning) if "=" in meaning else None
    notes = put_states(fields, states) if states else put_unit(fields, meaning)
    if "W" in access:
        notes += ("can be written in the source; add `write:` rules to allow that",)
    return Carried({device.name(path.strip("/").replace("/", ".")): fields}, notes)
