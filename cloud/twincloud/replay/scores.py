"""How well a model predicts: figures of one run, and the difference of two runs on the same ticks.

    e: measurement minus prediction one tick ahead    s: standard deviation of a measurement to come
    NIS = e²/s²     NLL = ½ ln(2π s²) + ½ NIS     effective samples = n / (1 + 2 Σ r_k), summed after Geyer (1992)

Residuals of one tick resemble those of the next, so a difference is judged by its effective samples: with few of them
the verdict is that there is none.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
LAGS: Final = 20
LAGS_MAX: Final = 4_000
EFFECTIVE_MIN: Final = 5.0
LEVEL: Final = 0.95
MARGIN: Final = 0.02
"""Part of the RMSE that a difference must surely stay below for two models to be called alike."""
EXPECTED: Final = tuple(math.erf(k / math.sqrt(2.0)) for k in (1, 2, 3))
"""Shares of a Gaussian within 1, 2 and 3 sigma."""
Call = Literal["better", "worse", "alike", "undecided"]


@dataclass(frozen=True, slots=True)
class Score:
    """One output over the ticks that count; figures are NaN where there is nothing to judge.

    Attributes:
        count: ticks with a measurement.
        missing: ticks without one.
        rmse, mae, bias: of the prediction, in the unit of the output.
        nrmse: RMSE by the standard deviation of the measurements.
        coverage: shares of measurements within 1, 2 and 3 sigma of their prediction; see `EXPECTED`.
        nll: mean negative log likelihood.
        nis: mean normalised innovation squared, 1 for honest sigmas.
        autocorrelation: of the innovations at lags 1 to `LAGS`.
        white: whether no more of these lie outside of ±1.96/√n than chance allows (3 of 20: less than 2 %).
        effective: samples the residuals are worth.
    """

    count: int
    missing: int
    rmse: float
    mae: float
    bias: float
    nrmse: float
    coverage: tuple[float, float, float]
    nll: float
    nis: float
    autocorrelation: tuple[float, ...]
    white: bool
    effective: float


@dataclass(frozen=True, slots=True)
class Difference:
    """One output of a candidate against another model, on ticks where both predicted what was measured.

    Attributes:
        count: such ticks.
        effective: samples they are worth.
        rmse: RMSE of the candidate minus that of the other.
        low, high: interval that holds it with 95 %.
        reference: RMSE of the other.
        call: `better` or `worse` when the interval says so, `alike` when it lies within 2 % of the RMSE.
    """

    count: int
    effective: float
    rmse: float
    low: float
    high: float
    reference: float
    call: Call


def score(y: F64, prediction: F64, spread: F64) -> Score:
    """Figures of one output.

    Args:
        y: measurements at the ticks that count, NaN where there is none, shape (ticks,).
        prediction: one tick ahead.
        spread: sigma of a measurement to come.
    """
    told = np.isfinite(y) & np.isfinite(prediction) & np.isfinite(spread) & (spread > 0)
    missing = int(len(y) - np.count_nonzero(told))
    if not told.any():
        nan = math.nan
        return Score(0, missing, nan, nan, nan, nan, (nan, nan, nan), nan, nan, (), white=False, effective=0.0)
    error = np.where(told, y - prediction, np.nan)
    e, s = error[told], spread[told]
    ratio = e / s
    rmse = float(np.sqrt(np.mean(e**2)))
    range_of = float(np.std(y[told]))
    rho, count = autocorrelation(error), len(e)
    shown = rho[1 : LAGS + 1]
    outside = int(np.count_nonzero(np.abs(shown) > 1.96 / math.sqrt(count)))
    within = [float(np.mean(np.abs(ratio) <= k)) for k in (1, 2, 3)]
    return Score(
        count=count,
        missing=missing,
        rmse=rmse,
        mae=float(np.mean(np.abs(e))),
        bias=float(np.mean(e)),
        nrmse=rmse / range_of if range_of > 0 else math.nan,
        coverage=(within[0], within[1], within[2]),
        nll=float(np.mean(0.5 * np.log(2 * math.pi * s**2) + 0.5 * ratio**2)),
        nis=float(np.mean(ratio**2)),
        autocorrelation=tuple(float(r) for r in shown),
        white=count > LAGS and outside <= 3,
        effective=effective_samples(rho, count),
    )


def difference(mine: F64, other: F64) -> Difference:
    """Compares two errors of one output on the same ticks, NaN where one is not known, shape (ticks,)."""
    told = np.isfinite(mine) & np.isfinite(other)
    count = int(np.count_nonzero(told))
    if not count:
        return Difference(0, 0.0, math.nan, math.nan, math.nan, math.nan, "undecided")
    loss = np.where(told, mine**2 - other**2, np.nan)
    base = float(np.mean(other[told] ** 2))
    mean, deviation = float(np.mean(loss[told])), float(np.std(loss[told]))
    effective = effective_samples(autocorrelation(loss), count)
    reference = math.sqrt(base)

    def rmse_at(change: float) -> float:
        return math.sqrt(max(base + change, 0.0)) - reference

    if deviation == 0.0:
        low = high = rmse_at(mean)
    elif effective < EFFECTIVE_MIN:
        low, high = -math.inf, math.inf
    else:
        half = quantile(effective - 1.0) * deviation / math.sqrt(effective)
        low, high = rmse_at(mean - half), rmse_at(mean + half)
    return Difference(count, effective, rmse_at(mean), low, high, reference, _call(low, high, reference))


def _call(low: float, high: float, reference: float) -> Call:
    if low == high == 0.0 or max(-low, high) <= MARGIN * reference:
        return "alike"
    if high < 0.0:
        return "better"
    return "worse" if low > 0.0 else "undecided"


def autocorrelation(values: F64) -> F64:
    """Of a series at lags 0, 1, 2 ... up to half its length; NaN count as nothing, the mean is taken away."""
    told = np.isfinite(values)
    centred = np.where(told, values - np.mean(values[told]), 0.0)
    lags = min(len(values) // 2, LAGS_MAX) + 1
    size = 1 << (2 * len(values) - 1).bit_length()
    power = np.abs(np.fft.rfft(centred, size)) ** 2
    sums = np.fft.irfft(power, size)[:lags]
    return np.asarray(sums / sums[0]) if sums[0] > 0 else np.eye(1, lags)[0]


def effective_samples(rho: F64, count: int) -> float:
    """What correlated samples are worth: pairs of neighbouring autocorrelations are summed while they are positive."""
    pairs = rho[: len(rho) // 2 * 2].reshape(-1, 2).sum(axis=1)
    negative = np.flatnonzero(pairs <= 0.0)
    kept = pairs[: int(negative[0])] if len(negative) else pairs
    inflation = max(1.0, 2.0 * float(kept.sum()) - 1.0)
    return count / inflation


def quantile(freedom: float) -> float:
    """The two-sided 95 % quantile of Student's distribution (Abramowitz and Stegun 26.7.5)."""
    z = NormalDist().inv_cdf(0.5 + 0.5 * LEVEL)
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    return z + first / freedom + second / freedom**2
