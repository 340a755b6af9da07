"""What watches the innovations, compiled: the gate that keeps spikes out of the state, three detectors, the flag.

Imported only by `compile`'s kernels, because it pulls numba; `drift_reference` does the same operations in the same
order. Rows of S for output r begin at `watch + r*WATCH*W`, all but `mean` and `run` in units of their limits:

    0 ewma   1 up   2 down   3 mean   4 climb   5 fall   6 run

Settings in M, made by `Drift.settings`: 0 weight of the average, 1 gain of the average, 2 slack and 3 gain of CUSUM,
4 clip, 5 clear, 6 memory, 7 slack and 8 gain of Page-Hinkley, 9 gate, 10 longest run of rejections; a gain is 1/limit,
a slack is divided by its limit. With e the whitened innovation, for one lane:

    far   = e > M[9] or e < -M[9]
    drop  = far and run < M[10] and not mute         -> neither gain nor innovation reach the state
    run   = run + 1 if drop, run if far, else 0      (kept while nothing is measured)
    e     = clip to -M[4]..M[4]
    ewma  = ewma + M[0] * ((e*e - 1) * M[1] - ewma)
    k     = e * M[3]
    up    = bound((up + k) - M[2])                   down = bound((down - k) - M[2])
    d     = e - mean
    calm  = climb < 1 and fall < 1
    k     = d * M[8]
    climb = bound((climb + k) - M[7])                fall = bound((fall - k) - M[7])
    mean  = mean + M[6] * d if calm                  bound(v) = 0 below 0, 2 above 2
    score = the largest of 0, ewma, up, down, climb, fall

A missing measurement leaves all rows as they are; a muted lane sets all to 0. Sums are bounded, so that the score comes
back soon after the cause is gone; the mean rests in an alarm, so that the way back is no change to tell.
"""

# Comparisons are written out: min, max and isnan of numba and NumPy differ in NaN and in the sign of zero.
# Offsets are tested for what they never are, below 0: so proven, loops need no wrap-around and become vectors.
# ruff: noqa: FURB136, PLR0124

from __future__ import annotations

import math

import numpy as np

from twinmodel.kernel.arena import F64, WATCH
from twinmodel.kernel.lanes import clip, kernel


@kernel
def observe(
    M: F64,
    S: F64,
    watch: int,
    Z: F64,
    y0: int,
    mute: int,
    O: F64,  # noqa: E741
    o: int,
    p: int,
    r: int,
    G: F64,
    gi: int,
    W: int,
) -> None:
    """Takes the measurement of output r: what the gain may use of it, the detectors, the score, the NIS.

    G[gi:] holds the variance of the innovation and gets its inverse, G[gi+W:] gets the innovation; both are 0 where
    the measurement is missing or rejected. Z[y0:] is the measurement, Z[mute:] above 0 where detectors are muted.
    """
    rows, score = watch + r * WATCH * W, o + (4 * p + r) * W
    _whiten(Z, y0, O, o, p, r, G, gi, W)
    _gate(M, S, rows + 6 * W, Z, mute, G, gi, W)
    _average(M, S, rows, Z, mute, G, gi + 2 * W, O, score, W)
    _sums(S, rows + W, M[3], M[2], Z, mute, G, gi + 2 * W, O, score, W)
    _change(M, S, rows + 3 * W, Z, mute, G, gi + 2 * W, W)
    _sums(S, rows + 4 * W, M[8], M[7], Z, mute, G, gi + 2 * W, O, score, W)


@kernel
def _whiten(Z: F64, y0: int, O: F64, o: int, p: int, r: int, G: F64, gi: int, W: int) -> None:  # noqa: E741
    """Innovation, its inverse variance, and into G[gi+2W:] whitened, NaN where nothing is measured."""
    estimate, prediction, innovation, nis = o + r * W, o + (2 * p + r) * W, o + (3 * p + r) * W, o + 6 * p * W
    gn, ge = gi + W, gi + 2 * W
    if y0 < 0 or o < 0 or gi < 0 or p < 0 or r < 0 or W < 0:
        return
    for w in range(W):
        y = Z[y0 + w]
        ok = y == y
        forecast, now = y - O[prediction + w], y - O[estimate + w]
        inv = 1.0 / G[gi + w]
        inv = inv if ok else 0.0
        nu = now if ok else 0.0
        e = nu * math.sqrt(inv)
        O[nis + w] = O[nis + w] + e * e
        O[innovation + w] = forecast if ok else np.nan
        G[gi + w] = inv
        G[gn + w] = nu
        G[ge + w] = e if ok else np.nan


@kernel
def _gate(M: F64, S: F64, run: int, Z: F64, mute: int, G: F64, gi: int, W: int) -> None:
    """Keeps far measurements out of the state for a bounded run, then clips G[gi+2W:] for the detectors."""
    gate, longest, top = M[9], M[10], M[4]
    gn, ge = gi + W, gi + 2 * W
    if run < 0 or mute < 0 or gi < 0 or W < 0:
        return
    for w in range(W):
        e, count, inv, nu = G[ge + w], S[run + w], G[gi + w], G[gn + w]
        ok = e == e
        quiet = Z[mute + w] > 0.0
        far = (e > gate) | (e < -gate)
        drop = far & (count < longest) & (not quiet)
        after = count if far else 0.0
        after = count + 1.0 if drop else after
        after = after if ok else count
        S[run + w] = 0.0 if quiet else after
        G[gi + w] = 0.0 if drop else inv
        G[gn + w] = 0.0 if drop else nu
        e = -top if e < -top else e
        G[ge + w] = top if e > top else e


@kernel
def _average(M: F64, S: F64, row: int, Z: F64, mute: int, G: F64, ge: int, O: F64, score: int, W: int) -> None:  # noqa: E741
    """Chi-square: the averaged square of the whitened innovation; begins the score."""
    weight, gain = M[0], M[1]
    if row < 0 or mute < 0 or ge < 0 or score < 0 or W < 0:
        return
    for w in range(W):
        e, z = G[ge + w], S[row + w]
        v = z + weight * ((e * e - 1.0) * gain - z)
        v = v if e == e else z
        v = 0.0 if Z[mute + w] > 0.0 else v
        S[row + w] = v
        O[score + w] = v if v > 0.0 else 0.0


@kernel
def _sums(
    S: F64,
    row: int,
    gain: float,
    slack: float,
    Z: F64,
    mute: int,
    G: F64,
    ge: int,
    O: F64,  # noqa: E741
    score: int,
    W: int,
) -> None:
    """One sum upwards in S[row:] and one downwards in S[row+W:], of G[ge:]; raises the score to the larger."""
    low = row + W
    if row < 0 or mute < 0 or ge < 0 or score < 0 or W < 0:
        return
    for w in range(W):
        e, up, down, top = G[ge + w], S[row + w], S[low + w], O[score + w]
        ok = e == e
        quiet = Z[mute + w] > 0.0
        k = e * gain
        a = (up + k) - slack
        b = (down - k) - slack
        a = 0.0 if a < 0.0 else a
        b = 0.0 if b < 0.0 else b
        a = 2.0 if a > 2.0 else a
        b = 2.0 if b > 2.0 else b
        a = a if ok else up
        b = b if ok else down
        a = 0.0 if quiet else a
        b = 0.0 if quiet else b
        S[row + w] = a
        S[low + w] = b
        c = a if a > b else b
        O[score + w] = c if c > top else top


@kernel
def _change(M: F64, S: F64, row: int, Z: F64, mute: int, G: F64, ge: int, W: int) -> None:
    """Page-Hinkley: turns G[ge:] into its distance from the mean the output has been used to, and moves that."""
    memory = M[6]
    climbs, falls = row + W, row + 2 * W
    if row < 0 or mute < 0 or ge < 0 or W < 0:
        return
    for w in range(W):
        e, mean, climb, fall = G[ge + w], S[row + w], S[climbs + w], S[falls + w]
        d = e - mean
        v = mean + memory * d
        v = v if (e == e) & (climb < 1.0) & (fall < 1.0) else mean
        S[row + w] = 0.0 if Z[mute + w] > 0.0 else v
        G[ge + w] = d


@kernel
def finish(M: F64, S: F64, s: int, O: F64, o: int, n: int, m: int, p: int, W: int) -> None:  # noqa: E741
    """Clips the state to its bounds, raises the drift flag with hysteresis and tells a diverged filter."""
    nP = n * (n + 1) // 2
    flag = s + (n + nP + m + WATCH * p) * W
    bad = flag + W
    clear = M[5]
    for w in range(W):
        S[bad + w] = 0.0
    clip(M, S, s, n, W)
    for i in range(n):
        d = s + (n + i * n - i * (i - 1) // 2) * W
        for w in range(W):
            v = S[s + i * W + w]
            S[bad + w] = S[bad + w] if (abs(v) < 1e300 and S[d + w] >= 0.0) else 1.0
    for w in range(W):
        top = 0.0
        for r in range(p):
            v = O[o + (4 * p + r) * W + w]
            top = v if v > top else top
        S[flag + w] = 1.0 if top >= 1.0 else (0.0 if top < clear else S[flag + w])
