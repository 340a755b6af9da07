"""Multi-layer perceptrons out of ONNX files: a chain of affine operations and activations, folded into layers.

Gemm, MatMul, Add, Sub, Mul, Div with constants; Tanh, Relu, Sigmoid; Identity, Dropout, Flatten, Reshape and Squeeze,
Unsqueeze, Cast where they move no number. Everything else is refused, all refused nodes at once and by name. The file
is read as data: no operator of it runs, and weights outside of the file are never looked for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, NoReturn

import numpy as np
from numpy.typing import NDArray

from twinmodel.equations.terms import WIDTH_MAX
from twinmodel.errors import ConfigError, ConflictError

F64 = NDArray[np.float64]
Activation = Literal["tanh", "relu", "identity"]
FILE_MAX: Final = 8 << 20
NODES_MAX: Final = 256
LAYERS_MAX: Final = 8
_ACTIVATIONS: Final[Mapping[str, Activation]] = {"Tanh": "tanh", "Relu": "relu"}
_STILL: Final = {"Identity", "Dropout", "Flatten", "Reshape", "Squeeze", "Unsqueeze", "Cast"}
# Element types of ONNX that are numbers of known size, by their number in the standard.
_TYPES: Final = {1: "<f4", 10: "<f2", 11: "<f8", 6: "<i4", 7: "<i8"}


@dataclass(frozen=True, slots=True)
class DenseLayer:
    """activation(bias + weights · x).

    Attributes:
        weights: shape (outputs, inputs).
        bias: shape (outputs,).
        activation: of every output.
    """

    weights: F64
    bias: F64
    activation: Activation


def read_network(path: Path) -> list[DenseLayer]:
    """The layers of an ONNX file; the last one is linear.

    Raises:
        ConfigError: FILE_MISSING, or VALUE_INVALID naming every node that cannot be carried.
        ConflictError: EXTRA_MISSING without the library onnx.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(FILE_MAX + 1)
    except OSError as error:
        raise ConfigError("FILE_MISSING", f"cannot read it: {error.strerror}", path=str(path)) from error
    if len(raw) > FILE_MAX:
        _refuse(path, f"the file is larger than {FILE_MAX >> 20} MiB")
    return parse_network(raw, path)


def parse_network(raw: bytes, path: Path) -> list[DenseLayer]:
    """The layers of the bytes of an ONNX file; see `read_network`."""
    try:
        import onnx  # noqa: PLC0415 - of the extra [fit]; only this function needs it
        from google.protobuf.message import DecodeError  # noqa: PLC0415 - as above
    except ImportError as error:
        raise ConflictError("EXTRA_MISSING", "ONNX files need the extra hybridtwin[fit]", extra="fit") from error
    model = onnx.ModelProto()
    try:
        model.ParseFromString(raw)
    except (DecodeError, RuntimeError) as error:
        raise ConfigError("VALUE_INVALID", f"no ONNX file: {error}", path=str(path)) from error
    graph = model.graph
    if not graph.node or len(graph.node) > NODES_MAX:
        _refuse(path, f"the graph has {len(graph.node)} nodes, 1 to {NODES_MAX} can be read")
    return _Chain(graph, path).layers()


class _Chain:
    """The one path from the input of a graph to its output."""

    def __init__(self, graph: Any, path: Path) -> None:
        self._graph = graph
        self._path = path
        self._constants = {t.name: t for t in graph.initializer}
        for node in graph.node:
            if node.op_type == "Constant" and len(node.output) == 1:
                value = next((a.t for a in node.attribute if a.name == "value"), None)
                if value is not None:
                    self._constants[node.output[0]] = value
        self._width = self._input_width()
        self._weights: F64 | None = None
        self._bias: F64 | None = None
        self._layers: list[DenseLayer] = []

    def layers(self) -> list[DenseLayer]:
        """Follows the graph node by node."""
        nodes = [n for n in self._graph.node if n.op_type != "Constant"]
        known = {*_ACTIVATIONS, *_STILL, *_AFFINE, "Sigmoid"}
        strange = [
            _called(k, n) for k, n in enumerate(nodes) if n.op_type not in known or n.domain not in {"", "ai.onnx"}
        ]
        if strange:
            _refuse(self._path, f"these nodes cannot be carried: {'; '.join(strange[:20])}")
        (tensor,) = [i.name for i in self._graph.input if i.name not in self._constants]
        for k, node in enumerate(nodes):
            used = [name for name in node.input if name and name not in self._constants]
            if used != [tensor]:
                self._fail(k, node, "does not go on from the node before; only a chain can be carried")
            if not node.output:
                self._fail(k, node, "has no output")
            with np.errstate(all="ignore"):  # what overflows is refused below
                self._step(k, node, list(node.input).index(tensor))
            tensor = node.output[0]
        if [o.name for o in self._graph.output] != [tensor]:
            _refuse(self._path, "the output of the graph is not that of its last node")
        # Outputs of an activation are shown as they are by a linear layer.
        weights = np.eye(self._width) if self._weights is None else self._weights
        self._layers.append(DenseLayer(weights, self._offset(), "identity"))
        if len(self._layers) > LAYERS_MAX:
            _refuse(self._path, f"{len(self._layers)} layers, at most {LAYERS_MAX} can be carried")
        if not all(np.isfinite(y.weights).all() and np.isfinite(y.bias).all() for y in self._layers):
            _refuse(self._path, "its layers hold numbers that are not finite, or become so when they are joined")
        return self._layers

    def _step(self, k: int, node: Any, place: int) -> None:
        kind = node.op_type
        if kind in _STILL:
            self._check_still(k, node)
        elif kind in _ACTIVATIONS:
            self._activate(_ACTIVATIONS[kind])
        elif kind == "Sigmoid":
            # sigmoid(x) = tanh(x/2)/2 + 1/2
            self._affine(np.full(self._width, 0.5), np.zeros(self._width))
            self._activate("tanh")
            self._affine(np.full(self._width, 0.5), np.full(self._width, 0.5))
        else:
            weights, bias = _AFFINE[kind](self, k, node, place)
            if max(weights.shape) > WIDTH_MAX:
                self._fail(k, node, f"has {max(weights.shape)} numbers a side, at most {WIDTH_MAX} can be carried")
            self._affine(weights, bias)

    def _activate(self, activation: Activation) -> None:
        weights = np.eye(self._width) if self._weights is None else self._weights
        self._layers.append(DenseLayer(weights, self._offset(), activation))
        self._weights = self._bias = None

    def _affine(self, weights: F64, bias: F64) -> None:
        """Folds y = weights · x + bias (or weights * x, a vector) into what came since the last activation."""
        scales = weights.ndim == 1
        if self._weights is None:
            self._weights = np.diag(weights) if scales else weights
        else:
            self._weights = weights[:, None] * self._weights if scales else weights @ self._weights
        before = self._offset()
        self._bias = (weights * before if scales else weights @ before) + bias
        self._width = len(bias)

    def _offset(self) -> F64:
        return np.zeros(self._width) if self._bias is None else self._bias

    def gemm(self, k: int, node: Any, place: int) -> tuple[F64, F64]:
        """Product alpha * A B + beta * C with the tensor as A."""
        if place != 0 or _whole(node, "transA", 0):
            self._fail(k, node, "multiplies from the other side")
        weights = self._constant(k, node, 1)
        weights = weights if _whole(node, "transB", 0) else weights.T
        bias = self._constant(k, node, 2) if len(node.input) > 2 and node.input[2] else np.zeros(1)
        self._fits(k, node, weights)
        shifted = self._vector(k, node, bias, len(weights))
        return weights * _real(node, "alpha", 1.0), shifted * _real(node, "beta", 1.0)

    def matmul(self, k: int, node: Any, place: int) -> tuple[F64, F64]:
        """Product x W with the tensor as x."""
        if place != 0:
            self._fail(k, node, "multiplies from the other side")
        weights = self._constant(k, node, 1).T
        self._fits(k, node, weights)
        return weights, np.zeros(len(weights))

    def elementwise(self, k: int, node: Any, place: int) -> tuple[F64, F64]:
        """Add, Sub, Mul or Div with a constant for each number, or one for all."""
        if len(node.input) != 2:
            self._fail(k, node, "needs two operands")
        value = self._vector(k, node, self._constant(k, node, 1 - place), self._width)
        ones = np.ones(self._width)
        if node.op_type == "Mul":
            return value, 0.0 * ones
        if node.op_type == "Div":
            if place != 0 or not value.all():
                self._fail(k, node, "divides by what is no constant, or by 0")
            return 1.0 / value, 0.0 * ones
        if node.op_type == "Sub":
            return (ones, -value) if place == 0 else (-ones, value)
        return ones, value

    def _fits(self, k: int, node: Any, weights: F64) -> None:
        if weights.ndim != 2 or weights.shape[1] != self._width or not weights.size:
            self._fail(k, node, f"has weights of shape {weights.shape}, {self._width} numbers come in")

    def _vector(self, k: int, node: Any, value: F64, width: int) -> F64:
        """One constant a number; a batch of one, or one constant for all, is spread."""
        if value.size not in {1, width} or (value.size == width > 1 and value.shape[-1] != width):
            self._fail(k, node, f"has a constant of shape {value.shape}, {width} numbers need one each")
        return np.broadcast_to(value.reshape(-1), (width,)).astype(np.float64)

    def _check_still(self, k: int, node: Any) -> None:
        """Nodes that move no number of a row: of the shape they give, the last side must be the width."""
        if node.op_type == "Flatten" and _whole(node, "axis", 1) not in {1, -1}:
            self._fail(k, node, "flattens the batch too")
        if node.op_type == "Reshape":
            shape = self._constant(k, node, 1).reshape(-1).tolist()
            if not shape or shape[-1] not in {-1.0, float(self._width)} or any(s > 1 for s in shape[:-1]):
                self._fail(k, node, f"gives the shape {[int(s) for s in shape]}")
        if node.op_type == "Cast" and _whole(node, "to", 1) not in {1, 11}:
            self._fail(k, node, "casts to what is no real number")

    def _constant(self, k: int, node: Any, place: int) -> F64:
        """A constant of a node as float64, from the file itself, after every claim was compared with its bytes."""
        name = node.input[place] if place < len(node.input) else ""
        if name not in self._constants:
            self._fail(k, node, f"needs a constant as operand {place + 1}")
        tensor = self._constants[name]
        kind = _TYPES.get(tensor.data_type)
        shape = tuple(int(d) for d in tensor.dims)
        if kind is None or tensor.data_location or len(shape) > 4 or any(d < 0 for d in shape):
            self._fail(k, node, f"uses {name!r}, which is no array of numbers within the file")
        if tensor.raw_data:
            raw = bytes(tensor.raw_data)
            values = np.frombuffer(raw[: len(raw) // np.dtype(kind).itemsize * np.dtype(kind).itemsize], kind)
        else:
            fields = {1: tensor.float_data, 11: tensor.double_data, 7: tensor.int64_data, 6: tensor.int32_data}
            values = np.array(list(fields.get(tensor.data_type, ())), np.float64)
        if len(values) != math.prod(shape):
            self._fail(k, node, f"uses {name!r}, whose shape {shape} does not fit its {len(values)} numbers")
        found = values.astype(np.float64).reshape(shape)
        if not np.isfinite(found).all():
            self._fail(k, node, f"uses {name!r}, which holds a number that is not finite")
        return found

    def _input_width(self) -> int:
        real = [i for i in self._graph.input if i.name not in self._constants]
        if len(real) != 1:
            _refuse(self._path, f"the graph has {len(real)} inputs; one vector can be carried")
        sides = [int(d.dim_value) for d in real[0].type.tensor_type.shape.dim]
        if not sides or not 1 <= sides[-1] <= WIDTH_MAX or any(s > 1 for s in sides[:-1]):
            _refuse(self._path, f"input {real[0].name!r} has the shape {sides}; one vector of known length is needed")
        return sides[-1]

    def _fail(self, k: int, node: Any, message: str) -> NoReturn:
        _refuse(self._path, f"{_called(k, node)} {message}")


_AFFINE: Final[Mapping[str, Callable[[_Chain, int, Any, int], tuple[F64, F64]]]] = {
    "Gemm": _Chain.gemm,
    "MatMul": _Chain.matmul,
    **dict.fromkeys(("Add", "Sub", "Mul", "Div"), _Chain.elementwise),
}


def _called(k: int, node: Any) -> str:
    name = f" {node.name[:40]!r}" if node.name else ""
    return f"node {k} {node.op_type[:40]}{name}"


def _whole(node: Any, name: str, default: int) -> int:
    return next((int(a.i) for a in node.attribute if a.name == name), default)


def _real(node: Any, name: str, default: float) -> float:
    return next((float(a.f) for a in node.attribute if a.name == name), default)


def _refuse(path: Path, message: str) -> NoReturn:
    hint = "carried are chains of Gemm, MatMul, Add, Sub, Mul, Div, Tanh, Relu, Sigmoid, Identity and Flatten"
    raise ConfigError("VALUE_INVALID", message, hint=hint, path=str(path))
