"""Which times of messages are believed: backlogs are, slow and fast clocks are not."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from tests.edge.drivers.test_mqtt_points import read, site  # noqa: F401 - `site` is a fixture
from twinedge.drivers.mqtt_feed import Now
from twinedge.drivers.source_clock import AHEAD_MAX_NS, MessageClock
from twinmodel.clock import BUILD_NS, SECOND_NS
from twinmodel.quality import GOOD, QualityReason, good, uncertain

S = SECOND_NS
WALL = BUILD_NS + 300 * 86_400 * S
HOUR = 3600 * S


def run(clock, lags_s, every_s=5):
    """Whether each of some messages is believed, given how far its time is behind."""
    return [
        clock.believes(WALL + k * every_s * S - round(lag * S), WALL + k * every_s * S, (100 + k * every_s) * S)
        for k, lag in enumerate(lags_s)
    ]


def test_a_time_ahead_is_wrong_by_itself_and_told_once():
    clock = MessageClock("d")
    with capture_logs() as logs:
        assert run(clock, [0, -5, -6, -7, 0]) == [True, True, False, False, True]
    assert [entry["event"] for entry in logs] == [
        "clock of the device is wrong, times of arrival are used",
        "clock of the device is believed again",
    ]
    assert clock.refused == 2


def test_nothing_is_judged_while_our_own_clock_was_never_set():
    clock = MessageClock("d")
    assert clock.believes(WALL, 20 * S, 0)
    assert clock.believes(5 * S, 20 * S, 0)


def test_a_clock_that_is_steadily_behind_is_slow_and_right_again_at_once():
    clock = MessageClock("d")
    believed = run(clock, [3600 + k % 3 for k in range(30)])
    assert believed[:10] == [True] * 10
    assert not believed[-1]
    assert clock.skew_ns == -HOUR
    assert clock.believes(WALL + 200 * S, WALL + 200 * S, 300 * S)
    assert clock.skew_ns is None


def test_messages_that_are_rare_or_cover_a_period_that_is_over_are_believed():
    assert all(run(MessageClock("d", 3 * HOUR), [3600] * 40, every_s=3600))


def test_a_slow_clock_of_less_than_the_limit_is_believed():
    assert all(run(MessageClock("d"), [59] * 40))


@given(st.lists(st.floats(0, 30), min_size=30, max_size=80), st.floats(600, 1e6), st.floats(1.5, 50))
def test_a_backlog_keeps_its_times_however_it_is_delivered(gaps_s, behind_s, speed):
    """Messages that were kept come faster than they were made; when the backlog is gone they come as they are made."""
    clock, now_s, made_s = MessageClock("d"), 1e7, 1e7 - behind_s
    for gap_s in gaps_s:
        now_s += gap_s
        made_s = min(made_s + gap_s * speed, now_s)
        assert clock.believes(BUILD_NS + round(made_s * S), BUILD_NS + round(now_s * S), round(now_s * S))


PROFILE = {"defaults": {"topic": "x", "time": "$.t"}, "points": {"a": {"at": "$.a"}}}


def test_an_mqtt_message_of_the_future_gets_the_time_of_its_arrival(site):  # noqa: F811 - the fixture
    routes, _ = site(d=("", PROFILE))
    now = Now(5 * S, WALL)
    ahead_ms = (WALL + AHEAD_MAX_NS) // 10**6
    assert read(routes, "x", {"t": ahead_ms, "a": 1}, now=now) == [(0, 1.0, GOOD, ahead_ms * 10**6)]
    assert read(routes, "x", {"t": ahead_ms + 1, "a": 2}, now=now) == [(0, 2.0, uncertain(QualityReason.CLOCK), WALL)]
    kept = read(routes, "x", {"t": ahead_ms + 1, "a": 2}, now=now, retained=True)
    assert kept == [(0, 2.0, uncertain(QualityReason.BACKFILLED), WALL)]


def test_an_mqtt_device_in_another_time_zone_gets_times_of_arrival(site):  # noqa: F811 - the fixture
    routes, _ = site(d=("", PROFILE))
    found = []
    for k in range(30):
        wall_ns = WALL + 5 * k * S
        found += read(routes, "x", {"t": (wall_ns - 5 * HOUR) // 10**6, "a": k}, now=Now((100 + 5 * k) * S, wall_ns))
    assert found[0][2:] == (GOOD, WALL - 5 * HOUR)
    assert found[-1][2:] == (uncertain(QualityReason.CLOCK), WALL + 145 * S)
    old = read(routes, "x", {"t": (WALL - HOUR) // 10**6, "a": 1}, now=Now(300 * S, WALL), retained=True)
    assert old[0][2:] == (good(QualityReason.BACKFILLED), WALL - HOUR)
