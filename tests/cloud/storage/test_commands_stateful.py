"""Commands whatever comes: clocks that jump, sessions that end, coordinators that restart, words that come twice.

A device is told at most once, in the session of the issue, before the deadline, approved by others; what its gateway
says stands.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.contract.plant import KEY, NOW, TWIN, Edge, invite
from twincloud.storage import create, open_store
from twincloud.storage.command_rows import broken_links
from twincloud.storage.records_commands import OPEN, UNSENT, Order
from twincloud.storage.records_commands import CommandState as State
from twinmodel.clock import SECOND_NS, ManualClock
from twinmodel.errors import TwinError
from twinsync.command import CommandKind, CommandState, CommandStep

LIMIT_S = 20
WHO = st.sampled_from(["ann", "bob", "cid"])


class Commands(RuleBasedStateMachine):
    """A coordinator, its gateway, three people and two clocks."""

    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="commands-"))
        shutil.copytree(template(), self.folder / "state")
        self.clock = ManualClock(NOW)
        self.store = open_store(self.folder / "state", clock=self.clock)
        self.edge = Edge()
        self.connected = False
        # By id: the deadline by the clock nobody sets, the session, approvals wanted, who issued it.
        self.issued: dict = {}
        self.sent, self.said, self.approved = {}, {}, {}
        self.restarted = set()

    def teardown(self):
        # Everything comes to an end by itself.
        self.clock.advance(3_700 * SECOND_NS)
        self.store.end_sessions(self.now())
        self.store.sweep_commands(self.now())
        left = [one.id for one in self.all() if one.state in OPEN]
        with self.store._database.read() as connection:
            broken = list(broken_links(connection))
        self.store.close()
        shutil.rmtree(self.folder)
        assert left == broken == []

    def now(self):
        return self.clock.wall_ns()

    def all(self):
        return self.store.commands_of("acme", limit=1_000).items

    @initialize()
    def start(self):
        self.connect()

    @precondition(lambda self: self.connected)
    @rule(first=st.sampled_from(["nothing", "connect", "restart", "wait", "turn back", "turn on"]), back=st.booleans())
    def issue_and_hand_out(self, first, back):
        """What mostly happens, and what may come between the issue and the sending."""
        self.issue(by="ann", approvals=0, value=2.0)
        if first == "restart":
            self.restart()
        if first in ("connect", "restart"):
            self.connect()
        elif first in ("wait", "turn back"):
            self.clock.advance((LIMIT_S - 1 + 2 * back) * SECOND_NS)
        if first.startswith("turn"):
            self.clock.jump_wall((3_600 if first == "turn on" else -LIMIT_S + 2) * SECOND_NS)
        self.hand_out()

    @rule()
    def connect(self):
        self.edge.connect(self.store, now_ns=self.now())
        self.connected = True

    @precondition(lambda self: self.connected)
    @rule(clean=st.booleans())
    def lose_session(self, clean):
        """The stream ends; an unclean one only closes the session, as after a crash."""
        if clean:
            self.store.end_commands(KEY, self.edge.session, self.now())
        self.store.close_session(KEY, self.edge.session, self.now())
        self.connected = False

    @precondition(lambda self: self.issued)
    @rule()
    def restart(self):
        """Another process on the same file: what was known by heart is gone."""
        self.store.close()
        self.store = open_store(self.folder / "state", clock=self.clock)
        self.store.end_sessions(self.now())
        self.connected = False
        self.restarted |= set(self.issued)

    @rule(seconds=st.sampled_from([1, 5, 19, 30]))
    def wait(self, seconds):
        self.clock.advance(seconds * SECOND_NS)

    @rule(seconds=st.sampled_from([-3_600, -2, 2, 3_600]))
    def set_clock(self, seconds):
        self.clock.jump_wall(seconds * SECOND_NS)

    @rule(by=WHO, approvals=st.integers(0, 2), value=st.sampled_from([1.0, 1_000.0, "fast"]))
    def ask(self, by, approvals, value):
        self.issue(by, approvals, value)

    def issue(self, by, approvals, value):
        order = Order(CommandKind.WRITE, "speed", "", value, "", LIMIT_S * SECOND_NS, approvals, "")
        if value == "fast" or not self.connected:
            with pytest.raises(TwinError, match="VALUE_INVALID" if value == "fast" else "GATEWAY_OFFLINE"):
                self.store.issue_command(TWIN, order, by=by, now_ns=self.now())
            return
        made = self.store.issue_command(TWIN, order, by=by, now_ns=self.now())
        end_ns = self.clock.boot_ns() + LIMIT_S * SECOND_NS
        self.issued[made.id] = (end_ns, self.edge.session, approvals, by)

    @precondition(lambda self: self.issued)
    @rule(data=st.data(), by=WHO)
    def approve(self, data, by):
        one = data.draw(st.sampled_from(sorted(self.issued)))
        try:
            self.store.approve_command(TWIN, one, by=by, now_ns=self.now())
        except TwinError:
            return
        assert by != self.issued[one][3]
        self.approved.setdefault(one, set()).add(by)

    @precondition(lambda self: self.issued)
    @rule(data=st.data(), by=WHO)
    def cancel(self, data, by):
        one = data.draw(st.sampled_from(sorted(self.issued)))
        try:
            self.store.cancel_command(TWIN, one, by=by, now_ns=self.now())
        except TwinError:
            return
        assert one not in self.sent

    @precondition(lambda self: self.connected)
    @rule()
    def look(self):
        self.hand_out()

    def hand_out(self):
        for one in self.store.due_commands(KEY, self.edge.session, self.now()):
            end_ns, session, approvals, _ = self.issued[one.id]
            assert one.id not in self.sent, "a device would be told twice"
            assert session == self.edge.session
            assert len(self.approved.get(one.id, ())) >= approvals
            assert 0 < one.left_ns <= LIMIT_S * SECOND_NS
            if one.id not in self.restarted:
                assert one.left_ns <= end_ns - self.clock.boot_ns()
            self.sent[one.id] = self.clock.boot_ns()

    @precondition(lambda self: self.edge.session and self.connected)
    @rule()
    def hand_out_to_an_old_session(self):
        assert self.store.due_commands(KEY, self.edge.session - 1, self.now()) == ()

    @precondition(lambda self: self.sent)
    @rule(data=st.data(), steps=st.lists(st.sampled_from(list(CommandStep)), min_size=1, max_size=3))
    def hear(self, data, steps):
        """The gateway speaks, perhaps again, perhaps late, of anything it was sent."""
        one = data.draw(st.sampled_from(sorted(self.sent)))
        for step in steps:
            if step.last and self.said.get(one) in (None, CommandStep.UNKNOWN):
                self.said[one] = step
            self.store.settle_command(KEY, CommandState(one, step, "" if step.value < 3 else "WHY"), self.now())

    @rule()
    def sweep(self):
        self.store.sweep_commands(self.now())

    @invariant()
    def what_is_shown_is_what_happened(self):
        for one in self.all():
            if one.id not in self.issued:
                assert one.state is State.FAILED
                continue
            word = self.said.get(one.id)
            if word in (CommandStep.SUCCEEDED, CommandStep.FAILED):
                assert one.state == word.name
            elif one.id in self.sent:
                assert one.state in (State.SENT, State.ACCEPTED, State.UNKNOWN)
            else:
                assert one.state in (*UNSENT, State.FAILED)


def template() -> Path:
    """A state directory made once."""
    if not _MADE:
        folder = Path(tempfile.mkdtemp(prefix="commands-template-"))
        create(folder / "state")
        store = open_store(folder / "state", clock=ManualClock(NOW))
        invite(store)
        store.close()
        _MADE.append(folder / "state")
    return _MADE[0]


_MADE: list[Path] = []

TestCommands = Commands.TestCase
TestCommands.settings = settings(
    max_examples=15, stateful_step_count=20, deadline=None, derandomize=True, database=None,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
