"""Messages between broker and spool: acknowledged after the commit, stored once, asked for before a window is full."""

from __future__ import annotations

from twinedge.drivers.inflight import (
    AGAIN_NS,
    BURST_NS,
    KNOWN_NS,
    PROBE_NS,
    URGENT_PENDING,
    WINDOW_MAX,
    InFlight,
    Window,
    message_key,
)


async def test_acknowledgement_follows_the_commit_and_never_crosses_connections():
    acked = []
    flight = InFlight()
    flight.connected(lambda mid, qos: acked.append(("first", mid)))
    one, two = flight.add("a", 1, 1), flight.add("b", 2, 1)
    flight.committed([one])
    assert acked == [("first", 1)]
    flight.disconnected()
    flight.committed([two])
    assert flight.pending == 0
    flight.connected(lambda mid, qos: acked.append(("second", mid)))
    assert flight.is_duplicate("b", 7, 1)
    assert acked == [("first", 1), ("second", 7)]
    assert not flight.is_duplicate("c", 8, 1)
    await flight.settled()


async def test_every_copy_of_a_message_under_way_is_acknowledged_after_its_one_commit():
    acked = []
    flight = InFlight()
    flight.connected(lambda mid, qos: acked.append(mid))
    entry = flight.add("a", 1, 1)
    assert flight.is_duplicate("a", 2, 1)
    assert acked == []
    flight.committed([entry])
    assert acked == [1, 2]
    assert flight.is_duplicate("a", 3, 1)
    assert acked == [1, 2, 3]


async def test_what_older_connections_are_owed_does_not_pile_up_while_a_disk_refuses():
    acked = []
    flight = InFlight()
    flight.connected(lambda mid, qos: acked.append(mid))
    entry = flight.add("a", 0, 1)
    for n in range(1, 1000):
        flight.disconnected()
        flight.connected(lambda mid, qos: acked.append(mid))
        assert flight.is_duplicate("a", n, 1)
    assert len(entry.owed) == 1
    flight.committed([entry])
    assert acked == [999]


async def test_memory_of_messages_is_bounded():
    flight = InFlight(memory_max=10)
    for n in range(100):
        flight.committed([flight.add(n, n, 1)])
    assert not flight.is_duplicate(0, 0, 1)
    assert flight.is_duplicate(99, 99, 1)


def test_equal_payloads_without_time_are_told_apart_by_their_id():
    assert message_key("t", b"1", 1, has_time=False) != message_key("t", b"1", 2, has_time=False)
    assert message_key("t", b"1", 1, has_time=True) == message_key("t", b"1", 2, has_time=True)


def broker_of(window, messages, *, spread_ns=0):
    """Plays a broker with a window against a store that commits only when told; returns early commits and the end."""
    learnt, now, sent, pending, commits = Window(), 0, 0, 0, 0
    while sent < messages:
        room = min(window - pending, messages - sent)
        for _ in range(room):
            now += spread_ns
            sent, pending = sent + 1, pending + 1
            learnt.arrived(1, pending, now)
            if pending >= learnt.urgent_at:
                break
        probe_ns = learnt.probe_at_ns(pending)
        if pending >= learnt.urgent_at:
            now += 1_000_000
        elif probe_ns is not None and pending == window:
            now = max(now, probe_ns)
            learnt.probe(pending)
        elif pending == window:
            return commits, False
        else:
            continue
        pending, commits = 0, commits + 1
        learnt.acknowledged(now)
    return commits, True


def test_window_smaller_than_ten_is_learnt_by_two_silences():
    for window in (1, 2, 3, 5, 9):
        commits, through = broker_of(window, 200)
        assert through, f"a window of {window} stood still"
        assert commits <= 200 // max(1, window // 2) + 4


def test_window_of_mosquitto_never_fills_and_large_windows_are_used():
    assert broker_of(20, 200) == (20, True)
    learnt = Window()
    learnt.arrived(1000, 1000, 0)
    assert learnt.urgent_at == WINDOW_MAX // 2


def test_slow_publisher_costs_an_early_commit_a_minute_at_most():
    learnt, now, probes, pending = Window(), 0, 0, 0
    for n in range(1000):
        now += 2 * PROBE_NS
        pending += 1
        learnt.arrived(1, pending, now)
        if learnt.probe_at_ns(pending) is not None:
            learnt.probe(pending)
            learnt.acknowledged(now + PROBE_NS)
            probes, pending = probes + 1, 0
        elif n % 7 == 6:
            pending = 0
    assert probes < URGENT_PENDING + 1000 * 2 * PROBE_NS / AGAIN_NS
    assert learnt.urgent_at == URGENT_PENDING


def test_window_learnt_by_chance_is_forgotten():
    learnt, now = Window(), 0
    for _ in range(2):
        learnt.arrived(1, 1, now)
        now = learnt.probe_at_ns(1)
        learnt.probe(1)
        learnt.acknowledged(now)
        now += BURST_NS // 2
        learnt.arrived(1, 1, now)
    assert learnt.urgent_at == 1
    learnt.arrived(1, 1, now + KNOWN_NS)
    assert learnt.urgent_at == URGENT_PENDING


def test_larger_window_after_a_small_one_is_noticed():
    learnt, now = Window(), 0
    for _ in range(2):
        learnt.arrived(2, 2, now)
        learnt.probe(2)
        learnt.acknowledged(now)
        learnt.arrived(2, 2, now)
    assert learnt.urgent_at == 1
    learnt.arrived(8, 8, now)
    assert learnt.urgent_at == URGENT_PENDING
