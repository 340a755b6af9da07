"""How honest intervals are: the share of measurements that fall into the intervals predicted for them."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist
from typing import Final

import numpy as np
from numpy.typing import NDArray

from twinmodel.estimator import Estimate

F64 = NDArray[np.float64]
WIDTH_90: Final = 1.6448536269514722
"""Half the width of the central 90 % interval of a Gaussian, in sigma."""


def coverage(estimates: Sequence[Estimate], y: F64, level: float = 0.9) -> F64:
    """Share of measurements within the central interval of their prediction, for each output.

    The interval of a measurement to come is `prediction ± z·spread`, with `spread` = sqrt(C P C' + R). Ticks while
    the filter settles, and measurements that are missing, do not count.

    Args:
        estimates: of consecutive ticks.
        y: what was measured at them, NaN where nothing was, shape (ticks, p).
        level: between 0 and 1.

    Returns:
        Shares, shape (p,); NaN where nothing was measured.
    """
    return _share([e.prediction for e in estimates], [e.spread for e in estimates], estimates, y, level)


def truth_coverage(estimates: Sequence[Estimate], truth: F64, level: float = 0.9) -> F64:
    """Share of true outputs within `estimate ± z·sigma`, for each output; for simulations, where the truth is known."""
    return _share([e.estimate for e in estimates], [e.sigma for e in estimates], estimates, truth, level)


def _share(middle: list[F64], sigma: list[F64], estimates: Sequence[Estimate], values: F64, level: float) -> F64:
    if not 0.0 < level < 1.0:
        raise ValueError(f"level {level} is not between 0 and 1")
    values = np.asarray(values, np.float64)
    if values.ndim != 2 or len(values) != len(estimates):
        raise ValueError(f"values have shape {values.shape}, {len(estimates)} ticks by outputs are needed")
    z = NormalDist().inv_cdf(0.5 + 0.5 * level)
    settled = np.array([not e.settling for e in estimates])[:, None]
    error = values - np.array(middle)
    counted = np.isfinite(error) & settled
    inside = counted & (np.abs(error) <= z * np.array(sigma))
    count = counted.sum(axis=0)
    return np.where(count > 0, inside.sum(axis=0) / np.maximum(count, 1), np.nan)


def share_within_90(ratio: F64) -> float:
    """Share of errors, each in units of its own sigma, that lie in the 90 % interval; NaN for none."""
    return float((np.abs(ratio) <= WIDTH_90).mean()) if ratio.size else np.nan
