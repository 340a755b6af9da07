"""From REST to a register and back: a real coordinator, a real agent, a simulated press, and two people."""

from __future__ import annotations

import asyncio

import pytest

from tests.cloud.service.test_service import make_state, serving
from tests.e2e.press import agent_of
from twincloud.identity.ledger import Ledger
from twincloud.identity.tokens import issue
from twinmodel.clock import SystemClock

SITE = """\
site: north
profiles: profiles
devices:
  press: {{modbus: "{address}", profile: test/press}}
twins:
  press: {{definition: press, inputs: {{setpoint: press.setpoint, speed: press.speed, running: press.running}}}}
commands: {{allow: [press.setpoint, press.speed, press.running]}}
status: {{port: 0}}
"""
PATH = "/api/v1/tenants/acme/sites/north/twins/press/commands"


async def eventually(ask, condition):
    """The first answer that satisfies; pytest's timeout bounds it."""
    while True:
        found = await ask()
        if condition(found):
            return found
        await asyncio.sleep(0.05)


@pytest.mark.timeout(120)
async def test_people_command_a_press_which_its_gateway_writes_once_and_reads_back(tmp_path):
    state = make_state(tmp_path)
    async with serving(state) as running, agent_of(tmp_path / "edge", running, SITE) as press:
        client = running.client

        async def twin():
            answer = await client.get(PATH.removesuffix("/commands"))
            return {p["name"]: p["reported"] for p in answer.json().get("properties", [])}

        def is_read(found):
            return all(found.get(name) and found[name]["quality"] == "good" for name in ("setpoint", "running"))

        async def ended(order, headers=None):
            made = await client.post(PATH, json=order, headers=headers)
            assert made.status_code == 202, made.text
            place = made.headers["location"]
            return await eventually(lambda: shown(place), lambda one: not one["open"])

        async def shown(place):
            return (await client.get(place)).json()

        await eventually(twin, is_read)
        done = await ended({"property": "setpoint", "value": 33.5, "why": "warm up"}, {"Idempotency-Key": "one"})
        assert (done["state"], done["read_back"], press.image.value("setpoint")) == ("SUCCEEDED", 33.5, 33.5)
        assert [s["step"] for s in done["steps"]] == ["ISSUED", "SENT", "ACCEPTED", "SUCCEEDED"]
        again = await client.post(
            PATH, json={"property": "setpoint", "value": 33.5, "why": "warm up"}, headers={"Idempotency-Key": "one"}
        )
        assert again.json()["id"] == done["id"]
        assert len([w for w in press.writes if w.point == "setpoint"]) == 1

        async def issued():
            return (await client.post(PATH, json={"property": "speed", "value": 1200})).json()

        # Class B: the gateway says so with its first heartbeat, and refuses what comes before that.
        made = await eventually(issued, lambda one: one["state"] == "WAITING_APPROVAL")
        wild = await client.post(PATH, json={"property": "setpoint", "value": 99})
        assert (wild.status_code, wild.json()["reason"]) == (422, "COMMAND_OUT_OF_RANGE")
        assert wild.json()["hint"]
        token = issue(Ledger(state), SystemClock(), name="bob", tenant="acme", role="engineer")
        bob = {"Authorization": f"Bearer {token}"}
        assert (await client.post(f"{PATH}/{made['id']}:approve", headers=bob)).status_code == 200
        both = await eventually(lambda: shown(f"{PATH}/{made['id']}"), lambda one: not one["open"])
        assert (both["state"], both["approved_by"], press.image.value("speed")) == ("SUCCEEDED", ["bob"], 1200.0)
        assert len([w for w in press.writes if w.point == "speed"]) == 1
