"""Small networks as ONNX files."""

from __future__ import annotations

import numpy as np
import pytest

from twinmodel.importers.onnx_graph import parse_network


@pytest.fixture(scope="session")
def onnx_file():
    """Function: nodes (operator, inputs, output, attributes), constants and the input's width -> bytes."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    def make(nodes, constants, width, last=None, shape=None):
        made = [helper.make_node(op, list(used), [out], name=out, **more) for op, used, out, *rest in nodes
                for more in (rest[0] if rest else {},)]  # fmt: skip
        weights = [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()]
        source = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", width] if shape is None else shape)
        target = helper.make_tensor_value_info(last or nodes[-1][2], TensorProto.FLOAT, None)
        graph = helper.make_graph(made, "net", [source], [target], weights)
        return helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)]).SerializeToString()

    return make


@pytest.fixture(scope="session")
def evaluate():
    """Function: bytes of an ONNX file and inputs -> outputs of the layers read from it."""

    def run(raw, x):
        for layer in parse_network(raw, "net.onnx"):
            x = x @ layer.weights.T + layer.bias
            x = {"tanh": np.tanh, "relu": lambda v: np.maximum(v, 0), "identity": lambda v: v}[layer.activation](x)
        return x

    return run
