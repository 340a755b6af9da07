"""Commands: issued by people, sent at most once, ended by the gateway's word or by the clock, each step in a chain."""

from __future__ import annotations

import pytest

from tests.contract.plant import KEY, NOW, TWIN, Edge, invite
from twincloud.storage.records import Beat
from twincloud.storage.records_commands import CommandState as State
from twincloud.storage.records_commands import Order
from twinmodel.clock import SECOND_NS
from twinmodel.errors import ConflictError, DeniedError, InputError, MissingError, UnreachableError
from twinsync.command import Commandable, CommandKind, CommandState, CommandStep


def order(value=1200, prop="speed", *, kind=CommandKind.WRITE, target="", unit="", seconds=30, approvals=0, why="test"):
    return Order(kind, "" if target else prop, target, value, unit, seconds * SECOND_NS, approvals, why)


@pytest.fixture
def edge(store):
    made = Edge()
    made.connect(store)
    return made


def issue(store, now_ns=NOW, by="ann", **asked):
    return store.issue_command(TWIN, order(**asked), by=by, now_ns=now_ns)


def word(command, step, reason="", read_back=None):
    return CommandState(command.id, CommandStep[step], reason, "", read_back, NOW)


def of(store, command):
    return store.command(TWIN, command.id)


def steps(store, command):
    return [(one.step, one.by, one.reason) for one in of(store, command).steps]


def test_command_goes_to_the_bound_signal_and_each_step_is_written_down(store, edge):
    made = issue(store, value=1200)
    assert (made.state, made.property, made.target, made.arguments, made.unit) == (
        State.PENDING, "speed", "plc0.speed", 1200.0, "1/min")  # fmt: skip
    assert (made.gateway, made.session, made.deadline_ns) == (KEY, edge.session, NOW + 30 * SECOND_NS)
    (due,) = store.due_commands(KEY, edge.session, NOW + SECOND_NS)
    assert (due.id, due.left_ns, due.state) == (made.id, 29 * SECOND_NS, State.SENT)
    store.settle_command(KEY, word(made, "ACCEPTED"), NOW + SECOND_NS)
    assert of(store, made).state == State.ACCEPTED
    store.settle_command(KEY, word(made, "SUCCEEDED", read_back=1200.0), NOW + 2 * SECOND_NS)
    found = of(store, made)
    assert (found.state, found.read_back, found.ended_ns) == (State.SUCCEEDED, 1200.0, NOW + 2 * SECOND_NS)
    assert steps(store, made) == [
        ("ISSUED", "ann", ""), ("SENT", "coordinator", ""), ("ACCEPTED", "gateway gw-1", ""),
        ("SUCCEEDED", "gateway gw-1", ""),
    ]  # fmt: skip
    kinds = [(e.kind, e.subject, e.body["state"]) for e in store.events("acme", after=0) if e.kind == "command"]
    assert kinds == [("command", "pump-0", s) for s in ("PENDING", "SENT", "ACCEPTED", "SUCCEEDED")]


def test_command_is_handed_out_once_whoever_asks_again(store, edge):
    issue(store)
    assert len(store.due_commands(KEY, edge.session, NOW)) == 1
    assert store.due_commands(KEY, edge.session, NOW) == ()
    again = Edge()
    again.boots = edge.boots
    again.connect(store)
    assert store.due_commands(KEY, again.session, NOW) == ()


def test_session_that_is_no_longer_the_newest_is_given_nothing(store, edge):
    old = edge.session
    edge.connect(store)
    made = issue(store)
    assert store.due_commands(KEY, old, NOW) == ()
    assert [one.id for one in store.due_commands(KEY, edge.session, NOW)] == [made.id]


REFUSED = [
    ({"value": True}, InputError, "VALUE_INVALID"),
    ({"value": "fast"}, InputError, "VALUE_INVALID"),
    ({"value": float("nan")}, InputError, "VALUE_INVALID"),
    ({"value": 3.0, "unit": "kg"}, InputError, "UNIT_CLASH"),
    ({"value": 3.0, "unit": "furlong"}, InputError, "UNIT_UNKNOWN"),
    ({"value": 1, "prop": "sped"}, MissingError, "UNKNOWN_PROPERTY"),
    ({"value": 1, "prop": "head"}, ConflictError, "NOT_WRITABLE"),
    ({"value": 1, "target": "plc9.speed"}, MissingError, "UNKNOWN_SIGNAL"),
    ({"value": 1, "target": "pump-0/head#estimate"}, ConflictError, "NOT_WRITABLE"),
    ({"value": 1.5, "target": "line.count"}, InputError, "VALUE_INVALID"),
    ({"value": 1, "target": "line.running"}, InputError, "VALUE_INVALID"),
    ({"value": (), "target": "plc9.reset", "kind": CommandKind.CALL}, MissingError, "UNKNOWN_DEVICE"),
    ({"value": (), "prop": "speed", "kind": CommandKind.CALL}, InputError, "REQUEST_INVALID"),
    ({"value": None}, InputError, "REQUEST_INVALID"),
]


def test_wrong_command_is_refused_by_name_and_the_try_is_written_down(store, edge):
    for asked, error, reason in REFUSED:
        with pytest.raises(error) as refused:
            issue(store, **asked)
        assert refused.value.reason == reason, asked
    kept = store.commands_of("acme").items[::-1]
    assert [one.reason for one in kept] == [reason for _, _, reason in REFUSED]
    assert {(one.state, one.issued_by, tuple(s.step for s in one.steps)) for one in kept} == {
        (State.FAILED, "ann", ("ISSUED", "FAILED"))
    }
    assert store.due_commands(KEY, edge.session, NOW) == ()


def test_order_beyond_the_bounds_of_the_wire_is_refused_before_anything_is_kept(store, edge):
    for asked, reason in [
        ({"seconds": 3601}, "VALUE_INVALID"), ({"seconds": 0}, "VALUE_INVALID"), ({"approvals": 9}, "VALUE_INVALID"),
        ({"why": "x" * 501}, "LIMIT_EXCEEDED"), ({"value": "x" * 5000}, "LIMIT_EXCEEDED"),
        ({"value": 2**70}, "VALUE_INVALID"),
    ]:  # fmt: skip
        with pytest.raises(InputError) as refused:
            issue(store, **asked)
        assert refused.value.reason == reason, asked
    assert store.commands_of("acme").items == ()


def test_value_is_converted_to_the_unit_of_the_signal(store, edge):
    assert issue(store, value=20.0, unit="1/s").arguments == pytest.approx(1200)
    assert issue(store, value=7, target="line.count").arguments == 7
    called = issue(store, value=(1, "a"), target="line.reset", kind=CommandKind.CALL)
    assert (called.target, called.arguments, called.property) == ("line.reset", (1, "a"), "")


def test_gateway_that_is_away_is_told_nothing_and_nothing_waits_for_it(store, edge):
    store.close_session(KEY, edge.session, NOW)
    with pytest.raises(UnreachableError, match="GATEWAY_OFFLINE"):
        issue(store)
    edge.connect(store)
    assert store.due_commands(KEY, edge.session, NOW) == ()
    (kept,) = store.commands_of("acme").items
    assert (kept.state, kept.reason) == (State.FAILED, "GATEWAY_OFFLINE")


def test_forked_gateway_is_told_nothing(store, edge):
    waiting = issue(store)
    with pytest.raises(ConflictError, match="IDENTITY_FORK"):
        Edge(44).connect(store)
    assert store.due_commands(KEY, edge.session, NOW) == ()
    with pytest.raises(ConflictError, match="IDENTITY_FORK"):
        issue(store)
    assert store.sweep_commands(NOW + 31 * SECOND_NS) == 1
    assert of(store, waiting).reason == "COMMAND_LATE"


def test_end_of_the_session_ends_what_was_not_sent_and_leaves_what_was_sent_unknown(store, edge):
    sent = issue(store)
    store.due_commands(KEY, edge.session, NOW)
    waiting = issue(store, approvals=1)
    unsent = issue(store)
    store.end_commands(KEY, edge.session, NOW + 1)
    assert [(of(store, one).state, of(store, one).reason) for one in (sent, waiting, unsent)] == [
        (State.UNKNOWN, "COMMAND_UNANSWERED"), (State.FAILED, "COMMAND_SESSION_ENDED"),
        (State.FAILED, "COMMAND_SESSION_ENDED"),
    ]  # fmt: skip
    store.settle_command(KEY, word(sent, "ACCEPTED"), NOW + 2)
    assert of(store, sent).state == State.UNKNOWN
    for _ in range(2):
        store.settle_command(KEY, word(sent, "SUCCEEDED", read_back=3.5), NOW + 3)
    found = of(store, sent)
    assert (found.state, found.reason, found.read_back) == (State.SUCCEEDED, "", 3.5)
    assert [one.step for one in found.steps] == ["ISSUED", "SENT", "UNKNOWN", "ACCEPTED", "SUCCEEDED"]
    store.end_commands(KEY, edge.session, NOW + 4)
    assert of(store, sent).state == State.SUCCEEDED


def test_end_that_a_gateway_told_stands_whatever_it_says_later(store, edge):
    made = issue(store)
    store.due_commands(KEY, edge.session, NOW)
    store.settle_command(KEY, word(made, "FAILED", "OUT_OF_RANGE"), NOW)
    store.settle_command(KEY, word(made, "SUCCEEDED"), NOW + 1)
    assert (of(store, made).state, of(store, made).reason) == (State.FAILED, "OUT_OF_RANGE")
    assert steps(store, made)[-1] == ("SUCCEEDED", "gateway gw-1", "")
    with pytest.raises(MissingError, match="NOT_FOUND"):
        store.settle_command(KEY, CommandState("nope", CommandStep.FAILED), NOW)


def test_deadline_counts_from_issue_and_what_is_late_is_never_sent(store, place, edge):
    late = issue(store, seconds=5)
    assert store.due_commands(KEY, edge.session, NOW + 5 * SECOND_NS) == ()
    assert (of(store, late).state, of(store, late).reason) == (State.FAILED, "COMMAND_LATE")
    sent = issue(store, seconds=5)
    store.due_commands(KEY, edge.session, NOW)
    assert store.sweep_commands(NOW + 6 * SECOND_NS) == 0
    assert store.sweep_commands(NOW + 15 * SECOND_NS) == 1
    assert (of(store, sent).state, of(store, sent).reason) == (State.UNKNOWN, "COMMAND_UNANSWERED")


def test_clock_that_goes_back_gives_a_command_no_second_life(store, place, edge):
    made = issue(store, seconds=5, approvals=1)
    other = issue(store, seconds=5)
    place.clock.advance(5 * SECOND_NS)
    hour = 3_600 * SECOND_NS
    with pytest.raises(ConflictError, match="COMMAND_LATE"):
        store.approve_command(TWIN, made.id, by="bob", now_ns=NOW - 2 * SECOND_NS)
    assert store.sweep_commands(NOW - 2 * SECOND_NS) == 2
    later = issue(store, seconds=5)
    assert store.due_commands(KEY, edge.session, NOW - hour) == ()
    assert {of(store, one).reason for one in (made, other, later)} == {"COMMAND_LATE"}


def test_command_that_needs_another_person_waits_for_one_who_did_not_issue_it(store, edge):
    made = issue(store, approvals=2)
    assert made.state == State.WAITING_APPROVAL
    with pytest.raises(DeniedError, match="OWN_APPROVAL"):
        store.approve_command(TWIN, made.id, by="ann", now_ns=NOW)
    for _ in range(2):
        assert store.approve_command(TWIN, made.id, by="bob", now_ns=NOW).state == State.WAITING_APPROVAL
    assert store.due_commands(KEY, edge.session, NOW) == ()
    assert store.approve_command(TWIN, made.id, by="cid", now_ns=NOW + 1).state == State.PENDING
    (due,) = store.due_commands(KEY, edge.session, NOW + 1)
    assert (due.issued_by, due.approved_by) == ("ann", ("bob", "cid"))
    with pytest.raises(ConflictError, match="COMMAND_CLOSED"):
        store.approve_command(TWIN, made.id, by="dan", now_ns=NOW)
    assert [s for s, _, _ in steps(store, made)] == ["ISSUED", "APPROVED", "APPROVED", "SENT"]


def test_approval_after_the_session_is_over_is_refused_and_the_sweep_ends_the_command(store, edge):
    made = issue(store, approvals=1)
    edge.connect(store)
    with pytest.raises(ConflictError, match="COMMAND_SESSION_ENDED"):
        store.approve_command(TWIN, made.id, by="bob", now_ns=NOW)
    assert store.sweep_commands(NOW) == 1
    assert of(store, made).reason == "COMMAND_SESSION_ENDED"


def say(store, edge, *commandables):
    assert store.heartbeats([Beat(KEY, edge.session, 0, 0, 0, (), NOW, commandables=commandables)]) == [None]


def test_class_b_asks_for_another_person_at_once_because_the_gateway_has_said_so(store, edge):
    say(store, edge, Commandable("plc0.speed", True, "1/min"))
    made = issue(store)
    assert (made.state, made.approvals) == (State.WAITING_APPROVAL, 1)
    assert issue(store, approvals=2).approvals == 2
    assert store.approve_command(TWIN, made.id, by="bob", now_ns=NOW).state == State.PENDING
    say(store, edge, Commandable("plc0.speed", False, "1/min"))
    assert issue(store).state == State.PENDING


def test_what_the_gateway_does_not_let_be_commanded_or_is_beyond_its_range_is_refused_at_once(store, edge):
    say(store, edge, Commandable("plc0.speed", False, "1/min", 0.0, 1500.0))
    assert issue(store, value=1500).state == State.PENDING
    with pytest.raises(InputError, match=r"COMMAND_OUT_OF_RANGE: plc0.speed takes 0 .. 1500 1/min; 1501 was sent"):
        issue(store, value=1501)
    with pytest.raises(InputError, match="COMMAND_OUT_OF_RANGE"):
        issue(store, value=26.0, unit="1/s")
    say(store, edge)
    with pytest.raises(DeniedError, match="COMMAND_NOT_ALLOWED"):
        issue(store)
    tried = [one.reason for one in store.commands_of("acme").items]
    assert tried == ["COMMAND_NOT_ALLOWED", "COMMAND_OUT_OF_RANGE", "COMMAND_OUT_OF_RANGE", ""]


def test_gateway_that_has_said_nothing_in_this_session_judges_alone(store, edge):
    say(store, edge, Commandable("plc0.speed", True, "1/min", 0.0, 1.0))
    edge.connect(store)
    assert issue(store, value=1501).state == State.PENDING


def test_cancelling_ends_what_was_not_sent_and_nothing_else(store, edge):
    made = issue(store)
    for _ in range(2):
        assert store.cancel_command(TWIN, made.id, by="bob", now_ns=NOW).reason == "COMMAND_CANCELLED"
    assert steps(store, made)[-1] == ("CANCELLED", "bob", "COMMAND_CANCELLED")
    assert store.due_commands(KEY, edge.session, NOW) == ()
    sent = issue(store)
    store.due_commands(KEY, edge.session, NOW)
    with pytest.raises(ConflictError, match="COMMAND_CLOSED"):
        store.cancel_command(TWIN, sent.id, by="bob", now_ns=NOW)


def test_coordinator_that_starts_anew_ends_what_its_sessions_left(store, edge):
    sent, unsent = issue(store), issue(store)
    assert len(store.due_commands(KEY, edge.session, NOW)) == 2
    waiting = issue(store)
    store.end_sessions(NOW)
    assert store.sweep_commands(NOW) == 3
    assert [of(store, one).state for one in (sent, unsent, waiting)] == [State.UNKNOWN, State.UNKNOWN, State.FAILED]


def test_flood_of_commands_is_refused_before_it_fills_the_table(store, edge, monkeypatch):
    monkeypatch.setattr("twincloud.storage.commands.OPEN_MAX", 2)
    issue(store), issue(store)
    with pytest.raises(UnreachableError, match="RATE_LIMITED"):
        issue(store)
    monkeypatch.setattr("twincloud.storage.commands.OPEN_MAX", 9)
    monkeypatch.setattr("twincloud.storage.commands.ISSUED_MAX", 3)
    with pytest.raises(MissingError):
        issue(store, prop="nothing")
    with pytest.raises(UnreachableError, match="RATE_LIMITED"):
        issue(store)
    assert len(store.commands_of("acme").items) == 3
    assert issue(store, now_ns=NOW + 61 * SECOND_NS).state == State.PENDING


def test_commands_of_another_tenant_or_twin_are_not_found(store, edge):
    made = issue(store)
    other = KEY.__class__("other", "mill", "gw-1")
    invite(store, other)
    for key in (TWIN.__class__("other", "mill", "pump-0"), TWIN.__class__("acme", "mill", "pump-1")):
        for call in (store.approve_command, store.cancel_command):
            with pytest.raises(MissingError, match="NOT_FOUND"):
                call(key, made.id, by="eve", now_ns=NOW)
        with pytest.raises(MissingError, match="NOT_FOUND"):
            store.command(key, made.id)
    assert store.commands_of("other").items == ()
    with pytest.raises(MissingError, match="NOT_FOUND"):
        store.settle_command(other, word(made, "SUCCEEDED"), NOW)


def test_listing_pages_newest_first_by_twin_and_state(store, edge):
    made = [issue(store).id for _ in range(3)]
    page = store.commands_of("acme", site="mill", twin="pump-0", limit=2)
    rest = store.commands_of("acme", site="mill", twin="pump-0", limit=2, token=page.next_token)
    assert [one.id for one in (*page.items, *rest.items)] == made[::-1]
    assert store.commands_of("acme", state="SENT").items == ()
    assert store.commands_of("acme", twin="pump-1").items == ()


def test_chain_of_steps_shows_what_was_changed_afterwards_and_is_cut_at_its_old_end_alone(store, place, edge):
    from sqlalchemy import text

    from twincloud.storage.command_rows import broken_links

    def broken():
        with store._database.read() as connection:
            return list(broken_links(connection))

    old, new = issue(store), issue(store, now_ns=NOW + 100 * SECOND_NS)
    store.sweep_commands(NOW + 96 * SECOND_NS)
    assert broken() == []
    assert store.forget_commands(NOW + 96 * SECOND_NS, 100) == 2
    with pytest.raises(MissingError):
        of(store, old)
    assert broken() == []
    store.due_commands(KEY, edge.session, NOW + 100 * SECOND_NS)
    with store._database.write() as connection:
        connection.execute(text("UPDATE commands SET why = 'nothing'"))
    assert [line.rpartition(": ")[2] for line in broken()] == ["it is not as it was issued"]
    with store._database.write() as connection:
        connection.execute(text("UPDATE command_steps SET said_by = 'eve' WHERE step = 'SENT'"))
    assert any("the chain breaks here" in line for line in broken())
    assert of(store, new).steps[-1].by == "eve"


def test_what_an_engine_would_not_keep_or_a_terminal_obeys_is_replaced_and_breaks_no_chain(store, edge):
    from twincloud.storage.command_rows import broken_links

    made = issue(store, why="a\0b")
    with pytest.raises(MissingError):
        issue(store, prop="\0", value=1)
    store.due_commands(KEY, edge.session, NOW)
    told = CommandState(made.id, CommandStep.FAILED, "NO\0", "\x1b[2Jgone\0\nnext", "\0", NOW)
    for _ in range(2):
        store.settle_command(KEY, told, NOW)
    found = of(store, made)
    assert (found.why, found.reason, found.detail) == ("a\ufffdb", "NO\ufffd", "\ufffd[2Jgone\ufffd\nnext")
    assert [one.step for one in found.steps] == ["ISSUED", "SENT", "FAILED"]
    with store._database.read() as connection:
        assert list(broken_links(connection)) == []


def test_other_coordinators_hear_which_gateway_is_commanded(store, edge):
    seen, _ = store.addressed(0)
    issue(store)
    after, woken = store.addressed(seen)
    assert woken == (KEY,)
    assert store.addressed(after) == (after, ())
