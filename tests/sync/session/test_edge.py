"""The gateway's machine, one event at a time."""

from __future__ import annotations

import pytest

from twinmodel.clock import SECOND_NS, ClockQuality
from twinmodel.signal import Stream
from twinsync.directive import Directive, DirectiveKind
from twinsync.item import Block, Boot, Gap, Item, Mark, Range
from twinsync.session import EdgeSession, EdgeState
from twinsync.session.edge import (
    Acknowledge,
    Appended,
    Beat,
    Close,
    Compare,
    Established,
    LinkDown,
    LinkUp,
    Progressed,
    Pull,
    Pulled,
    Rewind,
    Send,
    SendCatalogue,
    Tick,
)
from twinsync.session.messages import PROTOCOL, Committed, Heartbeat, Hello, Items, Nack, Reject, Welcome, item_bytes
from twinsync.session.verdicts import VERDICTS

BOOT = b"b" * 16
LANE = (BOOT, Stream.TELEMETRY)
OLD, NEW = b"o" * 32, b"n" * 32


def gap(first: int, count: int = 1, stream: Stream = Stream.TELEMETRY) -> Item:
    return Item(BOOT, stream, first, first + count - 1, Gap("TEST", count, 0, 0))


def block(first: int, schema: bytes = OLD, size: int = 100) -> Item:
    return Item(BOOT, Stream.TELEMETRY, first, first, Block(schema, 0, b"x" * size, 0, 0))


def hello(first_unacked: int = 0, next_seq: int = 10, schemas: tuple[bytes, ...] = ()) -> Hello:
    boot = Boot(BOOT, b"", 1, 0, ClockQuality.FREE)
    ranges = (Range(*LANE, first_unacked, next_seq),)
    return Hello(PROTOCOL, PROTOCOL, "test", (boot,), ranges, 0, 0, ClockQuality.FREE, (), schemas)


def welcome(marks=(), credit=(1 << 20, 100), missing=(), protocol=PROTOCOL) -> Welcome:
    return Welcome(protocol, 7, tuple(marks), *credit, 0, tuple(missing), 1 << 20, 5 * SECOND_NS)


def opened(**kwargs) -> tuple[EdgeSession, list]:
    machine = EdgeSession()
    greeting = kwargs.pop("hello", hello())
    machine.receive(LinkUp(greeting), 0)
    return machine, machine.receive(welcome(**kwargs), 0)


def of(kind, actions):
    return [action for action in actions if isinstance(action, kind)]


def pulled(machine: EdgeSession, *items: Item, generation: int = 0) -> list:
    return machine.receive(Pulled(generation, items), 0)


def test_a_link_starts_with_hello_and_a_welcome_opens_the_session():
    machine = EdgeSession()
    assert machine.receive(LinkUp(hello()), 0) == [Send(hello())]
    actions = machine.receive(welcome(), 0)
    assert machine.state is EdgeState.OPEN
    assert actions[0] == Established(7, 0)
    assert of(Beat, actions) == [Beat(7)]
    assert isinstance(actions[-1], Pull)


def test_a_mark_ahead_of_ours_is_an_ack_that_got_lost():
    _, actions = opened(marks=[Mark(*LANE, 4)])
    assert of(Acknowledge, actions) == [Acknowledge((Mark(*LANE, 4),))]


def test_a_mark_behind_ours_takes_the_tail_back():
    _, actions = opened(hello=hello(first_unacked=6), marks=[Mark(*LANE, 4)])
    assert of(Rewind, actions) == [Rewind((Mark(*LANE, 4),))]


def test_a_coordinator_that_knows_nothing_of_a_named_boot_has_lost_it():
    _, actions = opened(hello=hello(first_unacked=6))
    assert of(Rewind, actions) == [Rewind((Mark(*LANE, 0),))]


def test_an_empty_spool_is_asked_anew_in_each_session_for_it_may_have_refused_what_an_earlier_one_found():
    machine, _ = opened()
    pulled(machine, gap(0, 10))
    machine.receive(Committed((Mark(*LANE, 10),), 1000, 10), 0)
    machine.receive(LinkDown(), 0)
    empty = Hello(PROTOCOL, PROTOCOL, "test", hello().boots, (), 0, 0, ClockQuality.FREE, (), ())
    machine.receive(LinkUp(empty), 0)
    for _ in range(2):
        actions = machine.receive(welcome(marks=[Mark(*LANE, 4)]), 0)
        assert Mark(*LANE, 4) in of(Compare, actions)[0].marks
        machine.receive(LinkDown(), 0)
        machine.receive(LinkUp(empty), 0)


def test_streams_the_spool_did_not_list_are_compared_with_the_marks_told():
    machine, actions = opened(marks=[Mark(BOOT, Stream.ALARM, 9)])
    compared = of(Compare, actions)[0].marks
    assert set(compared) == {Mark(BOOT, Stream.ALARM, 9), Mark(BOOT, Stream.STATE, 0), Mark(BOOT, Stream.BULK, 0)}
    assert machine.acked[BOOT, Stream.ALARM] == 9


def test_missing_catalogues_go_before_any_item():
    _, actions = opened(hello=hello(schemas=(OLD, NEW)), missing=[NEW])
    assert of(SendCatalogue, actions) == [SendCatalogue(NEW)]
    assert actions.index(SendCatalogue(NEW)) < len(actions) - 1
    assert isinstance(actions[-1], Pull)


def test_a_new_schema_in_a_running_session_sends_its_catalogue_first_and_once():
    machine, _ = opened(hello=hello(schemas=(OLD,)))
    actions = pulled(machine, block(0), block(1, NEW), block(2, NEW))
    assert [type(a) for a in actions] == [SendCatalogue, Send, Pull]
    assert actions[0] == SendCatalogue(NEW)
    assert not of(SendCatalogue, pulled(machine, block(3, NEW)))


def test_several_items_travel_in_one_message_up_to_the_credit_in_items():
    machine, _ = opened(credit=(1 << 20, 3))
    actions = pulled(machine, *(gap(n) for n in range(5)))
    assert len(actions) == 1
    assert len(actions[0].message.items) == 3
    assert machine.window.items == 3


def test_credit_in_bytes_bounds_what_is_in_flight_and_returns_with_the_ack():
    size = item_bytes(block(0))
    machine, _ = opened(credit=(2 * size, 100))
    assert len(of(Send, pulled(machine, block(0), block(1), block(2)))[0].message.items) == 2
    assert machine.window.room()[0] == 0
    actions = machine.receive(Committed((Mark(*LANE, 1),), 2 * size, 100), 0)
    assert of(Pull, actions) == [Pull(0, (Mark(*LANE, 2),), size, 99)]


def test_an_item_larger_than_the_credit_goes_alone():
    machine, _ = opened(credit=(100, 10))
    assert len(of(Send, pulled(machine, block(0, size=5000), block(1)))[0].message.items) == 1


def test_credit_zero_pauses_and_new_credit_resumes():
    machine, actions = opened(credit=(0, 0))
    assert not of(Pull, actions)
    assert not machine.receive(Appended(), 0)
    assert of(Pull, machine.receive(Committed((), 1000, 10), 0))


def test_an_append_while_a_read_is_under_way_is_not_forgotten():
    machine, _ = opened()
    assert machine.receive(Appended(), 0) == []
    assert of(Pull, pulled(machine))


def test_a_dry_spool_is_not_asked_again_before_something_was_appended():
    machine, _ = opened()
    assert pulled(machine) == []
    assert not of(Pull, machine.receive(Committed((), 1000, 10), 0))
    assert of(Pull, machine.receive(Appended(), 0))


def test_a_nack_goes_back_once_and_its_echoes_change_nothing():
    machine, _ = opened()
    pulled(machine, *(gap(n) for n in range(5)))
    machine.receive(Committed((Mark(*LANE, 1),), 1 << 20, 100), 0)
    pulled(machine)
    actions = machine.receive(Nack(Mark(*LANE, 1)), 0)
    assert machine.window.items == 0
    assert of(Pull, actions)[0].after == ()
    pulled(machine, *(gap(n) for n in range(1, 5)), generation=1)
    assert machine.receive(Nack(Mark(*LANE, 1)), 0) == []
    assert machine.window.items == 4


def test_a_nack_below_what_was_acknowledged_takes_the_tail_back():
    machine, _ = opened(hello=hello(first_unacked=5), marks=[Mark(*LANE, 5)])
    assert of(Rewind, machine.receive(Nack(Mark(*LANE, 2)), 0)) == [Rewind((Mark(*LANE, 2),))]


def test_what_was_read_before_going_back_is_not_sent():
    machine, _ = opened()
    pulled(machine, gap(0))
    machine.receive(Nack(Mark(*LANE, 0)), 0)
    assert not of(Send, pulled(machine, gap(1)))


def test_without_progress_everything_unacknowledged_is_sent_again_and_then_the_link_is_dropped():
    machine, _ = opened()
    pulled(machine, gap(0), gap(1))
    pulled(machine)
    beating = Heartbeat(7, 0)
    for turn in (1, 2):
        machine.receive(beating, turn * 10 * SECOND_NS)
        actions = machine.receive(Tick(), turn * 10 * SECOND_NS)
        assert of(Pull, actions)[0].after == ()
        machine.receive(Pulled(turn, (gap(0), gap(1))), turn * 10 * SECOND_NS)
        machine.receive(Pulled(turn, ()), turn * 10 * SECOND_NS)
    machine.receive(beating, 30 * SECOND_NS)
    assert of(Close, machine.receive(Tick(), 30 * SECOND_NS))[0].reason == "COORDINATOR_UNREACHABLE"


def test_no_answer_to_hello_and_a_silent_coordinator_close_the_link():
    machine = EdgeSession()
    machine.receive(LinkUp(hello()), 0)
    assert machine.deadline_ns() == 10 * SECOND_NS
    assert of(Close, machine.receive(Tick(), 10 * SECOND_NS))
    machine, _ = opened()
    assert not of(Close, machine.receive(Tick(), 14 * SECOND_NS))
    assert of(Close, machine.receive(Tick(), 15 * SECOND_NS))


def test_heartbeats_go_out_at_the_pace_of_the_coordinator():
    machine, _ = opened()
    assert machine.deadline_ns() == 5 * SECOND_NS
    assert machine.receive(Tick(), 5 * SECOND_NS) == [Beat(7)]
    assert machine.receive(Heartbeat(7, 0), 6 * SECOND_NS) == [Progressed()]


@pytest.mark.parametrize("reason", sorted(VERDICTS))
def test_each_refusal_has_its_own_wait(reason):
    machine, _ = opened()
    close = machine.receive(Reject(reason, "because", 3 * SECOND_NS), 0)[0]
    assert machine.state is EdgeState.REJECTED
    assert close.wait_ns == max(VERDICTS[reason].wait_ns, 3 * SECOND_NS)
    assert close.needs_operator is VERDICTS[reason].needs_operator


def test_a_message_out_of_place_ends_the_session():
    machine = EdgeSession()
    machine.receive(LinkUp(hello()), 0)
    close = machine.receive(Committed((), 1, 1), 0)[0]
    assert (close.reason, machine.state) == ("PROTOCOL_VIOLATION", EdgeState.CLOSED)
    assert machine.receive(Directive("d", DirectiveKind.MODEL, "t", 1, b"", 0, "", 0), 0) == []


def test_a_protocol_we_do_not_speak_asks_for_an_upgrade():
    machine = EdgeSession()
    machine.receive(LinkUp(hello()), 0)
    assert machine.receive(welcome(protocol=PROTOCOL + 1), 0)[0].reason == "UPGRADE_REQUIRED"


def test_a_link_that_went_down_starts_again_from_hello():
    machine, _ = opened()
    pulled(machine, gap(0))
    assert machine.receive(LinkDown(), 0) == []
    assert (machine.state, machine.window.items) == (EdgeState.DISCONNECTED, 0)
    assert machine.receive(Appended(), 0) == []
    assert isinstance(machine.receive(LinkUp(hello()), 0)[0], Send)


def test_items_carry_the_session():
    machine, _ = opened()
    assert of(Send, pulled(machine, gap(0)))[0].message == Items(7, (gap(0),))
