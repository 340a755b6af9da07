"""The OPC UA server talks to asyncua's client; its log holds what clients acknowledged, and only that."""

import socket
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import pytest_asyncio
from asyncua import Client, ua
from asyncua.crypto.security_policies import SecurityPolicyBasic256Sha256
from asyncua.ua.uaerrors import UaError

from twinmodel.clock import SECOND_NS, ManualClock, SystemClock
from twinmodel.errors import ConflictError
from twinsim.certificate import application_certificate
from twinsim.device import Device
from twinsim.firmware import KINDS
from twinsim.serve.opcua import NAMESPACE, ExchangerServer, serve_opcua
from twinsim.served import ServedLog, read_served

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
POINT = {
    "HotInlet": "hot_in",
    "ColdInlet": "cold_in",
    "HotOutlet": "hot_out",
    "ColdOutlet": "cold_out",
    "SampleNumber": "sample_no",
    "Running": "running",
}


class Collector:
    def __init__(self):
        self.got = []

    def datachange_notification(self, node, value, data):
        sample = data.monitored_item.Value
        stamp = (sample.SourceTimestamp - EPOCH) // timedelta(microseconds=1) * 1000
        device, _, name = node.nodeid.Identifier.partition(".")
        self.got.append((device, POINT[name], stamp, value, sample.StatusCode))


def client(port, path="twinsim"):
    return Client(f"opc.tcp://127.0.0.1:{port}/{path}", timeout=60)


async def subscribe(connected, devices, collector):
    index = await connected.get_namespace_index(NAMESPACE)
    nodes = []
    for device in devices:
        nodes += await (await connected.nodes.objects.get_child([f"{index}:{device.name}"])).get_variables()
    subscription = await connected.create_subscription(20, collector)
    await subscription.subscribe_data_change(nodes, queuesize=100)
    return subscription


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def plant(tmp_path_factory):
    """One server with five exchangers for this module: its address space takes seconds to build."""
    state, clock = (
        tmp_path_factory.mktemp("opcua"),
        ManualClock(wall_ns=SystemClock().wall_ns() // SECOND_NS * SECOND_NS),
    )
    log = ServedLog(state)
    exchangers = [Device(KINDS["opcua"], number, 1) for number in range(1, 6)]
    for device in exchangers:
        device.tick(1.0, clock.wall_ns())
    async with serve_opcua(exchangers, log, clock, state=state) as (server, port):
        yield Plant(state, log, clock, exchangers, server, port)
    log.close()


@dataclass
class Plant:
    state: Path
    log: ServedLog
    clock: ManualClock
    devices: list[Device]
    server: ExchangerServer
    port: int

    async def update(self, *devices):
        self.clock.advance(SECOND_NS)
        for device in devices:
            device.tick(1.0, self.clock.wall_ns())
            await self.server.publish(device)

    def served(self, *names):
        self.log.flush()
        return {(r.device, point, r.t_ns) for r in read_served(self.state) for point in r.points if r.device in names}


@pytest.mark.asyncio(loop_scope="module")
async def test_everything_a_client_received_and_acknowledged_is_in_the_log(plant, eventually):
    collector, pair = Collector(), plant.devices[:2]
    async with client(plant.port) as connected:
        await subscribe(connected, pair, collector)
        await eventually(lambda: len(collector.got) == 12)
        for _ in range(5):
            await plant.update(*pair)

        def received():
            return {(device, point, t_ns) for device, point, t_ns, *_ in collector.got}

        await eventually(lambda: ("HX-2", "sample_no", plant.clock.wall_ns()) in received())
        # The acknowledgement travels with the next Publish request, which the client sends at once.
        await eventually(lambda: plant.served("HX-1", "HX-2") == received())
    numbers = [r.n for r in read_served(plant.state) if r.device == "HX-1" and r.n is not None]
    assert numbers == [1, 2, 3, 4, 5, 6]
    assert all(t_ns % 1_000_000 == 0 for *_, t_ns in received())


@pytest.mark.asyncio(loop_scope="module")
async def test_one_update_has_one_source_timestamp_for_all_variables(plant):
    async with client(plant.port) as connected:
        index = await connected.get_namespace_index(NAMESPACE)
        device = await connected.nodes.objects.get_child([f"{index}:HX-3"])
        samples = [await node.read_data_value() for node in await device.get_variables()]
        assert len({s.SourceTimestamp for s in samples}) == 1
        names = [(await node.read_browse_name()).Name for node in await device.get_variables()]
        assert set(names) == set(POINT)
        inlet = await device.get_child([f"{index}:HotInlet"])
        unit = await (await inlet.get_child(["0:EngineeringUnits"])).read_value()
        span = await (await inlet.get_child(["0:EURange"])).read_value()
        assert (unit.DisplayName.Text, span.Low, span.High) == ("°C", 0.0, 120.0)
        with pytest.raises(UaError):
            await inlet.write_value(1.0)
    assert plant.served("HX-3") == set()  # reading is not served by subscription


@pytest.mark.asyncio(loop_scope="module")
async def test_what_a_client_never_acknowledged_is_not_in_the_log(plant, eventually):
    device = plant.devices[3]
    connected = client(plant.port)
    await connected.connect()
    await subscribe(connected, [device], Collector())
    await eventually(lambda: len(plant.served("HX-4")) == 6)
    before = plant.served("HX-4")
    connected.uaclient.protocol.transport.abort()
    for _ in range(3):
        await plant.update(device)
    with pytest.raises((UaError, ConnectionError)):
        await connected.nodes.objects.get_children()
    await connected.disconnect()
    assert plant.served("HX-4") == before


@pytest.mark.asyncio(loop_scope="module")
async def test_a_dropped_out_exchanger_goes_bad_once_and_then_keeps_still(plant, eventually):
    collector, lost, healthy = Collector(), plant.devices[4], plant.devices[2]
    async with client(plant.port) as connected:
        await subscribe(connected, [lost, healthy], collector)
        await eventually(lambda: len(collector.got) == 12)
        lost.inject("dropout")
        for _ in range(4):
            await plant.update(lost, healthy)
        await eventually(lambda: any(g[:2] == ("HX-3", "sample_no") and g[3] == 5 for g in collector.got))
        bad = [g for g in collector.got if g[0] == "HX-5" and not g[4].is_good()]
        assert len(bad) == 6
        assert len({g[2] for g in bad}) == 1
        assert lost.sample_no == 1


@pytest.mark.asyncio(loop_scope="module")
async def test_a_client_with_a_certificate_is_served_signed_and_encrypted(plant, tmp_path):
    uri = "urn:hybridtwin:test:client"
    certificate, key = application_certificate(tmp_path, uri, SystemClock())
    for mode in (ua.MessageSecurityMode.Sign, ua.MessageSecurityMode.SignAndEncrypt):
        connected = client(plant.port)
        connected.application_uri = uri
        await connected.set_security(
            SecurityPolicyBasic256Sha256,
            certificate,
            key,
            server_certificate=plant.state / "opcua-certificate.der",
            mode=mode,
        )
        async with connected:
            index = await connected.get_namespace_index(NAMESPACE)
            node = await connected.nodes.objects.get_child([f"{index}:HX-1", f"{index}:HotOutlet"])
            assert await node.read_value() == plant.devices[0].reading["hot_out"]
    assert (plant.state / "opcua-key.pem").stat().st_mode & 0o077 == 0


async def test_with_a_login_only_the_right_password_opens(tmp_path, devices, log, clock):
    exchangers = devices("opcua", 1)
    async with serve_opcua(exchangers, log, clock, state=tmp_path, login=("operator", "secret")) as (_s, port):
        for user, password, opens in (("operator", "secret", True), ("operator", "wrong", False), (None, None, False)):
            connected = client(port)
            if user:
                connected.set_user(user)
                connected.set_password(password)
            if opens:
                async with connected:
                    await connected.nodes.objects.get_children()
            else:
                with pytest.raises(UaError):
                    await connected.connect()


async def test_a_port_in_use_is_said_so(tmp_path, devices, log, clock):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ConflictError) as refused:
            async with serve_opcua(devices("opcua", 1), log, clock, state=tmp_path, port=port):
                pass
    assert refused.value.reason == "PORT_IN_USE"
