"""The state tables of both sides, pair by pair: what each event does in each state, and that none was forgotten."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

from tests.sync.session import test_edge, test_server
from twinmodel.clock import SECOND_NS
from twinmodel.signal import Catalogue, Stream
from twinsync.command import Command, CommandConfirmed, CommandKind, CommandState, CommandStep
from twinsync.directive import Directive, DirectiveKind, DirectiveState, Outcome
from twinsync.item import Mark
from twinsync.session import EdgeSession, EdgeState, ServerSession, ServerState
from twinsync.session import edge as e
from twinsync.session import server as s
from twinsync.session.messages import Coarsen, Committed, Heartbeat, Items, Nack, Reject

DIRECTIVE = Directive("d", DirectiveKind.MODEL, "t", 1, b"", 0, "", 0)
COMMAND = Command("c", 7, CommandKind.WRITE, "press.setpoint", 4.5, SECOND_NS, 0, "ann")
VIOLATION, IGNORED = "PROTOCOL_VIOLATION", "ignored"

EDGE_EVENTS = {
    e.LinkUp: e.LinkUp(test_edge.hello()),
    e.LinkDown: e.LinkDown(),
    e.Appended: e.Appended(),
    e.Pulled: e.Pulled(0, ()),
    e.Tick: e.Tick(),
    **{
        type(m): m
        for m in (
            test_edge.welcome(),
            Reject("FENCED", "", 0),
            Committed((), 1000, 10),
            Nack(Mark(*test_edge.LANE, 0)),
            DIRECTIVE,
            Heartbeat(7, 0),
            Coarsen(Stream.BULK, SECOND_NS, 0),
            COMMAND,
            CommandConfirmed("c"),
        )
    },
}
_D, _H, _O, _R, _C = EdgeState
# Rows: event; columns: the state it meets. A state: the session is there afterwards.
EDGE_TABLE = {
    #               DISCONNECTED HELLO_SENT  OPEN       REJECTED CLOSED
    "LinkUp":      (_H,          VIOLATION,  VIOLATION, IGNORED, IGNORED),
    "LinkDown":    (_D,          _D,         _D,        _D,      _D),
    "Appended":    (IGNORED,     IGNORED,    _O,        IGNORED, IGNORED),
    "Pulled":      (IGNORED,     IGNORED,    _O,        IGNORED, IGNORED),
    "Tick":        (IGNORED,     IGNORED,    _O,        IGNORED, IGNORED),
    "Welcome":     (VIOLATION,   _O,         VIOLATION, IGNORED, IGNORED),
    "Reject":      (VIOLATION,   _R,         _R,        IGNORED, IGNORED),
    "Committed":   (VIOLATION,   VIOLATION,  _O,        IGNORED, IGNORED),
    "Nack":        (VIOLATION,   VIOLATION,  _O,        IGNORED, IGNORED),
    "Directive":   (VIOLATION,   VIOLATION,  _O,        IGNORED, IGNORED),
    "Heartbeat":   (VIOLATION,   VIOLATION,  _O,        IGNORED, IGNORED),
    "Coarsen":     (VIOLATION,   VIOLATION,  _O,        IGNORED, IGNORED),
    "Command":     (VIOLATION,   VIOLATION,  _O,        IGNORED, IGNORED),
    "CommandConfirmed": (VIOLATION, VIOLATION, _O,      IGNORED, IGNORED),
}  # fmt: skip

_PART = test_server.parts_of(b"abcd", 2)[0]
SERVER_EVENTS = {
    type(m): m
    for m in (
        test_server.hello(),
        Catalogue(()),
        Items(7, (test_server.gap(),)),
        _PART,
        DirectiveState("d", Outcome.APPLIED, "", "", b"", 0),
        CommandState("c", CommandStep.ACCEPTED),
        Heartbeat(7, 0),
        s.Granted(7, (), (), test_server.CREDIT, 0),
        s.Refused("FENCED", ""),
        s.Stored((), (), None, 0, 0, test_server.CREDIT),
        s.Regrant(test_server.CREDIT),
        s.Desired(DIRECTIVE),
        s.Ordered(COMMAND),
        s.Wished(Coarsen(Stream.BULK, SECOND_NS, 0)),
        s.Tick(0),
    )
}
_W, _G, _P, _X = ServerState
SERVER_TABLE = {
    #                 WAITING_HELLO OPENING    OPEN       CLOSED
    "Hello":          (_G,          VIOLATION, VIOLATION, IGNORED),
    "Catalogue":      (VIOLATION,   VIOLATION, _P,        IGNORED),
    "Items":          (VIOLATION,   VIOLATION, _P,        IGNORED),
    "Part":           (VIOLATION,   VIOLATION, _P,        IGNORED),
    "DirectiveState": (VIOLATION,   VIOLATION, _P,        IGNORED),
    "CommandState":   (VIOLATION,   VIOLATION, _P,        IGNORED),
    "Heartbeat":      (VIOLATION,   VIOLATION, _P,        IGNORED),
    "Granted":        (IGNORED,     _P,        IGNORED,   IGNORED),
    "Refused":        (_X,          _X,        _X,        IGNORED),
    "Stored":         (IGNORED,     IGNORED,   _P,        IGNORED),
    "Regrant":        (IGNORED,     IGNORED,   _P,        IGNORED),
    "Desired":        (IGNORED,     IGNORED,   _P,        IGNORED),
    "Ordered":        (IGNORED,     IGNORED,   _P,        IGNORED),
    "Wished":         (IGNORED,     IGNORED,   _P,        IGNORED),
    "Tick":           (IGNORED,     IGNORED,   _P,        IGNORED),
}  # fmt: skip


def edge_in(state: EdgeState) -> EdgeSession:
    machine = EdgeSession()
    events = {
        _D: [],
        _H: [e.LinkUp],
        _O: [e.LinkUp, type(test_edge.welcome())],
        _R: [e.LinkUp, Reject],
        _C: [e.LinkUp, Committed],
    }[state]
    for event in events:
        machine.receive(EDGE_EVENTS[event], 0)
    assert machine.state is state
    return machine


def server_in(state: ServerState) -> ServerSession:
    machine = ServerSession(0)
    for event in {_W: (), _G: ("Hello",), _P: ("Hello", "Granted"), _X: ("Hello", "Refused")}[state]:
        machine.receive(next(m for t, m in SERVER_EVENTS.items() if t.__name__ == event), 0)
    assert machine.state is state
    return machine


def check(machine, closed, event, outcome):
    """Gives the machine the event; it must do what the table says."""
    before = machine.state
    actions = machine.receive(event, 0)
    closes = [action for action in actions if type(action).__name__ == "Close"]
    if outcome is IGNORED:
        assert (actions, machine.state) == ([], before)
    elif outcome is VIOLATION:
        assert [close.reason for close in closes] == [VIOLATION]
        assert machine.state is closed
    else:
        assert machine.state is outcome
        assert [close.reason for close in closes if close.reason == VIOLATION] == []


def test_every_event_of_both_sides_has_a_row():
    assert {each.__name__ for each in get_args(e.EdgeEvent)} == set(EDGE_TABLE) == {t.__name__ for t in EDGE_EVENTS}
    assert {t.__name__ for t in get_args(s.ServerEvent)} == set(SERVER_TABLE) == {t.__name__ for t in SERVER_EVENTS}


@pytest.mark.parametrize("state", EdgeState)
@pytest.mark.parametrize("event", EDGE_EVENTS.values(), ids=lambda event: type(event).__name__)
def test_what_each_event_does_to_the_gateway_in_each_state(state, event):
    outcome = EDGE_TABLE[type(event).__name__][list(EdgeState).index(state)]
    check(edge_in(state), EdgeState.CLOSED, event, outcome)


@pytest.mark.parametrize("state", ServerState)
@pytest.mark.parametrize("event", SERVER_EVENTS.values(), ids=lambda event: type(event).__name__)
def test_what_each_event_does_to_the_coordinator_in_each_state(state, event):
    outcome = SERVER_TABLE[type(event).__name__][list(ServerState).index(state)]
    check(server_in(state), ServerState.CLOSED, event, outcome)


def test_time_ends_what_waits_too_long_and_nothing_else():
    for state, at_s, ends in ((_D, 99, False), (_H, 10, True), (_O, 15, True), (_R, 99, False), (_C, 99, False)):
        machine = edge_in(state)
        machine.receive(e.Tick(), at_s * SECOND_NS)
        assert (machine.state is EdgeState.CLOSED) is (ends or state is _C)
    for state, at_s, ends in ((_W, 6, True), (_G, 99, False), (_P, 15, True)):
        machine = server_in(state)
        machine.receive(s.Tick(0), at_s * SECOND_NS)
        assert (machine.state is ServerState.CLOSED) is ends


def test_the_page_shows_the_states_of_both_machines():
    for module, states in ((e, EdgeState), (s, ServerState)):
        drawn = re.findall(r"[A-Z]+(?:_[A-Z]+)*", Path(module.__file__).read_text().split('"""')[1])
        assert {state.name for state in states} <= set(drawn)
