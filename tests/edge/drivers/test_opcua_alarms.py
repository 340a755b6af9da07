"""Alarms and conditions of an OPC UA server: heard, repeated after a reconnect, and gone when they are not repeated."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime

import pytest
import pytest_asyncio
from asyncua import Server, ua

from tests.ports import free_port
from twinedge.drivers import opcua_alarms
from twinedge.drivers.opcua import OpcuaDriver
from twinedge.ports import AlarmsRepeated, DeviceAlarm
from twinmodel.clock import SystemClock
from twinmodel.errors import TwinError, UnreachableError

pytestmark = pytest.mark.asyncio(loop_scope="module")

URI = "urn:test:press"
PROFILE = {"namespace": URI, "defaults": {"every": "50ms"}, "points": {"flow": {"at": "Flow", "as": "float64"}}}
AT = datetime(2026, 5, 1, 12, 0, 0, tzinfo=UTC)


class Plant:
    """A server with conditions of its own."""

    async def start(self):
        self.port = free_port()
        self.server = Server()
        self.server.iserver.bind_condition_methods = 1  # answers ConditionRefresh
        await self.server.init()
        self.server.set_endpoint(f"opc.tcp://127.0.0.1:{self.port}/")
        self.server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
        self.idx = await self.server.register_namespace(URI)
        self.press = await self.server.nodes.objects.add_object(self.idx, "Press")
        self.objects = set()
        await self.press.add_variable(self.idx, "Flow", 1.5)
        self.conditions = {}
        self.answer, self.acknowledged = None, []
        method = self.server.get_node(ua.NodeId(ua.ObjectIds.AcknowledgeableConditionType_Acknowledge))
        self.server.link_method(method, self.acknowledge)
        await self.server.start()
        return self

    async def acknowledge(self, condition, event, comment):
        """As Part 9 says: what is known by another event is not acknowledged."""
        name = condition.Identifier.removeprefix("cond.")
        known = self.conditions[name].event
        if self.answer is not None:
            return ua.StatusCode(self.answer)
        if event.Value != known.EventId.Value:
            return ua.StatusCode(ua.StatusCodes.BadEventIdUnknown)
        if getattr(known, "AckedState/Id"):
            return ua.StatusCode(ua.StatusCodes.BadConditionBranchAlreadyAcked)
        self.acknowledged.append((name, comment.Value.Text))
        await self.say(name, active=getattr(known, "ActiveState/Id"), acked=True)
        return ua.StatusCode(ua.StatusCodes.Good)

    async def say(self, name, *, active, acked=False, retain=True, severity=700, text="level high", source="Press"):
        if name not in self.conditions:
            made = await self.server.get_event_generator(ua.ObjectIds.AlarmConditionType)
            event = made.event
            event.ConditionName, event.NodeId = name, ua.NodeId(f"cond.{name}", self.idx)
            event.SourceName = source
            event.add_variable("EnabledState/Id", True, ua.VariantType.Boolean)
            event.add_variable("ActiveState/Id", None, ua.VariantType.Boolean)
            event.add_variable("AckedState/Id", None, ua.VariantType.Boolean)
            self.conditions[name] = made
            if event.NodeId not in self.objects:
                self.objects.add(event.NodeId)
                await self.press.add_object(event.NodeId, ua.QualifiedName(name, self.idx))
        event = self.conditions[name].event
        setattr(event, "ActiveState/Id", active)
        setattr(event, "AckedState/Id", acked)
        event.Retain, event.Severity, event.Message = retain, severity, ua.LocalizedText(text)
        await self.conditions[name].trigger(time_attr=AT)

    def forget(self):
        """As a server that was restarted, and whose conditions have gone meanwhile."""
        self.server.iserver.subscription_service._conditions.clear()
        self.conditions.clear()
        self.answer, self.acknowledged = None, []


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared():
    made = await Plant().start()
    yield made
    await made.server.stop()


@pytest_asyncio.fixture(loop_scope="module")
async def plant(shared):
    shared.forget()
    return shared


@pytest.fixture
def make(assign, rng, tmp_path, monkeypatch):
    monkeypatch.setattr("twinedge.drivers.opcua.WATCHDOG_S", 0.05)

    def build(port, **device):
        keys = {"opcua": f"opc.tcp://127.0.0.1:{port}/", "root": "Press", "alarms": True} | device
        assignments, _ = assign(("p", keys, PROFILE))
        return OpcuaDriver(assignments, clock=SystemClock(), rng=rng, state_dir=tmp_path / "state")

    return build


class Heard:
    """What a driver tells."""

    def __init__(self, driver):
        self.driver = driver
        self.alarms, self.repeated = [], []

    async def until(self, count):
        async with asyncio.timeout(30):
            while len(self.alarms) < count:
                await self.more()
        return self.alarms[:count]

    async def more(self):
        for one in self.driver.take_alarms():
            (self.alarms if isinstance(one, DeviceAlarm) else self.repeated).append(one)
        await asyncio.sleep(0.01)


class Sink:
    async def put(self, _item): ...


@contextlib.asynccontextmanager
async def running(driver):
    task = asyncio.create_task(driver.run(Sink()))
    try:
        yield Heard(driver)
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_condition_that_stands_is_told_at_the_connect_and_each_change_after_it(plant, make):
    await plant.say("High", active=True)
    async with running(make(plant.port)) as heard:
        (first,) = await heard.until(1)
        assert (first.device, first.condition, first.active, first.acked) == ("p", "Press.High", True, False)
        assert (first.severity, first.text) == (700, "level high")
        assert first.t_ns == round(AT.timestamp()) * 1_000_000_000
        await plant.say("High", active=True, acked=True)
        await plant.say("High", active=False, acked=True, retain=False)
        _, acked, gone = await heard.until(3)
    assert (acked.active, acked.acked) == (True, True)
    assert (gone.active, gone.acked) == (False, True)


async def test_condition_that_is_not_repeated_after_a_reconnect_has_gone(plant, make):
    await plant.say("High", active=True)
    await plant.say("Low", active=True, severity=100)
    driver = make(plant.port)
    async with running(driver) as heard:
        assert {a.condition for a in await heard.until(2)} == {"Press.High", "Press.Low"}
    plant.forget()
    await plant.say("Low", active=True, severity=100)
    async with running(driver) as heard:
        (gone,) = await heard.until(1)
    assert (gone.condition, gone.active, gone.acked) == ("Press.High", False, True)


SEEN = {"alarms": {"acknowledge": True}}


async def test_acknowledgement_reaches_the_server_with_who_and_why_and_comes_back_as_its_event(plant, make):
    await plant.say("High", active=True)
    async with running(make(plant.port, **SEEN)) as heard:
        await heard.until(1)
        assert heard.driver.answers("p")
        assert await heard.driver.acknowledge("p", "Press.High", "ann: valve") == "acknowledged"
        _, acked = await heard.until(2)
        assert (acked.active, acked.acked) == (True, True)
        assert await heard.driver.acknowledge("p", "Press.High", "ann") == ""
        assert await heard.driver.acknowledge("p", "Press.Low", "ann") == ""
    assert plant.acknowledged == [("High", "ann: valve")]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("BadUserAccessDenied", "COMMAND_REFUSED_BY_DEVICE"),
        ("BadEventIdUnknown", "ALARM_CHANGED"),
        ("BadMethodInvalid", "COMMAND_REFUSED_BY_DEVICE"),
        ("BadTimeout", "COMMAND_UNANSWERED"),
    ],
)
async def test_refusal_of_a_server_is_typed_with_its_code_and_the_session_goes_on(plant, make, answer, reason):
    await plant.say("High", active=True)
    async with running(make(plant.port, **SEEN)) as heard:
        await heard.until(1)
        plant.answer = getattr(ua.StatusCodes, answer)
        with pytest.raises(TwinError) as refused:
            await heard.driver.acknowledge("p", "Press.High", "ann")
        assert (refused.value.reason, refused.value.facts["code"]) == (reason, answer)
        plant.answer = ua.StatusCodes.BadConditionBranchAlreadyAcked
        assert await heard.driver.acknowledge("p", "Press.High", "ann") == "acknowledged before"
        plant.answer = None
        assert await heard.driver.acknowledge("p", "Press.High", "ann") == "acknowledged"


async def test_newest_state_is_acknowledged_and_none_over_a_link_that_is_down(plant, make):
    await plant.say("High", active=True)
    driver = make(plant.port, **SEEN)
    async with running(driver) as heard:
        await heard.until(1)
        await plant.say("High", active=True, severity=900)
        await heard.until(2)
        assert await driver.acknowledge("p", "Press.High", "ann") == "acknowledged"
    with pytest.raises(UnreachableError) as away:
        await driver.acknowledge("p", "Press.High", "ann")
    assert away.value.reason == "DEVICE_UNREACHABLE"
    assert len(plant.acknowledged) == 1


async def test_server_is_told_nothing_where_the_site_only_takes_its_alarms_over(make):
    assert not make(1).answers("p")
    assert not make(1, alarms={"acknowledge": False}).answers("p")


async def test_device_that_asks_for_no_alarms_is_told_none(plant, make):
    driver = make(plant.port, alarms=False)
    assert driver._alarms._links == []
    await driver._alarms.begin(None, None)
    assert driver._alarms.subscription is None


def told(feed, **fields):
    values = dict.fromkeys(("kind", "source", "time", "message", "severity", "name", "branch", "retain"))
    values |= dict.fromkeys(("enabled", "acked", "active", "condition", "event"))
    feed._event(list((values | fields).values()), 5)
    return feed.take()


@pytest.fixture
def feed(make):
    return make(1)._alarms


async def test_event_that_is_no_condition_or_an_earlier_branch_is_passed_over(feed):
    assert told(feed, source="Press", severity=5) == []
    branch = ua.NodeId("old", 2)
    assert told(feed, condition=ua.NodeId(1), branch=branch, active=True) == []


async def test_condition_without_states_stands_while_the_server_retains_it(feed):
    (up,) = told(feed, condition=ua.NodeId(1), name="Service", retain=True)
    (down,) = told(feed, condition=ua.NodeId(1), name="Service", retain=False)
    assert (up.active, up.acked, down.active, down.acked) == (True, False, False, True)


async def test_fields_of_foreign_types_do_no_harm(feed):
    (one,) = told(feed, condition=ua.NodeId(1), source=3, message=b"x", severity="loud", time=None, retain=True)
    assert (one.severity, one.text, one.t_ns) == (1, "i=1", 5)


async def test_two_conditions_of_one_name_stay_apart(feed):
    (one,) = told(feed, condition=ua.NodeId(1), name="High", retain=True)
    (two,) = told(feed, condition=ua.NodeId(2), name="High", retain=True)
    assert one.condition == "High"
    assert two.condition.startswith("High~")


async def test_conditions_beyond_the_bound_are_an_error_of_the_device(feed, monkeypatch):
    monkeypatch.setattr(opcua_alarms, "CONDITIONS_MAX", 1)
    assert len(told(feed, condition=ua.NodeId(1), retain=True)) == 1
    assert told(feed, condition=ua.NodeId(2), retain=True) == []
    assert feed._links[0].errors == 1


async def test_bytes_that_are_no_event_are_an_error_of_the_device(feed):
    feed.hear([b"\x05\x00\x00\x00garbage"], 5)
    assert feed.take() == []
    assert feed._links[0].errors == 1


async def test_first_refresh_of_a_driver_says_what_stands_to_those_who_heard_of_more_before_it(plant, make):
    await plant.say("High", active=True)
    async with running(make(plant.port)) as heard, asyncio.timeout(30):
        while not heard.repeated:
            await heard.more()
    (repeated,) = heard.repeated
    assert (repeated.devices, repeated.standing) == ({"p"}, {("p", "Press.High")})


async def test_what_stands_is_said_once_and_not_where_the_server_has_more_than_is_followed(feed, monkeypatch):
    def refreshed():
        return [*told(feed, kind=ua.NodeId(2787)), *told(feed, kind=ua.NodeId(2788))]

    monkeypatch.setattr(opcua_alarms, "CONDITIONS_MAX", 0)
    assert refreshed() == []
    monkeypatch.setattr(opcua_alarms, "CONDITIONS_MAX", 9)
    assert refreshed() == [AlarmsRepeated(frozenset({"p"}), frozenset(), 5)]
    assert refreshed() == []
