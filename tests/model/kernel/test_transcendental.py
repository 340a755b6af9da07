"""Own functions are right to 2 units in the last place, the same bits in every tier, and treat odd values as C does."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest

from twinmodel.equations.oplist import lower
from twinmodel.equations.parse import Name, Op, Source
from twinmodel.kernel.arena import plan_ode
from twinmodel.kernel.ops import MAP
from twinmodel.kernel.parity import canonical
from twinmodel.kernel.reference import KERNELS
from twinmodel.kernel.rollout import rollout
from twinmodel.kernel.transcendental import FAR_MAX, NUMPY, TURN_MAX

COUNT = 700
mpmath.mp.prec = 180
LARGEST = mpmath.mpf(1.7976931348623157e308)


def ulps(found, true):
    """Error in units in the last place of the true value; overflow to infinity is right beyond the largest double."""
    if math.isinf(found):
        return 0.0 if abs(true) > LARGEST else math.inf
    exponent = -1074 if true == 0 else max(int(mpmath.floor(mpmath.log(abs(true), 2))) - 52, -1074)
    return float(abs(mpmath.mpf(found) - true) / mpmath.ldexp(1, exponent))


def worst(function, truth, *args):
    with np.errstate(all="ignore"):
        found = function(*args)
    rows = zip(found.tolist(), *(a.tolist() for a in args), strict=True)
    return max(ulps(y, truth(*map(mpmath.mpf, x))) for y, *x in rows)


def powers(g, low, high, count=COUNT):
    """Numbers of both signs spread evenly over the binades."""
    return 2.0 ** g.uniform(low, high, count) * g.choice([-1.0, 1.0], count)


def near_multiples(g):
    """Doubles beside multiples of pi/2, where the reduced argument cancels most."""
    nearest = [float(k * mpmath.pi / 2) for k in (*range(1, 120), *g.integers(1, 667_000, 200).tolist())]
    return np.array([w for v in nearest for w in (v, np.nextafter(v, 0.0), np.nextafter(v, np.inf))])


def test_exp_is_right_over_its_whole_range():
    g = np.random.default_rng(1)
    parts = [
        g.uniform(-745.2, 709.78, COUNT),
        g.uniform(-1, 1, COUNT),
        powers(g, -1074, 0),
        g.uniform(-745.2, -708, COUNT),
    ]
    edges = np.array([709.782712893384, -745.1332191019411, 0.34657359027997264, -0.34657359027997264])
    assert worst(NUMPY.exp, mpmath.exp, np.concatenate([*parts, edges])) <= 1.0


def test_log_is_right_over_its_whole_range():
    g = np.random.default_rng(2)
    parts = [powers(g, -1074, 1024), 1 + powers(g, -52, -1), g.uniform(0.5, 2, COUNT), powers(g, -1074, -1020)]
    x = np.abs(np.concatenate(parts))
    assert worst(NUMPY.log, mpmath.log, x[x > 0]) <= 1.0


def test_tanh_is_right_over_its_whole_range():
    g = np.random.default_rng(3)
    parts = [g.uniform(-2, 2, COUNT), g.uniform(-23, 23, COUNT), powers(g, -1074, 0), g.uniform(0.74, 0.8, COUNT)]
    assert worst(NUMPY.tanh, mpmath.tanh, np.concatenate(parts)) <= 1.5


@pytest.mark.parametrize(("function", "truth"), [(NUMPY.sin, mpmath.sin), (NUMPY.cos, mpmath.cos)])
def test_sin_and_cos_are_right_up_to_their_bound_and_graceful_beyond(function, truth):
    g = np.random.default_rng(4)
    parts = [g.uniform(-10, 10, COUNT), g.uniform(-TURN_MAX, TURN_MAX, COUNT), powers(g, -1074, 0), near_multiples(g)]
    x = np.concatenate(parts)
    assert worst(function, truth, x[np.abs(x) <= TURN_MAX]) <= 1.0
    far = powers(g, 20, 32)
    errors = [
        abs(float(truth(mpmath.mpf(x))) - y) / abs(x) for x, y in zip(far.tolist(), function(far).tolist(), strict=True)
    ]
    assert max(errors) < 2.0**-51
    assert np.isnan(function(np.array([np.nextafter(FAR_MAX, np.inf), -1e300]))).all()


def test_pow_is_right_over_its_whole_range():
    g = np.random.default_rng(5)
    x = np.abs(np.concatenate([powers(g, -20, 20), 1 + powers(g, -40, -1), powers(g, -1074, 1023)]))
    y = g.uniform(-745.2, 709.8, len(x)) / np.log(x)
    y[:300] = g.uniform(-3, 3, 300)
    kept = np.isfinite(y) & (x > 0)
    assert worst(NUMPY.pow, mpmath.power, x[kept], y[kept]) <= 1.5


def test_odd_values_give_what_c_says():
    inf, nan = math.inf, math.nan
    cases = {
        "exp": [(inf, inf), (-inf, 0.0), (710.0, inf), (-746.0, 0.0), (0.0, 1.0), (nan, nan)],
        "log": [(0.0, -inf), (-0.0, -inf), (-1.0, nan), (inf, inf), (1.0, 0.0), (nan, nan)],
        "tanh": [(inf, 1.0), (-inf, -1.0), (-0.0, -0.0), (nan, nan), (5e-324, 5e-324)],
        "sin": [(inf, nan), (-0.0, -0.0), (nan, nan), (5e-324, 5e-324)],
        "cos": [(-inf, nan), (0.0, 1.0), (nan, nan)],
    }
    with np.errstate(all="ignore"):
        for name, pairs in cases.items():
            for x, expected in pairs:
                found = float(getattr(NUMPY, name)(np.array([x]))[0])
                assert canonical(np.array([found])) == canonical(np.array([expected])), (name, x)


def test_pow_of_odd_values_gives_what_c_says_but_for_nan():
    values = [
        0.0,
        -0.0,
        1.0,
        -1.0,
        2.0,
        -2.0,
        0.5,
        -0.5,
        3.0,
        -3.0,
        math.inf,
        -math.inf,
        2.0**53,
        2.0**52 + 1,
        -(2.0**52) - 1,
    ]
    for x in values:
        for y in values:
            with np.errstate(all="ignore"):
                found = float(NUMPY.pow(np.array([x]), np.array([y]))[0])
            try:
                expected = math.pow(x, y)
            except OverflowError:
                expected = math.copysign(math.inf, x if y % 2 == 1 else 1.0)
            except ValueError:
                expected = math.nan if x < 0 else math.copysign(math.inf, x if y % 2 == 1 else 1.0)
                if x == 0 and y < 0:
                    expected = math.copysign(math.inf, x) if y % 2 == 1 else math.inf
            assert (found, math.copysign(1, found)) == pytest.approx(
                (expected, math.copysign(1, expected)), rel=1e-15, nan_ok=True
            ), (x, y)
    assert np.isnan(NUMPY.pow(np.array([np.nan, 1.0]), np.array([0.0, np.nan]))).all()


def test_all_tiers_give_the_same_bits_for_any_bits(compiled):
    """120,000 pairs of random doubles, every pattern among them, through the machine of both tiers."""
    g = np.random.default_rng(6)
    lanes = 120_000
    a, b = g.integers(0, 2**64, (2, lanes), np.uint64).view(np.float64)
    # The last third is of ordinary size, where the work is done.
    a[80_000:], b[80_000:] = g.normal(size=(2, 40_000)) * 10.0 ** g.integers(-3, 3, (2, 40_000))
    source = Source("")
    unary = [(Op(name, (Name("a"),)), source) for name in ("exp", "log", "tanh", "sin", "cos", "sqrt", "abs", "neg")]
    binary = [(Op(name, (Name("a"), Name("b"))), source) for name in ("pow", "min", "max", "less", "div")]
    choice = [(Op("select", (Name("a"), Name("b"), Name("a"))), source)]
    readings = [*unary, *binary, *choice]
    lowered = lower([[(Name("a"), source), (Name("b"), source)], readings, []], {}, ["a", "b"])
    count = len(readings)
    tensors = {"low": np.zeros(2), "high": np.ones(2), "R": np.ones(count), "Q": np.eye(2), "Q_held": np.eye(2)}
    tensors |= {"params": np.empty(0), "consts": np.empty(0), "pool": np.empty(0), "inputs_nominal": np.empty(0)}
    programs = [array for p in lowered.programs for array in (p.code, p.results)]
    plan = plan_ode(tensors, programs, lowered.registers, (10**9, 1, MAP), np.zeros(11))
    x0, nothing = np.stack([a, b]), np.empty((0, lanes))
    found = [rollout(plan, run, x0, nothing, np.empty((1, 0))) for run in (compiled["rollout"], KERNELS["rollout"])]
    for k, (expr, _) in enumerate(readings):
        assert canonical(found[0][0, k]) == canonical(found[1][0, k]), expr.name
    # NaN in, NaN out, but for the conditions.
    missing = np.isnan(a) | np.isnan(b)
    assert np.isnan(found[0][0, 8:11][:, missing]).all()
    assert not np.isnan(found[0][0, 11]).any()
