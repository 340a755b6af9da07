"""What MQTT messages become: captures, formats, lists, units, keys, retained messages, Last Wills and silence."""

from __future__ import annotations

import itertools
import json

import aiomqtt
import msgpack
import pytest

from tests.edge.drivers.mosquitto import T0, connected, levels
from tests.edge.drivers.sparkplug_node import Node
from twinedge.drivers.link import Columns, DeviceLink
from twinedge.drivers.mqtt_feed import Now
from twinedge.drivers.mqtt_routes import Routes
from twinmodel.quality import GOOD, QualityReason, bad, good, uncertain

DECODE, STALE = bad(QualityReason.DECODE), bad(QualityReason.STALE)
OLD, UNDATED = good(QualityReason.BACKFILLED), uncertain(QualityReason.BACKFILLED)
NOW = Now(10**9, (T0 + 10_000) * 10**6)
service = pytest.mark.service("mosquitto")


@pytest.fixture
def site(assign, clock):
    """Function: {device: (root, profile)} -> (routes, links)."""

    def build(**devices):
        entries = [(n, {"mqtt": "mqtt://h:1", "root": root}, profile) for n, (root, profile) in devices.items()]
        links = [DeviceLink(a, clock) for a in assign(*entries)[0]]
        return Routes(links), links

    return build


def read(routes, topic, payload, *, retained=False, now=NOW):
    """(signal, value, quality, t_ns) of one message."""
    columns = Columns()
    raw = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    for feed in routes.feeds(topic):
        opened = feed.open(raw, len(raw))
        feed.read(opened, feed.time_ns(opened), now, columns, retained=retained)
    rows = []
    for batch in columns.batches():
        columns_ = (batch.signal, batch.value, batch.quality, batch.t_ns)
        rows += zip(*(c.tolist() for c in columns_), strict=True)
    return sorted(rows, key=lambda r: r[0])


def values(rows):
    return {row[0]: row[1] for row in rows if row[2] == GOOD}


def test_captures_choose_device_and_point(site):
    profile = {
        "defaults": {"topic": "plant/{line}/{device}/{point}/value", "payload": "raw"},
        "points": {"flow": {"at": "$"}, "head": {"at": "$", "where": {"line": "L4"}}},
    }
    routes, _ = site(p1=("", profile), p2=("", profile))
    assert [f for f, _ in routes.filters()] == [
        "plant/+/p1/flow/value",
        "plant/+/p2/flow/value",
        "plant/L4/p1/head/value",
        "plant/L4/p2/head/value",
    ]
    assert values(read(routes, "plant/L9/p2/flow/value", b"5")) == {2: 5.0}
    assert values(read(routes, "plant/L4/p1/head/value", b"6")) == {1: 6.0}
    assert read(routes, "plant/L9/p1/head/value", b"6") == []


def test_filters_that_a_wider_one_covers_are_not_subscribed_twice(site):
    points = {"a": {"at": "$.v", "topic": "x/#", "qos": 0}, "b": {"at": "$.v", "topic": "x/+/y"}}
    routes, _ = site(
        d=("", {"points": points | {"c": {"at": "$.v", "topic": "x/1/y"}, "d": {"at": "$", "topic": "z"}}})
    )
    assert routes.filters() == [("x/#", 1), ("z", 1)]
    assert set(values(read(routes, "x/1/y", {"v": 2.0}))) == {0, 1, 2}


def test_flood_of_new_topics_is_remembered_in_bounds(site):
    routes, _ = site(d=("", {"points": {"a": {"at": "$.v", "topic": "x/#"}}}))
    for n in range(10_000):
        assert len(routes.feeds(f"x/{n}")) == 1
    assert len(routes._known) <= 4096


@pytest.mark.parametrize(
    ("name", "payload"),
    [
        ("cbor", bytes.fromhex("a26174") + b"\x1b" + T0.to_bytes(8, "big") + bytes.fromhex("6176f93e00")),
        ("msgpack", msgpack.packb({"t": T0, "v": 1.5})),
        ("json", json.dumps({"t": T0, "v": 1.5}).encode()),
    ],
)
def test_every_format_gives_value_and_time(site, name, payload):
    routes, _ = site(
        d=("", {"defaults": {"topic": "x", "payload": name, "time": "$.t"}, "points": {"v": {"at": "$.v"}}})
    )
    assert read(routes, "x", payload) == [(0, 1.5, GOOD, T0 * 10**6)]


def test_formats_differ_by_point_on_one_topic_filter(site):
    points = {
        "a": {"at": "$.v", "topic": "x/json"},
        "b": {"at": "$", "topic": "x/raw", "payload": "raw", "as": "string(8)"},
    }
    routes, _ = site(d=("", {"points": points}))
    assert values(read(routes, "x/json", {"v": 1.0}) + read(routes, "x/raw", b"007")) == {0: 1.0, 1: "007"}


def test_lists_carry_many_samples_with_a_time_each(site):
    profile = {"defaults": {"topic": "x", "each": "$.s", "time": "$.t"}, "points": {"v": {"at": "$.v"}}}
    routes, links = site(d=("", profile))
    rows = read(routes, "x", {"s": [{"t": T0 + n, "v": n} for n in range(3)]})
    assert rows == [(0, float(n), GOOD, (T0 + n) * 10**6) for n in range(3)]
    assert read(routes, "x", {"s": []}) == []
    assert [row[2] for row in read(routes, "x", {"s": 7})] == [DECODE]
    assert [row[2] for row in read(routes, "x", {"s": [0] * 10_001})] == [DECODE]
    assert "LIMIT_EXCEEDED" in links[0].last_error


def test_lists_share_a_time_or_count_from_it(site):
    spaced = {"defaults": {"topic": "x", "each": "$.s", "time": "$.t", "spacing": "10ms"}, "points": {"v": {"at": "$"}}}
    shared = {"defaults": {"topic": "y", "each": "$.s", "time": "$$.t"}, "points": {"v": {"at": "$[1]"}}}
    routes, _ = site(a=("", spaced), b=("", shared))
    assert [row[3] for row in read(routes, "x", {"t": T0, "s": [1, 2, 3]})] == [(T0 + n) * 10**6 for n in (0, 10, 20)]
    assert read(routes, "y", {"t": T0, "s": [["a", 1], ["b", 2]]}) == [(1, float(n), GOOD, T0 * 10**6) for n in (1, 2)]


def test_unit_in_the_payload_converts_and_a_foreign_one_is_refused(site):
    profile = {"defaults": {"topic": "x", "unit_at": "$.u"}, "points": {"v": {"at": "$.v", "unit": "m3/h"}}}
    routes, links = site(d=("", profile))
    assert read(routes, "x", {"v": 1, "u": "L/s"})[0][1] == pytest.approx(3.6)
    assert read(routes, "x", {"v": 1, "u": "bar"})[0][2] == DECODE
    assert "UNIT_CLASH" in links[0].last_error


def test_optional_point_that_is_left_out_says_nothing(site):
    profile = {"defaults": {"topic": "x", "optional": True}, "points": {"a": {"at": "$.a"}, "b": {"at": "$.b"}}}
    routes, links = site(d=("", profile))
    assert values(read(routes, "x", {"b": 2})) == {1: 2.0}
    assert links[0].errors == 0


def test_clock_of_1970_in_the_payload_is_stamped_at_arrival_and_doubted(site):
    profile = {"defaults": {"topic": "x", "time": "$.t"}, "points": {"a": {"at": "$.a"}}}
    routes, _ = site(d=("", profile))
    assert read(routes, "x", {"t": 3_600_000, "a": 1}) == [(0, 1.0, uncertain(QualityReason.CLOCK), NOW.wall_ns)]


def test_retained_message_is_old_and_no_sign_of_life(site):
    dated = {"defaults": {"topic": "x", "time": "$.t", "expect_every": "1s"}, "points": {"a": {"at": "$.a"}}}
    routes, _ = site(d=("", dated), e=("", {"points": {"a": {"at": "$", "topic": "y"}}}))
    assert read(routes, "x", {"t": T0, "a": 1}, retained=True) == [(0, 1.0, OLD, T0 * 10**6)]
    assert read(routes, "y", 5, retained=True) == [(1, 5.0, UNDATED, NOW.wall_ns)]
    assert [w.heard_ns for w in routes.watches] == [0, 0]


def test_presence_silences_all_of_a_device_once_and_ignores_other_words(site):
    said = {"topic": "{root}/status", "at": "$.state", "offline": "away"}
    profile = {
        "availability": said,
        "points": {"a": {"at": "$.a", "topic": "{root}/a"}, "b": {"at": "$.b", "topic": "x"}},
    }
    routes, links = site(d=("plant", profile))
    (presence,) = routes.presences("plant/status")
    assert [s.id for s in presence.heard(b'{"state": "away"}')] == [0, 1]
    assert presence.heard(b'{"state": "away"}') == []
    read(routes, "plant/a", {"a": 1})
    assert [s.id for s in presence.heard(b'{"state": "away"}')] == [0], "it spoke since, so its silence is news"
    before = links[0].errors
    for odd in (b'{"state": "asleep"}', b"\xff", b"", b"[]", b"[" * 10_000):
        assert presence.heard(odd) == []
    assert links[0].errors == before + 5


@service
async def test_last_will_makes_a_device_stale_at_once(make, sink, running, broker):
    profile = {
        "availability": {"topic": "{root}/status"},
        "defaults": {"topic": "{root}/tank"},
        "points": {"level": {"at": "$.level"}},
    }
    async with running(make(broker.port, profile), sink) as driver:
        await connected(driver)
        await broker.publish("plant/tank", {"level": 1.5})
        await broker.publish("plant/status", "online", retain=True)
        await sink.until(lambda: levels(sink) == [1.5])
        await broker.publish("plant/status", "offline", retain=True)
        await sink.until(lambda: sink.samples(0)[-1][2] == STALE)
        await broker.publish("plant/tank", {"level": 1.5})
        await sink.until(lambda: levels(sink) == [1.5, 1.5])
        assert driver.health()[0].connected


@service
async def test_retained_message_is_stored_once_over_reconnects(make, sink, running, broker):
    profile = {"defaults": {"topic": "plant/a"}, "points": {"level": {"at": "$"}}}
    await broker.publish("plant/a", "5", retain=True)
    async with running(make(broker.port, profile), sink) as driver:
        await sink.until(lambda: any(row[2] == UNDATED for row in sink.samples(0)))
        broker.stop()
        await sink.until(lambda: not driver.health()[0].connected)
        await broker.start()
        await connected(driver)  # what is retained is shown again before the next message comes
        await broker.publish("plant/a", "6")
        await sink.until(lambda: 6.0 in levels(sink))
    assert [row[1] for row in sink.samples(0) if row[2] in {UNDATED, GOOD}] == [5.0, 6.0]


@service
async def test_signal_that_misses_its_expected_message_is_stale(make, sink, running, broker):
    profile = {"defaults": {"topic": "plant/a", "expect_every": "150ms"}, "points": {"level": {"at": "$"}}}
    async with running(make(broker.port, profile), sink) as driver:
        await connected(driver)
        await broker.publish("plant/a", "5")
        await sink.until(lambda: levels(sink) and sink.samples(0)[-1][2] == STALE)
        await broker.publish("plant/a", "6")
        await sink.until(lambda: 6.0 in levels(sink) and sink.samples(0)[-1][2] == STALE)
    good_or_stale = [row[2] for row in sink.samples(0)]
    assert (STALE, STALE) not in itertools.pairwise(good_or_stale), "each silence is said once"


@service
async def test_messages_with_a_key_are_stored_once_even_without_a_time(make, sink, running, broker):
    profile = {"defaults": {"topic": "plant/a", "key": "$.n"}, "points": {"level": {"at": "$.v"}}}
    async with running(make(broker.port, profile), sink) as driver:
        await connected(driver)
        await broker.publish("plant/a", {"n": 1, "v": 5}, {"n": 1, "v": 5.0}, {"n": 2, "v": 5})
        await broker.publish("plant/a", {"n": 2, "v": 5}, {"n": 3, "v": 6}, qos=0)
        await sink.until(lambda: 6.0 in levels(sink))
    assert levels(sink) == [5.0, 5.0, 6.0]


@service
async def test_sparkplug_node_is_asked_for_its_birth_and_followed_to_its_death(make, sink, running, broker):
    node = Node({"": [("Level", "Double", 1.5, 1)]})
    profile = {"defaults": {"payload": "sparkplug"}, "points": {"level": {"at": "Level"}}}
    driver = make(broker.port, profile, root="G/N", address={"url": f"mqtt://127.0.0.1:{broker.port}", "version": 5})
    async with aiomqtt.Client("127.0.0.1", broker.port) as client:
        await client.subscribe("spBv1.0/G/NCMD/#")
        async with running(driver, sink):
            asked = await anext(aiter(client.messages))
            assert str(asked.topic) == "spBv1.0/G/NCMD/N"
            for topic, payload in [*node.births(), node.data({"alias": 1, "datatype": "Double", "value": 2.5})]:
                await client.publish(topic, payload)
            await sink.until(lambda: levels(sink) == [1.5, 2.5])
            await client.publish(*node.ndeath(), qos=1)
            await sink.until(lambda: sink.samples(0)[-1][2] == STALE)
