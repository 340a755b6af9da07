"""The OPC UA driver against servers of the same library: values, restarts, cut links, trust."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from datetime import UTC, datetime, timedelta

import pytest
import pytest_asyncio
from asyncua import Server, ua
from asyncua.crypto.permission_rules import SimpleRoleRuleset, User, UserRole
from asyncua.server.user_managers import UserManager

from twinedge.drivers import opcua_trust
from twinedge.drivers.opcua import OpcuaDriver
from twinmodel.clock import SystemClock
from twinmodel.quality import GOOD, QualityReason, bad, uncertain

# One event loop and one server for the whole file: an asyncua server takes three seconds to start.
pytestmark = pytest.mark.asyncio(loop_scope="module")

AWAY = bad(QualityReason.NOT_CONNECTED)
URI = "urn:test:press"
PROFILE = {
    "namespace": URI,
    "defaults": {"every": "50ms"},
    "points": {
        "flow": {"at": "Pump/Flow", "as": "float64"},
        "count": {"at": "Count", "as": "int64"},
        "name": {"at": "Name", "as": "string"},
    },
}


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class Users(UserManager):
    def get_user(self, iserver, username=None, password=None, certificate=None):
        known = username is None or (username, password) == ("operator", "secret")
        return User(role=UserRole.User) if known else None


class Plant:
    """One server with a pump, open and encrypted, restartable on its port."""

    async def start(self, certificate, key):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.certificate = certificate
        self.server = Server(user_manager=Users())
        await self.server.init()
        self.server.set_endpoint(f"opc.tcp://127.0.0.1:{self.port}/")
        policies = [ua.SecurityPolicyType.NoSecurity, ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt]
        self.server.set_security_policy(policies, SimpleRoleRuleset())
        await self.server.load_certificate(str(certificate))
        await self.server.load_private_key(str(key))
        await self.build(await self.server.register_namespace(URI))
        await self.server.start()
        return self

    async def build(self, idx):
        self.press = await self.server.nodes.objects.add_object(idx, "Press")
        pump = await self.press.add_object(idx, "Pump")
        self.flow = await pump.add_variable(idx, "Flow", 1.5)
        await self.press.add_variable(idx, "Count", 7, ua.VariantType.Int64)
        await self.press.add_variable(idx, "Name", "press 1")

    async def renumber(self):
        """Puts two foreign namespaces in front of ours, as an update of the server's software does."""
        uris = await self.server.get_namespace_array()
        await self.server.nodes.namespace_array.write_value([*uris[:-1], "urn:a", "urn:b", uris[-1]])
        await self.build(len(uris) + 1)

    async def write(self, value, *, status=0, source=None):
        stamp = source or datetime.now(UTC)
        stamped = ua.DataValue(ua.Variant(value), ua.StatusCode(status), stamp, datetime.now(UTC))
        await self.flow.write_attribute(ua.AttributeIds.Value, stamped)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory):
    certificate, key = opcua_trust.ensure_certificate(tmp_path_factory.mktemp("server"), SystemClock())
    made = await Plant().start(certificate, key)
    yield made
    await made.server.stop()


@pytest_asyncio.fixture(loop_scope="module")
async def plant(shared, tmp_path):
    """The shared server, with the pump at 1.5 again."""
    await shared.write(1.5)
    (tmp_path / "password").write_text("secret\n")
    return shared


@pytest.fixture
def make(assign, clock, rng, tmp_path):
    def build(port, profile=PROFILE, *, root="Press", **device):
        keys = {"opcua": f"opc.tcp://127.0.0.1:{port}/", "root": root} | device
        assignments, _ = assign(("p", keys, profile))
        return OpcuaDriver(assignments, clock=clock, rng=rng, state_dir=tmp_path / "state")

    return build


def values(sink, since=0):
    return [row[1] for row in sink.samples(0, since) if row[2] == GOOD]


async def test_values_of_all_kinds_arrive_with_their_source_time(make, sink, running, plant):
    source = datetime(2024, 5, 1, 12, 0, 0, 123000, tzinfo=UTC)
    async with running(make(plant.port), sink) as driver:
        await sink.until(lambda: len({row[0] for row in sink.samples()}) == 3)
        await plant.write(2.5, source=source)
        await sink.until(lambda: 2.5 in values(sink))
        assert driver.health()[0].connected
    assert values(sink) == [1.5, 2.5]
    assert sink.samples(0)[-1][3] == int(source.timestamp() * 1000) * 10**6
    assert sink.samples(1)[0][1:3] == (7, GOOD)
    assert sink.samples(2)[0][1:3] == ("press 1", GOOD)


async def test_every_update_is_delivered_also_when_the_value_is_equal(make, sink, running, plant):
    base = datetime.now(UTC)
    async with running(make(plant.port), sink):
        await sink.until(lambda: values(sink))
        for n in range(1, 6):
            await plant.write(1.5, source=base + timedelta(milliseconds=10 * n))
        await sink.until(lambda: len(values(sink)) == 6)
    times = [row[3] for row in sink.samples(0)]
    assert times == sorted(set(times))


async def test_status_codes_become_quality_and_no_exception(make, sink, running, plant):
    codes = ua.StatusCodes
    expected = {
        codes.UncertainLastUsableValue: uncertain(QualityReason.STALE),
        codes.BadSensorFailure: bad(QualityReason.DEVICE_FAULT),
        codes.BadNotConnected: bad(QualityReason.NOT_CONNECTED),
        codes.BadOutOfRange: bad(QualityReason.OUT_OF_RANGE),
        codes.BadWaitingForInitialData: bad(QualityReason.ABSENT),
    }
    async with running(make(plant.port), sink):
        await sink.until(lambda: values(sink))
        for status in expected:
            await plant.write(3.0, status=status)
            await asyncio.sleep(0.02)
        await sink.until(lambda: len(sink.samples(0)) == 1 + len(expected))
    assert [row[2] for row in sink.samples(0)[1:]] == list(expected.values())


async def test_insane_source_time_gives_way_to_the_servers_and_is_doubted(make, sink, running, plant):
    async with running(make(plant.port), sink):
        await sink.until(lambda: values(sink))
        await plant.write(4.0, source=datetime(1980, 1, 1, tzinfo=UTC))
        await sink.until(lambda: len(sink.samples(0)) == 2)
    _, value, quality, t_ns = sink.samples(0)[-1]
    assert (value, quality) == (4.0, uncertain(QualityReason.CLOCK))
    assert abs(t_ns - SystemClock().wall_ns()) < 5e9


async def test_point_of_another_type_is_refused_with_its_reason_and_the_others_go_on(make, sink, running, plant):
    profile = PROFILE | {"points": PROFILE["points"] | {"flow": {"at": "Name", "as": "float64"}}}
    async with running(make(plant.port, profile), sink) as driver:
        await sink.until(lambda: sink.samples(0) and sink.samples(1))
        assert "DEVICE_MISMATCH: flow: the server has a String" in driver.health()[0].last_error
    assert [row[2] for row in sink.samples(0)] == [bad(QualityReason.DEVICE_FAULT)]
    assert sink.samples(1)[0][2] == GOOD


class Cable:
    """A TCP relay that can be pulled: bytes stop both ways, connections stay open."""

    def __init__(self, target):
        self.target = target
        self.whole = asyncio.Event()
        self.whole.set()
        self.tasks = set()
        self.writers = []

    async def start(self):
        self.server = await asyncio.start_server(self.accept, "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    async def accept(self, reader, writer):
        self.writers.append(writer)
        with contextlib.suppress(OSError):
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
            self.writers.append(far_writer)
            for pair in ((reader, far_writer), (far_reader, writer)):
                task = asyncio.create_task(self.relay(*pair))
                self.tasks.add(task)

    async def relay(self, reader, writer):
        with contextlib.suppress(OSError):
            while received := await reader.read(65536):
                await self.whole.wait()
                writer.write(received)
                await writer.drain()
        writer.close()

    async def stop(self):
        self.server.close()
        for task in self.tasks:
            task.cancel()
        for writer in self.writers:
            writer.transport.abort()
        await asyncio.gather(*self.tasks, return_exceptions=True)


async def test_half_open_link_is_noticed_and_values_come_back_with_the_link(make, sink, running, plant):
    cable = await Cable(plant.port).start()
    try:
        async with running(make(cable.port), sink):
            await sink.until(lambda: values(sink) and sink.samples(1))
            cable.whole.clear()
            await sink.until(lambda: sink.samples(0)[-1][2] == AWAY, within_s=40)
            await asyncio.sleep(0.005)  # a change after the loss, also when rounded to milliseconds
            await plant.write(5.0)
            cable.whole.set()
            await sink.until(lambda: sink.samples(0)[-1][1] == 5.0 and sink.samples(1)[-1][2] == GOOD, within_s=40)
    finally:
        await cable.stop()
    assert len(sink.holes) == 1
    assert len(values(sink)) == 2
    unchanged = sink.samples(1)
    # A keep-alive is missed first; the last is said again, or it would stay away for ever.
    assert [row[2] for row in unchanged] == [GOOD, bad(QualityReason.STALE), AWAY, GOOD]
    assert unchanged[3][3] > unchanged[2][3]


async def test_missing_node_is_bad_and_the_others_are_read(make, sink, running, plant):
    points = PROFILE["points"] | {"ghost": {"at": "Pump/Ghost", "as": "float64"}}
    async with running(make(plant.port, PROFILE | {"points": points}), sink) as driver:
        await sink.until(lambda: sink.samples(0) and sink.samples(3))
        assert "Press/Pump/Ghost" in driver.health()[0].last_error
    assert sink.samples(3)[0][2] == bad(QualityReason.DEVICE_FAULT)


async def test_slow_sink_holds_values_in_the_servers_queue_instead_of_losing_them(make, sink, running, plant):
    put, base = sink.put, datetime.now(UTC)

    async def slow_put(item):
        await asyncio.sleep(0.1)
        await put(item)

    sink.put = slow_put
    async with running(make(plant.port), sink):
        await sink.until(lambda: values(sink))
        for n in range(9):
            await plant.write(float(n), source=base + timedelta(milliseconds=n + 1))
        await sink.until(lambda: len(values(sink)) == 10)
    assert values(sink)[1:] == [float(n) for n in range(9)]


SECURE = {"policy": "Basic256Sha256", "mode": "sign_and_encrypt", "user": "operator", "password_file": "password"}


async def test_trusted_server_is_read_over_an_encrypted_session(make, sink, running, plant, tmp_path):
    security = SECURE | {"server_certificate": str(plant.certificate)}
    async with running(make(plant.port, security=security), sink):
        await sink.until(lambda: values(sink))
    assert values(sink) == [1.5]


async def test_unknown_server_is_refused_with_its_thumbprint_and_the_step(make, sink, running, plant, tmp_path):
    thumbprint = opcua_trust.thumbprint(plant.certificate.read_bytes())
    async with running(make(plant.port, security=SECURE), sink) as driver:
        await sink.until(lambda: sink.samples(0))
        error = driver.health()[0].last_error
    assert thumbprint in error
    assert "security.server_certificate" in error
    assert (tmp_path / f"state/opcua/pending/{thumbprint}.der").read_bytes() == plant.certificate.read_bytes()
    assert [row[2] for row in sink.samples(0)] == [AWAY]


async def test_wrong_password_is_a_refusal(make, sink, running, plant, tmp_path):
    (tmp_path / "password").write_text("guess")
    security = SECURE | {"server_certificate": str(plant.certificate)}
    async with running(make(plant.port, security=security), sink) as driver:
        await sink.until(lambda: sink.samples(0))
        assert "refused us" in driver.health()[0].last_error
        assert "guess" not in driver.health()[0].last_error


async def test_own_certificate_is_made_once(tmp_path, clock):
    first, _ = opcua_trust.ensure_certificate(tmp_path, clock)
    content = first.read_bytes()
    assert opcua_trust.ensure_certificate(tmp_path, clock)[0].read_bytes() == content


async def test_restarted_server_with_renumbered_namespace_is_found_again(make, sink, running, plant):
    async with running(make(plant.port), sink) as driver:
        await sink.until(lambda: values(sink))
        await plant.server.stop()
        await sink.until(lambda: sink.samples(0)[-1][2] == AWAY)
        await plant.renumber()
        await plant.server.start()
        started = asyncio.get_running_loop().time()
        await sink.until(lambda: sink.samples(0)[-1][2] == GOOD)
        assert asyncio.get_running_loop().time() - started < 10
        await plant.write(9.0)
        await sink.until(lambda: 9.0 in values(sink))
        assert driver.health()[0].reconnects == 1
    assert sum(row[2] == AWAY for row in sink.samples(0)) == 1
    assert len(sink.holes) == 1
    assert sink.holes[0].from_ns < sink.holes[0].to_ns
