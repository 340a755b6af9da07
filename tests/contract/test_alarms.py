"""Alarms on every implementation: folded in any order, shown by choice, asked for once."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from functools import partial

import pytest
from sqlalchemy import text as sql

from tests.cloud.plant import alarm
from tests.contract.plant import KEY, NOW, invite, stored
from tests.contract.running import Alarming
from twincloud.filters import parse
from twincloud.storage import alarm_fold
from twincloud.storage.alarms import ALARM_COLUMNS, ALARM_FIELDS
from twincloud.storage.contract import GatewayKey
from twincloud.storage.records_alarms import OWN, AlarmAsk, AlarmChoice, alarm_id
from twincloud.storage.scrub_alarms import scrub_alarms
from twinmodel.alarms.records import Priority, encode
from twinmodel.alarms.states import State
from twinmodel.clock import SECOND_NS
from twinmodel.errors import ConflictError, MissingError

EVERYTHING = AlarmChoice()
AWAY_NS = 10 * SECOND_NS


said = partial(alarm, source="plc0.flow")


@pytest.fixture
def edge(store):
    made = Alarming()
    made.connect(store)
    return made


def listed(store, wanted=EVERYTHING, **more):
    return [(a.record.alarm, a.record.state.value) for a in store.alarms("acme", wanted, **more).items]


def facts(store):
    """All that must not depend on the order things came in."""
    return [
        (a.id, a.record, a.twins, a.since_ns, a.changed_ns)
        for a in sorted(store.alarms("acme", EVERYTHING).items, key=lambda a: a.id)
    ]


def ask(store, alarm: str, do: str, **more):
    return store.ask_alarms("acme", [AlarmAsk(alarm_id(KEY, alarm), do, "ann", **more)], NOW)[0]


def test_a_record_becomes_an_alarm_with_its_twin_and_its_event_in_the_commit_of_its_block(store, edge):
    before = store.last_event()
    commit = edge.send(store, [edge.tell(said("high", value=9.75), said("dead", source="plc1"), t_ns=NOW - 5)])
    assert commit.unreadable == 0
    assert {key.twin for key in commit.twins} == {"pump-0", "pump-1"}
    high = store.alarm("acme", alarm_id(KEY, "high"))
    assert (high.gateway, high.twins, high.since_ns, high.changed_ns) == (KEY, ("pump-0",), NOW - 5, NOW - 5)
    assert high.record == said("high")
    assert store.alarm("acme", alarm_id(KEY, "dead")).twins == ("pump-1",)
    news = [event for event in store.events("acme", after=before) if event.kind == "alarm"]
    assert [(event.subject, event.body["state"]) for event in news] == [
        (high.id, "UNACK"),
        (alarm_id(KEY, "dead"), "UNACK"),
    ]
    assert store.alarm_marks("acme").unacked == {"high": 2}
    assert store.twin_marks("acme", {"pump-0", "pump-9"})["mill", "pump-0"].active == 1
    with pytest.raises(MissingError, match="UNKNOWN_ALARM"):
        store.alarm("other", high.id)


def test_replays_duplicates_and_late_blocks_change_nothing(place, store, edge):
    first, records = edge.boots[0], []
    for n, state in enumerate((State.UNACK, State.ACKED, State.RTNUN, State.NORM, State.UNACK)):
        records.append(
            (edge.tell(said("a", state, 1 + (n == 4)), said("b", state, 1 + (n == 4)), t_ns=NOW + n * 10), first)
        )
    second = edge.boot()
    # The new boot's clock is behind; what it says is nevertheless newer.
    for n, state in enumerate((State.ACKED, State.RTNUN)):
        records.append((edge.tell(said("a", state, 2), t_ns=NOW - 1_000 + n), second))
    edge.connect(store)
    edge.send(store, [one for one, _ in records])
    wanted = facts(store)
    assert [(a[1].alarm, a[1].state.value, a[1].occurrence) for a in wanted] in (
        [("a", "RTNUN", 2), ("b", "UNACK", 2)],
        [("b", "UNACK", 2), ("a", "RTNUN", 2)],
    )
    edge.send(store, [one for one, _ in records])
    assert facts(store) == wanted
    for seed in range(4):
        # Numbers of a boot and lane come in order; lanes of several boots come as they like.
        key = GatewayKey("acme", f"again-{seed}", "gw-1")
        invite(store, key)
        edge.connect(store, key)
        waiting = {boot.id: [one for one, of in records if of is boot] for boot in (first, second)}
        chance = random.Random(seed)
        while any(waiting.values()):
            some = chance.choice([one for one in waiting.values() if one])
            edge.send(store, [some.pop(0)], key=key)
        found = {a.record.alarm: a for a in store.alarms("acme", AlarmChoice(site=key.site)).items}
        assert {name: (a.record, a.twins, a.since_ns, a.changed_ns) for name, a in found.items()} == {
            a[1].alarm: a[1:] for a in wanted
        }


def test_what_is_no_record_stops_no_commit_and_is_counted(store, edge):
    newer = json.loads(encode(said("new"))) | {"v": 9, "colour": "red", "priority": "purple"}
    own = encode(said(OWN))
    odd = json.dumps(json.loads(encode(said("odd"))) | {"state": "CONFUSED"})
    commit = edge.send(
        store,
        [edge.tell("nonsense", json.dumps(newer), own, odd, "{}", encode(said("huge", occurrence=2**64 - 1)))],
    )
    assert (commit.samples, commit.unreadable) == (6, 4)
    assert sorted(listed(store)) == [("huge", "UNACK"), ("new", "UNACK")]
    assert len(stored(store)) == 6


def test_new_names_take_the_place_of_what_is_over_and_of_nothing_that_stands(store, edge, monkeypatch):
    monkeypatch.setattr(alarm_fold, "ALARMS_MAX", 4)
    monkeypatch.setattr(alarm_fold, "FORGOTTEN", 2)
    edge.send(store, [edge.tell(said("a"), said("b", State.NORM), said("c", State.NORM), said("d", State.NORM))])
    commit = edge.send(store, [edge.tell(said("e"), said("d", State.NORM, 2))])
    assert commit.unreadable == 0
    assert sorted(listed(store)) == [("a", "UNACK"), ("d", "NORM"), ("e", "UNACK")]
    commit = edge.send(store, [edge.tell(*(said(name) for name in "fghi"))])
    assert commit.unreadable == 2, "only `d` was over"
    assert sorted(listed(store)) == [(name, "UNACK") for name in "aefg"]


def test_source_names_a_twin_a_signal_or_all_signals_of_a_device(store, edge):
    sources = ("pump-1", "pump-1/model", "plc0.flow", "plc1", "plc", "plc0.flo", "", "nobody")
    edge.send(store, [edge.tell(*(said(f"r{n}", source=source) for n, source in enumerate(sources)))])
    found = {one.record.source: one.twins for one in store.alarms("acme", EVERYTHING).items}
    assert [found[source] for source in sources] == [
        ("pump-1",), ("pump-1",), ("pump-0",), ("pump-1",), (), (), (), (),
    ]  # fmt: skip


def test_alarms_are_chosen_by_what_they_are_and_paged_by_priority(store, edge):
    edge.send(
        store,
        [
            edge.tell(
                said("low", severity=300, priority=Priority.LOW, source="pump-1/head#estimate"),
                said("high"),
                said("urgent", severity=900, priority=Priority.URGENT, cause="plc0"),
                said("gone", State.NORM),
                said("seen", State.ACKED),
            )
        ],
    )
    assert listed(store, AlarmChoice(standing=True)) == [
        ("urgent", "UNACK"), ("seen", "ACKED"), ("high", "UNACK"), ("low", "UNACK")
    ]  # fmt: skip
    page = store.alarms("acme", EVERYTHING, limit=2)
    rest = store.alarms("acme", EVERYTHING, limit=9, token=page.next_token)
    assert [a.record.alarm for a in (*page.items, *rest.items)] == ["urgent", "seen", "gone", "high", "low"]
    assert listed(store, AlarmChoice(acked=False, priority="high")) == [("high", "UNACK")]
    assert listed(store, AlarmChoice(twin="pump-1")) == [("low", "UNACK")]
    assert listed(store, AlarmChoice(cause="plc0", site="mill", gateway="gw-1", state="UNACK")) == [("urgent", "UNACK")]
    assert listed(store, AlarmChoice(active=False)) == [("gone", "NORM")]
    assert listed(store, AlarmChoice(site="nowhere")) == []
    for text, names in {
        'twins has "pump-1"': ["low"],
        'severity >= 700 and not acked and state = "UNACK"': ["urgent", "high"],
        'cause = null and priority in ("low", "urgent")': ["low"],
        f'gateway = "gw-1" and alarm ^= "u" and changed > {"2020-01-01T00:00:00Z"}': ["urgent"],
    }.items():
        chosen = parse(text, ALARM_FIELDS)
        assert chosen.exact(ALARM_COLUMNS)
        assert [name for name, _ in listed(store, chosen=chosen)] == names
    marks = store.alarm_marks("acme")
    assert (marks.unacked, marks.active, marks.highest) == ({"low": 1, "high": 1, "urgent": 1}, 4, "urgent")


def test_the_journal_is_the_history_of_the_signal(store, edge):
    steps = (State.UNACK, State.ACKED, State.NORM)
    for n, state in enumerate(steps):
        edge.send(store, [edge.tell(said("high", state), said("other"), t_ns=NOW + n * SECOND_NS)], NOW + n * SECOND_NS)
    edge.send(store, [edge.tell("nonsense", t_ns=NOW + 9 * SECOND_NS)])
    alarm = store.alarm("acme", alarm_id(KEY, "high"))
    found = store.alarm_journal(alarm, NOW, NOW + 60 * SECOND_NS, 10)
    assert [step.record.state for step in found] == list(reversed(steps))
    assert found[0].t_ns == found[0].received_ns == NOW + 2 * SECOND_NS
    assert [s.record.state for s in store.alarm_journal(alarm, NOW, NOW + 2 * SECOND_NS, 1)] == [State.ACKED]
    assert store.alarm_journal(alarm, 0, NOW, 10) == ()


def test_what_is_asked_goes_down_once_and_waits_there(store, edge):
    edge.send(store, [edge.tell(said("high", occurrence=3))])
    before = store.last_event()
    asked = ask(store, "high", "ack", occurrence=3, comment="on it")
    assert (asked.record.state, asked.action.name, asked.action.outcome) == (State.UNACK, "ack", "")
    (directive,) = store.open_directives(KEY)
    assert (directive.kind, directive.target, directive.created_by) == ("alarm", "@alarm/high", "ann")
    assert json.loads(directive.content) == {"do": "ack", "occurrence": 3, "for_s": 0, "by": "ann", "comment": "on it"}
    assert {"alarm", "gateway", "directive"} <= {event.kind for event in store.events("acme", after=before)}
    store.settle_directive(KEY, directive.id, "APPLIED", reason="", detail="", running="", now_ns=NOW)
    edge.send(store, [edge.tell(said("high", State.ACKED, 3, by="ann", comment="on it"), t_ns=NOW + 1)])
    alarm = store.alarm("acme", asked.id)
    assert (alarm.record.state, alarm.record.by, alarm.action.outcome) == (State.ACKED, "ann", "APPLIED")
    assert ask(store, "high", "ack", occurrence=3).action == alarm.action
    assert store.open_directives(KEY) == ()
    assert "@alarm/high" in [row[0].target for row in [(one,) for one in store.directives("acme")]]


def test_what_makes_no_sense_now_is_refused_and_nothing_goes_down(store, edge):
    edge.send(store, [edge.tell(said("high", occurrence=3))])
    for refused, reason in (
        (ask(store, "high", "ack", occurrence=2), "ALARM_CHANGED"),
        (ask(store, "high", "unshelve"), "PRECONDITION_FAILED"),
        (ask(store, "none", "ack"), "UNKNOWN_ALARM"),
    ):
        assert (isinstance(refused, ConflictError | MissingError), refused.reason) == (True, reason)
    assert store.open_directives(KEY) == ()
    shelved = ask(store, "high", "shelve", for_s=60)
    assert shelved.action.deadline_ns == NOW + 60 * SECOND_NS
    assert ask(store, "high", "ack").reason == "IN_PROGRESS"
    assert ask(store, "high", "unshelve").action.name == "unshelve"
    (directive,) = store.open_directives(KEY)
    assert directive.name == "unshelve"


def test_a_gateway_that_is_away_has_an_alarm_of_the_coordinators_own_until_it_is_back(store, edge):
    edge.send(store, [edge.tell(said("high"))])
    assert store.watch_gateways(NOW + AWAY_NS, AWAY_NS) == 0
    store.close_session(KEY, edge.session, NOW + SECOND_NS)
    assert store.watch_gateways(NOW + AWAY_NS, AWAY_NS) == 0
    late_ns = NOW + 2 * AWAY_NS
    assert store.watch_gateways(late_ns, AWAY_NS) == 1
    assert store.watch_gateways(late_ns, AWAY_NS) == 0
    own = store.alarm("acme", alarm_id(KEY, OWN))
    assert (own.record.state, own.since_ns, own.connected, own.record.occurrence) == (
        State.UNACK,
        NOW + SECOND_NS,
        False,
        1,
    )
    assert store.alarm("acme", alarm_id(KEY, "high")).seen_ns == NOW + SECOND_NS
    assert ask(store, OWN, "ack", comment="known").record.state is State.ACKED
    assert store.open_directives(KEY) == ()
    edge.connect(store)
    assert store.watch_gateways(late_ns, AWAY_NS) == 1
    assert store.alarm("acme", own.id).record.state is State.NORM
    store.close_session(KEY, edge.session, late_ns)
    assert store.watch_gateways(late_ns + 2 * AWAY_NS, AWAY_NS) == 1
    shelved = ask(store, OWN, "shelve", for_s=60).record
    assert (shelved.state, shelved.occurrence, shelved.until_ns) == (State.SHELVED, 2, NOW + 60 * SECOND_NS)
    assert store.watch_gateways(NOW + 61 * SECOND_NS, AWAY_NS) == 1
    assert store.alarm("acme", own.id).record.state is State.UNACK


def test_alarms_of_a_suspended_gateway_are_closed(store, edge):
    edge.send(store, [edge.tell(said("high"), said("low", State.ACKED))])
    store.suspend_gateway(KEY, suspended=True, now_ns=NOW)
    assert store.watch_gateways(NOW, AWAY_NS) == 2
    assert listed(store, AlarmChoice(standing=True)) == []
    assert store.watch_gateways(NOW, AWAY_NS) == 0


def test_alarms_come_with_a_dead_letter_that_can_be_read_by_now(store, edge):
    told = edge.tell(said("high"))
    edge.send(store, [replace(told, batches=None, poison="BLOCK_UNSUPPORTED")])
    assert listed(store) == []
    (letter,) = store.dead_letters("acme").items
    assert store.requeue_dead_letter("acme", letter.id, NOW) == 1
    assert listed(store) == [("high", "UNACK")]


def test_a_page_of_alarms_is_read_in_the_order_of_an_index_and_never_sorted(place, store):
    explain = "EXPLAIN " if place.url else "EXPLAIN QUERY PLAN "
    page = "SELECT * FROM alarms WHERE tenant = 'acme' AND rank = 1 {} ORDER BY changed_ns DESC, id DESC LIMIT 101"
    with store._database.read("acme") as connection:
        if place.url:
            connection.execute(sql("SET LOCAL enable_sort = off"))
        for some in ("", "AND standing IS true" if place.url else "AND standing IS 1"):
            told = str(connection.execute(sql(explain + page.format(some))).all())
            assert "ix_alarms_" in told
            assert "Sort" not in told
            assert "TEMP B-TREE" not in told


def numbers(store) -> dict[tuple[str, str], tuple[dict[str, int], int, str]]:
    marks = store.twin_marks("acme", {"", "pump-0", "pump-1", "pump-2"})
    return {name: (dict(one.unacked), one.active, one.highest) for name, one in marks.items()}


def recounted(store) -> dict[tuple[str, str], tuple[dict[str, int], int, str]]:
    """The same, counted out of what is listed."""
    found = {}
    for one in store.alarms("acme", EVERYTHING, limit=1_000).items:
        for twin in ("", *one.twins):
            unacked, active, highest = found.get((one.gateway.site, twin), ({}, 0, ""))
            if one.record.state in (State.UNACK, State.ACKED, State.RTNUN):
                name = one.record.priority.value
                unacked = unacked | ({name: unacked.get(name, 0) + 1} if one.record.state is not State.ACKED else {})
                active, highest = active + one.record.active, highest or name
            found[one.gateway.site, twin] = unacked, active, highest
    return found


def test_numbers_of_twins_are_what_is_listed_whatever_changed_it(store, edge, monkeypatch):
    monkeypatch.setattr(alarm_fold, "ALARMS_MAX", 9)
    monkeypatch.setattr(alarm_fold, "FORGOTTEN", 2)
    chance = random.Random(3)
    sources, states = ("plc0.flow", "plc1", "pump-0/model", "nobody"), list(State)
    other, works = Alarming(7), GatewayKey("acme", "works", "gw-1")
    invite(store, works)
    other.connect(store, works)
    for n in range(24):
        some = [
            said(
                f"a{chance.randrange(12)}", chance.choice(states), n, source=chance.choice(sources),
                priority=chance.choice(list(Priority)), active=chance.random() < 0.5,
            )
            for _ in range(3)
        ]  # fmt: skip
        if n % 4:
            edge.send(store, [edge.tell(*some, t_ns=NOW + n)])
        else:
            other.send(store, [other.tell(*some, t_ns=NOW + n)], key=works)
        assert numbers(store) == recounted(store)
    store.close_session(KEY, edge.session, NOW)
    store.watch_gateways(NOW + 2 * AWAY_NS, AWAY_NS)
    ask(store, OWN, "ack")
    assert numbers(store) == recounted(store)
    store.suspend_gateway(KEY, suspended=True, now_ns=NOW)
    store.watch_gateways(NOW + 2 * AWAY_NS, AWAY_NS)
    assert numbers(store) == recounted(store)
    with store._database.write() as connection:
        assert list(scrub_alarms(connection)) == []
        rows = connection.execute(sql("UPDATE alarm_counts SET alarms = alarms + 1 WHERE twin = 'pump-1'")).rowcount
        (*found,) = scrub_alarms(connection)
        assert len(found) == rows > 0
        assert all("twin pump-1, rank " in line and ": counted as " in line for line in found)
