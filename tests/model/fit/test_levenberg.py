"""Descent within bounds, on functions whose answers are known."""

import numpy as np

from twinmodel.fit.levenberg import descend


def quadratic_of(residuals, slopes):
    def quadratic(Z):
        parts = [(residuals(z), slopes(z)) for z in Z]
        cost = np.array([0.5 * r @ r for r, _ in parts])
        return cost, np.array([J.T @ r for r, J in parts]), np.array([J.T @ J for _, J in parts])

    return quadratic


rosenbrock = quadratic_of(
    lambda z: np.array([10 * (z[1] - z[0] ** 2), 1 - z[0]]), lambda z: np.array([[-20 * z[0], 10], [-1, 0]])
)
WIDE = (np.full(2, -5.0), np.full(2, 5.0))


def test_every_start_finds_the_bottom_of_a_curved_valley():
    starts = np.array([[-1.2, 1.0], [3.0, -3.0], [0.0, 0.0]])
    found = descend(rosenbrock, starts, WIDE, rounds=200, tolerance=1e-12)
    assert all(np.allclose(d.z, 1.0, atol=1e-5) and d.converged for d in found)


def test_the_bottom_beyond_a_bound_leaves_the_answer_on_the_bound():
    low, high = np.full(2, -5.0), np.array([0.5, 5.0])
    (found,) = descend(rosenbrock, np.array([[-1.2, 1.0]]), (low, high), rounds=200, tolerance=1e-12)
    assert found.z[0] == 0.5
    assert np.isclose(found.z[1], 0.25, atol=1e-4)


def test_a_start_without_a_finite_value_is_given_up_and_harms_no_other():
    def quadratic(Z):
        cost, g, H = rosenbrock(Z)
        return np.where(Z[:, 0] < -4, np.inf, cost), g, H

    bad, good = descend(quadratic, np.array([[-4.5, 0.0], [0.5, 0.5]]), WIDE, rounds=200, tolerance=1e-12)
    assert not np.isfinite(bad.cost)
    assert np.allclose(good.z, 1.0, atol=1e-5)


def test_rounds_that_end_too_early_are_told():
    (found,) = descend(rosenbrock, np.array([[-1.2, 1.0]]), WIDE, rounds=3, tolerance=1e-12)
    assert found.rounds == 3
    assert not found.converged
