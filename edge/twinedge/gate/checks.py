"""The arithmetic of the gate: free functions over columns, no state."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from twinmodel.clock import SECOND_NS

Floats = NDArray[np.float64]
Times = NDArray[np.int64]
Mask = NDArray[np.bool_]


def outside(value: Floats, low: Floats, high: Floats, margin: float) -> tuple[Mask, Mask]:
    """Values beyond a range: (by at most `margin` of its span, by more). A NaN bound is no bound."""
    allowance = (high - low) * margin
    beyond = np.fmax(low - value, value - high)
    near = (beyond > 0) & (beyond <= allowance)
    return near, beyond > allowance


def in_runs(
    ids: NDArray[np.uint32], value: Floats, t_ns: Times, last_value: Floats, last_ns: Times
) -> tuple[Mask, Floats, Times]:
    """For samples sorted by signal: whether each is the first of its signal here, and the sample before it.

    The sample before the first one is looked up in `last_value` and `last_ns`, by id.
    """
    first = np.concatenate(([True], ids[1:] != ids[:-1]))
    previous, previous_ns = np.empty_like(value), np.empty_like(t_ns)
    previous[1:], previous_ns[1:] = value[:-1], t_ns[:-1]
    previous[first], previous_ns[first] = last_value[ids[first]], last_ns[ids[first]]
    return first, previous, previous_ns


def steep(value: Floats, t_ns: Times, previous: Floats, previous_ns: Times, rate: Floats) -> NDArray[np.int8]:
    """Sign of each change that is faster than `rate` per second, else 0; samples out of order are not judged."""
    change = value - previous
    seconds = (t_ns - previous_ns) / SECOND_NS
    with np.errstate(invalid="ignore"):
        fast = (seconds > 0) & (np.abs(change) > rate * seconds)
        sign = np.sign(np.where(np.isnan(change), 0.0, change))
    return np.where(fast, sign, 0.0).astype(np.int8)


def frozen_since(first: Mask, same: Mask, t_ns: Times, carried_ns: Times) -> Times:
    """Time since when each value has not changed; `carried_ns` holds it for the first sample of each signal."""
    since = np.where(same & first, carried_ns, t_ns)
    restart = ~same | first
    return np.asarray(since[np.maximum.accumulate(np.where(restart, np.arange(len(t_ns)), 0))])
