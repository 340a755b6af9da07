"""Which parameters the data can tell: singular values of the weighted sensitivities, and how uncertain each is.

Start states are projected out first: a combination of parameters that a start state can imitate is not told. Columns
are scaled by what a large step is, so that a singular value s means: along its direction the data knows the
parameters to 1/s of a large step. Residuals of a real model are correlated in time; the covariance accounts for that
(Newey and West, Econometrica 1987).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from twinmodel.errors import ConflictError
from twinmodel.fit.unknowns import Unknowns

F64 = NDArray[np.float64]
# A direction that is known no better than to this part of a large step (its value, a factor of e, its bounds) is not.
VAGUE: Final = 1.0
_RANK: Final = 1e-7
_SHARE: Final = 0.1


@dataclass(frozen=True, slots=True)
class Identification:
    """What is known of the unknowns after a fit.

    Attributes:
        sigma: standard deviation of each shared parameter, in its unit, priors included.
        correlation: of the shared parameters, shape (k, k).
        start_sigma: standard deviation of the start states, in the order of the unknowns.
        singular: singular values of the data's scaled sensitivities, falling.
        vague: combinations that the data cannot tell, as (part, name) with the largest first.
        by_prior: names whose sigma is that of their prior: the data added nothing.
    """

    sigma: F64
    correlation: F64
    start_sigma: F64
    singular: F64
    vague: tuple[tuple[tuple[float, str], ...], ...]
    by_prior: tuple[str, ...]


def identify(unknowns: Unknowns, z: F64, residuals: F64, slopes: F64, prior: F64) -> Identification:
    """Judges the sensitivities at a solution.

    Args:
        unknowns: what was sought.
        z: the solution, shape (k,).
        residuals: weighted residuals, shape (segments, rows).
        slopes: d residual / d z, shape (segments, rows, shared + each).
        prior: slope of the residual of each prior, shape (k,).
    """
    shared = len(unknowns.shared)
    J = _columns(unknowns, slopes)  # noqa: N806 - letters of the literature
    r = residuals.reshape(-1)
    wide = max(float(r @ r) / max(int(np.count_nonzero(J.any(axis=1))) - len(z), 1), 1e-300)
    own = _projected(J, prior, shared)
    u, s, vt = np.linalg.svd(own, full_matrices=False)
    del u
    covariance = _covariance(J, residuals, slopes, prior)
    # What the data and priors together know of the shared ones, in z.
    inner = covariance[:shared, :shared]
    vague = _vague(unknowns, s, vt, inner, wide)
    slope = unknowns.slope(z)
    deviation = np.sqrt(np.maximum(np.diag(covariance), 0.0))
    product = np.outer(deviation[:shared], deviation[:shared])
    correlation = np.divide(inner, product, out=np.eye(shared), where=product > 0.0)
    sigma = deviation * slope
    by_prior = tuple(
        q.name
        for q, value in zip(unknowns.shared, sigma, strict=False)
        if q.sigma is not None and value > 0.9 * q.sigma
    )
    return Identification(sigma[:shared], np.clip(correlation, -1.0, 1.0), sigma[shared:], s, vague, by_prior)


def refuse_vague(found: Identification, still: Sequence[str], at_bound: Sequence[str] = ()) -> None:
    """Refuses a fit whose parameters the data cannot tell.

    Args:
        found: what `identify` says.
        still: names of inputs that never move.
        at_bound: parameters that rest at a bound; named, for they often are a part of it.

    Raises:
        ConflictError: FIT_NOT_IDENTIFIABLE with the combination and what to do.
    """
    if not found.vague:
        return
    worst = found.vague[0]
    names = [name for _, name in worst]
    if len(names) == 1:
        told = f"the data says nothing about {names[0]}"
        advice = f"hold {names[0]} (`calibrate: false`) or give it a prior `sigma`"
    else:
        terms = " ".join(f"{part:+.2f}*{name}" for part, name in worst)
        told = (
            f"the data cannot tell {', '.join(names[:-1])} and {names[-1]} apart; the outputs stay where {terms} moves"
        )
        advice = f"hold one of {', '.join(names)} (`calibrate: false`) or give it a prior `sigma`"
    if still:
        advice += f", or measure while {', '.join(still)} moves"
    if at_bound:
        told += f" (at their bounds: {', '.join(at_bound)})"
    raise ConflictError(
        "FIT_NOT_IDENTIFIABLE", told, hint=advice, parameters=names, combinations=len(found.vague), inputs=list(still)
    )


def _columns(unknowns: Unknowns, slopes: F64) -> F64:
    """The whole sensitivity matrix, each stretch with start states of its own."""
    segments, rows, _ = slopes.shape
    shared, own = len(unknowns.shared), len(unknowns.each)
    J = np.zeros((segments * rows, shared + segments * own))  # noqa: N806 - letters of the literature
    for s in range(segments):
        here = slice(s * rows, (s + 1) * rows)
        J[here, :shared] = slopes[s, :, :shared]
        J[here, shared + s * own : shared + (s + 1) * own] = slopes[s, :, shared:]
    return J


def _projected(J: F64, prior: F64, shared: int) -> F64:  # noqa: N803 - letters of the literature
    """Sensitivities to the shared parameters that no start state within its prior can imitate, priors of both below."""
    k = J.shape[1]
    full = np.concatenate([J, np.diag(prior)])
    if k == shared:
        return full
    q, _ = np.linalg.qr(full[:, shared:])
    return np.asarray(full[:, :shared] - q @ (q.T @ full[:, :shared]))


def _covariance(J: F64, residuals: F64, slopes: F64, prior: F64) -> F64:  # noqa: N803 - letters of the literature
    """Sandwich covariance in z: curvature outside, the residuals' own scatter over time inside."""
    H = J.T @ J + np.diag(prior * prior)  # noqa: N806
    inverse = np.linalg.pinv(H, rcond=_RANK * _RANK, hermitian=True)
    segments, rows, _ = slopes.shape
    meat = np.zeros_like(H)
    for s in range(segments):
        score = J[s * rows : (s + 1) * rows] * residuals[s][:, None]
        lags = min(rows - 1, _lags(residuals[s]))
        meat += score.T @ score
        for lag in range(1, lags + 1):
            part = (1.0 - lag / (lags + 1.0)) * (score[lag:].T @ score[:-lag])
            meat += part + part.T
    meat += np.diag(prior * prior)
    return np.asarray(inverse @ meat @ inverse)


def _lags(r: F64) -> int:
    """How far residuals remember: three times the lag at which their autocorrelation falls below 1/e, plus a few."""
    power = float(r @ r)
    limit = max(1, len(r) // 10)
    for lag in range(1, limit):
        if float(r[lag:] @ r[:-lag]) < power / math.e:
            return min(3 * lag, limit)
    return limit


def _vague(
    unknowns: Unknowns, s: F64, vt: F64, covariance: F64, wide: float
) -> tuple[tuple[tuple[float, str], ...], ...]:
    found = []
    top = float(s[0]) if len(s) else 0.0
    for value, direction in zip(s[::-1], vt[::-1], strict=True):
        # Two estimates of how well the direction is known: independent residuals, correlated ones.
        known = math.sqrt(max(wide, 0.0)) / value if value > 0.0 else math.inf
        known = max(known, math.sqrt(max(float(direction @ covariance @ direction), 0.0)))
        if value > _RANK * top and known < VAGUE:
            continue
        order = np.argsort(-np.abs(direction))
        sign = 1.0 if direction[order[0]] > 0.0 else -1.0
        parts = [(float(sign * direction[i]), unknowns.shared[i].name) for i in order]
        found.append(tuple((part, name) for part, name in parts if abs(part) >= _SHARE))
    return tuple(found)
