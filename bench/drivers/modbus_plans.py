"""Random devices with gaps, illegal registers, short reads and uncrossable places, and the fewest reads of each."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from twinedge.drivers.plan import Outcome, Planner, Read, Span

CYCLES = 5
SECOND_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Device:
    """What a device refuses.

    Attributes:
        illegal: registers it does not have.
        most: registers of its longest read.
        walls: registers that no read may reach from before.
        says: how it refuses a length.
    """

    illegal: frozenset[int]
    most: int
    walls: frozenset[int]
    says: Outcome

    def answer(self, read: Read) -> Outcome:
        """What becomes of a read."""
        if read.count > self.most:
            return self.says
        registers = range(read.start, read.start + read.count)
        if not self.illegal.isdisjoint(registers) or not self.walls.isdisjoint(registers[1:]):
            return Outcome.ILLEGAL
        return Outcome.ANSWERED


def cycle(planner: Planner, device: Device, now_ns: int) -> int:
    """One cycle; returns its requests."""
    asked = 0
    reads = planner.cycle(now_ns)
    read = next(reads, None)
    while read is not None:
        asked += 1
        try:
            read = reads.send(device.answer(read))
        except StopIteration:
            break
    return asked


def fewest(spans: Sequence[tuple[int, int]], device: Device, max_read: int, bridge: int) -> int:
    """The fewest reads that cover every span the device has, by dynamic programming over all runs of spans."""
    known = [s for s in spans if device.answer(Read("holding", *s, ())) is Outcome.ANSWERED]
    best = [0] + [len(known)] * len(known)
    for first in range(len(known)):
        for last in range(first, len(known)):
            run = known[first : last + 1]
            count = run[-1][0] + run[-1][1] - run[0][0]
            near = all(b[0] - (a[0] + a[1]) <= bridge for a, b in pairwise(run))
            if (
                count > max_read
                or not near
                or device.answer(Read("holding", run[0][0], count, ())) is not Outcome.ANSWERED
            ):
                break
            best[last + 1] = min(best[last + 1], best[first] + 1)
    return best[-1]


def random_case(rng: random.Random) -> tuple[list[tuple[int, int]], Device, int, int]:
    """Spans, a device, the profile's `max_read` and `bridge`."""
    spans, at = [], 0
    for _ in range(rng.randint(1, rng.choice([8, 60]))):
        at += rng.choice([0, 0, 0, 1, 2, 5])
        count = rng.choice([1, 1, 2, 2, 4])
        spans.append((at, count))
        at += count
    used = {x for start, count in spans for x in range(start, start + count)}
    share = rng.choice([0.0, 0.3, 1.0])
    illegal = {x for x in range(at) if x not in used and rng.random() < share}
    if rng.random() < 0.3:
        illegal.add(rng.choice(sorted(used)))
    share = rng.choice([0.0, 0.1])
    walls = frozenset(start for start, _ in spans if rng.random() < share)
    says = rng.choice([Outcome.TOO_LONG, Outcome.ILLEGAL])
    device = Device(frozenset(illegal), rng.choice([4, 7, 20, 60, 125]), walls, says)
    return spans, device, rng.choice([20, 125]), rng.choice([0, 2, 10])


def requests_vs_optimal(cases: int) -> float:
    """Requests of the fifth cycle over the fewest possible, summed over random devices."""
    rng = random.Random(1)  # not for secrets
    asked = optimal = 0
    for _ in range(cases):
        spans, device, max_read, bridge = random_case(rng)
        planner = Planner(
            [Span("holding", start, count, str(start)) for start, count in spans], max_read=max_read, bridge=bridge
        )
        counts = [cycle(planner, device, n * SECOND_NS + 1) for n in range(CYCLES)]
        asked += counts[-1]
        optimal += fewest(spans, device, max_read, bridge)
    return asked / optimal
