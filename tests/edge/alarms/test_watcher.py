"""The alarms of a running agent: onto the disk at once, over restarts, and handled from a shell."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager, suppress
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner
from structlog.testing import capture_logs

from twinedge.alarms import devices, memory
from twinedge.alarms.watcher import Alarms
from twinedge.cli_alarm import alarm_group
from twinedge.config.catalogue import build_catalogue
from twinedge.control import SOCKET, ControlServer
from twinedge.gate.gate import Gate
from twinedge.gate.rules import Rules
from twinedge.lanes import Lanes, windows_of
from twinedge.pipeline import Pipeline
from twinedge.ports import Delivery, DeviceAlarm
from twinedge.replays import Replays
from twinmodel.alarms.records import decode
from twinmodel.clock import SECOND_NS, ManualClock
from twinmodel.errors import ConflictError, StorageError, UnreachableError
from twinmodel.signal import ALARMS_SIGNAL, Batch, Kind, Stream
from twinsync.directive import Directive, DirectiveKind

HIGH = "tank-high: {on: press.level, high: 9.5}"


class Runner:
    """A twin whose model says what the test wants."""

    def __init__(self):
        self.wiring = SimpleNamespace(twin="tank-1")
        self.slot = SimpleNamespace(current=lambda: SimpleNamespace(outputs=[SimpleNamespace(name="level")]))
        self.last = None

    def says(self, *, drifting=False, isolation="", left=(), off=0.0):
        said = SimpleNamespace(verdict=isolation) if isolation else None
        self.last = SimpleNamespace(
            drifting=drifting, isolation=said, left=left, t_ns=1, innovation=np.array([off]), spread=np.array([0.5])
        )


class Press:
    """A driver whose device raises alarms itself, and may be told that they were seen."""

    name = "opcua press"

    def __init__(self):
        self.says = []
        self.told = []
        self.answer = None

    def answers(self, _device):
        return self.answer is not None

    async def acknowledge(self, device, condition, comment):
        self.told.append((device, condition, comment))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def health(self):
        return []

    def take_alarms(self):
        said, self.says = self.says, []
        return said


class Agent:
    """As much of an agent as alarms need; `stored` is what was committed."""

    def __init__(self, loaded, tmp_path, clock=None):
        self.clock = clock or ManualClock(boot_ns=100 * SECOND_NS)
        self.loaded, self.catalogue = loaded, build_catalogue(loaded)
        self.runner, self.press = Runner(), Press()
        self.stored = []
        lanes = Lanes(windows_of(SECOND_NS, 10 * SECOND_NS))
        gate = Gate(Rules.none(len(self.catalogue)), self.clock)
        self.pipeline = Pipeline(Replays([]), gate, lanes, [], self.commit, self.clock)
        self.alarms = Alarms(
            loaded, tmp_path, self.clock,
            record=self.pipeline.record, drivers=lambda: [self.press], runners=lambda: [self.runner],
        )  # fmt: skip
        self.pipeline.watchers.append(self.alarms)

    async def commit(self, flush, catalogue):
        for stream, batches in flush.parts:
            for batch in batches:
                if stream is Stream.ALARM:
                    assert {catalogue.signals[s].name for s in batch.signal.tolist()} == {ALARMS_SIGNAL}
                    self.stored += zip(batch.t_ns.tolist(), map(decode, batch.value.tolist()), strict=True)

    async def say(self, *values):
        """Values of the level, through the pipeline; returns what is stored of alarms without any wait."""
        signal, t_ns = self.catalogue.by_name["press.level"].id, self.clock.wall_ns()
        count = len(values)
        batch = Batch.of(Kind.FLOAT, [signal] * count, values, [0] * count, [t_ns] * count)
        await self.pipeline.put(Delivery("press", (batch,), urgent=True))
        return await self.taken()

    async def taken(self):
        await self.pipeline.commit(everything=False)
        stored, self.stored = self.stored, []
        return stored

    async def wait(self, seconds):
        for _ in range(round(seconds * 4)):
            self.clock.advance(SECOND_NS // 4)
            self.alarms.tick()
        return await self.taken()


@pytest.fixture
async def agent(site, tmp_path):
    made = Agent(site([HIGH]), tmp_path)
    await made.pipeline.use(made.catalogue)
    return made


def directive(alarm, **body):
    content = json.dumps(body).encode()
    return Directive("1", DirectiveKind.ALARM, f"@alarm/{alarm}", 1, b"", 0, "", 0, content)


@asynccontextmanager
async def running(alarms):
    task = asyncio.create_task(alarms.run())
    await asyncio.sleep(0)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


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
    answer = agent.alarms._answers._waiting.get("press:Hot")
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


def test_file_holds_what_stands_before_what_does_not_and_no_more_than_can_be_read(tmp_path):
    kept = memory.Memory(tmp_path / memory.FILE)
    alarms = {f"n{n}": {"told": None, "at_ns": n, "text": "x" * 500} for n in range(9000)}
    alarms |= {f"s{n}": {"told": "y" * 2000, "at_ns": 0} for n in range(1500)}
    kept.keep(alarms)
    found = kept.load()
    assert {name for name in alarms if name.startswith("s")} <= found.keys()
    assert 1500 < len(found) <= memory.KEPT_MAX
