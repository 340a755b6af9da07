"""Commands over REST: issued, approved by another person, cancelled; told to event streams; never made twice."""

from __future__ import annotations

import json
from contextlib import aclosing

import pytest

from tests.cloud.api.test_stream import collect
from twincloud.downlink.commands import CommandDesk
from twincloud.storage.contract import GatewayKey
from twincloud.storage.records import Beat
from twinmodel.clock import SECOND_NS
from twinsync.command import Commandable, CommandState, CommandStep

KEY = GatewayKey("acme", "mill", "gw-1")
PATH = "/api/v1/tenants/acme/sites/mill/twins/tank-1/commands"
ORDER = {"property": "flow", "value": 2.5, "why": "start-up", "deadline_s": 20}


@pytest.fixture
def gateway(plant):
    return plant.gateway("acme", "mill", "gw-1", "tank-1")


@pytest.fixture
def desk(plant, gateway):
    return CommandDesk(plant.store, plant.clock)


async def test_operator_commands_a_property_and_reads_each_step(api, plant, gateway, desk):
    async with api("operator") as client:
        answer = await client.post(PATH, json=ORDER)
        assert answer.status_code == 202
        made = answer.json()
        assert (made["state"], made["target"], made["value"], made["kind"]) == (
            "PENDING", "tank-1-dev.flow", 2.5, "write")  # fmt: skip
        assert (made["why"], made["issued_by"], made["open"]) == ("start-up", "t0", True)
        assert answer.headers["location"] == f"{PATH}/{made['id']}"
        assert plant.woken == [KEY]
        (sent,) = desk.due(KEY, gateway.session)
        assert (sent.id, sent.target, sent.arguments, sent.left_ns, sent.session) == (
            made["id"], "tank-1-dev.flow", 2.5, 20 * SECOND_NS, gateway.session)  # fmt: skip
        desk.settle(KEY, CommandState(made["id"], CommandStep.SUCCEEDED, read_back=2.5))
        shown = (await client.get(f"{PATH}/{made['id']}")).json()
        listed = (await client.get(PATH)).json()["items"]
        everywhere = (await client.get("/api/v1/tenants/acme/commands?state=SUCCEEDED")).json()["items"]
    assert (shown["state"], shown["read_back"], shown["open"]) == ("SUCCEEDED", 2.5, False)
    assert [(s["step"], s["by"]) for s in shown["steps"]] == [
        ("ISSUED", "t0"), ("SENT", "coordinator"), ("SUCCEEDED", "gateway gw-1")]  # fmt: skip
    assert listed == everywhere == [shown]


async def test_what_may_be_commanded_is_told_with_kinds_range_and_class_and_what_is_bound_to_the_twin_first(
    api, plant, gateway
):
    address = PATH.replace("commands", "commandables")
    async with api("viewer") as client:
        untold = (await client.get(address)).json()
        assert (untold["gateway"], untold["connected"], untold["told"]) == ("gw-1", True, False)
        assert [(one["target"], one["property"]) for one in untold["items"]] == [
            ("tank-1-dev.flow", "flow"), ("tank-1-dev.level", "level")]  # fmt: skip
        said = (
            Commandable("other.reset", two_persons=True),
            Commandable("tank-1-dev.level", two_persons=True, unit="m", low=0.0, high=5.0),
        )
        beat = Beat(KEY, gateway.session, 0, 0, 0, (), plant.clock.wall_ns(), commandables=said)
        plant.store.heartbeats([beat])
        told = (await client.get(address)).json()
        assert told["told"]
        assert told["items"] == [
            {"target": "tank-1-dev.level", "property": "level", "kinds": ["write", "hold"], "value": "number",
             "two_persons": True, "unit": "m", "low": 0.0, "high": 5.0},
            {"target": "other.reset", "property": "", "kinds": ["call"], "value": "", "two_persons": True, "unit": "",
             "low": None, "high": None},
        ]  # fmt: skip
        assert (await client.get(address.replace("tank-1", "tank-9"))).json()["reason"] == "UNKNOWN_TWIN"


async def test_command_that_is_posted_again_under_its_key_is_made_once(api, gateway, desk):
    async with api("operator") as client:
        first, again = [await client.post(PATH, json=ORDER, headers={"Idempotency-Key": "k-1"}) for _ in range(2)]
        assert first.json()["id"] == again.json()["id"]
        assert again.headers["idempotency-replayed"] == "true"
        assert len(desk.due(KEY, gateway.session)) == 1
        # What was refused is written down, and the key can be used again.
        wrong = {"property": "flow", "value": "much"}
        for _ in range(2):
            answer = await client.post(PATH, json=wrong, headers={"Idempotency-Key": "k-2"})
            assert (answer.status_code, answer.json()["reason"]) == (422, "VALUE_INVALID")
        states = [one["state"] for one in (await client.get(PATH)).json()["items"]]
    assert states == ["FAILED", "FAILED", "SENT"]


async def test_another_command_under_the_same_key_and_an_approval_that_comes_late_are_refused_with_a_hint(
    api, plant, gateway
):
    async with api("operator") as ann, api("engineer") as bob:
        key = {"Idempotency-Key": "k-1"}
        made = (await ann.post(PATH, json=ORDER | {"approvals": 1}, headers=key)).json()
        reused = await ann.post(PATH, json=ORDER | {"value": 9.0}, headers=key)
        assert (reused.status_code, reused.json()["reason"]) == (422, "KEY_REUSED")
        assert "new Idempotency-Key" in reused.json()["hint"]
        plant.clock.advance(21 * SECOND_NS)
        late = await bob.post(f"{PATH}/{made['id']}:approve")
        assert (late.status_code, late.json()["reason"]) == (409, "COMMAND_LATE")
        assert "nothing was done" in late.json()["hint"]
        assert len((await ann.get(PATH)).json()["items"]) == 1


async def test_roles_and_persons_decide_who_issues_and_who_approves(api, plant, gateway, desk):
    async with api("viewer") as viewer, api("operator") as ann, api("engineer") as bob:
        assert (await viewer.post(PATH, json=ORDER)).status_code == 403
        made = (await bob.post(PATH, json={**ORDER, "approvals": 1})).json()
        assert made["state"] == "WAITING_APPROVAL"
        assert plant.woken == []
        place = f"{PATH}/{made['id']}"
        for client in (viewer, ann):
            assert (await client.post(f"{place}:approve")).json()["reason"] == "FORBIDDEN"
        own = await bob.post(f"{place}:approve")
        assert (own.status_code, own.json()["reason"]) == (403, "OWN_APPROVAL")
        async with api("engineer") as cid:
            approved = (await cid.post(f"{place}:approve")).json()
        assert (approved["state"], len(approved["approved_by"])) == ("PENDING", 1)
        assert plant.woken == [KEY]
        assert desk.due(KEY, gateway.session)[0].approved_by == tuple(approved["approved_by"])
        closed = await ann.post(f"{place}:cancel")
        assert (closed.status_code, closed.json()["reason"]) == (409, "COMMAND_CLOSED")
        assert "SENT" in closed.json()["detail"]


async def test_cancelled_command_is_never_sent(api, gateway, desk):
    async with api("operator") as client:
        made = (await client.post(PATH, json={"target": "tank-1-dev.reset", "kind": "call", "arguments": [1]})).json()
        assert (made["value"], made["arguments"]) == (None, [1])
        gone = (await client.post(f"{PATH}/{made['id']}:cancel")).json()
    assert (gone["state"], gone["reason"], gone["steps"][-1]["step"]) == ("FAILED", "COMMAND_CANCELLED", "CANCELLED")
    assert gone["hint"]
    assert desk.due(KEY, gateway.session) == ()


async def test_refusals_are_problems_that_name_their_reason(api, plant, gateway):
    wrongs = [
        ({}, "REQUEST_INVALID"),
        ({"property": "flow"}, "REQUEST_INVALID"),
        ({"property": "flow", "target": "tank-1-dev.flow", "value": 1}, "REQUEST_INVALID"),
        ({"property": "flow", "value": 1, "arguments": [1]}, "REQUEST_INVALID"),
        ({"target": "tank-1-dev.reset", "kind": "call", "value": 1}, "REQUEST_INVALID"),
        ({"property": "flow", "value": 1, "deadline_s": 3601}, "REQUEST_INVALID"),
        ({"property": "flow", "value": 2**80}, "VALUE_INVALID"),
        ({"property": "flwo", "value": 1}, "UNKNOWN_PROPERTY"),
        ({"target": "tank-9-dev.flow", "value": 1}, "UNKNOWN_SIGNAL"),
    ]
    async with api("operator") as client:
        for body, reason in wrongs:
            assert (await client.post(PATH, json=body)).json()["reason"] == reason, body
        gateway.disconnect()
        away = await client.post(PATH, json=ORDER)
    assert (away.status_code, away.json()["reason"]) == (503, "GATEWAY_OFFLINE")
    assert away.headers["content-type"] == "application/problem+json"
    assert plant.woken == []


async def test_what_is_wrong_is_said_in_words_for_the_one_who_wrote_it(api, gateway):
    kinds = "boolean or a valid integer or a valid number or a valid string"
    wrongs = [
        ({"property": "flow", "value": [1]}, f"value: Input should be a valid {kinds}"),
        ({"property": "flow", "value": 1, "why": "a\nb"}, "why: it holds control characters, as line ends are"),
        ({"property": "flow", "value": 1, "unit": "kg"}, "unit: tank-1-dev.flow is in 1, which 'kg' cannot become"),
    ]  # fmt: skip
    async with api("operator") as client:
        for body, said in wrongs:
            assert (await client.post(PATH, json=body)).json()["detail"] == said
        torn = await client.post(PATH, content=b"{", headers={"Content-Type": "application/json"})
        assert torn.json()["detail"].startswith("body: it is no JSON, at character 1: ")
        unknown = await client.get("/api/v1/tenants/acme/commands?state=NO")
        assert unknown.json()["detail"].startswith("state: Input should be 'WAITING_APPROVAL'")


async def test_each_step_is_told_to_who_watches_the_twin(api, gateway, desk):
    stream = api.app.state.stream
    async with api("operator") as client, aclosing(await stream.watch("acme", twin="tank-1")) as events:
        await anext(events)
        made = (await client.post(PATH, json=ORDER)).json()
        told = [json.loads(one["data"]) for one in await collect(stream, events) if one["event"] == "command"]
        assert [(one["id"], one["state"]) for one in told] == [(made["id"], "PENDING")]
        desk.due(KEY, gateway.session)
        desk.session_ended(KEY, gateway.session)
        told = [json.loads(one["data"]) for one in await collect(stream, events) if one["event"] == "command"]
    assert [(one["state"], one["reason"]) for one in told] == [("UNKNOWN", "COMMAND_UNANSWERED")]
