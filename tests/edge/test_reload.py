"""Another configuration while devices are read: no sample is lost, and nothing is touched that did not change."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest
import structlog

from tests.edge.counting import CountingServer
from tests.edge.running_agent import running, stored
from twinedge import administration
from twinedge.config.history import History
from twinedge.config.source import Source
from twinedge.drivers.modbus import ModbusDriver
from twinedge.spool.store import Spool
from twinmodel.errors import ConfigError, InputError, MissingError, StorageError

PROFILE = """\
profile: acme/{name}
protocol: modbus
base: 0
defaults: {{every: 20ms}}
points:
  a: {{at: holding 0, as: uint16}}
  b: {{at: holding 1, as: uint16, unit: {unit}}}
{more}"""


class Plant:
    """Counting servers, a site that reads them, and what edits it."""

    def __init__(self, folder, servers):
        self.folder, self.servers = folder, servers
        self.config, self.state = folder / "site.yaml", folder / "state"
        self.lines = {f"d{n}": f'modbus: "tcp://127.0.0.1:{s.port}", profile: acme/p{n}' for n, s in enumerate(servers)}
        for n in range(len(servers)):
            self.profile(n)
        self.write()

    def profile(self, number, *, unit="V", more=""):
        path = self.folder / f"profiles/acme/p{number}/1.0.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(PROFILE.format(name=f"p{number}", unit=unit, more=more))

    def write(self, more=""):
        devices = "".join(f"  {name}: {{{line}}}\n" for name, line in self.lines.items())
        self.config.write_text(
            f"site: here\nprofiles: profiles\nstatus: {{port: 0}}\nspool: {{sync: 50ms, sync_telemetry: 50ms}}\n"
            f"devices:\n{devices}{more}"
        )

    async def read_on(self, reads=3):
        """Waits until each device was read some more times."""
        wanted = [(server, server.reads[0] + reads) for server in self.servers]
        for server, count in wanted:
            await server.until(lambda server=server, count=count: server.reads[0] >= count)

    def holes(self, tmp_path):
        """Signals of which a value between the first and the last one is missing or doubled."""
        found = {}
        for name, rows in stored(self.state, tmp_path).items():
            values = [int(float(row["value"])) for row in rows if row["value"] not in ("", "nan")]
            if sorted(values) != list(range(min(values), max(values) + 1)):
                found[name] = values
        return found


@pytest.fixture
async def plant(tmp_path, monkeypatch):
    # However busy the machine is: a reply that comes too late was served, and is not stored.
    monkeypatch.setitem(ModbusDriver.__init__.__kwdefaults__, "timeout_s", 60.0)
    async with AsyncExitStack() as stack:
        servers = []
        for _ in range(3):
            servers.append(await CountingServer().start())
            stack.push_async_callback(servers[-1].stop)
        yield Plant(tmp_path, servers)


EDITS = (
    {"more": "  c: {at: holding 2, as: uint16}\n"},
    {"more": "  c: {at: holding 2, as: uint16, range: [0, 5]}\n"},
    {},
    {"unit": "mV"},
    {"unit": "mV", "more": "  e: {at: holding 3, as: uint16}\n"},
    {},
)


async def test_edits_of_one_tag_lose_no_sample_and_keep_every_socket(plant, tmp_path, request, record_property):
    edits = 1_000 if request.config.getoption("--campaign") else 60
    took_ms = []
    async with running(plant.config, plant.state) as asked:
        await plant.read_on()
        for number in range(edits):
            plant.profile(1, **EDITS[number % len(EDITS)])
            done = await asked("config.reload", who="test", why=f"edit {number}")
            assert (len(done["kept"]), len(done["changed"]), done["restarted"], done["faults"]) == (2, 1, [], [])
            took_ms.append(done["took_ms"])
        await plant.read_on()
    assert [server.connections for server in plant.servers] == [[1], [1], [1]]
    assert plant.holes(tmp_path) == {}
    served = [server.reads[0] for server in plant.servers]
    rows = stored(plant.state, tmp_path)
    for n, count in enumerate(served):
        # The last poll may have been cut by the end of the agent.
        assert len(rows[f"d{n}.a"]) in {count, count - 1}
    took_ms.sort()
    structlog.get_logger().info(
        "edits of one tag", edits=edits, p50=took_ms[edits // 2], p99=took_ms[edits * 99 // 100]
    )


async def test_one_bad_device_is_named_and_reads_on_as_before_while_the_rest_changes(plant, tmp_path):
    async with running(plant.config, plant.state) as asked:
        await plant.read_on()
        plant.lines["d0"] += ", unti_id: 2"
        plant.profile(1, more="  c: {at: holding 2, as: uint16}\n")
        plant.write()
        done = await asked("config.reload", who="test", why="one is wrong")
        assert [(f["part"], f["name"], f["reason"], f["line"]) for f in done["faults"]] == [
            ("device", "d0", "UNKNOWN_KEY", 6)
        ]
        assert (len(done["changed"]), len(done["kept"]), done["outcome"]) == (1, 2, "partly")
        await plant.read_on()
        assert plant.servers[1].reads[2]
        shown = await asked("config.show")
        assert [f["name"] for f in shown["faults"]] == ["d0"]
    assert [server.connections for server in plant.servers] == [[1], [1], [1]]
    assert plant.holes(tmp_path) == {}
    # A restart does not forget what the bad one was.
    async with running(plant.config, plant.state):
        await plant.read_on()


async def test_a_file_that_cannot_be_parsed_changes_nothing(plant, tmp_path):
    async with running(plant.config, plant.state) as asked:
        await plant.read_on()
        before = (await asked("config.show"))["digest"]
        good = plant.config.read_text()
        plant.config.write_text(good + "devices: [")
        with pytest.raises(ConfigError, match="YAML_INVALID"):
            await asked("config.reload", who="test", why="")
        with pytest.raises(ConfigError, match="VALUE_INVALID"):
            await asked("config.apply", text=good.replace("port: 0", "port: -1"), who="test", why="")
        with pytest.raises(ConfigError, match=r"/mnt/draft\.yaml:.*YAML_INVALID"):
            await asked("config.apply", text="devices: [", file="/mnt/draft.yaml", who="test", why="")
        await plant.read_on()
        shown = await asked("config.show")
        assert (shown["digest"], shown["file_differs"]) == (before, True)
    assert [server.connections for server in plant.servers] == [[1], [1], [1]]
    # At the next start the last good one runs, as a gateway has to come back.
    async with running(plant.config, plant.state) as asked:
        await plant.read_on()
        assert (await asked("config.show"))["faults"][0]["reason"] == "YAML_INVALID"


async def test_devices_come_and_go_and_addresses_move_while_the_others_are_read(plant, tmp_path):
    other = await CountingServer().start()
    async with running(plant.config, plant.state) as asked:
        await plant.read_on()
        gone = plant.lines.pop("d2")
        plant.lines["d0"] = f'modbus: "tcp://127.0.0.1:{other.port}", profile: acme/p0'
        plant.write()
        done = await asked("config.reload", who="test", why="moved")
        assert (len(done["kept"]), len(done["started"]), len(done["stopped"])) == (1, 1, 2)
        await other.until(lambda: other.reads[0] > 2)
        assert not plant.servers[0].open
        assert not plant.servers[2].open
        plant.lines["d2"] = gone
        plant.write()
        done = await asked("config.reload", who="test", why="back")
        assert (len(done["kept"]), len(done["started"])) == (2, 1)
        await plant.servers[2].until(lambda: plant.servers[2].open)
    assert plant.servers[1].connections == [1]
    await other.stop()


async def test_the_history_says_who_and_why_and_leads_back(plant, tmp_path):
    async with running(plant.config, plant.state) as asked:
        first = (await asked("config.show"))["digest"]
        plant.profile(1, more="  c: {at: holding 2, as: uint16}\n")
        await asked("config.reload", who="anna", why="one more")
        text = plant.config.read_text().replace("sync: 50ms", "sync: 60ms", 1)
        await asked("config.apply", text=text, who="otto", why="slower")
        back = await asked("config.rollback", number=1, who="anna", why="not good")
        assert (back["digest"], back["number"], back["outcome"]) == (first, 4, "applied")
        told = await asked("config.history")
        assert told["in_force"] == 4
        assert [(r["number"], r["origin"], r["who"], r["why"]) for r in told["records"]] == [
            (1, "file", "agent", "first start"),
            (2, "file", "anna", "one more"),
            (3, "control", "otto", "slower"),
            (4, "rollback", "anna", "not good"),
        ]
        with pytest.raises(MissingError, match="NOT_FOUND"):
            await asked("config.rollback", number=9, who="anna", why="")
        with pytest.raises(InputError, match="REQUEST_INVALID"):
            await asked("config.rollback", who="anna", why="")
    # site.yaml is as it was at the rollback: what runs stays what it is.
    async with running(plant.config, plant.state) as asked:
        assert (await asked("config.show"))["digest"] == first
    # It was edited since: it counts again.
    plant.write("# edited\n")
    async with running(plant.config, plant.state) as asked:
        shown = await asked("config.show")
        assert (shown["file_differs"], shown["why"], shown["number"]) == (False, "edited before the start", 5)


async def test_a_disk_that_refuses_during_a_reload_keeps_nothing_from_running_and_loses_nothing(
    plant, tmp_path, monkeypatch
):
    full = False
    monkeypatch.setattr(administration, "KEEP_AGAIN_S", 0.05)

    def refusing(method):
        def call(self, *arguments, **keywords):
            if full:
                raise StorageError("STORE_FULL", "no space left")
            return method(self, *arguments, **keywords)

        return call

    for owner, name in ((Spool, "append_many"), (Spool, "put_catalogue"), (History, "add")):
        monkeypatch.setattr(owner, name, refusing(getattr(owner, name)))
    async with running(plant.config, plant.state) as asked:
        await plant.read_on()
        full = True
        for more in ("  c: {at: holding 2, as: uint16}\n", "", "  c: {at: holding 2, as: uint16}\n"):
            plant.profile(1, more=more)
            done = await asked("config.reload", who="test", why="full disk")
            await plant.read_on()
        assert (done["outcome"], (await asked("config.show"))["kept"]) == ("applied", False)
        full = False
        await plant.read_on()
        while not (shown := await asked("config.show"))["kept"]:
            await plant.read_on()
        assert (shown["number"], shown["why"]) == (2, "full disk")
        assert History(plant.state).in_force().number == 2
    assert plant.holes(tmp_path) == {}
    assert plant.servers[1].reads[2]


async def test_a_hangup_takes_the_file_and_one_that_is_wrong_changes_nothing(plant):
    async with running(plant.config, plant.state) as asked:
        await plant.read_on()
        good = plant.config.read_text()
        plant.config.write_text("devices: [")
        asked.agent.hangup.set()
        await plant.read_on()
        plant.config.write_text(good)
        plant.profile(1, more="  c: {at: holding 2, as: uint16}\n")
        asked.agent.hangup.set()
        await plant.servers[1].until(lambda: plant.servers[1].reads[2] > 1)
    assert [server.connections for server in plant.servers] == [[1], [1], [1]]


async def test_what_the_agent_amends_by_itself_meanwhile_does_not_bring_the_old_configuration_back(plant):
    async with running(plant.config, plant.state) as asked:
        stages = asked.agent.stages
        plant.lines.pop("d2")
        plant.write()
        held = stages.reload._one
        await held.acquire()
        note = stages._ground.configuration.note("file", "test", "one less")
        reloading = asyncio.create_task(stages.reload.apply(Source.of(plant.config), note))
        await asyncio.sleep(0)  # it stands in line
        amending = asyncio.create_task(stages.reload.switch())
        await asyncio.sleep(0)
        held.release()
        await asyncio.gather(reloading, amending)
        assert asked.agent.stages._ground.configuration.loaded.site.devices.keys() == {"d0", "d1"}
        assert len(stages.connections.drivers) == 2


async def test_a_part_with_a_defect_keeps_no_configuration_from_running(plant, tmp_path):
    async with running(plant.config, plant.state) as asked:

        def trips(_loaded):
            raise ZeroDivisionError("a defect")

        asked.agent.stages.reload.follow(trips)
        await plant.read_on()
        plant.profile(1, more="  c: {at: holding 2, as: uint16}\n")
        await asked("config.reload", who="test", why="one more")
        await plant.read_on()
        assert plant.servers[1].reads[2]
    assert plant.holes(tmp_path) == {}


async def test_a_part_that_cannot_say_how_it_is_ends_neither_the_status_nor_the_agent(plant):
    async with running(plant.config, plant.state) as asked:
        stages = asked.agent.stages

        def trips():
            raise ZeroDivisionError("a defect")

        for name in ("alarms", "northbound", "commands"):
            stages.telling._told.sections[name] = trips
        for _ in range(2):
            status = await stages.telling.status()
        assert status.keys() & {"alarms", "northbound", "commands", "configuration"} == {"configuration"}
        assert len(status["devices"]) == 3
        asked.agent.stages._ground.server.publish(status)
        metrics = asked.agent.stages._ground.server._metrics()
        assert b"twinedge_spool_backlog_samples" in metrics
        await plant.read_on()
