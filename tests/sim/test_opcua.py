"""The OPC UA server talks to asyncua's client; its log holds what clients acknowledged, and only that."""

import socket
from datetime import UTC, datetime, timedelta

import pytest
from asyncua import Client, ua
from asyncua.crypto.security_policies import SecurityPolicyBasic256Sha256
from asyncua.ua.uaerrors import UaError

from twinmodel.clock import SystemClock
from twinmodel.errors import ConflictError
from twinsim.certificate import application_certificate
from twinsim.serve.opcua import NAMESPACE, serve_opcua
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
    return Client(f"opc.tcp://127.0.0.1:{port}/{path}", timeout=5)


async def subscribe(connected, devices, collector):
    index = await connected.get_namespace_index(NAMESPACE)
    nodes = []
    for device in devices:
        nodes += await (await connected.nodes.objects.get_child([f"{index}:{device.name}"])).get_variables()
    subscription = await connected.create_subscription(20, collector)
    await subscription.subscribe_data_change(nodes, queuesize=100)
    return subscription


def served_points(folder):
    return {(r.device, point, r.t_ns) for r in read_served(folder) if r.protocol == "opcua" for point in r.points}


async def test_everything_a_client_received_and_acknowledged_is_in_the_log(
    tmp_path, devices, log, clock, eventually
):
    exchangers = devices("opcua", 2)
    collector = Collector()
    async with serve_opcua(exchangers, log, clock, state=tmp_path) as (server, port), client(port) as connected:
        await subscribe(connected, exchangers, collector)
        await eventually(lambda: len(collector.got) == 12)
        for _ in range(5):
            clock.advance(1_000_000_000)
            for device in exchangers:
                device.tick(1.0, clock.wall_ns())
                await server.publish(device)
        received = lambda: {(device, point, t_ns) for device, point, t_ns, *_ in collector.got}  # noqa: E731
        await eventually(lambda: ("HX-2", "sample_no", clock.wall_ns()) in received())
        # The acknowledgement travels with the next Publish request, which the client sends at once.
        await eventually(lambda: log.flush() or served_points(tmp_path) == received())
    numbers = [r.n for r in read_served(tmp_path) if r.device == "HX-1" and r.n is not None]
    assert numbers == [1, 2, 3, 4, 5, 6]
    assert all(t_ns % 1_000_000 == 0 for *_, t_ns in served_points(tmp_path))


async def test_one_update_has_one_source_timestamp_for_all_variables(tmp_path, devices, log, clock):
    exchangers = devices("opcua", 1)
    async with serve_opcua(exchangers, log, clock, state=tmp_path) as (_server, port), client(port) as connected:
        index = await connected.get_namespace_index(NAMESPACE)
        device = await connected.nodes.objects.get_child([f"{index}:HX-1"])
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
    log.flush()
    assert served_points(tmp_path) == set()  # reading is not served by subscription


async def test_what_a_client_never_acknowledged_is_not_in_the_log(tmp_path, devices, log, clock, eventually):
    exchangers = devices("opcua", 1)
    collector = Collector()
    async with serve_opcua(exchangers, log, clock, state=tmp_path) as (server, port):
        connected = client(port)
        await connected.connect()
        await subscribe(connected, exchangers, collector)
        await eventually(lambda: log.flush() or len(served_points(tmp_path)) == 6)
        before = served_points(tmp_path)
        connected.uaclient.protocol.transport.abort()
        for _ in range(3):
            clock.advance(1_000_000_000)
            exchangers[0].tick(1.0, clock.wall_ns())
            await server.publish(exchangers[0])
        log.flush()
        assert served_points(tmp_path) == before
        with pytest.raises((UaError, ConnectionError)):
            await connected.nodes.objects.get_children()
        await connected.disconnect()


async def test_a_client_with_a_certificate_is_served_signed_and_encrypted(tmp_path, devices):
    system = SystemClock()
    own = tmp_path / "client"
    own.mkdir()
    uri = "urn:hybridtwin:test:client"
    certificate, key = application_certificate(own, uri, system)
    log = ServedLog(tmp_path)
    exchangers = devices("opcua", 1)
    async with serve_opcua(exchangers, log, system, state=tmp_path) as (_server, port):
        for mode in (ua.MessageSecurityMode.Sign, ua.MessageSecurityMode.SignAndEncrypt):
            connected = client(port)
            connected.application_uri = uri
            await connected.set_security(
                SecurityPolicyBasic256Sha256,
                certificate,
                key,
                server_certificate=tmp_path / "opcua-certificate.der",
                mode=mode,
            )
            async with connected:
                index = await connected.get_namespace_index(NAMESPACE)
                node = await connected.nodes.objects.get_child([f"{index}:HX-1", f"{index}:HotOutlet"])
                assert await node.read_value() == exchangers[0].reading["hot_out"]
    log.close()
    assert (tmp_path / "opcua-key.pem").stat().st_mode & 0o077 == 0


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


async def test_a_dropped_out_exchanger_goes_bad_once_and_then_keeps_still(tmp_path, devices, log, clock, eventually):
    exchangers = devices("opcua", 2)
    collector = Collector()
    async with serve_opcua(exchangers, log, clock, state=tmp_path) as (server, port), client(port) as connected:
        await subscribe(connected, exchangers, collector)
        await eventually(lambda: len(collector.got) == 12)
        exchangers[0].inject("dropout")
        for _ in range(4):
            clock.advance(1_000_000_000)
            for device in exchangers:
                device.tick(1.0, clock.wall_ns())
                await server.publish(device)
        await eventually(lambda: any(g[0] == "HX-2" and g[1] == "sample_no" and g[3] == 5 for g in collector.got))
        bad = [g for g in collector.got if g[0] == "HX-1" and not g[4].is_good()]
        assert len(bad) == 6
        assert len({g[2] for g in bad}) == 1
        assert exchangers[0].sample_no == 1


async def test_a_port_in_use_is_said_so(tmp_path, devices, log, clock):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ConflictError) as refused:
            async with serve_opcua(devices("opcua", 1), log, clock, state=tmp_path, port=port):
                pass
    assert refused.value.reason == "PORT_IN_USE"
