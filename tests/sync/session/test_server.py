"""The coordinator's machine, one event at a time."""

from __future__ import annotations

import pytest

from twinmodel.clock import SECOND_NS, ClockQuality
from twinmodel.signal import Catalogue, Stream
from twinsync import limits
from twinsync.directive import Directive, DirectiveKind, DirectiveState, Outcome
from twinsync.item import Block, Boot, Gap, Item, Mark
from twinsync.session import ServerLimits, ServerSession, ServerState
from twinsync.session.messages import (
    PROTOCOL,
    Coarsen,
    Committed,
    Heartbeat,
    Hello,
    Items,
    Nack,
    Part,
    Reject,
    item_bytes,
    part_bytes,
)
from twinsync.session.server import (
    Close,
    Credit,
    Desired,
    Established,
    Granted,
    Keep,
    Note,
    Open,
    Refused,
    Regrant,
    Send,
    Settle,
    Store,
    Stored,
    Tick,
    Wished,
)

BOOT = Boot(b"b" * 16, b"", 1, 0, ClockQuality.FREE)
CREDIT = Credit(1000, 4)


def hello(**kwargs) -> Hello:
    facts = {"protocol_min": 1, "protocol_max": 1, "boots": (BOOT,), "ranges": (), "schemas": ()} | kwargs
    return Hello(agent_version="", wall_ns=0, boot_ns=0, clock=ClockQuality.FREE, running=(), **facts)


def gap(first: int = 0) -> Item:
    return Item(BOOT.id, Stream.ALARM, first, first, Gap("TEST", 1, 0, 0))


def opened() -> ServerSession:
    machine = ServerSession(0)
    machine.receive(hello(), 0)
    machine.receive(Granted(7, (), (), CREDIT, 0), 0)
    return machine


def reason_of(actions) -> str:
    assert isinstance(actions[0].message, Reject)
    assert isinstance(actions[-1], Close)
    return actions[0].message.reason


def test_hello_asks_the_store_and_its_grant_is_the_welcome():
    machine = ServerSession(0)
    assert machine.receive(hello(), 0) == [Open(hello())]
    marks = (Mark(BOOT.id, Stream.ALARM, 3),)
    send, established = machine.receive(Granted(7, marks, (b"s" * 32,), CREDIT, 99), 0)
    assert established == Established(7)
    found = send.message
    assert (found.session, found.marks, found.missing_schemas) == (7, marks, (b"s" * 32,))
    assert (found.credit_bytes, found.credit_items, found.server_ns) == (1000, 4, 99)


def test_a_refusal_of_the_store_is_told_and_closes():
    machine = ServerSession(0)
    machine.receive(hello(), 0)
    assert reason_of(machine.receive(Refused("IDENTITY_FORK", "twice"), 0)) == "IDENTITY_FORK"
    assert machine.state is ServerState.CLOSED
    assert machine.receive(Granted(7, (), (), CREDIT, 0), 0) == []


@pytest.mark.parametrize(
    "message",
    [Items(0, (gap(),)), Heartbeat(0, 0), Catalogue(()), DirectiveState("d", Outcome.APPLIED, "", "", b"", 0)],
)
def test_nothing_may_come_before_hello(message):
    assert reason_of(ServerSession(0).receive(message, 0)) == "PROTOCOL_VIOLATION"


def test_a_second_hello_is_a_violation():
    assert reason_of(opened().receive(hello(), 0)) == "PROTOCOL_VIOLATION"


def test_a_protocol_nobody_speaks_asks_for_an_upgrade():
    for least, most in ((PROTOCOL + 1, PROTOCOL + 2), (0, 0)):
        refused = ServerSession(0).receive(hello(protocol_min=least, protocol_max=most), 0)
        assert reason_of(refused) == "UPGRADE_REQUIRED"


@pytest.mark.parametrize(("least", "most", "agreed"), [(1, 1, 1), (2, 2, 2), (3, 3, 3), (4, 4, 4), (1, 9, 4)])
def test_the_newest_protocol_both_speak_is_agreed_so_that_older_agents_stay_welcome(least, most, agreed):
    machine = ServerSession(0)
    machine.receive(hello(protocol_min=least, protocol_max=most), 0)
    welcome = machine.receive(Granted(7, (), (), CREDIT, 0), 0)[0].message
    assert welcome.protocol == agreed


def test_a_hello_without_boots_or_with_too_many_is_refused():
    assert reason_of(ServerSession(0).receive(hello(boots=()), 0)) == "PROTOCOL_VIOLATION"
    few = ServerLimits(boots_max=2)
    assert reason_of(ServerSession(0, few).receive(hello(boots=(BOOT,) * 3), 0)) == "LIMIT_EXCEEDED"


def test_items_are_stored_and_acknowledged_only_after_the_commit():
    machine = opened()
    assert machine.receive(Items(7, (gap(),)), 0) == [Store(7, (gap(),), item_bytes(gap()))]
    marks = (Mark(BOOT.id, Stream.ALARM, 1),)
    actions = machine.receive(Stored(marks, (), None, item_bytes(gap()), 1, CREDIT), 0)
    assert actions == [Send(Committed(marks, 1000, 4, received=item_bytes(gap())))]
    assert (machine.waiting_bytes, machine.waiting_items) == (0, 0)


def test_a_commit_that_met_a_hole_sends_a_nack_after_the_marks():
    machine = opened()
    machine.receive(Items(7, (gap(5),)), 0)
    expected = Mark(BOOT.id, Stream.ALARM, 2)
    actions = machine.receive(Stored((expected,), (), expected, 0, 1, CREDIT), 0)
    assert [type(a.message) for a in actions] == [Committed, Nack]


def test_items_of_another_session_are_refused():
    assert reason_of(opened().receive(Items(6, (gap(),)), 0)) == "PROTOCOL_VIOLATION"
    assert reason_of(opened().receive(Heartbeat(6, 0), 0)) == "PROTOCOL_VIOLATION"


def test_sending_far_beyond_the_credit_is_refused():
    machine = opened()
    block = Item(BOOT.id, Stream.BULK, 0, 0, Block(b"s" * 32, 0, b"x" * limits.BLOCK_BYTES_MAX, 0, 0))
    for _ in range(2):
        assert isinstance(machine.receive(Items(7, (block,)), 0)[0], Store)
    assert reason_of(machine.receive(Items(7, (block,)), 0)) == "LIMIT_EXCEEDED"


def test_an_empty_or_overfull_message_is_refused():
    assert reason_of(opened().receive(Items(7, ()), 0)) == "LIMIT_EXCEEDED"
    assert reason_of(opened().receive(Items(7, (gap(),) * 257), 0)) == "LIMIT_EXCEEDED"


def test_catalogues_outcomes_and_heartbeats_go_to_the_store():
    machine = opened()
    catalogue, state, beat = Catalogue(()), DirectiveState("d", Outcome.APPLIED, "", "", b"", 0), Heartbeat(7, 0)
    assert machine.receive(catalogue, 0) == [Keep(catalogue)]
    assert machine.receive(state, 0) == [Settle(state)]
    assert machine.receive(beat, 0) == [Note(beat)]


def test_a_pause_and_its_end_are_told():
    machine = opened()
    machine.receive(Items(7, (gap(),)), 0)
    machine.receive(Stored((), (), None, item_bytes(gap()), 1, Credit(0, 0)), 0)
    assert machine.paused
    assert machine.receive(Regrant(CREDIT), 0) == [Send(Committed((), 1000, 4, received=item_bytes(gap())))]
    assert not machine.paused


def test_a_directive_is_delivered_in_an_open_session_only():
    directive = Directive("d", DirectiveKind.MODEL, "tank", 1, b"", 1, "m@1", 0)
    assert opened().receive(Desired(directive), 0) == [Send(directive)]
    assert ServerSession(0).receive(Desired(directive), 0) == []


def test_a_stream_without_hello_is_cut():
    machine = ServerSession(0)
    assert machine.deadline_ns() == 6 * SECOND_NS
    assert machine.receive(Tick(0), 5 * SECOND_NS) == []
    assert reason_of(machine.receive(Tick(0), 6 * SECOND_NS)) == "PROTOCOL_VIOLATION"


def test_an_idle_session_beats_restates_the_credit_and_a_silent_gateway_is_cut():
    machine = opened()
    assert machine.deadline_ns() == 5 * SECOND_NS
    beat, credit = machine.receive(Tick(42), 5 * SECOND_NS)
    assert beat == Send(Heartbeat(7, 42))
    assert credit == Send(Committed((), 1000, 4))
    assert reason_of(machine.receive(Tick(0), 15 * SECOND_NS)) == "RETRY_AFTER"


def test_a_newer_session_fences_this_one():
    machine = opened()
    assert reason_of(machine.receive(Refused("FENCED", "session 8 is open"), 0)) == "FENCED"
    assert machine.receive(Items(7, (gap(),)), 0) == []


def parts_of(payload: bytes, size: int, lane: int = 2) -> list[Part]:
    head = Item(BOOT.id, Stream.BULK, 0, 4, Block(b"s" * 32, 0, b"", 1, 2, b"k"))
    starts = range(0, len(payload), size)
    return [Part(7, lane, None if at else head, at, len(payload), payload[at : at + size]) for at in starts]


def test_a_block_in_parts_is_stored_when_it_is_whole_and_each_part_is_counted_at_once():
    machine = opened()
    first, second, third = parts_of(b"abcdefgh", 3)
    assert machine.receive(first, 0) == [Send(Committed((), 1000, 4, received=part_bytes(first)))]
    assert machine.receive(Items(7, (gap(),)), 0)[0] == Store(7, (gap(),), item_bytes(gap()))
    machine.receive(second, 0)
    tell, store = machine.receive(third, 0)
    assert tell.message.received == sum(map(part_bytes, (first, second, third))) + item_bytes(gap())
    assert (store.items[0].content.payload, store.items[0].content.kept) == (b"abcdefgh", b"k")
    assert machine._parts_bytes == 0


def test_a_first_part_drops_what_its_lane_held_and_a_part_out_of_its_place_is_a_violation():
    machine = opened()
    first, second, third = parts_of(b"abcdefgh", 3)
    for part in (first, second, first, second):
        machine.receive(part, 0)
    assert machine.receive(third, 0)[1].items[0].content.payload == b"abcdefgh"
    for wrong in ([second], [first, third], [first, parts_of(b"abcdefgh", 3, lane=3)[1]], [first, second, second]):
        machine = opened()
        for part in wrong[:-1]:
            machine.receive(part, 0)
        assert reason_of(machine.receive(wrong[-1], 0)) == "PROTOCOL_VIOLATION"


def test_parts_that_never_become_whole_are_bounded_by_the_credit():
    machine = opened()
    for lane in range(2):
        for part in parts_of(bytes(limits.BLOCK_BYTES_MAX), limits.BLOCK_BYTES_MAX // 2 + 9, lane)[:1]:
            machine.receive(part, 0)
    for lane in range(2, 16):
        actions = machine.receive(parts_of(bytes(limits.BLOCK_BYTES_MAX), limits.BLOCK_BYTES_MAX // 2 + 9, lane)[0], 0)
        if machine.state is ServerState.CLOSED:
            break
    assert reason_of(actions) == "LIMIT_EXCEEDED"


def test_a_wish_is_not_told_to_an_agent_that_would_not_know_it():
    wish = Wished(Coarsen(Stream.BULK, SECOND_NS, 0))
    assert opened().receive(wish, 0) == []
    machine = ServerSession(0)
    machine.receive(hello(protocol_max=3), 0)
    machine.receive(Granted(7, (), (), CREDIT, 0), 0)
    assert machine.receive(wish, 0) == [Send(wish.coarsen)]
