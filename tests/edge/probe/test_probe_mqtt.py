"""`twinedge probe mqtt` against mosquitto: refusals by name, topics, formats, profiles; nothing is left behind."""

from __future__ import annotations

import json

import aiomqtt
import pytest

from tests.edge.drivers.mosquitto import Broker
from tests.ports import free_port
from twinedge.config.broker import Login
from twinedge.probe import browsing
from twinedge.probe.mqtt import probe_mqtt
from twinedge.probe.mqtt_text import mqtt_text
from twinmodel.errors import UnreachableError

PUMP = {"t": 1_790_000_000_000, "n": 1, "flow": 1.0, "head": 2.0, "power": 3.0, "speed": 4.0, "running": True}


@pytest.fixture
def probe(clock):
    async def run(port, *, messages_max=5, filters=("#",), login=None, scheme="mqtt", for_s=30.0):
        return await probe_mqtt(
            f"{scheme}://127.0.0.1:{port}",
            login or Login(),
            list(filters),
            for_s,
            identifier="probe-1",
            clock=clock,
            profiles=None,
            messages_max=messages_max,
        )

    return run


@pytest.mark.service("mosquitto")
async def test_retained_topics_show_formats_values_and_the_profile_that_reads_them(probe, broker):
    await broker.publish("plants/P-1/telemetry", PUMP, retain=True)
    await broker.publish("plants/P-1/status", "online", retain=True)
    await broker.publish("other/temp", "21.5", retain=True)
    document, problem = await probe(broker.port, messages_max=3, filters=("plants/#", "other/#"))
    assert problem is None
    topics = {t["topic"]: t for t in document["topics"]}
    assert {t: d["payload"] for t, d in topics.items()} == {
        "plants/P-1/telemetry": "json",
        "plants/P-1/status": "text",
        "other/temp": "number",
    }
    assert all(t["retained"] == 1 for t in topics.values())
    (match,) = document["profiles"]
    assert (match["profile"], match["root"], match["sure"]) == ("hybridtwin/centrifugal-pump/1.0", "plants/P-1", True)
    text = mqtt_text(document)
    assert "$.flow" in text
    assert "retained" in text


@pytest.mark.service("mosquitto")
async def test_a_broker_that_wants_a_user_says_so_and_no_password_is_tried(probe, service_path, tmp_path):
    secured = await Broker(service_path("mosquitto"), tmp_path, "allow_anonymous false").start()
    try:
        document, problem = await probe(secured.port)
    finally:
        secured.stop()
    assert problem.reason == "DEVICE_REFUSED"
    assert "refuses anonymous clients" in problem.message
    assert "--user" in problem.hint
    assert document["steps"] == ["TCP connects"]


@pytest.mark.service("mosquitto")
async def test_a_plain_port_where_tls_is_expected_is_named(probe, broker):
    document, problem = await probe(broker.port, scheme="mqtts")
    assert problem.reason == "DEVICE_REFUSED"
    assert "no TLS" in problem.message
    assert document["steps"] == ["TCP connects"]


async def test_nobody_at_the_port_is_unreachable(probe):
    _, problem = await probe(free_port())
    assert isinstance(problem, UnreachableError)
    assert "nothing listens" in problem.message


@pytest.mark.service("mosquitto")
async def test_listening_ends_at_its_bound_of_messages(probe, broker):
    for n in range(6):
        await broker.publish(f"a/{n}", json.dumps({"v": n}), retain=True)
    document, problem = await probe(broker.port, messages_max=4, filters=("a/#",))
    assert problem is None
    assert document["messages"] >= 4
    assert document["ended"]


@pytest.mark.service("mosquitto")
async def test_a_device_of_site_yaml_is_browsed_below_its_root(broker, clock, tmp_path):
    await broker.publish("plants/P-1/telemetry", PUMP, retain=True)
    site = tmp_path / "site.yaml"
    device = f"mqtt: 'mqtt://127.0.0.1:{broker.port}', root: plants/P-1, profile: hybridtwin/centrifugal-pump"
    site.write_text(f"site: s\ndevices:\n  pump: {{{device}}}\n")
    document, root = await browsing.mqtt(
        "pump", Login(), path="", for_s=30.0, config=site, identifier="b", clock=clock, messages_max=1
    )
    assert root == "plants/P-1"
    assert [t["topic"] for t in document["topics"]] == ["plants/P-1/telemetry"]


@pytest.mark.service("mosquitto")
async def test_no_session_is_left_behind(probe, broker):
    await broker.publish("a", "1", retain=True)
    await probe(broker.port, messages_max=1, filters=("a",))
    async with aiomqtt.Client(
        "127.0.0.1", broker.port, identifier="probe-1", protocol=aiomqtt.ProtocolVersion.V5, clean_start=False
    ) as client:
        await broker.publish("a", "2")
        assert client.messages.qsize() == 0 if hasattr(client.messages, "qsize") else len(client.messages) == 0
