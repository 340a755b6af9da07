"""A model file as a function that simulates many lanes: the kernel gateways run, with parameters as rows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from twinmodel.equations.compile import Compiled, compile_model
from twinmodel.equations.load import Document
from twinmodel.equations.schema import Spec
from twinmodel.errors import InputError
from twinmodel.fit.levenberg import descend
from twinmodel.fit.objective import Huber, Objective, Simulate
from twinmodel.fit.quasirandom import points
from twinmodel.fit.segments import Segment
from twinmodel.fit.unknowns import Unknowns, starts
from twinmodel.kernel.arena import Plan
from twinmodel.kernel.rollout import Tier, rollout, rollout_of
from twinmodel.package.tensors import make_plan

F64 = NDArray[np.float64]
START_SAMPLES: Final = 50
_CANDIDATES: Final = 64
_DESCENTS: Final = 3
_STEP_LARGEST: Final = 0.5
_SUBSTEPS_MAX: Final = 1000


@dataclass(frozen=True, slots=True)
class Simulation:
    """A model, ready to be simulated.

    Attributes:
        spec: the model.
        simulate: its rollout.
        start_sigma: standard deviation of each start state, shape (n,).
        sigma: declared standard deviation of each output's sensor, shape (p,).
    """

    spec: Spec
    simulate: Simulate
    start_sigma: F64
    sigma: F64

    def run(self, params: F64, start: F64, u: F64) -> F64:
        """Outputs of one lane, shape (ticks, p)."""
        return self.simulate(start[:, None], np.ascontiguousarray(params[:, None]), np.ascontiguousarray(u))[:, :, 0]

    def start_state(self, params: F64, segment: Segment, *, samples: int = START_SAMPLES) -> F64:
        """The start state that fits the first ticks of a stretch best, parameters held; shape (n,).

        Args:
            params: all parameters, shape (q,).
            segment: inputs and measurements.
            samples: ticks that are looked at, whether held out or not.
        """
        count = min(samples, segment.ticks)
        head = Segment(segment.t_ns[:count], segment.u[:count], segment.y[:count], count)
        each = starts(self.spec, self.start_sigma.tolist())
        unknowns = Unknowns((), (), params, each, 1)
        objective = Objective(self.simulate, [head], unknowns, self.sigma, Huber())
        box = np.concatenate([np.zeros((1, len(each))), 2.0 - 4.0 * points(_CANDIDATES, len(each))])
        box = np.clip(box, *unknowns.bounds())
        best = np.argsort(objective.cost(box), kind="stable")[:_DESCENTS]
        found = descend(objective, box[best], unknowns.bounds(), rounds=40, tolerance=1e-8)
        return unknowns.outward(min(found, key=lambda d: d.cost).z)


def simulation(document: Document, tier: Tier = "auto", cache_dir: Path | None = None) -> Simulation:
    """Makes a model file ready.

    A linear model is simulated by its equations, as its matrices do not have the parameters as numbers; steps are made
    small enough for its fastest mode.

    Raises:
        ConfigError: whatever is wrong with the file.
    """
    spec = document.spec
    if spec.family == "linear":
        document = _as_equations(document)
    compiled = compile_model(document)
    plan = plan_of(document, compiled)
    run = rollout_of(plan, tier, cache_dir)

    def simulate(x0: F64, params: F64, u: F64) -> F64:
        return rollout(plan, run, x0, params, u)

    start_sigma = np.sqrt(np.diag(compiled.tensors["P0"]))
    return Simulation(spec, simulate, start_sigma, np.sqrt(compiled.tensors["R"]))


def plan_of(document: Document, compiled: Compiled) -> Plan:
    """The flat arrays of a compiled model."""
    spec = document.spec
    step = (spec.dt, spec.substeps, compiled.integrator)
    return make_plan(compiled.kernel, compiled.tensors, compiled.registers, step, spec.drift)


def _as_equations(document: Document) -> Document:
    """A linear model as differential equations, with steps short enough for Runge and Kutta."""
    tensors = compile_model(document).tensors
    spec = document.spec
    if spec.matrices is not None:
        hint = "write its equations with parameters, or find new matrices with `twinctl model identify`"
        raise InputError("VALUE_INVALID", f"{spec.model} is given as matrices: it has no parameter to fit", hint=hint)
    modes = np.abs(np.linalg.eigvals(tensors["A"]))
    # A mode that falls to lambda in a tick has the rate -log(lambda).
    fastest = float(-np.log(max(float(modes.min()), math.exp(-_STEP_LARGEST * _SUBSTEPS_MAX))))
    substeps = min(max(spec.substeps, math.ceil(fastest / _STEP_LARGEST)), _SUBSTEPS_MAX)
    return Document(spec.model_copy(update={"family": "ode", "substeps": substeps}), document.path, document.tree)
