"""The watch over the innovations in plain NumPy: see `drift`, whose operations it does in the same order.

A row is an array of shape (T, W), tiles by lanes; a setting M[k] is a number or an array that broadcasts with it.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from twinmodel.kernel.arena import F64, LARGEST, packed


class Rows(Protocol):
    """The rows of one call that the watch reads and writes; `watch` is [output][row of `drift`]."""

    n: int
    p: int
    M: F64
    x: F64
    P: F64
    y: F64
    mute: F64
    watch: F64
    flag: F64
    bad: F64
    estimate: F64
    prediction: F64
    innovation: F64
    score: F64
    nis: F64

    def clip(self) -> None:
        """Keeps x between its bounds."""
        ...


def observe(t: Rows, r: int, variance: F64) -> tuple[F64, F64]:
    """Innovation and inverse variance of output r, both 0 where it is missing or rejected; feeds NIS and detectors."""
    y = t.y[r]
    ok = y == y  # noqa: PLR0124 - NaN test
    t.innovation[r] = np.where(ok, y - t.prediction[r], np.nan)
    inv = np.where(ok, 1.0 / variance, 0.0)
    nu = np.where(ok, y - t.estimate[r], 0.0)
    e = nu * np.sqrt(inv)
    t.nis[:] = t.nis + e * e
    # A model may give NaN where its equations end; the detectors wait then, as for a missing measurement.
    e = np.where(ok, e, np.nan)
    told = e == e  # noqa: PLR0124 - NaN test
    quiet = t.mute > 0.0
    count = t.watch[r][6]
    far = (e > t.M[9]) | (e < -t.M[9])
    drop = far & (count < t.M[10]) & ~quiet
    after = np.where(drop, count + 1.0, np.where(far, count, 0.0))
    count[:] = np.where(quiet, 0.0, np.where(told, after, count))
    _detect(t, r, e, told, quiet)
    return np.where(drop, 0.0, nu), np.where(drop, 0.0, inv)


def _detect(t: Rows, r: int, e: F64, ok: NDArray[np.bool_], quiet: NDArray[np.bool_]) -> None:
    ewma, up, down, mean, climb, fall, _ = t.watch[r]

    def keep(row: F64, value: F64) -> None:
        row[:] = np.where(quiet, 0.0, np.where(ok, value, row))

    top = t.M[4]
    e = np.where(e < -top, -top, e)
    e = np.where(e > top, top, e)
    keep(ewma, ewma + t.M[0] * ((e * e - 1.0) * t.M[1] - ewma))
    score: F64 = np.where(ewma > 0.0, ewma, 0.0)
    d = e - mean
    calm = (climb < 1.0) & (fall < 1.0)
    for high, low, k, slack in ((up, down, e * t.M[3], t.M[2]), (climb, fall, d * t.M[8], t.M[7])):
        keep(high, _bound((high + k) - slack))
        keep(low, _bound((low - k) - slack))
        larger = np.where(high > low, high, low)
        score = np.where(larger > score, larger, score)
    keep(mean, np.where(calm, mean + t.M[6] * d, mean))
    t.score[r] = score


def _bound(v: F64) -> F64:
    v = np.where(v < 0.0, 0.0, v)
    return np.where(v > 2.0, 2.0, v)


def finish(t: Rows) -> None:
    """Clips, tells a diverged filter, raises the drift flag with hysteresis."""
    t.clip()
    t.bad[:] = 0.0
    for i in range(t.n):
        sound = (np.abs(t.x[i]) < LARGEST) & (t.P[packed(t.n, i, i)] >= 0.0)
        t.bad[:] = np.where(sound, t.bad, 1.0)
    top = np.zeros_like(t.flag)
    for r in range(t.p):
        top = np.where(t.score[r] > top, t.score[r], top)
    t.flag[:] = np.where(top >= 1.0, 1.0, np.where(top < t.M[5], 0.0, t.flag))
