"""Conditions on one signal: whether they hold, and within which values nothing about that changes.

A sense is told samples one by one; the span it gives (`span`) lets whole columns of samples be passed over unseen, as
nearly all of them change nothing.
"""

from __future__ import annotations

import math
from typing import Final, Protocol

from twinedge.config.alarms import Comparison, Word
from twinmodel.clock import SECOND_NS
from twinmodel.quality import QualityClass, QualityReason, class_of

NOTHING: Final = (math.inf, -math.inf)
"""A span without any value: every sample is looked at."""
ANYTHING: Final = (-math.inf, math.inf)


class Sense(Protocol):
    """One condition.

    Attributes:
        holds: whether it holds, None before the first sample that can tell.
    """

    holds: bool | None

    def judge(self, value: Word, quality: int, t_ns: int) -> None:
        """Takes one usable sample."""
        ...

    def span(self) -> tuple[float, float]:
        """Least and greatest value that change nothing."""
        ...


class Threshold:
    """`>`, `>=`, `<` or `<=` a limit, with a hysteresis towards letting go."""

    def __init__(self, operator: str, limit: float, hysteresis: float = 0.0) -> None:
        self.holds: bool | None = None
        below = operator in {"<", "<="}
        closed = operator in {">=", "<="}
        # Spans of values that leave a condition false, or true.
        if below:
            back = limit + hysteresis
            self._quiet = (math.nextafter(limit, math.inf) if closed else limit, math.inf)
            self._holding = (-math.inf, back if closed else math.nextafter(back, -math.inf))
        else:
            back = limit - hysteresis
            self._quiet = (-math.inf, math.nextafter(limit, -math.inf) if closed else limit)
            self._holding = (back if closed else math.nextafter(back, math.inf), math.inf)

    def judge(self, value: Word, quality: int, t_ns: int) -> None:  # noqa: ARG002 - see Sense
        """See `Sense`."""
        if isinstance(value, str):
            return
        low, high = self._holding if self.holds else self._quiet
        inside = low <= value <= high
        self.holds = inside if self.holds else not inside

    def span(self) -> tuple[float, float]:
        """See `Sense`."""
        if self.holds is None:
            return NOTHING
        low, high = self._holding if self.holds else self._quiet
        return low, high


class Among:
    """One of some values; `wanted` False for none of them."""

    def __init__(self, values: tuple[Word, ...], *, wanted: bool = True) -> None:
        self.holds: bool | None = None
        self._wanted = wanted
        self._numbers = {float(v) for v in values if not isinstance(v, str)}
        self._texts = {v for v in values if isinstance(v, str)}
        self._last: float | None = None

    def judge(self, value: Word, quality: int, t_ns: int) -> None:  # noqa: ARG002 - see Sense
        """See `Sense`."""
        if isinstance(value, str):
            found = value in self._texts
        else:
            self._last = float(value)
            found = self._last in self._numbers
        self.holds = found is self._wanted

    def span(self) -> tuple[float, float]:
        """See `Sense`."""
        return NOTHING if self._last is None else (self._last, self._last)


class Change:
    """More than so much a second between two samples, in either direction."""

    def __init__(self, limit: float) -> None:
        self.holds: bool | None = None
        self.rate = math.nan
        self._limit = limit
        self._last: tuple[int, float] | None = None

    def judge(self, value: Word, quality: int, t_ns: int) -> None:  # noqa: ARG002 - see Sense
        """See `Sense`."""
        if isinstance(value, str):
            return
        before, self._last = self._last, (t_ns, float(value))
        if before is None or t_ns <= before[0]:
            return
        self.rate = abs(float(value) - before[1]) * SECOND_NS / (t_ns - before[0])
        self.holds = self.rate > self._limit

    def span(self) -> tuple[float, float]:
        """See `Sense`: each sample counts."""
        return NOTHING


class Doubt:
    """Samples of a quality: a class or worse, or a reason."""

    def __init__(self, qualities: tuple[str, ...]) -> None:
        self.holds: bool | None = None
        self._class = min((QualityClass[w.upper()] for w in qualities if w in {"bad", "uncertain"}), default=None)
        self._reasons = {QualityReason[w.upper()] for w in qualities if w not in {"bad", "uncertain"}}

    def judge(self, value: Word, quality: int, t_ns: int) -> None:  # noqa: ARG002 - see Sense
        """See `Sense`; it is told every sample whose quality is new."""
        klass = class_of(quality)
        enough = self._class is not None and klass >= self._class
        named = klass is not QualityClass.GOOD and quality & 0xFF in self._reasons
        self.holds = enough or named

    def span(self) -> tuple[float, float]:
        """See `Sense`: values tell nothing."""
        return ANYTHING


def sense_of(comparison: Comparison) -> Sense:
    """The sense of a comparison of `when` or `unless`."""
    if comparison.operator in {"==", "!="}:
        return Among((comparison.value,), wanted=comparison.operator == "==")
    return Threshold(comparison.operator, float(comparison.value))
