"""From records of alarms to shapes of the API, and what of them needs attention: pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from twincloud.api.problems import problem_body
from twincloud.api.times import to_text, to_text_or_none
from twincloud.api.v1.alarm_shapes import AckedOne, AlarmAction, AlarmStepView, AlarmView
from twincloud.api.v1.schemas import AlarmCounts, Attention, Health
from twincloud.storage.records_alarms import OWN, Alarm, AlarmMarks, AlarmStep
from twinmodel.alarms.records import Priority
from twinmodel.alarms.states import State
from twinmodel.errors import TwinError

_URGENT: Final[dict[Priority, Health]] = {Priority.URGENT: "bad", Priority.HIGH: "warn"}
_SHOWN: Final = (State.UNACK, State.ACKED)


def alarm_view(alarm: Alarm) -> AlarmView:
    """An alarm."""
    now, action = alarm.record, alarm.action
    asked = action and AlarmAction(
        do=action.name,
        by=action.created_by,
        at=to_text(action.created_ns),
        directive=action.id,
        outcome=action.outcome,
        reason=action.reason,
        detail=action.detail,
    )
    return AlarmView(
        id=alarm.id,
        tenant=alarm.gateway.tenant,
        site=alarm.gateway.site,
        gateway=alarm.gateway.gateway,
        alarm=now.alarm,
        rule=now.rule,
        source=now.source,
        twins=list(alarm.twins),
        state=now.state.value,
        active=now.active,
        acked=now.acked,
        severity=now.severity,
        priority=now.priority.value,
        text=now.text,
        value=now.value,
        limit=now.limit,
        unit=now.unit,
        quality=now.quality,
        cause=now.cause,
        count=now.count,
        by=now.by,
        comment=now.comment,
        occurrence=now.occurrence,
        since=to_text(alarm.since_ns),
        changed=to_text(alarm.changed_ns),
        committed=to_text(alarm.committed_ns),
        until=to_text_or_none(now.until_ns),
        as_of=None if alarm.connected or now.alarm == OWN else to_text(alarm.seen_ns),
        pending=action is not None and not action.outcome,
        action=asked,
    )


def step_view(step: AlarmStep) -> AlarmStepView:
    """A line of the journal."""
    said = step.record
    return AlarmStepView(
        time=to_text(step.t_ns),
        received=to_text(step.received_ns),
        committed=to_text(step.committed_ns),
        state=said.state.value,
        active=said.active,
        acked=said.acked,
        priority=said.priority.value,
        severity=said.severity,
        text=said.text,
        value=said.value,
        limit=said.limit,
        unit=said.unit,
        quality=said.quality,
        cause=said.cause,
        count=said.count,
        by=said.by,
        comment=said.comment,
        occurrence=said.occurrence,
        until=to_text_or_none(said.until_ns),
    )


def acked_view(alarm: str, answer: Alarm | TwinError) -> AckedOne:
    """The answer to one of several."""
    if isinstance(answer, TwinError):
        return AckedOne(id=alarm, problem=problem_body(answer))
    return AckedOne(id=alarm, alarm=alarm_view(answer))


def counts_view(marks: AlarmMarks) -> AlarmCounts:
    """Numbers."""
    unacked = dict(marks.unacked)
    return AlarmCounts.model_construct(
        unacked=sum(unacked.values()), active=marks.active, highest=marks.highest, by_priority=unacked
    )


def attention_of(alarms: Sequence[Alarm]) -> Iterable[Attention]:
    """Urgent and high alarms that hold, one line per cause; what a gateway that is away said last is told by itself."""
    names = {(a.gateway, name) for a in alarms for name in (a.record.alarm, a.record.source)}
    for alarm in alarms:
        now = alarm.record
        told = now.alarm == OWN or not alarm.connected or (alarm.gateway, now.cause) in names
        if now.priority in _URGENT and now.state in _SHOWN and not told:
            yield Attention(
                severity=_URGENT[now.priority],
                kind="alarm",
                site=alarm.gateway.site,
                name=now.alarm,
                why=f"{now.text or now.alarm} (alarm {now.alarm}, {now.priority.value})",
            )
