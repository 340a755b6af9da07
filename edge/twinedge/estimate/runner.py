"""Steps the models of one gateway: samples in, frames on the model's grid, estimates out.

    samples ─▶ push ─▶ close ─▶ due ─▶ (one kernel call for all twins of a signature) ─▶ take ─▶ signals

A runner owns what belongs to one twin: the slot its model runs in, the alignment of its inputs, and the ids of the
signals its results are published as. Event time alone decides what a tick sees. In the soak of a new model the one
before it is stepped on with the same frames.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import structlog
from numpy.typing import NDArray

from twinedge.estimate.lineage import Lineage
from twinedge.estimate.substitution import STALE, Substitution
from twinedge.slot import Slot
from twinmodel.align import Aligner, AlignInput, Frame
from twinmodel.clock import BUILD_NS, SECOND_NS
from twinmodel.ensemble import Due
from twinmodel.estimator import Estimate, Estimator
from twinmodel.quality import GOOD, QualityReason, bad, uncertain
from twinmodel.signal import OUTPUT_ROLES, SUBSTITUTE, Batch, Catalogue, Kind
from twinmodel.units import conversion

log = structlog.get_logger(__name__)

LATENESS_NS = 2 * SECOND_NS
"""How long a tick waits for a sample that does not come."""
AGE_NS = 3 * SECOND_NS
"""Age limit of signals for which the wiring names none."""
AHEAD_MAX_NS = 60 * SECOND_NS
"""A sample further ahead of the wall clock has a wrong time: it would close ticks that nothing else has reached."""
BEHIND_MAX_NS = 7 * 86_400 * SECOND_NS
"""A sample older than any broker keeps for us has a wrong time, too."""
_CLOCK = bad(QualityReason.CLOCK)


@dataclass(frozen=True, slots=True)
class Wiring:
    """Which signals a twin's model reads.

    Attributes:
        twin: name of the twin.
        inputs: model input -> id of its measured signal.
        outputs: model output -> id of the signal that measures it; virtual outputs are not named.
        age_limits_ns: id of a signal -> age beyond which its last value is STALE.
        units: id of a signal -> its unit; values are converted to the unit of the model's port. A signal that is not
            named is in that unit already.
        substitutes: output for which the model stands in -> how long at most, 0 for ever.
        names: id of a signal -> its name; None where ids are places in the catalogue.
    """

    twin: str
    inputs: Mapping[str, int]
    outputs: Mapping[str, int]
    age_limits_ns: Mapping[int, int]
    units: Mapping[int, str] = field(default_factory=dict)
    substitutes: Mapping[str, int] = field(default_factory=dict)
    names: Mapping[int, str] | None = None


class TwinRunner:
    """One twin beside its machine."""

    def __init__(self, wiring: Wiring, slot: Slot) -> None:
        self.wiring = wiring
        self.slot = slot
        self.steps = 0
        self.late = 0
        self.last: Estimate | None = None
        self.substitution = Substitution(wiring.twin, wiring.substitutes)
        mine = [*wiring.inputs.values(), *wiring.outputs.values()]
        self._limits_ns = {signal: wiring.age_limits_ns.get(signal, AGE_NS) for signal in mine}
        self.lineage = Lineage(wiring.twin, (wiring.inputs, wiring.outputs, self._limits_ns), wiring.names)
        self._bound: Estimator | None = None
        self._aligner: Aligner | None = None
        self._reads = np.zeros(max(mine, default=-1) + 2, np.bool_)  # the last one stands for all beyond
        self._reads[mine] = True
        self._tick_ns: int | None = None
        self._frames: deque[Frame] = deque()
        self._before: Frame | None = None
        self._used: list[int] = []
        self._ports: dict[int, tuple[_Columns, _Columns]] = {}
        self._published: _Published | None = None

    def publish_as(self, catalogue: Catalogue) -> None:
        """Takes the ids and resolutions of the twin's output signals from a new catalogue."""
        self._published = _Published.of(self.wiring.twin, catalogue)
        self.lineage.publish_as(catalogue)

    def meet(self, batch: Batch, now_ns: int, *, resting: bool = False) -> NDArray[np.bool_] | None:
        """Which of these samples come too late for their tick, None when none does; before they are stored and pushed.

        Args:
            batch: gated samples.
            now_ns: server time.
            resting: whether they will not be pushed.
        """
        mine = self._chosen(batch)
        if not mine.any():
            return None
        if not resting:
            self._bind()
        late = None
        if self._aligner is not None:
            late = mine & self._aligner.is_late(batch.t_ns)
        mine &= batch.t_ns <= now_ns + AHEAD_MAX_NS
        self.lineage.met(batch.signal[mine], batch.t_ns[mine])
        return late if late is not None and late.any() else None

    def push(self, batch: Batch, now_ns: int) -> None:
        """Hands over gated samples; those of other twins, or of a time that cannot be right, are passed over."""
        self._bind()
        if self._aligner is None:
            return
        mine = self._chosen(batch)
        if not mine.any():
            return
        if not mine.all():
            batch = batch.take(mine)
        right = (batch.t_ns <= now_ns + AHEAD_MAX_NS) & (batch.t_ns >= now_ns - BEHIND_MAX_NS)
        self.lineage.pushed(batch, right & (batch.quality != _CLOCK) & ~self._aligner.is_late(batch.t_ns))
        dropped = self._aligner.dropped
        self.late += self._aligner.push(batch if right.all() else batch.take(right))
        if self._aligner.dropped != dropped:
            self.lineage.dropped()

    def close(self, watermark_ns: int) -> None:
        """Makes a frame of every tick that has closed at the watermark."""
        if self._tick_ns is not None and self._tick_ns > watermark_ns + AHEAD_MAX_NS:
            log.warning("the clock was put back, ticks begin anew", twin=self.wiring.twin, tick_ns=self._tick_ns)
            self.start_over()
        elif self._tick_ns is not None and self._tick_ns < BUILD_NS <= watermark_ns:
            log.info("the clock was set, ticks begin anew", twin=self.wiring.twin, tick_ns=self._tick_ns)
            self.start_over()
        self._bind()
        if self._aligner is not None and not self._frames:
            self._frames.extend(self._aligner.close(watermark_ns))

    def due(self) -> list[Due]:
        """The next tick of the present model, then of the one in its shadow; empty when no frame is left."""
        while self._frames:
            # The swap happens here, between two ticks.
            estimator = self._bind()
            if estimator is None or not self._frames:
                break
            frame = self._frames.popleft()
            last, self._before = self._before, frame
            # A fresh alignment may begin with ticks that the model before it has done.
            if self._tick_ns is None or frame.t_ns > self._tick_ns:
                self.lineage.before(estimator, frame, last, self._used)
                stepped = (estimator, self._shadow())
                dues = [self._due(e, frame) for e in stepped if e is not None]
                self.lineage.given(frame.t_ns, dues[0].u, dues[0].y)
                return dues
        return []

    def take(self, dues: Sequence[Due], results: Sequence[Estimate | Exception]) -> list[Batch]:
        """What the kernel made of `due`; returns what the model says. Raises what the model raised out of a soak."""
        if len(results) > 1 and isinstance(results[1], Exception):
            log.warning("model in the shadow failed", twin=self.wiring.twin, detail=str(results[1]))
            self.slot.forget_last_good()
        due, result = dues[0], results[0]
        self._tick_ns = due.t_ns
        if isinstance(result, Exception):
            if not self.slot.failed(result):
                self.lineage.failed()
                raise result
            self.lineage.foreign(due.t_ns, failed=True)
            result = results[1]
            if isinstance(result, Exception):
                raise result
            due = dues[1]
        else:
            self.slot.stepped()
            if self.slot.current() is not due.estimator and len(results) > 1:
                # It diverged in its soak: this tick is that of the model before it already.
                self.lineage.foreign(due.t_ns, failed=False)
                due, result = dues[1], results[1]
        if isinstance(result, Exception):
            raise result
        self.last = result
        self.slot.isolation = "" if result.isolation is None else result.isolation.verdict
        self.steps += 1
        if self._published is None:
            return []
        return [*self.lineage.taken(), *self._published.batches(result, due, self.substitution)]

    def run(self, watermark_ns: int) -> list[Batch]:
        """Steps every tick that closed at the watermark by itself; returns what the model says about them."""
        self.close(watermark_ns)
        found: list[Batch] = []
        while dues := self.due():
            found += self.take(dues, [due.estimator.step(due.t_ns, due.u, due.y) for due in dues])
        return found

    def withdraw(self, now_ns: int) -> list[Batch]:
        """The model rests: what it stood in for is STALE from now on."""
        return [] if self._published is None else self._published.withdrawn(self.substitution, now_ns)

    def start_over(self) -> None:
        """Aligns what comes from now on, whatever its times; the model keeps its state."""
        self.lineage.end()
        for estimator in (self._bound, self.slot.last_good):
            if estimator is not None:
                estimator.rejoin()
        self._bound = self._aligner = self._tick_ns = self._before = None
        self._frames.clear()

    def _chosen(self, batch: Batch) -> NDArray[np.bool_]:
        """Which samples are of this twin's signals."""
        return self._reads[np.minimum(batch.signal, len(self._reads) - 1)]

    def _due(self, estimator: Estimator, frame: Frame) -> Due:
        u, y = self._ports[id(estimator)]
        return Due(estimator, frame.t_ns, u.pick(frame.values), y.pick(frame.values))

    def _shadow(self) -> Estimator | None:
        """The model that soaks in the shadow, where it lives on the same grid."""
        last_good = self.slot.last_good
        return last_good if last_good is not None and id(last_good) in self._ports else None

    def _bind(self) -> Estimator | None:
        """Takes the slot's model for the coming tick; a model with other ports gets an alignment of its own."""
        estimator = self.slot.current()
        if estimator is self._bound:
            return estimator
        previous, self._bound = self._bound, estimator
        if estimator is None:
            self._aligner = None
            self._frames.clear()
            return None
        shadow = self.slot.last_good
        both = [e for e in (estimator, shadow) if e is not None and e.dt_ns == estimator.dt_ns]
        same_grid = previous is not None and previous.dt_ns == estimator.dt_ns
        if self._aligner is None or not same_grid or not self._signals(estimator) <= set(self._used):
            self._align(estimator, both)
        self._ports = {id(e): self._columns(e) for e in both}
        return estimator

    def _signals(self, estimator: Estimator) -> set[int]:
        wiring = self.wiring
        measured = {wiring.outputs[p.name] for p in estimator.outputs if p.name in wiring.outputs}
        return {wiring.inputs[p.name] for p in estimator.inputs} | measured

    def _align(self, estimator: Estimator, both: Sequence[Estimator]) -> None:
        """A new alignment for all that these models read; samples of the old one are given up."""
        self._used = sorted(set().union(*(self._signals(e) for e in both)))
        self._frames.clear()
        self._before = None
        self.lineage.aligned()
        inputs = [AlignInput(signal, "hold", self._limits_ns[signal]) for signal in self._used]
        self._aligner = Aligner(estimator.dt_ns, inputs, LATENESS_NS)

    def _columns(self, estimator: Estimator) -> tuple[_Columns, _Columns]:
        units, wiring = self.wiring.units, self.wiring
        inputs = [(wiring.inputs[p.name], p.unit) for p in estimator.inputs]
        measured = [(wiring.outputs.get(p.name), p.unit) for p in estimator.outputs]
        return _Columns.of(self._used, units, inputs), _Columns.of(self._used, units, measured)


@dataclass(frozen=True, slots=True)
class _Columns:
    """Where the ports of a model lie in a frame, and how values get from the unit of a signal to that of its port."""

    at: NDArray[np.intp]
    gain: NDArray[np.float64]
    shift: NDArray[np.float64]

    @staticmethod
    def of(used: Sequence[int], units: Mapping[int, str], ports: Sequence[tuple[int | None, str]]) -> _Columns:
        """Ports as (signal, or None for a virtual output, and unit)."""
        at, gain, shift = [], [], []
        for signal, unit in ports:
            at.append(-1 if signal is None else used.index(signal))
            factor, offset = conversion(unit if signal is None else units.get(signal, unit), unit)
            gain.append(factor)
            shift.append(offset)
        return _Columns(np.array(at, np.intp), np.array(gain, np.float64), np.array(shift, np.float64))

    def pick(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Values in the ports' units, NaN where nothing is measured."""
        return np.where(self.at >= 0, values[self.at] * self.gain + self.shift, np.nan)


@dataclass(frozen=True, slots=True)
class _Published:
    """Ids and rounding of a twin's output signals, by output name in the order of `OUTPUT_ROLES`; and stand-ins."""

    ids: Mapping[str, Sequence[int]]
    scales: Mapping[str, Sequence[float]]
    stand_ins: Mapping[str, int]

    @staticmethod
    def of(twin: str, catalogue: Catalogue) -> _Published:
        ids: dict[str, list[int]] = {}
        scales: dict[str, list[float]] = {}
        stand_ins: dict[str, int] = {}
        outputs = next((t.outputs for t in catalogue.twins if t.twin == twin), ())
        for output in outputs:
            signals = [catalogue.by_name[f"{twin}/{output}#{role}"] for role in OUTPUT_ROLES]
            ids[output] = [s.id for s in signals]
            scales[output] = [10.0**s.exponent for s in signals]
            stand_in = catalogue.by_name.get(f"{twin}/{output}#{SUBSTITUTE}")
            if stand_in is not None:
                stand_ins[output] = stand_in.id
        return _Published(ids, scales, stand_ins)

    def batches(self, estimate: Estimate, due: Due, substitution: Substitution) -> list[Batch]:
        """One batch with every role of every output at the tick; what is not finite is marked, not left out.

        What stands in for a measurement lies in the same batch as its sigma.
        """
        signal: list[int] = []
        value: list[float] = []
        code: list[int] = []
        plain = _quality_of(estimate)
        for position, port in enumerate(due.estimator.outputs):
            if port.name not in self.ids:
                continue
            first = len(value)
            says = (estimate.estimate, estimate.sigma, estimate.prediction, estimate.innovation, estimate.drift)
            for role, column in enumerate(says):
                x = float(column[position])
                if role == 3 and np.isnan(x):
                    continue  # an output that nothing measured at this tick has no innovation
                scale = self.scales[port.name][role]
                usable = bool(np.isfinite(x * scale))
                signal.append(self.ids[port.name][role])
                value.append(round(x * scale) / scale if usable else np.nan)
                code.append(plain if usable else bad(QualityReason.DECODE))
            if port.name in self.stand_ins and port.name in substitution.outputs:
                rounded, sigma = value[first], value[first + 1]
                said = substitution.judge(port.name, estimate.t_ns, float(due.y[position]), rounded, sigma)
                if said is not None:
                    signal.append(self.stand_ins[port.name])
                    value.append(said[0])
                    code.append(said[1])
        return [Batch.of(Kind.FLOAT, signal, value, code, [estimate.t_ns] * len(signal))] if signal else []

    def withdrawn(self, substitution: Substitution, now_ns: int) -> list[Batch]:
        """The ends of all that is substituted."""
        ended = [self.stand_ins[output] for output in substitution.withdraw() if output in self.stand_ins]
        count = len(ended)
        return [Batch.of(Kind.FLOAT, ended, [np.nan] * count, [STALE] * count, [now_ns] * count)] if ended else []


def _quality_of(estimate: Estimate) -> int:
    if estimate.settling:
        return uncertain(QualityReason.SETTLING)
    return GOOD if estimate.in_regime else uncertain(QualityReason.REGIME)
