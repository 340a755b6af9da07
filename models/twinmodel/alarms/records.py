"""The record that tells of one step of one alarm: compact JSON, one sample of the text signal `ALARMS_SIGNAL`.

    AlarmRecord ── encode ──▶ text ── sample on the alarm lane ──▶ coordinator ── decode ──▶ AlarmRecord

A record says all there is to say of the alarm after the step, so that the newest one of an alarm is its state. What a
newer build adds is passed over; what it does not say has its default.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any, Final

from twinmodel.alarms.states import State
from twinmodel.errors import InputError

VERSION: Final = 1
RECORD_CHARS_MAX: Final = 16 << 10
"""Characters of a record that is read; what `encode` writes is shorter."""
NAME_CHARS_MAX: Final = 200
SOURCE_CHARS_MAX: Final = 256
TEXT_CHARS_MAX: Final = 500
SHORT_CHARS_MAX: Final = 64
U64_MAX: Final = 2**64 - 1
SEVERITY_MAX: Final = 1000
_NS_MAX: Final = 2**63 - 1
# What neither a terminal nor PostgreSQL nor UTF-8 takes: control characters and halves of surrogate pairs.
_UNPRINTABLE: Final = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


class Priority(StrEnum):
    """How soon somebody must act."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    URGENT = "urgent"


SEVERITIES: Final = {Priority.LOW: 300, Priority.MEDIUM: 500, Priority.HIGH: 700, Priority.URGENT: 900}
"""Severity of a rule that gives a priority alone; the middle of its band of 200 (OPC UA, 1 to 1000)."""


def priority_of(severity: int) -> Priority:
    """The priority of a severity of 1 to 1000, as of a device that tells severities alone."""
    bands = ((801, Priority.URGENT), (601, Priority.HIGH), (401, Priority.MEDIUM))
    return next((priority for least, priority in bands if severity >= least), Priority.LOW)


@dataclass(frozen=True, slots=True)
class AlarmRecord:
    """One alarm after one step.

    Attributes:
        alarm: name, unique in its gateway: the rule, or `RULE:SOURCE` where a rule looks at several sources.
        rule: the rule of site.yaml, `communication`, or `DEVICE` of an alarm that a device raises itself.
        source: signal, device, twin or gateway it is about.
        state: after ISA-18.2, see `twinmodel.alarms.states`.
        active: whether its condition holds.
        acked: whether somebody has seen it.
        severity: 1 to 1000.
        priority: the band of it that people sort by.
        text: what is wrong, one sentence.
        value: what the condition was judged by, None for nothing that can be told.
        limit: what it was held against, None for none.
        unit: of value and limit.
        quality: of the sample, such as `bad(STALE)`, "" for none.
        cause: name of the alarm or the device this one is a consequence of, "" for none.
        count: occurrences, or alarms of one cause, folded into this line.
        by: who asked for the step, "" for the rule.
        comment: what they said.
        until_ns: end of shelving, 0 for none.
        occurrence: grows each time the alarm is raised anew; an acknowledgement names it.
        at_ns: wall time of the step.
    """

    alarm: str
    rule: str
    source: str
    state: State
    active: bool
    acked: bool
    severity: int
    priority: Priority
    text: str
    value: float | bool | str | None
    limit: float | None
    unit: str
    quality: str
    cause: str
    count: int
    by: str
    comment: str
    until_ns: int
    occurrence: int
    at_ns: int


_CHARS: Final = {
    "alarm": NAME_CHARS_MAX,
    "rule": NAME_CHARS_MAX,
    "source": SOURCE_CHARS_MAX,
    "text": TEXT_CHARS_MAX,
    "unit": SHORT_CHARS_MAX,
    "quality": SHORT_CHARS_MAX,
    "cause": SOURCE_CHARS_MAX,
    "by": NAME_CHARS_MAX,
    "comment": TEXT_CHARS_MAX,
}
_WHOLE: Final = {
    "severity": (1, SEVERITY_MAX, 1),
    "count": (0, U64_MAX, 1),
    "until_ns": (0, _NS_MAX, 0),
    "occurrence": (0, U64_MAX, 0),
    "at_ns": (0, _NS_MAX, 0),
}
"""Field -> least, greatest, default."""
_NEEDED: Final = ("alarm", "state")


def encode(record: AlarmRecord) -> str:
    """A record as one line of JSON; texts that are too long are cut, numbers that are none become null."""
    found: dict[str, Any] = {"v": VERSION}
    for field in fields(AlarmRecord):
        found[field.name] = _sound(field.name, getattr(record, field.name))
    return json.dumps(found, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def decode(text: str) -> AlarmRecord:
    """The record of a text.

    A newer version is read as far as this build knows it: unknown keys are passed over, an unknown priority is that of
    the severity.

    Raises:
        InputError: VALUE_INVALID, it is no record: no JSON object, too long, without name or with a field of another
            type, or in a state this build does not know.
    """
    if len(text) > RECORD_CHARS_MAX:
        raise _unreadable(f"{len(text)} characters, at most {RECORD_CHARS_MAX}")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _unreadable(str(error)) from None
    if not isinstance(found, dict):
        raise _unreadable("it is no object")
    if isinstance(found.get("v"), bool) or not isinstance(found.get("v"), int) or found["v"] < 1:
        raise _unreadable(f"version {found.get('v')!r:.40}")
    for name in _NEEDED:
        if not found.get(name):
            raise _unreadable(f"it has no {name!r}")
    severity = _number(found, "severity")
    return AlarmRecord(
        alarm=_text(found, "alarm"),
        rule=_text(found, "rule"),
        source=_text(found, "source"),
        state=_state(found["state"]),
        active=_flag(found, "active"),
        acked=_flag(found, "acked"),
        severity=severity,
        priority=_priority(found, severity),
        text=_text(found, "text"),
        value=_value(found),
        limit=_limit(found),
        unit=_text(found, "unit"),
        quality=_text(found, "quality"),
        cause=_text(found, "cause"),
        count=_number(found, "count"),
        by=_text(found, "by"),
        comment=_text(found, "comment"),
        until_ns=_number(found, "until_ns"),
        occurrence=_number(found, "occurrence"),
        at_ns=_number(found, "at_ns"),
    )


def printable(text: str, chars_max: int = TEXT_CHARS_MAX) -> str:
    """A text without what a terminal or a database chokes on, cut to its bound."""
    clean = _UNPRINTABLE.sub(" ", text[: chars_max + 1])
    return clean if len(clean) <= chars_max else clean[: chars_max - 1] + "…"


def _sound(name: str, value: Any) -> Any:
    if name in _CHARS:
        return printable(value, _CHARS[name])
    if name in _WHOLE:
        least, most, _ = _WHOLE[name]
        return min(max(int(value), least), most)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if name == "value" and isinstance(value, str):
        return printable(value, SHORT_CHARS_MAX)
    return value


def _unreadable(why: str) -> InputError:
    return InputError("VALUE_INVALID", f"this is no record of an alarm: {why}")


def _text(found: dict[str, Any], name: str) -> str:
    value = found.get(name, "")
    if not isinstance(value, str):
        raise _unreadable(f"{name} is no text")
    return printable(value, _CHARS[name])


def _flag(found: dict[str, Any], name: str) -> bool:
    value = found.get(name, False)
    if not isinstance(value, bool):
        raise _unreadable(f"{name} is neither true nor false")
    return value


def _number(found: dict[str, Any], name: str) -> int:
    least, most, default = _WHOLE[name]
    value = found.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise _unreadable(f"{name} is no whole number of {least} to {most}")
    return value


def _state(value: Any) -> State:
    try:
        return State(value)
    except ValueError:
        raise _unreadable(f"state {value!r:.40}") from None


def _priority(found: dict[str, Any], severity: int) -> Priority:
    value = found.get("priority", "")
    return Priority(value) if value in list(Priority) else priority_of(severity)


def _value(found: dict[str, Any]) -> float | bool | str | None:
    value = found.get("value")
    if isinstance(value, str):
        return printable(value, SHORT_CHARS_MAX)
    return value if isinstance(value, bool) else _limit(found, "value")


def _limit(found: dict[str, Any], name: str = "limit") -> float | None:
    value = found.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _unreadable(f"{name} is no number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise _unreadable(f"{name} is no number")
    return number
