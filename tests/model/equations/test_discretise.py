"""Own matrix exponential and noise integral against scipy, and against themselves on the reverse."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinmodel.equations.discretise import exponential, hold, multiply, noise

# Every worker reads this file: scipy, whose import takes seconds, is imported where a test asks it.


@given(st.integers(1, 6), st.integers(0, 1 << 30), st.sampled_from([1e-3, 1.0, 30.0]))
def test_the_exponential_agrees_with_scipy(n, seed, scale):
    from scipy.linalg import expm

    matrix = np.random.default_rng(seed).normal(size=(n, n)) * scale
    matrix -= np.eye(n) * scale
    np.testing.assert_allclose(exponential(matrix), expm(matrix), rtol=1e-9, atol=1e-11 * np.exp(scale))


def test_the_exponential_of_zero_is_the_identity():
    assert np.array_equal(exponential(np.zeros((3, 3))), np.eye(3))


def test_products_are_those_of_numpy():
    g = np.random.default_rng(3)
    a, b = g.normal(size=(4, 5)), g.normal(size=(5, 2))
    np.testing.assert_allclose(multiply(a, b), a @ b)


def test_the_hold_agrees_with_scipy():
    from scipy.signal import cont2discrete

    g = np.random.default_rng(5)
    A, B = g.normal(size=(3, 3)) - 2 * np.eye(3), g.normal(size=(3, 2))
    found = hold(A, B, 0.7)
    expected = cont2discrete((A, B, np.eye(3), np.zeros((3, 2))), 0.7)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-12)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-12)


def test_noise_is_the_integral_over_the_tick():
    from scipy.linalg import expm

    g = np.random.default_rng(6)
    A = g.normal(size=(3, 3)) - np.eye(3)
    Q = np.diag([1.0, 2.0, 0.5])
    times = (np.arange(4000) + 0.5) * (0.9 / 4000)
    expected = sum(expm(A * t) @ Q @ expm(A * t).T for t in times[::8]) * (0.9 / 500)
    np.testing.assert_allclose(noise(A, Q, 0.9), expected, rtol=1e-2)
    assert np.array_equal(noise(A, Q, 0.9), noise(A, Q, 0.9).T)
    assert noise(np.zeros((1, 1)), np.array([[2.0]]), 3.0)[0, 0] == pytest.approx(6.0)


@pytest.mark.parametrize("fast", [0.3, 5.0, 40.0, 300.0, 1e5])
def test_noise_of_a_model_much_faster_than_the_tick_is_right(fast):
    from scipy.linalg import expm, solve_continuous_lyapunov

    A, Q = np.array([[-fast, fast], [1.0, -2.0]]), np.diag([1e-4, 1e-6])
    at_rest, carry = solve_continuous_lyapunov(A, -Q), expm(A)
    np.testing.assert_allclose(noise(A, Q, 1.0), at_rest - carry @ at_rest @ carry.T, rtol=1e-8)
