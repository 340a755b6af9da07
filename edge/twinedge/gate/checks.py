"""The arithmetic of the gate: free functions over columns, no state."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from twinmodel.clock import SECOND_NS

Floats = NDArray[np.float64]
Times = NDArray[np.int64]
Signs = NDArray[np.int8]
Mask = NDArray[np.bool_]

SPIKE_FACTOR = 10.0
"""A single change so many times larger than the plausible one is no process: bad(SPIKE), not uncertain(RATE)."""
WRAP_PART = 0.1
"""Without a rate, a counter that went back has wrapped when it lacked at most this part of its range; else reset."""


def outside(value: Floats, low: Floats, high: Floats, margin: float) -> tuple[Mask, Mask] | None:
    """Values beyond a range: (by at most `margin` of its span, by more); None for none. A NaN bound is no bound."""
    beyond = np.fmax(low - value, value - high)
    out = beyond > 0
    if not out.any():
        return None
    allowance = (high - low) * margin
    return out & (beyond <= allowance), beyond > allowance


@dataclass(frozen=True, slots=True)
class Runs:
    """Samples sorted by signal, each beside the one before it; all columns have shape (n,).

    Attributes:
        first: whether a sample is the first of its signal here; None when every one is.
        value, t_ns: the samples.
        previous, previous_ns: the sample before.
    """

    first: Mask | None
    value: Floats
    t_ns: Times
    previous: Floats
    previous_ns: Times


def changes(runs: Runs, rate: Floats, counter: Mask | None, wraps: Floats | None) -> tuple[Signs, Mask] | None:
    """How each sample differs from the one before it.

    Args:
        runs: the samples.
        rate: largest plausible change per second, NaN for any.
        counter: which are counters, None when none is: these may go back by wrapping alone.
        wraps: their range in the unit of the signal, NaN where it is not known.

    Returns:
        The sign of each change that cannot be, else 0; and which of them are so large that no process makes them.
        None when there is none. Samples that are out of order are not judged.
    """
    change = runs.value - runs.previous
    seconds = (runs.t_ns - runs.previous_ns) / SECOND_NS
    allowed = rate * seconds
    ordered = seconds > 0
    back = None
    if counter is not None and wraps is not None:
        back = counter & (change < 0)
        forward = change + wraps
        wrapped = back & (forward >= 0) & (forward <= np.where(np.isnan(rate), wraps * WRAP_PART, allowed))
        change = np.where(wrapped, forward, change)
        back &= ~wrapped & ordered
    size = np.abs(change)
    fast = ordered & (size > allowed)
    if back is not None:
        fast |= back
    if not fast.any():
        return None
    large = fast & (size > SPIKE_FACTOR * allowed)
    if back is not None:
        large &= ~back
    sign = np.where(fast, np.sign(change), 0.0).astype(np.int8)
    return sign, large


def returns(
    runs: Runs, older: tuple[Floats, Times], jumps: tuple[Signs, Signs, Signs], rate: Floats
) -> tuple[Mask, Signs]:
    """Which jumps only come back from an outlier: opposite to the jump before, to where the process was.

    Of a row of such changes every second one is a return: 0 9 0 9 0 has two outliers and two returns.

    Args:
        runs: the samples.
        older: values and times of the samples before the previous ones.
        jumps: the jump of each sample, see `changes`; that of the one before it; and the parity that the first sample
            of each signal goes on from.
        rate: see `changes`.

    Returns:
        The mask of returns, and the parity after each sample, for `carried` of the next batch.
    """
    jump, before, carried = jumps
    near = np.abs(runs.value - older[0]) <= rate * ((runs.t_ns - older[1]) / SECOND_NS)
    back = (jump != 0) & (jump == -before) & near
    if runs.first is None:
        parity = np.where(back, 1 - carried, 0).astype(np.int8)
        return parity == 1, parity
    place = np.arange(len(jump))
    start = np.maximum.accumulate(np.where(~back | runs.first, place, 0))
    offset = np.where(back, 1 + carried, 0)
    parity = ((place - start + offset[start]) & 1).astype(np.int8)
    return parity == 1, parity


def frozen_since(first: Mask | None, same: Mask, t_ns: Times, carried_ns: Times) -> Times:
    """Time since when each value has not changed; `carried_ns` holds it for the first sample of each signal."""
    if first is None:
        return np.where(same, carried_ns, t_ns)
    since = np.where(same & first, carried_ns, t_ns)
    restart = ~same | first
    return np.asarray(since[np.maximum.accumulate(np.where(restart, np.arange(len(t_ns)), 0))])
