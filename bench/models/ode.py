"""The `ode` family beside C, NumPy, filterpy and an FMU: a filter's tick, a free run, and one instance."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.models import fmu, kalman, plants, strict_c
from bench.models.turns import F64, Work, by_turns, fastest, ratio, repeated
from twinmodel.kernel import warmup
from twinmodel.kernel.arena import DRIFT, Plan, Step
from twinmodel.kernel.bank import Bank
from twinmodel.kernel.generate.ode import ode_form, rollout_form
from twinmodel.kernel.reference import KERNELS
from twinmodel.kernel.rollout import rollout, rollout_of
from twinmodel.package.archive import ModelPackage
from twinmodel.package.tensors import start

COUNT = 1_000
LANES, TICKS = 1_024, 30
PROVEN_TICKS = 3
SINGLES = 100
SPEED, SUBSTEPS = 2_900.0, 4
# Vectors of 8 lanes a hand-written free run takes through all ticks at once.
GROUPS = (1, 2, 4)


def against_c(plan: Plan, package: ModelPackage, folder: Path, *, quick: bool) -> dict[str, float | None]:
    """Batches of filters and free runs, parameters of each instance, beside the fastest C of the same work."""
    sources = {f"tick_{kind}": text for kind, text in strict_c.texts(ode_form(plan.integers)).items()}
    sources |= {f"run_{kind}": text for kind, text in strict_c.texts(rollout_form(plan.integers), lanes=None).items()}
    sources |= {f"run_hand_{groups}": _by_hand(plan, groups) for groups in GROUPS}
    peers = strict_c.build(sources, folder)
    ticks = {name: step for name, step in peers.items() if name.startswith("tick")}
    runs = {name: step for name, step in peers.items() if name.startswith("run")}
    return _batch(plan, start(package.tensors), ticks, quick=quick) | _free_runs(plan, runs, quick=quick)


def _batch(plan: Plan, first: plants.Start, peers: Mapping[str, Step], *, quick: bool) -> dict[str, float | None]:
    ours = {"jit": warmup.compile_now("ode", None, plan), "vm": warmup.compile_now("ode")}
    steps = ours | peers
    small = plants.padded(100)
    reference = _bank(plan, first, small, KERNELS["ode"])
    banks = [_bank(plan, first, small, step) for step in steps.values()]
    different = 0
    for tick in range(PROVEN_TICKS):
        for bank in (reference, *banks):
            _feed(bank, tick)
            bank.tick()
        different += sum(plants.bits_different(bank, reference) for bank in banks)
    bank = _bank(plan, first, COUNT, ours["jit"])
    _feed(bank, 1)
    works: dict[str, Work] = {}
    for name, step in steps.items():
        bank.use(step)
        works[name] = bank.tick
    seconds = by_turns(works, 15 if quick else 51)
    best = fastest(seconds, peers)
    return {
        "ode_batch_vs_c": ratio(seconds["jit"], best),
        "vm_filter_vs_c": ratio(seconds["vm"], best),
        "ode_batch_ns": float(np.median(seconds["jit"])) / COUNT * 1e9,
        "ode_bits_different": different,
    }


def _bank(plan: Plan, first: plants.Start, count: int, step: Step) -> Bank:
    """Filters with parameters of their own."""
    bank = plants.bank_of([plan], first, count, step)
    rows = bank.states[:, plan.layout.params :]
    rows *= 1.0 + 0.02 * np.random.default_rng(4).normal(size=rows.shape)
    return bank


def _feed(bank: Bank, seed: int) -> None:
    plants.feed(bank, seed, np.array([SPEED]), np.array([20.0]), np.array([60.0, 1.5]), np.array([0.5, 0.02]))


def _free_runs(plan: Plan, peers: Mapping[str, Step], *, quick: bool) -> dict[str, float | None]:
    g = np.random.default_rng(5)
    x0 = np.array([[40.0], [1.0]]) * (1.0 + 0.05 * g.normal(size=(2, LANES)))
    params = plan.params[:, None] * (1.0 + 0.02 * g.normal(size=(len(plan.params), LANES)))
    u = SPEED + 20.0 * g.normal(size=(TICKS, 1))
    ours = {"jit": rollout_of(plan, "jit"), "vm": rollout_of(plan, "vm")}
    steps = ours | peers
    expected = numpy_rollout(x0, params, u)
    results = [rollout(plan, step, x0, params, u) for step in (*steps.values(), KERNELS["rollout"])]
    works: dict[str, Work] = {name: _run(plan, step, x0, params, u) for name, step in steps.items()}
    works["numpy"] = lambda: numpy_rollout(x0, params, u)
    seconds = by_turns(works, 15 if quick else 51)
    best = fastest(seconds, peers)
    return {
        "ode_rollout_vs_c": ratio(seconds["jit"], best),
        "vm_vs_c": ratio(seconds["vm"], best),
        "vm_vs_numpy": ratio(seconds["numpy"], seconds["vm"]),
        "ode_rollout_ns": float(np.median(seconds["jit"])) / LANES / TICKS * 1e9,
        "rollout_bits_different": sum(plants.differing(result, expected) for result in results),
    }


def _run(plan: Plan, step: Step, x0: F64, params: F64, u: F64) -> Work:
    return lambda: rollout(plan, step, x0, params, u)


def _by_hand(plan: Plan, groups: int) -> str:
    """The hand-written free run; its parts are one text for the compiler."""
    place = DRIFT + 2 * plan.layout.n + plan.layout.p + plan.layout.n * (plan.layout.n + 1)
    text = (plants.FOLDER / "rollout.c").read_text().replace('#include "plant.h"', fmu.PLANT)
    return f"#define GROUPS {groups}\n#define DT {place}\n{text}"


def _rates(q: F64, h: F64, head: F64, params: F64) -> tuple[F64, F64]:
    _, _, static, friction, inertia, fill, outlet = params
    rise = inertia * (head - static - h - friction * q * np.abs(q))
    return rise, fill * (q - outlet * np.sqrt(np.maximum(h, 0.0)))


def numpy_rollout(x0: F64, params: F64, u: F64) -> F64:
    """The same free run as people write it in NumPy, all lanes in a row."""
    q, h = x0
    y = np.empty((len(u), 2, x0.shape[1]))
    for t in range(len(u)):
        y[t] = q, h
        q, h = advance(q, h, u[t, 0], params, _rates)
    return y


def advance(q: Any, h: Any, speed: float, params: Any, rates: Callable[..., tuple[Any, Any]]) -> tuple[Any, Any]:
    """One tick of Runge-Kutta steps, of arrays or of numbers."""
    n = speed / params[0]
    head = params[1] * n * n
    dt = 1.0 / SUBSTEPS
    half, sixth = dt * 0.5, dt / 6.0
    for _ in range(SUBSTEPS):
        a1, b1 = rates(q, h, head, params)
        a2, b2 = rates(q + half * a1, h + half * b1, head, params)
        a3, b3 = rates(q + half * a2, h + half * b2, head, params)
        a4, b4 = rates(q + dt * a3, h + dt * b3, head, params)
        q = q + sixth * (a1 + 2.0 * a2 + 2.0 * a3 + a4)
        h = h + sixth * (b1 + 2.0 * b2 + 2.0 * b3 + b4)
    return q, h


def against_filterpy(plan: Plan, package: ModelPackage, *, quick: bool) -> dict[str, float | None]:
    """One unscented filter on the same equations, written for single numbers, which Python computes fastest."""
    try:
        from filterpy.kalman import JulierSigmaPoints, UnscentedKalmanFilter  # noqa: PLC0415 - need not be installed
    except ImportError:
        return {"ukf_vs_filterpy": None}
    x0, P0, held = start(package.tensors)
    params = plan.params.tolist()

    def transition(x: F64, _: float, speed: float) -> F64:
        return np.array(advance(float(x[0]), float(x[1]), speed, params, _scalar_rates))

    points = JulierSigmaPoints(2, kappa=1)
    peer = UnscentedKalmanFilter(2, 2, 1.0, lambda x: x, transition, points)
    peer.x, peer.P, peer.R = x0.copy(), P0.copy(), np.diag(package.tensors["R"])
    peer.Q = package.tensors["Q"]
    y = np.array([60.0, 1.2])

    def theirs() -> F64:
        peer.predict(speed=SPEED)
        peer.update(y)
        state: F64 = peer.x
        return state

    ours = kalman.single(plan, (x0, P0, held), np.array([SPEED, *y]))
    works = {"ours": repeated(ours, 10 * SINGLES), "filterpy": repeated(theirs, SINGLES)}
    seconds = by_turns(works, 7 if quick else 21)
    return {
        "ukf_vs_filterpy": ratio(seconds["filterpy"], seconds["ours"]) * 10,
        "ukf_us": float(np.median(seconds["ours"])) / SINGLES / 10 * 1e6,
    }


def _scalar_rates(q: float, h: float, head: float, params: Sequence[float]) -> tuple[float, float]:
    _, _, static, friction, inertia, fill, outlet = params
    rise = inertia * (head - static - h - friction * q * abs(q))
    return rise, fill * (q - outlet * math.sqrt(max(h, 0.0)))


def against_fmpy(plan: Plan, package: ModelPackage, folder: Path, *, quick: bool) -> dict[str, float | None]:
    """One instance: set, step and get against an FMU of the same equations; ours is a whole filter, with sigma."""
    peer = fmu.instance(folder, plan.params.tolist(), start(package.tensors)[0].tolist())
    if peer is None:
        return {"fmpy_vs_ours": None}
    ours = kalman.single(plan, start(package.tensors), np.array([SPEED, np.nan, np.nan]))
    theirs = peer.stepper(SPEED)
    expected = numpy_rollout(np.array([[40.0], [1.0]]), plan.params[:, None], np.full((3, 1), SPEED))[2, :, 0]
    theirs()
    agreed = np.allclose(theirs(), expected, rtol=1e-12)
    works = {"ours": repeated(ours, 10 * SINGLES), "fmpy": repeated(theirs, 10 * SINGLES)}
    seconds = by_turns(works, 7 if quick else 21)
    peer.free()
    if not agreed:
        raise RuntimeError("the FMU computes another model")
    return {"fmpy_vs_ours": ratio(seconds["fmpy"], seconds["ours"])}
