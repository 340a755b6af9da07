"""Sessions, fencing, forks, heartbeats and catalogues."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.contract.plant import KEY, NOW, TWIN, Edge, catalogue, invite, stored
from twincloud.storage.contract import Beat, GatewayKey, Running, TwinKey
from twinmodel.clock import SECOND_NS
from twinmodel.errors import ConflictError, DeniedError, InputError, MissingError
from twinmodel.signal import Stream
from twinsync.item import Mark


def test_unknown_gateway_gets_no_session(store):
    with pytest.raises(MissingError, match="UNKNOWN_GATEWAY"):
        Edge().connect(store, GatewayKey("acme", "mill", "gw-9"))


def test_hellos_of_a_fleet_share_a_transaction_and_each_gets_its_own_answer(store):
    edge, clone = Edge(), boots_since(later(Edge()), 1)
    edge.connect(store)
    other = GatewayKey("acme", "mill", "gw-2")
    invite(store, other)
    broken = replace(edge.hello(), boots=())
    hellos = [(KEY, clone.hello()), (GatewayKey("acme", "mill", "gw-9"), edge.hello()), (other, broken),
              (KEY, edge.hello()), (other, Edge().hello())]  # fmt: skip
    fork, unknown, nothing, again, first = store.open_sessions(hellos, NOW + 1)
    assert [fork.reason, unknown.reason, nothing.reason] == ["IDENTITY_FORK", "UNKNOWN_GATEWAY", "PROTOCOL_VIOLATION"]
    assert again.session == edge.session + 1
    assert store.gateway(KEY).state == "forked"
    assert store.gateway(other).connected
    assert first.session > 0


def test_a_hello_that_fails_half_way_leaves_nothing_and_spares_the_others(store, monkeypatch):
    other = GatewayKey("acme", "mill", "gw-2")
    invite(store, other)
    put = type(store)._put_boots

    def fails(self, connection, tenant, gateway_id, boots):
        found = put(self, connection, tenant, gateway_id, boots)
        if len(boots) == 2:
            raise ConflictError("FENCED", "half way")
        return found

    monkeypatch.setattr(type(store), "_put_boots", fails)
    two = Edge()
    two.boot()
    refused, granted = store.open_sessions([(KEY, two.hello()), (other, Edge().hello())], NOW)
    assert refused.reason == "FENCED"
    assert granted.session > 0
    assert not store.gateway(KEY).connected
    assert store.gateway(KEY).boot_counter == 0
    assert store.gateway(other).connected


def test_newer_session_fences_the_older_one_everywhere(store):
    edge = Edge()
    edge.connect(store)
    old, tick = edge.session, edge.tick(NOW)
    edge.connect(store)
    assert edge.session > old
    for attempt in (
        lambda: store.commit(KEY, old, [tick], NOW),
        lambda: store.commit(KEY, old, [], NOW),
        lambda: store.put_catalogue(KEY, old, edge.catalogue, NOW),
    ):
        with pytest.raises(ConflictError, match="FENCED"):
            attempt()
    (refusal,) = store.heartbeats([Beat(KEY, old, 0, 0, 0, (), NOW)])
    assert refusal.reason == "FENCED"
    store.close_session(KEY, old, NOW)
    assert store.gateway(KEY).connected
    store.close_session(KEY, edge.session, NOW + 5)
    assert not store.gateway(KEY).connected
    assert store.gateway(KEY).last_seen_ns == NOW + 5


def test_hello_gets_the_marks_of_all_its_boots(store):
    edge = Edge()
    edge.connect(store)
    edge.send(store, [edge.tick(NOW)])
    edge.boot()
    edge.connect(store)
    edge.send(store, [edge.tick(NOW, stream=Stream.ALARM)])
    opened = edge.connect(store)
    assert set(opened.marks) == {Mark(edge.boots[0].id, Stream.STATE, 24), Mark(edge.boots[1].id, Stream.ALARM, 24)}
    assert opened.missing_schemas == ()
    assert store.gateway(KEY).boot_counter == 2


def test_backlog_of_an_older_boot_is_taken_after_a_restart(store):
    edge = Edge()
    edge.connect(store)
    waiting = edge.tick(NOW)
    edge.boot()
    edge.connect(store)
    edge.send(store, [edge.tick(NOW + SECOND_NS, 2.0), waiting])
    assert len(stored(store)) == 48
    assert store.twin(TWIN).properties[0].reported.value == 2.0


def boots_since(edge: Edge, first: int) -> Edge:
    edge.boots = edge.boots[first:]
    return edge


def later(edge: Edge) -> Edge:
    edge.boot()
    return edge


def earlier(edge: Edge) -> Edge:
    edge.boots = edge.boots[:-1]
    return edge


# The disk of the head has the boots 0, 1, 2 and 2 is the head.
FORKS = {
    "same disk, same boot": (lambda e: e, True),
    "same disk, next boot": (later, True),
    "same disk, only the head is named": (lambda e: boots_since(e, 2), True),
    "same disk, three boots later": (lambda e: later(later(later(e))), True),
    "image from before the head, not started since": (earlier, False),
    "image from before the head, started": (lambda e: later(earlier(e)), False),
    "chain that begins after the head": (lambda e: boots_since(later(e), 3), False),
    "another disk": (lambda e: Edge(99), False),
}


@pytest.mark.parametrize("case", FORKS)
def test_fork_table(store, case):
    edge = Edge()
    for _ in range(2):
        edge.connect(store)
        edge.boot()
    edge.connect(store)
    change, granted = FORKS[case]
    comer = change(edge.clone(7))
    if granted:
        comer.connect(store)
        assert store.gateway(KEY).state == "active"
        return
    with pytest.raises(ConflictError, match="IDENTITY_FORK"):
        comer.connect(store)
    assert store.gateway(KEY).state == "forked"


def test_fork_keeps_the_data_rests_directives_and_ends_with_a_new_invitation(store):
    edge = Edge()
    edge.connect(store)
    clone = edge.clone(5)
    edge.boot()
    edge.connect(store)
    edge.send(store, [edge.tick(NOW)])
    clone.boot()
    for _ in range(2):
        with pytest.raises(ConflictError, match="IDENTITY_FORK"):
            clone.connect(store)
    # The branch that holds the head goes on; one event told of the fork.
    edge.send(store, [edge.tick(NOW + SECOND_NS)])
    edge.connect(store)
    assert store.gateway(KEY).state == "forked"
    assert [e.body["state"] for e in store.events("acme", after=0) if e.body.get("state") == "forked"] == ["forked"]
    token = b"t" * 32
    store.create_invite(KEY, token, NOW, NOW + SECOND_NS)
    assert store.redeem_invite(token, NOW) == KEY
    assert store.gateway(KEY).state == "active"
    with pytest.raises(ConflictError, match="FENCED"):
        edge.send(store, [edge.tick(NOW)])
    clone.connect(store)
    clone.send(store, [clone.tick(NOW)])
    assert len(stored(store)) == 72


@pytest.mark.parametrize("broken", ["empty", "unchained", "counter"])
def test_boots_that_do_not_follow_one_another_are_refused(store, broken):
    edge = Edge()
    edge.boot()
    edge.boot()
    chain = {"empty": (), "unchained": (edge.boots[0], edge.boots[2]), "counter": tuple(reversed(edge.boots))}[broken]
    edge.boots = list(chain)
    with pytest.raises(InputError, match="PROTOCOL_VIOLATION"):
        store.open_session(KEY, edge.hello(), NOW)


def test_suspended_gateway_is_fenced_and_refused_until_it_is_let_in(store):
    edge = Edge()
    edge.connect(store)
    store.suspend_gateway(KEY, suspended=True, now_ns=NOW)
    with pytest.raises(ConflictError, match="FENCED"):
        edge.send(store, [edge.tick(NOW)])
    with pytest.raises(DeniedError, match="SUSPENDED"):
        edge.connect(store)
    store.suspend_gateway(KEY, suspended=False, now_ns=NOW)
    edge.connect(store)


def test_heartbeat_keeps_backlog_and_what_runs(store):
    edge = Edge()
    edge.connect(store)
    running = (Running("pump-0", b"\x01" * 32, "pump@0.9.0", "jit"),)
    assert store.heartbeats([Beat(KEY, edge.session, 5, 6, 7, running, NOW + 1)]) == [None]
    found = store.gateway(KEY)
    assert (found.backlog_bytes, found.backlog_samples, found.oldest_ns, found.last_seen_ns) == (5, 6, 7, NOW + 1)
    model = store.twin(TWIN).model
    assert (model.running, model.running_digest, model.tier) == ("pump@0.9.0", "01" * 32, "jit")
    assert model.desired == "pump@1.0.0"


def test_the_offset_of_a_clock_is_kept_per_boot_and_no_event_time_is_rewritten(store):
    edge = Edge()
    edge.connect(store)
    edge.send(store, [edge.tick(NOW)])

    def times():
        found = [(p.reported, p.estimated, p.predicted) for p in store.twin(TWIN).properties]
        return [value.t_event_ns for values in found for value in values if value is not None]

    before = times()
    assert NOW in before
    assert store.gateway(KEY).offset_ns is None
    store.heartbeats([Beat(KEY, edge.session, 0, 0, 0, (), NOW, offset_ns=3600 * SECOND_NS)])
    store.heartbeats([Beat(KEY, edge.session, 0, 0, 0, (), NOW)])
    assert store.gateway(KEY).offset_ns == 3600 * SECOND_NS
    edge.connect(store)
    assert store.gateway(KEY).offset_ns == 3600 * SECOND_NS
    edge.boot()
    edge.connect(store)
    assert store.gateway(KEY).offset_ns is None
    store.heartbeats([Beat(KEY, edge.session, 0, 0, 0, (), NOW, offset_ns=-5)])
    assert store.gateway(KEY).offset_ns == -5
    assert times() == before


def test_the_cause_of_a_drift_becomes_part_of_the_twin_and_an_event_once(store):
    edge = Edge()
    edge.connect(store)
    before = store.last_event()
    for at, cause in enumerate(["", "sensor:head", "sensor:head", ""]):
        running = (Running("pump-0", b"\x01" * 32, "pump@0.9.0", "jit", cause),)
        store.heartbeats([Beat(KEY, edge.session, 0, 0, 0, running, NOW + 1 + at)])
        assert store.twin(TWIN).model.isolation == cause
    assert [e.body["isolation"] for e in store.events("acme", after=before)] == ["", "sensor:head", ""]


def test_heartbeats_of_several_gateways_are_kept_and_a_superseded_one_is_told_alone(store):
    second, nobody = GatewayKey("acme", "mill", "gw-2"), GatewayKey("acme", "mill", "gw-9")
    invite(store, second)
    a, b = Edge(1), Edge(2, catalogue(1, prefix="fan"))
    a.connect(store)
    b.connect(store, second)
    old = a.session
    a.connect(store)
    before = store.last_event()
    jit = (Running("pump-0", b"\x01" * 32, "pump@0.9.0", "jit"),)
    beats = [
        Beat(KEY, old, 9, 9, 9, (), NOW + 9),
        Beat(nobody, 1, 9, 9, 9, (), NOW + 9),
        Beat(second, b.session, 1, 2, 3, (), NOW + 4),
        Beat(KEY, a.session, 4, 5, 6, jit, NOW + 3),
    ]
    answers = store.heartbeats(beats)
    assert [answer and answer.reason for answer in answers] == ["FENCED", "UNKNOWN_GATEWAY", None, None]
    kept = [
        (g.backlog_bytes, g.backlog_samples, g.oldest_ns, g.last_seen_ns) for g in map(store.gateway, (KEY, second))
    ]
    assert kept == [(4, 5, 6, NOW + 3), (1, 2, 3, NOW + 4)]
    assert store.heartbeats(beats[3:]) == [None]
    assert [(e.kind, e.subject, e.body["running"]) for e in store.events("acme", after=before)] == [
        ("twin", "pump-0", "pump@0.9.0")
    ]
    assert store.heartbeats([]) == []


def test_heartbeat_written_late_neither_turns_back_the_time_nor_brings_back_a_gateway_that_left(store):
    edge = Edge()
    edge.connect(store)
    store.close_session(KEY, edge.session, NOW + 5)
    assert store.heartbeats([Beat(KEY, edge.session, 1, 2, 3, (), NOW + 4)]) == [None]
    gateway = store.gateway(KEY)
    assert (gateway.connected, gateway.last_seen_ns, gateway.backlog_samples) == (False, NOW + 5, 2)


def test_sessions_of_a_service_that_was_killed_end_at_its_next_start(place, store):
    edge = Edge()
    edge.connect(store)
    store.close()
    again = place.open()
    assert again.gateway(KEY).connected
    before = again.last_event()
    again.end_sessions(NOW + 60)
    gateway = again.gateway(KEY)
    assert (gateway.connected, gateway.last_seen_ns, gateway.session) == (False, NOW, edge.session)
    assert [(e.subject, e.body) for e in again.events("acme", after=before)] == [("gw-1", {"connected": False})]
    again.end_sessions(NOW + 61)
    assert len(again.events("acme", after=before)) == 1
    edge.connect(again)
    assert again.gateway(KEY).connected


def test_catalogue_comes_back_equal_and_only_to_the_gateway_that_sent_it(store):
    edge = Edge()
    edge.connect(store)
    assert store.catalogue(KEY, edge.catalogue.digest) == edge.catalogue
    assert store.catalogue(KEY, edge.catalogue.digest) is store.catalogue(KEY, edge.catalogue.digest)
    second = GatewayKey("acme", "mill", "gw-2")
    invite(store, second)
    with pytest.raises(ConflictError, match="SCHEMA_UNKNOWN"):
        store.catalogue(second, edge.catalogue.digest)


def test_twins_of_the_current_catalogue_are_listed_and_others_retire_with_their_history(store):
    edge = Edge()
    edge.connect(store)
    edge.send(store, [edge.tick(NOW)])
    edge.catalogue = catalogue(1)
    store.put_catalogue(KEY, edge.session, edge.catalogue, NOW)
    assert [t.key.twin for t in store.twins("acme").items] == ["pump-0"]
    gone = TwinKey("acme", "mill", "pump-1")
    assert len(store.history(gone, "flow", ["measured"], NOW, NOW + 1, 10)["measured"].t_ns) == 1
    assert store.twin(gone).properties[0].reported.value == 1.0
    # The older configuration comes back by a hello alone: the catalogue is known.
    edge.catalogue = catalogue(2)
    assert edge.connect(store).missing_schemas == ()
    assert [t.key.twin for t in store.twins("acme").items] == ["pump-0", "pump-1"]


def test_catalogue_of_blocks_still_on_their_way_does_not_become_current(store):
    edge = Edge()
    old, new = catalogue(2), catalogue(1)
    opened = store.open_session(KEY, edge.hello(schemas=(old.digest, new.digest)), NOW)
    assert opened.missing_schemas == (old.digest, new.digest)
    store.put_catalogue(KEY, opened.session, new, NOW)
    store.put_catalogue(KEY, opened.session, old, NOW)
    assert [t.key.twin for t in store.twins("acme").items] == ["pump-0"]
    edge.session, edge.catalogue = opened.session, old
    edge.send(store, [edge.tick(NOW, 3.0)])
    assert store.twin(TWIN).properties[0].reported.value == 3.0


def test_twin_that_another_gateway_serves_stays_there_until_that_one_lets_it_go(store):
    second = GatewayKey("acme", "mill", "gw-2")
    invite(store, second)
    a, b = Edge(1), Edge(2, catalogue(2, extra="b"))
    a.connect(store)
    b.connect(store, second)
    a.send(store, [a.tick(NOW, 1.0)])
    b.send(store, [b.tick(NOW + SECOND_NS, 2.0)], key=second)
    twin = store.twin(TWIN)
    assert (twin.gateway, twin.properties[0].reported.value) == ("gw-1", 1.0)
    assert [e.subject for e in store.events("acme", after=0) if e.body.get("conflict")] == ["pump-0", "pump-1"]
    store.put_catalogue(KEY, a.session, catalogue(0), NOW)
    b.connect(store, second)
    b.send(store, [b.tick(NOW + 2 * SECOND_NS, 4.0)], key=second)
    twin = store.twin(TWIN)
    assert (twin.gateway, twin.properties[0].reported.value) == ("gw-2", 4.0)
    points = store.history(TWIN, "flow", ["measured"], NOW, NOW + 9 * SECOND_NS, 10)["measured"]
    assert points.value.tolist() == [1.0, 2.0, 4.0]
