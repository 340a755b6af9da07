"""Both machines against each other: whatever the link does, each number arrives exactly once and in order."""

from __future__ import annotations

from collections import defaultdict

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.sync.session.world import World
from twinmodel.clock import SECOND_NS


def check(world: World) -> None:
    history = world.database.history
    assert len(history) == len(set(history)), "a number twice"
    lanes = defaultdict(list)
    for boot, stream, number in history:
        lanes[boot, stream].append(number)
    for key, count in world.disk.next_seq.items():
        assert lanes[key] == list(range(count)), "lost or out of order"
    assert not world.disk.waiting(), "not drained"


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32))
def test_everything_arrives_once_and_in_order_over_a_bad_link_and_restarts(seed):
    world = World(seed)
    world.run()
    check(world)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32))
def test_a_coordinator_restored_from_a_backup_gets_the_tail_again(seed):
    world = World(seed, restores=True)
    world.run()
    check(world)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32))
def test_without_faults_one_session_does_it(seed):
    world = World(seed, faults=False)
    world.run()
    check(world)
    assert world.sessions == 1
    assert not world.rejects


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32))
def test_a_cut_of_thirty_seconds_heals_within_the_longest_wait_and_loses_nothing(seed):
    world = World(seed, faults=False)
    healed_ns = 40 * SECOND_NS
    found = []

    def cut():
        world.closed_until_ns = healed_ns
        world.hang_up()

    def look():
        if world.sessions == 2:
            found.append(world.now_ns)
        else:
            world.at(SECOND_NS // 10, look)

    world.at(10 * SECOND_NS, cut)
    world.at(healed_ns, look)
    world.run()
    check(world)
    assert found[0] - healed_ns <= 21 * SECOND_NS
