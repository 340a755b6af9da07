"""Dedupe, order, loss ledger and dead letters: what a store does with items."""

from __future__ import annotations

import dataclasses
from collections import Counter

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.contract.plant import KEY, NOW, TWIN, Edge, catalogue, invite, stored
from twincloud.storage.contract import Arrival, GatewayKey
from twinmodel.clock import SECOND_NS
from twinmodel.errors import ConflictError, InputError, MissingError
from twinmodel.signal import Stream
from twinsync.item import Gap, Item, Mark, NotAcquired, Outage
from twinsync.kept import pack_kept


def test_commit_moves_the_mark_and_keeps_every_sample_as_it_came(store):
    edge = Edge()
    edge.connect(store)
    done = edge.send(store, [edge.tick(NOW), edge.tick(NOW + SECOND_NS)])
    assert done.marks == (Mark(edge.boots[0].id, Stream.STATE, 48),)
    assert done.samples == 48
    assert done.nack is None
    assert len(stored(store)) == 48
    assert store.gateway(KEY).samples == 48


def test_covered_items_are_acknowledged_and_counted_but_not_stored_again(store):
    edge = Edge()
    edge.connect(store)
    items = [edge.tick(NOW), edge.gap(5), edge.poison()]
    first = edge.send(store, items)
    again = edge.send(store, items)
    assert again.marks == first.marks
    assert again.samples == 0
    assert again.twins == ()
    assert len(stored(store)) == 24
    assert len(store.losses(KEY)) == 1
    assert len(store.dead_letters("acme").items) == 1
    assert store.gateway(KEY).duplicates_refused == 24 + 5 + 10


def test_an_item_beyond_the_mark_is_nacked_and_other_streams_go_on(store):
    edge = Edge()
    edge.connect(store)
    first, lost, later = (edge.tick(NOW + n * SECOND_NS) for n in range(3))
    alarm = edge.tick(NOW, stream=Stream.ALARM)
    done = edge.send(store, [first, later, lost, alarm])
    assert done.nack == Mark(edge.boots[0].id, Stream.STATE, 24)
    assert {(m.stream, m.next_seq) for m in done.marks} == {(Stream.STATE, 24), (Stream.ALARM, 24)}
    assert edge.send(store, [lost, later]).nack is None
    assert len(stored(store)) == 4 * 24


def test_a_nack_alone_still_tells_the_mark(store):
    edge = Edge()
    edge.connect(store)
    edge.tick(NOW)
    done = edge.send(store, [edge.tick(NOW)])
    assert done.marks == (Mark(edge.boots[0].id, Stream.STATE, 0),)
    assert done.nack == done.marks[0]


def test_gap_occupies_its_numbers_and_stands_in_the_ledger(store):
    edge = Edge()
    edge.connect(store)
    edge.send(store, [edge.gap(1000), edge.tick(NOW)])
    (loss,) = store.losses(KEY)
    assert (loss.kind, loss.reason, loss.count, loss.first_seq) == ("GAP", "DROP_OLDEST", 1000, 0)
    assert loss.boot == edge.boots[0].id.hex()


def test_gap_over_numbers_that_were_committed_declares_only_the_rest(store):
    edge = Edge()
    edge.connect(store)
    edge.send(store, [edge.tick(NOW)])
    boot = edge.boots[0].id
    done = edge.send(store, [Arrival(Item(boot, Stream.STATE, 0, 29, Gap("DROP_OLDEST", 30, NOW, NOW)))])
    assert done.marks[0].next_seq == 30
    assert [(loss.first_seq, loss.count) for loss in store.losses(KEY)] == [(24, 6)]
    assert len(stored(store)) == 24


def test_block_that_overlaps_committed_numbers_becomes_a_dead_letter_and_the_stream_advances(store):
    edge = Edge()
    edge.connect(store)
    edge.send(store, [edge.samples({"plc0.flow": [(NOW, 1.0)]})])
    crooked = edge.tick(NOW)
    item = dataclasses.replace(crooked.item, first_seq=0, last_seq=23)
    done = edge.send(store, [Arrival(item, crooked.batches)])
    assert done.marks[0].next_seq == 24
    assert done.rejected == ((edge.boots[0].id, Stream.STATE, 0, "PROTOCOL_VIOLATION"),)
    (letter,) = store.dead_letters("acme").items
    assert (letter.first_seq, letter.last_seq, letter.reason) == (1, 23, "PROTOCOL_VIOLATION")
    assert store.dead_letter_bytes("acme", letter.id) == item.content.payload
    assert len(stored(store)) == 1


def test_poison_is_kept_with_its_bytes_and_the_next_block_is_taken(store):
    edge = Edge()
    edge.connect(store)
    done = edge.send(store, [edge.poison(), edge.tick(NOW)])
    assert done.rejected == ((edge.boots[0].id, Stream.STATE, 0, "BLOCK_CORRUPT"),)
    assert done.marks[0].next_seq == 34
    (letter,) = store.dead_letters("acme").items
    assert (letter.gateway, letter.size) == (KEY, 7)
    assert store.dead_letter_bytes("acme", letter.id) == b"\x00broken"
    with pytest.raises(MissingError, match="NOT_FOUND"):
        store.dead_letter_bytes("other", letter.id)


def test_block_with_another_count_of_samples_than_numbers_is_no_silent_loss(store):
    edge = Edge()
    edge.connect(store)
    tick = edge.tick(NOW)
    wider = dataclasses.replace(tick.item, last_seq=tick.item.last_seq + 5)
    done = edge.send(store, [Arrival(wider, tick.batches)])
    assert done.rejected[0][3] == "BLOCK_CORRUPT"
    assert done.marks[0].next_seq == 29


def test_block_of_a_catalogue_never_sent_is_a_dead_letter(store):
    edge = Edge()
    edge.connect(store)
    other = Edge(plan=catalogue(3))
    other.boots, other.next = edge.boots, edge.next
    assert edge.send(store, [other.tick(NOW)]).rejected[0][3] == "SCHEMA_UNKNOWN"


def test_dead_letters_beyond_the_quota_are_declared_lost(store):
    edge = Edge()
    edge.connect(store)
    big = b"x" * (2 << 20)
    for _ in range(9):
        edge.send(store, [edge.poison(payload=big)])
    assert len(store.dead_letters("acme").items) == 8
    (loss,) = store.losses(KEY)
    assert (loss.kind, loss.reason, loss.count) == ("GAP", "DEAD_LETTER_QUOTA", 10)


def test_thinned_blocks_are_stored_and_what_they_lack_is_declared_in_one_line(store):
    edge = Edge()
    edge.connect(store)
    sent = [edge.tick(NOW + place * SECOND_NS, lost=4) for place in range(3)]
    commit = edge.send(store, sent)
    assert (commit.marks[0].next_seq, commit.samples, commit.rejected) == (3 * 28, 3 * 24, ())
    assert len(stored(store)) == 3 * 24
    (loss,) = store.losses(KEY)
    assert (loss.kind, loss.reason, loss.first_seq, loss.count) == ("THINNED", "STORE_FULL", 0, 12)
    assert (loss.from_ns, loss.to_ns) == (NOW, NOW + 2 * SECOND_NS)
    assert edge.send(store, sent[:1]).samples == 0
    assert len(store.losses(KEY)) == 1


def test_thinned_block_that_holds_another_number_of_samples_is_a_dead_letter(store):
    edge = Edge()
    edge.connect(store)
    whole = edge.tick(NOW, lost=4)
    content = dataclasses.replace(whole.item.content, kept=pack_kept(np.arange(28) < 20))
    commit = edge.send(store, [dataclasses.replace(whole, item=dataclasses.replace(whole.item, content=content))])
    assert commit.rejected[0][3] == "BLOCK_CORRUPT"
    assert (stored(store), store.losses(KEY)) == ([], ())


def test_outage_and_not_acquired_records_are_declared_and_an_open_interval_is_closed_once(store):
    edge = Edge()
    edge.connect(store)
    gone = bytes(16)
    edge.send(store, [edge.record(Outage(gone, NOW, NOW + 9)), edge.record(NotAcquired("plc0", "TIMEOUT", NOW, 0))])
    edge.send(store, [edge.record(NotAcquired("plc0", "TIMEOUT", NOW, NOW + 7)),
                      edge.record(NotAcquired("plc1", "TIMEOUT", NOW, 0)),
                      edge.record(NotAcquired("plc1", "TIMEOUT", NOW, NOW + 3))])  # fmt: skip
    found = [(loss.kind, loss.device, loss.from_ns, loss.to_ns, loss.count) for loss in store.losses(KEY)]
    assert found == [
        ("OUTAGE", "", NOW, NOW + 9, 0),
        ("NOT_ACQUIRED", "plc0", NOW, NOW + 7, 0),
        ("NOT_ACQUIRED", "plc1", NOW, NOW + 3, 0),
    ]


def test_boot_that_no_hello_named_is_refused_and_nothing_of_the_call_is_taken(store):
    edge = Edge()
    edge.connect(store)
    known = edge.tick(NOW)
    edge.boot()
    with pytest.raises(InputError, match="PROTOCOL_VIOLATION"):
        edge.send(store, [known, edge.tick(NOW)])
    assert stored(store) == []


def test_commit_many_answers_each_gateway_and_one_refusal_leaves_the_others_alone(store):
    second = GatewayKey("acme", "mill", "gw-2")
    nobody = GatewayKey("acme", "mill", "gw-9")
    invite(store, second)
    a, b = Edge(1), Edge(2, catalogue(1, prefix="fan"))
    a.connect(store)
    b.connect(store, second)
    one, two, three = a.tick(NOW), a.tick(NOW + 1_000_000), b.tick(NOW)
    done = store.commit_many(
        [(KEY, a.session, [one]), (KEY, a.session + 1, [two]), (nobody, 1, [three]), (KEY, a.session, [one, two]),
         (second, b.session, [three])],
        NOW,
    )  # fmt: skip
    assert done[0].samples == 24
    assert isinstance(done[1], ConflictError)
    assert done[1].reason == "FENCED"
    assert done[2].reason == "UNKNOWN_GATEWAY"
    assert done[3].marks[0].next_seq == 48
    assert done[4].samples == 12
    assert store.gateway(KEY).samples == 48
    assert store.gateway(KEY).duplicates_refused == 24
    assert len(stored(store, second)) == 12


def test_commit_of_nothing_is_no_error(store):
    edge = Edge()
    edge.connect(store)
    assert edge.send(store, []).marks == ()
    assert store.commit_many([], NOW) == []


def test_all_kinds_of_values_come_back_bit_for_bit(store):
    edge = Edge()
    edge.connect(store)
    values = {
        "plc0.flow": [(NOW, float("nan")), (NOW + 10**6, -0.0), (NOW + 2 * 10**6, 0.1 + 0.2)],
        "line.state": [(NOW, "läuft"), (NOW + 10**6, "")],
        "line.count": [(NOW, -(2**62))],
        "line.running": [(NOW, True)],
    }
    edge.send(store, [edge.samples(values)])
    sent = sorted((name, t, repr(v)) for name, points in values.items() for t, v in points)
    assert sorted((name, t, repr(v)) for name, t, v in stored(store)) == sent


def test_events_tell_of_commits_in_order_and_by_tenant(store):
    edge = Edge()
    edge.connect(store)
    before = store.last_event()
    edge.send(store, [edge.tick(NOW)])
    edge.send(store, [edge.tick(NOW + SECOND_NS)])
    news = store.events("acme", after=before)
    assert [(e.kind, e.subject, e.body["twins"]) for e in news] == [("commit", "gw-1", ["pump-0", "pump-1"])] * 2
    assert news[0].id < news[1].id == store.last_event()
    assert store.events("acme", after=news[1].id) == ()
    assert len(store.events("acme", after=0, limit=1)) == 1
    assert store.events("other", after=0) == ()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    script=st.lists(st.tuples(st.integers(0, 3), st.integers(1, 4)), min_size=1, max_size=12), seed=st.integers(0, 999)
)
def test_any_resending_leaves_each_sample_once_and_marks_at_the_end(place, script, seed):
    """Windows of a stream are sent from any point at or before the mark, again and again."""
    store = place.stores[0] if place.stores else place.open()
    key = GatewayKey("acme", "mill", f"gw-{seed}-{store.last_event()}")
    invite(store, key)
    edge = Edge(seed, catalogue(1, prefix=f"pump{store.last_event()}"))
    edge.connect(store, key)
    items, sent = [], 0
    for back, count in script:
        while len(items) < sent + count:
            n = len(items)
            items.append(
                edge.gap(2) if n % 4 == 3 else edge.poison(3) if n % 5 == 4 else edge.tick(NOW + n * SECOND_NS)
            )
        start = max(0, sent - back)
        done = edge.send(store, items[start : sent + count], NOW, key)
        sent += count
        assert done.nack is None
        assert done.marks[0].next_seq == items[sent - 1].item.last_seq + 1
    made = Counter()
    for arrival in items[:sent]:
        for batch in arrival.batches or ():
            made.update((edge.catalogue.signals[s].name, t) for s, t in zip(batch.signal, batch.t_ns, strict=True))
    assert Counter((name, t) for name, t, _ in stored(store, key)) == made
    losses = sum(loss.count for loss in store.losses(key))
    assert losses == sum(a.item.count for a in items[:sent] if isinstance(a.item.content, Gap))


def test_newest_values_follow_the_commit(store):
    edge = Edge()
    edge.connect(store)
    done = edge.send(store, [edge.tick(NOW, 7.5, twins=1)])
    assert done.twins == (TWIN,)
    assert store.twin(TWIN).properties[0].reported.value == 7.5


def test_dead_letter_that_can_be_read_after_an_upgrade_is_taken_into_history(store):
    edge = Edge()
    edge.connect(store)
    arrival = edge.tick(NOW, 8.0)
    edge.send(store, [dataclasses.replace(arrival, batches=None, poison="BLOCK_UNSUPPORTED")])
    (letter,) = store.dead_letters("acme").items
    assert store.requeue_dead_letter("acme", letter.id, NOW + SECOND_NS) == arrival.item.count
    assert store.dead_letters("acme").items == ()
    assert len(stored(store)) == arrival.item.count
    flow = next(p for p in store.twin(TWIN).properties if p.name == "flow")
    assert flow.reported.value == 8.0
    edge.send(store, [edge.tick(NOW + SECOND_NS, 9.0)], NOW + SECOND_NS)
    assert next(p for p in store.twin(TWIN).properties if p.name == "flow").reported.value == 9.0


def test_dead_letter_that_still_cannot_be_read_is_kept(store):
    edge = Edge()
    edge.connect(store)
    edge.send(store, [edge.poison()])
    (letter,) = store.dead_letters("acme").items
    with pytest.raises(InputError, match="BLOCK_CORRUPT"):
        store.requeue_dead_letter("acme", letter.id, NOW)
    with pytest.raises(MissingError):
        store.requeue_dead_letter("other", letter.id, NOW)
    assert store.dead_letters("acme").items == (letter,)
