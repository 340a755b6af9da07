"""Which twins a batch concerns: of a hundred models most batches concern one, and only that one is asked."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from twinedge.estimate.runner import TwinRunner
from twinmodel.signal import Batch


class Readers:
    """The runners of a gateway by the signals they read."""

    def __init__(self, runners: Sequence[TwinRunner]) -> None:
        self._by_signal: dict[int, list[int]] = {}
        self._runners = tuple(runners)
        for at, runner in enumerate(self._runners):
            for signal in {*runner.wiring.inputs.values(), *runner.wiring.outputs.values()}:
                self._by_signal.setdefault(signal, []).append(at)
        self._read = np.zeros(max(self._by_signal, default=-1) + 2, np.bool_)  # the last one stands for all beyond
        self._read[list(self._by_signal)] = True

    def of(self, batch: Batch) -> list[TwinRunner]:
        """Those that read a signal of the batch, in the order of the gateway's twins."""
        read = self._read[np.minimum(batch.signal, len(self._read) - 1)]
        if not read.any():
            return []
        signals = set(batch.signal[read].tolist())
        return [self._runners[at] for at in sorted({at for signal in signals for at in self._by_signal[signal]})]
