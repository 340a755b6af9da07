"""A change that is sent twice under one Idempotency-Key is made once."""

from __future__ import annotations

import asyncio

import pytest

INVITE = "/api/v1/tenants/acme/gateways:invite"
WANTED = {"site": "north", "gateway": "gw-9"}
KEY = {"Idempotency-Key": "8e03978e-40d5-43dd-bc93-6894a57f9324"}


@pytest.fixture
def operator(plant, api):
    plant.gateway("acme", "north", "gw-1", "tank-1")
    return api("operator")


async def test_second_try_gets_the_first_answer_and_changes_nothing(plant, operator):
    first = await operator.post(INVITE, json=WANTED, headers=KEY)
    events = plant.store.last_event()
    second = await operator.post(INVITE, json=WANTED, headers={"Idempotency-Key": f'"{KEY["Idempotency-Key"]}"'})
    assert (first.status_code, second.status_code) == (201, 201)
    assert second.content == first.content
    assert second.headers["content-type"] == first.headers["content-type"]
    assert (first.headers.get("idempotency-replayed"), second.headers["idempotency-replayed"]) == (None, "true")
    assert plant.store.last_event() == events
    without = await operator.post(INVITE, json=WANTED)
    assert without.json()["token"] != first.json()["token"]


async def test_key_with_another_body_or_query_is_refused_by_name(operator):
    assert (await operator.post(INVITE, json=WANTED, headers=KEY)).status_code == 201
    for query, body in (("", {**WANTED, "ttl_s": 60}), ("?more=1", WANTED)):
        answer = await operator.post(INVITE + query, json=body, headers=KEY)
        assert (answer.status_code, answer.json()["reason"]) == (422, "KEY_REUSED")
        assert answer.json()["hint"]


async def test_key_belongs_to_tenant_token_method_and_path(plant, api, operator):
    first = (await operator.post(INVITE, json=WANTED, headers=KEY)).json()
    other = (await api("operator").post(INVITE, json=WANTED, headers=KEY)).json()
    assert other["token"] != first["token"]
    moved = await operator.post("/api/v1/tenants/acme/deadLetters/1:requeue", json=WANTED, headers=KEY)
    assert moved.json()["reason"] != "KEY_REUSED"
    stranger = await api("operator", "globex").post(INVITE, json=WANTED, headers=KEY)
    assert stranger.status_code == 403


async def test_refusal_is_not_kept_so_that_the_mended_request_may_use_the_key(operator):
    assert (await operator.post(INVITE, json={"site": "no/slash"}, headers=KEY)).status_code == 422
    assert (await operator.post(INVITE, json=WANTED, headers=KEY)).status_code == 201


async def test_failure_after_the_change_was_committed_is_told_as_such(plant, operator, monkeypatch):
    def break_down(_key):
        raise RuntimeError("the machine stops here")

    monkeypatch.setattr(plant.bus, "notify_gateway", break_down)
    assert (await operator.post(INVITE, json=WANTED, headers=KEY)).status_code == 500
    monkeypatch.undo()
    plant.clock.advance(61 * 10**9)
    answer = await operator.post(INVITE, json=WANTED, headers=KEY)
    assert (answer.status_code, answer.json()["reason"]) == (409, "ANSWER_LOST")


async def test_failure_before_the_change_lets_the_next_try_make_it(plant, operator, monkeypatch):
    def break_down(*_):
        raise RuntimeError("the machine stops here")

    monkeypatch.setattr(type(plant.store), "create_invite", break_down)
    assert (await operator.post(INVITE, json=WANTED, headers=KEY)).status_code == 500
    monkeypatch.undo()
    assert (await operator.post(INVITE, json=WANTED, headers=KEY)).status_code == 201


async def test_of_many_tries_at_once_one_makes_the_change(plant, operator):
    answers = await asyncio.gather(*(operator.post(INVITE, json=WANTED, headers=KEY) for _ in range(8)))
    made = {answer.json()["token"] for answer in answers if answer.status_code == 201}
    refused = [answer for answer in answers if answer.status_code != 201]
    assert len(made) == 1
    assert {answer.json()["reason"] for answer in refused} <= {"IN_PROGRESS"}
    assert all(answer.headers["retry-after"] for answer in refused)


@pytest.mark.parametrize("key", ["", " ", "a b", "x" * 256, '""', "schlüssel"])
async def test_key_that_is_none_is_refused(operator, key):
    headers = [("Idempotency-Key", key.encode("latin-1"))]
    answer = await operator.post(INVITE, json=WANTED, headers=headers)
    assert (answer.status_code, answer.json()["reason"]) == (422, "REQUEST_INVALID")


async def test_two_keys_are_no_key_and_nobody_uses_one_without_a_token(api, operator):
    twice = await operator.post(INVITE, json=WANTED, headers=[("Idempotency-Key", "a"), ("Idempotency-Key", "b")])
    assert twice.json()["reason"] == "REQUEST_INVALID"
    assert (await api().post(INVITE, json=WANTED, headers=KEY)).status_code == 401


async def test_body_beyond_its_bound_is_refused_with_a_key_too(operator):
    async def endless():
        for _ in range(100):
            yield b"x" * 4096

    answer = await operator.post(INVITE, content=endless(), headers={**KEY, "content-type": "application/json"})
    assert (answer.status_code, answer.json()["reason"]) == (413, "LIMIT_EXCEEDED")


async def test_reading_knows_no_key(operator):
    for _ in range(2):
        answer = await operator.get("/api/v1/tenants/acme/twins", headers=KEY)
        assert answer.status_code == 200
        assert "idempotency-replayed" not in answer.headers
