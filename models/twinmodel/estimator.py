"""A verified package bound to its kernel: one frame in, one estimate out, every tick.

    u, y ─▶ predict through missed ticks ─▶ predict ─▶ update ─▶ estimate sigma prediction innovation drift

It starts on the interpreted tier and changes to the compiled one between two ticks, when that is ready and has
given the same bits on the package's parity run. It never raises for what values do: a filter that diverges
begins anew and says so.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import structlog
from numpy.typing import NDArray

from twinmodel.errors import ConflictError, InputError, StorageError
from twinmodel.handover import Legacy, take_over
from twinmodel.isolation import Isolation, Isolator
from twinmodel.kernel.arena import RUN, WATCH, Plan, Step, fresh_state, unpack
from twinmodel.kernel.parity import canonical, run_hash
from twinmodel.kernel.tiers import TIERS as RUNGS
from twinmodel.kernel.tiers import Ladder
from twinmodel.package import tensors
from twinmodel.package.archive import ModelPackage, Port
from twinmodel.regime import RegimeCheck

F64 = NDArray[np.float64]
TIERS: Final = RUNGS
_CHECKPOINT: Final = struct.Struct("<8s32s?qi")
_MAGIC: Final = b"TWINCKP1"
AGE_MAX: Final = 60
"""Ticks after which an input that is missing widens the uncertainty no further."""
_REGIME_INFLATION: Final = 9.0
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Estimate:
    """What the model says about its outputs at one tick.

    Attributes:
        t_ns: time of the tick.
        estimate: outputs after the measurements, in their units, shape (p,); NaN where there is none.
        sigma: standard deviation of `estimate`.
        prediction: outputs one tick ahead, before the measurements.
        innovation: measurement minus prediction, NaN where there was no measurement.
        drift: score of the detectors, 1 and more is an alarm.
        drifting: whether an alarm stands.
        settling: shortly after a start, a swap, a long gap or a reset; detectors are muted.
        in_regime: inputs and states lie where the model is valid.
        spread: standard deviation of a measurement to come about `prediction`, sqrt(C P C' + R).
        left: the conditions of the regime that do not hold: `box:NAME`, `ellipsoid`, `rate:NAME`.
        rejected: outputs whose measurement lay so far out that it was kept out of the state.
        isolation: while `drifting`, what the bank of filters has found out about the cause.
    """

    t_ns: int
    estimate: F64
    sigma: F64
    prediction: F64
    innovation: F64
    drift: F64
    drifting: bool
    settling: bool
    in_regime: bool
    spread: F64 = field(default_factory=lambda: np.empty(0))
    left: tuple[str, ...] = ()
    rejected: tuple[str, ...] = ()
    isolation: Isolation | None = None


@dataclass(frozen=True, slots=True)
class _Frame:
    """One tick between `prepare` and `conclude`; `before` are states and inputs at the tick before."""

    t_ns: int
    u: F64
    y: F64
    before: F64
    dt_s: float
    inside: bool
    stopped: bool


class Estimator:
    """One twin's filter.

    Args:
        package: verified by `archive.load`.
        tier: `auto` (interpreted at once, compiled when ready), `jit` or `vm` (wait for the compiler) or `interpreted`.
        cache_dir: folder of compiled kernels; see `warmup.cache_folder`.

    Raises:
        ConflictError: PARITY_FAILED when this machine computes other bits than the builder's.
    """

    def __init__(self, package: ModelPackage, *, tier: str = "auto", cache_dir: Path | None = None) -> None:
        self.package = package
        self.inputs: tuple[Port, ...] = package.inputs
        self.outputs: tuple[Port, ...] = package.outputs
        self.dt_ns = package.dt_ns
        self.resets = 0
        self.divergences = 0
        self.rejections = 0
        self._manifest = package.manifest
        self._plan: Plan = tensors.plan(package.manifest, package.tensors)
        self._layout = self._plan.layout
        self._ladder = Ladder(self._plan, self._parity, package.manifest.id, tier=tier, cache_dir=cache_dir)
        if not self._parity(self._ladder.step):
            message = f"{package.manifest.id}: the {self.tier} kernel gives other bits than the package's parity run"
            raise ConflictError("PARITY_FAILED", message, model_id=package.model_id, tier=self.tier)
        self._results = np.zeros(self._layout.output_rows)
        self._scratch = np.zeros(self._layout.scratch_rows)
        self._models = np.zeros(1, np.int32)
        self._regime = RegimeCheck(self._manifest)
        changing = self._manifest.states if self._plan.family == "linear" else self._manifest.params
        names = [p.name for p in package.outputs], [entry.name for entry in changing]
        self._isolator = Isolator(self._plan, tensors.start(package.tensors), *names)
        self._last_ns: int | None = None
        self._state = np.empty(0)
        self._coming = np.empty(0)
        self._runs = np.zeros(self._layout.p)
        self._frame: _Frame | None = None
        self._muted = True
        self._restart()

    @property
    def tier(self) -> str:
        """`interpreted`, `vm` or `jit`: what the next tick runs on, unless the compiler gets ready."""
        return self._ladder.tier

    @property
    def state(self) -> F64:
        """States after the last tick, in their units, shape (n,)."""
        return self._state[: self._layout.n].copy()

    @property
    def covariance(self) -> F64:
        """Covariance of the states after the last tick, shape (n, n)."""
        return unpack(self._state[self._layout.n : self._layout.held], self._layout.n)

    @property
    def last_ns(self) -> int | None:
        """Time of the last tick, None before the first."""
        return self._last_ns

    def step(self, t_ns: int, u: F64, y: F64) -> Estimate:
        """Advances to tick `t_ns`.

        Args:
            t_ns: a whole number of ticks after the last; ticks between are predicted through, up to the limit
                of the manifest, beyond which the filter begins anew.
            u: inputs, shape (m,); NaN holds the last value and widens the uncertainty.
            y: measurements of the outputs, shape (p,); NaN where there is none.

        Raises:
            InputError: VALUE_INVALID when the time does not advance by whole ticks.
            ValueError: when a shape is wrong.
        """
        self.prepare(t_ns, u, y)
        self.advance()
        return self.conclude()

    def prepare(self, t_ns: int, u: F64, y: F64) -> None:
        """The first part of `step`, see there; `advance`, or a kernel call on `arrays`, and `conclude` follow."""
        m, p = self._layout.m, self._layout.p
        u = np.asarray(u, np.float64)
        y = np.asarray(y, np.float64)
        if u.shape != (m,) or y.shape != (p,):
            raise ValueError(f"u has shape {u.shape} and y {y.shape}; the model needs ({m},) and ({p},)")
        if self._ladder.waiting:
            self._ladder.climb()
        dt_s = self._catch_up(t_ns)
        u = np.where(np.isfinite(u), u, np.nan)
        y = np.where(np.isfinite(y), y, np.nan)
        before = self._place() if dt_s else np.full(self._layout.n + m, np.nan)
        inside = not self._regime.left(self._place(u), before, dt_s)
        stopped = not inside and self._regime.action == "stop"
        if stopped:
            y = np.full(p, np.nan)
        self._frame = _Frame(t_ns, u, y, before, dt_s, inside, stopped)
        self._coming = self._next(u, y, inside=inside)

    @property
    def arrays(self) -> tuple[F64, F64, F64]:
        """Rows of one instance for the kernel call between `prepare` and `conclude`: state, what comes, results."""
        return self._state, self._coming, self._results

    @property
    def kernel(self) -> tuple[Plan, Step]:
        """Model and kernel of that call."""
        return self._plan, self._ladder.step

    @property
    def start(self) -> tuple[F64, F64, F64]:
        """x0, P0 and the inputs held at the start."""
        return tensors.start(self.package.tensors)

    def advance(self) -> None:
        """The kernel call between `prepare` and `conclude`."""
        plan, step = self.kernel
        step(plan.integers, plan.reals, self._models, self._state, self._coming, self._results, self._scratch, 1)

    def conclude(self) -> Estimate:
        """The last part of `step`: judges what the kernel wrote into `arrays`; begins anew what has diverged."""
        frame, p = self._frame, self._layout.p
        if frame is None:
            raise ValueError("conclude must follow prepare")
        self._frame = None
        if self._bad:
            self.divergences += 1
            self._reset("the filter has diverged", frame.t_ns)
            if self._tick(frame.u, frame.y, inside=frame.inside):
                self._restart()
                self._results[:] = np.nan
                self._results[4 * p :] = 0.0
        self._last_ns = frame.t_ns
        return self._estimate(frame)

    def state_hash(self) -> bytes:
        """SHA-256 over every bit that decides the next tick; equal on every machine that saw the same frames."""
        return hashlib.sha256(self._snapshot()).digest()

    def checkpoint(self) -> bytes:
        """State of the filter, to be handed to `restore` of an estimator of the same package."""
        body = self._snapshot()
        return body + hashlib.sha256(body).digest()

    def restore(self, blob: bytes) -> None:
        """Continues where `checkpoint` was taken.

        Raises:
            StorageError: STATE_INVALID when it is damaged or belongs to another model; nothing has changed then.
        """
        m = self._layout.m
        size = _CHECKPOINT.size + 4 * m + 8 * len(self._state)
        body, seal = blob[:-32], blob[-32:]
        if len(blob) != size + 32 or hashlib.sha256(body).digest() != seal:
            raise StorageError("STATE_INVALID", f"checkpoint of {self._manifest.id} is damaged")
        magic, model_id, started, last_ns, settle = _CHECKPOINT.unpack_from(body)
        if magic != _MAGIC or model_id.hex() != self.package.model_id:
            raise StorageError("STATE_INVALID", f"the checkpoint is not of {self._manifest.id}")
        self._last_ns = last_ns if started else None
        self._settle = settle
        self._age = np.frombuffer(body, "<i4", m, _CHECKPOINT.size).astype(np.int32)
        self._state = np.frombuffer(body, "<f8", -1, _CHECKPOINT.size + 4 * m).astype(np.float64)

    def adopt(self, previous: Estimator) -> None:
        """Takes over the state of another model: same names and units map, the rest begins at its start.

        P is inflated, detectors are muted and values settle for the time the manifest says.
        """
        self._restart()
        mine = Legacy(self.package, self._layout, self._state)
        self._state = take_over(Legacy(previous.package, previous._layout, previous._state), mine)
        self._last_ns = previous._last_ns if self.dt_ns == previous.dt_ns else None

    def rejoin(self) -> None:
        """Lets the next tick have any time, with the state as it is: the clock that ticks come from was set."""
        self._last_ns = None

    def _parity(self, step: Step) -> bool:
        arrays = self.package.tensors
        found = run_hash(self._plan, step, tensors.start(arrays), arrays["parity_u"], arrays["parity_y"])
        return found == self._manifest.parity.sha256

    def _restart(self) -> None:
        self._state = fresh_state(self._plan, *tensors.start(self.package.tensors))
        self._age = np.zeros(self._layout.m, np.int32)
        self._settle = self._manifest.drift.settle
        self._isolator.stop()

    def _reset(self, why: str, t_ns: int) -> None:
        self.resets += 1
        _log.warning("filter_restarted", model=self._manifest.id, t_ns=t_ns, why=why)
        self._restart()

    def _catch_up(self, t_ns: int) -> float:
        """Predicts through the ticks between the last one and `t_ns`; time since the tick before in s, 0 for none."""
        if self._last_ns is None:
            return 0.0
        ticks, rest = divmod(t_ns - self._last_ns, self.dt_ns)
        if ticks <= 0 or rest:
            message = f"{self._manifest.id}: tick {t_ns} is not a whole number of {self.dt_ns} ns after {self._last_ns}"
            raise InputError("VALUE_INVALID", message)
        if ticks - 1 > self._manifest.limits.gap:
            self._reset(f"{ticks - 1} ticks were missed", t_ns)
            return 0.0
        nothing_u, nothing_y = np.full(self._layout.m, np.nan), np.full(self._layout.p, np.nan)
        for _ in range(ticks - 1):
            if self._tick(nothing_u, nothing_y, inside=True):
                self.divergences += 1
                self._reset("the filter has diverged in a gap", t_ns)
                return 0.0
        return self.dt_ns / 1e9

    def _next(self, u: F64, y: F64, *, inside: bool) -> F64:
        """What the kernel is told of one tick."""
        missing = np.isnan(u)
        self._age = np.where(missing, np.minimum(self._age + 1, AGE_MAX), 0).astype(np.int32)
        process, measurement = float(self._age.max(initial=0)), 1.0
        if not inside and self._regime.action == "inflate":
            process, measurement = process + 1.0, _REGIME_INFLATION
        self._muted = self._settle > 0
        self._settle = max(self._settle - 1, 0)
        self._runs = self._rejection_runs.copy()
        return np.concatenate([u, y, [process, measurement, float(self._muted)]])

    def _tick(self, u: F64, y: F64, *, inside: bool) -> bool:
        """One tick; whether the filter has diverged."""
        self._coming = self._next(u, y, inside=inside)
        self.advance()
        return self._bad

    @property
    def _bad(self) -> bool:
        return bool(self._state[self._layout.bad] > 0.0)

    @property
    def _rejection_runs(self) -> F64:
        return self._state[self._layout.drift : self._layout.flag].reshape(self._layout.p, WATCH)[:, RUN]

    def _estimate(self, frame: _Frame) -> Estimate:
        p = self._layout.p
        left = self._regime.left(self._place(frame.u), frame.before, frame.dt_s)
        rows = np.where(np.isfinite(self._results), self._results, np.nan)
        if frame.stopped:
            rows[: 2 * p] = np.nan
        drifting = bool(self._state[self._layout.flag] > 0.0)
        rejected = tuple(self.outputs[r].name for r in np.flatnonzero(self._rejection_runs > self._runs))
        self.rejections += len(rejected)
        estimate, sigma, prediction, innovation, drift, spread = (rows[k * p : (k + 1) * p] for k in range(6))
        return Estimate(
            frame.t_ns,
            estimate,
            sigma,
            prediction,
            innovation,
            drift,
            drifting,
            settling=self._muted,
            in_regime=not left,
            spread=spread,
            left=left,
            rejected=rejected,
            isolation=self._isolate(drifting=drifting),
        )

    def _isolate(self, *, drifting: bool) -> Isolation | None:
        if drifting:
            return self._isolator.advance(self._ladder.step, self._state, self._coming)
        self._isolator.stop()
        return None

    def _place(self, u: F64 | None = None) -> F64:
        """States, then inputs: held ones where they are missing."""
        place = np.concatenate([self._state[: self._layout.n], self._state[self._layout.held : self._layout.drift]])
        if u is not None:
            place[self._layout.n :] = np.where(np.isnan(u), place[self._layout.n :], u)
        return place

    def _snapshot(self) -> bytes:
        started = self._last_ns is not None
        head = _CHECKPOINT.pack(_MAGIC, bytes.fromhex(self.package.model_id), started, self._last_ns or 0, self._settle)
        return head + self._age.astype("<i4").tobytes() + canonical(self._state)
