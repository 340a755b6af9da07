"""The benchmark of the example: measured data, a grey box, a free run over the half nobody looked at."""

import hashlib
import importlib.util
import sys

import pytest

SHA256 = "ef2388ed822f3aef4aa80d6b0f2b466dd80b361786b3eafc7a2957c31ea323a7"


@pytest.fixture
def benchmark(root, monkeypatch):
    spec = importlib.util.spec_from_file_location("benchmark", root / "examples/cascaded-tanks/benchmark.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "benchmark", module)
    spec.loader.exec_module(module)
    return module


def test_the_grey_box_runs_free_within_a_quarter_of_a_volt_and_its_intervals_hold(benchmark, root, kernel_cache):
    data = root / "tests/data/cascaded_tanks/dataBenchmark.csv"
    assert hashlib.sha256(data.read_bytes()).hexdigest() == SHA256
    outcome, figures = benchmark.solve(
        root / "examples/cascaded-tanks/cascaded-tanks.yaml", data, cache_dir=kernel_cache
    )
    assert figures["rmse_validation_v"] <= 0.26
    assert figures["rmse_estimation_v"] <= 0.2
    assert 0.88 <= figures["coverage_90_validation"] <= 0.92
    assert outcome.calibration.warnings == ()
