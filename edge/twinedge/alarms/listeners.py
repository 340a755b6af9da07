"""Hangs the conditions of alarms, and what suppresses them, on the signals of a catalogue."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from twinedge.alarms.alarm import Alarm
from twinedge.alarms.senses import Among, Change, Doubt, Sense, Threshold, sense_of
from twinedge.alarms.specs import AlarmSpec
from twinedge.config.alarms import Comparison
from twinmodel.signal import Catalogue

POLLED: Final = frozenset({"drift", "regime", "deviation"})
"""Conditions that models are asked for."""


@dataclass(slots=True)
class Listener:
    """A condition on a signal, and what hangs on it.

    Attributes:
        sense: the condition.
        alarm: the alarm it is the condition of, None for one that suppresses.
        guarded: alarms that it suppresses.
    """

    sense: Sense
    alarm: Alarm | None
    guarded: list[Alarm]


def listen(
    alarms: Iterable[Alarm], known: Mapping[Comparison, Sense], catalogue: Catalogue
) -> tuple[dict[int, list[Listener]], dict[Comparison, Sense]]:
    """Listeners by signal, those that suppress first, then in the order of the alarms; and what suppresses.

    Args:
        alarms: they learn the number of their signal, and what guards them.
        known: conditions that suppressed until now; they keep what they know.
        catalogue: the signals.
    """
    guards: dict[Comparison, Listener] = {}
    listeners: dict[int, list[Listener]] = {}
    for alarm in alarms:
        signal = catalogue.by_name.get(alarm.spec.source)
        if alarm.sense is not None and signal is not None and alarm.spec.kind not in POLLED:
            alarm.signal = signal.id
            listeners.setdefault(signal.id, []).append(Listener(alarm.sense, alarm, []))
        alarm.guards = ()
        for comparison, wanted in _guards(alarm.spec):
            if comparison.signal not in catalogue.by_name:
                continue
            if comparison not in guards:
                sense = known.get(comparison) or sense_of(comparison)
                guards[comparison] = Listener(sense, None, [])
                listeners.setdefault(catalogue.by_name[comparison.signal].id, []).append(guards[comparison])
            guards[comparison].guarded.append(alarm)
            alarm.guards = (*alarm.guards, (guards[comparison].sense, wanted))
    # What suppresses is heard before what it suppresses.
    for mine in listeners.values():
        mine.sort(key=lambda one: one.alarm is not None)
    return listeners, {comparison: listener.sense for comparison, listener in guards.items()}


def sense_for(spec: AlarmSpec) -> Sense | None:
    """The condition of an alarm, None where something else than a value decides."""
    if spec.kind in {"high", "high_high", "deviation"}:
        return Threshold(">", spec.limit or 0.0, spec.hysteresis)
    if spec.kind in {"low", "low_low"}:
        return Threshold("<", spec.limit or 0.0, spec.hysteresis)
    if spec.kind == "rate":
        return Change(spec.limit or 0.0)
    if spec.kind == "quality":
        return Doubt(spec.qualities)
    return Among(spec.values) if spec.kind == "is" else None


def _guards(spec: AlarmSpec) -> list[tuple[Comparison, bool]]:
    """Comparisons, and what each must be so that the alarm is not suppressed."""
    return [*((c, True) for c in spec.when), *((c, False) for c in spec.unless)]
