"""A model's estimate in the place of a measurement that is not there, where site.yaml asks for it.

    measured ─▶ (missing at a tick) ─▶ substituted ─▶ (measured at a tick) ─▶ measured
                                          └─▶ (longer than the limit) ─▶ stale ─▶ (measured) ─▶ measured

What is substituted is a signal of its own, `twin/output#substitute`: the measured signal keeps every sample it has with
the quality it has, and nothing substituted ever gets back to a model. A tick says `uncertain(SUBSTITUTED)` with the
estimate; one sample without a value ends it, `bad(ABSENT)` when the sensor is back and `bad(STALE)` when there is
nothing to put in its place any more. The sigma of a substitute is that of the estimate, `twin/output#sigma`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import structlog

from twinmodel.clock import SECOND_NS
from twinmodel.quality import QualityReason, bad, uncertain

log = structlog.get_logger(__name__)

SUBSTITUTED = uncertain(QualityReason.SUBSTITUTED)
ENDED = bad(QualityReason.ABSENT)
STALE = bad(QualityReason.STALE)


@dataclass(slots=True)
class _Standing:
    """A measurement that is missing: since which tick, whether it is substituted now, whether the limit has passed."""

    since_ns: int
    serving: bool = False
    over: bool = False


class Substitution:
    """The substituted outputs of one twin.

    Args:
        twin: name of the twin.
        limits_ns: output -> longest substitution, 0 for any; outputs that are not named are never substituted.

    Attributes:
        ticks: ticks at which an output was substituted, since the start.
    """

    def __init__(self, twin: str, limits_ns: Mapping[str, int]) -> None:
        self._twin = twin
        self._limits_ns = dict(limits_ns)
        self._standing: dict[str, _Standing] = {}
        self.ticks = 0

    @property
    def outputs(self) -> tuple[str, ...]:
        """What may be substituted."""
        return tuple(self._limits_ns)

    def since_ns(self) -> Mapping[str, int]:
        """Outputs that are substituted now, with the tick since which their measurement is missing."""
        return {output: s.since_ns for output, s in self._standing.items() if s.serving}

    def judge(self, output: str, t_ns: int, measured: float, estimate: float, sigma: float) -> tuple[float, int] | None:
        """What `twin/output#substitute` says at a tick, as value and quality; None for nothing.

        Args:
            output: one of `outputs`.
            t_ns: the tick.
            measured: the measurement at this tick, NaN where there is none that a model may use.
            estimate: what the model says instead.
            sigma: its standard deviation.
        """
        standing = self._standing.get(output)
        if not math.isnan(measured):
            return None if standing is None else self._end(output, standing, t_ns)
        if standing is None:
            standing = self._standing[output] = _Standing(t_ns)
        limit_ns = self._limits_ns[output]
        if limit_ns and t_ns - standing.since_ns > limit_ns:
            return self._over(output, standing)
        if not (math.isfinite(estimate) and math.isfinite(sigma)):
            return self._pause(output, standing, "the model has no estimate")
        if not standing.serving:
            standing.serving = True
            log.warning("measurement is missing, the model's estimate stands in", twin=self._twin, output=output)
        self.ticks += 1
        return estimate, SUBSTITUTED

    def withdraw(self) -> list[str]:
        """The model says nothing for a while: outputs whose substitute ends now, `STALE`."""
        serving = [output for output, standing in self._standing.items() if standing.serving]
        for output in serving:
            self._pause(output, self._standing[output], "the model rests")
        return serving

    def _end(self, output: str, standing: _Standing, t_ns: int) -> tuple[float, int] | None:
        del self._standing[output]
        if not (standing.serving or standing.over):
            return None
        missing_s = (t_ns - standing.since_ns) / SECOND_NS
        log.info("measurement is back, nothing stands in for it", twin=self._twin, output=output, missing_s=missing_s)
        return math.nan, ENDED

    def _over(self, output: str, standing: _Standing) -> tuple[float, int] | None:
        if standing.over:
            return None
        standing.over, standing.serving = True, False
        limit_s = self._limits_ns[output] / SECOND_NS
        log.warning("substitution has lasted for its limit", twin=self._twin, output=output, limit_s=limit_s)
        return math.nan, STALE

    def _pause(self, output: str, standing: _Standing, why: str) -> tuple[float, int] | None:
        if not standing.serving:
            return None
        standing.serving = False
        log.warning("nothing stands in for the measurement any more", twin=self._twin, output=output, why=why)
        return math.nan, STALE
