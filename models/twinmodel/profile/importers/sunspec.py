"""SunSpec models as JSON (the format of the SunSpec Alliance's `models` repository).

`base` is the wire address, counted from 0, of the model's first register, its ID. Values of models are unsigned or
two's complement, most significant register first; what means "not implemented" is a number of its own for each type
(SunSpec Device Information Model Specification 1.1, section 4.1).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from twinmodel.errors import InputError
from twinmodel.profile.address import parse_type
from twinmodel.profile.importers.found import POINTS_MAX, Carried, Device, Fields, Source, Wanted
from twinmodel.profile.importers.intake import clean, invalid, json_of, mapping, whole, words
from twinmodel.profile.importers.terms import describe, put_scale, put_states, put_unit

_FULL = {16: 0xFFFF, 32: 0xFFFFFFFF, 64: 0xFFFFFFFFFFFFFFFF}
TYPES: Mapping[str, tuple[str, object]] = {
    **{f"int{n}": (f"int{n}", 1 << (n - 1)) for n in _FULL},
    **{f"{kind}{n}": (f"uint{n}", full) for n, full in _FULL.items() for kind in ("uint", "enum", "bitfield")},
    **{f"acc{n}": (f"uint{n}", 0) for n in _FULL},
    "raw16": ("uint16", None),
    "count": ("uint16", _FULL[16]),
    "sunssf": ("int16", 0x8000),
    "ipaddr": ("uint32", 0),
    "float32": ("float32", None),
    "float64": ("float64", None),
}
SIZES = {"ipv6addr": 8, "eui48": 4}
UNITS = {"C": "degC", "F": "degF", "Secs": "s", "AH": "Ah", "Tmh": "", "Degrees": "deg", "VAr": "var", "VArh": "var h"}
COUNT_MAX = 256
GROUPS_MAX = 2000


@dataclass(frozen=True, slots=True)
class _Place:
    """One point of the model where it stands in the device: `at` None behind a group of unknown length.

    `scales` are the scale factors it may name: point of the model -> our point.
    """

    raw: Mapping[str, object]
    at: int | None
    name: str
    scales: Mapping[str, str]


@dataclass(slots=True)
class _Walk:
    """Goes through a model register by register.

    Attributes:
        at: the next register.
        lost: the group or point behind which addresses are unknown, "" while they are known.
        groups, points: how many were entered, repetitions included.
        places: place in the file -> where the device has that point, once for each repetition.
    """

    device: Device
    counts: Mapping[str, int]
    at: int
    lost: str = ""
    groups: int = 0
    points: int = 0
    places: dict[str, list[_Place]] = field(default_factory=dict)


def read_sunspec(source: Source, wanted: Wanted) -> list[Device]:
    """The one device of a model file.

    Raises:
        InputError: SOURCE_INVALID, LIMIT_EXCEEDED; REQUEST_INVALID without `base`.
    """
    content = json_of(source)
    if not isinstance(content, dict) or not isinstance(content.get("group"), dict):
        raise invalid(source, "is no SunSpec model: it has no `group`")
    number = whole(content.get("id"), "id", 1, 65535)
    if wanted.base is None:
        hint = "give --base ADDRESS, where the model's ID register lies, counted from 0 (40070 on many inverters)"
        raise InputError("REQUEST_INVALID", "a SunSpec model does not say where it lies in a device", hint=hint)
    base = whole(wanted.base, "--base", 0, 65535)
    group = content["group"]
    title = words(group.get("label") or group.get("name") or f"model {number}", "group.label")
    device = Device("", protocol="modbus", vendor="sunspec", device=f"model-{number}", base=0)
    device.about = f"SunSpec model {number}, {title}"
    device.header["identify"] = {"at": f"holding {base}", "as": "uint16", "match": str(number)}
    walk = _Walk(device, wanted.counts, base)
    unknown = set(wanted.counts) - set(_repeating(group))
    if unknown:
        known = ", ".join(sorted(_repeating(group))) or "none"
        raise InputError("REQUEST_INVALID", f"--count names {min(unknown)!r}; groups that repeat: {known}")
    _group(walk, group, "group", "", {})
    for key, places in walk.places.items():
        shown = clean(str(places[0].raw.get("name") or places[0].name))
        device.take(shown, key, lambda p=places: _carry(walk, p))  # type: ignore[misc]
    return [device]


def _repeating(group: Mapping[str, object]) -> Iterator[str]:
    """Names of the groups whose count the model leaves open."""
    inner = group.get("groups")
    for one in inner if isinstance(inner, list) else []:
        if isinstance(one, dict):
            if _fixed(one.get("count", 1)) is None:
                yield str(one.get("name"))
            yield from _repeating(one)


def _fixed(count: object) -> int | None:
    return count if isinstance(count, int) and not isinstance(count, bool) and 1 <= count <= COUNT_MAX else None


def _group(walk: _Walk, group: Mapping[str, object], key: str, prefix: str, outer: Mapping[str, str]) -> None:
    """Finds the places of a group that stands here once: first its points, then its inner groups."""
    walk.groups += 1
    if walk.groups > GROUPS_MAX:
        raise InputError("LIMIT_EXCEEDED", f"more than {GROUPS_MAX} groups")
    points, groups = group.get("points", []), group.get("groups", [])
    if not isinstance(points, list) or not isinstance(groups, list):
        raise InputError("SOURCE_INVALID", f"{key}: points and groups must be lists")
    raws = [mapping(raw, f"{key}.points[{number}]") for number, raw in enumerate(points)]
    walk.points += len(raws)
    if walk.points > POINTS_MAX:
        raise InputError("LIMIT_EXCEEDED", f"more than {POINTS_MAX} points")
    names = [walk.device.name(prefix + clean(str(raw.get("name") or "point"))) for raw in raws]
    own = {str(r.get("name")): name for r, name in zip(raws, names, strict=True) if r.get("type") == "sunssf"}
    scales = {**outer, **own}
    for number, (raw, name) in enumerate(zip(raws, names, strict=True)):
        place = _Place(raw, None if walk.lost else walk.at, name, scales)
        walk.places.setdefault(f"{key}.points[{number}]", []).append(place)
        try:
            walk.at += whole(raw.get("size"), "size", 1, 125)
        except InputError:
            walk.lost = walk.lost or name  # where the next one lies would be a guess
    for number, inner in enumerate(groups):
        where = f"{key}.groups[{number}]"
        one = mapping(inner, where)
        name = clean(str(one.get("name") or "group"))
        count = _fixed(one.get("count", 1)) or walk.counts.get(name)
        if count is None:
            walk.lost = walk.lost or name
        for repetition in range(1, (count or 1) + 1):
            _group(
                walk, one, where, f"{prefix}{name}.{repetition}." if (count or 0) > 1 else f"{prefix}{name}.", scales
            )


def _carry(walk: _Walk, places: list[_Place]) -> Carried:
    """Our points of one point of the model, one for each repetition."""
    made: dict[str, Fields] = {}
    notes: dict[str, None] = {}
    for place in places:
        made[place.name], said = _fields(walk, place)
        notes |= dict.fromkeys(said)
    return Carried(made, tuple(notes))


def _fields(walk: _Walk, place: _Place) -> tuple[Fields, tuple[str, ...]]:
    point = place.raw
    kind = words(point.get("type"), "type")
    if kind == "pad":
        raise InputError("POINT_RESERVED", "fills a gap of the model")
    size = whole(point.get("size"), "size", 1, 125)
    as_, absent = ("string", "") if kind == "string" else TYPES.get(kind, ("", None))
    if not as_:
        raise InputError("POINT_TYPE_UNKNOWN", f"{kind!r} is no type of profiles ({size} registers)")
    if kind == "string":
        as_ = f"string({2 * size})"
    elif size != parse_type(as_).registers:
        raise InputError("VALUE_INVALID", f"{kind} does not fill {size} registers")
    if place.at is None:
        hint = f"give --count {walk.lost}=N, how often the device has it"
        message = f"where it lies depends on how often the group {walk.lost!r} stands in the device"
        raise InputError("POINT_AMBIGUOUS", message, hint=hint)
    fields: Fields = {"at": f"holding {place.at}", "as": as_}
    if absent is not None:
        fields["absent"] = absent
    notes = _scale(fields, kind, point.get("sf"), place.scales)
    notes += put_unit(fields, words(point.get("units", ""), "units"), UNITS)
    if kind.startswith("acc"):
        fields["class"] = "counter"
    if point.get("static") == "S":
        fields["every"] = "10min"
    describe(fields, words(point.get("label", ""), "label"))
    notes += _symbols(fields, kind, point.get("symbols"))
    if "W" in words(point.get("access", "R"), "access"):
        notes += ("can be written in the source; add `write:` rules to allow that",)
    return fields, notes


def _scale(fields: Fields, kind: str, factor: object, scales: Mapping[str, str]) -> tuple[str, ...]:
    """`sf` is the name of a scale factor of this group or one around it, or a power of ten itself."""
    if factor is None or factor == "":
        return ()
    if kind in {"string", "sunssf"}:
        raise InputError("VALUE_INVALID", f"a {kind} has no scale factor")
    if isinstance(factor, int) and not isinstance(factor, bool):
        put_scale(fields, Fraction(10) ** whole(factor, "sf", -10, 10))
        return ()
    name = scales.get(words(factor, "sf"))
    if name is None:
        raise InputError("POINT_AMBIGUOUS", f"the model has no scale factor {words(factor, 'sf')!r}")
    fields["scale"] = f"10^@{name}"
    return ()


def _symbols(fields: Fields, kind: str, symbols: object) -> tuple[str, ...]:
    """Names of an enumeration become states; names of bits the description, for a bit alone cannot be absent."""
    if not isinstance(symbols, list):
        return ()
    names = {
        whole(mapping(s, "symbol").get("value"), "symbol.value", 0, _FULL[32]): words(s.get("name"), "symbol.name")
        for s in symbols
    }
    if not names:
        return ()
    if kind.startswith("bitfield"):
        fields["class"] = "state"
        describe(fields, "bits: " + ", ".join(f"{bit} {name}" for bit, name in sorted(names.items())))
        return ()
    return put_states(fields, names)
