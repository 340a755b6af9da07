"""What a device's link says of holes: from where on nothing is known to have come."""

from __future__ import annotations

import pytest

from twinedge.drivers.link import DeviceLink
from twinmodel.clock import SECOND_NS, ManualClock

METER = {
    "protocol": "modbus",
    "base": 0,
    "points": {"power": {"at": "holding 0", "as": "int16", "unit": "W"}},
}


@pytest.fixture
def clock():
    return ManualClock(1_780_000_000 * SECOND_NS)


@pytest.fixture
def link(assign, clock):
    assignments, _ = assign(("meter", {"modbus": "tcp://127.0.0.1:502", "unit_id": 1}, METER))
    return DeviceLink(assignments[0], clock)


def test_a_hole_begins_where_everything_had_come_last_not_where_the_connection_began(link, clock):
    begun_ns = link.now_ns()
    link.answered()
    clock.advance(600 * SECOND_NS)
    link.whole(link.now_ns() - 10 * SECOND_NS)
    link.lost("DEVICE_UNREACHABLE", "gone")
    clock.advance(60 * SECOND_NS)
    hole = link.answered()
    assert (hole.from_ns - begun_ns, hole.to_ns - begun_ns) == (590 * SECOND_NS, 660 * SECOND_NS)


def test_a_clock_that_was_set_back_does_not_hide_what_is_lost_afterwards(link, clock):
    link.answered()
    clock.jump_wall(3600 * SECOND_NS)
    link.whole(link.now_ns())
    clock.jump_wall(-3600 * SECOND_NS)
    link.whole(link.now_ns() - SECOND_NS)
    clock.advance(5 * SECOND_NS)
    link.failed("DEVICE_UNREACHABLE", "no answer")
    hole = link.answered()
    assert hole.to_ns - hole.from_ns == 6 * SECOND_NS


def test_nothing_is_known_to_be_whole_while_a_hole_is_open_in_the_future_or_before_what_is_known(link, clock):
    begun_ns = link.now_ns()
    link.answered()
    link.whole(begun_ns - SECOND_NS)
    clock.advance(5 * SECOND_NS)
    link.failed("DEVICE_UNREACHABLE", "no answer")
    link.whole(link.now_ns())
    assert link.answered().from_ns == begun_ns
    link.whole(link.now_ns() + 3600 * SECOND_NS)
    clock.advance(SECOND_NS)
    link.failed("DEVICE_UNREACHABLE", "no answer")
    assert link.answered().from_ns == begun_ns + 5 * SECOND_NS
