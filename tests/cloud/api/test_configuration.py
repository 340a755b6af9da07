"""Configurations of gateways over REST: sent, superseded, and what the gateway told of them."""

from __future__ import annotations

import msgpack
import pytest

from twincloud.storage.mailbox import CONFIG
from twinsync.directive import DirectiveKind

PATH = "/api/v1/tenants/acme/sites/north/gateways/gw-1/configuration"


@pytest.fixture
def tank(plant):
    return plant.gateway("acme", "north", "gw-1", "tank-1")


async def test_a_configuration_is_sent_and_what_became_of_it_is_told(plant, api, tank):
    body = {
        "content": "site: north\n",
        "why": "one more",
        "profiles": {"a/b/1.0": "profile: a/b\npoints: {}\n"},
        "base": "ab" * 32,
    }
    assert (await api("operator").put(PATH, json=body)).status_code == 403
    sent = await api("engineer").put(PATH, json=body)
    assert (sent.status_code, sent.json()["kind"], sent.json()["outcome"]) == (202, "config", "")
    assert plant.woken == [tank.key]
    (directive,) = plant.store.open_directives(tank.key)
    carried = msgpack.unpackb(directive.content)
    assert carried == {
        "site": "site: north\n",
        "profiles": body["profiles"],
        "by": carried["by"],
        "why": "one more",
        "base": "ab" * 32,
    }
    assert carried["by"]
    shown = (await api("operator").get(PATH)).json()
    assert (shown["digest"], shown["content"]) == ("", None)
    assert [(one["why"], one["outcome"], one["digest"]) for one in shown["history"]] == [("one more", "", "")]

    plant.store.settle_directive(tank.key, directive.id, "APPLIED", reason="", detail="", running="cd" * 32, now_ns=5)
    shown = (await api("operator").get(PATH)).json()
    assert (shown["digest"], shown["content"], shown["profiles"]) == ("cd" * 32, "site: north\n", body["profiles"])

    again = (await api("engineer").put(PATH, json={"content": "site: south\n", "why": "wrong"})).json()
    plant.store.settle_directive(
        tank.key, again["id"], "REJECTED", reason="PROBATION_FAILED", detail="silent", running="cd" * 32, now_ns=6
    )
    shown = (await api("operator").get(PATH)).json()
    assert (shown["digest"], shown["content"]) == ("cd" * 32, "site: north\n")
    assert [(one["outcome"], one["reason"]) for one in shown["history"]] == [
        ("REJECTED", "PROBATION_FAILED"),
        ("APPLIED", ""),
    ]
    assert (await api("viewer").get(PATH)).status_code == 403


async def test_what_cannot_be_parsed_or_is_for_nobody_is_refused(api, tank):
    engineer = api("engineer")
    for body in (
        {"content": "devices: [", "why": "x"},
        {"content": "site: a", "why": ""},
        {"content": "site: a", "why": "x", "base": "zz"},
        {"content": "site: a", "why": "x", "profiles": {"a/b/c": "points: {"}},
        {"content": "site: a", "why": "x", "profiles": {"a/b/c": "README of something"}},
        {"content": "site: a", "why": "x", "profiles": {"a/b/c": "profile: a/d\npoints: {}\n"}},
    ):
        refused = await engineer.put(PATH, json=body)
        assert (refused.status_code, refused.json()["reason"]) == (422, "REQUEST_INVALID"), body
    nobody = await engineer.put(PATH.replace("gw-1", "gw-9"), json={"content": "site: a", "why": "x"})
    assert (nobody.status_code, nobody.json()["reason"]) == (404, "UNKNOWN_GATEWAY")
    assert (await engineer.get(PATH.replace("gw-1", "gw-9"))).status_code == 404


async def test_large_configuration_is_taken_up_to_what_a_session_carries(api, tank):
    async with api("engineer") as engineer:
        large = await engineer.put(PATH, json={"content": "site: a\n" + "# é\n" * 45_000, "why": "x"})
        assert large.status_code == 202, large.text
        beyond = {f"a/b/{n}": "profile: a/b\npoints: {}\n" + "# x\n" * 20_000 for n in range(4)}
        refused = await engineer.put(PATH, json={"content": "site: a", "why": "x", "profiles": beyond})
        assert (refused.status_code, refused.json()["reason"]) == (413, "LIMIT_EXCEEDED")
        odd = await engineer.put(PATH, json={"content": "site: a", "why": "\u0000"})
        assert odd.status_code == 422


def test_the_kind_of_the_store_is_that_of_the_wire():
    assert DirectiveKind.CONFIG.name.lower() == CONFIG


async def test_a_long_history_is_told_without_its_contents(plant, api, tank):
    large = {"content": "site: a\n" + "# x\n" * 5_000, "why": "é" * 500, "base": "ab" * 32}
    sent = (await api("engineer").put(PATH, json=large)).json()
    plant.store.settle_directive(tank.key, sent["id"], "APPLIED", reason="", detail="", running="cd" * 32, now_ns=5)
    older = msgpack.packb({"site": "x" * 9_000, "profiles": {}, "by": "ann", "why": "old", "base": ""})
    plant.store.open_directive(
        tank.key, CONFIG, "@config", name="site.yaml: of another release", content=older, by="ann", now_ns=6
    )
    shown = (await api("operator").get(PATH)).json()
    assert [(one["why"], one["base"]) for one in shown["history"]] == [
        ("of another release", ""),
        ("é" * 500, "ab" * 32),
    ]
    assert shown["content"] == large["content"]
