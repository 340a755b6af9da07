"""Alarms that devices raise themselves: followed, kept, and acknowledged here, there, or at both at once."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from tests.edge.alarms.watched import Agent, directive, running
from twinedge.alarms import devices
from twinedge.ports import AlarmsRepeated, DeviceAlarm
from twinmodel.errors import ConflictError, UnreachableError


async def test_alarm_of_a_device_is_followed_acknowledged_here_and_kept_over_a_restart(site, tmp_path):
    loaded = site([])
    loaded.site.devices["press"] = loaded.site.devices["press"].model_copy(update={"alarms": True})
    agent = Agent(loaded, tmp_path)
    await agent.pipeline.use(agent.catalogue)

    def says(*, active, acked=False):
        t_ns = agent.clock.wall_ns()
        agent.press.says.append(DeviceAlarm("press", "Press.Over heat", active, acked, 850, "oil is at {value}", t_ns))

    says(active=True)
    ((_, record),) = await agent.wait(0.25)
    assert (record.alarm, record.rule, record.state, record.priority) == (
        "press:Press.Over.heat",
        "press",
        "UNACK",
        "urgent",
    )
    assert record.text == "oil is at"
    await agent.alarms.obey(directive("press:Press.Over.heat", do="ack", occurrence=1, by="ann"))
    await agent.taken()
    says(active=True)
    assert await agent.wait(0.25) == []

    agent = Agent(loaded, tmp_path, agent.clock)
    await agent.pipeline.use(agent.catalogue)
    ((_, retold),) = await agent.taken()
    assert (retold.state, retold.text) == ("ACKED", "oil is at")
    assert await agent.wait(70) == []
    says(active=False)
    ((_, record),) = await agent.wait(0.25)
    assert record.state == "NORM"


async def test_acknowledgement_at_the_device_counts_here(site, tmp_path):
    agent = Agent(site([]), tmp_path)
    await agent.pipeline.use(agent.catalogue)
    for active, acked in ((True, False), (True, True), (False, True)):
        agent.press.says.append(DeviceAlarm("press", "High", active, acked, 300, "high", agent.clock.wall_ns()))
    stored = await agent.wait(0.25)
    assert [r.state.value for _, r in stored] == ["UNACK", "ACKED", "NORM"]
    assert stored[1][1].by == "press"


@pytest.fixture
async def hot(site, tmp_path):
    """An agent whose press says that it is hot, and wants to know who has seen it."""
    agent = Agent(site([]), tmp_path)
    await agent.pipeline.use(agent.catalogue)
    agent.press.answer = "acknowledged"
    agent.says = lambda **said: agent.press.says.append(
        DeviceAlarm("press", "Hot", **({"active": True, "acked": False} | said), severity=300, text="hot", t_ns=1)
    )
    agent.says()
    await agent.wait(0.25)
    return agent


async def acknowledged(agent, meanwhile=lambda: None, **body):
    """Acknowledges over the directive; what became of it at the device, and the records until then."""
    await agent.alarms.obey(directive("press:Hot", do="ack", **body))
    answer = next(iter(agent.alarms._answers._waiting.values()), None)
    meanwhile()
    async with running(agent.alarms):
        said = None if answer is None else await answer
    return said, [record for _, record in await agent.taken()]


async def test_acknowledgement_is_told_to_the_device_with_who_and_why_and_its_answer_is_a_step(hot):
    _, (here, there) = await acknowledged(hot, occurrence=1, by="ann", comment="valve")
    assert hot.press.told == [("press", "Hot", "ann: valve")]
    assert (here.state, here.by, here.comment) == ("ACKED", "ann", "valve")
    assert (there.state, there.by, there.comment) == ("ACKED", "ann", "valve [press: acknowledged]")


@pytest.mark.parametrize(
    ("refused", "told"),
    [
        (ConflictError("COMMAND_REFUSED_BY_DEVICE", "BadUserAccessDenied"), "not acknowledged at press: BadUser"),
        (ConflictError("ALARM_CHANGED", "BadEventIdUnknown"), "not acknowledged at press: BadEventId"),
        (UnreachableError("DEVICE_UNREACHABLE", "away"), "not acknowledged at press: away"),
        (UnreachableError("COMMAND_UNANSWERED", "silent"), "perhaps acknowledged at press: silent"),
    ],
)
async def test_device_that_does_not_take_it_is_told_and_the_acknowledgement_here_stays(hot, refused, told):
    hot.press.answer = refused
    with capture_logs() as logs:
        _, (here, there) = await acknowledged(hot, by="ann", comment="x" * 500)
    assert (here.state, there.state) == ("ACKED", "ACKED")
    assert told in there.comment
    assert there.comment.startswith("xxx")
    assert len(there.comment) <= 500
    assert [entry["reason"] for entry in logs if "reason" in entry] == [refused.reason]


async def test_second_acknowledgement_tells_the_device_again_until_it_waits_for_nobody(hot):
    hot.press.answer = UnreachableError("DEVICE_UNREACHABLE", "away")
    await acknowledged(hot, by="ann")
    hot.press.answer = "acknowledged"
    _, (there,) = await acknowledged(hot, by="ann")
    assert there.comment == "[press: acknowledged]"
    hot.press.answer = ""
    assert await acknowledged(hot, by="ann") == (None, [])


async def test_occurrence_that_ended_while_it_waited_is_not_acknowledged_at_the_device(hot):
    def comes_back():
        hot.says(active=False, acked=True)
        hot.says()

    answer, records = await acknowledged(hot, meanwhile=comes_back, by="ann")
    assert (answer.outcome, answer.reason) == ("FAILED", "ALARM_CHANGED")
    assert hot.press.told == []
    assert [record.state.value for record in records] == ["ACKED", "NORM", "UNACK"]


async def test_device_is_told_nothing_unless_the_site_wants_it(hot):
    hot.press.answer = None
    answer, (here,) = await acknowledged(hot, by="ann")
    assert (answer, here.state, hot.press.told) == (None, "ACKED", [])


async def test_acknowledged_here_and_at_the_device_at_once_is_one_acknowledgement(hot):
    hot.press.answer = "acknowledged before"
    hot.says(acked=True)
    _, records = await acknowledged(hot, occurrence=1, by="ann")
    assert [(r.state.value, r.by) for r in records] == [("ACKED", "press"), ("ACKED", "ann")]
    assert records[-1].comment == "[press: acknowledged before]"


async def test_device_without_bounds_does_not_fill_the_memory(site, tmp_path, monkeypatch):
    monkeypatch.setattr(devices, "DEVICE_ALARMS_MAX", 3)
    agent = Agent(site([]), tmp_path)
    await agent.pipeline.use(agent.catalogue)
    agent.press.says = [DeviceAlarm("press", f"c{n}", True, False, 300, "x", n) for n in range(9)]
    with capture_logs() as logs:
        assert len(await agent.wait(0.25)) == 3
    assert [entry["event"] for entry in logs] == ["device has more alarms than are followed"]


async def test_alarm_that_was_raised_anew_is_told_beside_the_acknowledgement_that_waits(hot):
    await hot.alarms.obey(directive("press:Hot", do="ack", occurrence=1, by="ann"))
    hot.says(active=False, acked=True)
    hot.says()
    hot.alarms.tick()
    await hot.alarms.obey(directive("press:Hot", do="ack", occurrence=2, by="bob"))
    first, second = hot.alarms._answers._waiting.values()
    async with running(hot.alarms):
        answers = await asyncio.gather(first, second)
    assert [answer.outcome for answer in answers] == ["FAILED", "SUCCEEDED"]
    assert hot.press.told == [("press", "Hot", "bob")]


async def test_alarm_that_ended_while_no_agent_ran_is_gone_once_the_device_has_repeated_what_stands(site, tmp_path):
    loaded = site([])
    loaded.site.devices["press"] = loaded.site.devices["press"].model_copy(update={"alarms": True})
    agent = Agent(loaded, tmp_path)
    await agent.pipeline.use(agent.catalogue)
    agent.press.says = [DeviceAlarm("press", name, True, False, 300, "x", 1) for name in ("Hot", "Wet", "Low oil")]
    await agent.wait(0.25)
    await agent.alarms.obey(directive("press:Hot", do="ack", occurrence=1, by="ann"))

    agent = Agent(loaded, tmp_path, agent.clock)
    await agent.pipeline.use(agent.catalogue)
    await agent.taken()
    others = AlarmsRepeated(frozenset({"other"}), frozenset(), 5)
    mine = AlarmsRepeated(frozenset({"press"}), frozenset({("press", "Low oil")}), agent.clock.wall_ns())
    agent.press.says = [others, DeviceAlarm("press", "Low oil", True, False, 300, "x", 1), mine]
    stored = [(record.alarm, record.state.value, record.active) for _, record in await agent.wait(0.25)]
    assert [one for one in stored if one[1] == "NORM"] == [("press:Hot", "NORM", False), ("press:Wet", "NORM", False)]
    assert agent.alarms.status()["states"]["UNACK"] == 1
