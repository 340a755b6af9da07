"""What site.yaml asks for, spelled out: one specification for each alarm that a rule makes."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from twinedge.config.alarms import (
    COMMUNICATION,
    OF_TWINS,
    AlarmRule,
    Chatter,
    Communication,
    Comparison,
    Word,
    listed,
    matching,
    parse_chatter,
    parse_comparison,
)
from twinedge.config.load import LoadedSite
from twinmodel.alarms.records import NAME_CHARS_MAX, SEVERITIES, decode, priority_of
from twinmodel.alarms.states import Manner
from twinmodel.errors import InputError
from twinmodel.signal import Catalogue, Kind

DEVICE: Final = "device"
"""Kind of an alarm that a device raises itself."""
ALARMS_MAX: Final = 20_000
"""Alarms of one gateway; what rules with many sources make beyond them is left out and told."""
_SLUG: Final = re.compile(r"[^A-Za-z0-9._-]+")
_TEXTS: Final = {
    "low_low": "{source} is {value} {unit}, far below {limit} {unit}",
    "low": "{source} is {value} {unit}, below {limit} {unit}",
    "high": "{source} is {value} {unit}, above {limit} {unit}",
    "high_high": "{source} is {value} {unit}, far above {limit} {unit}",
    "rate": "{source} changes by {value} {unit} a second, more than {limit}",
    "quality": "{source} is {quality}",
    "drift": "{source} does not behave as its model: {value}",
    "regime": "{source} has left where its model holds: {value}",
    "deviation": "{source} is {value} standard deviations from what its model predicts",
    "communication": "{source} does not answer",
    "is": "{source} is {value}",
}


@dataclass(frozen=True, slots=True)
class AlarmSpec:
    """One alarm, as its rule wants it; equal ones keep their state over a change of the configuration.

    Attributes:
        name: `RULE`, or `RULE:SOURCE` where a rule looks at several sources, `RULE.high` where it has several limits.
        rule: name of the rule.
        source: signal, twin, `twin/output`, device or connection.
        kind: a limit, or the condition of the rule; `group` for a line that stands for others, `device` for one that
            a device raises itself.
        limit, hysteresis, values, qualities: what the condition is judged by.
        unit: of limit and value.
        labels: names of the values of a signal with states.
        delay_ns, off_delay_ns: how long the condition must hold, or have gone.
        severity: 1 to 1000.
        text: with places such as {value}.
        manner: acknowledgement and latch.
        when, unless: what suppresses it.
        shelve_max_ns: longest shelving.
        chatter, flood: see `AlarmDefaults`, None for never.
        device: the device that measures the source, "" for none.
        outer: the alarm of the limit beyond, which covers this one while it stands; "" for none.
    """

    name: str
    rule: str
    source: str
    kind: str
    severity: int
    text: str
    limit: float | None = None
    hysteresis: float = 0.0
    values: tuple[Word, ...] = ()
    qualities: tuple[str, ...] = ()
    unit: str = ""
    labels: tuple[tuple[int, str], ...] = ()
    delay_ns: int = 0
    off_delay_ns: int = 0
    manner: Manner = field(default_factory=Manner)
    when: tuple[Comparison, ...] = ()
    unless: tuple[Comparison, ...] = ()
    shelve_max_ns: int = 0
    chatter: Chatter | None = None
    flood: Chatter | None = None
    device: str = ""
    outer: str = ""

    @property
    def priority(self) -> str:
        """The band of its severity."""
        return priority_of(self.severity)


def alarm_name(rule: str, source: str) -> str:
    """Name of the alarm of one source among several; fits a path of REST and a target of a directive."""
    return f"{rule}:{_SLUG.sub('.', source).strip('.')}"[:NAME_CHARS_MAX]


def specs_of(loaded: LoadedSite, catalogue: Catalogue) -> list[AlarmSpec]:
    """Every alarm of a site; a rule about an output that no model gives at present makes none.

    At most `ALARMS_MAX`, in the order of the file.
    """
    compiler = _Compiler(loaded, catalogue)
    found: dict[str, AlarmSpec] = {}
    for name, rule in loaded.site.alarms.items():
        for spec in compiler.rule(name, rule):
            found.setdefault(spec.name, spec)
    for spec in compiler.communications():
        found.setdefault(spec.name, spec)
    return list(found.values())[:ALARMS_MAX]


def resurrected(saved: Mapping[str, Mapping[str, Any]], telling: Collection[str]) -> list[AlarmSpec]:
    """Alarms that devices raised before a restart: they stand until the device says otherwise.

    Args:
        saved: what was kept of alarms, by name.
        telling: devices that raise alarms themselves.
    """
    found = []
    for name, one in saved.items():
        if one.get("kind") != DEVICE:
            continue
        try:
            told, longest_ns = decode(str(one.get("told"))), int(one.get("shelve_max_ns", 0))
        except (InputError, TypeError, ValueError):
            continue
        if told.rule in telling and told.alarm == name:
            found.append(
                AlarmSpec(
                    name=name,
                    rule=told.rule,
                    source=told.source,
                    kind=DEVICE,
                    severity=told.severity,
                    text=told.text,
                    shelve_max_ns=longest_ns,
                    device=told.rule,
                )
            )
    return found


class _Compiler:
    def __init__(self, loaded: LoadedSite, catalogue: Catalogue) -> None:
        self._loaded = loaded
        self._signals = catalogue.by_name
        self._defaults = loaded.site.alarm_defaults
        self._watched: set[str] = set()

    def rule(self, name: str, rule: AlarmRule) -> Iterator[AlarmSpec]:
        seen: set[str] = set()
        for pattern in rule.sources:
            for source in matching(pattern, self._candidates(rule)):
                if source not in seen:
                    seen.add(source)
                    yield from self._specs(alarm_name(name, source) if rule.many else name, name, rule, source)

    def communications(self) -> Iterator[AlarmSpec]:
        """The alarm that every device has for which no rule is written."""
        wanted = self._defaults.communication
        if not isinstance(wanted, Communication):
            return
        for device in self._loaded.site.devices:
            if device not in self._watched:
                yield AlarmSpec(
                    name=alarm_name(COMMUNICATION, device),
                    rule=COMMUNICATION,
                    source=device,
                    kind="communication",
                    severity=SEVERITIES[wanted.priority],
                    text=_TEXTS["communication"],
                    delay_ns=wanted.delay,
                    off_delay_ns=wanted.off_delay,
                    manner=Manner(ack=wanted.ack),
                    shelve_max_ns=self._defaults.shelve_max,
                    chatter=_times(self._defaults.chatter),
                    flood=_times(self._defaults.flood),
                    device=device,
                )

    def _candidates(self, rule: AlarmRule) -> list[str]:
        if rule.condition == "communication":
            return list(self._loaded.site.devices)
        if rule.condition in OF_TWINS:
            return list(self._loaded.site.twins)
        if rule.condition == "deviation":
            return [name.rpartition("#")[0] for name in self._signals if name.endswith("#innovation")]
        return [s.name for s in self._signals.values() if s.role not in {"alarms", "lineage"}]

    def _specs(self, name: str, rule_name: str, rule: AlarmRule, source: str) -> Iterator[AlarmSpec]:
        signal = self._signals.get(source)
        device = source if rule.condition == "communication" else source.partition(".")[0] if signal is not None else ""
        if rule.condition == "communication":
            self._watched.add(source)
        defaults = self._defaults
        base = AlarmSpec(
            name=name,
            rule=rule_name,
            source=source,
            kind=rule.condition.rstrip("_"),
            severity=rule.severity_of(),
            text=rule.text or _TEXTS.get(rule.condition.rstrip("_"), ""),
            limit=rule.rate if rule.rate is not None else rule.deviation,
            hysteresis=rule.hysteresis,
            values=tuple(self._number(source, value) for value in rule.values),
            qualities=tuple(listed(rule.quality)),
            unit=signal.unit if signal is not None else "",
            labels=self._labels(source),
            delay_ns=rule.delay_ns,
            off_delay_ns=rule.off_delay_ns,
            manner=Manner(rule.ack, rule.latch),
            when=self._comparisons(rule.when),
            unless=self._comparisons(rule.unless),
            shelve_max_ns=defaults.shelve_max if rule.shelve_max is None else rule.shelve_max,
            chatter=_times(rule.chatter or defaults.chatter),
            flood=_times(defaults.flood) if rule.many else None,
            device=device if device in self._loaded.profiles else "",
        )
        yield from self._limits(base, rule) if rule.limits else [base]

    @staticmethod
    def _limits(base: AlarmSpec, rule: AlarmRule) -> Iterator[AlarmSpec]:
        limits = rule.limits
        outer = {"low": "low_low", "high": "high_high"}
        for limit, value in limits.items():
            beyond = outer.get(limit, "")
            yield replace(
                base,
                name=f"{base.name}.{limit}" if len(limits) > 1 else base.name,
                kind=limit,
                limit=value,
                severity=rule.severity_of(limit),
                text=rule.text or _TEXTS[limit],
                outer=f"{base.name}.{beyond}" if beyond in limits else "",
            )

    def _comparisons(self, written: str | list[str]) -> tuple[Comparison, ...]:
        found = (parse_comparison(text) for text in listed(written))
        return tuple(Comparison(c.signal, c.operator, self._number(c.signal, c.value)) for c in found)

    def _number(self, signal: str, value: Word) -> Word:
        """The number of a state's name; numbers, and words of a text, pass."""
        known = self._signals.get(signal)
        if isinstance(value, str) and known is not None and known.kind is not Kind.STRING:
            return next((float(number) for number, label in self._labels(signal) if label == value), value)
        return value

    def _labels(self, signal: str) -> tuple[tuple[int, str], ...]:
        device, _, point = signal.partition(".")
        profile = self._loaded.profiles.get(device)
        if profile is None or point not in profile.points:
            return ()
        return tuple(profile.points[point].states.items())


def _times(written: str) -> Chatter | None:
    return None if written == "never" else parse_chatter(written)
