"""Whether a command may be carried out: pure judgement, of rules, facts and a time that are handed in.

    admit      when it comes: allowed, of the right kind, in range, approved, not too late
    begin      when it is its turn: all that may have changed since, and step and rate
    may_go     at the last moment before the device is touched

Deadlines are points of the boot clock: a wall clock that jumps changes nothing. What is refused raises, with the rule
that refuses it as the reason.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from twinedge.commands.rules import Bound, Condition, Rule
from twinmodel.clock import SECOND_NS
from twinmodel.errors import ConflictError, DeniedError, InputError, TwinError
from twinmodel.profile.document import nearest
from twinmodel.quality import QualityClass, class_of, describe
from twinsync.command import Command, CommandKind, Value


@dataclass(frozen=True, slots=True)
class Reading:
    """The newest value of a signal: its quality, and when it came by the boot clock."""

    value: Value
    quality: int
    boot_ns: int


class Facts(Protocol):
    """What is known at a moment."""

    def newest(self, signal: str) -> Reading | None:
        """The newest sample of a signal, None before the first."""
        ...

    def twin(self, name: str) -> frozenset[str]:
        """States of a twin's model: drifting, settling, left_regime, soaking; silent where no model speaks."""
        ...

    def frozen(self) -> str:
        """Why nothing may be commanded at all, "" when it may."""
        ...


@dataclass(frozen=True, slots=True)
class Order:
    """A command that was admitted.

    Attributes:
        value: what is written, None for a call.
        arguments: of a call.
        due_ns: its deadline on the boot clock.
    """

    command: Command
    rule: Rule
    value: Value
    arguments: tuple[Value, ...]
    due_ns: int


def admit(rules: Mapping[str, Rule], command: Command, facts: Facts, now_ns: int, longest_ns: int) -> Order:
    """What can be judged when a command comes.

    Args:
        rules: target -> rule, of all that is allowed.
        command: as it came.
        facts: see `Facts`.
        now_ns: boot clock.
        longest_ns: the longest deadline that is taken.

    Raises:
        TwinError: COMMAND_NOT_ALLOWED, COMMAND_INVALID, COMMAND_OUT_OF_RANGE, COMMAND_UNAPPROVED, COMMAND_LATE,
            COMMAND_FROZEN.
    """
    _check_frozen(facts)
    rule = rules.get(command.target)
    if rule is None:
        guess = nearest(command.target, rules)
        hint = f"allowed is {guess}" if guess else None
        message = f"{command.target} is not among the commands this site allows"
        raise DeniedError("COMMAND_NOT_ALLOWED", message, hint=hint, value=command.target)
    _check_kind(command, rule)
    if command.left_ns > longest_ns:
        message = f"a deadline {command.left_ns / SECOND_NS:g} s away, this site takes {longest_ns / SECOND_NS:g} s"
        raise InputError("COMMAND_INVALID", message, value=command.left_ns, limit=longest_ns)
    order = Order(command, rule, *_told(command, rule), now_ns + command.left_ns)
    _check_approved(order)
    _check_due(order, now_ns)
    return order


def begin(order: Order, facts: Facts, now_ns: int, ages_ns: Iterable[int], told: Value = None) -> None:
    """What is judged when it is a command's turn.

    Args:
        order: the command.
        facts: see `Facts`.
        now_ns: boot clock.
        ages_ns: how long ago, at least, the commands to this target began that did begin.
        told: what the point was told last, as long as its own value may not show it yet; None for nothing.

    Raises:
        TwinError: as `may_go`; COMMAND_RATE_EXCEEDED, COMMAND_STEP_TOO_LARGE.
    """
    may_go(order, facts, now_ns)
    rule = order.rule
    if rule.rate is not None:
        count, span_ns = rule.rate
        recent = sorted(age for age in ages_ns if age < span_ns)
        if len(recent) >= count:
            wait_s = (span_ns - recent[count - 1]) / SECOND_NS
            limit = f"{count} in {span_ns / SECOND_NS:g} s"
            message = f"{rule.target} takes {limit}, the next one in {wait_s:.0f} s"
            raise ConflictError("COMMAND_RATE_EXCEEDED", message, value=len(recent) + 1, limit=limit)
    if not math.isnan(rule.step):
        _check_step(order, facts, now_ns, told)


def may_go(order: Order, facts: Facts, now_ns: int) -> None:
    """What is judged at the last moment.

    Raises:
        ConflictError: COMMAND_LATE, COMMAND_FROZEN, COMMAND_INTERLOCKED.
    """
    _check_frozen(facts)
    _check_due(order, now_ns)
    check_interlocks(order.rule, facts, now_ns)


def check_interlocks(rule: Rule, facts: Facts, now_ns: int) -> None:
    """Raises ConflictError COMMAND_INTERLOCKED for the first condition that does not hold, or is not known to."""
    for condition in rule.conditions:
        _check_condition(rule, condition, facts, now_ns)
    if rule.needs_good and rule.value is not None:
        _good(rule, rule.target, rule.fresh_ns, facts, now_ns)
    if rule.twin:
        met = sorted(facts.twin(rule.twin) & rule.forbidden)
        if met:
            message = f"{rule.target}: the model of {rule.twin} is {', '.join(met)}"
            raise ConflictError("COMMAND_INTERLOCKED", message, value=met[0], limit=", ".join(sorted(rule.forbidden)))


def approvers(command: Command) -> frozenset[str]:
    """The persons behind a command; one who approves twice, or the own command, is one."""
    return frozenset(name for who in (command.by, *command.approved_by) if (name := who.strip().casefold()))


def _check_frozen(facts: Facts) -> None:
    if why := facts.frozen():
        raise ConflictError("COMMAND_FROZEN", f"nothing is commanded: {why}", value=why)


def _check_kind(command: Command, rule: Rule) -> None:
    kinds = {CommandKind.CALL} if rule.value is None else {CommandKind.WRITE, CommandKind.HOLD}
    if command.kind not in kinds:
        what = "a method, which is called" if rule.value is None else "a point, which is written"
        message = f"{command.target} is {what}; {command.kind.name} was sent"
        raise InputError("COMMAND_INVALID", message, value=command.kind.name)
    if command.kind is CommandKind.HOLD and not rule.watchdog_ns:
        message = f"{command.target} cannot be held: its profile names no watchdog of the device"
        hint = "write it once, or add `watchdog:` to its rules if the device has one"
        raise DeniedError("COMMAND_NOT_ALLOWED", message, hint=hint, value=command.kind.name)


def _told(command: Command, rule: Rule) -> tuple[Value, tuple[Value, ...]]:
    """Value and arguments, as their kinds have them."""
    sent = command.arguments
    if rule.value is not None:
        return rule.value.fitted(sent), ()
    given = [] if sent is None else list(sent) if isinstance(sent, (list, tuple)) else [sent]
    if len(given) != len(rule.inputs):
        names = ", ".join(_short(bound) for bound in rule.inputs) or "nothing"
        message = f"{command.target} takes {names}; {len(given)} arguments were sent"
        raise InputError("COMMAND_INVALID", message, value=len(given), limit=len(rule.inputs))
    return None, tuple(bound.fitted(value) for bound, value in zip(rule.inputs, given, strict=True))


def _short(bound: Bound) -> str:
    return bound.name.rpartition(" ")[2]


def _check_approved(order: Order) -> None:
    if not order.command.by.strip():
        raise DeniedError("COMMAND_UNAPPROVED", f"{order.rule.target}: nobody says to have issued it", value=0, limit=1)
    persons = approvers(order.command)
    if order.rule.two_persons and len(persons) < 2:
        message = f"{order.rule.target} is of class B, which two persons must want; {', '.join(sorted(persons))} does"
        raise DeniedError("COMMAND_UNAPPROVED", message, value=len(persons), limit=2)


def _check_due(order: Order, now_ns: int) -> None:
    if now_ns >= order.due_ns:
        late_s = (now_ns - order.due_ns) / SECOND_NS
        message = f"{order.rule.target}: its deadline passed {late_s:.3f} s ago"
        raise ConflictError("COMMAND_LATE", message, value=round(late_s, 3), limit=0)


def _check_condition(rule: Rule, condition: Condition, facts: Facts, now_ns: int) -> None:
    reading = _good(rule, condition.signal, condition.fresh_ns, facts, now_ns)
    if bool(reading.value) is not condition.wanted:
        wanted = "true" if condition.wanted else "false"
        message = f"{rule.target}: {condition.signal} must be {wanted}, it is {reading.value}"
        raise ConflictError("COMMAND_INTERLOCKED", message, value=str(reading.value), limit=wanted)


def _good(rule: Rule, signal: str, fresh_ns: int, facts: Facts, now_ns: int) -> Reading:
    reading = facts.newest(signal)
    if reading is None:
        raise _unproven(rule, f"{signal} has no value yet", "none", "good")
    if class_of(reading.quality) is not QualityClass.GOOD:
        raise _unproven(rule, f"{signal} is {describe(reading.quality)}", describe(reading.quality), "good")
    age_ns = now_ns - reading.boot_ns
    if fresh_ns and age_ns > fresh_ns:
        message = f"{signal} is {age_ns / SECOND_NS:.1f} s old, it counts for {fresh_ns / SECOND_NS:g} s"
        raise _unproven(rule, message, f"{age_ns / SECOND_NS:.1f} s", f"{fresh_ns / SECOND_NS:g} s")
    return reading


def _unproven(rule: Rule, what: str, value: str, limit: str) -> TwinError:
    return ConflictError("COMMAND_INTERLOCKED", f"{rule.target}: {what}", value=value, limit=limit)


def _check_step(order: Order, facts: Facts, now_ns: int, told: Value) -> None:
    rule, value = order.rule, order.value
    assert isinstance(value, (int, float)), "only numbers have steps"
    try:
        shown = _good(rule, rule.target, rule.fresh_ns, facts, now_ns).value
    except ConflictError as unknown:
        message = f"{unknown.message}: no good value to step from"
        raise ConflictError("COMMAND_STEP_TOO_LARGE", message, value=value, limit=rule.step) from unknown
    for base in (shown, told):
        if isinstance(base, (int, float)) and abs(value - base) > rule.step * (1 + 1e-9):
            message = f"{rule.target} goes {rule.step:g} at once; from {base:g} to {value:g} was sent"
            raise ConflictError("COMMAND_STEP_TOO_LARGE", message, value=value, limit=rule.step)
