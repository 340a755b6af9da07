"""Messages and Sparkplug nodes made from profiles: the agent's parsers read them, brokers and faults in between."""

import asyncio
import json
from pathlib import Path

import aiomqtt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.edge.drivers.sparkplug_node import add
from twinedge.drivers.payload import parser
from twinedge.drivers.sparkplug_metric import raw_value, read_payload
from twinmodel.errors import InputError
from twinmodel.profile.schema import FirmwareProfile
from twinsim.image.device import ProfileDevice
from twinsim.image.payloads import ENCODERS, Messages, cbor, put
from twinsim.image.source import Source, find_source
from twinsim.image.sparkplug import Node
from twinsim.image.typed import TypedImage
from twinsim.serve.mqtt_profile import serve_messages
from twinsync.v1.sparkplug_pb2 import SparkplugPayload

T0_NS = 1_700_000_000_000_000_000
PUMP = find_source("hybridtwin/centrifugal-pump")
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
)


def made(defaults, points, **keys):
    content = {"profile": "test/device", "protocol": "mqtt", "defaults": defaults, "points": points} | keys
    return Source(FirmwareProfile.model_validate(content), Path("test/device/1.yaml"))


@given(VALUES)
def test_the_agent_reads_every_format_as_it_was_written(content):
    for name in ("cbor", "msgpack"):
        assert parser(name)(ENCODERS[name](content)) == content
    assert json.loads(ENCODERS["json"](content)) == content


def test_points_share_messages_as_the_profile_has_them():
    defaults = {"topic": "{root}/{line}/out", "time": "$.t", "key": "$.n", "payload": "cbor"}
    points = {
        "flow": {"at": "$.tanks[1].flow", "unit": "l/s"},
        "valve": {"at": "$.valve", "as": "bool"},
        "lone": {"at": "$", "topic": "{root}/{point}", "payload": "raw", "time": None, "key": None},
    }
    source = made(defaults, points)
    source.profile.points["lone"].__dict__.update(time=None)
    profile = source.profile.model_copy(update={"defaults": source.profile.defaults})
    image = TypedImage(profile, "seed")
    first = Messages(profile, "plant", "d-1").make(image, T0_NS, 5)[0]
    assert first.topic == "plant/x/out"
    content = parser("cbor")(first.payload)
    assert content["tanks"][1]["flow"] == image.value("flow")
    assert (content["t"], content["n"]) == (T0_NS // 10**6, 5)


def test_a_list_of_samples_has_a_time_for_each():
    source = made({"topic": "{root}/b", "each": "$.s", "time": "$.t", "time_unit": "iso8601"}, {"x": {"at": "$.v"}})
    (message,) = Messages(source.profile, "r", "d").make(TypedImage(source.profile, "s"), T0_NS, 1)
    samples = json.loads(message.payload)["s"]
    assert [s["t"][:22] for s in samples[:2]] == ["2023-11-14T22:13:19.33", "2023-11-14T22:13:19.66"]
    assert samples[-1]["t"].startswith("2023-11-14T22:13:20")
    spaced = made({"topic": "b", "each": "$.s", "time": "$.t", "spacing": "100ms"}, {"x": {"at": "$.v"}})
    (message,) = Messages(spaced.profile, "r", "d").make(TypedImage(spaced.profile, "s"), T0_NS, 1)
    content = json.loads(message.payload)
    assert content["t"] == T0_NS // 10**6 - 200
    assert all(set(s) == {"v"} for s in content["s"])


def test_two_points_of_one_raw_payload_cannot_be_simulated():
    source = made({"topic": "t", "payload": "raw"}, {"a": {"at": "$"}, "b": {"at": "$"}})
    with pytest.raises(InputError, match="cannot be simulated: b"):
        Messages(source.profile, "r", "d")


def test_put_makes_what_is_missing_and_cbor_refuses_what_it_has_not():
    assert put({}, ("a", 2, "b"), 1) == {"a": [None, None, {"b": 1}]}
    with pytest.raises(TypeError):
        cbor(object())


# ---- Sparkplug ---------------------------------------------------------------------------------------------------

METRICS = {
    "level": {"at": "Tank/Level", "as": "float32"},
    "cold": {"at": "Cold", "as": "int16", "range": [-40, -5]},
    "count": {"at": "Count", "as": "uint64", "class": "counter"},
    "on": {"at": "On", "as": "bool", "write": {}},
    "label": {"at": "Label", "as": "string"},
}


def test_births_name_everything_and_data_goes_by_alias_with_counted_numbers():
    source = made({"payload": "sparkplug"}, METRICS)
    image, node = TypedImage(source.profile, "s"), Node(source.profile, "n")
    node.begin()
    birth = read_payload(node.birth(image, T0_NS), 100)
    named = {m.name.decode(): m for m in birth.metrics}
    assert set(named) == {"bdSeq", "Node Control/Rebirth", "Tank/Level", "Cold", "Count", "On", "Label"}
    assert raw_value(named["Cold"], 2) == image.value("cold") < 0
    assert (birth.seq, named["bdSeq"].long_value) == (0, 0)
    aliases = {m.alias: n for n, m in named.items() if m.HasField("alias")}
    for i in range(300):
        image.refresh(10.0 * (i + 1))
        raw, points = node.data(image, T0_NS)
        data = read_payload(raw, 100)
        assert data.seq == (i + 1) % 256
        assert {"level", "count"} <= set(points)
        assert all(not m.name and m.alias in aliases for m in data.metrics)
    assert node.begin() == node.death()
    assert raw_value(read_payload(node.death(), 9).metrics[0], 4) == 1


def test_commands_write_metrics_and_ask_for_a_birth():
    source = made({"payload": "sparkplug"}, METRICS)
    node, wrote = Node(source.profile, "n"), []
    payload = SparkplugPayload()
    add(payload, "Node Control/Rebirth", "Boolean", True)
    add(payload, "On", "Boolean", True)
    add(payload, "Unknown", "Boolean", True)
    assert node.command(payload.SerializeToString(), lambda *w: wrote.append(w))
    assert wrote == [("on", True)]


def test_a_type_sparkplug_has_not_is_named_with_its_point():
    source = made({"payload": "sparkplug"}, {"x": {"at": "X", "as": "bcd16"}})
    with pytest.raises(InputError, match="cannot be simulated: x"):
        Node(source.profile, "n")


# ---- on a broker -------------------------------------------------------------------------------------------------


class Heard:
    """Everything on a broker, until the condition holds."""

    def __init__(self, url):
        self.client = aiomqtt.Client("127.0.0.1", int(url.rpartition(":")[2]))
        self.got = []

    async def until(self, condition):
        async with asyncio.timeout(60):
            async for message in self.client.messages:
                self.got.append((str(message.topic), bytes(message.payload), message.retain))
                if condition(*self.got[-1]):
                    return self.got[-1]
        raise AssertionError("the broker ended")


@pytest.mark.service("mosquitto")
async def test_messages_misbehave_as_told_and_a_death_speaks_by_the_will(tmp_path, log, clock):
    device = ProfileDevice("p-1", 1, PUMP, 1, {"flow": "12.5"})
    device.tick(1.0, clock.wall_ns())
    async with serve_messages([device], log, state=tmp_path) as fleet:
        heard = Heard(device.address)
        async with heard.client:
            await heard.client.subscribe("#", qos=1)

            async def said(kind, **options):
                device.faults.clear()
                device.inject(kind, **options)
                device.tick(1.0, clock.wall_ns())
                await fleet.publish(device)

            await fleet.publish(device)
            _, payload, _ = await heard.until(lambda t, *_: t == "twinsim/p-1/telemetry")
            assert json.loads(payload)["flow"] == 12.5
            await said("bad_utf8")
            assert b"\xff\xfe" in (await heard.until(lambda t, *_: t.endswith("telemetry")))[1]
            await said("huge", size=100_000)
            await heard.until(lambda _t, p, _r: len(p) >= 100_000)
            await said("flood", size=50)
            for _ in range(51):
                await heard.until(lambda t, *_: t.endswith("telemetry"))
            await said("old_clock", size=100)
            _, payload, _ = await heard.until(lambda t, *_: t.endswith("telemetry"))
            assert json.loads(payload)["t"] == device.t_ns // 10**6 - 100_000
            if device.source.profile.availability is not None:
                await said("death")
                await heard.until(lambda _t, p, _r: p == b"offline")


@pytest.mark.service("mosquitto")
async def test_a_node_is_born_anew_on_command_and_dies_by_its_will(tmp_path, log, clock):
    device = ProfileDevice("n-1", 1, made({"payload": "sparkplug"}, METRICS), 1)
    device.tick(1.0, clock.wall_ns())
    async with serve_messages([device], log, state=tmp_path) as fleet:
        heard = Heard(device.address)
        async with heard.client:
            await heard.client.subscribe("spBv1.0/#", qos=1)
            command = SparkplugPayload()
            add(command, "Node Control/Rebirth", "Boolean", True)
            await heard.client.publish("spBv1.0/twinsim/NCMD/n-1", command.SerializeToString(), qos=1)
            await heard.until(lambda t, *_: t == "spBv1.0/twinsim/NBIRTH/n-1")
            device.tick(5.0, clock.wall_ns())
            await fleet.publish(device)
            await heard.until(lambda t, *_: "NDATA" in t)
            device.inject("death")
            await fleet.publish(device)
            await heard.until(lambda t, *_: "NDEATH" in t)


@pytest.mark.service("mosquitto")
async def test_a_broker_goes_away_and_comes_back_at_the_same_place(tmp_path, log, clock):
    device = ProfileDevice("p-1", 1, PUMP, 1)
    device.tick(1.0, clock.wall_ns())
    async with serve_messages([device], log, state=tmp_path) as fleet:
        device.inject("broker_loss", size=2.0)
        await fleet.after_tick()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", int(device.address.rpartition(":")[2]))
        device.tick(2.0, clock.wall_ns())
        await fleet.after_tick()
        _, writer = await asyncio.open_connection("127.0.0.1", int(device.address.rpartition(":")[2]))
        writer.close()
