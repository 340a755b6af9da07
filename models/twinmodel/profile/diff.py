"""What differs between two profiles of a device, and which models survive the change.

Compared is what an agent would do, not how it is written: addresses as they go over the wire, orders, periods and
topics with their defaults. Names are what site.yaml and models hold on to, so a point that was renamed is gone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from twinmodel import units
from twinmodel.profile.address import parse_address
from twinmodel.profile.schema import Defaults, FirmwareProfile, Point, kind_of
from twinmodel.signal import Kind

What = Literal[
    "device", "added", "removed", "renamed", "moved", "type", "unit", "scale", "range", "write", "timing", "other"
]
LACKS = {
    "MISSING_POINT": "the profile has no such point",
    "TEXT": "the point is text, the model takes a number",
    "UNIT_CLASH": "the point's unit has another dimension",
    "NO_RANGE": "the model states limits, the point has no range",
    "RANGE_APART": "the point's range and the model's limits have nothing in common",
}
"""What a profile may lack of what a model needs."""


@dataclass(frozen=True, slots=True)
class Change:
    """One difference.

    Attributes:
        what: what kind it is of; `moved` is another address or topic, `type` also the order of bytes and what stands
            for "no value".
        point: name of the point, "" for the device as a whole.
        key: what differs, as the profile calls it.
        old, new: the two values as text, "" for none.
    """

    what: What
    point: str
    key: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Need:
    """What a model takes or measures at one port.

    Attributes:
        port: name of the input or output.
        role: `input`, or `output`: an output needs a point only where it is measured.
        unit: of the model; "" is a number without unit.
        low, high: limits within which the model holds, in that unit; None for none.
        tag: how the model says the signal is called.
    """

    port: str
    role: str
    unit: str = ""
    low: float | None = None
    high: float | None = None
    tag: str = ""


@dataclass(frozen=True, slots=True)
class Lack:
    """Why a point cannot serve a port: a key of `LACKS`, and what exactly is missing."""

    reason: str
    port: str
    text: str


@dataclass(frozen=True, slots=True)
class Survival:
    """What becomes of a model.

    Attributes:
        model: `name@version`.
        verdict: `survives`; `breaks`, for the reasons in `lacks`; `unbound`, when no port of it is a point of the old
            profile.
        points: port -> point it was matched with.
        lacks: what the new profile lacks and the old one did not.
        notes: what changed without breaking it.
    """

    model: str
    verdict: Literal["survives", "breaks", "unbound"]
    points: Mapping[str, str]
    lacks: tuple[Lack, ...] = ()
    notes: tuple[str, ...] = ()


def differences(old: FirmwareProfile, new: FirmwareProfile) -> list[Change]:
    """Every difference that changes what is read, in the order of the new profile's points, those gone last."""
    found = [
        Change("device", "", key, before, after)
        for (key, before), after in zip(_device(old).items(), _device(new).values(), strict=True)
        if before != after
    ]
    renamed = _renamed(old, new)
    for name in new.points:
        if name in old.points:
            found += _changes(name, _facts(old, name), _facts(new, name))
        elif name in renamed:
            found.append(Change("renamed", name, "", renamed[name], name))
        else:
            found.append(Change("added", name, "at", "", new.points[name].at))
    found += _methods(old, new)
    gone = [name for name in old.points if name not in new.points and name not in renamed.values()]
    return found + [Change("removed", name, "at", old.points[name].at, "") for name in gone]


def survival(
    model: str,
    needs: list[Need],
    old: FirmwareProfile,
    new: FirmwareProfile,
    names: Mapping[str, str] | None = None,
) -> Survival:
    """Whether a model that reads the old profile can read the new one.

    Args:
        model: what it is called in the answer.
        needs: its ports.
        old: the profile the model reads now.
        new: the one it would read.
        names: port -> point, where they are not called alike; a port without an entry is matched by its name, then
            by its tag.
    """
    points: dict[str, str] = {}
    for need in needs:
        wanted = (names or {}).get(need.port)
        name = next((n for n in (wanted, need.port, need.tag) if n and n in old.points), None)
        if name is not None:
            points[need.port] = name
    renamed = {before: after for after, before in _renamed(old, new).items()}
    lacking: list[Lack] = []
    notes: list[str] = []
    for need in needs:
        bound = points.get(need.port)
        if bound is None:
            if need.role == "input" and points:
                notes.append(f"input {need.port} is no point of the old profile")
            continue
        before = {lack.reason for lack in lacks(old, need, bound)}
        for lack in lacks(new, need, bound):
            now = f"; it is called {renamed[bound]!r} now" if bound in renamed else ""
            if lack.reason in before:
                notes.append(f"as before: {lack.text}")
            else:
                lacking.append(replace(lack, text=lack.text + now))
        if bound in new.points:
            changes = _changes(bound, _facts(old, bound), _facts(new, bound))
            notes += [f"{bound}: {c.key} was {c.old or 'none'}, is {c.new or 'none'}" for c in changes]
    verdict: Literal["survives", "breaks", "unbound"] = "breaks" if lacking else "survives" if points else "unbound"
    return Survival(model, verdict, points, tuple(lacking), tuple(dict.fromkeys(notes)))


def lacks(profile: FirmwareProfile, need: Need, name: str) -> list[Lack]:
    """What keeps point `name` of a profile from serving a port; empty when it can."""
    port, point = f"{need.role} {need.port}", profile.points.get(name)
    if point is None:
        return [Lack("MISSING_POINT", need.port, f"{port}: {profile.name} ({profile.firmware}) has no point {name!r}")]
    if kind_of(point) is Kind.STRING:
        return [Lack("TEXT", need.port, f"{port}: {name} is text")]
    if not units.same_dimension(need.unit, point.unit):
        text = f"{port} is in {need.unit or '1'}, {name} is in {point.unit or '1'}"
        return [Lack("UNIT_CLASH", need.port, text)]
    return [] if need.low is None and need.high is None else _range_lacks(need, name, point)


def _range_lacks(need: Need, name: str, point: Point) -> list[Lack]:
    """Whether a range stands beside a model's limits, and has anything in common with them."""
    holds = f"{need.role} {need.port} holds within {_limits(need)}, {name}"
    if point.range is None:
        return [Lack("NO_RANGE", need.port, f"{holds} has no range")]
    low, high = (units.convert(end, point.unit, need.unit) for end in point.range)
    if (need.low is not None and high < need.low) or (need.high is not None and low > need.high):
        return [Lack("RANGE_APART", need.port, f"{holds} ranges {low:g} .. {high:g} {need.unit}".rstrip())]
    return []


def _limits(need: Need) -> str:
    low = "-inf" if need.low is None else f"{need.low:g}"
    high = "inf" if need.high is None else f"{need.high:g}"
    return f"{low} .. {high} {need.unit}".rstrip()


def _device(profile: FirmwareProfile) -> dict[str, str]:
    """What counts for all points at once; `base` and orders are told point by point."""
    limits = profile.limits.model_dump(by_alias=True, mode="json")
    identify = profile.identify.model_dump(by_alias=True, exclude_none=True) if profile.identify else {}
    available = profile.availability.model_dump(by_alias=True, exclude_none=True) if profile.availability else {}
    facts = {"profile": profile.name, "firmware": profile.firmware, "protocol": profile.protocol}
    facts |= {f"limits.{key}": str(value) for key, value in limits.items()}
    facts |= {"identify": _plain(identify), "availability": _plain(available), "namespace": profile.namespace or ""}
    return facts


def _plain(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_plain(v)}" for key, v in value.items())
    return "" if value is None else str(value)


_WHAT: dict[str, What] = {
    "at": "moved",
    "topic": "moved",
    "where": "moved",
    "as": "type",
    "order": "type",
    "absent": "type",
    "payload": "type",
    "states": "type",
    "unit": "unit",
    "scale": "scale",
    "offset": "scale",
    "range": "range",
    "write": "write",
    "every": "timing",
    "expect_every": "timing",
    "age": "timing",
    "frozen": "timing",
    "time": "timing",
    "time_unit": "timing",
}


def _facts(profile: FirmwareProfile, name: str) -> dict[str, object]:
    """What an agent makes of a point, defaults applied; its name and description are no part of it."""
    point = profile.points[name]
    facts = {
        key: value if value is not None else getattr(profile.defaults, field)
        for field, key in _INHERITED.items()
        for value in (getattr(point, field),)
    }
    own = point.model_dump(by_alias=True, mode="json", exclude={*_INHERITED, "description"})
    if profile.protocol == "modbus":
        address = parse_address(point.at, profile.base or 0)
        bits = "" if address.bit is None else f".{address.bit}"
        bits += f"-{address.bit + address.width - 1}" if address.bit is not None and address.width > 1 else ""
        own["at"] = f"{address.table} {address.number}{bits}"
        facts["order"] = point.order or profile.defaults.order or profile.order
    return own | facts


_INHERITED = {
    field: info.alias or field for field, info in Point.model_fields.items() if field in Defaults.model_fields
}


def _changes(name: str, old: Mapping[str, object], new: Mapping[str, object]) -> Iterator[Change]:
    for key, before in old.items():
        after = new[key]
        if before != after:
            yield Change(_WHAT.get(key, "other"), name, key, _plain(before), _plain(after))


def _methods(old: FirmwareProfile, new: FirmwareProfile) -> Iterator[Change]:
    """Methods that came, went, or are called otherwise; their descriptions are no part of it."""
    for name in dict.fromkeys((*new.methods, *old.methods)):
        before, after = (
            _plain(p.methods[name].model_dump(by_alias=True, mode="json", exclude_none=True, exclude={"description"}))
            if name in p.methods
            else ""
            for p in (old, new)
        )
        if before != after:
            yield Change("write", name, "method", before, after)


def _renamed(old: FirmwareProfile, new: FirmwareProfile) -> dict[str, str]:
    """New name -> old name of points that are the same in everything but their name."""
    gone = {name: _facts(old, name) for name in old.points if name not in new.points}
    found: dict[str, str] = {}
    for name in new.points:
        if name not in old.points:
            facts = _facts(new, name)
            before = next((n for n, f in gone.items() if f == facts), None)
            if before is not None:
                found[name] = before
                del gone[before]
    return found
