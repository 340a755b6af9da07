"""Linear models from data: observer Markov parameters by least squares (OKID), realised by pyMOR's ERA.

    y[t] = sum alpha[k] y[t-k] + sum beta[k] u[t-k]   ─▶  Markov parameters of the plant  ─▶  A B C D of each order

Juang, Phan, Horta, Longman: Identification of observer/Kalman filter Markov parameters, J. Guidance 16 (1993). The
order is the smallest whose free run over the part held out is about as good as the best; unstable ones are not taken.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from twinmodel.equations.terms import STATES_MAX
from twinmodel.errors import ConflictError, InputError
from twinmodel.fit.segments import Segment, check
from twinmodel.fit.simulation import START_SAMPLES
from twinmodel.fit.system import System

F64 = NDArray[np.float64]
ORDER_MAX: Final = 12
_LAGS: Final = (4, 8, 16, 32, 64)
_ROWS_PER_COLUMN: Final = 4
_RIDGE: Final = 1e-8
# A larger order must beat a smaller one by this part.
_WORTH: Final = 0.03


@dataclass(frozen=True, slots=True)
class Trial:
    """One order: how well it runs free over both parts, NaN where it is unstable."""

    order: int
    rmse_seen: float
    rmse_hidden: float


@dataclass(frozen=True, slots=True)
class Identified:
    """A linear model found in data.

    Attributes:
        system: the model, with the operating point as constants.
        starts: start state of each stretch.
        simulated: free runs of each stretch, shape (ticks, p) each.
        trials: what was compared, in the order of their order.
        singular: Hankel singular values, falling.
        lags: length of the observer.
        rmse_seen, rmse_hidden: per output, NaN where nothing was measured.
    """

    system: System
    starts: tuple[F64, ...]
    simulated: tuple[F64, ...]
    trials: tuple[Trial, ...]
    singular: F64
    lags: int
    rmse_seen: F64
    rmse_hidden: F64


def identify_linear(
    segments: Sequence[Segment], names: tuple[Sequence[str], Sequence[str]], dt_s: float, order: int | None = None
) -> Identified:
    """Finds a linear model.

    Args:
        segments: measured data, the last part held out.
        names: of inputs and outputs.
        dt_s: length of a tick.
        order: number of states; found when None.

    Raises:
        InputError: FIT_DATA_UNFIT when the data is too short or still.
        ConflictError: MODEL_UNSTABLE when no stable model is found.
    """
    if order is not None and not 1 <= order <= STATES_MAX:
        raise InputError("VALUE_INVALID", f"order {order} is not within 1 to {STATES_MAX}")
    used = [s for s in segments if s.held_out > 0]
    warnings = check(used, 2, names)
    still = [w for w in warnings if "constant" in w or "not measured" in w]
    if still:
        raise InputError("FIT_DATA_UNFIT", f"{still[0]}: nothing linear can be found", hint="leave it out")
    point = _operating_point(used)
    scaled = [((s.u - point[0]) / point[1], (s.seen - point[2]) / point[3]) for s in used]
    best: tuple[float, Identified] | None = None
    for lags in _LAGS:
        markov = _markov(scaled, lags)
        if markov is None:
            break
        found = _best_order(markov, segments, point, dt_s, (order, lags))
        if found is not None and (best is None or found[0] < (1.0 - _WORTH) * best[0]):
            best = found
    if best is None:
        rows = sum(s.held_out for s in used)
        if rows < 10 * _LAGS[0] * (len(names[0]) + len(names[1])):
            raise InputError("FIT_DATA_UNFIT", f"{rows} ticks are too few for a linear model of {len(names[0])} inputs")
        raise ConflictError("MODEL_UNSTABLE", "no stable linear model reproduces the data")
    return best[1]


def _operating_point(segments: Sequence[Segment]) -> tuple[F64, F64, F64, F64]:
    """Mean and scale of inputs and of outputs."""
    u = np.concatenate([s.u[: s.held_out] for s in segments])
    y = np.concatenate([s.seen for s in segments])
    scale_u, scale_y = u.std(axis=0), np.nanstd(y, axis=0)
    return u.mean(axis=0), scale_u, np.nanmean(y, axis=0), scale_y


def _markov(segments: Sequence[tuple[F64, F64]], lags: int) -> F64 | None:
    """Markov parameters h[0..2 lags], shape (count, p, m); None when the data is too short for this observer."""
    m, p = segments[0][0].shape[1], segments[0][1].shape[1]
    tables, targets = [], []
    for u, y in segments:
        rows = len(u) - lags
        if rows <= 0:
            continue
        past = [
            np.concatenate([y[lags - k : lags - k + rows], u[lags - k : lags - k + rows]], axis=1)
            for k in range(1, lags + 1)
        ]
        table = np.concatenate([*past, u[lags:], np.ones((rows, 1))], axis=1)
        told = np.isfinite(table).all(axis=1) & np.isfinite(y[lags:]).all(axis=1)
        tables.append(table[told])
        targets.append(y[lags:][told])
    table = np.concatenate(tables) if tables else np.empty((0, lags * (m + p) + m + 1))
    if len(table) < _ROWS_PER_COLUMN * table.shape[1]:
        return None
    ridge = np.sqrt(_RIDGE * len(table)) * np.eye(table.shape[1])
    padded = np.concatenate([np.concatenate(targets), np.zeros((table.shape[1], p))])
    theta = np.linalg.lstsq(np.concatenate([table, ridge]), padded)[0].T
    alpha = [theta[:, k * (m + p) : k * (m + p) + p] for k in range(lags)]
    beta = [theta[:, k * (m + p) + p : (k + 1) * (m + p)] for k in range(lags)]
    found = [theta[:, lags * (m + p) : lags * (m + p) + m]]
    # Long enough for slow modes: the response goes on by the observer's recursion alone.
    for k in range(1, 8 * lags):
        h = beta[k - 1].copy() if k <= lags else np.zeros((p, m))
        for i in range(1, min(k, lags) + 1):
            h = h + alpha[i - 1] @ found[k - i]
        found.append(h)
    return np.array(found)


def _best_order(
    markov: F64,
    segments: Sequence[Segment],
    point: tuple[F64, F64, F64, F64],
    dt_s: float,
    wish: tuple[int | None, int],
) -> tuple[float, Identified] | None:
    """Score and model of the best order for one observer."""
    order, lags = wish
    if not np.isfinite(markov).all() or float(np.abs(markov).max()) > 1e6:
        return None
    reductor = _era(markov[1:], dt_s, markov[0])
    largest = min(ORDER_MAX, STATES_MAX, len(markov) // 2)
    orders = range(1, largest + 1) if order is None else (order,)
    tried: list[tuple[float, Identified]] = []
    trials: list[Trial] = []
    for n in orders:
        system = _scaled(_realise(reductor, n, markov[0]), point, dt_s)
        try:
            system.require_stable()
        except ConflictError:
            trials.append(Trial(n, np.nan, np.nan))
            continue
        found = _run(_shifted(system, segments), segments, lags)
        hidden = np.isfinite(found.rmse_hidden).any()
        score = float(np.sqrt(np.nanmean(((found.rmse_hidden if hidden else found.rmse_seen) / point[3]) ** 2)))
        trials.append(Trial(n, _whole(found.rmse_seen), _whole(found.rmse_hidden)))
        tried.append((score, found))
    if not tried:
        return None
    least = min(score for score, _ in tried)
    score, chosen = next((s, f) for s, f in tried if s <= (1.0 + _WORTH) * least)
    singular = (
        np.asarray(reductor.error_bounds(), np.float64)[:STATES_MAX]
        if hasattr(reductor, "error_bounds")
        else np.empty(0)
    )
    full = Identified(
        chosen.system,
        chosen.starts,
        chosen.simulated,
        tuple(trials),
        singular,
        lags,
        chosen.rmse_seen,
        chosen.rmse_hidden,
    )
    return score, full


def _era(markov: F64, dt_s: float, feedthrough: F64) -> Any:
    era = importlib.import_module("pymor.reductors.era")
    importlib.import_module("pymor.core.logger").set_log_levels({"pymor": "ERROR"})
    return era.ERAReductor(markov, dt_s, force_stability=True, feedthrough=feedthrough)


def _realise(reductor: Any, order: int, feedthrough: F64) -> tuple[F64, F64, F64, F64]:
    A, B, C, *_ = (np.asarray(v) for v in reductor.reduce(order).to_matrices()[:3])  # noqa: N806
    return A.real, B.real, C.real, feedthrough


def _scaled(matrices: tuple[F64, F64, F64, F64], point: tuple[F64, F64, F64, F64], dt_s: float) -> System:
    """Undoes the scaling of inputs and outputs; the operating point becomes constants."""
    A, B, C, D = matrices  # noqa: N806 - letters of the literature
    u0, su, y0, sy = point
    B, C, D = B / su, C * sy[:, None], D * sy[:, None] / su  # noqa: N806
    return System(A, B, C, D, dt_s, -B @ u0, y0 - D @ u0)


def _shifted(system: System, segments: Sequence[Segment]) -> System:
    """The system with output constants that fit best: means of data that began out of balance are no resting point."""
    used = [s for s in segments if s.held_out > 0]
    p, n = len(system.C), system.order
    table, target = [], []
    for at, segment in enumerate(used):
        told = np.isfinite(segment.seen[: segment.held_out])
        columns = np.zeros((segment.held_out, p, p + n * len(used)))
        columns[:, :, :p] = np.eye(p)
        columns[:, :, p + at * n : p + (at + 1) * n] = system.free(segment.held_out)
        rest = segment.y[: segment.held_out] - system.respond(segment.u[: segment.held_out], np.zeros(n))
        table.append(columns[told])
        target.append(rest[told])
    shift = np.linalg.lstsq(np.concatenate(table), np.concatenate(target), rcond=1e-10)[0][:p]
    a, c = system.drift
    return System(system.A, system.B, system.C, system.D, system.dt_s, a, c + shift)


def _run(system: System, segments: Sequence[Segment], lags: int) -> Identified:
    starts, simulated, seen, hidden = [], [], [], []
    for segment in segments:
        head = segment.held_out or min(START_SAMPLES, segment.ticks)
        starts.append(system.start(segment.u[:head], segment.y[:head]))
        simulated.append(system.respond(segment.u, starts[-1]))
        rest = segment.hidden
        if segment.held_out == 0:
            rest[:START_SAMPLES] = np.nan
        seen.append(segment.seen - simulated[-1])
        hidden.append(rest - simulated[-1])
    return Identified(system, tuple(starts), tuple(simulated), (), np.empty(0), lags, _rms(seen), _rms(hidden))


def _rms(rows: Sequence[F64]) -> F64:
    every = np.concatenate(rows)
    told = np.isfinite(every)
    count = told.sum(axis=0)
    total = np.where(told, every * every, 0.0).sum(axis=0)
    return np.where(count > 0, np.sqrt(total / np.maximum(count, 1)), np.nan)


def _whole(rmse: F64) -> float:
    return float(np.sqrt(np.nanmean(rmse * rmse))) if np.isfinite(rmse).any() else float("nan")
