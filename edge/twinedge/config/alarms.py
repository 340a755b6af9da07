"""The `alarms:` section of site.yaml: rules with their conditions, delays and covers.

alarms:
  tank-high: {on: press.level2, high: 9.5, hysteresis: 0.2, delay: 5s, priority: high, text: "above {limit} {unit}"}
  meters-dead: {on: "meter-*.power", quality: bad, delay: 30s, unless: press.running == 0}
alarm_defaults: {shelve_max: 8h, communication: {delay: 30s}}
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import pairwise
from typing import Annotated, Final, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from twinmodel.alarms.records import SEVERITIES, TEXT_CHARS_MAX, Priority
from twinmodel.clock import SECOND_NS
from twinmodel.profile.document import nearest
from twinmodel.profile.schema import Duration, Strict, parse_duration
from twinmodel.quality import QualityReason

RULE_NAME: Final = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$"
RULES_MAX: Final = 10_000
COMMUNICATION: Final = "communication"
LIMITS: Final = ("low_low", "low", "high", "high_high")
CONDITIONS: Final = ("rate", "quality", "drift", "regime", "deviation", "communication", "is_")
OF_TWINS: Final = ("drift", "regime")
PLACES: Final = ("source", "value", "limit", "unit", "quality", "cause")
_PER: Final = {"s": 1.0, "min": 60.0, "h": 3600.0}
_RATE: Final = re.compile(r"(\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)\s*/\s*(s|min|h)")
_CHATTER: Final = re.compile(r"(\d{1,4})\s*/\s*(\d+(?:\.\d+)?\s*(?:s|min|h|d))")
_COMPARISON: Final = re.compile(r"(\S+)\s*(==|!=|<=|>=|<|>)\s*(\S.*)")
_PLACE: Final = re.compile(r"\{(\w*)\}")
_DELAYS: Final = {"quality": 10 * SECOND_NS, "communication": 30 * SECOND_NS}
_OFF_DELAY_NS: Final = 5 * SECOND_NS

Finite = Annotated[float, Field(allow_inf_nan=False)]
Word = bool | float | str
"""A value that a signal is compared with."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """`press.running == 0`: a signal held against a value."""

    signal: str
    operator: str
    value: Word


@dataclass(frozen=True, slots=True)
class Chatter:
    """`10/10min`: more than `count` annunciations in `window_ns` are one line."""

    count: int
    window_ns: int


def parse_rate(text: object) -> object:
    """Turns `0.5/s`, `2/min` into a change per second; numbers pass."""
    if not isinstance(text, str):
        return text
    found = _RATE.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text!r} is no rate of change; write e.g. 0.5/s, 2/min")
    return float(found[1]) / _PER[found[2]]


def parse_comparison(text: str) -> Comparison:
    """Reads `SIGNAL == VALUE`; raises ValueError."""
    found = _COMPARISON.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text!r} is no comparison; write e.g. press.running == 0")
    written = found[3].strip().strip("\"'")
    words: Mapping[str, bool] = {"true": True, "false": False}
    value: Word = written
    if written in words:
        value = words[written]
    else:
        try:
            value = float(written)
        except ValueError:
            if found[2] not in {"==", "!="}:
                raise ValueError(f"{text!r}: {written!r} is no number") from None
    return Comparison(found[1], found[2], value)


def parse_chatter(text: str) -> Chatter:
    """Reads `10/10min`; raises ValueError."""
    found = _CHATTER.fullmatch(text.strip())
    window_ns = parse_duration(found[2]) if found else None
    if found is None or not isinstance(window_ns, int) or window_ns <= 0 or int(found[1]) < 1:
        raise ValueError(f"{text!r} is no number of times in a time; write e.g. 10/10min")
    return Chatter(int(found[1]), window_ns)


class AlarmRule(Strict):
    """One rule: what it looks at, one condition, and how the alarm behaves.

    Attributes:
        on: `device.point`, `twin/output#estimate`, a twin (drift, regime), `twin/output` (deviation) or a device
            (communication); several as a list or by `*`. Each gives an alarm of its own, `RULE:SOURCE`.
        low_low, low, high, high_high: limits in the signal's unit; each an alarm, the outer covers the inner.
        rate: largest change, `0.5/s`, `2/min`, in either direction.
        quality: `bad`, `uncertain` (or worse), or a reason such as `stale`.
        drift, regime: the twin's model disagrees with the machine, or has left where it is valid.
        deviation: measurement minus prediction, in standard deviations of that difference.
        communication: the device does not answer. Without a rule every device has one, see `AlarmDefaults`.
        is_: values a bit, a number of `states` or a text has in alarm.
        hysteresis: how far a value must come back behind its limit.
        delay, off_delay: how long the condition must hold, or must have gone.
        priority, severity: one of both; severity is 1 to 1000. `high_high` and `low_low` are one band more urgent.
        text: what people read, with {source}, {value}, {limit}, {unit}, {quality}, {cause}.
        ack: whether somebody must acknowledge it.
        latch: whether it stays until somebody resets it.
        when, unless: comparisons such as `press.running == 0`; the alarm is suppressed while one of `unless` holds, or
            one of `when` does not.
        shelve_max: longest shelving.
        chatter: annunciations in a time beyond which repeats are one line with a count, `never` for all of them.
    """

    on: str | list[str]
    low_low: Finite | None = None
    low: Finite | None = None
    high: Finite | None = None
    high_high: Finite | None = None
    rate: Annotated[Finite | None, BeforeValidator(parse_rate), Field(gt=0)] = None
    quality: str | list[str] | None = None
    drift: Literal[True] | None = None
    regime: Literal[True] | None = None
    deviation: Annotated[Finite | None, Field(gt=0)] = None
    communication: Literal[True] | None = None
    is_: Word | list[Word] | None = Field(None, alias="is")
    hysteresis: Annotated[Finite, Field(ge=0)] = 0.0
    delay: Duration | None = None
    off_delay: Duration | None = None
    priority: Priority | None = None
    severity: int | None = Field(None, ge=1, le=1000)
    text: str = Field("", max_length=TEXT_CHARS_MAX)
    ack: bool = True
    latch: bool = False
    when: str | list[str] = Field(default_factory=list)
    unless: str | list[str] = Field(default_factory=list)
    shelve_max: Duration | None = None
    chatter: str | None = None

    @field_validator("text")
    @classmethod
    def _places(cls, text: str) -> str:
        for name in _PLACE.findall(text):
            if name not in PLACES:
                guess = nearest(name, PLACES)
                raise ValueError(f"{{{name}}} stands for nothing; " + (f"did you mean {{{guess}}}?" if guess else ""))
        return text

    @field_validator("quality")
    @classmethod
    def _qualities(cls, written: str | list[str] | None) -> str | list[str] | None:
        known = ["bad", "uncertain", *(r.name.lower() for r in QualityReason if r is not QualityReason.NONE)]
        for word in listed(written):
            if word not in known:
                guess = nearest(word, known)
                raise ValueError(f"{word!r} is no quality" + (f"; did you mean `{guess}`?" if guess else ""))
        return written

    @field_validator("when", "unless")
    @classmethod
    def _comparisons(cls, written: str | list[str]) -> str | list[str]:
        for text in listed(written):
            parse_comparison(text)
        return written

    @field_validator("chatter")
    @classmethod
    def _times(cls, written: str | None) -> str | None:
        if written not in {None, "never"}:
            parse_chatter(str(written))
        return written

    @model_validator(mode="after")
    def _one_condition(self) -> AlarmRule:
        given = [name for name in CONDITIONS if getattr(self, name) is not None]
        limits = self.limits
        names = [*(name.rstrip("_") for name in given), *limits]
        if len(given) + bool(limits) != 1:
            told = f"has {' and '.join(names)}" if names else "says no condition"
            raise ValueError(f"a rule {told}; give limits, or one of {', '.join(c.rstrip('_') for c in CONDITIONS)}")
        values = list(limits.items())
        for (inner, low), (outer, high) in pairwise(values):
            if not low < high:
                raise ValueError(f"{inner} {low:g} is not below {outer} {high:g}")
            if self.hysteresis >= high - low:
                text = f"hysteresis {self.hysteresis:g} is not smaller than the span of {inner} and {outer}"
                raise ValueError(f"{text}, {high - low:g}")
        if self.hysteresis and not limits and self.deviation is None:
            raise ValueError("hysteresis belongs to limits and deviation")
        if self.priority is not None and self.severity is not None:
            raise ValueError("give priority or severity, not both")
        if not self.sources:
            raise ValueError("`on` names nothing")
        return self

    @property
    def limits(self) -> dict[str, float]:
        """Limits that are given, from low to high."""
        return {name: value for name in LIMITS if (value := getattr(self, name)) is not None}

    @property
    def condition(self) -> str:
        """`limits`, or the one of `CONDITIONS` that is given."""
        return next((name for name in CONDITIONS if getattr(self, name) is not None), "limits")

    @property
    def sources(self) -> list[str]:
        """What `on` names, patterns as they stand."""
        return listed(self.on)

    @property
    def many(self) -> bool:
        """Whether alarms are named after their source, too."""
        return isinstance(self.on, list) or is_pattern(self.on)

    @property
    def delay_ns(self) -> int:
        """How long the condition must hold."""
        return self.delay if self.delay is not None else _DELAYS.get(self.condition, 0)

    @property
    def off_delay_ns(self) -> int:
        """How long it must have gone."""
        if self.off_delay is not None:
            return self.off_delay
        return _OFF_DELAY_NS if self.condition == "communication" else 0

    @property
    def values(self) -> list[Word]:
        """Values of `is`."""
        written = self.is_
        return [] if written is None else written if isinstance(written, list) else [written]

    def severity_of(self, limit: str = "") -> int:
        """Severity of the alarm of a limit, or of the rule."""
        if self.severity is not None:
            base = self.severity
        else:
            base = SEVERITIES[self.priority if self.priority is not None else Priority.MEDIUM]
        return min(base + 200, 1000) if limit in {"low_low", "high_high"} and len(self.limits) > 1 else base


class Communication(Strict):
    """The rule that every device has without one being written; see `AlarmRule`."""

    delay: Duration = 30 * SECOND_NS
    off_delay: Duration = _OFF_DELAY_NS
    priority: Priority = Priority.HIGH
    ack: bool = True


class AlarmDefaults(Strict):
    """What holds for all alarms of the gateway.

    Attributes:
        communication: the alarm of each device that does not answer, `false` for none.
        shelve_max: longest shelving.
        chatter: see `AlarmRule`.
        flood: alarms of one rule in a time beyond which further ones are one line with a count, or `never`.
    """

    communication: Communication | Literal[False] = Communication()
    shelve_max: Duration = 24 * 3600 * SECOND_NS
    chatter: str = "10/10min"
    flood: str = "10/10min"

    @field_validator("chatter", "flood")
    @classmethod
    def _times(cls, written: str) -> str:
        if written != "never":
            parse_chatter(written)
        return written


AlarmRules = Annotated[dict[Annotated[str, Field(pattern=RULE_NAME)], AlarmRule], Field(max_length=RULES_MAX)]


def matching(pattern: str, names: Iterable[str]) -> list[str]:
    """Names that a pattern means, itself where it is none."""
    if not is_pattern(pattern):
        return [name for name in names if name == pattern]
    return [name for name in names if fnmatchcase(name, pattern)]


def listed(written: str | list[str] | None) -> list[str]:
    """One or several, or none, as a list."""
    return [] if written is None else [written] if isinstance(written, str) else list(written)


def is_pattern(name: str) -> bool:
    """Whether a name stands for several."""
    return "*" in name or "?" in name
