"""A network of 2 layers of 32 beside ONNX Runtime on one core: one call, and a batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from bench.models import plants
from bench.models.turns import F64, Work, by_turns, ratio, repeated
from twinmodel.kernel.arena import Plan
from twinmodel.kernel.machine import bind
from twinmodel.kernel.rollout import BLOCK, rollout_of, scratch_rows

ROWS = 4_096
SINGLES = 500
# Floats and doubles differ by no more.
CLOSE = 1e-5


def against_onnxruntime(*, quick: bool) -> dict[str, float | None]:
    """Ours is a free run of one tick: states that rest, readings that are the network."""
    keys = ("ort_single_vs_ours", "mlp_batch_vs_ort", "mlp_batch_vs_ort_f32")
    layers = plants.layers()
    floats, doubles = _onnxruntime(layers, np.float32), _onnxruntime(layers, np.float64)
    if floats is None or doubles is None:
        return dict.fromkeys(keys)
    plan = plants.network(layers)
    rows = np.random.default_rng(6).uniform(-1, 1, (ROWS, plants.NETWORK_INPUTS))
    ours, batch = _ours(plan, rows[:1]), _ours(plan, rows)
    if not np.allclose(batch().reshape(plants.NETWORK_OUTPUTS, ROWS).T, floats(rows)(), atol=CLOSE):
        raise RuntimeError("ONNX Runtime computes another network")
    works: dict[str, Work] = {
        "single": repeated(ours, 5 * SINGLES),
        "ort_single": repeated(floats(rows[:1]), SINGLES),
        "batch": repeated(batch, 4),
        "ort_batch": repeated(doubles(rows), 4),
        "ort_batch_f32": repeated(floats(rows), 4),
    }
    seconds = by_turns(works, 11 if quick else 31)
    return {
        "ort_single_vs_ours": ratio(seconds["ort_single"], seconds["single"]) * 5,
        "mlp_batch_vs_ort": ratio(seconds["batch"], seconds["ort_batch"]),
        "mlp_batch_vs_ort_f32": ratio(seconds["batch"], seconds["ort_batch_f32"]),
        "mlp_single_us": float(np.median(seconds["single"])) / SINGLES / 5 * 1e6,
    }


def _ours(plan: Plan, rows: F64) -> Callable[[], F64]:
    """Sets the inputs, runs, gives the outputs; arrays are prepared once, as in a bank."""
    lanes, layout = len(rows), plan.layout
    given = np.ascontiguousarray(rows.T).ravel()
    start = np.concatenate([np.zeros(layout.n), plan.params]).repeat(lanes)
    inputs, outputs = np.empty(layout.m * lanes), np.empty(layout.p * lanes)
    # The fastest way to write few numbers.
    target, source = memoryview(inputs), memoryview(given)
    scratch = np.empty(scratch_rows(plan) * min(lanes, BLOCK))
    about = np.array([1, 0, min(lanes, BLOCK)], np.int32)
    run = rollout_of(plan, "jit")
    call = bind(run, plan.integers, plan.reals, about, start, inputs, outputs, scratch, lanes)

    def compute() -> F64:
        target[:] = source
        call()
        return outputs

    return compute


def _onnxruntime(layers: Sequence[tuple[F64, F64]], kind: type) -> Callable[[F64], Work] | None:
    """Makes calls of the network by ONNX Runtime; None when it is not installed."""
    try:
        import onnxruntime  # noqa: PLC0415 - a peer that need not be installed
        from onnx import TensorProto, helper, numpy_helper  # noqa: PLC0415 - as above
    except ImportError:
        return None
    number = TensorProto.FLOAT if kind is np.float32 else TensorProto.DOUBLE
    nodes, weights, last = [], [], "x"
    for k, (w, b) in enumerate(layers):
        weights += [numpy_helper.from_array(w.astype(kind), f"w{k}"), numpy_helper.from_array(b.astype(kind), f"b{k}")]
        nodes.append(helper.make_node("Gemm", [last, f"w{k}", f"b{k}"], [f"g{k}"], transB=1))
        last = f"g{k}"
        if k < len(layers) - 1:
            nodes.append(helper.make_node("Tanh", [last], [f"t{k}"]))
            last = f"t{k}"
    ends = (("x", plants.NETWORK_INPUTS), (last, plants.NETWORK_OUTPUTS))
    x, y = (helper.make_tensor_value_info(name, number, [None, width]) for name, width in ends)
    graph = helper.make_graph(nodes, "surrogate", [x], [y], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])

    def prepared(rows: F64) -> Work:
        feed = {"x": rows.astype(kind)}
        return lambda: session.run(None, feed)[0]

    return prepared
