"""What a replay may answer: `exact`, or NOT_REPLAYABLE with its reason; never a guess."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final


class Reason(StrEnum):
    """Why ticks cannot be computed again."""

    NO_CHECKPOINT = "NO_CHECKPOINT"
    CHECKPOINT_UNREADABLE = "CHECKPOINT_UNREADABLE"
    CHECKPOINT_MISMATCH = "CHECKPOINT_MISMATCH"
    MODEL_UNKNOWN = "MODEL_UNKNOWN"
    INPUT_LOST = "INPUT_LOST"
    INPUT_COARSENED = "INPUT_COARSENED"
    INPUT_DROPPED = "INPUT_DROPPED"
    HISTORY_EXPIRED = "HISTORY_EXPIRED"
    CLOCK_SET = "CLOCK_SET"
    FELL_BACK = "FELL_BACK"
    OUTPUT_DIFFERS = "OUTPUT_DIFFERS"
    NO_ESTIMATE = "NO_ESTIMATE"


WORDS: Final = {
    Reason.NO_CHECKPOINT: "no checkpoint stands before these ticks",
    Reason.CHECKPOINT_UNREADABLE: "the checkpoint before these ticks cannot be read",
    Reason.CHECKPOINT_MISMATCH: "computed again, the model ends in another state than the checkpoint says",
    Reason.MODEL_UNKNOWN: "the coordinator does not hold the model package that ran",
    Reason.INPUT_LOST: "measurements that the model saw are lost, as the gateway has declared",
    Reason.INPUT_COARSENED: "measurements that the model saw were thinned out on a full gateway, as it has declared",
    Reason.INPUT_DROPPED: "the gateway passed over more measurements than it could name",
    Reason.HISTORY_EXPIRED: "the measurements of that time are kept no more",
    Reason.CLOCK_SET: "the gateway's clock was set, and the times of these ticks were moved",
    Reason.FELL_BACK: "the model failed in its soak at this tick, another one spoke for it",
    Reason.OUTPUT_DIFFERS: "computed again, the model says something else than what is stored",
    Reason.NO_ESTIMATE: "there is no estimate at that time",
}


@dataclass(frozen=True, slots=True)
class Span:
    """Ticks with one verdict.

    Attributes:
        from_ns, to_ns: the first and the last of them.
        ticks: how many.
        reason: why they cannot be computed again, None when they can: `exact`.
        proof: `kernel` when every bit is proven by the seal of the next checkpoint, `outputs` when only what is stored
            was compared, at its resolution; "" when they cannot be computed again.
        checkpoint_ns: tick before which the checkpoint was taken, 0 for none.
        model: `name@version`, "" when unknown.
        detail: more about the reason.
        dt_ns: distance of ticks, 0 when it is not known.
    """

    from_ns: int
    to_ns: int
    ticks: int
    reason: Reason | None = None
    proof: str = ""
    checkpoint_ns: int = 0
    model: str = ""
    detail: str = ""
    dt_ns: int = 0

    @property
    def verdict(self) -> str:
        """`exact` or `NOT_REPLAYABLE(reason)`."""
        return "exact" if self.reason is None else f"NOT_REPLAYABLE({self.reason})"


def joined(spans: Sequence[Span]) -> tuple[Span, ...]:
    """Spans by time; those of one verdict, proof and model that follow each other by a tick become one."""
    found: list[Span] = []
    for span in sorted(spans, key=lambda s: s.from_ns):
        last = found[-1] if found else None
        if last is not None and _same(last, span):
            found[-1] = replace(last, to_ns=max(last.to_ns, span.to_ns), ticks=last.ticks + span.ticks)
        else:
            found.append(span)
    return tuple(found)


def _same(a: Span, b: Span) -> bool:
    alike = (a.reason, a.proof, a.model, a.detail, a.dt_ns) == (b.reason, b.proof, b.model, b.detail, b.dt_ns)
    return alike and 0 < b.from_ns - a.to_ns <= a.dt_ns
