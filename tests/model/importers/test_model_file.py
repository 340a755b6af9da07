"""Foreign models as ours: the imported model behaves as the original, and says what it lacks."""

from __future__ import annotations

import numpy as np
import pytest

from twinmodel.equations.arrays import Arrays, parse_arrays
from twinmodel.errors import InputError
from twinmodel.estimator import Estimator
from twinmodel.importers.labels import Label, read_labels, read_sigmas
from twinmodel.importers.model_file import INLINE_MAX, Wanted, from_matrices, from_network
from twinmodel.importers.onnx_graph import DenseLayer, parse_network
from twinmodel.kernel.rollout import rollout, rollout_of
from twinmodel.package import tensors
from twinmodel.package.archive import open_at_desk

A, B = np.array([[0.9, 0.1], [-0.2, 0.8]]), np.array([[0.0], [0.5]])
C, D = np.array([[1.0, 0.0]]), np.array([[0.25]])
SECOND = 10**9


def arrays(**values):
    return Arrays({k: np.asarray(v, float) for k, v in values.items()}, {})


def wanted(**changes):
    return Wanted(**{"name": "imported", "dt_ns": SECOND, "kind": "discrete", "measurement": {"y1": 0.1}} | changes)


def outputs(blob, u):
    package = open_at_desk(blob)
    plan = tensors.plan(package.manifest, package.tensors)
    params = package.tensors.get("params", np.empty(0))[:, None]
    run = rollout_of(plan, "interpreted")
    return rollout(plan, run, package.tensors["x0"][:, None], params, u)[:, :, 0]


def test_a_discrete_model_of_matrices_moves_as_they_say():
    made = from_matrices(arrays(A=A, B=B, C=C, D=D), wanted(process={"x1": 0.01}), "m.npz")
    x, u, expected = np.zeros(2), np.random.default_rng(1).normal(size=(20, 1)), []
    for row in u:
        expected.append(C @ x + D @ row)
        x = A @ x + B @ row
    np.testing.assert_allclose(outputs(made.package, u), np.array(expected), rtol=1e-12, atol=1e-15)
    package = open_at_desk(made.package)
    assert Estimator(package, tier="interpreted").tier == "interpreted"
    assert [s.name for s in package.manifest.states] == ["x1", "x2"]


def test_a_continuous_one_is_discretised_exactly_and_letters_may_be_small():
    made = from_matrices(
        arrays(a=[[-1.0]], b=[1.0], c=[1.0]),
        wanted(kind="continuous", states=["T [K] -10..9"], inputs=["Q [W]"], outputs=["T_o [K] 0..5"], measurement={}),
        "m.npz",
    )  # fmt: skip
    found = outputs(made.package, np.ones((4, 1)))[:, 0]
    np.testing.assert_allclose(found, 1 - np.exp(-np.arange(4.0)), rtol=1e-12)
    assert "T: {" in made.text
    assert open_at_desk(made.package).outputs[0].high == 5


def test_what_a_file_of_matrices_does_not_tell_is_asked_for():
    good = {"A": A, "B": B, "C": C}
    assert from_matrices(arrays(**good, dt=1.0), wanted(dt_ns=None, kind=None), "m").package
    for values, changes in (
        (good, {"kind": None}), (good, {"dt_ns": None}), (good | {"dt": 2.0}, {}), (good, {"measurement": {}}),
        (good, {"measurement": {"y1": 0.1, "z": 1.0}}), (good, {"process": {"y1": 0.1}}), (good, {"states": ["one"]}),
        (good, {"outputs": ["two words"]}), (good, {"name": "no name"}), (good, {"version": "one"}),
        (good, {"outputs": ["y1 [furlong]"]}), (good, {"states": ["x1", "x1"]}), ({"A": A, "B": B}, {}),
        (good | {"B": np.ones((3, 1))}, {}), (good | {"C": np.ones((1, 3))}, {}), (good | {"D": np.ones((3, 3))}, {}),
        (good | {"A": np.ones((2, 3))}, {}), (good | {"A": np.ones((2, 2, 2))}, {}),
        (good | {"A": np.empty((0, 0))}, {}),
        ({"A": np.eye(40), "B": np.ones((40, 1)), "C": np.ones((1, 40))}, {}),
    ):  # fmt: skip
        with pytest.raises(InputError) as caught:
            from_matrices(arrays(**values), wanted(**changes), "m.npz")
        assert caught.value.message


def dense(width, last):
    chance = np.random.default_rng(5)
    hidden = [DenseLayer(chance.normal(size=(width, 2)) / 2, chance.normal(size=width), "tanh")]
    return [*hidden, DenseLayer(chance.normal(size=(last, width)) / width, chance.normal(size=last), "identity")]


def forward(layers, x):
    for layer in layers:
        x = x @ layer.weights.T + layer.bias
        x = np.tanh(x) if layer.activation == "tanh" else x
    return x


LABELS = {"inputs": ["speed [rpm] 0..3000", "valve"], "outputs": ["head [m] 0..40", "power [kW] 0..9"]}


@pytest.mark.parametrize("width", [5, 60])
def test_a_network_gives_its_numbers_whether_weights_stand_inline_or_beside(width):
    # 60 wide is more than INLINE_MAX only with a second hidden layer.
    layers = dense(width, 2)
    if width * 4 < INLINE_MAX and width > 50:
        middle = DenseLayer(np.eye(width) * 0.5, np.zeros(width), "tanh")
        layers = [layers[0], middle, layers[1]]
    made = from_network(layers, Wanted(name="net", dt_ns=SECOND, **LABELS))
    assert bool(made.weights) == (width > 50)
    u = np.random.default_rng(2).normal(size=(6, 2))
    np.testing.assert_allclose(outputs(made.package, u), forward(layers, u), rtol=1e-12, atol=1e-13)
    if made.weights:
        np.testing.assert_array_equal(parse_arrays(made.weights).values["w1"], layers[1].weights)
        assert f'file: "{made.weights_name}"' in made.text


def test_activations_that_differ_are_kept_for_each_layer(onnx_file):
    chance = np.random.default_rng(1)
    weights = {k: chance.normal(size=(3, 3)).astype(np.float32) for k in "abc"}
    nodes = [
        ("MatMul", "xa", "h"),
        ("Relu", "h", "i"),
        ("MatMul", "ib", "j"),
        ("Tanh", "j", "k"),
        ("MatMul", "kc", "y"),
    ]
    layers = parse_network(onnx_file(nodes, weights, 3), "n.onnx")
    ranges = [f"y{k} -50..50" for k in range(3)]
    made = from_network(layers, Wanted(name="net", dt_ns=SECOND, outputs=ranges))
    u = chance.normal(size=(5, 3))
    expected = np.tanh(np.maximum(u @ weights["a"], 0) @ weights["b"]) @ weights["c"]
    np.testing.assert_allclose(outputs(made.package, u), expected, rtol=1e-5, atol=1e-6)


def test_a_network_without_ranges_or_tick_says_what_to_give():
    for changes in ({"dt_ns": None}, {"outputs": ["head", "power 0..9"]}, {"outputs": ()}, {"inputs": ["one"]}):
        with pytest.raises(InputError) as caught:
            from_network(dense(5, 2), Wanted(**{"name": "net", "dt_ns": SECOND, **LABELS} | changes))
        assert "--" in caught.value.hint


def test_labels_name_unit_and_range():
    assert read_labels([" h1 [m^0.5/s] -1e-3..2.5 ", "p", "q[bar]", "r 0..1"], 4, "x", "--x") == (
        Label("h1", "m^0.5/s", -0.001, 2.5), Label("p"), Label("q", "bar"), Label("r", "", 0.0, 1.0),
    )  # fmt: skip
    assert [label.name for label in read_labels([], 2, "u", "--u")] == ["u1", "u2"]
    assert read_sigmas(["a=1e-3", "b = 2"], "--noise") == {"a": 0.001, "b": 2.0}
    for wrong in (["a"], ["a=b"], ["a=1", "a=2"]):
        with pytest.raises(InputError):
            read_sigmas(wrong, "--noise")
