"""A model run over frames from a fresh state, with what is needed to judge it; for the child of a back-test."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from twincloud.replay.frames import Frames
from twincloud.replay.scores import Score, score
from twinmodel.errors import InputError
from twinmodel.package.archive import ModelPackage
from twinmodel.stride import StridingEstimator

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
CELLS_MAX: Final = 6_000_000
"""Ticks times outputs of one run."""


class Trial:
    """One model over one period.

    Args:
        package: the verified model.
        from_ns: where the period begins; ticks before it, and ticks while the filter settles, do not count.
        cache_dir: folder of compiled kernels.
    """

    def __init__(self, package: ModelPackage, from_ns: int, *, cache_dir: Path | None = None) -> None:
        self.estimator = StridingEstimator(package, cache_dir=cache_dir)
        self.from_ns = from_ns
        self.ticks = self.in_regime = self.alarms = self.drifting_ticks = self.starting = 0
        self._drifting = False
        self._parts: list[tuple[I64, F64, F64, F64]] = []
        self._cells = 0

    def run(self, frames: Frames) -> None:
        """Steps through a run of ticks that follows the ones before; raises LIMIT_EXCEEDED, VALUE_INVALID."""
        p = len(self.estimator.outputs)
        self._cells += len(frames) * p
        if self._cells > CELLS_MAX:
            raise InputError("LIMIT_EXCEEDED", f"more than {CELLS_MAX // p} ticks", hint="ask for a shorter period")
        said = self.estimator.stride(frames.t_ns, frames.u, frames.y)
        counted = (said.t_ns >= self.from_ns) & ~said.settling
        alarms = said.drifting & ~np.concatenate([[self._drifting], said.drifting[:-1]])
        self.starting += int(np.count_nonzero(~counted))
        self.ticks += int(np.count_nonzero(counted))
        self.in_regime += int(np.count_nonzero(said.in_regime & counted))
        self.alarms += int(np.count_nonzero(alarms & counted))
        self.drifting_ticks += int(np.count_nonzero(said.drifting & counted))
        if len(said):
            self._drifting = bool(said.drifting[-1])
        self._parts.append((said.t_ns[counted], frames.y[counted], said.prediction[counted], said.spread[counted]))

    def columns(self) -> tuple[I64, F64, F64, F64]:
        """Ticks that count with measurements, predictions and spreads, shapes (ticks,) and (ticks, p)."""
        p = len(self.estimator.outputs)
        if not self._parts:
            none = np.empty((0, p))
            return np.empty(0, np.int64), none, none, none
        t_ns, y, prediction, spread = (np.concatenate(column) for column in zip(*self._parts, strict=True))
        return t_ns, y, prediction, spread

    def scores(self) -> dict[str, Score]:
        """Figures by output."""
        _, y, prediction, spread = self.columns()
        return {
            port.name: score(y[:, place], prediction[:, place], spread[:, place])
            for place, port in enumerate(self.estimator.outputs)
        }
