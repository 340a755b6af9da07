"""OPC UA devices made from profiles: nodes, units, statuses, clocks, renumbering; recorded sessions played again."""

import asyncio
from pathlib import Path

import pytest
from asyncua import Client, ua

from twinmodel.errors import InputError
from twinmodel.profile.schema import FirmwareProfile
from twinsim.image.device import ProfileDevice
from twinsim.image.source import Source
from twinsim.recording.command import record, replay
from twinsim.recording.file import read_recording
from twinsim.serve.opcua_profile import serve_nodes, variant_type

T0_NS = 1_700_000_000_000_000_000
URI, OTHER = "urn:test:press", "urn:test:other"
POINTS = {
    "flow": {"at": "Pump/Flow", "as": "float32", "unit": "m3/h", "range": [0, 50]},
    "count": {"at": f"nsu={OTHER};Count", "as": "uint32", "class": "counter"},
    "name": {"at": "s=Press.Name", "as": "string"},
    "first": {"at": "Levels[0]", "as": "float64"},
    "third": {"at": "Levels[2]", "as": "float64"},
    "target": {"at": "Target", "as": "float64", "range": [0, 10], "write": {"range": [2, 8]}},
}


@pytest.fixture(scope="module")
def state(tmp_path_factory):
    """One directory for all servers: a key takes longer to make than all the rest."""
    return tmp_path_factory.mktemp("opcua")


def press(number=1, **texts):
    identify = {"at": "Model", "match": "PRESS*", "firmware": {"at": "ns=0;i=2264"}}
    content = {"profile": "test/press", "protocol": "opcua", "namespace": URI, "points": POINTS, "identify": identify}
    content["firmware"] = "2.*"
    source = Source(FirmwareProfile.model_validate(content), Path("test/press/1.yaml"))
    made = ProfileDevice(f"PRESS-{number}", number, source, 1, texts)
    made.tick(1.0, T0_NS)
    return made


async def node(client, *path):
    index = await client.get_namespace_index(URI)
    other = await client.get_namespace_index(OTHER)
    names = [f"{other if name == 'Count' else index}:{name}" for name in path]
    return await client.nodes.objects.get_child([f"{index}:PRESS-1", *names])


async def test_nodes_are_where_the_profile_has_them_and_misbehave_as_told(state, log, system_clock):
    device = press(flow="12.5")
    async with serve_nodes([device], log, system_clock, state=state) as fleet:
        async with Client(device.address, timeout=60) as client:
            flow = await node(client, "Pump", "Flow")
            held = await flow.read_data_value()
            assert (held.Value.Value, held.Value.VariantType) == (12.5, ua.VariantType.Float)
            assert await (await node(client, "Model")).read_value() == "PRESS"
            assert await client.get_node("ns=0;i=2264").read_value() == "2"
            unit = await (await flow.get_child("0:EngineeringUnits")).read_value()
            assert unit.UnitId == int.from_bytes(b"MQH", "big")
            assert (await (await flow.get_child("0:EURange")).read_value()).High == 50
            assert (await (await node(client, "Count")).read_value()) == device.reading["count"]
            index = await client.get_namespace_index(URI)
            assert await client.get_node(f"ns={index};s=Press.Name").read_value() == "NAME"
            levels = await (await node(client, "Levels")).read_value()
            assert (levels[0], levels[2], len(levels)) == (device.reading["first"], device.reading["third"], 3)

            async def seen(kind, **options):
                device.inject(kind, **options)
                device.tick(1.0, T0_NS)
                await fleet.publish(device)
                device.faults.clear()
                return await flow.read_data_value(raise_on_bad_status=False)

            assert (await seen("bad_status")).StatusCode.value == 0x808B0000
            assert (await seen("uncertain", size=0x40930000)).StatusCode.value == 0x40930000
            ahead = (await seen("future_clock", size=100)).SourceTimestamp
            behind = (await seen("old_clock", size=100)).SourceTimestamp
            assert (ahead - behind).total_seconds() == 200
            assert (await seen("dropout")).StatusCode.value == ua.StatusCodes.BadNoCommunication
            target = await node(client, "Target")
            for value, code in ((5.0, 0), (9.0, 1)):
                await target.write_value(value, ua.VariantType.Double)
                device.tick(1.0, T0_NS)
                await fleet.publish(device)
                assert (device.writes[-1].value, device.writes[-1].code) == (value, code)
                assert await target.read_value() == 5.0

        device.inject("renumber", size=1.0)
        await fleet.after_tick()
        with pytest.raises(OSError, match=r"[Cc]onnect"):
            await asyncio.open_connection("127.0.0.1", fleet.port)
        device.tick(1.0, T0_NS)
        await fleet.after_tick()
        async with Client(device.address, timeout=60) as client:
            assert await client.get_namespace_index(URI) == index + 1
            assert await (await node(client, "Pump", "Flow")).read_value() == 12.5


async def test_the_fault_alarm_raises_a_condition_that_is_repeated_on_request(state, log, system_clock):
    device = press()

    class Heard:
        def __init__(self):
            self.events = asyncio.Queue()

        def event_notification(self, event):
            self.events.put_nowait(event)

    serving = serve_nodes([device], log, system_clock, state=state)
    async with serving as fleet, Client(device.address, timeout=60) as client:
        heard = Heard()
        listening = await client.create_subscription(50, heard)
        await listening.subscribe_alarms_and_conditions()

        async def next_event():
            async with asyncio.timeout(60):
                return await heard.events.get()

        async def tick():
            device.tick(1.0, T0_NS)
            await fleet.publish(device)

        device.inject("alarm", size=850)
        await tick()
        up = await next_event()
        assert (up.SourceName, up.ConditionName, up.Severity, up.Retain) == ("PRESS-1", "Fault", 850, True)
        assert up.Message.Text == "PRESS-1 has a fault"
        method = client.get_node(ua.ObjectIds.ConditionType_ConditionRefresh)
        arguments = ua.Variant(listening.subscription_id, ua.VariantType.UInt32)
        await client.get_node(ua.ObjectIds.ConditionType).call_method(method, arguments)
        assert (await next_event()).Severity == 850

        async def acknowledge(event):
            asked = ua.CallMethodRequest(
                ObjectId=up.NodeId,
                MethodId=ua.NodeId(ua.ObjectIds.AcknowledgeableConditionType_Acknowledge),
                InputArguments=[
                    ua.Variant(event, ua.VariantType.ByteString),
                    ua.Variant(ua.LocalizedText("ann: seen"), ua.VariantType.LocalizedText),
                ],
            )
            return (await client.uaclient.session.call([asked]))[0].StatusCode.name

        assert await acknowledge(b"never heard") == "BadEventIdUnknown"
        assert await acknowledge(up.EventId) == "Good"
        seen = await next_event()
        assert await acknowledge(seen.EventId) == "BadConditionBranchAlreadyAcked"
        assert [(w.point, w.value) for w in device.writes] == [("Fault", "ann: seen")]
        device.faults.clear()
        await tick()
        down = await next_event()
        assert (down.Message.Text, down.Retain) == ("PRESS-1 is well", False)


async def test_a_recorded_server_is_played_again_with_its_names(tmp_path, state, log, system_clock):
    device, stop, told = press(flow="12.5"), asyncio.Event(), []
    file = tmp_path / "session.jsonl"
    async with serve_nodes([device], log, system_clock, state=state) as fleet, asyncio.TaskGroup() as group:
        work = record("opcua", device.address, file, system_clock, stop, told.append)
        group.create_task(work, name="recording")
        async with asyncio.timeout(60):
            while not file.exists() or file.stat().st_size < 1200:
                device.tick(1.0, system_clock.wall_ns())
                await fleet.publish(device)
                await asyncio.sleep(0.1)
        stop.set()
    recording = read_recording(file)
    assert recording.whole
    stop, told = asyncio.Event(), asyncio.Queue()
    async with asyncio.TaskGroup() as group:
        work = replay(file, system_clock, stop, told.put_nowait, state=state, speed=100)
        group.create_task(work, name="replay")
        async with Client((await told.get()).rpartition(" ")[2], timeout=60) as client:
            assert await (await node(client, "Pump", "Flow")).read_value() == 12.5
            assert await (await node(client, "Count")).read_value() > 0
        stop.set()


async def test_two_devices_cannot_share_a_node_id_and_a_foreign_type_is_named(state, log, system_clock):
    with pytest.raises(InputError, match="another device of this server"):
        async with serve_nodes([press(), press(2)], log, system_clock, state=state):
            pass
    with pytest.raises(InputError, match="x: OPC UA has no bcd16"):
        variant_type("d", "x", press().source.profile.points["flow"].model_copy(update={"as_": "bcd16"}))
