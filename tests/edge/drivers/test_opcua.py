"""The OPC UA driver against servers of the same library: values, restarts, cut links, trust."""

from __future__ import annotations

import asyncio
import socket
from datetime import UTC, datetime, timedelta

import pytest
import pytest_asyncio
from asyncua import Client, ua

from tests.edge.drivers.opcua_press import URI, Cable, Plant
from twinedge.drivers import opcua_trust
from twinedge.drivers.link import DeviceLink
from twinedge.drivers.opcua import OpcuaDriver
from twinedge.drivers.opcua_browse import BrowseLimits, browse
from twinedge.drivers.opcua_publish import hooked
from twinmodel.clock import SECOND_NS, SystemClock
from twinmodel.quality import GOOD, QualityReason, bad, uncertain

# One event loop and one server for the whole file: an asyncua server takes three seconds to start.
pytestmark = pytest.mark.asyncio(loop_scope="module")

NOW = datetime(2026, 5, 1, tzinfo=UTC)
HOST = socket.gethostname()
AWAY = bad(QualityReason.NOT_CONNECTED)
PROFILE = {
    "namespace": URI,
    "defaults": {"every": "50ms"},
    "points": {
        "flow": {"at": "Pump/Flow", "as": "float64"},
        "count": {"at": "Count", "as": "int64"},
        "name": {"at": "Name", "as": "string"},
    },
}


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


async def test_what_has_come_is_known_so_that_a_loss_is_not_declared_from_the_begin_of_the_connection(
    make, sink, running, plant, monkeypatch
):
    known = []
    monkeypatch.setattr(DeviceLink, "whole", lambda link, until_ns: known.append((until_ns, link.now_ns())))
    async with running(make(plant.port), sink):
        await sink.until(lambda: values(sink))
        await plant.write(3.5)
        await sink.until(lambda: 3.5 in values(sink) and known)
    assert all(now_ns - 60 * SECOND_NS < until_ns < now_ns for until_ns, now_ns in known)


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


async def test_half_open_link_is_noticed_and_values_come_back_with_the_link(make, sink, running, plant):
    cable = await Cable(plant.port).start()
    try:
        async with running(make(cable.port), sink):
            await sink.until(lambda: values(sink) and sink.samples(1))
            cable.whole.clear()
            await sink.until(lambda: sink.samples(0)[-1][2] == AWAY, within_s=60)
            await asyncio.sleep(0.005)  # a change after the loss, also when rounded to milliseconds
            await plant.write(5.0)
            cable.whole.set()
            await sink.until(lambda: sink.samples(0)[-1][1] == 5.0 and sink.samples(1)[-1][2] == GOOD, within_s=60)
    finally:
        await cable.stop()
    assert len(sink.holes) == 1
    assert len(values(sink)) == 2
    unchanged = sink.samples(1)
    # A keep-alive is missed first; the last is said again, or it would stay away for ever.
    assert [row[2] for row in unchanged] == [GOOD, bad(QualityReason.STALE), AWAY, GOOD]
    assert unchanged[3][3] > unchanged[2][3]


async def test_missed_keep_alive_is_stale_until_the_server_is_heard_again(make, sink, running, plant):
    cable = await Cable(plant.port).start()
    try:
        async with running(make(cable.port), sink) as driver:
            await sink.until(lambda: sink.samples(0) and sink.samples(1))
            cable.whole.clear()
            await sink.until(lambda: sink.samples(1)[-1][2] == bad(QualityReason.STALE), within_s=60)
            await asyncio.sleep(0.005)  # heard after that, also when rounded to milliseconds
            cable.whole.set()
            await sink.until(lambda: sink.samples(1)[-1][2] == GOOD, within_s=60)
            assert driver.health()[0].errors
    finally:
        await cable.stop()
    assert sink.samples(1)[-1][1] == 7
    assert sink.samples(1)[-1][3] > sink.samples(1)[-2][3]


async def test_cut_of_thirty_seconds_is_over_within_ten(make, sink, running, plant, request):
    if not request.config.getoption("--campaign"):
        pytest.skip("takes 30 s; run with --campaign")
    cable = await Cable(plant.port).start()
    try:
        async with running(make(cable.port), sink):
            await sink.until(lambda: values(sink))
            cable.whole.clear()
            await asyncio.sleep(30)
            await plant.write(6.0)
            cable.whole.set()
            begun_s = asyncio.get_running_loop().time()
            await sink.until(lambda: 6.0 in values(sink), within_s=60)
            assert asyncio.get_running_loop().time() - begun_s < 10
    finally:
        await cable.stop()
    assert len(sink.holes) == 1


async def test_missing_node_is_bad_and_the_others_are_read(make, sink, running, plant):
    points = PROFILE["points"] | {"ghost": {"at": "Pump/Ghost", "as": "float64"}}
    async with running(make(plant.port, PROFILE | {"points": points}), sink) as driver:
        await sink.until(lambda: sink.samples(0) and sink.samples(3))
        assert "Press/Pump/Ghost" in driver.health()[0].last_error
    assert sink.samples(3)[0][2] == bad(QualityReason.DEVICE_FAULT)


async def test_server_without_any_of_the_nodes_is_connected_and_its_signals_are_bad(make, sink, running, plant):
    points = {"ghost": {"at": "Ghost"}}
    async with running(make(plant.port, PROFILE | {"points": points}), sink) as driver:
        await sink.until(lambda: sink.samples(0))
        assert driver.health()[0].connected
    assert [row[2] for row in sink.samples(0)] == [bad(QualityReason.DEVICE_FAULT)]


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


@pytest.mark.parametrize(
    ("policy", "mode"),
    [
        ("Basic256Sha256", "sign"),
        ("Aes128Sha256RsaOaep", "sign"),
        ("Aes128Sha256RsaOaep", "sign_and_encrypt"),
        ("Aes256Sha256RsaPss", "sign_and_encrypt"),
    ],
)
async def test_every_policy_is_spoken_with_a_server_of_the_trust_store(
    make, sink, running, plant, tmp_path, policy, mode
):
    trusted = tmp_path / "state/opcua/trusted"
    trusted.mkdir(parents=True)
    (trusted / "press.der").write_bytes(plant.certificate.read_bytes())
    driver = make(plant.port, opcua=f"opc.tcp://{HOST}:{plant.port}/", security={"policy": policy, "mode": mode})
    async with running(driver, sink):
        await sink.until(lambda: values(sink))
    assert values(sink) == [1.5]


async def test_policy_that_is_not_offered_names_those_that_are(make, sink, running, plant):
    security = {"policy": "Aes256Sha256RsaPss", "mode": "sign", "server_certificate": str(plant.certificate)}
    async with running(make(plant.port, security=security), sink) as driver:
        await sink.until(lambda: sink.samples(0))
        error = driver.health()[0].last_error
    assert "offers no Aes256Sha256RsaPss/sign" in error
    assert "Basic256Sha256/sign_and_encrypt" in error


async def test_unit_of_the_server_that_the_profile_denies_refuses_the_point(make, sink, running, plant):
    points = {"flow": {"at": "Pump/Flow"}, "heat": {"at": "Heat", "unit": "degC", "range": [300, 400]}}
    async with running(make(plant.port, PROFILE | {"points": points}), sink) as driver:
        await sink.until(lambda: sink.samples(0) and sink.samples(1))
        findings = driver.findings
    assert [row[2] for row in sink.samples(1)] == [bad(QualityReason.DEVICE_FAULT)]
    assert values(sink) == [1.5]
    assert [(f.point, f.reason, f.fatal) for f in findings] == [
        ("heat", "DEVICE_MISMATCH", True),
        ("heat", "DEVICE_MISMATCH", False),
    ]
    assert "unit says °F, profile says degC" in findings[0].text
    assert "0..200" in findings[1].text


async def test_unit_converted_by_the_profile_or_said_to_be_another_is_read(make, sink, running, plant):
    points = {
        "converted": {"at": "Heat", "unit": "degC", "scale": 0.5555555556, "offset": -17.7777777778},
        "relabelled": {"at": "s=heat;1", "unit": "degC", "device_unit": "degC"},
    }
    async with running(make(plant.port, PROFILE | {"points": points}), sink):
        await sink.until(lambda: sink.samples(0) and sink.samples(1))
    assert sink.samples(0)[0][1:3] == (pytest.approx(20.0), GOOD)
    assert sink.samples(1)[0][1:3] == (68.0, GOOD)


async def test_elements_of_an_array_are_read_and_the_whole_or_a_structure_is_refused(make, sink, running, plant):
    points = {
        "third": {"at": "Levels[2]"},
        "whole": {"at": "Levels"},
        "window": {"at": "Window"},
        "scalar": {"at": "Heat[0]"},
    }
    async with running(make(plant.port, PROFILE | {"points": points}), sink) as driver:
        await sink.until(lambda: all(sink.samples(n) for n in range(4)))
        texts = {f.point: f.text for f in driver.findings}
    assert sink.samples(0)[0][1:3] == (3.0, GOOD)
    assert {sink.samples(n)[0][2] for n in (1, 2, 3)} == {bad(QualityReason.DEVICE_FAULT)}
    assert "name one element" in texts["whole"]
    assert "a structure" in texts["window"]
    assert "single value" in texts["scalar"]


async def test_library_without_the_private_method_is_read_by_its_own_loop(make, sink, running, plant):
    assert hooked(), "asyncua has changed: see opcua_publish"
    driver = make(plant.port)
    driver._own_publish = False
    async with running(driver, sink):
        await sink.until(lambda: values(sink))
        await plant.write(2.5)
        await sink.until(lambda: 2.5 in values(sink))


async def test_browse_lists_what_addresses_can_be_read_back_and_stops_at_its_limits(plant):
    async with Client(f"opc.tcp://127.0.0.1:{plant.port}/") as client:
        found, complete = await browse(client, plant.press.nodeid, namespace=URI)
        few, all_of_it = await browse(client, plant.press.nodeid, BrowseLimits(nodes=2), namespace=URI)
        flat, _ = await browse(client, plant.press.nodeid, BrowseLimits(depth=1), namespace=URI)
    by_path = {offered.path: offered for offered in found}
    assert complete
    assert by_path["Pump/Flow"].kind == "Variable"
    assert by_path["Heat"].node == "s=heat;1"
    assert by_path["Heat/0:EURange"].kind == "Variable"
    assert (len(few), all_of_it) == (2, False)
    assert "Pump/Flow" not in {offered.path for offered in flat}


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
