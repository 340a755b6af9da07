"""`twinctl alarm` against a real coordinator in this process."""

from __future__ import annotations

import json

import pytest
from fake_coordinator import Server

from tests.cloud.plant import Plant, alarm
from twinctl.client import Client
from twinmodel.alarms.records import Priority
from twinmodel.alarms.states import State


@pytest.fixture
def mill(shell, tmp_path):
    """Function that runs `twinctl alarm`, with the gateways gw-1 and gw-2 that told of alarms."""
    plant = Plant(tmp_path / "state")
    first = plant.gateway("acme", "mill", "gw-1", "tank-1")
    first.tell(alarm("high:tank-1/level", occurrence=2), alarm("dead", State.NORM), alarm("both"))
    plant.gateway("acme", "mill", "gw-2").tell(alarm("both", State.SHELVED, priority=Priority.URGENT, severity=900))
    token = plant.token("operator")
    app = plant.app()

    def run(*args):
        return shell("alarm", *args, HYBRIDTWIN_URL=url, HYBRIDTWIN_TOKEN=token)

    run.plant, run.gateway = plant, first
    with Server(app) as url:
        yield run
    app.state.threads.close()
    plant.close()


def names(said):
    return [f"{one['gateway']}/{one['alarm']}" for one in said.json]


def test_alarms_that_stand_are_listed_by_priority_and_chosen(mill):
    assert names(mill("list", "-o", "json"))[0] == "gw-2/both"
    assert sorted(names(mill("list", "--active", "--unacked", "--site", "mill", "-o", "json"))) == [
        "gw-1/both", "gw-1/high:tank-1/level"
    ]  # fmt: skip
    assert len(names(mill("list", "--all", "--twin", "tank-1", "-o", "json"))) == 3
    assert names(mill("list", "--priority", "urgent", "-o", "json")) == ["gw-2/both"]
    shown = mill("list")
    assert "9.75 (9.5) m" in shown.out
    assert mill("list", "--filter", 'state = "RTNUN"', "-o", "json").json == []


def test_what_is_acknowledged_waits_for_the_gateway_and_says_so(mill):
    asked = mill("ack", "high:tank-1/level", "mill/gw-1/both", "--comment", "on it", "-o", "json")
    assert [one["pending"] for one in asked.json] == [True, True]
    down = mill.plant.store.open_directives(mill.gateway.key)
    assert {json.loads(one.content)["occurrence"] for one in down} == {1, 2}
    assert "UNACK, ack asked" in mill("show", "mill/gw-1/high:tank-1/level").out
    refused = mill("unshelve", "mill/gw-1/both")
    assert (refused.code, "is UNACK, not SHELVED" in refused.err) == (1, True)


def test_an_alarm_is_shelved_for_a_span_and_told_of_in_its_journal(mill):
    shelved = mill("shelve", "high:tank-1/level", "--for", "1h", "--comment", "cleaning")
    assert (shelved.code, "gw-1" in shelved.err) == (0, True)
    (directive,) = mill.plant.store.open_directives(mill.gateway.key)
    assert json.loads(directive.content)["for_s"] == 3_600
    assert mill("shelve", "high:tank-1/level", "--for", "soon").code == 2
    assert mill("comment", "mill/gw-2/both", "later").code == 0
    steps = mill("journal", "high:tank-1/level", "--from", "2023-11-14T00:00:00Z", "--to", "2023-11-15T00:00:00Z")
    assert "above 9.5 m" in steps.out
    assert mill("out-of-service", "mill/gw-1/both").code == 4


def test_a_name_that_nobody_or_that_two_have_is_refused(mill):
    both = mill("show", "both")
    assert (both.code, "mill/gw-2/both" in both.err) == (2, True)
    gone = mill("show", "nothing")
    assert (gone.code, "UNKNOWN_ALARM" in gone.err) == (1, True)
    assert mill("ack", "mill/gw-1/nothing").code == 1


def test_changes_are_followed_as_they_come(mill, monkeypatch):
    view = mill("show", "mill/gw-1/both", "-o", "json").json
    news = [{"event": "twin"}, {**view, "event": "alarm"}, {**view, "event": "alarm", "site": "other"}]

    def events(_self, **_query):
        yield from news
        raise KeyboardInterrupt

    monkeypatch.setattr(Client, "events", events)
    said = mill("list", "-w", "--site", "mill", "--all", "-o", "json")
    lines = [json.loads(line) for line in said.out.splitlines()]
    assert [one["id"] for one in lines[1:]] == [view["id"]]
    assert "mill/gw-1/both" in mill("list", "-w", "--unacked").out
