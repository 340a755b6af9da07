"""Keeps account of what a twin's ticks saw, and tells it in checkpoints; see `twinmodel.lineage`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from twinmodel.align import NEVER_NS, Frame
from twinmodel.estimator import Estimator
from twinmodel.lineage import EVERY_NS, EXCEPTIONS_MAX, Checkpoint, Ended, follows_rule, lineage_signal, to_text
from twinmodel.signal import OUTPUT_ROLES, Batch, Catalogue, Kind

UNTOLD_MAX: Final = 8
"""Checkpoints that wait for a tick to be told with."""

Wired = tuple[Mapping[str, int], Mapping[str, int], Mapping[int, int]]
"""Input -> signal, output -> signal, signal -> age limit."""


class Lineage:
    """The lineage of one twin; says nothing until its catalogue has a signal for it.

    Args:
        twin: name of the twin.
        wired: what feeds its model.
    """

    def __init__(self, twin: str, wired: Wired) -> None:
        self._twin = twin
        self._wired = wired
        self._signals = np.array(sorted({*wired[0].values(), *wired[1].values()}), np.int64)
        self._newest = np.full(len(self._signals), NEVER_NS)
        self._floors = self._newest
        self._signal: int | None = None
        self._names: Mapping[int, str] = {}
        self._units: Mapping[int, str] = {}
        self._exponents: Mapping[str, tuple[int, ...]] = {}
        self._estimator: Estimator | None = None
        self._ended: Ended | None = None
        self._why = "start"
        self._number = 0
        self._since_ns = 0
        self._tick_ns: int | None = None
        self._broken = False
        self._passed: dict[tuple[str, int], None] = {}
        self._complete = True
        self._foreign: list[int] = []
        self._untold: list[tuple[str, int]] = []

    def publish_as(self, catalogue: Catalogue) -> None:
        """Takes names, units and digits from a new catalogue; the next tick begins a new span."""
        signal = catalogue.by_name.get(lineage_signal(self._twin))
        self._signal = None if signal is None else signal.id
        ours = [catalogue.signals[s] for s in self._signals.tolist() if s < len(catalogue)]
        self._names = {s.id: s.name for s in ours}
        self._units = {s.id: s.unit for s in ours}
        outputs = next((t.outputs for t in catalogue.twins if t.twin == self._twin), ())
        self._exponents = {
            output: tuple(catalogue.by_name[f"{self._twin}/{output}#{role}"].exponent for role in OUTPUT_ROLES)
            for output in outputs
        }
        self._because("catalogue")

    def met(self, signal: NDArray[np.uint32], t_ns: NDArray[np.int64]) -> None:
        """Samples of the twin's signals have come, whatever becomes of them; their times are not ahead of the clock."""
        np.maximum.at(self._newest, np.searchsorted(self._signals, signal), t_ns)

    def aligned(self) -> None:
        """A new alignment begins: it knows nothing of what came before."""
        self._floors = self._newest.copy()
        self._because("alignment")

    def pushed(self, batch: Batch, used: NDArray[np.bool_]) -> None:
        """Remembers the samples for which the rule is wrong.

        Args:
            batch: samples of the twin, with the quality they are stored with.
            used: which of them ticks see.
        """
        if self._signal is None:
            return
        floors = self._floors[np.searchsorted(self._signals, batch.signal)]
        wrong = np.flatnonzero(follows_rule(batch.t_ns, batch.quality, floors) != used)
        for at in wrong.tolist():
            if len(self._passed) >= EXCEPTIONS_MAX:
                self._complete = False
                return
            self._passed[self._names.get(int(batch.signal[at]), ""), int(batch.t_ns[at])] = None

    def dropped(self) -> None:
        """Samples were given up for want of room."""
        self._complete = False

    def before(self, estimator: Estimator, frame: Frame, last: Frame | None, columns: Sequence[int]) -> None:
        """Takes a checkpoint, where one is due, before the estimator is stepped to a frame.

        Args:
            estimator: what is stepped.
            frame: the tick to come.
            last: the frame before it in its alignment, None for the first.
            columns: signals of the columns of both.
        """
        if self._signal is None:
            return
        if self._estimator is not None and self._estimator is not estimator:
            self._why = "swap"
        if self._tick_ns is not None and frame.t_ns != self._tick_ns + estimator.dt_ns:
            self._because("leap")
        if frame.t_ns - self._since_ns >= EVERY_NS:
            self._because("period")
        if self._why:
            self.end()
            del self._untold[: max(len(self._untold) - UNTOLD_MAX + 1, 0)]
            self._untold.append((to_text(self._checkpoint(estimator, frame, last, columns)), frame.t_ns))
            self._why, self._since_ns, self._estimator = "", frame.t_ns, estimator
        self._tick_ns = frame.t_ns

    def foreign(self, tick_ns: int, *, failed: bool) -> None:
        """What is published of a tick is another model's; `failed`: the estimator raised in it."""
        self._foreign.append(tick_ns)
        self._broken |= failed

    def failed(self) -> None:
        """The estimator raised: nobody knows in which state it is."""
        self._broken = True

    def end(self) -> None:
        """Ends the span with the state as it is now."""
        if self._estimator is None or self._tick_ns is None:
            return
        seal = b"" if self._broken else self._estimator.state_hash()
        passed, foreign = tuple(self._passed), tuple(self._foreign)
        self._ended = Ended(self._tick_ns, seal, passed, self._complete, foreign)
        # What lies ahead still concerns the spans to come.
        self._passed = {one: None for one in passed if one[1] > self._tick_ns}
        self._estimator = self._tick_ns = None
        self._broken, self._complete, self._foreign = False, True, []

    def taken(self) -> list[Batch]:
        """Checkpoints to be stored."""
        told, self._untold = self._untold, []
        if self._signal is None or not told:
            return []
        count = len(told)
        texts, times = [text for text, _ in told], [t_ns for _, t_ns in told]
        return [Batch.of(Kind.STRING, [self._signal] * count, texts, [0] * count, times)]

    def _because(self, why: str) -> None:
        self._why = self._why or why

    def _checkpoint(self, estimator: Estimator, frame: Frame, last: Frame | None, columns: Sequence[int]) -> Checkpoint:
        inputs, outputs, limits = self._wired
        base_ns = frame.t_ns - estimator.dt_ns if last is None else last.t_ns
        held = {}
        if last is not None:
            for signal, t_ns, value in zip(columns, last.times_ns.tolist(), last.values.tolist(), strict=True):
                if t_ns != NEVER_NS:
                    held[self._names[signal]] = (t_ns, value)
        floors = zip(self._signals.tolist(), self._floors.tolist(), strict=True)
        self._number += 1
        ended, self._ended = self._ended, None
        package = estimator.package
        ports = {p.name for p in (*estimator.inputs, *estimator.outputs)}
        return Checkpoint(
            number=self._number,
            cause=self._why,
            base_ns=base_ns,
            next_ns=frame.t_ns,
            dt_ns=estimator.dt_ns,
            model=f"{package.name}@{package.version}",
            digest=package.digest,
            state=estimator.checkpoint(),
            inputs={port: self._names[s] for port, s in inputs.items() if port in ports},
            outputs={port: self._names[s] for port, s in outputs.items() if port in ports},
            limits_ns={self._names[s]: limits.get(s, 0) for s in columns},
            units={self._names[s]: self._units[s] for s in columns},
            exponents=self._exponents,
            held=held,
            floors_ns={self._names[s]: t_ns for s, t_ns in floors if t_ns > base_ns},
            ended=ended,
        )
