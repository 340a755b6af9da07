"""The MQTT driver against mosquitto: nothing acknowledged before it is stored, nothing stored twice."""

from __future__ import annotations

import asyncio
import gc
import json
import socket

import aiomqtt
import pytest
import trustme

from tests.edge.drivers.mosquitto import PROFILE, T0, Broker, connected, levels, reading
from twinmodel.quality import GOOD, QualityReason, bad, uncertain

AWAY, DECODE, STALE = (bad(QualityReason[r]) for r in ("NOT_CONNECTED", "DECODE", "STALE"))
service = pytest.mark.service("mosquitto")


@service
async def test_payload_becomes_samples_with_its_own_time(make, sink, running, broker):
    async with running(make(broker.port), sink) as driver:
        await connected(driver)
        await broker.publish("plant/tank", reading(1), reading(2))
        await sink.until(lambda: len(sink.samples(0)) == 2)
    assert sink.samples(0) == [(0, 0.1, GOOD, (T0 + 1) * 10**6), (0, 0.2, GOOD, (T0 + 2) * 10**6)]
    assert [row[1] for row in sink.samples(1)] == [False, True]
    assert driver.health()[0].samples == 4


@service
async def test_messages_not_committed_come_again_after_a_kill_and_committed_ones_do_not(make, sink, running, broker):
    async with running(make(broker.port), sink) as driver:
        await connected(driver)
        await broker.publish("plant/tank", reading(1), reading(2))
        await sink.until(lambda: len(levels(sink)) == 2)
        for delivery in sink.deliveries:
            delivery.done()
        await broker.publish("plant/tank", reading(3), reading(4))
        await sink.until(lambda: len(levels(sink)) == 4)
    killed_at = len(sink.items)
    async with running(make(broker.port), sink):
        await sink.until(lambda: len(levels(sink, killed_at)) >= 2)
        await asyncio.sleep(0.2)
        assert levels(sink, killed_at) == [0.3, 0.4]
        for delivery in sink.deliveries[-2:]:
            delivery.done()
        await asyncio.sleep(0.1)
    again_at = len(sink.items)
    async with running(make(broker.port), sink) as driver:
        await connected(driver)
        await asyncio.sleep(0.3)
        assert levels(sink, again_at) == []


@service
async def test_messages_published_while_the_gateway_is_off_arrive_when_it_is_back(make, sink, running, broker):
    async with running(make(broker.port), sink) as driver:
        await connected(driver)
    await broker.publish("plant/tank", *(reading(n) for n in range(5)))
    async with running(make(broker.port), sink):
        await sink.until(lambda: len(levels(sink)) == 5)


@service
async def test_redelivery_after_a_lost_connection_is_stored_once_and_acknowledged_later(make, sink, running, broker):
    async with running(make(broker.port), sink) as driver:
        await connected(driver)
        await broker.publish("plant/tank", reading(1), reading(2))
        await sink.until(lambda: len(levels(sink)) == 2)
        early = list(sink.deliveries)
        await asyncio.sleep(1.2)  # mosquitto writes its sessions each second
        broker.stop()
        await sink.until(lambda: sink.samples(0)[-1][2] == AWAY)
        await broker.start()
        await broker.publish("plant/tank", reading(3))
        await sink.until(lambda: 0.3 in levels(sink))
        assert levels(sink) == [0.1, 0.2, 0.3]
        assert driver._in_flight.duplicates == 2
        for delivery in early + sink.deliveries:
            delivery.done()
        await asyncio.sleep(0.1)
        assert driver._in_flight.pending == 0
    assert sink.holes == [], "the broker kept the session, and sent what was published meanwhile"
    assert sum(row[2] == AWAY for row in sink.samples(0)) == 1


@service
async def test_a_broker_that_lost_the_session_leaves_a_declared_hole(make, sink, running, broker, tmp_path):
    async with running(make(broker.port), sink) as driver:
        await connected(driver)
        await broker.publish("plant/tank", reading(1))
        await sink.until(lambda: levels(sink))
        broker.stop(hard=True)
        (tmp_path / "mosquitto.db").unlink(missing_ok=True)
        await sink.until(lambda: sink.samples(0)[-1][2] == AWAY)
        await broker.start()
        await sink.until(lambda: sink.holes)
    assert sink.holes[0].reason == "DEVICE_UNREACHABLE"


@service
async def test_equal_payloads_that_lack_the_time_they_should_carry_are_all_stored(make, sink, running, broker):
    async with running(make(broker.port), sink) as driver:
        await connected(driver)
        await broker.publish("plant/tank", *[reading(1, t=None)] * 3)
        await sink.until(lambda: len(sink.samples(0)) == 3)
        assert driver._in_flight.duplicates == 0


@service
async def test_nobody_waits_for_the_commit_of_messages_that_come_at_most_once(make, sink, running, broker):
    async with running(make(broker.port), sink) as driver:
        await connected(driver)
        await broker.publish("plant/tank", reading(1), qos=0)
        await sink.until(lambda: levels(sink))
    assert next(d.on_committed for d in sink.deliveries if len(d)) is None


@service
async def test_message_a_publisher_sends_twice_is_stored_once_and_equal_values_are_not_duplicates(
    make, sink, running, broker
):
    profile = {"points": {"flow": {"at": "$", "topic": "raw"}, **PROFILE["points"]}, "defaults": PROFILE["defaults"]}
    async with running(make(broker.port, profile), sink) as driver:
        await connected(driver)
        await broker.publish("plant/tank", reading(1), reading(1), reading(2, level=0.1))
        await sink.until(lambda: len(sink.samples(1)) == 2)
        assert driver._in_flight.duplicates == 1
    assert [row[3] for row in sink.samples(1)] == [(T0 + 1) * 10**6, (T0 + 2) * 10**6]
    raw = {"points": {"flow": {"at": "$", "topic": "raw"}}}
    async with running(make(broker.port, raw, client_id="gateway-2"), sink) as driver:
        await connected(driver)
        await broker.publish("raw", "5", "5", "5")
        await sink.until(lambda: [r[1] for r in sink.samples(0)] == [5.0, 5.0, 5.0])


@service
async def test_in_flight_window_is_told_before_it_fills(make, sink, running, broker):
    async with running(make(broker.port), sink) as driver:
        await connected(driver)
        await broker.publish("plant/tank", *(reading(n) for n in range(60)))
        await sink.until(lambda: any(d.urgent for d in sink.deliveries))
        while len(levels(sink)) < 60:
            for delivery in sink.deliveries:
                delivery.done()
            await asyncio.sleep(0.01)
    assert levels(sink) == [n / 10 for n in range(60)]


@service
async def test_cancelled_driver_acknowledges_commits_under_way(make, sink, running, broker):
    driver = make(broker.port, linger_s=60.0)
    task = asyncio.create_task(driver.run(sink))
    await connected(driver)
    await broker.publish("plant/tank", reading(1))
    await sink.until(lambda: len(levels(sink)) == 1)
    task.cancel()
    await asyncio.sleep(0.05)
    assert not task.done()
    sink.deliveries[-1].done()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with running(make(broker.port), sink) as driver:
        await connected(driver)
        await asyncio.sleep(0.2)
        assert len(levels(sink)) == 1


@service
async def test_broken_payloads_are_bad_counted_and_acknowledged(make, sink, running, broker):
    broken = [b"\xff\xfe", b"{", b"[]", b"", b"9" * 5000, b"[" * 3000, b"x" * (10 << 20)]
    broken += [json.dumps(reading(1, level="high")), '{"t": 1, "level": 1e999}']
    async with running(make(broker.port), sink) as driver:
        await connected(driver)
        await broker.publish("plant/tank", *broken)
        await sink.until(lambda: len(sink.samples(0)) == len(broken))
        assert {row[2] for row in sink.samples(0)} == {DECODE}
        assert driver.health()[0].connected
        assert driver.health()[0].errors >= len(broken)
        for delivery in sink.deliveries:
            delivery.done()
        assert driver._in_flight.pending == 0
        await broker.publish("plant/tank", reading(7))
        await sink.until(lambda: levels(sink) == [0.7])


@service
async def test_payload_without_its_time_is_stamped_at_arrival_and_doubted(make, sink, running, broker, clock):
    async with running(make(broker.port), sink) as driver:
        await connected(driver)
        before = clock.wall_ns()
        await broker.publish("plant/tank", reading(1, t=None))
        await sink.until(lambda: sink.samples(0))
    _, value, quality, t_ns = sink.samples(0)[0]
    assert (value, quality) == (0.1, uncertain(QualityReason.CLOCK))
    assert 0 <= t_ns - before + 10**6 < 2 * 10**9


@service
async def test_raw_numbers_and_wildcard_topics_are_read(make, sink, running, broker):
    profile = {"points": {"flow": {"at": "$", "topic": "{root}/+/flow", "scale": 0.1}}}
    async with running(make(broker.port, profile), sink) as driver:
        await connected(driver)
        await broker.publish("plant/north/flow", "42")
        await broker.publish("plant/south/flow", "-1.5e1")
        await broker.publish("plant/flow", "1")
        await sink.until(lambda: len(sink.samples(0)) == 2)
        await asyncio.sleep(0.1)
    assert levels(sink) == [4.2, -1.5]


@service
async def test_silent_signal_is_stale_once_after_three_of_its_periods(make, sink, running, broker):
    profile = PROFILE | {"defaults": PROFILE["defaults"] | {"every": "100ms"}}
    async with running(make(broker.port, profile), sink) as driver:
        await connected(driver)
        await broker.publish("plant/tank", reading(1))
        await sink.until(lambda: sink.samples(0) and sink.samples(0)[-1][2] == STALE)
        await asyncio.sleep(0.5)
        assert [row[2] for row in sink.samples(0)][-2:] == [GOOD, STALE]
        await broker.publish("plant/tank", reading(2))
        await sink.until(lambda: len(levels(sink)) == 2)


@service
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # paho drops the socket of a failed
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # TLS handshake without closing it; Python closes it
async def test_mutual_tls_connects_and_a_foreign_authority_is_refused(make, sink, running, service_path, tmp_path):
    authority, foreign = trustme.CA(), trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    foreign.cert_pem.write_to_path(tmp_path / "foreign.pem")
    for name, issued in (("server", "127.0.0.1"), ("client", "gateway@plant.example")):
        leaf = authority.issue_cert(issued)
        leaf.private_key_pem.write_to_path(tmp_path / f"{name}.key")
        leaf.cert_chain_pems[0].write_to_path(tmp_path / f"{name}.pem")
    extra = (
        f"cafile {tmp_path}/ca.pem\ncertfile {tmp_path}/server.pem\nkeyfile {tmp_path}/server.key\n"
        "require_certificate true\nallow_anonymous true"
    )
    broker = await Broker(service_path("mosquitto"), tmp_path, extra).start()
    address = f"mqtts://127.0.0.1:{broker.port}"
    keys = {"certificate": "client.pem", "key": "client.key"}
    try:
        async with running(make(0, address=address, security={"ca": "ca.pem"} | keys), sink) as driver:
            await connected(driver)
        refused = make(0, address=address, security={"ca": "foreign.pem"} | keys)
        async with running(refused, sink) as driver:
            await sink.until(lambda: sink.samples(0))
            assert "certificate verify failed" in driver.health()[0].last_error.lower()
        gc.collect()
    finally:
        broker.stop()


async def test_broker_that_speaks_3_1_1_only_is_served(make, sink, running, monkeypatch):
    monkeypatch.setattr("twinedge.drivers.mqtt.TIMEOUT_S", 1.0)  # this broker lets an MQTT 5 handshake hang
    from amqtt.broker import Broker as OldBroker

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = {
        "listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{port}"}},
        "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
    }
    old = OldBroker(config)
    await old.start()
    try:
        async with running(make(port), sink) as driver:
            await connected(driver)
            async with aiomqtt.Client("127.0.0.1", port) as client:
                await client.publish("plant/tank", json.dumps(reading(1)), qos=1)
                await sink.until(lambda: levels(sink) == [0.1])
                sink.deliveries[-1].done()
    finally:
        await old.shutdown()


async def test_broker_that_is_not_there_is_told_once(make, sink, running):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    async with running(make(port), sink) as driver:
        await sink.until(lambda: sink.samples(0))
        await asyncio.sleep(0.8)
        assert [row[2] for row in sink.samples(0)] == [AWAY]
        assert not driver.health()[0].connected


async def test_a_broker_that_does_not_answer_in_time_gets_more_of_it_at_the_next_try(make):
    driver = make(1)
    waits = []
    for _ in range(5):
        waits.append((driver._patience_s(), driver._client().timeout))
        driver._backoff.delay_ns()
    assert waits == [(5.0, 5.0), (10.0, 10.0), (20.0, 20.0), (20.0, 20.0), (20.0, 20.0)]
    driver._backoff.progressed()
    assert driver._patience_s() == 5.0
