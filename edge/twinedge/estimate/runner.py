"""Steps the models of one gateway: samples in, frames on the model's grid, estimates out.

A runner owns what belongs to one twin: the slot its model runs in, the alignment of its inputs, and the ids of the
signals its results are published as. Event time alone decides what a tick sees.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from twinedge.slot import Slot
from twinmodel.align import Aligner, AlignInput, Frame
from twinmodel.clock import SECOND_NS
from twinmodel.estimator import Estimate, Estimator
from twinmodel.quality import GOOD, QualityReason, bad, uncertain
from twinmodel.signal import OUTPUT_ROLES, Batch, Catalogue, Kind

LATENESS_NS = 2 * SECOND_NS
"""How long a tick waits for a sample that does not come."""


@dataclass(frozen=True, slots=True)
class Wiring:
    """Which signals a twin's model reads.

    Attributes:
        twin: name of the twin.
        inputs: model input -> id of its measured signal.
        outputs: model output -> id of the signal that measures it; virtual outputs are not named.
        age_limits_ns: id of a signal -> age beyond which its last value is STALE.
    """

    twin: str
    inputs: Mapping[str, int]
    outputs: Mapping[str, int]
    age_limits_ns: Mapping[int, int]


class TwinRunner:
    """One twin beside its machine."""

    def __init__(self, wiring: Wiring, slot: Slot) -> None:
        self.wiring = wiring
        self.slot = slot
        self.steps = 0
        self.late = 0
        self.last: Estimate | None = None
        self._bound: Estimator | None = None
        self._aligner: Aligner | None = None
        self._mine = np.array(sorted({*wiring.inputs.values(), *wiring.outputs.values()}), np.uint32)
        self._u_columns: NDArray[np.intp] = np.zeros(0, np.intp)
        self._y_columns: NDArray[np.intp] = np.zeros(0, np.intp)
        self._published: _Published | None = None

    def publish_as(self, catalogue: Catalogue) -> None:
        """Takes the ids and resolutions of the twin's output signals from a new catalogue."""
        self._published = _Published.of(self.wiring.twin, catalogue)

    def push(self, batch: Batch) -> None:
        """Hands over gated samples; those of other twins are passed over."""
        if self._aligner is None:
            self._bind()
        if self._aligner is None:
            return
        mine = np.isin(batch.signal, self._mine)
        if mine.any():
            self.late += self._aligner.push(batch if mine.all() else batch.take(mine))

    def run(self, watermark_ns: int) -> list[Batch]:
        """Steps every tick that closed at the watermark; returns what the model says about them."""
        self._bind()
        if self._aligner is None:
            return []
        found: list[Batch] = []
        for frame in self._aligner.close(watermark_ns):
            # The swap happens here, between two ticks.
            estimator = self._bind()
            if estimator is None:
                break
            found += self._step(estimator, frame)
        return found

    def _step(self, estimator: Estimator, frame: Frame) -> list[Batch]:
        u = _pick(frame.values, self._u_columns)
        y = _pick(frame.values, self._y_columns)
        self.last = estimate = estimator.step(frame.t_ns, u, y)
        self.steps += 1
        return [] if self._published is None else self._published.batches(estimate, estimator)

    def _bind(self) -> Estimator | None:
        """Takes the slot's model for the coming tick; a model with other ports gets an alignment of its own."""
        estimator = self.slot.current()
        if estimator is self._bound:
            return estimator
        previous, self._bound = self._bound, estimator
        if estimator is None:
            self._aligner = None
        elif self._aligner is None or previous is None or not _same_ports(previous, estimator):
            self._align(estimator)
        return estimator

    def _align(self, estimator: Estimator) -> None:
        inputs = [self.wiring.inputs[p.name] for p in estimator.inputs]
        measured = [self.wiring.outputs.get(p.name) for p in estimator.outputs]
        used = list(dict.fromkeys([*inputs, *(m for m in measured if m is not None)]))
        column = {signal: position for position, signal in enumerate(used)}
        limits = self.wiring.age_limits_ns
        self._aligner = Aligner(
            estimator.dt_ns, [AlignInput(s, "hold", limits.get(s, 3 * SECOND_NS)) for s in used], LATENESS_NS
        )
        self._u_columns = np.array([column[s] for s in inputs], np.intp)
        self._y_columns = np.array([-1 if m is None else column[m] for m in measured], np.intp)


def _pick(values: NDArray[np.float64], columns: NDArray[np.intp]) -> NDArray[np.float64]:
    """Values by column, NaN where the column is -1 (a virtual output is never measured)."""
    if not len(values):
        return np.full(len(columns), np.nan)
    return np.where(columns >= 0, values[columns], np.nan)


def _same_ports(a: Estimator, b: Estimator) -> bool:
    return (
        a.dt_ns == b.dt_ns
        and [p.name for p in a.inputs] == [p.name for p in b.inputs]
        and [p.name for p in a.outputs] == [p.name for p in b.outputs]
    )


@dataclass(frozen=True, slots=True)
class _Published:
    """Ids and rounding of a twin's output signals, by output name in the order of `OUTPUT_ROLES`."""

    ids: Mapping[str, Sequence[int]]
    scales: Mapping[str, Sequence[float]]

    @staticmethod
    def of(twin: str, catalogue: Catalogue) -> _Published:
        ids: dict[str, list[int]] = {}
        scales: dict[str, list[float]] = {}
        outputs = next((t.outputs for t in catalogue.twins if t.twin == twin), ())
        for output in outputs:
            signals = [catalogue.by_name[f"{twin}/{output}#{role}"] for role in OUTPUT_ROLES]
            ids[output] = [s.id for s in signals]
            scales[output] = [10.0**s.exponent for s in signals]
        return _Published(ids, scales)

    def batches(self, estimate: Estimate, estimator: Estimator) -> list[Batch]:
        """One batch with every role of every output at the tick; what is not finite is marked, not left out."""
        signal: list[int] = []
        value: list[float] = []
        code: list[int] = []
        plain = _quality_of(estimate)
        for position, port in enumerate(estimator.outputs):
            if port.name not in self.ids:
                continue
            says = (estimate.estimate, estimate.sigma, estimate.prediction, estimate.innovation, estimate.drift)
            for role, column in enumerate(says):
                x = float(column[position])
                if role == 3 and np.isnan(x):
                    continue  # an output that nothing measured at this tick has no innovation
                scale = self.scales[port.name][role]
                signal.append(self.ids[port.name][role])
                value.append(round(x * scale) / scale if np.isfinite(x) else np.nan)
                code.append(plain if np.isfinite(x) else bad(QualityReason.DECODE))
        return [Batch.of(Kind.FLOAT, signal, value, code, [estimate.t_ns] * len(signal))] if signal else []


def _quality_of(estimate: Estimate) -> int:
    if estimate.settling:
        return uncertain(QualityReason.SETTLING)
    return GOOD if estimate.in_regime else uncertain(QualityReason.REGIME)
