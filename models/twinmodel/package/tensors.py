"""The arrays of a package: which must be there, what must hold of them, and the plan a kernel reads them as."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from twinmodel.equations.oplist import Program, verify, work
from twinmodel.equations.program import tick_work
from twinmodel.equations.schema import Drift
from twinmodel.equations.terms import PARAMS_MAX
from twinmodel.errors import PackageError
from twinmodel.kernel.arena import F64, LARGEST, Plan, plan_linear, plan_ode
from twinmodel.kernel.ops import COLUMNS, INTEGRATORS, OPS_MAX, TICK_WORK_MAX
from twinmodel.package.manifest import Manifest

Tensors = Mapping[str, NDArray[Any]]
CONSTS_MAX: Final = 1024
_TYPES: Final = {"<f8": np.dtype("<f8"), "<i4": np.dtype("<i4")}
_HOLES: Final = frozenset({"parity_u", "parity_y"})
# Arrays of each program: code and results.
PROGRAMS: Final = (("rates", "rate_results"), ("readings", "reading_results"), ("jacobian", "jacobian_results"))


def check(manifest: Manifest, tensors: Tensors) -> None:
    """Proves that a kernel can run on these arrays without any check of its own.

    Raises:
        PackageError: PACKAGE_INVALID with the array and what is wrong with it.
    """
    shapes = _shapes(manifest, tensors)
    if set(shapes) != set(tensors):
        _refuse(f"arrays {sorted(set(shapes) ^ set(tensors))} are missing or too many")
    for name, (kind, shape) in shapes.items():
        tensor = tensors[name]
        if tensor.dtype != _TYPES[kind] or tensor.shape != shape:
            _refuse(f"array {name} has type {tensor.dtype} and shape {tensor.shape}, not {kind} {shape}")
        if kind == "<f8" and not _sound(tensor, holes=name in _HOLES):
            _refuse(f"array {name} holds a number that is not finite")
    _check_filter(manifest, tensors)
    if manifest.kernel == "ode":
        _check_programs(manifest, tensors)


def _sound(tensor: F64, *, holes: bool) -> bool:
    """Whether all numbers are finite and none is too large; NaN passes where measurements may be missing."""
    sizes = np.abs(tensor)
    return not (sizes > LARGEST).any() if holes else bool(sizes.max(initial=0.0) <= LARGEST)


def plan(manifest: Manifest, tensors: Tensors) -> Plan:
    """The checked package as the flat arrays of its kernel (fresh copies)."""
    step = (manifest.dt_ns, manifest.substeps, manifest.integrator)
    return make_plan(manifest.kernel, tensors, manifest.registers, step, manifest.drift)


def make_plan(kernel: str, tensors: Tensors, registers: int, step: tuple[int, int, str], drift: Drift) -> Plan:
    """See `plan`; for the builder, which has no manifest yet."""
    settings = np.array(drift.settings)
    if kernel == "linear":
        return plan_linear(tensors, settings)
    programs = [tensors[name] for pair in PROGRAMS for name in pair]
    dt_ns, substeps, integrator = step
    return plan_ode(tensors, programs, registers, (dt_ns, substeps, INTEGRATORS[integrator]), settings)


def start(tensors: Tensors) -> tuple[F64, F64, F64]:
    """x0, P0 and nominal inputs: where a filter begins."""
    return tensors["x0"], tensors["P0"], tensors["inputs_nominal"]


def _refuse(message: str) -> None:
    raise PackageError("PACKAGE_INVALID", message)


def _shapes(manifest: Manifest, tensors: Tensors) -> dict[str, tuple[str, tuple[int, ...]]]:
    n, m, p, q = (len(g) for g in (manifest.states, manifest.inputs, manifest.outputs, manifest.params))
    ticks = manifest.parity.ticks
    reals: dict[str, tuple[int, ...]] = {"low": (n,), "high": (n,), "x0": (n,), "P0": (n, n)}
    reals |= {"Q": (n, n), "Q_held": (n, n), "R": (p,)}
    reals |= {"inputs_nominal": (m,), "parity_u": (ticks, m), "parity_y": (ticks, p)}
    if manifest.kernel == "linear":
        reals |= {"A": (n, n), "B": (n, m), "a": (n,), "C": (p, n), "D": (p, m), "c": (p,)}
        return {name: ("<f8", shape) for name, shape in reals.items()}
    # Lengths that only the array itself knows; bounded here.
    consts = min(_length(tensors, "consts"), CONSTS_MAX)
    reals |= {"params": (min(q, PARAMS_MAX),), "consts": (consts,), "pool": (manifest.pool,)}
    shapes = {name: ("<f8", shape) for name, shape in reals.items()}
    slopes = n * n if manifest.integrator == "ros2" else 0
    for (code, results), count in zip(PROGRAMS, (n, p, slopes), strict=True):
        rows = min(_length(tensors, code), OPS_MAX if count else 0)
        shapes[code] = ("<i4", (rows, COLUMNS))
        shapes[results] = ("<i4", (count,))
    return shapes


def _length(tensors: Tensors, name: str) -> int:
    return len(tensors[name]) if name in tensors else 0


def _check_filter(manifest: Manifest, tensors: Tensors) -> None:
    for name in ("P0", "Q", "Q_held"):
        matrix = tensors[name]
        if (matrix != matrix.T).any() or (matrix.diagonal() < 0.0).any():
            _refuse(f"covariance {name} is not symmetric with a diagonal of 0 or more")
    if (tensors["R"] <= 0.0).any():
        _refuse("measurement noise must be above 0")
    low, high, x0 = tensors["low"], tensors["high"], tensors["x0"]
    if (low >= high).any() or (x0 < low).any() or (x0 > high).any():
        _refuse("start values or bounds of states contradict each other")
    starts = [s.start for s in manifest.states]
    bounds = [(-LARGEST if s.low is None else s.low, LARGEST if s.high is None else s.high) for s in manifest.states]
    if starts != x0.tolist() or bounds != list(zip(low.tolist(), high.tolist(), strict=True)):
        _refuse("start values or bounds of the manifest differ from the arrays")
    if [i.nominal for i in manifest.inputs] != tensors["inputs_nominal"].tolist():
        _refuse("nominal inputs of the manifest differ from the arrays")


def _check_programs(manifest: Manifest, tensors: Tensors) -> None:
    pinned = sum(len(g) for g in (manifest.states, manifest.inputs, manifest.params)) + len(tensors["consts"])
    costs = []
    for code, results in PROGRAMS:
        program = Program(tensors[code], tensors[results], manifest.registers)
        fault = verify(program, pinned, manifest.registers, tensors["pool"])
        if fault is not None:
            _refuse(f"program {code}: {fault}")
        costs.append(work(program))
    tick = tick_work(costs, len(manifest.states), manifest.substeps, INTEGRATORS[manifest.integrator])
    if tick > TICK_WORK_MAX:
        _refuse(f"one tick needs {tick} additions and multiplications, at most {TICK_WORK_MAX} are allowed")
    if [p.value for p in manifest.params] != tensors["params"].tolist():
        _refuse("parameters of the manifest differ from the arrays")
