"""What each authoring family stands for, said in expressions: offsets of static models, networks, quadratic operators.

A package knows two kernels, `linear` and `ode`; everything else is lowered to expressions here, so that one machine,
one filter and one calibration serve all of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from twinmodel.equations.arrays import read_arrays
from twinmodel.equations.blocks import F64, Block
from twinmodel.equations.discretise import multiply
from twinmodel.equations.parse import Dense, Expr, Name, Number, Op
from twinmodel.equations.schema import STATIC, Output, Spec, State, offset_name
from twinmodel.equations.surrogate import Layer, Network
from twinmodel.equations.terms import POINTS_MAX, STATES_MAX, WIDTH_MAX
from twinmodel.errors import InputError
from twinmodel.units import parse as parse_unit

if TYPE_CHECKING:
    from twinmodel.equations.load import Document

# An offset starts within this part of the span, stays within half of it and wanders a hundredth of it in an hour.
_OFFSET_START: Final = 0.05
_OFFSET_BOUND: Final = 0.5
_OFFSET_WANDER: Final = 0.01 / math.sqrt(3600.0)


@dataclass(frozen=True, slots=True)
class Parts:
    """Expressions a family adds to a model.

    Attributes:
        results: right-hand sides or outputs by name.
        definitions: values between them.
        dense: blocks of weights by name.
    """

    results: dict[str, Expr]
    definitions: dict[str, Expr] = field(default_factory=dict)
    dense: dict[str, Block] = field(default_factory=dict)


def complete(spec: Spec) -> Spec:
    """The model with what its family adds by itself: a slow, bounded offset for each output of a static one.

    Raises:
        ValueError: `place: message`, as of a pydantic validator.
    """
    if spec.family not in STATIC:
        return spec
    if len(spec.outputs) > STATES_MAX:
        raise ValueError(f"outputs: a static model has at most {STATES_MAX}")
    own = {offset_name(name): (name, output) for name, output in spec.outputs.items()}
    strange = [name for name in spec.states if name not in own]
    if strange or len(own) != len(spec.outputs):
        raise ValueError(f"states: a static model has one state for each output, {', '.join(own)}")
    taken = [name for name in own if name in {*spec.inputs, *spec.params, *spec.define, *spec.tables}]
    if taken:
        raise ValueError(f"outputs: the name {taken[0]} is needed for an offset")
    states, wander = {}, dict(spec.noise.process)
    for name, (label, output) in own.items():
        state = spec.states.get(name) or _offset(label, output, unit_of(spec, output) or "")
        states[name] = state
        wander.setdefault(name, _OFFSET_WANDER * (state.span or state.sigma or 1.0))
    noise = spec.noise.model_copy(update={"process": wander})
    return spec.model_copy(update={"states": states, "noise": noise})


def _offset(label: str, output: Output, unit: str) -> State:
    span = output.span
    if span is None:
        raise ValueError(f"outputs.{label}: a static model needs min and max, which bound its offset")
    try:
        parsed = parse_unit(unit)
    except InputError:
        # Refused with its place where units of outputs are read.
        unit, parsed = "", parse_unit("")
    if parsed.affine:
        unit = "1 " + unit if parsed.scale != 1.0 else "K"
    low, high = -_OFFSET_BOUND * span, _OFFSET_BOUND * span
    return State.model_validate({"unit": unit, "sigma": _OFFSET_START * span, "min": low, "max": high})


def unit_of(spec: Spec, output: Output) -> str | None:
    """Unit text of an output: declared, or that of the plain name or table it shows; None when it cannot be told."""
    if output.unit is not None or output.value is None:
        return output.unit
    text = output.value.strip()
    groups: tuple[Mapping[str, object], ...] = (spec.states, spec.inputs, spec.params)
    for group in groups:
        if text in group:
            return str(getattr(group[text], "unit", ""))
    if text.startswith("lookup(") and text.find(")") == len(text) - 1:
        table = spec.tables.get(text[len("lookup(") :].split(",")[0].strip())
        return table.unit if table is not None else None
    return None


def network(document: Document, given: Network, key: str, names: Sequence[str]) -> Parts:
    """A network as expressions; normalisation is folded into its first and last layer.

    Args:
        document: the model.
        given: the network.
        key: where it stands in the file, `network` or `residual`.
        names: what its results are called, in order.

    Raises:
        ConfigError: VALUE_INVALID for shapes, files or names that do not fit.
    """
    spec = document.spec
    for name in given.inputs:
        if name not in spec.inputs and name not in spec.states:
            raise document.fail("VALUE_INVALID", f"{name} is neither state nor input", key, "inputs")
    unknown = [n for n in (*given.normalise.outputs, *given.bounds) if n not in names]
    if unknown:
        raise document.fail("VALUE_INVALID", f"{unknown[0]} is no result; results are {', '.join(names)}", key)
    layers = [(np.array(y.weights, np.float64), np.array(y.bias, np.float64), y) for y in _layers(document, given, key)]
    width = len(given.inputs)
    for number, (weights, _, layer) in enumerate(layers):
        if weights.shape[1] != width or len(weights) > WIDTH_MAX:
            message = f"layer {number} takes {weights.shape[1]} numbers and gives {len(weights)}; {width} come in"
            raise document.fail("VALUE_INVALID", f"{message}, at most {WIDTH_MAX} may go out", key)
        if number == len(layers) - 1 and layer.activation not in {None, "identity"}:
            raise document.fail("VALUE_INVALID", "the last layer is linear", key)
        width = len(weights)
    if width != len(names):
        raise document.fail("VALUE_INVALID", f"the last layer gives {width} numbers, {len(names)} are needed", key)
    return _lowered(given, key, names, _normalised(given, names, [(w, b) for w, b, _ in layers]), layers)


def _lowered(
    given: Network,
    key: str,
    names: Sequence[str],
    numbers: Sequence[tuple[F64, F64]],
    layers: Sequence[tuple[F64, F64, Layer]],
) -> Parts:
    args: tuple[Expr, ...] = tuple(Name(name) for name in given.inputs)
    definitions: dict[str, Expr] = {}
    dense: dict[str, Block] = {}
    results: dict[str, Expr] = {}
    for number, (weights, bias) in enumerate(numbers):
        block = f"__{key}_{number}"
        dense[block] = Block(bias, weights)
        rows: list[Expr] = [Dense(block, args, j) for j in range(len(bias))]
        if number == len(numbers) - 1:
            results = {name: _bounded(row, given.bounds.get(name)) for name, row in zip(names, rows, strict=True)}
            break
        rows = [_activated(row, layers[number][2].activation or given.activation) for row in rows]
        labels = [f"{block}_{j}" for j in range(len(rows))]
        definitions |= dict(zip(labels, rows, strict=True))
        args = tuple(Name(label) for label in labels)
    return Parts(results, definitions, dense)


def _activated(row: Expr, activation: str) -> Expr:
    if activation == "identity":
        return row
    return Op("tanh", (row,)) if activation == "tanh" else Op("max", (row, Number(0.0)))


def _bounded(row: Expr, bounds: tuple[float, float] | None) -> Expr:
    if bounds is None:
        return row
    return Op("min", (Op("max", (row, Number(bounds[0]))), Number(bounds[1])))


def _normalised(given: Network, names: Sequence[str], layers: list[tuple[F64, F64]]) -> list[tuple[F64, F64]]:
    """Weights that take and give values in units: (x - centre)/scale goes in, centre + scale * y comes out."""
    pairs = [given.normalise.inputs.get(name, (0.0, 1.0)) for name in given.inputs]
    centre, scale = (np.array(column) for column in zip(*pairs, strict=True))
    weights, bias = layers[0]
    weights = weights / scale
    layers = [(weights, bias - multiply(weights, centre[:, None])[:, 0]), *layers[1:]]
    pairs = [given.normalise.outputs.get(name, (0.0, 1.0)) for name in names]
    centre, scale = (np.array(column) for column in zip(*pairs, strict=True))
    weights, bias = layers[-1]
    return [*layers[:-1], (weights * scale[:, None], bias * scale + centre)]


def _layers(document: Document, given: Network, key: str) -> list[Layer]:
    if given.file is None:
        return given.layers
    arrays = read_arrays(_beside(document, given.file)).values
    layers: list[Layer] = []
    while f"w{len(layers)}" in arrays:
        weights, bias = arrays[f"w{len(layers)}"], arrays.get(f"b{len(layers)}", np.zeros(0))
        if weights.ndim != 2 or bias.shape != (len(weights),) or max(weights.shape) > POINTS_MAX:
            message = f"w{len(layers)} {weights.shape} and b{len(layers)} {bias.shape} are no layer"
            raise document.fail("VALUE_INVALID", message, key, "file")
        layers.append(Layer(weights=weights.tolist(), bias=bias.tolist()))
    if not layers or len(arrays) != 2 * len(layers):
        raise document.fail("VALUE_INVALID", "the file must hold w0, b0, w1, b1, ... and nothing else", key, "file")
    return layers


def quadratic(document: Document) -> tuple[Parts, dict[str, Expr]]:
    """Right-hand sides of a quadratic model, and its outputs where C says them.

    Raises:
        ConfigError: VALUE_INVALID for operators of a wrong shape.
    """
    spec, given = document.spec, document.spec.operators
    assert given is not None
    n, m, p = len(spec.states), len(spec.inputs), len(spec.outputs)
    numbers = {k: getattr(given, k) for k in ("A", "H", "B", "c", "C", "D")}
    if given.file is not None:
        numbers = dict(read_arrays(_beside(document, given.file)).values)
    pairs = n * (n + 1) // 2
    shapes = {"A": (n, n), "B": (n, m), "c": (n,), "C": (p, n), "D": (p, m), "H": (n, pairs)}
    found: dict[str, F64] = {}
    for name, values in numbers.items():
        if name not in shapes:
            raise document.fail("VALUE_INVALID", f"array {name} is none of A, H, B, c, C, D", "operators", "file")
        if values is None:
            continue
        found[name] = _rectangle(values)
        if name == "H" and found[name].shape == (n, n * n):
            found[name] = _folded(found[name], n)
        if found[name].shape != shapes[name]:
            message = f"{name} must have shape {shapes[name]}" + (f" or {(n, n * n)}" if name == "H" else "")
            raise document.fail("VALUE_INVALID", message, "operators", name if given.file is None else "file")
    whole = [found.get(k, np.zeros(shapes[k])) for k in ("A", "H", "B")]
    states = [Name(name) for name in spec.states]
    inputs = [Name(name) for name in spec.inputs]
    definitions: dict[str, Expr] = {}
    for i in range(n):
        for j in range(i, n):
            definitions[f"__pair_{i}_{j}"] = Op("mul", (states[i], states[j]))
    args = (*states, *map(Name, definitions), *inputs)
    dense = {"__operators": Block(found.get("c", np.zeros(n)), np.concatenate(whole, axis=1))}
    rates: dict[str, Expr] = {name: Dense("__operators", args, i) for i, name in enumerate(spec.states)}
    outputs: dict[str, Expr] = {}
    if "C" in found or "D" in found:
        read = np.concatenate([found.get("C", np.zeros((p, n))), found.get("D", np.zeros((p, m)))], axis=1)
        dense["__readings"] = Block(np.zeros(p), read)
        outputs = {name: Dense("__readings", (*states, *inputs), i) for i, name in enumerate(spec.outputs)}
    return Parts(rates, definitions, dense), outputs


def _rectangle(values: object) -> F64:
    """An array, of no shape that fits anything when its rows differ in length."""
    try:
        return np.asarray(values, np.float64)
    except ValueError:
        return np.zeros(0)


def _folded(full: F64, n: int) -> F64:
    """Columns of x_i x_j and x_j x_i added up."""
    pairs = [(i, j) for i in range(n) for j in range(i, n)]
    columns = [full[:, i * n + j] + (full[:, j * n + i] if i != j else 0.0) for i, j in pairs]
    return np.stack(columns, axis=1)


def _beside(document: Document, name: str) -> Path:
    """A file in the folder of the model file; its name holds no path."""
    return Path(document.path).parent / name
