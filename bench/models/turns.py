"""Works by turns: all of a comparison run once a round; a ratio is the median over rounds of two times of one round.

Times are processor time of all threads: a busy machine takes the processor away for longer than these works last.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
Work = Callable[[], object]


def by_turns(works: Mapping[str, Work], rounds: int) -> dict[str, F64]:
    """Seconds of each work in each round, after one round that warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(rounds + 1):
        for name, work in works.items():
            start = time.process_time()
            work()
            if turn:
                seconds[name].append(time.process_time() - start)
    return {name: np.array(taken) for name, taken in seconds.items()}


def ratio(above: F64, below: F64) -> float:
    """How many times longer the first took."""
    return float(np.median(above / below))


def fastest(seconds: Mapping[str, F64], names: Iterable[str]) -> F64:
    """Times of the work that is fastest by its median."""
    return min((seconds[name] for name in names), key=lambda taken: float(np.median(taken)))


def repeated(work: Work, times: int) -> Work:
    """A work that is long enough for the clock."""

    def run() -> None:
        for _ in range(times):
            work()

    return run
