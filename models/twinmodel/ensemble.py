"""Estimators of one signature stepped together: one kernel call a group and tick, the same bits as one by one.

    steps ─▶ prepare each ─▶ rows into tiles ─▶ one call ─▶ rows back ─▶ conclude each

Each estimator keeps its own state: checkpoints, hashes, swaps and resets know nothing of the group. What goes wrong
with one, in any part, is told of that one alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from twinmodel.estimator import Estimate, Estimator
from twinmodel.kernel.bank import Bank
from twinmodel.kernel.machine import signature

F64 = NDArray[np.float64]
GROUPS_MAX: Final = 64
MEMBERS_MIN: Final = 2


@dataclass(frozen=True, slots=True)
class Due:
    """One tick of one estimator, see `Estimator.step`."""

    estimator: Estimator
    t_ns: int
    u: F64
    y: F64


class Ensemble:
    """Steps estimators in groups.

    Attributes:
        calls: kernel calls on behalf of groups; for tests and metrics.
    """

    def __init__(self) -> None:
        self.calls = 0
        self._banks: dict[tuple[int, ...], tuple[tuple[Estimator, ...], Bank]] = {}
        self._signatures: dict[str, str] = {}

    def step(self, dues: Sequence[Due]) -> list[Estimate | Exception]:
        """One tick of each; what one of them raises stands in its place. An estimator may be named once only."""
        results: list[Estimate | Exception] = [ValueError("not stepped")] * len(dues)
        groups: dict[tuple[str, int], list[int]] = {}
        for at, due in enumerate(dues):
            try:
                due.estimator.prepare(due.t_ns, due.u, due.y)
            except Exception as error:  # noqa: BLE001 - told in its place; the others go on
                results[at] = error
                continue
            groups.setdefault((self._signature(due.estimator), id(due.estimator.kernel[1])), []).append(at)
        for places in groups.values():
            estimators = tuple(dues[at].estimator for at in places)
            try:
                self._call(estimators)
            except Exception as error:  # noqa: BLE001 - told in the place of each that was to be stepped
                results = [error if at in places else result for at, result in enumerate(results)]
                continue
            for at, estimator in zip(places, estimators, strict=True):
                try:
                    results[at] = estimator.conclude()
                except Exception as error:  # noqa: BLE001 - told in its place; the others go on
                    results[at] = error
        return results

    def _call(self, estimators: tuple[Estimator, ...]) -> None:
        if len(estimators) < MEMBERS_MIN:
            for estimator in estimators:
                estimator.advance()
            return
        bank = self._bank(estimators)
        tiles, lanes = bank.places
        arrays = [estimator.arrays for estimator in estimators]
        bank.states[tiles, :, lanes] = [state for state, _, _ in arrays]
        bank.inputs[tiles, :, lanes] = [coming for _, coming, _ in arrays]
        bank.tick()
        self.calls += 1
        for (state, _, results), rows, found in zip(
            arrays, bank.states[tiles, :, lanes], bank.results[tiles, :, lanes], strict=True
        ):
            state[:] = rows
            results[:] = found

    def _bank(self, estimators: tuple[Estimator, ...]) -> Bank:
        """The arena of a group; kept, for most ticks have the groups of the tick before."""
        key = tuple(id(e) for e in estimators)
        known = self._banks.get(key)
        step = estimators[0].kernel[1]
        if known is None or known[1].step is not step:
            models = {e.package.model_id: e for e in estimators}
            order = list(models)
            bank = Bank(
                [e.kernel[0] for e in models.values()],
                [order.index(e.package.model_id) for e in estimators],
                [e.start for e in models.values()],
                step,
            )
            while len(self._banks) >= GROUPS_MAX:
                del self._banks[next(iter(self._banks))]
            # Estimators are kept beside their bank: an id is not given again while its owner lives.
            known = self._banks[key] = (estimators, bank)
        return known[1]

    def _signature(self, estimator: Estimator) -> str:
        model_id = estimator.package.model_id
        if model_id not in self._signatures:
            if len(self._signatures) >= GROUPS_MAX * 16:
                self._signatures.clear()
            self._signatures[model_id] = signature(estimator.kernel[0])
        return self._signatures[model_id]
