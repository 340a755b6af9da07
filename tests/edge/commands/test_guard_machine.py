"""Commands under everything at once: clocks that jump, sessions, restarts, duplicates, full disks, devices that lie.

The device itself judges: whenever it is touched, it looks whether that was allowed at that moment.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from twinedge.commands import carry
from twinedge.commands.case import Way
from twinedge.commands.desk import Desk
from twinedge.commands.guard import Reading, approvers
from twinedge.commands.ledger import Ledger, read_ledger
from twinedge.commands.rules import Bound, Condition, Rule
from twinedge.ports import Shown
from twinmodel.clock import SECOND_NS, ManualClock
from twinmodel.errors import ConflictError, StorageError, UnreachableError
from twinmodel.quality import QualityReason, bad
from twinmodel.signal import Kind
from twinsync.command import Command, CommandConfirmed, CommandKind, CommandStep

S = SECOND_NS
TARGET, RUNNING = "press.setpoint", "press.running"
LOW, HIGH, STEP, RATE = 10.0, 60.0, 20.0, (3, 60 * S)
FRESH_NS = 5 * S
RULE = Rule(
    TARGET, "press", "setpoint", Bound(TARGET, Kind.FLOAT, "", LOW, HIGH), step=STEP, rate=RATE, two_persons=True,
    conditions=(Condition(RUNNING, wanted=True, fresh_ns=FRESH_NS),), fresh_ns=0, settle_ns=0, tolerance=0.01,
)  # fmt: skip
VALUES = st.sampled_from([25.0, 30.0, 35.0, 40.0, 55.0])
SHM = Path("/dev/shm")  # where a sync costs nothing


class Facts:
    """What the desk sees; the plant keeps it up to date."""

    def __init__(self):
        self.known, self.forked, self.states = {}, "", frozenset()

    def want(self, signals):
        pass

    def note(self, signal, value, quality):
        pass

    def newest(self, signal):
        return self.known.get(signal)

    def twin(self, name):
        return self.states

    def frozen(self):
        return self.forked


class Disk(Ledger):
    """A ledger on a disk that may be full."""

    full = False

    def put(self, entry, forget=()):
        if self.full:
            raise StorageError("COMMAND_LEDGER_UNAVAILABLE", "the disk is full")
        super().put(entry, forget)


class StepwiseDesk(Desk):
    """A desk whose ledger is written in the event loop, so that a run repeats exactly."""

    async def _in_thread(self, work, *arguments):
        return work(*arguments)


class Device:
    """Judges each touch by what is really so; `mode` says how it behaves."""

    def __init__(self, world):
        self.world, self.mode, self.value = world, "good", 20.0
        self.touched, self.times, self.wrong = Counter(), [], []
        self.gate = asyncio.Event()
        self.gate.set()
        self.after = asyncio.Event()

    def step(self, device, point, value):
        return 0.01

    async def write(self, device, point, value, about, permit):
        await self.gate.wait()
        if self.mode == "away":
            raise UnreachableError("DEVICE_UNREACHABLE", "no connection")
        permit()
        self.judge(about["id"], value)
        if self.mode == "refusing":
            raise ConflictError("COMMAND_REFUSED_BY_DEVICE", "no", code=4)
        if self.mode not in {"lying", "lost"}:
            self.value = value
        if self.mode in {"silent", "lost"}:
            raise UnreachableError("COMMAND_UNANSWERED", "no answer")
        if self.mode == "hanging":
            await self.after.wait()
        return "the device"

    def judge(self, name, value):
        """Looks whether this was allowed at this moment; what is wrong is kept, as the desk must survive anything."""
        world = self.world
        command, due_s = world.commands[name]
        self.touched[name] += 1
        recent = [t for t in self.times if world.true_s - t < RATE[1] / S]
        allowed = {
            "once": self.touched[name] == 1,
            "before its deadline": world.true_s < due_s,
            "with a session": world.link,
            "in its own session": command.session == world.session,
            "in range": isinstance(value, float) and LOW <= value <= HIGH,
            "in a step": isinstance(value, float) and abs(value - self.value) <= STEP + 1e-6,
            "by two persons": len(approvers(command)) >= 2,
            "while the interlock holds": world.running is True,
            "by the one with this identity": not world.facts.forked,
            "seldom enough": len(recent) < RATE[0],
            "after it was recorded": any(e.command.id == name and e.begun for e in read_ledger(world.folder)),
        }
        self.wrong += [f"not {what}" for what, holds in allowed.items() if not holds]
        self.times = [*recent, world.true_s]

    async def read(self, device, point):
        return None if self.mode == "away" else Shown(self.value, 0, 0)


class Machine(RuleBasedStateMachine):
    """See the module."""

    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(dir=SHM if SHM.is_dir() else None))
        self.loop = asyncio.new_event_loop()
        self.clock = ManualClock(boot_ns=1000 * S)
        self.machine = 1
        self.true_s = 0.0
        self.session, self.link = 1, True
        self.running = True
        self.facts = Facts()
        self.commands, self.told = {}, {}
        self.count = self.ordered = 0
        self.device = Device(self)
        self.disk = Disk(self.folder)
        self.start()

    def start(self):
        self.desk = StepwiseDesk(
            self.disk, self.facts, self.clock, machine=f"boot {self.machine}", report=self.report,
            reach=lambda _: Way(self.device, "line"),
        )  # fmt: skip
        self.desk.use({TARGET: RULE}, queue=3, longest_ns=600 * S)
        self.task = self.loop.create_task(self.desk.run())
        self.refresh()
        self.pump()

    def report(self, state):
        before = self.told.get(state.id, [])
        self.told[state.id] = [*before, state]

    def pump(self):
        async def turns():
            for _ in range(60):
                await asyncio.sleep(0)

        self.loop.run_until_complete(turns())

    def refresh(self):
        """New samples of everything."""
        now_ns = self.clock.boot_ns()
        self.facts.known[TARGET] = Reading(self.device.value, 0, now_ns)
        quality = bad(QualityReason.NOT_CONNECTED) if self.running is None else 0
        self.facts.known[RUNNING] = Reading(bool(self.running), quality, now_ns)

    # ---- what happens ----------------------------------------------------------------------------------------------

    @rule(
        value=st.one_of(
            st.sampled_from([25.0, 30.0, 35.0, 40.0]), st.sampled_from([9.0, 60.0, 61.0, float("nan"), "hot", None])
        ),
        left_s=st.sampled_from([60.0, 60.0, 5.0, 0.5, 0.0, 700.0]),
        approved=st.sampled_from([("bob",), ("bob", "cy"), ("bob",), (), ("ANN ",)]),
        stale=st.sampled_from([0, 0, 0, 1]),
    )
    def order(self, value, left_s, approved, stale):
        if not self.link:
            self.begin_session()
        stale = stale if self.ordered >= self.session else 0  # else only the uplink can know that a newer one is open
        self.ordered = self.session
        self.count += 1
        name = f"c{self.count}"
        command = Command(
            name, self.session - stale, CommandKind.WRITE, TARGET, value, round(left_s * S), 0, "ann", approved
        )
        self.commands[name] = command, self.true_s + left_s
        self.desk.order(command)
        self.pump()

    @rule(value=VALUES)
    def order_soundly(self, value):
        self.interlock(running=True)
        self.order(value, 60.0, ("bob",), 0)

    @rule(value=VALUES, left_s=st.sampled_from([0.5, 5.0]), approved=st.sampled_from([("bob",), ("Bob", "ann")]))
    def order_in_a_hurry(self, value, left_s, approved):
        self.order(value, left_s, approved, 0)

    @rule(values=st.lists(VALUES, min_size=2, max_size=5), then=st.sampled_from(["cut", "late", "open", "crash", ""]))
    def order_several_while_the_line_is_busy(self, values, then):
        self.interlock(running=True)
        self.occupy()
        for value in values:
            self.order_in_a_hurry(value, 5.0, ("bob",))
        if then == "cut":
            self.end_session()
            self.begin_session()
        elif then == "late":
            self.tick(delta_s=30.0, fresh=True)
        elif then == "open":
            self.interlock(running=False)
        elif then == "crash":
            self.restart(reboot=False, away_s=0.5)
        self.release()

    @rule(value=VALUES, reboot=st.booleans())
    def die_while_the_device_is_told(self, value, reboot):
        self.device.mode = "hanging"
        self.order_soundly(value)
        self.restart(reboot=reboot, away_s=0.5)

    @precondition(lambda self: self.commands and self.link)
    @rule(pick=st.integers(0, 10**6), value=st.sampled_from([None, 25.0]))
    def replay(self, pick, value):
        command, _ = self.commands[f"c{1 + pick % self.count}"]
        again = Command(
            command.id, self.session, command.kind, TARGET, command.arguments if value is None else value, 60 * S, 0,
            "ann", ("bob",),
        )  # fmt: skip
        known = command.id in self.told or self.device.touched[command.id]
        if not known or not self.remembered(command.id):
            self.commands[command.id] = again, self.true_s + 60
        self.desk.order(again)
        self.pump()

    def remembered(self, name):
        """Whether the desk must know an id: what it refused on a full disk it may forget with a restart."""
        return self.desk._book.get(name) is not None or name in self.desk._open

    @rule(delta_s=st.sampled_from([0.1, 1.0, 4.0, 30.0, 61.0]), fresh=st.booleans())
    def tick(self, delta_s, fresh):
        self.true_s += delta_s
        self.clock.advance(round(delta_s * S))
        if fresh:
            self.refresh()
        self.pump()

    @rule(delta_s=st.sampled_from([-(10**6), -3600, 3600, 10**6]))
    def jump(self, delta_s):
        self.clock.jump_wall(delta_s * S)

    @rule()
    def end_session(self):
        self.link = False
        self.desk.session_ended()
        self.pump()

    @precondition(lambda self: not self.link)
    @rule()
    def reconnect(self):
        self.begin_session()

    def begin_session(self):
        self.session, self.link = self.session + 1, True
        for state in self.desk.states():
            self.report(state)
        self.pump()

    @rule(running=st.sampled_from([True, True, False, None]))
    def interlock(self, running):
        self.running = running
        self.refresh()

    @rule(mode=st.sampled_from(["good", "good", "good", "refusing", "lying", "silent", "lost", "away", "hanging"]))
    def misbehave(self, mode):
        self.device.mode = mode
        self.pump()

    @rule()
    def occupy(self):
        self.device.gate.clear()

    @rule()
    def release(self):
        self.device.gate.set()
        self.device.after.set()
        self.pump()
        self.device.after.clear()

    @rule()
    def confirm(self):
        for state in self.desk.states():
            self.desk.confirmed(CommandConfirmed(state.id))
        self.pump()

    @rule(full=st.booleans())
    def disk_full(self, full):
        self.disk.full = full

    @rule(value=VALUES)
    def order_of_a_clone(self, value):
        self.facts.forked = "another gateway has this identity"
        self.order_soundly(value)
        self.facts.forked = ""

    @rule(reboot=st.booleans(), away_s=st.sampled_from([0.5, 20.0, 100.0]))
    def restart(self, reboot, away_s):
        self.stop()
        self.link, self.ordered = False, 0
        self.true_s += away_s
        self.clock.advance(round(away_s * S))
        if reboot:
            self.machine += 1
            self.clock = ManualClock(self.clock.wall_ns() - 50 * S, round(min(away_s, 10.0) * S))
        self.facts.known.clear()
        self.disk = Disk(self.folder)
        self.start()

    def stop(self):
        self.task.cancel()
        self.loop.run_until_complete(asyncio.gather(self.task, return_exceptions=True))
        self.disk.close()

    # ---- what must hold --------------------------------------------------------------------------------------------

    @invariant()
    def the_desk_lives(self):
        assert not self.task.done()

    @invariant()
    def the_device_was_told_nothing_forbidden(self):
        assert self.device.wrong == []

    @invariant()
    def what_is_told_is_so(self):
        for name, states in self.told.items():
            last = states[-1]
            if last.step is CommandStep.SUCCEEDED:
                assert self.device.touched[name] == 1
            elif last.step is CommandStep.FAILED and last.reason not in {
                "COMMAND_NOT_TAKEN",
                "COMMAND_REFUSED_BY_DEVICE",
            }:
                assert self.device.touched[name] == 0, last
            assert last.reason or last.step in {CommandStep.SUCCEEDED, CommandStep.ACCEPTED}

    @invariant()
    def what_was_told_to_the_device_is_on_the_disk_or_open(self):
        held = {e.command.id: e for e in read_ledger(self.folder)}
        for name in self.device.touched:
            assert held[name].begun

    def teardown(self):
        self.disk.full = False
        self.release()
        self.release()
        open_ = set(self.desk._open)
        assert not open_
        for name, states in self.told.items():
            entry = self.desk._book.get(name)
            if entry is not None and self.device.touched[name]:
                assert entry.ended, states
        self.stop()
        self.loop.close()
        shutil.rmtree(self.folder, ignore_errors=True)


@pytest.fixture(autouse=True)
def _at_once(monkeypatch):
    monkeypatch.setattr(carry, "LOOK_AGAIN_S", 0.0)


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
