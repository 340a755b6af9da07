"""What people ask of alarms: acknowledge, shelve, take out of service; from the coordinator or from a shell here."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from twinedge.alarms.alarm import Alarm, Now
from twinedge.alarms.engine import Engine
from twinmodel.alarms.records import NAME_CHARS_MAX, TEXT_CHARS_MAX, AlarmRecord, printable
from twinmodel.alarms.states import Standing, acknowledged, put_back, shelved, taken_out, unshelved
from twinmodel.clock import SECOND_NS
from twinmodel.errors import ConflictError, InputError, MissingError
from twinmodel.profile.document import nearest

TARGET: Final = "@alarm/"
"""What the target of a directive begins with; the alarm's name follows."""
_SECONDS_MAX: Final = 10 * 365 * 86_400.0


@dataclass(frozen=True, slots=True)
class Request:
    """One thing somebody wants of one alarm.

    Attributes:
        do: `ack`, `shelve`, `unshelve`, `out_of_service`, `in_service` or `comment`.
        alarm: its name.
        occurrence: which one was looked at, None for whichever stands now.
        for_ns: how long to shelve it.
        by: who.
        comment: what they say.
    """

    do: str
    alarm: str
    occurrence: int | None = None
    for_ns: int = 0
    by: str = ""
    comment: str = ""


def request_of(alarm: str, body: Mapping[str, Any]) -> Request:
    """A request as it came; raises VALUE_INVALID."""
    do, by, comment = (body.get(name, "") for name in ("do", "by", "comment"))
    if not isinstance(do, str) or do not in STEPS:
        raise InputError("VALUE_INVALID", f"do: {do!r:.40} is none of {', '.join(STEPS)}")
    if not isinstance(by, str) or not isinstance(comment, str):
        raise InputError("VALUE_INVALID", "by and comment must be text")
    occurrence, for_s = body.get("occurrence"), body.get("for_s", 0)
    if occurrence is not None and (isinstance(occurrence, bool) or not isinstance(occurrence, int)):
        raise InputError("VALUE_INVALID", f"occurrence: {occurrence!r:.40} is no whole number")
    if isinstance(for_s, bool) or not isinstance(for_s, (int, float)) or not 0 <= for_s <= _SECONDS_MAX:
        raise InputError("VALUE_INVALID", f"for_s: {for_s!r:.40} is no time in seconds")
    for_ns = round(for_s * SECOND_NS)
    return Request(do, alarm, occurrence, for_ns, printable(by, NAME_CHARS_MAX), printable(comment, TEXT_CHARS_MAX))


def request_of_directive(target: str, content: bytes) -> Request:
    """The request that a directive carries; raises VALUE_INVALID."""
    try:
        body = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InputError("VALUE_INVALID", f"the directive for {target} is no JSON: {error}") from None
    if not isinstance(body, dict):
        raise InputError("VALUE_INVALID", f"the directive for {target} is no object")
    return request_of(target.removeprefix(TARGET), body)


def ask(engine: Engine, request: Request, now: Now) -> AlarmRecord:
    """Does what is asked; asking again for what is so already changes nothing.

    Returns:
        The alarm as it stands then.

    Raises:
        MissingError: UNKNOWN_ALARM.
        ConflictError: ALARM_CHANGED, it was raised anew since it was looked at.
        InputError: VALUE_INVALID, shelving for no time or for too long.
    """
    alarm = engine.alarms.get(request.alarm)
    if alarm is None:
        raise unknown(engine, request.alarm)
    occurrence = alarm.standing.occurrence
    if request.occurrence is not None and request.occurrence != occurrence:
        text = f"{request.alarm} was raised anew: occurrence {occurrence}, not {request.occurrence}"
        raise ConflictError("ALARM_CHANGED", text, occurrence=occurrence)
    after = STEPS[request.do](alarm, request, now)
    if after == alarm.standing and request.do != "comment":
        return alarm.record(alarm.at_ns)
    alarm.standing, alarm.by, alarm.comment, alarm.at_ns = after, request.by, request.comment, now.wall_ns
    if after.shelved_until_ns:
        engine.shelved[request.alarm] = alarm
    else:
        alarm.shelved_until_boot_ns = None
        engine.shelved.pop(request.alarm, None)
    return engine.tell(alarm, now.wall_ns, now, always=True)


def unknown(engine: Engine, name: str) -> MissingError:
    """The error for an alarm that this gateway has not, with the nearest name it has."""
    guess = nearest(name, engine.alarms)
    hint = f"did you mean `{guess}`?" if guess else None
    return MissingError("UNKNOWN_ALARM", f"no alarm {name!r} in this gateway", hint=hint)


def _long(time_ns: int) -> str:
    """A time as people write it: `30 d`, `24 h`, `90 s`."""
    for unit, size_s in (("d", 86_400), ("h", 3600), ("min", 60)):
        if time_ns >= 2 * size_s * SECOND_NS or (unit != "d" and time_ns == size_s * SECOND_NS):
            return f"{time_ns / SECOND_NS / size_s:g} {unit}"
    return f"{time_ns / SECOND_NS:g} s"


def _shelve(alarm: Alarm, request: Request, now: Now) -> Standing:
    longest_ns = alarm.spec.shelve_max_ns
    if not 0 < request.for_ns <= longest_ns:
        raise InputError(
            "VALUE_INVALID",
            f"{alarm.spec.name} cannot be shelved for {_long(request.for_ns)}, at most for {_long(longest_ns)}",
            hint="name a shorter time, or raise `shelve_max` in site.yaml",
        )
    alarm.shelved_until_boot_ns = now.boot_ns + request.for_ns
    return shelved(alarm.standing, now.wall_ns + request.for_ns)


STEPS: Final[Mapping[str, Callable[[Alarm, Request, Now], Standing]]] = {
    "ack": lambda alarm, _request, _now: acknowledged(alarm.standing),
    "shelve": _shelve,
    "unshelve": lambda alarm, _request, _now: unshelved(alarm.standing),
    "out_of_service": lambda alarm, _request, _now: taken_out(alarm.standing),
    "in_service": lambda alarm, _request, _now: put_back(alarm.standing),
    "comment": lambda alarm, _request, _now: alarm.standing,
}
"""What can be asked, and where it leads."""
