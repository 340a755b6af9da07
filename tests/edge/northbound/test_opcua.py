"""The read-only OPC UA server as clients meet it: who may come in, what they see, and that they change nothing."""

from __future__ import annotations

import asyncio
import contextlib
import random
from datetime import UTC, datetime

import pytest
import pytest_asyncio
from asyncua import Client, ua
from asyncua.ua import uaerrors

from tests.edge.northbound.conftest import MEASURED, T0, catalogue_of
from tests.edge.northbound.opcua_served import POLICIES, Heard, Served, node
from tests.ports import free_port
from twinedge.certificates import ensure_certificate
from twinedge.config.schema import Device
from twinedge.drivers.link import Assignment
from twinedge.drivers.opcua import OpcuaDriver
from twinedge.drivers.opcua_values import quality_of
from twinedge.northbound import opcua_sessions
from twinedge.northbound.opcua_nodes import NAMESPACE
from twinedge.northbound.opcua_status import STATUS
from twinmodel.clock import MILLISECOND_NS, SystemClock
from twinmodel.profile.schema import FirmwareProfile, kind_of
from twinmodel.quality import GOOD, QualityClass, QualityReason, bad, class_of, good, quality, uncertain
from twinmodel.signal import Kind, Signal

# One event loop and one server for the whole file: an asyncua server takes a second to start.
pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning"),
]
MOMENT = datetime.fromtimestamp(T0 // 10**9, UTC).replace(microsecond=123000)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory):
    made = await Served(tmp_path_factory.mktemp("served")).start()
    yield made
    await made.stop()


@pytest_asyncio.fixture(loop_scope="module")
async def served(shared):
    shared.plant.use(catalogue_of(), shared.part)
    shared.plant.tell(
        ("press.level", 1.5),
        ("press.count", 7),
        ("press.on", True),
        ("press.name", "p1"),
        ("press.heat", 60.5),
        ("tank-1/level#estimate", 1.48, uncertain(QualityReason.SETTLING)),
        ("tank-1/level#sigma", 0.02),
    )
    return shared


@pytest_asyncio.fixture(loop_scope="module")
async def client(served):
    async with await served.connect() as made:
        made.ours = await made.get_namespace_index(NAMESPACE)
        yield made


async def test_values_come_with_quality_source_time_unit_and_range(client):
    found = await node(client, "press.level").read_data_value()
    assert (found.Value.Value, found.Value.VariantType) == (1.5, ua.VariantType.Double)
    assert (found.StatusCode.value, found.SourceTimestamp) == (0, MOMENT)
    unit = await node(client, "press.heat/@EngineeringUnits").read_value()
    assert (unit.UnitId, unit.DisplayName.Text) == (int.from_bytes(b"CEL", "big"), "degC")
    span = await node(client, "press.level/@EURange").read_value()
    assert (span.Low, span.High) == (0.0, 2.0)
    types = {
        "press.count": ua.VariantType.Int64,
        "press.on": ua.VariantType.Boolean,
        "press.name": ua.VariantType.String,
    }
    for name, expected in types.items():
        assert (await node(client, name).read_data_value()).Value.VariantType == expected
        assert await node(client, name).read_data_type_as_variant_type() == expected


async def test_a_twin_has_measured_estimate_and_sigma_side_by_side(client):
    output = await client.nodes.objects.get_child(["2:gw-1", "2:Twins", "2:tank-1", "2:level"])
    names = [(await n.read_browse_name()).Name for n in await output.get_children()]
    assert names == ["measured", "estimate", "sigma", "prediction", "innovation", "drift"]
    estimate = await (await output.get_child("2:estimate")).read_data_value(raise_on_bad_status=False)
    assert estimate.Value.Value == 1.48
    assert class_of(quality_of(estimate.StatusCode.value)) is QualityClass.UNCERTAIN
    assert await (await output.get_child("2:sigma")).read_value() == 0.02
    assert await (await output.get_child("2:measured")).read_value() == 1.5
    assert await node(client, "tank-1/level#estimate/@Quality").read_value() == "uncertain(SETTLING)"
    drift = await (await output.get_child("2:drift")).read_data_value(raise_on_bad_status=False)
    assert drift.StatusCode.name == "BadWaitingForInitialData"


async def test_every_node_of_ours_is_found_by_browsing_and_leads_back(client):
    seen, todo = {}, [await client.nodes.objects.get_child("2:gw-1")]
    while todo:
        at = todo.pop()
        seen[at.nodeid.Identifier] = at
        assert (await at.read_browse_name()).Name
        for child in await at.get_children():
            parent = await child.get_parent()
            assert parent == at
            todo.append(child)
    for name, _, _ in MEASURED:
        assert name in seen
    assert not [name for name in seen if "lineage" in name or "alarms" in name]


async def test_nothing_is_written_called_added_or_deleted(client):
    level = node(client, "press.level")
    writes = [
        ua.WriteValue(level.nodeid, ua.AttributeIds.Value, None, ua.DataValue(ua.Variant(9.9))),
        ua.WriteValue(level.nodeid, ua.AttributeIds.DisplayName, None, ua.DataValue(ua.Variant("x"))),
        ua.WriteValue(ua.NodeId("press.none", 2), ua.AttributeIds.Value, None, ua.DataValue(ua.Variant(1.0))),
        ua.WriteValue(
            ua.NodeId(ua.ObjectIds.Server_Auditing), ua.AttributeIds.Value, None, ua.DataValue(ua.Variant(True))
        ),
    ]
    answers = await client.uaclient.write(ua.WriteParameters(writes))
    assert [a.name for a in answers] == ["BadNotWritable", "BadNotWritable", "BadNodeIdUnknown", "BadNotWritable"]
    call = ua.CallMethodRequest(ua.NodeId(ua.ObjectIds.Server), ua.NodeId(ua.ObjectIds.Server_GetMonitoredItems), [])
    assert [r.StatusCode.name for r in await client.uaclient.call([call])] == ["BadUserAccessDenied"]
    with pytest.raises(uaerrors.BadUserAccessDenied):
        await client.nodes.objects.add_object(2, "mine")
    with pytest.raises(uaerrors.BadUserAccessDenied):
        await client.delete_nodes([level])
    with pytest.raises(uaerrors.BadServiceUnsupported):
        await client.uaclient.register_server(ua.RegisteredServer())
    assert await level.read_value() == 1.5


@pytest.mark.parametrize("policy", POLICIES)
async def test_users_come_in_by_password_plain_or_hashed_or_by_certificate(served, policy):
    async with await served.connect(policy=policy) as made:
        assert await made.get_namespace_index(NAMESPACE) == 2
    async with await served.connect("hmi", "other secret", policy=policy):
        pass
    async with await served.connect(None, policy=policy, token=served.client):
        assert served.part.status()["clients"] == 1


async def refusal(served, **how):
    with pytest.raises(uaerrors.UaStatusCodeError) as refused:
        async with await served.connect(**how):
            pass
    return type(refused.value).__name__


async def test_strangers_are_refused(served, monkeypatch):
    monkeypatch.setattr(served.part._users, "_failures", [])
    before = served.part.status()["refused"]
    assert await refusal(served, user=None) == "BadIdentityTokenRejected"
    assert await refusal(served, password="wrong") == "BadUserAccessDenied"
    assert await refusal(served, user="nobody") == "BadUserAccessDenied"
    assert await refusal(served, user="hmi", password="secret") == "BadUserAccessDenied"
    assert await refusal(served, user=None, token=served.stranger) == "BadUserAccessDenied"
    assert await refusal(served, who=served.stranger) == "BadCertificateUntrusted"
    (kept,) = (served.folder / "state" / "northbound" / "pending").iterdir()
    assert kept.read_bytes() == served.stranger[0].read_bytes()
    assert served.part.status()["refused"] - before == 5
    monkeypatch.setattr(served.part._users, "_failures", [])


async def test_without_encryption_a_client_learns_where_to_connect_and_no_more(served):
    plain = Client(served.url, timeout=30)
    endpoints = await plain.connect_and_get_server_endpoints()
    assert {e.SecurityMode for e in endpoints} == {ua.MessageSecurityMode.SignAndEncrypt}
    plain.set_user("scada")
    plain.set_password("secret")
    with pytest.raises(uaerrors.UaStatusCodeError) as refused:
        await plain.connect()
    assert type(refused.value).__name__ == "BadSecurityPolicyRejected"


async def test_subscribers_hear_of_each_change_of_all_kinds_and_of_nothing_else(served, client):
    heard = Heard()
    subscription = await client.create_subscription(50, heard)
    names = ["press.level", "press.count", "press.on", "press.name", "tank-1/level#sigma", "press.level/@EURange"]
    await subscription.subscribe_data_change([node(client, n) for n in names])
    await heard.until(lambda c: len(c) == len(names))
    first = {name: value for name, value, *_ in heard.changes}
    assert (first["press.level"], first["press.count"], first["press.on"]) == (1.5, 7, True)
    assert (first["press.name"], first["tank-1/level#sigma"], first["press.level/@EURange"].High) == ("p1", 0.02, 2.0)
    assert next(t for name, _, _, t in heard.changes if name == "press.level") == MOMENT
    served.plant.tell(("press.level", 1.5), ("press.name", "p1"), ("press.count", 7), ("press.on", False))
    await heard.until(lambda c: c[-1][:2] == ("press.on", False))
    assert len(heard.changes) == len(names) + 1
    served.plant.tell(("press.level", 1.6, bad(QualityReason.NOT_CONNECTED)))
    served.plant.tell(("press.name", "p2", uncertain(QualityReason.STALE)), ("press.count", 2**62))
    await heard.until(lambda c: len(c) == len(names) + 4)
    last = {name: (value, quality_of(status)) for name, value, status, _ in heard.changes}
    assert last["press.level"] == (None, bad(QualityReason.NOT_CONNECTED))
    assert last["press.name"] == ("p2", uncertain(QualityReason.STALE))
    assert last["press.count"] == (2**62, GOOD)
    await subscription.delete()


async def test_a_deadband_is_kept_and_foreign_filters_are_refused(served, client):
    heard = Heard()
    subscription = await client.create_subscription(50, heard)
    await subscription.deadband_monitor(node(client, "press.level"), 0.5)
    await heard.until(lambda c: len(c) == 1)
    plain = await subscription.subscribe_data_change(node(client, "press.heat"))
    await heard.until(lambda c: len(c) == 2)
    served.plant.tell(("press.level", 1.9), ("press.heat", 61.0))
    await heard.until(lambda c: len(c) == 3)
    assert heard.changes[-1][0] == "press.heat"
    served.plant.tell(("press.level", 2.1))
    await heard.until(lambda c: len(c) == 4)
    assert heard.changes[-1][:2] == ("press.level", 2.1)
    await subscription.unsubscribe(plain)
    with pytest.raises(uaerrors.UaStatusCodeError, match="BadDeadbandFilterInvalid"):
        await subscription.deadband_monitor(node(client, "press.heat"), 5, deadbandtype=2)
    await subscription.delete()


async def test_nodes_come_and_go_with_the_catalogue_while_clients_stay(served, client):
    heard = Heard()
    subscription = await client.create_subscription(50, heard)
    await subscription.subscribe_data_change([node(client, "press.level"), node(client, "press.heat")])
    await heard.until(lambda c: len(c) == 2)
    kept = [row for row in MEASURED if row[0] != "press.heat"]
    served.plant.use(catalogue_of(*kept, first=[("pump.speed", Kind.FLOAT, "rpm")]), served.part)
    await heard.until(lambda c: len(c) == 3)
    assert heard.changes[-1][0] == "press.heat"
    assert ua.StatusCode(heard.changes[-1][2]).name == "BadNodeIdUnknown"
    served.plant.tell(("pump.speed", 900.0), ("press.level", 1.7))
    await heard.until(lambda c: c[-1][:2] == ("press.level", 1.7))
    assert await node(client, "pump.speed").read_value() == 900.0
    assert (
        await (await client.nodes.objects.get_child(["2:gw-1", "2:Devices", "2:pump", "2:speed"])).read_value() == 900
    )
    gone = await node(client, "press.heat").read_data_value(raise_on_bad_status=False)
    assert gone.StatusCode.name == "BadNodeIdUnknown"
    served.plant.use(catalogue_of(), served.part)
    served.plant.tell(("press.heat", 62.0))
    await heard.until(lambda c: c[-1][:2] == ("press.heat", 62.0))
    await subscription.delete()


async def test_bounds_of_requests_items_and_sessions_hold(served, client, monkeypatch):
    subscription = await client.create_subscription(50, Heard())
    with pytest.raises(uaerrors.BadTooManyMonitoredItems):
        await subscription.subscribe_data_change([node(client, "press.level")] * 51)
    limits = "Server_ServerCapabilities_OperationLimits_Max"
    told = [ua.NodeId(getattr(ua.ObjectIds, limits + n)) for n in ("NodesPerRead", "MonitoredItemsPerCall")]
    assert [await client.get_node(n).read_value() for n in told] == [1000, 500]
    many = [ua.ReadValueId(node(client, "press.level").nodeid, ua.AttributeIds.Value)] * 1001
    with pytest.raises(uaerrors.BadTooManyOperations):
        await client.uaclient.read(ua.ReadParameters(NodesToRead=many))
    monkeypatch.setattr(opcua_sessions, "REFERENCES_MAX", 2)
    wanted = ua.BrowseDescription(ua.NodeId("Devices/press", 2), ua.BrowseDirection.Forward, ua.NodeId(33), True, 0, 63)
    (answer,) = await client.uaclient.browse(ua.BrowseParameters(NodesToBrowse=[wanted]))
    found = list(answer.References)
    while answer.ContinuationPoint:
        (answer,) = await client.uaclient.browse_next(ua.BrowseNextParameters(False, [answer.ContinuationPoint]))
        assert len(answer.References) <= 2
        found += answer.References
    assert [f.BrowseName.Name for f in found] == [name.partition(".")[2] for name, *_ in MEASURED]
    await subscription.delete()
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(3):
            await stack.enter_async_context(await served.connect())
        assert await refusal(served) == "BadTooManySessions"


async def test_one_client_cannot_touch_the_subscription_of_another(served, client):
    mine = await client.create_subscription(50, Heard())
    async with await served.connect() as other:
        (answer,) = await other.uaclient.delete_subscriptions([mine.subscription_id])
        assert answer.name == "BadSubscriptionIdInvalid"
    await mine.delete()


async def test_bytes_that_are_no_opc_ua_end_their_connection_and_nothing_else(served, client):
    for sent in (b"GET / HTTP/1.1\r\n\r\n", b"OPNF\xff\xff\xff\x7f" + b"\0" * 200_000):
        reader, writer = await asyncio.open_connection("127.0.0.1", served.part.port)
        writer.write(sent)
        with contextlib.suppress(ConnectionError):
            await writer.drain()
        writer.write_eof()
        async with asyncio.timeout(120):
            with contextlib.suppress(ConnectionError):
                await reader.read()
        writer.close()
    assert await node(client, "press.level").read_value() == 1.5


@pytest.mark.parametrize("code", [quality(k, r) for k in QualityClass for r in QualityReason])
async def test_a_status_keeps_the_class_of_a_quality_and_the_reason_where_opc_ua_has_one(code):
    back = quality_of(int(STATUS[code]))
    assert class_of(back) is class_of(code)
    kept = {
        *(good(QualityReason[n]) for n in ("NONE", "OUT_OF_RANGE", "SUBSTITUTED", "BACKFILLED")),
        *(uncertain(QualityReason[n]) for n in ("NONE", "OUT_OF_RANGE", "STALE", "DEVICE_FAULT", "SUBSTITUTED")),
        *(
            bad(QualityReason[n])
            for n in ("OUT_OF_RANGE", "STALE", "ABSENT", "NOT_CONNECTED", "DEVICE_FAULT", "CLOCK", "DECODE")
        ),
    }
    if code in kept:
        assert back == code


async def test_another_agent_reads_what_this_one_serves(served, tmp_path):
    points = {
        "level": {"at": "Devices/press/level", "as": "float64", "unit": "m"},
        "name": {"at": "s=press.name", "as": "string"},
        "estimate": {"at": "Twins/tank-1/level/estimate", "as": "float64", "unit": "m"},
        "sigma": {"at": "Twins/tank-1/level/sigma", "as": "float64", "unit": "m"},
        "quality": {"at": "s=tank-1/level#estimate/@Quality", "as": "string"},
    }
    written = {"profile": "test/twin", "protocol": "opcua", "namespace": NAMESPACE, "points": points}
    profile = FirmwareProfile.model_validate(written | {"defaults": {"every": "50ms"}})
    (tmp_path / "pw").write_text("secret")
    device = Device.model_validate({
        "opcua": served.url,
        "profile": "test/twin",
        "root": "gw-1",
        "security": {
            "policy": "Basic256Sha256",
            "mode": "sign_and_encrypt",
            "user": "scada",
            "password_file": "pw",
            "server_certificate": str(served.folder / "state/northbound/own.der"),
        },
    })  # fmt: skip
    signals = {n: Signal(i, f"up.{n}", kind_of(p), p.unit) for i, (n, p) in enumerate(profile.points.items())}
    assignment = Assignment("up", device, profile, signals, MILLISECOND_NS, tmp_path)
    own, _ = ensure_certificate(tmp_path / "state", SystemClock())
    (served.folder / "trusted" / "agent.der").write_bytes(own.read_bytes())
    driver = OpcuaDriver([assignment], clock=SystemClock(), rng=random.Random(3), state_dir=tmp_path / "state")
    rows, new = [], asyncio.Event()

    class Sink:
        async def put(self, item):
            for batch in getattr(item, "batches", ()):
                columns = (batch.signal, batch.value, batch.quality, batch.t_ns)
                rows.extend(zip(*(c.tolist() for c in columns), strict=True))
            new.set()

    async def until(*wanted):
        async with asyncio.timeout(120):
            while not set(wanted) <= {row[:3] for row in rows}:
                new.clear()
                await new.wait()

    task = asyncio.create_task(driver.run(Sink()))
    try:
        doubted = uncertain(QualityReason.NONE)
        await until((0, 1.5, GOOD), (1, "p1", GOOD), (2, 1.48, doubted), (3, 0.02, GOOD))
        assert next(t for s, _, q, t in rows if (s, q) == (0, GOOD)) == T0
        served.plant.tell(("press.level", 1.9, uncertain(QualityReason.OUT_OF_RANGE), T0 + 10**9))
        await until((0, 1.9, uncertain(QualityReason.OUT_OF_RANGE)))
        served.plant.tell(("press.level", 0.0, bad(QualityReason.STALE), T0 + 2 * 10**9))
        async with asyncio.timeout(120):
            while (0, bad(QualityReason.STALE)) not in {(s, q) for s, _, q, _ in rows}:
                new.clear()
                await new.wait()
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_a_taken_port_is_named_and_taken_as_soon_as_it_is_free(tmp_path, monkeypatch):
    monkeypatch.setattr("twinedge.northbound.opcua.AGAIN_FIRST_NS", 20_000_000)
    port = free_port()
    taken = await asyncio.start_server(lambda *_: None, "127.0.0.1", port)
    second = Served(tmp_path / "second", {"listen": f"127.0.0.1:{port}", "insecure": True, "anonymous": True})
    task = asyncio.create_task(second.part.run())
    async with asyncio.timeout(120):
        while not second.part.status()["reason"]:  # noqa: ASYNC110  # as the status page does
            await asyncio.sleep(0.02)
    assert second.part.status()["reason"] == "PORT_IN_USE"
    assert "northbound.opcua.listen" in second.part.status()["error"]
    taken.close()
    await taken.wait_closed()
    async with asyncio.timeout(120):
        await second.part.listening.wait()
    assert (second.part.status()["reason"], second.part.status()["serving"]) == ("", True)
    # What is said to be insecure is open to anybody on this machine.
    second.plant.tell(("press.level", 0.5))
    async with Client(second.url, timeout=30) as plain:
        assert await plain.get_node("ns=2;s=press.level").read_value() == 0.5
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
