"""The alarms of a running agent: onto the disk at once, over restarts, and handled from a shell."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress

import pytest
from click.testing import CliRunner
from structlog.testing import capture_logs

from tests.edge.alarms.watched import HIGH, Agent, directive, running
from twinedge.alarms import memory
from twinedge.cli_alarm import alarm_group
from twinedge.control import SOCKET, ControlServer
from twinmodel.errors import ConflictError, StorageError


@pytest.fixture
async def agent(site, tmp_path):
    made = Agent(site([HIGH]), tmp_path)
    await made.pipeline.use(made.catalogue)
    return made


async def test_alarm_is_stored_with_the_commit_that_follows_its_sample(agent):
    ((t_ns, record),) = await agent.say(9.7)
    assert (record.alarm, record.state) == ("tank-high", "UNACK")
    assert t_ns == record.at_ns == agent.clock.wall_ns()


async def test_steps_of_one_moment_have_times_of_their_own_in_order(agent):
    stored = await agent.say(9.7, 1.0, 9.7)
    assert [r.state.value for _, r in stored] == ["UNACK", "RTNUN", "UNACK"]
    assert [t - stored[0][0] for t, _ in stored] == [0, 1_000_000, 2_000_000]


async def test_directive_is_done_recorded_and_kept(agent, tmp_path):
    await agent.say(9.7)
    await agent.alarms.obey(directive("tank-high", do="ack", occurrence=1, by="ann", comment="seen"))
    ((_, record),) = await agent.taken()
    assert (record.state, record.by) == ("ACKED", "ann")
    again = Agent(agent.loaded, tmp_path, agent.clock)
    await again.pipeline.use(again.catalogue)
    ((_, retold),) = await again.taken()
    assert (retold.state, retold.by, retold.comment) == ("ACKED", "ann", "seen")


async def test_directive_for_an_earlier_occurrence_is_rejected(agent):
    await agent.say(9.7, 1.0, 9.7)
    with pytest.raises(ConflictError, match="ALARM_CHANGED"):
        await agent.alarms.obey(directive("tank-high", do="ack", occurrence=1))


async def test_agent_that_ends_keeps_what_stands(agent, tmp_path):
    async with running(agent.alarms):
        await agent.say(9.7)
    again = Agent(agent.loaded, tmp_path, agent.clock)
    await again.pipeline.use(again.catalogue)
    ((_, retold),) = await again.taken()
    assert retold.state == "UNACK"


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"v": 9, "alarms": {}}', b'{"v": 1, "alarms": 3}', b"\xff\xfe"]
)
async def test_damaged_file_is_told_and_set_aside_and_alarms_begin_anew(site, tmp_path, content):
    (tmp_path / memory.FILE).write_bytes(content)
    with capture_logs() as logs:
        agent = Agent(site([HIGH]), tmp_path)
    assert [entry["event"] for entry in logs] == ["file is damaged, set aside"]
    assert (tmp_path / "alarms.json.damaged").exists()
    await agent.pipeline.use(agent.catalogue)
    assert len(await agent.say(9.7)) == 1


async def test_disk_that_refuses_the_file_stops_no_alarm_and_no_acknowledgement(agent, monkeypatch):
    def full(*_):
        raise StorageError("STORE_FULL", "no room")

    with monkeypatch.context() as patched, capture_logs() as logs:
        patched.setattr(memory, "write_durably", full)
        assert len(await agent.say(9.7)) == 1
        for do in ("ack", "comment"):
            await agent.alarms.obey(directive("tank-high", do=do))
    assert [e["event"] for e in logs if e["log_level"] == "warning"] == ["states of alarms are not kept"]
    assert agent.alarms.status()["states"]["ACKED"] == 1


async def test_other_rules_hold_with_the_next_look_where_signals_stay(agent, site):
    await agent.say(9.7)
    agent.alarms.configure(site(["low: {on: press.level, low: 1}"]))
    ((_, record),) = await agent.wait(0.25)
    assert (record.alarm, record.state) == ("tank-high", "NORM")
    ((_, record),) = await agent.say(0.5)
    assert record.alarm == "low"


async def test_models_raise_alarms_that_name_the_cause(site, tmp_path):
    rest = """alarm_defaults: {communication: false}
twins:
  tank-1: {definition: tank, inputs: {}, outputs: {level: press.level}, model: tank@1}"""
    rules = ["d: {on: tank-1, drift: true}", "r: {on: tank-1, regime: true}", "x: {on: tank-1/level, deviation: 4}"]
    agent = Agent(site(rules, rest=rest), tmp_path)
    await agent.pipeline.use(agent.catalogue)
    agent.runner.says()
    assert await agent.wait(2) == []
    agent.runner.says(drifting=True, isolation="sensor:level", left=("box:pump",), off=-2.5)
    stored = {record.alarm: record for _, record in await agent.wait(2)}
    assert stored["d"].text == "tank-1 does not behave as its model: the sensor of level is to blame, not the model"
    assert stored["r"].text == "tank-1 has left where its model holds: box:pump"
    assert stored["x"].value == 5.0
    agent.runner.says(off=1.9)
    assert {r.alarm: r.state.value for _, r in await agent.wait(2)} == dict.fromkeys("drx", "RTNUN")


async def test_what_a_drift_was_isolated_to_is_told_once_it_is_known(site, tmp_path):
    rest = """alarm_defaults: {communication: false}
twins:
  tank-1: {definition: tank, inputs: {}, outputs: {level: press.level}, model: tank@1}"""
    agent = Agent(site(["d: {on: tank-1, drift: true}"], rest=rest), tmp_path)
    await agent.pipeline.use(agent.catalogue)
    agent.runner.says(drifting=True, isolation="pending")
    ((_, first),) = await agent.wait(2)
    assert first.text == "tank-1 does not behave as its model: the cause is being isolated"
    agent.runner.says(drifting=True, isolation="model")
    ((_, second),) = await agent.wait(2)
    assert second.text == "tank-1 does not behave as its model: no sensor explains it, the model is to blame"
    assert (second.occurrence, second.state) == (first.occurrence, first.state)
    assert await agent.wait(2) == []


async def test_status_counts_and_lists_what_stands(agent):
    await agent.say(9.7)
    status = agent.alarms.status()
    assert (status["states"]["UNACK"], status["active"]["medium"], status["raised"], status["records"]) == (1, 1, 1, 1)
    assert [one["alarm"] for one in status["list"]] == ["tank-high"]
    json.dumps(status, allow_nan=False)


async def test_shell_lists_acknowledges_and_shelves(agent, tmp_path):
    await agent.say(9.7)
    control = ControlServer(tmp_path / SOCKET)
    agent.alarms.serve(control)
    task = asyncio.create_task(control.run())
    await control.listening.wait()

    async def shell(*words):
        arguments = [*words, "--state", str(tmp_path)]
        with capture_logs():  # the agent of this test logs where the command prints
            return await asyncio.to_thread(CliRunner().invoke, alarm_group, arguments)

    try:
        assert "tank-high" in (await shell("list")).output
        shown = json.loads((await shell("show", "tank-high", "-o", "json")).stdout)
        assert (shown["state"], shown["kind"], shown["steps"]) == ("UNACK", "high", [])
        assert (await shell("show", "tank-hihg")).exception.hint == "did you mean `tank-high`?"
        assert (await shell("ack", "tank-high", "--occurrence", "1", "--by", "ann")).output == "tank-high is ACKED\n"
        shelved = await shell("shelve", "tank-high", "--for", "30min", "--by", "ann", "-o", "json")
        assert json.loads(shelved.output)["state"] == "SHELVED"
        assert (await shell("unshelve", "tank-high", "--by", "ann")).output == "tank-high is UNACK\n"
        assert (await shell("out-of-service", "tank-high", "--by", "ann")).exit_code == 0
        assert (await shell("in-service", "tank-high", "--by", "ann")).output == "tank-high is UNACK\n"
        assert (await shell("ack", "no-such")).exception.reason == "UNKNOWN_ALARM"
        assert (await shell("shelve", "tank-high", "--for", "soon")).exit_code == 2
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def test_file_holds_what_stands_before_what_does_not_and_no_more_than_can_be_read(tmp_path):
    kept = memory.Memory(tmp_path / memory.FILE)
    alarms = {f"n{n}": {"told": None, "at_ns": n, "text": "x" * 500} for n in range(9000)}
    alarms |= {f"s{n}": {"told": "y" * 2000, "at_ns": 0} for n in range(1500)}
    kept.keep(alarms)
    found = kept.load()
    assert {name for name in alarms if name.startswith("s")} <= found.keys()
    assert 1500 < len(found) <= memory.KEPT_MAX
