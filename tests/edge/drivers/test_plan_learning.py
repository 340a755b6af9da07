"""What refusals teach the plan: the fewest reads after a few cycles, and no refused read tried again."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from twinedge.drivers.plan import RARELY_NS, Outcome, Planner, Span

S = 1_000_000_000


class Device:
    """Refuses reads that touch what it does not have, are too long, or cross a wall; notes what it was asked."""

    def __init__(self, illegal=(), most=125, walls=(), says=Outcome.TOO_LONG):
        self.illegal, self.most, self.walls, self.says = set(illegal), most, set(walls), says
        self.asked = []

    def answer(self, start, count):
        if count > self.most:
            return self.says
        if self.illegal & set(range(start, start + count)) or self.walls & set(range(start + 1, start + count)):
            return Outcome.ILLEGAL
        return Outcome.ANSWERED

    def cycle(self, planner, now_ns=1):
        """The reads of one cycle, and the points that were answered."""
        self.asked, answered = [], set()
        reads = planner.cycle(now_ns)
        read = next(reads, None)
        while read is not None:
            self.asked.append((read.start, read.count))
            outcome = self.answer(read.start, read.count)
            if outcome is Outcome.ANSWERED:
                answered |= {s.point for s in read.spans}
            try:
                read = reads.send(outcome)
            except StopIteration:
                break
        return answered


def planner(spans, max_read=125, bridge=0, table="holding"):
    return Planner([Span(table, s, c, f"p{s}") for s, c in spans], max_read=max_read, bridge=bridge)


def fewest(spans, device, max_read, bridge):
    """The fewest reads of what the device has: brute force over all runs of spans, by dynamic programming."""
    known = [s for s in spans if device.answer(*s) is Outcome.ANSWERED]
    best = [0] + [len(known)] * len(known)
    for first in range(len(known)):
        for last in range(first, len(known)):
            run = known[first : last + 1]
            count = run[-1][0] + run[-1][1] - run[0][0]
            near = all(b[0] - (a[0] + a[1]) <= bridge for a, b in pairwise(run))
            if count > max_read or not near or device.answer(run[0][0], count) is not Outcome.ANSWERED:
                break
            best[last + 1] = min(best[last + 1], best[first] + 1)
    return best[-1]


def case(seed):
    rng = random.Random(seed)
    spans, at = [], 0
    for _ in range(rng.randint(1, rng.choice([8, 50]))):
        at += rng.choice([0, 0, 0, 1, 2, 5])
        spans.append((at, rng.choice([1, 1, 2, 2, 4])))
        at += spans[-1][1]
    used = {x for s, c in spans for x in range(s, s + c)}
    share = rng.choice([0, 0.3, 1])
    illegal = {x for x in range(at) if x not in used and rng.random() < share}
    illegal |= set(rng.sample(sorted(used), 1)) if rng.random() < 0.3 else set()
    share = rng.choice([0, 0.1])
    walls = {s for s, _ in spans if rng.random() < share}
    says = rng.choice([Outcome.TOO_LONG, Outcome.ILLEGAL])
    return (
        spans,
        Device(illegal, rng.choice([4, 7, 20, 60, 125]), walls, says),
        rng.choice([20, 125]),
        rng.choice([0, 2, 10]),
    )


@pytest.mark.parametrize("block", range(4))
def test_the_fifth_cycle_needs_at_most_a_twentieth_more_requests_than_the_optimum(block):
    asked = optimal = 0
    for seed in range(60 * block, 60 * block + 60):
        spans, device, max_read, bridge = case(seed)
        plan = planner(spans, max_read, bridge)
        for n in range(5):
            answered = device.cycle(plan, n * S)
            # From the first cycle on, every point the device has is read in every cycle.
            assert answered == {f"p{s}" for s, c in spans if device.answer(s, c) is Outcome.ANSWERED}, (seed, n)
        best = fewest(spans, device, max_read, bridge)
        assert len(device.asked) <= max(1.05 * best, best), (seed, device.asked, best)
        asked, optimal = asked + len(device.asked), optimal + best
    assert asked <= 1.05 * optimal


def test_one_illegal_gap_among_several_is_found_and_the_others_stay_bridged():
    device, plan = Device(illegal={7}), planner([(0, 2), (4, 2), (8, 2), (12, 2)], bridge=4)
    device.cycle(plan)
    device.cycle(plan)
    assert device.asked == [(0, 6), (8, 6)]
    device.cycle(plan)
    assert device.asked == [(0, 6), (8, 6)]


def test_a_point_that_is_illegal_alone_is_asked_rarely_and_its_neighbours_go_on():
    device, plan = Device(illegal={4}), planner([(0, 2), (2, 2), (4, 2), (6, 2)])
    assert device.cycle(plan, 1) == {"p0", "p2", "p6"}
    assert plan.refused == {"p4"}
    device.cycle(plan, 2)
    assert device.asked == [(0, 4), (6, 2)]
    device.cycle(plan, RARELY_NS + 1)
    assert device.asked == [(0, 4), (6, 2), (4, 2)]
    device.illegal = set()
    assert "p4" in device.cycle(plan, 2 * RARELY_NS + 1)
    device.cycle(plan, 2 * RARELY_NS + 2)
    assert device.asked == [(0, 8)]


def test_a_register_map_that_changes_is_learned_anew_in_one_cycle():
    device, plan = Device(), planner([(0, 2), (2, 2), (4, 2), (6, 2)])
    device.cycle(plan, 1)
    assert device.asked == [(0, 8)]
    device.illegal = {3}
    assert device.cycle(plan, 2) == {"p0", "p4", "p6"}
    device.cycle(plan, 3)
    assert device.asked == [(0, 2), (4, 4)]


@pytest.mark.parametrize("says", [Outcome.TOO_LONG, Outcome.ILLEGAL])
@pytest.mark.parametrize("most", [2, 9, 50, 99, 124])
def test_the_longest_read_of_a_device_is_learned_whatever_code_it_refuses_with(most, says):
    device, plan = Device(most=most, says=says), planner([(2 * n, 2) for n in range(100)])
    answered = [len(device.cycle(plan, n)) for n in range(5)]
    assert answered == [100] * 5
    assert len(device.asked) <= 1.05 * -(-200 // (most // 2 * 2))


def test_bits_have_a_longest_read_of_their_own():
    device, plan = Device(most=40), planner([(n, 1) for n in range(100)], table="coil")
    for n in range(5):
        device.cycle(plan, n)
    assert len(device.asked) == 3


def test_a_failure_that_says_nothing_about_the_map_changes_no_plan():
    plan = planner([(0, 2), (2, 2)])
    reads = plan.cycle(1)
    next(reads)
    with pytest.raises(StopIteration):
        reads.send(Outcome.FAILED)
    assert [(r.start, r.count) for r in plan.reads] == [(0, 4)]


def test_a_device_that_refuses_everything_is_not_asked_without_end():
    spans = [(n, 1) for n in range(200)]
    device, plan = Device(illegal=set(range(200))), planner(spans)
    for n in range(20):
        device.cycle(plan, n)
        assert len(device.asked) <= 420
    assert len(device.asked) <= 1
    assert len(plan.refused) == 200
