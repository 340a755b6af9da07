"""From a model file to numbers: op-lists or matrices, noise covariances, everything a package carries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from twinmodel.clock import SECOND_NS
from twinmodel.equations import stiffness, witness
from twinmodel.equations.affine import extract
from twinmodel.equations.derive import jacobian
from twinmodel.equations.discretise import F64, hold, multiply, noise
from twinmodel.equations.load import Document
from twinmodel.equations.oplist import Lowered, Program, lower, work
from twinmodel.equations.program import tick_work
from twinmodel.equations.system import Group, System, assemble, declared_units, read_unit
from twinmodel.kernel.arena import LARGEST
from twinmodel.kernel.ops import INTEGRATORS, TICK_WORK_MAX, WORK_MAX
from twinmodel.kernel.vm_reference import Programs, integrate, run

# An input that stays away wanders from its last value by this part of its span.
_HELD_SPAN: Final = 0.05
_DIFFERENCE: Final = 2.0**-20


@dataclass(frozen=True, slots=True)
class Compiled:
    """A model as numbers.

    Attributes:
        kernel: `linear` or `ode`.
        integrator: `rk4`, `ros2` or `map`; `rk4` for the linear kernel, which needs none.
        tensors: named arrays of the package.
        registers: size of the register file, 0 for the linear kernel.
        output_units: unit text of each output.
    """

    kernel: str
    integrator: str
    tensors: dict[str, NDArray[Any]]
    registers: int
    output_units: tuple[str, ...]


_Real = TypeVar("_Real", float, F64)


def compile_model(document: Document) -> Compiled:
    """Checks and lowers a model file.

    Raises:
        ConfigError: EQUATION_INVALID, UNIT_UNKNOWN or VALUE_INVALID with the place.
    """
    spec = document.spec
    if spec.matrices is not None:
        return _from_matrices(document)
    system = assemble(document)
    witness.confirm(document, system)
    if spec.family == "linear":
        variables = [*spec.states, *spec.inputs]
        params = {name: param.value for name, param in spec.params.items()}
        rates = extract(system.rates, system.definitions, variables, params, system.places)
        outputs = extract(system.outputs, system.definitions, variables, params, system.places)
        return _linear(document, rates, outputs, system.output_units)
    return _ode(document, system)


def _from_matrices(document: Document) -> Compiled:
    spec = document.spec
    given = spec.matrices
    assert given is not None
    declared_units(document)
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
    constants = []
    for name, vector, count in (("a", given.a, n), ("c", given.c, p)):
        if vector is not None and len(vector) != count:
            raise document.fail("VALUE_INVALID", f"the constants must be {count} numbers", "matrices", name)
        constants.append(np.array([vector], np.float64).T if vector is not None else np.zeros((count, 1)))
    rates = np.concatenate([A, B, constants[0]], axis=1)
    outputs = np.concatenate([C, D, constants[1]], axis=1)
    units = tuple(o.unit or "" for o in spec.outputs.values())
    for name, text in zip(spec.outputs, units, strict=True):
        read_unit(document, text, "outputs", name, "unit")
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
        with np.errstate(over="ignore", invalid="ignore"):
            A, B = hold(rates[:, :n], rates[:, n:], dt_s)  # noqa: N806
            Q = noise(rates[:, :n], density, dt_s)  # noqa: N806
        if not all(np.isfinite(array).all() for array in (A, B, Q)):
            text = f"the model grows beyond all numbers within one tick of {dt_s:g} s; correct its signs or units"
            raise document.fail("EQUATION_INVALID", text, "dt")
    names = {"A": A, "B": B[:, :-1], "a": B[:, -1], "C": outputs[:, :n], "D": outputs[:, n:-1], "c": outputs[:, -1]}
    tensors = {k: np.ascontiguousarray(v) for k, v in names.items()}
    tensors |= _common(document, Q, tensors["B"], tensors["D"])
    return Compiled("linear", "rk4", tensors, 0, units)


def _ode(document: Document, system: System) -> Compiled:
    spec = document.spec
    integrator = "map" if spec.discrete else spec.integrator
    pinned = [*spec.states, *spec.inputs, *spec.params]
    slopes: Group = []
    definitions, blocks = system.definitions, system.blocks
    if integrator != "map":
        derived = jacobian([expr for expr, _ in system.rates], list(spec.states), definitions, blocks)
        sources = [source for _, source in system.rates for _ in spec.states]
        slopes = list(zip(derived.entries, sources, strict=True))
        definitions, blocks = derived.definitions, derived.blocks
    if integrator == "rk4":
        _judge(document, slopes, lower([slopes], definitions, pinned, blocks))
        slopes = []
    lowered = lower([system.rates, system.outputs, slopes], definitions, pinned, blocks)
    _bound(document, lowered, INTEGRATORS[integrator])
    params = np.array([p.value for p in spec.params.values()])
    dt_s = spec.dt / SECOND_NS
    Q = np.diag([_square(spec.noise.process.get(name, 0.0)) * dt_s for name in spec.states])  # noqa: N806
    B, D = _gains(document, lowered, INTEGRATORS[integrator])  # noqa: N806
    tensors: dict[str, NDArray[Any]] = {"params": params, "consts": np.array(lowered.consts, np.float64)}
    tensors |= {"pool": lowered.pool} | _common(document, Q, B, D)
    labels = (("rates", "rate_results"), ("readings", "reading_results"), ("jacobian", "jacobian_results"))
    for (code, results), program in zip(labels, lowered.programs, strict=True):
        tensors |= {code: program.code, results: program.results}
    return Compiled("ode", integrator, tensors, lowered.registers, system.output_units)


def _registers(document: Document, lowered: Lowered, x: F64, u: F64) -> list[F64]:
    """Registers of lanes before a run: states (n, k), inputs (m, k), then what is fixed."""
    count = x.shape[1]
    fixed = [*(p.value for p in document.spec.params.values()), *lowered.consts]
    R = [*x, *u, *(np.full(count, v) for v in fixed)]  # noqa: N806
    return R + [np.zeros(count)] * (lowered.registers - len(R))


def _judge(document: Document, slopes: Group, lowered: Lowered) -> None:
    """Refuses a stiff model that Runge-Kutta would blow up."""
    x, u = stiffness.sample(document, _nominal(document))
    n, count = x.shape
    R = _registers(document, lowered, x, u)  # noqa: N806
    (program,) = lowered.programs
    with np.errstate(all="ignore"):
        run(program.code, R, lowered.pool)
    assert len(slopes) == n * n
    columns = [np.broadcast_to(R[r], count) for r in program.results.tolist()]
    stiffness.judge(document, np.array(columns).T.reshape(count, n, n))


def _bound(document: Document, lowered: Lowered, kind: int) -> None:
    """Refuses what would take too long: one program, or all of a tick at every point of the filter."""
    costs = [work(program) for program in lowered.programs]
    tick = tick_work(costs, len(document.spec.states), document.spec.substeps, kind)
    if max(costs) > WORK_MAX or tick > TICK_WORK_MAX:
        message = f"one tick would need {tick} additions and multiplications; at most {TICK_WORK_MAX} are allowed"
        raise document.fail("EQUATION_INVALID", message, "substeps" if document.spec.substeps > 1 else "family")


def _programs(lowered: Lowered) -> Programs:
    def pair(program: Program) -> tuple[NDArray[np.int32], list[int]]:
        return program.code, program.results.tolist()

    rates, readings, slopes = (pair(program) for program in lowered.programs)
    return Programs(*rates, *readings, *slopes)


def _gains(document: Document, lowered: Lowered, kind: int) -> tuple[F64, F64]:
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
    start = np.array([s.start for s in spec.states.values()])
    R = _registers(document, lowered, np.repeat(start[:, None], 2 * m, axis=1), lanes)  # noqa: N806
    programs = _programs(lowered)
    with np.errstate(all="ignore"):
        run(programs.readings, R, lowered.pool)
        y = [np.broadcast_to(R[r], 2 * m).copy() for r in programs.reading_results]
        step = (spec.dt / SECOND_NS / spec.substeps, spec.substeps)
        x = [np.broadcast_to(v, 2 * m) for v in integrate(programs, kind, R, lowered.pool, step)]
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
