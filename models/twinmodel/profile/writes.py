"""Checks of what a profile allows to be written and called: whole rules, or none.

A profile is trusted for what it says here by whoever allows a command in site.yaml.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from twinmodel import units
from twinmodel.clock import SECOND_NS
from twinmodel.errors import ConfigError, InputError
from twinmodel.profile.address import parse_address, parse_type
from twinmodel.profile.document import Document, nearest
from twinmodel.profile.node import NodeAddress, parse_node
from twinmodel.profile.parsing import KeyPath
from twinmodel.profile.schema import FirmwareProfile, Method, Point, Publish, Scalar, Write, kind_of
from twinmodel.profile.topics import parse_topic
from twinmodel.signal import Kind

SENT = ("id", "issued")
"""What every payload may name, beside the value or the inputs."""
_RATE = re.compile(r"([1-9]\d{0,5})/(s|min|h|d)")
_PER_NS = {"s": SECOND_NS, "min": 60 * SECOND_NS, "h": 3600 * SECOND_NS, "d": 86_400 * SECOND_NS}
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,126}")
_INPUT = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")
_PLACE = re.compile(r"\{([^{}]*)\}")


def parse_rate(text: str) -> tuple[int, int]:
    """Reads `2/min`: how many, in how many nanoseconds. Raises ValueError."""
    found = _RATE.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text!r} is no rate; write e.g. 2/min")
    return int(found[1]), _PER_NS[found[2]]


def parse_interlock(text: str) -> tuple[str, bool]:
    """Reads `running` or `not tripped`: the point, and whether it must be true."""
    return (text.removeprefix("not ").strip(), False) if text.startswith("not ") else (text.strip(), True)


def places_of(payload: Scalar | Mapping[str, Scalar]) -> tuple[str, ...]:
    """What a payload stands something in for: `value`, `id`, names of inputs."""
    texts = payload.values() if isinstance(payload, Mapping) else (payload,)
    return tuple(name for text in texts if isinstance(text, str) for name in _PLACE.findall(text))


def filled(text: Scalar, known: Mapping[str, object]) -> object:
    """A text of a payload with its places filled; one that is nothing but a place keeps the type of what it gets."""
    if not isinstance(text, str):
        return text
    whole = _PLACE.fullmatch(text)
    if whole is not None:
        return known[whole[1]]
    return _PLACE.sub(lambda found: str(known[found[1]]), text)


def check_write(profile: FirmwareProfile, document: Document, keys: KeyPath, point: Point) -> None:
    """Checks the rules of one point; raises ConfigError."""
    rules, place = point.write, (*keys, "write")
    if rules is None:
        return
    if profile.protocol == "modbus":
        _check_registers(profile, document, place, point, rules)
    elif rules.bits is not None or rules.function is not None:
        raise document.error("VALUE_INVALID", place, "`bits` and `function` are for modbus")
    elif profile.protocol == "opcua" and parse_node(point.at).element is not None:
        raise document.error("VALUE_INVALID", place, "an element of an array cannot be written by itself")
    _check_published(profile, document, place, point, rules)
    _check_bounds(document, place, point, rules)
    _check_rate(document, place, rules.rate)
    _check_watchdog(profile, document, place, str(keys[-1]), rules)
    _check_interlock(profile, document, place, rules.interlock)


def check_method(profile: FirmwareProfile, document: Document, name: str, method: Method) -> None:
    """Checks one method; raises ConfigError."""
    place: KeyPath = ("methods", name)
    if not _NAME.fullmatch(name):
        raise document.error("VALUE_INVALID", place, "names of methods are letters, digits, _ . -", key=True)
    if name in profile.points:
        raise document.error("VALUE_INVALID", place, "a point is called so, too", key=True)
    if profile.protocol == "modbus":
        raise document.error("VALUE_INVALID", place, "modbus has no methods", hint="write a point instead")
    if profile.protocol == "opcua":
        _check_called(document, place, method)
    elif method.publish is None or method.at is not None or method.object is not None:
        raise document.error("VALUE_INVALID", place, "an mqtt method is a `publish`, and nothing else")
    else:
        _check_publish(document, (*place, "publish"), method.publish, (*method.inputs, *SENT))
    for key, argument in method.inputs.items():
        where = (*place, "inputs", key)
        if not _INPUT.fullmatch(key) or key in SENT:
            raise document.error("VALUE_INVALID", where, "names of inputs are letters, digits, _", key=True)
        wire = document.read((*where, "as"), lambda text: None if text == "string" else parse_type(text), argument.as_)
        _check_unit(document, where, argument.unit)
        counted = wire is None or wire.name in {"bit", "string"} or argument.states
        if argument.range is None and not counted:
            raise document.error("VALUE_INVALID", where, "is without `range`", hint="add range: [low, high]")
        _check_ascends(document, where, argument.range)
    _check_rate(document, place, method.rate)
    _check_interlock(profile, document, place, method.interlock)


def _check_registers(profile: FirmwareProfile, document: Document, place: KeyPath, point: Point, rules: Write) -> None:
    address, wire = parse_address(point.at, profile.base or 0), parse_type(point.as_ or "uint16")
    if address.table in {"input", "discrete"}:
        raise document.error("VALUE_INVALID", place, f"{point.at} cannot be written; holding and coil can")
    part = address.bit is not None or bool(wire.half)
    if part and rules.bits is None:
        hint = "add `bits: mask` (function 22), or `bits: merge` (read, change, write back) if the device has no 22"
        raise document.error("VALUE_INVALID", place, f"{point.at} is a part of a register", hint=hint)
    if rules.bits is not None and not part:
        raise document.error("VALUE_INVALID", (*place, "bits"), "is for parts of registers")
    if rules.function == "single" and wire.registers > 1:
        message = f"{point.as_} fills {wire.registers} registers, a `single` write takes one"
        raise document.error("VALUE_INVALID", (*place, "function"), message)


def _check_published(profile: FirmwareProfile, document: Document, place: KeyPath, point: Point, rules: Write) -> None:
    spark = (point.payload or profile.defaults.payload) == "sparkplug"
    if profile.protocol != "mqtt" or spark:
        if rules.publish is not None:
            raise document.error("VALUE_INVALID", (*place, "publish"), "is for mqtt without Sparkplug")
        return
    if rules.publish is None:
        hint = 'add publish: {topic: "{root}/set", payload: "{value}"}'
        raise document.error("VALUE_INVALID", place, "an mqtt point is written by a `publish`", hint=hint)
    _check_publish(document, (*place, "publish"), rules.publish, ("value", *SENT))
    if "value" not in places_of(rules.publish.payload):
        raise document.error("VALUE_INVALID", (*place, "publish", "payload"), "the value is nowhere in it: {value}")
    if rules.watchdog is not None:
        raise document.error("VALUE_INVALID", (*place, "watchdog"), "is for modbus and opcua")


def _check_publish(document: Document, place: KeyPath, publish: Publish, known: tuple[str, ...]) -> None:
    document.read((*place, "topic"), parse_topic, publish.topic)
    for name in places_of(publish.payload):
        if name not in known:
            hint = f"it may name {', '.join(f'{{{k}}}' for k in known)}"
            raise document.error("VALUE_INVALID", (*place, "payload"), f"nothing is called {{{name}}}", hint=hint)


def _check_called(document: Document, place: KeyPath, method: Method) -> None:
    if method.publish is not None or method.at is None:
        raise document.error("VALUE_INVALID", place, "an opcua method needs `at`, and no `publish`")
    address = document.read((*place, "at"), parse_node, method.at)
    if address.element is not None:
        raise document.error("VALUE_INVALID", (*place, "at"), "a method is no array")
    if method.object is not None:
        document.read((*place, "object"), parse_node, method.object)
    elif isinstance(address, NodeAddress):
        hint = "add `object:`, the node the method belongs to"
        raise document.error("VALUE_INVALID", place, "a method by node id needs its object", hint=hint)


def _check_bounds(document: Document, place: KeyPath, point: Point, rules: Write) -> None:
    kind = kind_of(point)
    if kind in {Kind.BOOL, Kind.STRING}:
        if rules.range is not None or rules.step is not None:
            raise document.error("VALUE_INVALID", place, "`range` and `step` are for numbers")
    elif rules.range is None and not point.states:
        raise document.error("VALUE_INVALID", place, "is without `range`", hint="add range: [low, high]")
    _check_ascends(document, place, rules.range)
    if rules.range is not None and rules.step is not None and rules.step > rules.range[1] - rules.range[0]:
        raise document.error("VALUE_INVALID", (*place, "step"), "the step is larger than the range")


def _check_ascends(document: Document, place: KeyPath, span: tuple[float, float] | None) -> None:
    if span is not None and not span[0] < span[1]:
        message = f"the range must ascend, found {span[0]:g} .. {span[1]:g}"
        raise document.error("VALUE_INVALID", (*place, "range"), message)


def _check_rate(document: Document, place: KeyPath, rate: str | None) -> None:
    if rate is not None:
        document.read((*place, "rate"), parse_rate, rate)


def _check_unit(document: Document, place: KeyPath, unit: str) -> None:
    try:
        units.parse(unit)
    except InputError as wrong:
        raise document.error(wrong.reason, (*place, "unit"), wrong.message, hint=wrong.hint) from None


def _check_watchdog(profile: FirmwareProfile, document: Document, place: KeyPath, point: str, rules: Write) -> None:
    watchdog = rules.watchdog
    if watchdog is None:
        return
    where = (*place, "watchdog")
    if (watchdog.at is None) == (watchdog.point is None):
        raise document.error("VALUE_INVALID", where, "needs either `at` or `point`")
    if watchdog.within == 0:
        raise document.error("VALUE_INVALID", (*where, "within"), "must be longer than 0")
    if watchdog.at is not None:
        parse: Callable[[str], object] = parse_node
        if profile.protocol == "modbus":
            parse = lambda text: _holding(text, profile.base or 0)  # noqa: E731  # one line says it
        document.read((*where, "at"), parse, watchdog.at)
    elif watchdog.point != point:
        fed = _named(profile, document, where, watchdog.point or "")
        if kind_of(fed) is Kind.STRING or fed.scale is not None or fed.offset is not None:
            raise document.error("VALUE_INVALID", where, "what is fed is a plain number or a bit")


def _holding(text: str, base: int) -> None:
    address = parse_address(text, base)
    if address.table != "holding" or address.bit is not None:
        raise ValueError(f"{text!r} is no whole register that can be written; write holding N")


def _check_interlock(profile: FirmwareProfile, document: Document, place: KeyPath, interlock: str | None) -> None:
    if interlock is not None:
        point = _named(profile, document, (*place, "interlock"), parse_interlock(interlock)[0])
        if kind_of(point) is Kind.STRING:
            raise document.error("VALUE_INVALID", (*place, "interlock"), "a text is neither true nor false")


def _named(profile: FirmwareProfile, document: Document, place: KeyPath, name: str) -> Point:
    point = profile.points.get(name)
    if point is None:
        guess = nearest(name, profile.points)
        hint = f"did you mean `{guess}`?" if guess else None
        raise _missing(document, place, name, hint)
    return point


def _missing(document: Document, place: KeyPath, name: str, hint: str | None) -> ConfigError:
    return document.error("VALUE_INVALID", place, f"no point {name!r} in this profile", hint=hint)
