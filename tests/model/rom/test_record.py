"""Recorded runs: replayed bit for bit, refused when anything about the file or the model is not right."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinmodel.errors import ConfigError, ConflictError
from twinmodel.estimator import Estimator
from twinmodel.importers.dataset import Dataset
from twinmodel.rom.free import simulated
from twinmodel.rom.record import EVERY, MAGIC, Recorder, replay
from twinmodel.rom.run import Trace, filtered, score

S = 10**9
TICKS = 2 * EVERY + 30


@pytest.fixture(scope="module")
def dataset(simulate, truths):
    rows = simulate(truths["exchanger"], TICKS, 4)
    u, y = np.array([r[0] for r in rows]), np.array([r[1] for r in rows])
    y[50:60, 0] = np.nan
    u[55, 1] = np.nan
    return Dataset(
        t_ns=np.arange(TICKS) * S, u=u, y=y, segments=((0, TICKS),), dt_ns=S,
        inputs=("hot_in", "cold_in"), outputs=("hot_out", "cold_out"),
    )  # fmt: skip


@pytest.fixture(scope="module")
def record(packages, dataset):
    estimator = Estimator(packages["exchanger"], tier="interpreted")
    recorder = Recorder(estimator, dataset)
    trace = filtered(estimator, dataset, recorder.tick)
    return recorder.content(), estimator.state_hash().hex(), trace


@pytest.fixture
def again(packages, tmp_path):
    def run(content, model="exchanger"):
        path = tmp_path / "run.rec"
        path.write_bytes(content)
        return replay(path, Estimator(packages[model], tier="interpreted"))

    return run


def sealed(body):
    return body + hashlib.sha256(body).digest()


def test_a_replay_ends_in_the_recorded_state(record, again):
    content, state_hash, _ = record
    found = again(content)
    assert (found.ticks, found.state_hash, found.differs_at_ns) == (TICKS, state_hash, None)


def test_a_replay_that_differs_says_from_when(record, again):
    content, _, _ = record
    body = bytearray(content[:-32])
    # The first measurement of all, 8 bytes before which lie t and u.
    at = len(body) - 8 * TICKS * 2
    body[at : at + 8] = np.float64(3.0).tobytes()
    found = again(sealed(bytes(body)))
    assert found.differs_at_ns == (EVERY - 1) * S


def test_a_run_of_another_model_is_not_replayed(record, again):
    with pytest.raises(ConflictError, match="MODEL_UNFIT"):
        again(record[0], "pump")


@given(st.floats(0, 1, exclude_max=True), st.integers(0, 7), st.booleans())
def test_an_altered_or_cut_file_is_refused(record, tmp_path_factory, packages, place, bit, cut):
    content = bytearray(record[0])
    at = int(place * len(content))
    if cut:
        del content[at:]
    else:
        content[at] ^= 1 << bit
    path = tmp_path_factory.getbasetemp() / "altered.rec"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="VALUE_INVALID"):
        replay(path, None)


@pytest.mark.parametrize(
    "body",
    [
        MAGIC + (1 << 30).to_bytes(4, "little"), MAGIC + (2).to_bytes(4, "little") + b"{}",
        MAGIC + (4).to_bytes(4, "little") + b"null", MAGIC,
    ],
)  # fmt: skip
def test_a_header_that_lies_is_refused(again, body):
    with pytest.raises(ConfigError, match="VALUE_INVALID"):
        again(sealed(body))


def test_sizes_that_lie_are_refused_before_anything_runs(record, again):
    body = record[0][:-32]
    for old, new in (
        (b'"ticks":230', b'"ticks":999'),
        (b'"inputs":2', b'"inputs":4'),
        (b'"checkpoint":', b'"checkpoint":9'),
    ):
        assert old in body
        length = int.from_bytes(body[8:12], "little") + len(new) - len(old)
        changed = body.replace(old, new, 1)
        with pytest.raises(ConfigError, match="VALUE_INVALID"):
            again(sealed(changed[:8] + length.to_bytes(4, "little") + changed[12:]))


def test_a_filter_that_knows_its_noise_scores_as_it_should(record):
    trace = record[2]
    assert isinstance(trace, Trace)
    for found in score(trace):
        assert found.measured > 150
        assert 0.6 < found.nis < 1.5
        assert 0.82 < found.coverage_90 < 0.97
    assert np.isnan(trace.innovation[52, 0])
    assert trace.sigma[58, 0] > trace.sigma[49, 0]


def test_an_open_loop_does_not_see_measurements_and_fills_missing_inputs(packages, dataset):
    spoiled = Dataset(dataset.t_ns, dataset.u, dataset.y + 100.0, dataset.segments, S, dataset.inputs, dataset.outputs)
    one, other = simulated(packages["exchanger"], dataset), simulated(packages["exchanger"], spoiled)
    np.testing.assert_array_equal(one.estimate, other.estimate)
    assert np.isfinite(one.estimate).all()
    assert one.sha256 == other.sha256
    warmed = simulated(packages["exchanger"], dataset, warm_up=20, tier="interpreted")
    assert warmed.settling.sum() == 20
    assert abs(warmed.innovation[20, 0]) < 3.0
