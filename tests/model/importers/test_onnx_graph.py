"""Networks out of ONNX files: the numbers of the reference evaluator, or every node that cannot be carried by name."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twinmodel.errors import ConfigError
from twinmodel.importers.onnx_graph import FILE_MAX, parse_network, read_network

CHANCE = np.random.default_rng(3)
W0, B0 = CHANCE.normal(size=(4, 3)).astype(np.float32), CHANCE.normal(size=4).astype(np.float32)
W1, B1 = CHANCE.normal(size=(2, 4)).astype(np.float32), CHANCE.normal(size=2).astype(np.float32)
NETWORKS = {
    "gemm": ([("Gemm", "xab", "h", {"transB": 1}), ("Tanh", "h", "t"), ("Gemm", "tcd", "y", {"transB": 1})],
             {"a": W0, "b": B0, "c": W1, "d": B1}),
    "scaled": ([("Gemm", "xab", "h", {"alpha": 0.5, "beta": 2.0}), ("Relu", "h", "t"), ("Gemm", "tc", "y")],
               {"a": W0.T.copy(), "b": B0, "c": W1.T.copy()}),
    "matmul": ([("MatMul", "xa", "h"), ("Add", "bh", "i"), ("Sigmoid", "i", "t"), ("MatMul", "tc", "z"),
                ("Add", "zd", "y")], {"a": W0.T.copy(), "b": B0[None], "c": W1.T.copy(), "d": B1}),
    "normalised": ([("Sub", "xm", "n"), ("Div", "ns", "o"), ("Flatten", "o", "f"), ("Gemm", "fab", "h", {"transB": 1}),
                    ("Tanh", "h", "t"), ("Dropout", "t", "u"), ("Mul", "us", "v"), ("Sub", "sv", "y")],
                   {"a": W0[:3], "b": B0[:3], "m": np.float32([1, 2, 3]), "s": np.float32(2)}),
    "reshaped": ([("Identity", "x", "i"), ("Reshape", "ir", "f"), ("Gemm", "fab", "h", {"transB": 1}),
                  ("Tanh", "h", "y")], {"a": W0, "b": B0, "r": np.array([-1, 3])}),
    "linear": ([("Gemm", "xab", "y", {"transB": 1})], {"a": W0.astype(np.float64).astype(np.float32), "b": B0}),
}  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_gives_what_the_reference_evaluator_gives(onnx_file, evaluate, name):
    from onnx.reference import ReferenceEvaluator

    raw = onnx_file(*NETWORKS[name], 3)
    x = np.random.default_rng(1).normal(size=(5, 3)).astype(np.float32)
    (expected,) = ReferenceEvaluator(raw).run(None, {"x": x})
    np.testing.assert_allclose(evaluate(raw, x.astype(np.float64)), expected, rtol=2e-5, atol=2e-6)
    assert parse_network(raw, "net.onnx")[-1].activation == "identity"


def test_every_node_that_cannot_be_carried_is_named_at_once(onnx_file):
    nodes = [("Softmax", "x", "first"), ("Tanh", ["first"], "t"), ("LSTM", ["t"], "second")]
    with pytest.raises(ConfigError) as caught:
        parse_network(onnx_file(nodes, {}, 3), "net.onnx")
    assert "node 0 Softmax 'first'; node 2 LSTM 'second'" in caught.value.message
    assert "Gemm" in caught.value.hint


WRONG = {
    "two paths": ([("Tanh", "x", "a"), ("Tanh", "x", "b"), ("Add", "ab", "y")], {}),
    "a product of itself": ([("Mul", "xx", "y")], {}),
    "weights that do not fit": ([("MatMul", "xa", "y")], {"a": W1}),
    "weights from the other side": ([("MatMul", "ax", "y")], {"a": np.eye(3, dtype=np.float32)}),
    "a transposed input": ([("Gemm", "xa", "y", {"transA": 1})], {"a": W0.T.copy()}),
    "a bias that does not fit": ([("Add", "xb", "y")], {"b": B0}),
    "a bias for each row": ([("Add", "xb", "y")], {"b": np.zeros((3, 1), np.float32)}),
    "a division by it": ([("Div", "bx", "y")], {"b": np.float32(1)}),
    "a division by 0": ([("Div", "xb", "y")], {"b": np.float32(0)}),
    "no numbers": ([("Add", "xb", "y")], {"b": np.array([np.nan] * 3, np.float32)}),
    "texts": ([("Add", "xb", "y")], {"b": np.array(["a", "b", "c"], object)}),
    "another shape": ([("Reshape", "xr", "y")], {"r": np.array([3, 1])}),
    "another type": ([("Cast", "x", "y", {"to": 7})], {}),
    "a flat batch": ([("Flatten", "x", "y", {"axis": 0})], {}),
    "no bias at all": ([("Add", "x", "y")], {}),
    "an overflow": ([("Mul", "xb", "h"), ("Mul", "hb", "y")], {"b": np.float64([1e300] * 3)}),
    "too wide": ([("MatMul", "xa", "y")], {"a": np.zeros((3, 5000), np.float32)}),
    "too deep": ([("Tanh", "x" if k == 0 else [f"t{k - 1}"], f"t{k}") for k in range(9)], {}),
    "too long": ([("Identity", "x" if k == 0 else [f"t{k - 1}"], f"t{k}") for k in range(300)], {}),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_a_network_that_cannot_be_carried_is_refused(onnx_file, what):
    with pytest.raises(ConfigError) as caught:
        parse_network(onnx_file(*WRONG[what], 3), "net.onnx")
    assert caught.value.reason == "VALUE_INVALID"


def test_inputs_and_outputs_that_are_no_vector_are_refused(onnx_file):
    nodes = [("Tanh", "x", "h"), ("Tanh", "h", "y")]
    for more in ({"shape": ["batch", "n"]}, {"shape": [4, 3]}, {"shape": []}, {"last": "h"}, {"last": "x"}):
        with pytest.raises(ConfigError):
            parse_network(onnx_file(nodes, {}, 3, **more), "net.onnx")


def test_weights_outside_of_the_file_are_never_looked_for(onnx_file, tmp_path):
    import onnx

    model = onnx.ModelProto.FromString(onnx_file(*NETWORKS["linear"], 3))
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "../../etc/passwd"
    with pytest.raises(ConfigError, match="within the file"):
        parse_network(model.SerializeToString(), "net.onnx")
    tensor.data_location = onnx.TensorProto.DEFAULT
    tensor.dims[:] = [1 << 40, 3]
    with pytest.raises(ConfigError, match="does not fit"):
        parse_network(model.SerializeToString(), "net.onnx")
    with pytest.raises(ConfigError, match="FILE_MISSING"):
        read_network(tmp_path / "none.onnx")
    (tmp_path / "large.onnx").write_bytes(bytes(FILE_MAX + 1))
    with pytest.raises(ConfigError, match="larger"):
        read_network(tmp_path / "large.onnx")


@settings(max_examples=300)
@given(st.floats(0, 1, exclude_max=True), st.integers(0, 255), st.sampled_from(sorted(NETWORKS)), st.booleans())
def test_altered_and_cut_files_are_refused_or_still_networks(onnx_file, place, value, name, cut):
    raw = bytearray(onnx_file(*NETWORKS[name], 3))
    at = int(place * len(raw))
    if cut:
        del raw[at:]
    else:
        raw[at] = value
    with contextlib.suppress(ConfigError):
        for layer in parse_network(bytes(raw), "net.onnx"):
            assert np.isfinite(layer.weights).all()
            assert layer.weights.shape[0] == len(layer.bias)


@given(st.binary(max_size=200))
def test_no_bytes_make_the_reader_fail_otherwise(raw):
    with contextlib.suppress(ConfigError):
        parse_network(raw, "net.onnx")
