"""From a model file to numbers: checked expressions, op-list or matrices, noise covariances."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np

from twinmodel.clock import SECOND_NS
from twinmodel.equations.affine import extract
from twinmodel.equations.dimension import assign, check, rate_of
from twinmodel.equations.discretise import F64, hold, multiply, noise
from twinmodel.equations.load import Document
from twinmodel.equations.oplist import Lowered, lower
from twinmodel.equations.parse import Expr, Name, Source, nearest, parse
from twinmodel.errors import InputError
from twinmodel.kernel.arena import I32, LARGEST
from twinmodel.kernel.reference import rk4, run
from twinmodel.units import DIMENSIONLESS, Unit
from twinmodel.units import parse as parse_unit

# An input that stays away wanders from its last value by this part of its span.
_HELD_SPAN: Final = 0.05
_DIFFERENCE: Final = 2.0**-20


@dataclass(frozen=True, slots=True)
class Compiled:
    """A model as numbers.

    Attributes:
        tensors: named float64 arrays of the package.
        programs: code and results of derivatives and outputs; empty for the linear family.
        registers: size of the register file, 0 for the linear family.
        output_units: unit text of each output.
    """

    tensors: dict[str, F64]
    programs: tuple[I32, ...]
    registers: int
    output_units: tuple[str, ...]


Group = list[tuple[Expr, Source]]
_Real = TypeVar("_Real", float, F64)


@dataclass(frozen=True, slots=True)
class _Expressions:
    """Checked expressions of a file: right-hand sides, outputs and intermediate values."""

    rates: Group
    outputs: Group
    definitions: dict[str, Expr]
    output_units: tuple[str, ...]


def compile_model(document: Document) -> Compiled:
    """Checks and lowers a model file.

    Raises:
        ConfigError: EQUATION_INVALID, UNIT_UNKNOWN or VALUE_INVALID with the place.
    """
    spec = document.spec
    if spec.matrices is not None:
        return _from_matrices(document)
    expressions = _expressions(document, _units(document))
    if spec.family == "linear":
        variables = [*spec.states, *spec.inputs]
        params = {name: param.value for name, param in spec.params.items()}
        rates = extract(expressions.rates, expressions.definitions, variables, params)
        outputs = extract(expressions.outputs, expressions.definitions, variables, params)
        return _linear(document, rates, outputs, expressions.output_units)
    return _ode(document, expressions)


def _units(document: Document) -> dict[str, Unit]:
    spec = document.spec
    units: dict[str, Unit] = {}
    for group, entries in (("states", spec.states), ("inputs", spec.inputs), ("params", spec.params)):
        for name, entry in entries.items():
            units[name] = _unit(document, entry.unit, group, name, "unit")
    return units


def _unit(document: Document, text: str, *keys: str) -> Unit:
    try:
        return parse_unit(text)
    except InputError as error:
        raise document.fail(error.reason, error.message, *keys) from error


def _expressions(document: Document, units: dict[str, Unit]) -> _Expressions:
    spec = document.spec
    units = dict(units)
    definitions: dict[str, Expr] = {}
    for name, text in spec.define.items():
        source = document.source(text, "define", name)
        checked = check(parse(source), units, source)
        definitions[name] = checked.expr
        units[name] = checked.unit or DIMENSIONLESS
    expected = [f"{name}'" for name in spec.states]
    for key in spec.equations:
        if key not in expected:
            raise document.fail("EQUATION_INVALID", f"no such state{nearest(key, expected)}", "equations", key)
    rates: Group = []
    for name in spec.states:
        key = f"{name}'"
        if key not in spec.equations:
            raise document.fail("EQUATION_INVALID", f"state {name} has no equation {key}", "equations")
        source = document.source(spec.equations[key], "equations", key)
        rates.append((assign(check(parse(source), units, source), rate_of(units[name]), source), source))
    outputs: Group = []
    texts: list[str] = []
    for name in spec.outputs:
        expr, source, text = _output(document, name, units)
        outputs.append((expr, source))
        texts.append(text)
    return _Expressions(rates, outputs, definitions, tuple(texts))


def _output(document: Document, name: str, units: dict[str, Unit]) -> tuple[Expr, Source, str]:
    """Checked expression, place and unit text of one output."""
    spec = document.spec
    output = spec.outputs[name]
    short = isinstance(document.tree["outputs"][name], (str, int, float))
    source = document.source(output.value or "", "outputs", name, *([] if short else ["value"]))
    expr = parse(source)
    checked = check(expr, units, source)
    text = output.unit
    if text is None and isinstance(expr, Name):
        declared = {n: s.unit for n, s in spec.states.items()}
        declared |= {n: i.unit for n, i in spec.inputs.items()}
        declared |= {n: q.unit for n, q in spec.params.items()}
        text = declared.get(expr.name)
    if text is None and checked.unit not in {None, DIMENSIONLESS}:
        source.fail(0, f"the unit cannot be told by name; write {name}: {{value: ..., unit: ...}}")
    unit = _unit(document, text or "", "outputs", name, "unit")
    return assign(checked, unit, source), source, text or ""


def _from_matrices(document: Document) -> Compiled:
    spec = document.spec
    given = spec.matrices
    assert given is not None
    _units(document)
    n, m, p = len(spec.states), len(spec.inputs), len(spec.outputs)
    matrices = []
    rows = {"A": (given.A, (n, n)), "B": (given.B, (n, m)), "C": (given.C, (p, n)), "D": (given.D, (p, m))}
    for name, (values, shape) in rows.items():
        if values is None:
            matrices.append(np.zeros(shape))
            continue
        widths = {len(row) for row in values} or {0}
        if len(values) != shape[0] or widths - {shape[1]}:
            raise document.fail("VALUE_INVALID", f"the matrix must have shape {shape}", "matrices", name)
        matrices.append(np.array(values, np.float64).reshape(shape))
    A, B, C, D = matrices  # noqa: N806 - letters of the literature
    rates = np.concatenate([A, B, np.zeros((n, 1))], axis=1)
    outputs = np.concatenate([C, D, np.zeros((p, 1))], axis=1)
    units = tuple(o.unit or "" for o in spec.outputs.values())
    for name, text in zip(spec.outputs, units, strict=True):
        _unit(document, text, "outputs", name, "unit")
    return _linear(document, rates, outputs, units, discrete=given.kind == "discrete")


def _linear(
    document: Document, rates: F64, outputs: F64, units: tuple[str, ...], *, discrete: bool = False
) -> Compiled:
    spec = document.spec
    n = len(spec.states)
    dt_s = spec.dt / SECOND_NS
    density = np.diag([_square(spec.noise.process.get(name, 0.0)) for name in spec.states])
    if discrete:
        A, B, Q = rates[:, :n], rates[:, n:], density * dt_s  # noqa: N806
    else:
        A, B = hold(rates[:, :n], rates[:, n:], dt_s)  # noqa: N806
        Q = noise(rates[:, :n], density, dt_s)  # noqa: N806
    names = {"A": A, "B": B[:, :-1], "a": B[:, -1], "C": outputs[:, :n], "D": outputs[:, n:-1], "c": outputs[:, -1]}
    tensors = {k: np.ascontiguousarray(v) for k, v in names.items()}
    tensors |= _common(document, Q, tensors["B"], tensors["D"])
    return Compiled(tensors, (), 0, units)


def _ode(document: Document, expressions: _Expressions) -> Compiled:
    spec = document.spec
    pinned = [*spec.states, *spec.inputs, *spec.params]
    lowered = lower([expressions.rates, expressions.outputs], expressions.definitions, pinned)
    params = np.array([p.value for p in spec.params.values()])
    consts = np.array(lowered.consts, np.float64)
    dt_s = spec.dt / SECOND_NS
    Q = np.diag([_square(spec.noise.process.get(name, 0.0)) * dt_s for name in spec.states])  # noqa: N806
    B, D = _gains(document, lowered, np.concatenate([params, consts]))  # noqa: N806
    tensors = {"params": params, "consts": consts} | _common(document, Q, B, D)
    rates, outputs = lowered.programs
    programs = (rates.code, rates.results, outputs.code, outputs.results)
    return Compiled(tensors, programs, lowered.registers, expressions.output_units)


def _gains(document: Document, lowered: Lowered, fixed: F64) -> tuple[F64, F64]:
    """What one unit of each input moves states in a tick and outputs at once, at the start, by differences."""
    spec = document.spec
    n, m, p = len(spec.states), len(spec.inputs), len(spec.outputs)
    nominal = _nominal(document)
    # Lanes: for each input one step up and one down.
    lanes = np.repeat(nominal[:, None], 2 * m, axis=1)
    width = np.array(
        [_DIFFERENCE * (e.span or max(abs(v), 1.0)) for e, v in zip(spec.inputs.values(), nominal, strict=True)]
    )
    for j in range(m):
        lanes[j, 2 * j] += width[j]
        lanes[j, 2 * j + 1] -= width[j]
    R: list[F64] = [np.zeros(2 * m)] * lowered.registers  # noqa: N806
    rates, outputs = lowered.programs
    with np.errstate(all="ignore"):
        R[:n] = [np.full(2 * m, s.start) for s in spec.states.values()]
        R[n : n + m] = list(lanes)
        R[n + m : n + m + len(fixed)] = [np.full(2 * m, v) for v in fixed]
        run(outputs.code, R)
        y = [R[r].copy() for r in outputs.results.tolist()]
        h = (spec.dt / SECOND_NS / spec.substeps, spec.substeps)
        x = rk4(rates.code, rates.results.tolist(), R, n, h)
        B = np.array([(v[0::2] - v[1::2]) / (2.0 * width) for v in x]).reshape(n, m)  # noqa: N806
        D = np.array([(v[0::2] - v[1::2]) / (2.0 * width) for v in y]).reshape(p, m)  # noqa: N806
    for gains in (B, D):
        if not np.isfinite(gains).all():
            raise document.fail("EQUATION_INVALID", "the equations have no finite value at the start", "equations")
    return B, D


def _nominal(document: Document) -> F64:
    values = []
    for entry in document.spec.inputs.values():
        middle = 0.0 if entry.low is None or entry.high is None else 0.5 * (entry.low + entry.high)
        values.append(middle if entry.nominal is None else entry.nominal)
    return np.array(values, np.float64)


def _common(document: Document, Q: F64, B: F64, D: F64) -> dict[str, F64]:  # noqa: N803
    """Bounds, start and noise, the same for every family."""
    spec = document.spec
    low = np.array([-LARGEST if s.low is None else s.low for s in spec.states.values()])
    high = np.array([LARGEST if s.high is None else s.high for s in spec.states.values()])
    x0 = np.array([s.start for s in spec.states.values()])
    if np.any(x0 < low) or np.any(x0 > high):
        raise document.fail("VALUE_INVALID", "a start value lies outside min..max", "states")
    sigma0 = np.array([s.sigma or 0.1 * (s.span or max(abs(s.start), 1.0)) for s in spec.states.values()])
    nominal = _nominal(document)
    held = np.array(
        [_HELD_SPAN * (e.span or 2.0 * max(abs(v), 1.0)) for e, v in zip(spec.inputs.values(), nominal, strict=True)]
    )
    measured = np.array([spec.noise.inputs.get(name, 0.0) for name in spec.inputs])
    R = _measurement(document) + multiply(_square(D), _square(measured)[:, None])[:, 0]  # noqa: N806
    scaled, heldB = B * measured, B * held  # noqa: N806
    return {
        "low": low,
        "high": high,
        "x0": x0,
        "P0": np.diag(_square(sigma0)),
        "Q": Q + multiply(scaled, scaled.T),
        "Q_held": multiply(heldB, heldB.T),
        "R": R,
        "inputs_nominal": nominal,
    }


def _square(value: _Real) -> _Real:
    """A product, not a power: pow of one C library rounds other than that of the next."""
    return value * value


def _measurement(document: Document) -> F64:
    spec = document.spec
    variances = []
    for name, output in spec.outputs.items():
        sigma = spec.noise.measurement.get(name)
        if sigma is None and output.span is not None:
            sigma = 0.01 * output.span
        if sigma is None:
            message = f"output {name} needs a sigma here, or min and max in outputs"
            raise document.fail("VALUE_INVALID", message, "noise", "measurement")
        variances.append(_square(sigma))
    return np.array(variances)
