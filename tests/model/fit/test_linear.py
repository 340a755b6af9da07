"""Linear models: found again in data, cut within their bound, refused where they cannot be."""

from dataclasses import dataclass

import numpy as np
import pytest

from twinmodel.errors import ConflictError, InputError
from twinmodel.fit.linear import Wanted, identify_model, reduce_model
from twinmodel.fit.reduction import reduce_system
from twinmodel.fit.system import System
from twinmodel.package.archive import inspect

DT_NS = 1_000_000_000


@dataclass(frozen=True)
class Label:
    name: str
    unit: str = ""
    low: float | None = None
    high: float | None = None


WANTED = Wanted("found", "1.0.0", DT_NS, (Label("push"),), (Label("place", "m"),))
TRUTH = System(
    np.array([[0.9, 0.1], [-0.1, 0.8]]), np.array([[0.0], [0.5]]), np.array([[1.0, 0.0]]), np.zeros((1, 1)), 1.0
)


def answer(ticks=400, scatter=0.005):
    rng = np.random.default_rng(5)
    u = np.repeat(rng.uniform(2, 6, ticks // 8), 8)[:, None]
    y = TRUTH.respond(u, np.array([2.0, 1.0])) + 20.0
    return u, y + scatter * rng.normal(size=y.shape)


def rod(n=40):
    A = -2 * np.eye(n) + np.eye(n, k=1) + np.eye(n, k=-1)
    B, C = np.zeros((n, 1)), np.zeros((1, n))
    B[0], C[0, -1] = 1, 1
    return A, B, C


def test_a_linear_model_is_found_with_its_modes_and_operating_point(make):
    u, y = answer()
    made = identify_model(WANTED, make.record(u, y, dt_ns=DT_NS), holdout=0.3)
    assert made.figures["rmse"]["hidden"]["place"] < 0.008
    assert made.figures["order"] <= 4
    assert made.figures["slowest_mode"] < 1.0
    manifest = inspect(made.package)
    assert manifest.kernel == "linear"
    assert manifest.provenance.metrics["rmse_holdout_place"] < 0.008
    assert set(manifest.regime.box) == {"push"}


def test_data_that_tells_nothing_linear_is_refused(make):
    u, y = answer()
    with pytest.raises(InputError, match="push is constant"):
        identify_model(WANTED, make.record(np.ones_like(u), y, dt_ns=DT_NS))
    with pytest.raises(InputError, match="FIT_DATA_UNFIT"):
        identify_model(WANTED, make.record(u[:24], y[:24], dt_ns=DT_NS))


def test_a_cut_model_stays_within_its_bound_at_every_frequency():
    A, B, C = rod()
    found = reduce_system(System(A, B, C, np.zeros((1, 1)), 0.0), order=3)
    small = found.system
    worst = 0.0
    for w in np.logspace(-4, 1, 60):
        large = C @ np.linalg.solve(1j * w * np.eye(len(A)) - A, B)
        less = small.C @ np.linalg.solve(1j * w * np.eye(3) - small.A, small.B)
        worst = max(worst, abs((large - less)[0, 0]))
    assert worst <= found.bound * (1 + 1e-6)
    assert found.bound == pytest.approx(2 * found.singular[3:].sum(), rel=1e-9)


def test_arrays_become_a_package_that_carries_the_bound(tmp_path):
    A, B, C = rod()
    path = tmp_path / "rod.npz"
    np.savez(path, A=A, B=B, C=C)
    wanted = Wanted("", "1.0.0", DT_NS, (Label("heat", "kW"),), (Label("T", "K"),))
    made = reduce_model(path, wanted, kind="continuous", error=0.01, measurement={"T": 0.1})
    manifest = inspect(made.package)
    assert manifest.id == "rod-reduced@1.0.0"
    assert len(manifest.states) < 8
    assert manifest.provenance.metrics["error_bound_relative"] <= 0.01
    assert manifest.provenance.metrics["order_before"] == 40


def test_a_model_file_is_cut_and_its_constants_move_into_the_outputs(tmp_path):
    path = tmp_path / "pair.yaml"
    path.write_text(
        "model: pair\nversion: 1.0.0\nfamily: linear\ndt: 1s\n"
        "states: {a: {unit: K, start: 20}, b: {unit: K, start: 20}}\n"
        "inputs: {heat: {unit: K, min: 0, max: 10}}\n"
        "params: {room: {value: 20, unit: K}, fast: {value: 2, unit: 1/s}, slow: {value: 0.1, unit: 1/s}}\n"
        'equations: {"a\'": fast*(heat + room - a), "b\'": slow*(a - b)}\n'
        "outputs: {warm: {value: b, unit: K, min: 0, max: 50}}\n"
    )
    made = reduce_model(path, Wanted("", "1.1.0", 0), order=1)
    manifest = inspect(made.package)
    assert manifest.id == "pair-reduced@1.1.0"
    assert manifest.provenance.parent is not None
    assert "c:" in made.text


def test_unstable_models_are_refused_with_their_mode():
    system = System(np.array([[1.1]]), np.ones((1, 1)), np.ones((1, 1)), np.zeros((1, 1)), 1.0)
    with pytest.raises(ConflictError, match=r"mode at 1\.1") as caught:
        reduce_system(system, order=1)
    assert caught.value.reason == "MODEL_UNSTABLE"
