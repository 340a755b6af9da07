"""No tenant reads, changes or learns of anything of another: over every route of the OpenAPI document.

`acme` asks below its own path with what `globex` alone has: names, numbers, digests, page tokens, keys of requests. The
answer is the one about things that exist nowhere. What only `globex` has carries its name, so no answer may hold it.
"""

from __future__ import annotations

import json
from contextlib import aclosing
from pathlib import Path

import pytest

from tests.cloud.api.seeded import ALONE, Right, Seeded, right_requests
from tests.cloud.api.test_stream import collect
from twincloud.storage.contract import GatewayKey

BELOW = "/api/v1/tenants/{t}"
PATHS = json.loads((Path(__file__).resolve().parents[2] / "golden" / "openapi.json").read_text())["paths"]
ROUTES = [(m.upper(), p.removeprefix(BELOW)) for p in PATHS if p.startswith(BELOW) for m in PATHS[p]]
LISTS = [
    path.removeprefix(BELOW)
    for path, methods in PATHS.items()
    if any(one["name"] == "page_token" for one in methods.get("get", {}).get("parameters", []))
]
SHOWN = [
    "/fleet", "/sites", "/gateways", "/twins", "/twinRecords", "/fleets", "/operations", "/directives", "/deadLetters",
    "/alarms", "/commands", "/models", "/signers", "/twinDefinitions", "/cloudTwins",
    "/sites/mill/twins/tanks/relationships",
    "/sites/mill/twins/globex-press/record", "/sites/mill/gateways/gw-1/wishes", "/sites/mill/gateways/gw-1/losses",
]  # fmt: skip
FOREIGN, NOWHERE = ALONE["globex"], "qqqqqq-wwwww"
HUGE = str(2**62)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A store for requests that change nothing."""
    seeded = Seeded(tmp_path_factory.mktemp("tenants") / "state")
    yield seeded
    seeded.close()


@pytest.fixture
def seeded(tmp_path, shared, request):
    """A store of its own for a route that changes something."""
    if request.getfixturevalue("route")[0] == "GET":
        yield shared
        return
    seeded = Seeded(tmp_path / "state")
    yield seeded
    seeded.close()


def swaps(route, names):
    """Per path parameter: what globex alone has, and what nobody has."""
    numbers = {"operation": names["operation"], "letter": names["letter"]}
    for parameter in (
        "s",
        "g",
        "twin",
        "f",
        "d",
        "name",
        "target",
        "target_site",
        "type",
        "digest",
        "command",
        "alarm",
        *numbers,
    ):
        if f"{{{parameter}}}" not in route[1]:
            continue
        if parameter in numbers:
            yield parameter, numbers[parameter], HUGE
        elif parameter == "alarm":
            yield parameter, names["own_alarm"], "0" * 24
        elif parameter == "digest":
            yield parameter, names["own_digest"], "f" * 64
        elif parameter == "command":
            yield parameter, names["command"], "f" * 32
        else:
            yield parameter, FOREIGN, NOWHERE


async def ask(client, route, own, **swapped):
    right = right_requests(own).get(route, Right())
    path = BELOW.format(t="acme") + route[1].format_map({**own, **right.path, **swapped})
    content = {"content": right.body} if isinstance(right.body, bytes) else {}
    if right.body is not None and not content:
        content = {"json": right.body}
    return await client.request(route[0], path, params=dict(right.query), headers=dict(right.headers), **content)


async def everything(seeded) -> dict[str, str]:
    """What globex sees of its own."""
    async with seeded.client("admin", "globex") as client:
        return {path: (await client.get(BELOW.format(t="globex") + path)).text for path in SHOWN}


@pytest.mark.parametrize("route", [r for r in ROUTES if "{" in r[1]], ids=" ".join)
async def test_what_another_tenant_has_is_answered_like_what_nobody_has(seeded, route):
    own, foreign = seeded.names["acme"], seeded.names["globex"]
    before = await everything(seeded)
    async with seeded.client("admin", "acme") as client:
        for parameter, theirs, nobodys in swaps(route, foreign):
            found = await ask(client, route, own, **{parameter: theirs})
            missing = await ask(client, route, own, **{parameter: nobodys})
            assert found.status_code == missing.status_code, (parameter, found.text)
            said = found.text.replace(theirs, nobodys)
            if not found.is_success:
                assert said == missing.text, parameter
            assert "globex" not in said, parameter
    assert await everything(seeded) == before


@pytest.mark.parametrize("route", [r for r in ROUTES if r[0] == "GET" and r[1] != "/events"], ids=" ".join)
async def test_no_answer_about_the_own_holds_anything_of_another(seeded, route):
    async with seeded.client("admin", "acme") as client:
        answer = await ask(client, route, seeded.names["acme"])
    assert answer.is_success
    assert b"globex" not in answer.content


@pytest.mark.parametrize("route", [("GET", path) for path in LISTS], ids=" ".join)
async def test_page_token_of_another_tenant_is_none_of_this_list(seeded, route):
    async with seeded.client("admin", "globex") as theirs, seeded.client("admin", "acme") as ours:
        path = route[1].format_map(seeded.names["globex"])
        first = (await theirs.get(BELOW.format(t="globex") + path, params={"page_size": 1})).json()
        token = first["next_page_token"]
        if not token:
            assert len(first["items"]) <= 1
            return
        answer = await ours.get(BELOW.format(t="acme") + path, params={"page_size": 1, "page_token": token})
    assert (answer.status_code, answer.json()["reason"]) == (422, "REQUEST_INVALID")


@pytest.mark.parametrize("route", [("POST", "/gateways:invite")], ids=" ".join)
async def test_idempotency_key_of_another_tenant_is_another_key(seeded, route):
    body, key = {"site": "mill", "gateway": "gw-7"}, {"Idempotency-Key": "the-very-same"}
    told = {}
    for tenant in ("globex", "acme"):
        async with seeded.client("admin", tenant) as client:
            path = BELOW.format(t=tenant) + route[1]
            first = await client.post(path, json=body, headers=key)
            again = await client.post(path, json=body, headers=key)
        assert first.status_code == again.status_code == 201
        assert first.json() == again.json()
        told[tenant] = first.json()
    assert told["acme"]["token"] != told["globex"]["token"]
    assert seeded.store.gateway(GatewayKey("acme", "mill", "gw-7")).key.tenant == "acme"


@pytest.mark.parametrize("route", [("GET", "/events")], ids=" ".join)
async def test_event_stream_from_the_beginning_tells_of_the_own_tenant_alone(seeded, route):
    stream = seeded.app.state.stream
    async with aclosing(await stream.watch("acme", after=0)) as events:
        await anext(events)
        told = await collect(stream, events)
    assert told
    assert not [one for one in told if "globex" in json.dumps(one)]
