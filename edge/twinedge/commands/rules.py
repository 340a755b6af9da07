"""What a site allows to be commanded, joined from site.yaml and profiles, ready to be judged by."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from twinedge.config.load import LoadedSite
from twinmodel.clock import SECOND_NS
from twinmodel.errors import InputError
from twinmodel.profile.address import parse_type
from twinmodel.profile.schema import FirmwareProfile, Method, MethodInput, Point, kind_of
from twinmodel.profile.writes import parse_interlock, parse_rate
from twinmodel.signal import Kind
from twinsync.command import Commandable, Value

TEXT_MAX = 250
FRESH_NS = 10 * SECOND_NS
"""Age beyond which a value proves nothing, where neither profile nor protocol says one."""
INT_MIN, INT_MAX = -(1 << 63), (1 << 63) - 1

Age = Callable[[FirmwareProfile, Point], int]
"""Age beyond which the last value of a point is stale, 0 for none."""


@dataclass(frozen=True, slots=True)
class Bound:
    """What a value must be.

    Attributes:
        name: what it is for, in messages.
        low, high: within which a number must lie, NaN for no bound.
        states: numbers it may be and their names, empty for any.
    """

    name: str
    kind: Kind
    unit: str = ""
    low: float = math.nan
    high: float = math.nan
    states: Mapping[int, str] | None = None

    def fitted(self, value: object) -> Value:
        """The value as the kind has it; a name of a state becomes its number.

        Raises:
            InputError: COMMAND_INVALID, COMMAND_OUT_OF_RANGE, with value and limit.
        """
        number = self._typed(value)
        if isinstance(number, str):
            return number
        if self.states and int(number) not in self.states:
            names = ", ".join(f"{k} {v}" for k, v in list(self.states.items())[:8])
            raise self._wrong("COMMAND_OUT_OF_RANGE", f"{self.name} may be {names}; {number} was sent", value, names)
        if number < self.low or number > self.high:
            limit = f"{self.low:g} .. {self.high:g} {self.unit}".rstrip()
            raise self._wrong("COMMAND_OUT_OF_RANGE", f"{self.name} takes {limit}; {number:g} was sent", value, limit)
        return number

    def _typed(self, value: object) -> bool | int | float | str:
        if self.kind is Kind.STRING:
            if isinstance(value, str) and len(value.encode()) <= TEXT_MAX and "\0" not in value:
                return value
        elif isinstance(value, str):
            named = [n for n, label in (self.states or {}).items() if label == value]
            if named:
                return bool(named[0]) if self.kind is Kind.BOOL else named[0]
        elif self.kind is Kind.BOOL:
            if isinstance(value, (bool, int)) and value in {0, 1}:
                return bool(value)
        elif isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
            if self.kind is Kind.FLOAT:
                return float(value)
            if value == int(value) and INT_MIN <= value <= INT_MAX:
                return int(value)
        wanted = {Kind.FLOAT: "a finite number", Kind.INT: "a whole number", Kind.BOOL: "true or false"}
        text = wanted.get(self.kind, f"a text of at most {TEXT_MAX} bytes")
        raise self._wrong("COMMAND_INVALID", f"{self.name} takes {text}; {str(value)[:80]!r} was sent", value, text)

    def _wrong(self, reason: str, message: str, value: object, limit: str) -> InputError:
        return InputError(reason, message, value=str(value)[:80], limit=limit)


@dataclass(frozen=True, slots=True)
class Condition:
    """A signal that must be true, or must not; its newest value good, and not older than `fresh_ns`."""

    signal: str
    wanted: bool
    fresh_ns: int


@dataclass(frozen=True, slots=True)
class Rule:
    """What one target may be told, and when.

    Attributes:
        target: `device.point` or `device.method`.
        value: of a point; None for a method.
        inputs: of a method.
        step: largest change against the last good value, NaN for any.
        rate: how many in how many nanoseconds, None for any number.
        two_persons: class B.
        conditions: what must hold.
        fresh_ns: age beyond which the point's own value proves nothing.
        needs_good: whether the point's own newest value must be good.
        twin: whose model is asked, "" for none; `forbidden` are the states in which it must not be.
        settle_ns, tolerance: for reading back; NaN for one step of the encoding.
        watchdog_ns: within which the device's watchdog must be fed, 0 where there is none.
        own_watchdog: whether it is fed by writing the value again.
    """

    target: str
    device: str
    name: str
    value: Bound | None
    inputs: tuple[Bound, ...] = ()
    step: float = math.nan
    rate: tuple[int, int] | None = None
    two_persons: bool = True
    conditions: tuple[Condition, ...] = ()
    fresh_ns: int = FRESH_NS
    needs_good: bool = False
    twin: str = ""
    forbidden: frozenset[str] = frozenset()
    settle_ns: int = SECOND_NS
    tolerance: float = math.nan
    watchdog_ns: int = 0
    own_watchdog: bool = False

    @property
    def signals(self) -> frozenset[str]:
        """Signals whose newest values are needed."""
        own = {self.target} if self.value is not None else set()
        return frozenset(own | {condition.signal for condition in self.conditions})


def commandables_of(rules: Mapping[str, Rule]) -> tuple[Commandable, ...]:
    """What the coordinator is told of rules, so that it asks for the right approvals at once."""
    return tuple(
        Commandable(
            rule.target,
            rule.two_persons,
            "" if rule.value is None else rule.value.unit,
            *(end if math.isfinite(end) else None for end in _ends(rule.value)),
        )
        for rule in rules.values()
    )


def rules_of(loaded: LoadedSite, age_ns: Age) -> dict[str, Rule]:
    """The rules of everything that site.yaml allows; target -> rule."""
    found: dict[str, Rule] = {}
    for target in loaded.site.commands.allow:
        device, _, name = target.partition(".")
        profile = loaded.profiles.get(device)
        if profile is None:
            continue  # the device is wrong in site.yaml, and said so
        point, method = profile.points.get(name), profile.methods.get(name)
        if point is not None and point.write is not None:
            found[target] = _with_site(loaded, _of_point(profile, device, name, point, age_ns), age_ns)
        elif method is not None:
            found[target] = _with_site(loaded, _of_method(profile, device, name, method, age_ns), age_ns)
    return found


def _ends(bound: Bound | None) -> tuple[float, float]:
    return (math.nan, math.nan) if bound is None else (bound.low, bound.high)


def _of_point(profile: FirmwareProfile, device: str, name: str, point: Point, age_ns: Age) -> Rule:
    rules = point.write
    assert rules is not None, "only points with rules are asked for"
    kind = kind_of(point)
    low, high = rules.range or (math.nan, math.nan)
    watchdog = rules.watchdog
    return Rule(
        f"{device}.{name}",
        device,
        name,
        Bound(f"{device}.{name}", kind, point.unit, low, high, point.states or None),
        step=math.nan if rules.step is None else rules.step,
        rate=None if rules.rate is None else parse_rate(rules.rate),
        two_persons=rules.klass == "B",
        conditions=_conditions(profile, device, rules.interlock, age_ns),
        fresh_ns=age_ns(profile, point),
        settle_ns=rules.settle,
        tolerance=math.nan if rules.tolerance is None else rules.tolerance,
        watchdog_ns=0 if watchdog is None else watchdog.within,
        own_watchdog=watchdog is not None and watchdog.point == name,
    )


def _of_method(profile: FirmwareProfile, device: str, name: str, method: Method, age_ns: Age) -> Rule:
    return Rule(
        f"{device}.{name}",
        device,
        name,
        None,
        tuple(_bound_of(f"{device}.{name}: {key}", argument) for key, argument in method.inputs.items()),
        rate=None if method.rate is None else parse_rate(method.rate),
        two_persons=method.klass == "B",
        conditions=_conditions(profile, device, method.interlock, age_ns),
    )


def _bound_of(name: str, argument: MethodInput) -> Bound:
    wire = "string" if argument.as_ == "string" else parse_type(argument.as_).name
    kind = {"string": Kind.STRING, "bit": Kind.BOOL, "float": Kind.FLOAT}.get(wire, Kind.INT)
    low, high = argument.range or (math.nan, math.nan)
    return Bound(name, kind, argument.unit, low, high, argument.states or None)


def _conditions(profile: FirmwareProfile, device: str, interlock: str | None, age_ns: Age) -> tuple[Condition, ...]:
    if interlock is None:
        return ()
    name, wanted = parse_interlock(interlock)
    return (Condition(f"{device}.{name}", wanted, age_ns(profile, profile.points[name])),)


def _with_site(loaded: LoadedSite, rule: Rule, age_ns: Age) -> Rule:
    """The rule with what site.yaml adds to it."""
    said = loaded.site.commands.interlock.get(rule.target)
    if said is None:
        return rule
    conditions = list(rule.conditions)
    for text in said.when:
        signal, wanted = parse_interlock(text)
        device, _, point = signal.partition(".")
        profile = loaded.profiles.get(device)
        fresh_ns = FRESH_NS if profile is None else age_ns(profile, profile.points[point])
        conditions.append(Condition(signal, wanted, fresh_ns))
    return replace(
        rule,
        conditions=tuple(conditions),
        needs_good=said.quality is not None,
        twin=said.twin or "",
        forbidden=frozenset(said.not_) | {"silent"} if said.twin else frozenset(),
    )
