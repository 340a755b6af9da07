"""Stiff models: refused with what would do, run by the implicit method, told from those that are merely fast."""

from __future__ import annotations

import numpy as np
import pytest

from twinmodel.equations.compile import compile_model
from twinmodel.equations.load import read
from twinmodel.equations.stiffness import SAMPLES, sample
from twinmodel.errors import ConfigError

STIFF = """\
model: stiff
version: 1.0.0
family: ode
dt: 1s
substeps: 1
states: {a: {unit: K, start: 1}, b: {unit: K, start: 1}}
params: {fast: {value: 0.1, unit: s}, slow: {value: 50, unit: s}}
equations: {a': (b - a)/fast, b': -b/slow}
outputs: {y: a}
noise: {measurement: {y: 0.1}}
"""


def test_a_stiff_model_is_refused_with_its_time_constant_and_what_would_do():
    with pytest.raises(ConfigError) as caught:
        compile_model(read(STIFF, "stiff.yaml"))
    error = caught.value
    assert (error.reason, error.facts["line"]) == ("EQUATION_INVALID", 5)
    assert "fastest time constant is 0.1 s" in error.message
    assert "use `substeps: 4` or `integrator: ros2`" in error.message
    compile_model(read(STIFF.replace("substeps: 1", "substeps: 4")))
    with pytest.raises(ConfigError, match="stiff"):
        compile_model(read(STIFF.replace("substeps: 1", "substeps: 3")))


def test_a_model_beyond_all_substeps_is_left_to_the_implicit_method():
    text = STIFF.replace("value: 0.1", "value: 0.0001")
    with pytest.raises(ConfigError, match="no 1000 substeps would do; use `integrator: ros2`"):
        compile_model(read(text))
    compiled = compile_model(read(text.replace("substeps: 1", "integrator: ros2")))
    assert compiled.integrator == "ros2"
    assert len(compiled.tensors["jacobian_results"]) == 4


def test_a_model_that_is_stiff_in_a_corner_of_its_regime_is_refused_there():
    text = STIFF.replace("-b/slow", "-b*b*b/slow/one").replace("slow: {v", "one: {value: 1, unit: K^2}, slow: {v")
    text = text.replace("value: 0.1", "value: 1")
    compile_model(read(text))
    with pytest.raises(ConfigError, match="stiff"):
        compile_model(read(text + "regime: {box: {b: [0, 50]}}\n"))


def test_a_growing_mode_is_no_stiffness_while_steps_follow_it():
    compile_model(read(STIFF.replace("-b/slow", "b/slow").replace("value: 0.1", "value: 1")))


def test_an_undamped_swing_is_judged_by_the_imaginary_axis():
    text = STIFF.replace("(b - a)/fast", "b*rate").replace("-b/slow", "-a*rate")
    text = text.replace("slow: {v", "rate: {value: 2.7, unit: 1/s}, slow: {v")
    compile_model(read(text))
    with pytest.raises(ConfigError, match="substeps: 2"):
        compile_model(read(text.replace("2.7", "2.9")))


def test_points_lie_inside_the_regime_and_are_the_same_each_time():
    document = read(STIFF + "regime: {box: {b: [2, 50]}}\n")
    x, u = sample(document, np.zeros(0))
    assert x.shape == (2, SAMPLES + 1)
    assert u.shape == (0, SAMPLES + 1)
    assert x[:, 0].tolist() == [1.0, 1.0]
    assert ((x[1, 1:] > 2) & (x[1, 1:] < 50)).all()
    counts, _ = np.histogram(x[1, 1:], bins=8, range=(2, 50))
    assert counts.min() >= 5
    assert np.array_equal(sample(document, np.zeros(0))[0], x)
