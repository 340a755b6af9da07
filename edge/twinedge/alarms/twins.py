"""What models say of their machines, as far as rules ask for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from twinmodel.estimator import Estimate, Estimator
from twinmodel.isolation import MODEL, NOT_ISOLABLE, PENDING

_WORDS: Final = {
    PENDING: "the cause is being isolated",
    MODEL: "no sensor explains it, the model is to blame",
    NOT_ISOLABLE: "sensor or model, which cannot be told apart",
}


@dataclass(frozen=True, slots=True)
class TwinFact:
    """One twin at its newest tick.

    Attributes:
        twin: name.
        drifting: whether model and machine disagree.
        isolation: what is known of the cause, in words, "" for nothing.
        left: conditions of the regime that do not hold.
        deviations: output -> measurement minus prediction, in standard deviations of that difference.
        t_ns: time of the tick.
    """

    twin: str
    drifting: bool
    isolation: str
    left: tuple[str, ...]
    deviations: Mapping[str, float] = field(default_factory=dict)
    t_ns: int = 0


class _Wiring(Protocol):
    @property
    def twin(self) -> str: ...


class _Slot(Protocol):
    def current(self) -> Estimator | None: ...


class Runner(Protocol):
    """A twin that runs beside its machine."""

    @property
    def wiring(self) -> _Wiring:
        """Says whose it is."""
        ...

    @property
    def slot(self) -> _Slot:
        """What runs."""
        ...

    @property
    def last(self) -> Estimate | None:
        """What was said at the newest tick."""
        ...


def in_words(verdict: str) -> str:
    """The verdict of an isolation, for people."""
    kind, _, output = verdict.partition(":")
    return f"the sensor of {output} is to blame, not the model" if output else _WORDS.get(kind, verdict)


def facts_of(runners: Iterable[Runner]) -> list[TwinFact]:
    """What the models of twins say now; a twin without a model says nothing."""
    found = []
    for runner in runners:
        last, estimator = runner.last, runner.slot.current()
        if last is None or estimator is None:
            continue
        names = [port.name for port in estimator.outputs]
        spread = last.spread.tolist() if len(last.spread) == len(names) == len(last.innovation) else []
        deviations = {
            name: abs(off) / width
            for name, off, width in zip(names, last.innovation.tolist(), spread, strict=False)
            if off == off and width > 0  # noqa: PLR0124 - NaN alone differs from itself: nothing was measured
        }
        isolation = "" if last.isolation is None else in_words(last.isolation.verdict)
        found.append(TwinFact(runner.wiring.twin, last.drifting, isolation, tuple(last.left), deviations, last.t_ns))
    return found
