"""Measured data cut into stretches without gaps, and the part of it that a fit does not see.

A fit simulates each stretch from a start state of its own. Where an input is missing the stretch ends, for nothing
could be simulated through it; where an output is missing, that sample has no weight.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from twinmodel.clock import SECOND_NS
from twinmodel.errors import InputError

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
TICKS_MIN: Final = 10
SEGMENTS_MAX: Final = 256
SAMPLES_PER_UNKNOWN: Final = 3
_STILL: Final = 1e-9


class Measured(Protocol):
    """What is read from a file: `importers.dataset.Dataset` is one."""

    @property
    def t_ns(self) -> I64:
        """Times of the ticks, shape (ticks,)."""
        ...

    @property
    def u(self) -> F64:
        """Inputs, NaN where unknown, shape (ticks, m)."""
        ...

    @property
    def y(self) -> F64:
        """Measured outputs, NaN where there is none, shape (ticks, p)."""
        ...

    @property
    def segments(self) -> Sequence[tuple[int, int]]:
        """(first, end) rows of stretches without a gap."""
        ...

    @property
    def sha256(self) -> str:
        """Hex hash of the file."""
        ...


@dataclass(frozen=True, slots=True)
class Segment:
    """One stretch at the ticks of the model.

    Attributes:
        t_ns: times, shape (ticks,).
        u: inputs, finite, shape (ticks, m).
        y: measured outputs, NaN where there is none, shape (ticks, p).
        held_out: from this tick on a fit does not look at `y`; the number of ticks when it may see all.
    """

    t_ns: I64
    u: F64
    y: F64
    held_out: int

    @property
    def ticks(self) -> int:
        """Length."""
        return len(self.t_ns)

    @property
    def seen(self) -> F64:
        """Measurements a fit may see, NaN elsewhere."""
        y = self.y.copy()
        y[self.held_out :] = np.nan
        return y

    @property
    def hidden(self) -> F64:
        """Measurements a fit may not see, NaN elsewhere."""
        y = self.y.copy()
        y[: self.held_out] = np.nan
        return y


def cut(data: Measured, *, holdout: float = 0.0) -> tuple[Segment, ...]:
    """Stretches to simulate, the last part of time held out.

    Args:
        data: measured inputs and outputs at the ticks.
        holdout: part of the ticks, the latest, that the fit does not see, 0 to 0.9.

    Raises:
        InputError: FIT_DATA_UNFIT when nothing can be simulated; VALUE_INVALID for the part held out.
    """
    if not 0.0 <= holdout <= 0.9:
        raise InputError("VALUE_INVALID", f"{holdout:g} of the data cannot be held out; give 0 to 0.9 (0 % to 90 %)")
    if not np.isfinite(data.y).any():
        raise InputError("FIT_DATA_UNFIT", "no output has a single measured value", hint="map the outputs to columns")
    empty = np.flatnonzero(~np.isfinite(data.u).any(axis=0))
    if len(empty):
        raise InputError("FIT_DATA_UNFIT", f"input number {empty[0] + 1} has no value", hint="map it to a column")
    spans = [span for first, end in data.segments for span in _known(data.u, first, end)]
    spans = [(first, end) for first, end in spans if np.isfinite(data.y[first:end]).any()]
    if not spans:
        message = f"no stretch of {TICKS_MIN} ticks has all inputs and a measured output"
        raise InputError("FIT_DATA_UNFIT", message, hint="give longer data, or a model with a shorter dt")
    if len(spans) > SEGMENTS_MAX:
        message = f"gaps cut the data into {len(spans)} stretches, at most {SEGMENTS_MAX}"
        raise InputError("FIT_DATA_UNFIT", message, hint="give a part of the data, or let longer gaps pass")
    total = sum(end - first for first, end in spans)
    left = total - int(holdout * total)
    segments = []
    for first, end in spans:
        segments.append(Segment(data.t_ns[first:end], data.u[first:end], data.y[first:end], min(left, end - first)))
        left -= segments[-1].held_out
    return tuple(segments)


def check(segments: Sequence[Segment], unknowns: int, names: tuple[Sequence[str], Sequence[str]]) -> list[str]:
    """Refuses data that no model can be fitted to; returns what is weak in the rest.

    Args:
        segments: stretches, as `cut` gives them.
        unknowns: how many numbers are sought.
        names: of the inputs and of the outputs.

    Raises:
        InputError: FIT_DATA_UNFIT.
    """
    inputs, outputs = names
    seen = np.concatenate([s.seen for s in segments])
    count = int(np.isfinite(seen).sum())
    if count < SAMPLES_PER_UNKNOWN * unknowns:
        message = f"{count} measured values are too few for {unknowns} unknowns"
        raise InputError("FIT_DATA_UNFIT", message)
    u = np.concatenate([s.u[: s.held_out] for s in segments])
    still = [name for name, column in zip(inputs, u.T, strict=True) if not moves(column)]
    quiet = [n for n, column in zip(outputs, seen.T, strict=True) if np.isfinite(column).any() and not moves(column)]
    measured = [n for n, column in zip(outputs, seen.T, strict=True) if np.isfinite(column).any()]
    if len(quiet) == len(measured):
        raise InputError("FIT_DATA_UNFIT", f"the measured outputs never change: {', '.join(quiet)}")
    warnings = [f"input {name} is constant: what depends on it alone cannot be told" for name in still]
    warnings += [f"output {name} is constant" for name in quiet]
    missing = [n for n, column in zip(outputs, seen.T, strict=True) if not np.isfinite(column).any()]
    return warnings + [f"output {name} is not measured" for name in missing]


def moves(column: F64) -> bool:
    """Whether a signal changes by more than rounding."""
    finite = column[np.isfinite(column)]
    return len(finite) > 1 and float(np.ptp(finite)) > _STILL * max(1.0, float(np.abs(finite).max()))


def window(segments: Sequence[Segment]) -> tuple[str, str]:
    """First and last time a fit sees, RFC 3339 with nine digits."""
    used = [s for s in segments if s.held_out > 0]
    return _instant(min(int(s.t_ns[0]) for s in used)), _instant(max(int(s.t_ns[s.held_out - 1]) for s in used))


def _instant(t_ns: int) -> str:
    seconds, rest = divmod(t_ns, SECOND_NS)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"


def _known(u: F64, first: int, end: int) -> list[tuple[int, int]]:
    """Runs of ticks in which every input is known, long enough to tell something."""
    known = np.isfinite(u[first:end]).all(axis=1) if u.shape[1] else np.ones(end - first, bool)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], known, [False]]).astype(np.int8)))
    runs = zip(edges[0::2].tolist(), edges[1::2].tolist(), strict=True)
    return [(first + a, first + b) for a, b in runs if b - a >= TICKS_MIN]
