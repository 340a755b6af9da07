"""Plain CSV with a header: one line a point, columns named like the keys of a point.

    name, at, as, unit, scale, offset, order, absent, low, high, resolution, class, wraps, states, every, priority,
    topic, device_unit, access, description

`name` and `at` are needed; `table` and `address` may stand in place of `at`, `low` and `high` are `range`, `states` is
written `0=off;1=on`, `access` is R, W or RW. The delimiter is a comma, a semicolon or a tab; numbers have a point.
"""

from __future__ import annotations

from fractions import Fraction

from twinmodel.errors import InputError
from twinmodel.profile.document import nearest
from twinmodel.profile.importers.found import Carried, Device, Fields, Source, Wanted
from twinmodel.profile.importers.intake import invalid, rows_of, text_of, whole
from twinmodel.profile.importers.terms import describe, number_of, put_scale, put_states, states_of
from twinmodel.profile.registers import typed
from twinmodel.profile.schema import Point, parse_duration

COLUMNS = (
    "name", "at", "table", "address", "as", "unit", "scale", "offset", "order", "absent", "low", "high", "resolution",
    "class", "wraps", "states", "every", "priority", "topic", "device_unit", "access", "description",
)  # fmt: skip
TEXTS = ("unit", "order", "class", "priority", "topic", "device_unit")
TABLES = {"coil", "discrete", "input", "holding"}
Row = dict[str, str]


def read_table(source: Source, wanted: Wanted) -> list[Device]:
    """The one device of a table. Raises InputError SOURCE_INVALID, LIMIT_EXCEEDED, REQUEST_INVALID."""
    rows = rows_of(source, _delimiter(text_of(source)))
    line, header = next(rows, (1, []))
    names = [cell.lower() for cell in header]
    for name in names:
        if name not in COLUMNS:
            guess = nearest(name, COLUMNS)
            hint = f"did you mean `{guess}`?" if guess else f"columns are {', '.join(COLUMNS)}"
            raise invalid(source, f"the header names {name[:40]!r}, which is no column", line=line, hint=hint)
    if (
        len(set(names)) < len(names)
        or "name" not in names
        or not ({"at"} <= {*names} or {"table", "address"} <= {*names})
    ):
        hint = f"columns are {', '.join(COLUMNS)}"
        raise invalid(
            source, "the header needs `name` and `at` (or `table` and `address`), each once", line=line, hint=hint
        )
    device = Device("", protocol=wanted.protocol, device=source.path.stem)
    device.about = "CSV"
    if wanted.protocol == "modbus":
        if wanted.base is None:
            hint = "give --base 0 or --base 1: do the addresses count from 0 or from 1?"
            raise InputError("REQUEST_INVALID", "a CSV does not say where its addresses count from", hint=hint)
        device.base = whole(wanted.base, "--base", 0, 1)
    if wanted.protocol == "opcua":
        if not wanted.namespace:
            raise InputError("REQUEST_INVALID", "opcua needs --namespace URI", hint="give the URI its names lie in")
        device.header["namespace"] = wanted.namespace
    for line, cells in rows:
        if len(cells) != len(names):
            message = f"line {line} has {len(cells)} cells, the header {len(names)}"
            wrong = InputError("VALUE_INVALID", message, hint="quote cells that hold the delimiter")
            device.take(cells[0], f"line {line}", lambda w=wrong: _raise(w))  # type: ignore[misc]
            continue
        row = dict(zip(names, cells, strict=True))
        device.take(row["name"] or f"line {line}", f"line {line}", lambda r=row: _carry(device, r))  # type: ignore[misc]
    if not device.found:
        raise invalid(source, "has a header and no line", line=line)
    return [device]


def _raise(wrong: InputError) -> Carried:
    raise wrong


def _delimiter(text: str) -> str:
    first = next((line for line in text.splitlines() if line.strip()), "")
    return max(",;\t", key=first.count)


def _carry(device: Device, row: Row) -> Carried:
    cells = {key: value for key, value in row.items() if value}
    if "name" not in cells:
        raise InputError("POINT_AMBIGUOUS", "has no name")
    access = cells.get("access", "R").upper()
    if access not in {"R", "W", "RW"}:
        raise InputError("VALUE_INVALID", f"access {access!r} is none of R, W, RW")
    if access == "W":
        raise InputError("POINT_NOT_READABLE", "is written only")
    fields: Fields = {"at": _at(cells)}
    as_ = cells.get("as", "").lower()
    if device.protocol == "modbus":
        as_ = as_ or typed(Point(at=str(fields["at"]))).as_ or ""
    if as_:
        fields["as"] = as_
    fields |= {key: cells[key] for key in TEXTS if key in cells}
    if "absent" in cells:
        fields["absent"] = cells["absent"] if as_.startswith("string") else _absent(cells["absent"])
    _numbers(fields, cells)
    if "every" in cells:
        try:
            parse_duration(cells["every"])
        except ValueError as wrong:
            raise InputError("VALUE_INVALID", str(wrong)) from None
        fields["every"] = cells["every"]
    if "states" in cells:
        states = states_of(cells["states"])
        if states is None:
            raise InputError("VALUE_INVALID", f"states {cells['states'][:60]!r}: write 0=off;1=on")
        put_states(fields, states)
    describe(fields, cells.get("description", ""))
    notes = ("can be written in the source; add `write:` rules to allow that",) if access == "RW" else ()
    return Carried({device.name(cells["name"]): fields}, notes)


def _at(cells: Row) -> str:
    if "at" in cells:
        return cells["at"]
    table, address = cells.get("table", "").lower(), cells.get("address", "")
    if table not in TABLES or not address:
        raise InputError("VALUE_INVALID", f"{table!r} {address!r}: write `at`, or one of {', '.join(sorted(TABLES))}")
    return f"{table} {address}"


def _absent(text: str) -> object:
    if text.lower() in {"nan", "inf", "-inf"}:
        return text.lower()
    try:
        return int(text, 0)
    except ValueError:
        return float(number_of(text, "absent"))


def _numbers(fields: Fields, cells: Row) -> None:
    scale = cells.get("scale", "1")
    offset = number_of(cells.get("offset", "0"), "offset")
    if "@" in scale:
        fields["scale"] = scale
        scale = "1"
    put_scale(fields, number_of(scale, "scale"), offset)
    for key in ("resolution", "wraps"):
        if key in cells:
            fields[key] = float(number_of(cells[key], key))
    low, high = (number_of(cells[key], key) if key in cells else None for key in ("low", "high"))
    if (low is None) != (high is None) or (low is not None and high is not None and not low < high):
        raise InputError("VALUE_INVALID", "low and high belong together, low first")
    if isinstance(low, Fraction) and isinstance(high, Fraction):
        fields["range"] = [float(low), float(high)]
