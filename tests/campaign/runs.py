"""Runs many seeds and sums up what they show."""

from __future__ import annotations

import contextlib
import faulthandler
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from tests.campaign.checker import Violation, check
from tests.campaign.history import History

HANGS_S = 120.0


@dataclass(slots=True)
class Summary:
    """What runs have shown together.

    Attributes:
        violations: seed -> what its history shows; empty when all is well.
        declared: samples that gateways dropped and declared.
    """

    seeds: int = 0
    samples: int = 0
    declared: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    recoveries_ns: list[int] = field(default_factory=list)
    violations: dict[int, list[str]] = field(default_factory=dict)

    def add(self, seed: int, history: History, found: Iterable[Violation]) -> None:
        self.seeds += 1
        self.samples += history.samples
        self.declared += sum(item.lost for items in history.held.values() for item in items)
        self.faults += history.faults
        self.recoveries_ns += history.recoveries_ns
        told = [str(one) for one in found]
        if told:
            self.violations[seed] = told

    def merge(self, other: Summary) -> None:
        """Adds what others have shown."""
        self.seeds += other.seeds
        self.samples += other.samples
        self.declared += other.declared
        self.faults += other.faults
        self.recoveries_ns += other.recoveries_ns
        self.violations |= other.violations

    def plain(self) -> dict[str, object]:
        """For JSON."""
        times = sorted(self.recoveries_ns)
        marks = {f"recovery_p{q}_s": round(times[len(times) * q // 100] / 1e9, 1) for q in (50, 95, 99) if times}
        return {
            "seeds": self.seeds,
            "samples": self.samples,
            "declared_lost": self.declared,
            "violations": {str(seed): told for seed, told in self.violations.items()},
            "faults": dict(sorted(self.faults.items())),
            **marks,
        }


def run_all(run: Callable[[int], History], seeds: Iterable[int]) -> Summary:
    """Runs each seed and judges it; one that breaks off is a violation of its own, one that hangs is named."""
    summary = Summary()
    for seed in seeds:
        with watched(seed):
            try:
                history = run(seed)
            except Exception as error:  # noqa: BLE001 - whatever it was, the other seeds are run, and it is told
                history = History(failures=[f"broke off: {error!r}"])
            summary.add(seed, history, check(history))
    return summary


@contextlib.contextmanager
def watched(seed: int) -> Iterator[None]:
    """Names a seed that has not ended after minutes, and where it stands; nothing else comes of it."""

    def tell() -> None:
        print(f"seed {seed} has not ended after {HANGS_S:g} s", file=sys.stderr, flush=True)  # noqa: T201
        faulthandler.dump_traceback(sys.__stderr__)

    timer = threading.Timer(HANGS_S, tell)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
