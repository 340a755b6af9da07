"""The ledger: what it holds outlives damage and restarts, what it cannot hold is not done; and what is shown of it."""

from __future__ import annotations

import asyncio
import json

import pytest
from click.testing import CliRunner

from tests.edge.commands.conftest import PRESS, START
from twinedge.cli import cli
from twinedge.commands.book import ENTRIES_MAX, KEEP_NS, Book, refused
from twinedge.commands.ledger import FILE, Ledger, read_ledger
from twinmodel.clock import SystemClock
from twinmodel.errors import StorageError
from twinsim.image.device import ProfileDevice
from twinsim.serve.modbus_profile import serve_registers
from twinsync.command import Command, CommandKind, CommandState, CommandStep

ALLOW = "commands: {allow: [press.setpoint, press.held], interlock: {press.held: {when: [press.running]}}}\n"


def entry(number, session=1, taken_ns=0, *, begun=False):
    command = Command(f"c{number}", session, CommandKind.WRITE, "a.b", [1, "x", None, True], 5, 6, "ann", ("bob",))
    made = refused(command, taken_ns, "COMMAND_LATE", "too late")
    return made.begins(7, "m", 20.5, 8) if begun else made


def test_entries_come_back_as_they_were_and_a_damaged_file_is_set_aside(tmp_path):
    ledger = Ledger(tmp_path)
    kept = [entry(1), entry(2, begun=True), entry(3)]
    for one in kept:
        ledger.put(one)
    ledger.put(kept[0], forget=["c3"])
    assert read_ledger(tmp_path) == Ledger(tmp_path).load() == kept[:2]
    ledger.close()
    (tmp_path / FILE).write_bytes(b"rubbish" * 1000)
    with pytest.raises(StorageError, match="COMMAND_LEDGER_UNAVAILABLE"):
        read_ledger(tmp_path)
    assert Ledger(tmp_path).load() == []
    assert (tmp_path / f"{FILE}.damaged").exists()


def test_a_disk_that_refuses_keeps_the_ledger_as_it_was(tmp_path):
    ledger = Ledger(tmp_path / "gone")
    with pytest.raises(StorageError, match="COMMAND_LEDGER_UNAVAILABLE"):
        ledger.load()
    (tmp_path / "gone").mkdir()
    ledger.put(entry(1))
    assert [e.command.id for e in ledger.load()] == ["c1"]


def test_the_book_is_bounded_and_forgets_by_age_only_what_no_session_can_repeat():
    book = Book()
    assert book.put(entry(0, begun=True)) == []
    forgotten = [name for n in range(1, ENTRIES_MAX + 5) for name in book.put(entry(n))]
    assert forgotten == ["c1", "c2", "c3", "c4", "c5"]  # what may have been told to a device goes last
    assert len(book) == ENTRIES_MAX
    young = Book([entry(1, session=1), entry(2, session=2)])
    assert young.expired(KEEP_NS + 1) == ["c1"]
    assert young.get("c2") is not None


def test_the_boot_clock_alone_says_how_long_ago_something_began():
    book = Book([entry(1, begun=True)], machine="m")
    assert book.ages_ns("a.b", 107) == [100]
    assert Book([entry(1, begun=True)], machine="other").ages_ns("a.b", 50) == [50]
    assert Book([entry(1, begun=True)], machine="").ages_ns("a.b", 5) == [5]  # it began later than this boot is old


@pytest.fixture
def press(plant, site, source):
    async def serve(check):
        device = ProfileDevice("press", 1, source(PRESS), 1, START)
        device.tick(0.1, SystemClock().wall_ns())
        async with serve_registers([device], None, SystemClock()):
            loaded = site(PRESS, {"press": f'modbus: "{device.address}"'}, ALLOW)
            async with plant(loaded) as made:
                await made.good("press.setpoint")
                await made.good("press.running")
                await check(made, device)

    return serve


async def test_what_began_before_a_restart_is_unknown_and_read_back_and_what_waited_was_not_done(press, tmp_path):
    async def check(plant, device):
        told = [
            Command(name, 1, CommandKind.WRITE, "press.setpoint", 33.0, 10**10, 0, "ann")
            for name in ("begun", "waited")
        ]
        accepted = [CommandState(c.id, CommandStep.ACCEPTED) for c in told]
        before = Ledger(tmp_path)
        for command, state in zip(told, accepted, strict=True):
            one = refused(command, 0, "", "").at(state)
            before.put(one.begins(1, "m", 20.0, 2) if command.id == "begun" else one)
        before.close()
        device.image.show("setpoint", 33.0)
        plant.desk = plant.made()
        running = asyncio.create_task(plant.desk.run())
        await plant.until(lambda: plant.last("begun") is not None and plant.last("waited") is not None)
        await plant.until(lambda: plant.last("begun").step is CommandStep.SUCCEEDED)
        assert [s.step.name for s in plant.told if s.id == "begun"] == ["UNKNOWN", "SUCCEEDED"]
        assert (plant.last("waited").step, plant.last("waited").reason) == (CommandStep.FAILED, "COMMAND_SESSION_ENDED")
        assert device.writes == []
        assert {s.id for s in plant.desk.states()} == {"begun", "waited"}
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    await press(check)


async def test_a_hold_ends_when_its_interlock_opens_or_its_rules_change(press):
    async def check(plant, device):
        plant.order("press.held", 50, kind=CommandKind.HOLD, name="h1")
        await plant.until(lambda: any(s.id == "h1" and s.detail.startswith("held") for s in plant.told))
        device.image.show("running", value=False)
        await plant.until(lambda: plant.last("h1") is not None)
        assert plant.last("h1").reason == "COMMAND_INTERLOCKED"
        device.image.show("running", value=True)
        await plant.good("press.running", value=True)
        plant.order("press.held", 50, kind=CommandKind.HOLD, name="h2")
        await plant.until(lambda: any(s.id == "h2" and s.detail.startswith("held") for s in plant.told))
        plant.desk.use({}, queue=16, longest_ns=10**9)
        await plant.until(lambda: plant.last("h2") is not None)
        assert plant.last("h2").reason == "COMMAND_NOT_ALLOWED"

    await press(check)


def test_the_shell_shows_what_was_commanded(tmp_path):
    run = CliRunner().invoke
    assert "nothing was commanded" in run(cli, ["command", "list", "--state", str(tmp_path)]).output
    ledger = Ledger(tmp_path)
    for number in range(3):
        ledger.put(entry(number))
    ledger.close()
    shown = json.loads(run(cli, ["command", "list", "--state", str(tmp_path), "--limit", "2", "-o", "json"]).output)
    assert [e["id"] for e in shown] == ["c2", "c1"]
    table = run(cli, ["command", "list", "--state", str(tmp_path)]).output
    assert "COMMAND_LATE" in table
    assert "ann, bob" in table
