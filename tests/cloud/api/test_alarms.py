"""Alarms over REST: shown as their gateways tell them, asked for, counted, streamed."""

from __future__ import annotations

import json
from contextlib import aclosing

import pytest

from tests.cloud.api.test_stream import parse
from tests.cloud.plant import alarm
from twincloud.storage.records_alarms import OWN, alarm_id
from twincloud.upkeep.gateways import GatewayWatch
from twinmodel.alarms.records import Priority
from twinmodel.alarms.states import State
from twinmodel.clock import SECOND_NS

BELOW = "/api/v1/tenants/acme"


@pytest.fixture
def tank(plant):
    return plant.gateway("acme", "north", "gw-1", "tank-1", "tank-2")


def place(gateway, name, do=""):
    return f"{BELOW}/alarms/{alarm_id(gateway.key, name)}{do}"


async def names(client, **query):
    answer = await client.get(f"{BELOW}/alarms", params=query)
    assert answer.status_code == 200, answer.text
    return [one["alarm"] for one in answer.json()["items"]]


async def test_an_alarm_is_acknowledged_where_it_is_and_pending_until_then(plant, api, tank):
    tank.tell(alarm("high", occurrence=2))
    shown = (await api("viewer").get(place(tank, "high"))).json()
    assert (shown["state"], shown["twins"], shown["as_of"], shown["pending"]) == ("UNACK", ["tank-1"], None, False)
    assert (shown["text"], shown["value"], shown["limit"], shown["unit"]) == ("above 9.5 m", 9.75, 9.5, "m")
    assert (await api("viewer").post(place(tank, "high", ":ack"), json={})).status_code == 403
    late = await api("operator").post(place(tank, "high", ":ack"), json={"occurrence": 1})
    assert (late.status_code, late.json()["reason"]) == (409, "ALARM_CHANGED")
    operator = api("operator")
    asked = await operator.post(place(tank, "high", ":ack"), json={"occurrence": 2, "comment": "on it"})
    assert asked.status_code == 200, asked.text
    body = asked.json()
    assert (body["state"], body["pending"], body["action"]["do"]) == ("UNACK", True, "ack")
    assert plant.woken == [tank.key]
    (directive,) = plant.store.open_directives(tank.key)
    plant.store.settle_directive(tank.key, directive.id, "APPLIED", reason="", detail="", running="", now_ns=1)
    tank.tell(alarm("high", State.ACKED, 2, by=body["action"]["by"], comment="on it"))
    done = (await api("viewer").get(place(tank, "high"))).json()
    assert (done["state"], done["pending"], done["comment"]) == ("ACKED", False, "on it")
    journal = (await api("viewer").get(f"{place(tank, 'high')}/journal")).json()
    assert [step["state"] for step in journal["items"]] == ["ACKED", "UNACK"]
    assert (await api("viewer").get(f"{place(tank, 'high')}/journal", params={"limit": 1})).json()["truncated"]


async def test_alarms_are_found_by_what_they_are(api, tank):
    tank.tell(
        alarm("a", priority=Priority.LOW, severity=100),
        alarm("b", State.ACKED, source="tank-2"),
        alarm("c", State.NORM),
        alarm("d", priority=Priority.URGENT, severity=950),
    )
    viewer = api("viewer")
    assert await names(viewer) == ["d", *sorted("bc", key=lambda n: alarm_id(tank.key, n), reverse=True), "a"]
    assert await names(viewer, standing=True, acked=False) == ["d", "a"]
    assert await names(viewer, twin="tank-2", state="ACKED") == ["b"]
    assert await names(viewer, filter="severity > 900 or not active", priority="urgent") == ["d"]
    wrong = await viewer.get(f"{BELOW}/alarms", params={"filter": "colour = 1"})
    assert (wrong.status_code, wrong.json()["reason"]) == (422, "FILTER_INVALID")
    first = (await viewer.get(f"{BELOW}/alarms", params={"page_size": 3})).json()
    rest = await viewer.get(f"{BELOW}/alarms", params={"page_size": 3, "page_token": first["next_page_token"]})
    assert [one["alarm"] for one in rest.json()["items"]] == ["a"]
    missing = await viewer.get(f"{BELOW}/alarms/{'0' * 24}")
    assert (missing.status_code, missing.json()["reason"]) == (404, "UNKNOWN_ALARM")


async def test_several_are_acknowledged_at_once_and_one_that_is_refused_leaves_the_others(plant, api, tank):
    tank.tell(alarm("a"), alarm("b", occurrence=4))
    items = [{"alarm": alarm_id(tank.key, "a")}, {"alarm": alarm_id(tank.key, "b"), "occurrence": 3}]
    items.append({"alarm": "0" * 24})
    answer = await api("operator").post(f"{BELOW}/alarms:ack", json={"items": items, "comment": "all"})
    found = answer.json()["items"]
    assert [one["problem"] and one["problem"]["reason"] for one in found] == [
        None, "ALARM_CHANGED", "UNKNOWN_ALARM"
    ]  # fmt: skip
    assert found[0]["alarm"]["pending"]
    assert [one.target for one in plant.store.open_directives(tank.key)] == ["@alarm/a"]


async def test_what_a_role_may_not_do_is_refused(api, tank):
    tank.tell(alarm("a"))
    for role, do, body, status in (
        ("viewer", ":shelve", {"for_s": 60}, 403),
        ("operator", ":shelve", {"for_s": 60}, 200),
        ("operator", ":shelve", {"for_s": 0}, 422),
        ("operator", ":unshelve", {}, 200),
        ("operator", ":comment", {"comment": " "}, 422),
        ("operator", ":outOfService", {}, 403),
        ("engineer", ":outOfService", {"comment": "maintenance"}, 200),
        ("operator", ":comment", {"comment": "a\u0007b"}, 422),
    ):
        answer = await api(role).post(place(tank, "a", do), json=body)
        assert answer.status_code == status, (role, do, answer.text)


async def test_fleet_and_twins_count_their_alarms_and_the_grave_ones_need_attention(plant, api, tank):
    tank.send({"tank-1-dev.level": 1.0, "tank-2-dev.level": 1.0})
    tank.tell(
        alarm("high", priority=Priority.URGENT, severity=900),
        alarm("low", priority=Priority.LOW, severity=100, source="tank-2"),
        alarm("meter", source="tank-1-dev", text="does not answer"),
        alarm("stale", cause="meter"),
        alarm("hidden", State.SHELVED),
    )
    viewer = api("viewer")
    fleet = (await viewer.get(f"{BELOW}/fleet")).json()
    counts = {"unacked": 4, "active": 4, "highest": "urgent", "by_priority": {"urgent": 1, "low": 1, "high": 2}}
    assert fleet["alarms"] == counts == (await viewer.get(f"{BELOW}/alarms:summary")).json()
    told = [(one["severity"], one["name"], one["why"]) for one in fleet["attention"] if one["kind"] == "alarm"]
    assert told == [
        ("bad", "high", "above 9.5 m (alarm high, urgent)"),
        ("warn", "meter", "does not answer (alarm meter, high)"),
    ]
    twins = (await viewer.get(f"{BELOW}/twins")).json()["items"]
    assert [(one["alarms"]["unacked"], one["alarms"]["highest"]) for one in twins] == [(3, "urgent"), (1, "low")]
    one = await viewer.get(f"{BELOW}/sites/north/twins/tank-2")
    assert one.json()["alarms"] == twins[1]["alarms"]
    tank.tell(alarm("low", State.NORM, priority=Priority.LOW, severity=100, source="tank-2"))
    assert (await viewer.get(f"{BELOW}/sites/north/twins/tank-2")).json()["alarms"]["unacked"] == 0


async def test_alarms_of_a_gateway_that_is_away_are_as_of_then_and_one_line_says_so(plant, api, tank):
    tank.tell(alarm("high"))
    tank.disconnect()
    plant.clock.advance(11 * SECOND_NS)
    rung = []
    watch = GatewayWatch(plant.store, lambda: rung.append(1))
    assert watch.run(plant.clock.wall_ns()) == 0
    assert watch.run(plant.clock.wall_ns()) == 0
    assert rung == [1]
    viewer = api("viewer")
    shown = (await viewer.get(place(tank, "high"))).json()
    assert shown["as_of"] == "2023-11-14T22:13:20.000000000Z"
    own = (await viewer.get(place(tank, OWN))).json()
    assert (own["state"], own["source"], own["priority"], own["as_of"]) == ("UNACK", "gw-1", "high", None)
    fleet = (await viewer.get(f"{BELOW}/fleet")).json()
    assert [one["kind"] for one in fleet["attention"] if one["name"] in ("high", OWN, "gw-1")] == ["gateway"]
    done = await api("operator").post(place(tank, OWN, ":ack"), json={})
    assert (done.json()["state"], done.json()["pending"]) == ("ACKED", False)
    assert (await viewer.get(f"{place(tank, OWN)}/journal")).json() == {"items": [], "truncated": False}


async def test_what_is_asked_while_the_gateway_is_away_waits_with_who_asked_and_is_done_when_it_is_back(
    plant, api, tank
):
    tank.tell(alarm("high", occurrence=2), alarm("low"))
    tank.disconnect()
    operator = api("operator")
    asked = (await operator.post(place(tank, "high", ":ack"), json={"occurrence": 2, "comment": "on it"})).json()
    assert (asked["state"], asked["pending"], asked["as_of"] is None) == ("UNACK", True, False)
    shelved = await operator.post(place(tank, "low", ":shelve"), json={"for_s": 60, "comment": "cleaning"})
    assert shelved.json()["pending"]
    plant.clock.advance(61 * SECOND_NS)
    tank.connect()
    ack, shelve = sorted(plant.store.open_directives(tank.key), key=lambda one: one.target)
    assert json.loads(ack.content)["by"] == ack.created_by == asked["action"]["by"]
    assert (ack.target, ack.deadline_ns) == ("@alarm/high", 0)
    # The gateway refuses what is past its deadline: it would hide the alarm for another minute.
    assert (shelve.target, shelve.deadline_ns < plant.clock.wall_ns()) == ("@alarm/low", True)
    for one, outcome, reason in ((ack, "APPLIED", ""), (shelve, "REJECTED", "DEADLINE_PASSED")):
        plant.store.settle_directive(tank.key, one.id, outcome, reason=reason, detail="", running="", now_ns=1)
    tank.tell(alarm("high", State.ACKED, 2, by=ack.created_by, comment="on it"))
    done, not_done = [(await operator.get(place(tank, name))).json() for name in ("high", "low")]
    assert (done["state"], done["pending"], done["comment"]) == ("ACKED", False, "on it")
    assert (not_done["state"], not_done["pending"], not_done["action"]["reason"]) == ("UNACK", False, "DEADLINE_PASSED")


async def test_alarm_that_is_acknowledged_on_site_meanwhile_keeps_who_was_first(plant, api, tank):
    tank.tell(alarm("high", occurrence=2))
    operator = api("operator")
    assert (await operator.post(place(tank, "high", ":ack"), json={"occurrence": 2})).json()["pending"]
    tank.tell(alarm("high", State.ACKED, 2, by="bob", comment="seen on site"))
    (directive,) = plant.store.open_directives(tank.key)
    # To the gateway a second acknowledgement is done already, without another record.
    plant.store.settle_directive(tank.key, directive.id, "APPLIED", reason="", detail="", running="", now_ns=1)
    shown = (await operator.get(place(tank, "high"))).json()
    assert (shown["state"], shown["pending"], shown["by"]) == ("ACKED", False, "bob")


async def test_event_stream_tells_of_alarms_and_of_what_is_asked_of_them(plant, api, tank):
    stream = api.app.state.stream
    plant.bus.take()
    async with (
        aclosing(await stream.watch("acme")) as events,
        aclosing(await stream.watch("acme", site="north", twin="tank-2")) as others,
    ):
        parse(await anext(events))
        parse(await anext(others))
        tank.tell(alarm("high"), alarm("low", source="tank-2"))
        await stream.turn()
        (all_of_it, mine) = sorted(stream._watchers, key=lambda w: w.twin)
        told = [parse(raw) for raw in all_of_it.take()]
        assert sorted((one["event"], json.loads(one["data"]).get("alarm", "")) for one in told) == [
            ("alarm", "high"), ("alarm", "low"), ("twin", ""), ("twin", "")
        ]  # fmt: skip
        assert {json.loads(parse(raw)["data"]).get("alarm", "") for raw in mine.take()} == {"", "low"}
        await api("operator").post(place(tank, "high", ":ack"), json={})
        (directive,) = plant.store.open_directives(tank.key)
        await stream.turn()
        told = {parse(raw)["event"]: json.loads(parse(raw)["data"]) for raw in all_of_it.take()}
        assert told["alarm"]["pending"]
        plant.store.settle_directive(
            tank.key, directive.id, "REJECTED", reason="PRECONDITION_FAILED", detail="no", running="", now_ns=1
        )
        plant.bus.notify()
        await stream.turn()
        told = {parse(raw)["event"]: json.loads(parse(raw)["data"]) for raw in all_of_it.take()}
        assert (told["alarm"]["pending"], told["alarm"]["action"]["outcome"]) == (False, "REJECTED")


async def test_a_client_that_was_away_for_too_long_gets_the_alarms_that_stand(plant, api, tank):
    tank.tell(alarm("high"), alarm("over", State.NORM))
    async with aclosing(await api.app.state.stream.watch("acme", after=10**9)) as events:
        await anext(events)
        (watcher,) = api.app.state.stream._watchers
        told = [parse(await anext(events)) for _ in range(len(watcher.pending))]
    assert [json.loads(one["data"])["alarm"] for one in told if one["event"] == "alarm"] == ["high"]


async def test_a_twin_whose_alarms_alone_changed_is_another_answer(plant, api, tank):
    viewer, path = api("viewer"), f"{BELOW}/sites/north/twins/tank-1"
    tag = (await viewer.get(path)).headers["etag"]
    tank.tell(alarm("high"))
    plant.clock.advance(2 * SECOND_NS)
    news = await viewer.get(path, headers={"If-None-Match": tag})
    assert (news.status_code, news.json()["alarms"]["unacked"]) == (200, 1)
