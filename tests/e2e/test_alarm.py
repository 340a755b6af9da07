"""An alarm from a register to REST and back: a real coordinator, a real agent, a simulated press."""

from __future__ import annotations

import json

import pytest

from tests.cloud.service.test_service import make_state, serving
from tests.e2e.press import agent_of
from twincloud.storage.contract import GatewayKey
from twincloud.storage.records_alarms import alarm_id

SITE = """\
site: north
profiles: profiles
devices:
  press: {{modbus: "{address}", profile: test/press}}
twins:
  press: {{definition: press, inputs: {{speed: press.speed}}}}
alarms:
  speed: {{on: press.speed, high: 500, priority: urgent, off_delay: 0s, text: "speed above {{limit}} {{unit}}"}}
status: {{port: 0}}
"""
ALARMS = "/api/v1/tenants/acme/alarms"


async def events_of(client):
    """Views of alarms as the event stream tells them."""
    async with client.stream("GET", ALARMS.replace("alarms", "events"), params={"after": "0"}) as answer:
        kind = ""
        async for line in answer.aiter_lines():
            name, _, text = line.partition(": ")
            if name == "event":
                kind = text
            elif name == "data" and kind == "alarm":
                yield json.loads(text)


@pytest.mark.timeout(120)
async def test_an_alarm_is_raised_seen_acknowledged_and_ended(tmp_path):
    async with (
        serving(make_state(tmp_path)) as running,
        agent_of(tmp_path / "edge", running, SITE, speed=100.0) as press,
    ):
        news = events_of(running.client)

        async def until(state):
            async for view in news:
                if view["state"] == state and not view["pending"]:
                    return view
            raise AssertionError("the stream has ended")

        press.image.show("speed", 900.0)
        raised = await until("UNACK")
        assert (raised["alarm"], raised["text"], raised["value"]) == ("speed", "speed above 500 rpm", 900.0)
        assert (raised["priority"], raised["twins"], raised["as_of"]) == ("urgent", ["press"], None)
        assert raised["id"] == alarm_id(GatewayKey("acme", "north", "gw-1"), raised["alarm"])
        place = f"{ALARMS}/{raised['id']}"
        asked = await running.client.post(f"{place}:ack", json={"occurrence": raised["occurrence"], "comment": "seen"})
        assert asked.status_code == 200, asked.text
        acked = await until("ACKED")
        assert (acked["comment"], acked["by"].startswith("admin"), acked["occurrence"]) == ("seen", True, 1)
        late = await running.client.post(f"{place}:ack", json={"occurrence": 7})
        assert late.json()["reason"] == "ALARM_CHANGED"
        press.image.show("speed", 100.0)
        await until("NORM")
        steps = (await running.client.get(f"{place}/journal")).json()["items"]
        assert [step["state"] for step in steps] == ["NORM", "ACKED", "UNACK"]
        await news.aclose()
