"""What a coordinator can tell of a command before it is sent: its target, the kind and the unit of its value.

The rules of the device are at its gateway: allow-list, range, rate, class, interlocks. Of these a gateway says in its
session what may be commanded, its class and its range. It looks at everything again, and its word counts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from twinmodel import units
from twinmodel.definition.schema import PropertySpec
from twinmodel.errors import ConflictError, DeniedError, InputError, MissingError
from twinmodel.profile.document import nearest
from twinmodel.signal import Catalogue, Kind, Signal, TwinBinding
from twinsync.command import Arguments, Commandable, CommandKind, Value

ARGUMENTS_MAX: Final = 32
TEXT_MAX: Final = 1_024
_INT_MAX = 1 << 63


@dataclass(frozen=True, slots=True)
class Goal:
    """What a command is for: the property it is of, "" for none, and what goes over the wire."""

    property: str
    target: str
    arguments: Arguments
    unit: str


@dataclass(frozen=True, slots=True)
class Target:
    """Something that may be commanded.

    Attributes:
        rule: what its gateway says of it.
        property: of the twin it was asked for, "" where it is bound to none.
        kind: of the values of a point, None for a method.
    """

    rule: Commandable
    property: str
    kind: Kind | None


def targets_of(
    binding: TwinBinding, catalogue: Catalogue, told: Mapping[str, Commandable] | None
) -> tuple[Target, ...]:
    """What may be commanded by way of a twin, what is bound to it first.

    Args:
        binding: of the twin.
        catalogue: of its gateway.
        told: target -> what the gateway says of it; None where it has not, then all points bound to the twin.
    """
    properties = {bound: name for name, bound in sorted(binding.properties.items(), reverse=True)}
    points = {signal.name: signal for signal in catalogue.signals if signal.role == "measured"}
    if told is None:
        told = {name: Commandable(name, False, points[name].unit) for name in properties if name in points}
    found = [
        Target(rule, properties.get(name, ""), points[name].kind if name in points else None)
        for name, rule in told.items()
    ]
    return tuple(sorted(found, key=lambda one: (not one.property, one.kind is None, one.property, one.rule.target)))


def goal_of(
    binding: TwinBinding,
    catalogue: Catalogue,
    kind: CommandKind,
    prop: str,
    target: str,
    arguments: Arguments,
    unit: str,
) -> Goal:
    """Resolves what a command names.

    Args:
        binding: of the twin.
        catalogue: of its gateway.
        kind: what is done.
        prop: a property of the twin, "" when `target` is given.
        target: `device.point` or `device.method`, "" when `prop` is given.
        arguments: the value, or the list of arguments.
        unit: of the value, "" for that of the signal.

    Raises:
        InputError: REQUEST_INVALID, VALUE_INVALID, UNIT_CLASH, UNIT_UNKNOWN.
        MissingError: UNKNOWN_PROPERTY, UNKNOWN_SIGNAL, UNKNOWN_DEVICE.
        ConflictError: NOT_WRITABLE.
    """
    if bool(prop) == bool(target):
        raise InputError("REQUEST_INVALID", "a command names either `property` or `target`", field="property")
    if kind is CommandKind.CALL:
        return _call(catalogue, prop, target, arguments, unit)
    if not isinstance(arguments, bool | int | float | str):
        raise InputError("REQUEST_INVALID", "value: it is missing", field="value")
    signal = _signal_of(binding, catalogue, prop) if prop else _signal_named(catalogue, target)
    named = prop or next((name for name, bound in sorted(binding.properties.items()) if bound == signal.name), "")
    return Goal(named, signal.name, value_for(signal, arguments, unit), signal.unit)


def value_for(signal: Signal, value: Value, unit: str) -> Value:
    """A value as the signal has it, in its unit; raises InputError when the signal cannot be that."""
    if signal.kind is Kind.BOOL:
        if not isinstance(value, bool):
            raise _unfit(signal, "it is neither true nor false", "write true or false")
        return value
    if signal.kind is Kind.STRING:
        if not isinstance(value, str) or len(value) > TEXT_MAX:
            raise _unfit(signal, f"it is no text of at most {TEXT_MAX} characters")
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _unfit(signal, "it is no number", f"write a number, in {signal.unit or '1'}")
    if abs(value) >= _INT_MAX or not math.isfinite(value):
        raise _unfit(signal, "it is no number of 64 bits")
    if unit and unit != signal.unit:
        value = _converted(float(value), unit, signal)
    if signal.kind is Kind.INT:
        # A unit that was converted leaves a rest of rounding.
        if abs(value - round(value)) > (1e-9 * max(1.0, abs(value)) if unit else 0):
            raise _unfit(signal, f"{value:g} is no whole number")
        return round(value)
    return float(value)


def check_limits(spec: PropertySpec | None, goal: Goal) -> None:
    """Lets a value within the limits of the twin's definition pass; raises InputError VALUE_INVALID."""
    value = goal.arguments
    if spec is None or isinstance(value, bool) or not isinstance(value, int | float):
        return
    if goal.unit != spec.unit and goal.unit:
        value = units.convert(float(value), goal.unit, spec.unit or "1")
    unit = f" {spec.unit}" if spec.unit else ""
    for limit, beyond in ((spec.low, spec.low is not None and value < spec.low),
                          (spec.high, spec.high is not None and value > spec.high)):  # fmt: skip
        if beyond:
            raise InputError(
                "VALUE_INVALID",
                f"{goal.property}: {value:g}{unit} is beyond the limit {limit:g}{unit} of the twin's definition",
                hint="command a value within the limits of the definition",
                field="value",
            )


def approvals_for(told: Mapping[str, Commandable], gateway: str, goal: Goal, wanted: int) -> int:
    """How many others must approve, by what the gateway says of the target: one at least for class B.

    Args:
        told: target -> what the gateway says of it.
        gateway: its name, for messages.
        goal: what is commanded.
        wanted: how many approvals were asked for.

    Raises:
        DeniedError: COMMAND_NOT_ALLOWED.
        InputError: COMMAND_OUT_OF_RANGE.
    """
    rule, value = told.get(goal.target), goal.arguments
    if rule is None:
        text = f"gateway {gateway!r} does not let {goal.target} be commanded"
        raise DeniedError("COMMAND_NOT_ALLOWED", text)
    if isinstance(value, int | float) and not isinstance(value, bool):
        low, high = rule.low, rule.high
        if (low is not None and value < low) or (high is not None and value > high):
            ends = ["" if end is None else f"{end:g}" for end in (low, high)]
            text = f"{goal.target} takes {f'{ends[0]} .. {ends[1]} {rule.unit}'.strip()}; {value:g} was sent"
            raise InputError("COMMAND_OUT_OF_RANGE", text, field="value")
    return max(wanted, int(rule.two_persons))


def _call(catalogue: Catalogue, prop: str, target: str, arguments: Arguments, unit: str) -> Goal:
    if prop or unit:
        field = "property" if prop else "unit"
        raise InputError("REQUEST_INVALID", f"{field}: a method has none; name `target: device.method`", field=field)
    if not isinstance(arguments, tuple | list) or len(arguments) > ARGUMENTS_MAX:
        raise InputError(
            "REQUEST_INVALID", f"arguments: they are no list of at most {ARGUMENTS_MAX} values", field="arguments"
        )
    for value in arguments:
        if isinstance(value, float) and not math.isfinite(value):
            raise InputError("VALUE_INVALID", f"arguments: {value} is no number", field="arguments")
        if isinstance(value, int) and not -_INT_MAX <= value < _INT_MAX:
            raise InputError("VALUE_INVALID", "arguments: a whole number is beyond 64 bits", field="arguments")
        if isinstance(value, str) and len(value) > TEXT_MAX:
            raise InputError("VALUE_INVALID", f"arguments: a text is longer than {TEXT_MAX}", field="arguments")
    device, dot, method = target.partition(".")
    if not dot or not device or not method:
        raise InputError("REQUEST_INVALID", "target: it is no `device.method`", field="target")
    devices = {signal.name.partition(".")[0] for signal in catalogue.signals if signal.role == "measured"}
    if device not in devices:
        guess = nearest(device, sorted(devices))
        hint = f"did you mean `{guess}`?" if guess else None
        raise MissingError("UNKNOWN_DEVICE", f"target: the twin's gateway has no device {device[:64]!r}", hint=hint)
    return Goal("", target, tuple(arguments), "")


def _signal_of(binding: TwinBinding, catalogue: Catalogue, prop: str) -> Signal:
    bound = binding.properties.get(prop)
    if bound is None and prop not in binding.outputs:
        guess = nearest(prop, sorted(binding.properties))
        hint = f"did you mean `{guess}`?" if guess else None
        raise MissingError("UNKNOWN_PROPERTY", f"twin {binding.twin!r} has no property {prop[:64]!r}", hint=hint)
    if not bound or bound not in catalogue.by_name:
        raise ConflictError(
            "NOT_WRITABLE",
            f"property {prop!r} of twin {binding.twin!r} is bound to no point of a device",
            hint="command a property that is measured",
        )
    return catalogue.by_name[bound]


def _signal_named(catalogue: Catalogue, target: str) -> Signal:
    signal = catalogue.by_name.get(target)
    measured = [one.name for one in catalogue.signals if one.role == "measured"]
    if signal is None:
        guess = nearest(target, measured)
        hint = f"did you mean `{guess}`?" if guess else None
        raise MissingError("UNKNOWN_SIGNAL", f"target: the twin's gateway has no point {target[:128]!r}", hint=hint)
    if signal.role != "measured":
        raise ConflictError(
            "NOT_WRITABLE", f"{target!r} is no point of a device", hint="name `device.point`, or a property of the twin"
        )
    return signal


def _unfit(signal: Signal, what: str, hint: str | None = None) -> InputError:
    return InputError("VALUE_INVALID", f"value for {signal.name}: {what}", hint=hint, field="value")


def _converted(value: float, unit: str, signal: Signal) -> float:
    try:
        return float(units.convert(value, unit, signal.unit or "1"))
    except InputError as error:
        if error.reason != "UNIT_CLASH":
            raise
        text = f"unit: {signal.name} is in {signal.unit or '1'}, which {unit[:64]!r} cannot become"
        hint = f"write the value in {signal.unit or '1'}, or in a unit of that dimension"
        raise InputError("UNIT_CLASH", text, hint=hint, field="unit") from None
