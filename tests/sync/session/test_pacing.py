"""Who may use the link and when: live items past a day of history, over a slow and lossy link in virtual time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.sync.session.slow_link import Live, Path, Plant, quantile
from twinmodel.clock import MILLISECOND_NS, SECOND_NS
from twinmodel.signal import Stream
from twinsync.item import Block, Gap, Item
from twinsync.session.messages import Items, Part
from twinsync.session.pacing import Lane, PaceLimits, Pacer
from twinsync.session.rate import DELAY_KEPT_NS, START_BYTES, LinkRate

HALF = (Live(Stream.STATE, 3600, SECOND_NS), Live(Stream.ALARM, 300, 3 * SECOND_NS))
"""Half of 64 kbit/s: states and watched signals each second, and an alarm now and then."""
DENSE = (
    Live(Stream.STATE, 2000, SECOND_NS),
    Live(Stream.TELEMETRY, 20_000, 10 * SECOND_NS),
    Live(Stream.ALARM, 300, 3 * SECOND_NS),
)
"""The same load with blocks of ten seconds, each of which would occupy the link for two and a half."""
DAY_S = 86_400
LIVE_BOOT, OLD_BOOT = b"l" * 16, b"o" * 16


def all_of(plant: Plant) -> list[float]:
    return [late for each in plant.late.values() for late in each]


def behind_a_day(seed: int, loads=HALF, seconds: float = 600, **options) -> Plant:
    """A slice of the time a backlog takes to drain; the pacer forgets within half a minute, so any slice will do.

    The backlog is as much as the whole time could carry, so that there is history in every moment of it.
    """
    backlog = int(8000 * max(seconds, 600))
    return Plant(seed, loads, backlog_bytes=backlog, **options).run(seconds)


@pytest.mark.parametrize("seed", [1, 2])
def test_live_items_pass_a_day_of_history_within_two_seconds_of_the_links_own_delay_and_history_gets_its_share(seed):
    plant = behind_a_day(seed)
    assert quantile(all_of(plant), 0.99) < 2.0
    assert quantile(plant.late[Stream.ALARM], 0.99) < 2.0
    # Half of the link is live; of the other half most arrives as history, the rest is frames and repetitions.
    assert plant.history / 600 > 0.3 * 8000
    assert quantile(plant.queued_ns, 0.99) < 1.0 * SECOND_NS


def test_large_live_blocks_go_in_parts_so_that_alarms_and_states_pass_them_and_history_costs_them_little():
    alone, behind = Plant(3, DENSE).run(600), behind_a_day(3, DENSE)
    assert quantile(all_of(behind), 0.99) < quantile(all_of(alone), 0.99) + 2.0
    assert quantile(behind.late[Stream.ALARM], 0.5) < 1.0


def test_whole_day_of_backlog_drains_beside_a_live_load_of_half_the_link(request, record_property):
    """With `--campaign` the whole day of backlog, else the hundredth part of it, to the last byte."""
    share = 1 if request.config.getoption("--campaign") else 100
    backlog = 4000 * DAY_S // share
    for seed in (4,) if share > 1 else (1, 2, 4):
        plant = Plant(seed, HALF, backlog_bytes=backlog).run(2.5 * DAY_S / share)
        late = all_of(plant)
        assert plant.history >= backlog * 0.99
        assert quantile(late, 0.99) < 2.0
        assert plant.repeated <= len(late) / 1000
        figures = {f"p{q}_s": round(quantile(late, q / 100), 2) for q in (50, 95, 99, 99.9)} | {"max_s": max(late)}
        record_property(f"seed_{seed}", {"live": len(late), "repeated": plant.repeated, **figures})


def test_without_a_pacer_the_first_credit_of_history_silences_the_gateway():
    with pytest.raises(AssertionError, match="fell silent"):
        behind_a_day(5, paced=False)


def test_live_load_beyond_the_link_leaves_history_its_share():
    plant = Plant(6, (Live(Stream.STATE, 9600, SECOND_NS),), backlog_bytes=4 << 20).run(600)
    assert 0.1 * 8000 < plant.history / 600 < 0.3 * 8000


@pytest.mark.parametrize(("bytes_per_s", "round_trip_ms"), [(10e6, 20), (1e5, 200)])
def test_paced_sender_fills_a_link_that_loses_nothing(bytes_per_s, round_trip_ms):
    path = Path(bytes_per_s, round_trip_ms * MILLISECOND_NS, 0.0)
    seconds = 40e6 / bytes_per_s if bytes_per_s > 1e6 else 60
    plant = Plant(7, HALF, path, backlog_bytes=int(bytes_per_s * seconds), block_bytes=40_000).run(seconds)
    assert plant.history / seconds > 0.8 * bytes_per_s


def item(number: int, size: int, boot: bytes = LIVE_BOOT, stream: Stream = Stream.TELEMETRY) -> Item:
    return Item(boot, stream, number, number, Block(b"s" * 32, 0, bytes(size), 0, 0))


def started() -> Pacer:
    pacer = Pacer(PaceLimits(chunk_bytes_min=1000))
    pacer.start(7, [OLD_BOOT, LIVE_BOOT], 0)
    return pacer


@given(st.lists(st.integers(1, 9000), min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_whatever_is_offered_leaves_once_whole_and_in_order_of_its_lane(sizes, random):
    pacer = started()
    numbers: dict = {}
    offered = []
    for size in sizes:
        key = (random.choice([OLD_BOOT, LIVE_BOOT]), random.choice(list(Stream)))
        numbers[key] = numbers.get(key, -1) + 1
        offered.append(item(numbers[key], size, *key))
    pacer.offer(offered)
    left, parts, sent = [], {}, 0
    while (message := pacer.next(0)) is not None:
        if isinstance(message, Items):
            left += message.items
        else:
            head = parts.setdefault(message.lane, [message.item, b""])
            if message.item is not None:
                parts[message.lane] = head = [message.item, b""]
            assert len(head[1]) == message.offset
            head[1] += message.piece
            if len(head[1]) == message.total:
                left.append(next(i for i in offered if (i.boot, i.stream, i.first_seq) == _name(head[0])))
                assert left[-1].content.payload == head[1]
        sent = pacer.rate._sent
        pacer.received(sent, 10**6)
    assert sorted(map(_name, left)) == sorted(map(_name, offered))
    for key in numbers:
        mine = [i.first_seq for i in left if (i.boot, i.stream) == key]
        assert mine == sorted(mine)


def _name(one: Item) -> tuple:
    return one.boot, one.stream, one.first_seq


def test_an_alarm_leaves_at_once_between_two_parts_of_a_block_and_while_the_link_is_full():
    pacer = started()
    pacer.offer([item(0, 100_000)])
    while isinstance(message := pacer.next(0), Part):
        last = message
    assert message is None
    assert last.offset + len(last.piece) < last.total
    pacer.offer([item(0, 100, LIVE_BOOT, Stream.ALARM)])
    assert pacer.next(0).items[0].stream is Stream.ALARM
    assert pacer.next(0) is None


def test_what_was_read_for_a_lane_that_went_back_is_forgotten_and_begins_anew():
    pacer = started()
    pacer.offer([item(0, 5000), item(0, 5000, OLD_BOOT)])
    assert pacer.next(0).offset == 0
    pacer.drop((LIVE_BOOT, Stream.TELEMETRY))
    assert pacer.next(0).item.boot == OLD_BOOT
    pacer.offer([item(0, 5000)])
    again = pacer.next(0)
    assert (again.item.boot, again.offset) == (LIVE_BOOT, 0)


def test_gaps_and_small_blocks_travel_together_up_to_a_chunk():
    pacer = started()
    pacer.offer([Item(LIVE_BOOT, Stream.STATE, n, n, Gap("TEST", 1, 0, 0)) for n in range(3)])
    assert [len(pacer.next(0).items) for _ in range(3)] == [1, 1, 1]
    pacer.offer([item(n, 100) for n in range(9)])
    assert len(pacer.next(0).items) == 4


def test_each_lane_is_read_with_all_others_hidden_until_it_is_dry():
    pacer = started()
    assert pacer.wanted()[0] is Lane.LIVE
    assert {mark.boot for mark in pacer.masks(Lane.LIVE)} == {OLD_BOOT}
    pacer.dried(Lane.LIVE)
    assert pacer.wanted()[0] is Lane.HISTORY
    assert {mark.boot for mark in pacer.masks(Lane.HISTORY)} == {LIVE_BOOT}
    pacer.dried(Lane.HISTORY)
    assert pacer.wanted() is None
    pacer.news()
    assert pacer.wanted()[0] is Lane.LIVE


def test_rate_and_delay_are_what_a_steady_link_has_and_a_burst_of_acknowledgements_inflates_them_by_less_than_two():
    rate, now_ns = LinkRate(), 0
    assert rate.window(0) == START_BYTES
    for n in range(1, 51):
        rate.sent(1000, now_ns, limited=False)
        now_ns += 100 * MILLISECOND_NS
        assert rate.received(n * 1000, now_ns)
    assert rate.bytes_per_s == pytest.approx(10_000)
    assert rate.delay_ns == 100 * MILLISECOND_NS
    for _ in range(10):
        rate.sent(1000, now_ns, limited=False)
        now_ns += 100 * MILLISECOND_NS
    for n in range(51, 61):
        rate.received(n * 1000, now_ns)
        rate.sent(1000, now_ns, limited=False)
    for n in range(61, 71):
        now_ns += 100 * MILLISECOND_NS
        rate.received(n * 1000, now_ns)
    assert rate.bytes_per_s < 20_000


def test_trickle_does_not_lower_the_rate_and_a_slower_link_is_seen_within_ten_seconds():
    rate, now_ns, total = LinkRate(), 0, 0
    for bytes_each, limited, count in ((1000, False, 20), (10, True, 200), (500, False, 130)):
        before = rate.bytes_per_s
        for _ in range(count):
            rate.sent(bytes_each, now_ns, limited=limited)
            now_ns += 100 * MILLISECOND_NS
            total += bytes_each
            rate.received(total, now_ns)
        assert rate.bytes_per_s >= before or not limited
    assert rate.bytes_per_s == pytest.approx(5000)


def test_longer_way_is_believed_after_the_shorter_one_was_not_seen_for_two_periods():
    rate, now_ns, total = LinkRate(), 0, 0
    for delay_ns in (MILLISECOND_NS, *[10 * MILLISECOND_NS] * 40):
        rate.sent(100, now_ns, limited=False)
        total += 100
        rate.received(total, now_ns + delay_ns)
        now_ns += SECOND_NS
    assert 40 * SECOND_NS > 2 * DELAY_KEPT_NS
    assert rate.delay_ns == 10 * MILLISECOND_NS


def test_counts_that_come_again_or_of_what_was_given_up_do_no_harm():
    rate = LinkRate()
    rate.sent(1000, 0, limited=False)
    assert rate.in_flight == 1000
    rate.forget_flight()
    assert rate.in_flight == 0
    assert rate.received(1000, 5)
    assert not rate.received(1000, 6)
    rate.sent(500, 7, limited=False)
    assert rate.in_flight == 500


def test_what_arrives_after_it_was_given_up_makes_the_link_seem_no_faster_and_no_shorter():
    rate, now_ns = LinkRate(), 0
    for n in range(1, 21):
        rate.sent(800, now_ns, limited=False)
        now_ns += 700 * MILLISECOND_NS
        rate.received(n * 800, now_ns)
    fast, short = rate.bytes_per_s, rate.delay_ns
    rate.sent(37_000, now_ns, limited=False)
    # The link stands still for longer than the session's patience; then all of it comes, and what is sent again.
    now_ns += 10 * SECOND_NS
    rate.forget_flight()
    for n in range(1, 38):
        rate.sent(1000, now_ns, limited=False)
        now_ns += MILLISECOND_NS
        rate.received(16_000 + n * 1000, now_ns)
    assert rate.in_flight == 37_000
    assert (rate.delay_ns, rate.bytes_per_s) == (short, fast)
