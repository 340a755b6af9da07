"""Random models of a signature, for tests of the kernels."""

from __future__ import annotations

import numpy as np
import pytest

from twinmodel.kernel.arena import plan_linear

DRIFT = np.array([0.05, 2.0, 0.5, 16.0, 4.0, 0.5, 0.002, 0.5, 20.0, 1.5, 2.0])


def _covariance(g, n):
    root = g.normal(size=(n, n))
    return root @ root.T + np.eye(n)


def _noise(g, n, p):
    return {
        "low": np.full(n, -30.0), "high": np.full(n, 30.0), "R": g.uniform(0.5, 2, p), "Q": _covariance(g, n) * 0.1,
        "Q_held": _covariance(g, n),
    }  # fmt: skip


def _linear(g, n, m, p):
    tensors = _noise(g, n, p) | {
        "A": g.normal(size=(n, n)) * 0.4, "B": g.normal(size=(n, m)), "a": g.normal(size=n),
        "C": g.normal(size=(p, n)), "D": g.normal(size=(p, m)), "c": g.normal(size=p),
    }  # fmt: skip
    return plan_linear(tensors, DRIFT)


@pytest.fixture(scope="session")
def make_linear():
    """Function (generator, n, m, p) -> a plan with random matrices."""
    return _linear


@pytest.fixture(scope="session")
def make_noise():
    """Function (generator, n, p) -> the tensors all families share."""
    return _noise


@pytest.fixture(scope="session")
def make_covariance():
    """Function (generator, n) -> a positive definite matrix."""
    return _covariance
