"""Keeps account of what a twin's ticks saw, and tells it in checkpoints; see `twinmodel.lineage`.

It must never cost a sample or an estimate: whatever fails in here ends the account, with one line in the log, and the
ticks that follow have no checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Concatenate, Final, ParamSpec

import numpy as np
import structlog
from numpy.typing import NDArray

from twinmodel.align import NEVER_NS, Frame
from twinmodel.estimator import Estimator
from twinmodel.lineage import (
    EVERY_NS,
    EXCEPTIONS_MAX,
    Checkpoint,
    Ended,
    Trace,
    follows_rule,
    lineage_signal,
    to_text,
)
from twinmodel.signal import OUTPUT_ROLES, Batch, Catalogue, Kind

UNTOLD_MAX: Final = 8
"""Checkpoints that wait for a tick to be told with."""
PERIOD_MAX: Final = 40
"""Checkpoints in `EVERY_NS` of event time: a fast model whose inputs are silent leaps at every look."""
AHEAD_MAX: Final = 50
"""Exceptions ahead of the ticks that are told again and again: a device whose clock is a day ahead makes more."""
_log = structlog.get_logger(__name__)

Wired = tuple[Mapping[str, int], Mapping[str, int], Mapping[int, int]]
"""Input -> signal, output -> signal, signal -> age limit."""
P = ParamSpec("P")


def _harmless(method: Callable[Concatenate[Lineage, P], None]) -> Callable[Concatenate[Lineage, P], None]:
    """What fails in the account must not reach the model."""

    def guarded(self: Lineage, /, *args: P.args, **kwargs: P.kwargs) -> None:
        if self.is_off:
            return
        try:
            method(self, *args, **kwargs)
        except Exception as error:  # noqa: BLE001 a defect in here would rest the model, which nothing is wrong with
            self.give_up(error)

    guarded.__doc__ = method.__doc__
    return guarded


class Lineage:
    """The lineage of one twin; says nothing until its catalogue has a signal for it.

    Args:
        twin: name of the twin.
        wired: what feeds its model.
        names: name of each signal that does; None while ids are places in the catalogue.

    Attributes:
        is_off: whether it has failed; a new catalogue lets it begin again.
    """

    def __init__(self, twin: str, wired: Wired, names: Mapping[int, str] | None = None) -> None:
        self.is_off = False
        self._wired_names = names
        self._twin = twin
        self._wired = wired
        self._signals = np.array(sorted({*wired[0].values(), *wired[1].values()}), np.int64)
        self._newest = np.full(len(self._signals), NEVER_NS)
        self._floors = self._newest
        self._signal: int | None = None
        self._names: Mapping[int, str] = {}
        self._units: Mapping[int, str] = {}
        self._exponents: Mapping[str, tuple[int, ...]] = {}
        self._ended: Ended | None = None
        self._why = "start"
        self._number = 0
        self._since_ns = 0
        self._window = self._in_window = 0
        self._unnamed: tuple[int, int] | None = None
        self._untold: list[tuple[str, int]] = []
        self._out: list[Batch] = []
        self._passed: dict[tuple[str, int, bool], int] = {}
        self._begin(None)

    def _begin(self, estimator: Estimator | None) -> None:
        self._estimator = estimator
        self._tick_ns: int | None = None
        self._broken, self._complete = False, True
        self._foreign: list[int] = []
        self._trace = Trace()

    def give_up(self, error: Exception) -> None:
        """Says no more until there is a new catalogue."""
        self.is_off = True
        self._signal, self._ended, self._out = None, None, []
        self._passed.clear()
        self._untold.clear()
        self._begin(None)
        _log.error("lineage of estimates ends, they go on without", twin=self._twin, exc_info=error)

    def publish_as(self, catalogue: Catalogue) -> None:
        """Takes names, units and digits from a new catalogue; the next tick begins a new span."""
        self.is_off = False
        self._publish_as(catalogue)

    @_harmless
    def _publish_as(self, catalogue: Catalogue) -> None:
        signal = catalogue.by_name.get(lineage_signal(self._twin))
        self._signal = None if signal is None else signal.id
        names = self._wired_names
        if names is None:
            names = {s: catalogue.signals[s].name for s in self._signals.tolist() if s < len(catalogue)}
        self._names = {s: name for s, name in names.items() if name in catalogue.by_name}
        self._units = {s: catalogue.by_name[name].unit for s, name in self._names.items()}
        outputs = next((t.outputs for t in catalogue.twins if t.twin == self._twin), ())
        self._exponents = {
            output: tuple(catalogue.by_name[f"{self._twin}/{output}#{role}"].exponent for role in OUTPUT_ROLES)
            for output in outputs
        }
        self._because("catalogue")

    @_harmless
    def met(self, signal: NDArray[np.uint32], t_ns: NDArray[np.int64]) -> None:
        """Samples of the twin's signals have come, whatever becomes of them; their times are not ahead of the clock."""
        np.maximum.at(self._newest, np.searchsorted(self._signals, signal), t_ns)

    @_harmless
    def aligned(self) -> None:
        """A new alignment begins: it knows nothing of what came before."""
        self._floors = self._newest.copy()
        self._because("alignment")

    @_harmless
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
            one = (self._names.get(int(batch.signal[at]), ""), int(batch.t_ns[at]), bool(used[at]))
            if one not in self._passed and len(self._passed) >= EXCEPTIONS_MAX:
                left = batch.t_ns[wrong]
                self._leave_out(int(left.min()), int(left.max()))
                return
            self._passed[one] = self._passed.get(one, 0) + 1

    def _leave_out(self, from_ns: int, to_ns: int) -> None:
        """Spans that reach into these times cannot name all of their exceptions."""
        since_ns, until_ns = self._unnamed or (from_ns, to_ns)
        self._unnamed = min(since_ns, from_ns), max(until_ns, to_ns)

    @_harmless
    def dropped(self) -> None:
        """Samples were given up for want of room."""
        self._complete = False

    @_harmless
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
            if not self._may_tell(frame.t_ns):
                self._why = "pause"
                return
            text = to_text(self._checkpoint(estimator, frame, last, columns))
            del self._untold[: max(len(self._untold) - UNTOLD_MAX + 1, 0)]
            self._untold.append((text, frame.t_ns))
            self._begin(estimator)
            self._why, self._since_ns = "", frame.t_ns
        self._tick_ns = frame.t_ns

    def _may_tell(self, t_ns: int) -> bool:
        window = t_ns // EVERY_NS
        if window != self._window:
            self._window, self._in_window = window, 0
        self._in_window += 1
        return self._in_window <= PERIOD_MAX

    @_harmless
    def given(self, t_ns: int, u: NDArray[np.float64], y: NDArray[np.float64]) -> None:
        """What the estimator is given at the tick that `before` was told of."""
        if self._estimator is not None:
            self._trace.add(np.array([t_ns], np.int64), u[None], y[None])

    @_harmless
    def foreign(self, tick_ns: int, *, failed: bool) -> None:
        """What is published of a tick is another model's; `failed`: the estimator raised in it."""
        if len(self._foreign) < EXCEPTIONS_MAX:
            self._foreign.append(tick_ns)
        else:
            self._complete = False
        self._broken |= failed

    @_harmless
    def failed(self) -> None:
        """The estimator raised: nobody knows in which state it is."""
        self._broken = True

    @_harmless
    def end(self) -> None:
        """Ends the span with the state as it is now."""
        if self._estimator is None or self._tick_ns is None:
            return
        tick_ns = self._tick_ns
        seal = b"" if self._broken else self._estimator.state_hash()
        # What lies ahead still concerns the spans to come.
        ahead = sorted((one for one in self._passed if one[1] > tick_ns), key=lambda one: one[1])
        if len(ahead) > AHEAD_MAX:
            self._leave_out(ahead[AHEAD_MAX][1], ahead[-1][1])
            for one in ahead[AHEAD_MAX:]:
                del self._passed[one]
        passed = tuple((*one, count) for one, count in self._passed.items())
        complete = self._complete and (self._unnamed is None or self._unnamed[0] > tick_ns)
        if self._unnamed is not None and self._unnamed[1] <= tick_ns:
            self._unnamed = None
        self._ended = Ended(tick_ns, seal, passed, complete, tuple(self._foreign), self._trace.digest())
        self._passed = {one: self._passed[one] for one in ahead[:AHEAD_MAX]}
        self._begin(None)

    def taken(self) -> list[Batch]:
        """Checkpoints to be stored."""
        self._tell()
        out, self._out = self._out, []
        return out

    @_harmless
    def _tell(self) -> None:
        told, self._untold = self._untold, []
        if self._signal is None or not told:
            return
        count = len(told)
        texts, times = [text for text, _ in told], [t_ns for _, t_ns in told]
        self._out = [Batch.of(Kind.STRING, [self._signal] * count, texts, [0] * count, times)]

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
