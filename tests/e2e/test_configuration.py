"""From REST to a gateway and back: a configuration that holds, one that does not, and one that cannot even be read."""

from __future__ import annotations

import pytest

from tests.cloud.service.test_service import make_state, serving
from tests.e2e.press import agent_of
from tests.e2e.test_command import SITE, eventually

GATEWAY = "/api/v1/tenants/acme/sites/north/gateways"


@pytest.mark.timeout(120)
async def test_a_configuration_from_afar_runs_and_one_that_loses_a_device_is_taken_back(tmp_path):
    site = SITE + "config: {{remote: true, probation: 1s}}\n"
    async with serving(make_state(tmp_path)) as running, agent_of(tmp_path / "edge", running, site) as press:
        client = running.client
        text = site.format(address=press.address)
        (gateway,) = (await client.get("/api/v1/tenants/acme/gateways")).json()["items"]
        place = f"{GATEWAY}/{gateway['gateway']}/configuration"

        async def shown():
            return (await client.get(place)).json()

        async def twin():
            answer = await client.get("/api/v1/tenants/acme/sites/north/twins/press")
            return {p["name"]: p["reported"] for p in answer.json().get("properties", [])}

        async def ended(content, why):
            made = await client.put(place, json={"content": content, "why": why})
            assert made.status_code == 202, made.text
            wanted = made.json()["id"]
            found = await eventually(
                shown, lambda now: any(h["directive"] == wanted and h["outcome"] for h in now["history"])
            )
            return next(h for h in found["history"] if h["directive"] == wanted)

        await eventually(twin, lambda found: found.get("setpoint") and found["setpoint"]["quality"] == "good")
        more = text.replace("speed: press.speed", "rpm: press.speed")
        held = await ended(more, "the property is called rpm now")
        assert (held["outcome"], held["reason"]) == ("APPLIED", "")
        await eventually(twin, lambda found: found.get("rpm") and found["rpm"]["quality"] == "good")
        assert (await shown())["content"] == more

        lost = await ended(more.replace(press.address, "tcp://127.0.0.1:1"), "moved to another address")
        assert (lost["outcome"], lost["reason"]) == ("REJECTED", "PROBATION_FAILED")
        assert lost["digest"] == held["digest"]

        alone = await ended(more + "uplink: localhost:1\n", "the coordinator has moved, or so it was thought")
        assert (alone["outcome"], alone["reason"], alone["digest"]) == ("REJECTED", "PROBATION_FAILED", held["digest"])
        assert "no session with the coordinator" in alone["detail"]

        slip = await client.put(place, json={"content": "site: [", "why": "a slip"})
        assert (slip.status_code, slip.json()["reason"]) == (422, "REQUEST_INVALID")
        foreign = await ended(more.replace("test/press", "test/pres"), "a profile that is not there")
        assert (foreign["outcome"], foreign["digest"]) == ("REJECTED", held["digest"])
        assert "test/pres" in foreign["detail"]
        await eventually(twin, lambda found: found["rpm"]["quality"] == "good")
