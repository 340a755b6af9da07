"""The Kalman filter of the `linear` family beside C, filterpy, simdkalman and NumPy."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from bench.models import plants, strict_c
from bench.models.turns import F64, Work, by_turns, fastest, ratio, repeated
from twinmodel.kernel import warmup
from twinmodel.kernel.arena import LANES, Plan, Step, own_plan
from twinmodel.kernel.bank import Bank
from twinmodel.kernel.generate.linear import linear_form
from twinmodel.kernel.reference import KERNELS

MODELS = 64
SMALL, LARGE = 10_000, 100_000
PROVEN_TICKS = 3
SERIES, TICKS = 2_000, 5
SINGLES = 300


def against_c(folder: Path, *, quick: bool) -> dict[str, float | None]:
    """Batches of one model, and of one model a member, beside the fastest C of the same work."""
    figures: dict[str, float | None] = {}
    different = 0
    for own in (False, True):
        plans = plants.linear_plans(MODELS if own else 1)
        plan = own_plan(plans[0]) if own else plans[0]
        steps: dict[str, Step] = {"jit": warmup.compile_now("linear", None, plan)}
        steps |= {"any": warmup.compile_now("linear")}
        sources = strict_c.texts(linear_form(plan.integers, LANES))
        peers = strict_c.build({f"kalman_{own}_{kind}": text for kind, text in sources.items()}, folder)
        different += _differing(plans, steps | peers, own=own)
        suffix = "_own" if own else ""
        for label, count in (("10k", SMALL), ("100k", LARGE)):
            bank = plants.bank_of(plans, plants.linear_start(), count, steps["jit"], own=own)
            _feed(bank, 1)
            run = {name: step for name, step in (steps | peers).items() if name != "any" or count == SMALL}
            works = {name: repeated(_tick(bank, step), 3 if count == SMALL else 1) for name, step in run.items()}
            seconds = by_turns(works, (9 if quick else 31) if count == SMALL else (7 if quick else 15))
            best = fastest(seconds, peers)
            figures[f"kalman_{label}{suffix}_vs_c"] = ratio(seconds["jit"], best)
            if count == SMALL:
                figures[f"kalman_any{suffix}_vs_c"] = ratio(seconds["any"], best)
                figures[f"kalman{suffix}_ns"] = float(np.median(seconds["jit"])) / 3 / count * 1e9
    return figures | {"kalman_bits_different": different}


def _tick(bank: Bank, step: Step) -> Work:
    """A tick of this very arena by some kernel: all of a comparison meet the same memory."""
    bank.use(step)
    return bank.tick


def _feed(bank: Bank, seed: int) -> None:
    m, p = plants.INPUTS, plants.OUTPUTS
    plants.feed(bank, seed, np.zeros(m), np.ones(m), np.zeros(p), np.ones(p))


def _differing(plans: list[Plan], steps: Mapping[str, Step], *, own: bool) -> int:
    """Bits in which any kernel differs from the interpreted one."""
    count = plants.padded(100)
    reference = plants.bank_of(plans, plants.linear_start(), count, KERNELS["linear"], own=own)
    banks = [plants.bank_of(plans, plants.linear_start(), count, step, own=own) for step in steps.values()]
    different = 0
    for tick in range(PROVEN_TICKS):
        for bank in (reference, *banks):
            _feed(bank, tick)
            bank.tick()
        different += sum(plants.bits_different(bank, reference) for bank in banks)
    return different


def against_filterpy(*, quick: bool) -> dict[str, float | None]:
    """One filter: set, tick and read against predict, update and read."""
    try:
        from filterpy.kalman import KalmanFilter  # noqa: PLC0415 - a peer that need not be installed
    except ImportError:
        return {"step_vs_filterpy": None}
    t = plants.linear_tensors(np.random.default_rng(1))
    peer = KalmanFilter(plants.STATES, plants.OUTPUTS, plants.INPUTS)
    peer.F, peer.B, peer.H, peer.Q, peer.R = t["A"], t["B"], t["C"], t["Q"], np.diag(t["R"])
    u, y = np.ones((plants.INPUTS, 1)), np.ones((plants.OUTPUTS, 1))

    def theirs() -> F64:
        peer.predict(u)
        peer.update(y)
        state: F64 = peer.x
        return state

    plan = plants.linear_plans(1)[0]
    ours = single(plan, plants.linear_start(), np.ones(plants.INPUTS + plants.OUTPUTS))
    works = {"ours": repeated(ours, 10 * SINGLES), "filterpy": repeated(theirs, SINGLES)}
    seconds = by_turns(works, 9 if quick else 31)
    return {
        "step_vs_filterpy": ratio(seconds["filterpy"], seconds["ours"]) * 10,
        "step_us": float(np.median(seconds["ours"])) / SINGLES / 10 * 1e6,
    }


def single(plan: Plan, start: plants.Start, coming: F64) -> Work:
    """One filter on its generated kernel: what comes is set, a tick made, the estimate read."""
    bank = Bank([plan], [0], [start], warmup.compile_now(plan.family, None, plan), lanes=1)
    # Few numbers are written and read fastest by the buffers of arrays.
    inputs, given = memoryview(bank.inputs[0, : len(coming), 0]), memoryview(coming)
    results = memoryview(bank.results[0, : plan.layout.p, 0])
    tick = bank.tick

    def step() -> list[float]:
        inputs[:] = given
        tick()
        return results.tolist()

    return step


def against_batches(*, quick: bool) -> dict[str, float | None]:
    """Many series over several ticks: ours, simdkalman, NumPy with stacked matrices, and our rows in NumPy."""
    t = plants.linear_tensors(np.random.default_rng(1))
    plan = plants.linear_plans(1)[0]
    g = np.random.default_rng(3)
    y = g.normal(size=(SERIES, TICKS, plants.OUTPUTS))
    u = g.normal(size=(SERIES, plants.INPUTS))
    bank = plants.bank_of([plan], plants.linear_start(), SERIES, warmup.compile_now("linear", None, plan))
    bank.set(u, y[:, 0])
    works: dict[str, Work] = {
        "ours": repeated(_tick(bank, bank.step), 10 * TICKS),
        "numpy": lambda: numpy_batch(t, u, y),
        "rows": repeated(_tick(bank, KERNELS["linear"]), TICKS),
    }
    theirs = _simdkalman(t, y)
    if theirs is not None:
        works["simdkalman"] = theirs
    seconds = by_turns(works, 5 if quick else 15)
    figures: dict[str, float | None] = dict.fromkeys(("batch_vs_simdkalman", "batch_vs_numpy", "batch_vs_interpreted"))
    for key, name in zip(figures, ("simdkalman", "numpy", "rows"), strict=True):
        figures[key] = ratio(seconds[name], seconds["ours"]) * 10 if name in seconds else None
    return figures


def _simdkalman(t: Mapping[str, F64], y: F64) -> Work | None:
    """Filtering by simdkalman, which knows no inputs; None when it is not installed."""
    try:
        import simdkalman  # noqa: PLC0415 - a peer that need not be installed
    except ImportError:
        return None
    peer = simdkalman.KalmanFilter(
        state_transition=t["A"], process_noise=t["Q"], observation_model=t["C"], observation_noise=np.diag(t["R"])
    )
    first = {"initial_value": np.zeros(plants.STATES), "initial_covariance": np.eye(plants.STATES)}
    return lambda: peer.compute(y, 0, smoothed=False, filtered=True, observations=True, **first)


def numpy_batch(t: Mapping[str, F64], u: F64, y: F64) -> F64:
    """The textbook's filter over stacks of matrices, without detectors; the last states."""
    A, B, C, D, Q, R = (t[k] for k in ("A", "B", "C", "D", "Q", "R"))
    x, P = np.zeros((len(y), len(A))), np.broadcast_to(np.eye(len(A)), (len(y), *A.shape))
    drive, through, noise = u @ B.T, u @ D.T, np.diag(R)
    for k in range(y.shape[1]):
        x = x @ A.T + drive
        P = A @ P @ A.T + Q
        H = P @ C.T
        K = H @ np.linalg.inv(C @ H + noise)
        x = x + (K @ (y[:, k] - x @ C.T - through)[:, :, None])[:, :, 0]
        P = P - K @ H.transpose(0, 2, 1)
    return x
