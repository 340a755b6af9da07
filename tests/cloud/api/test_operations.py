"""Operations, back-tests and twins in the cloud over REST."""

from __future__ import annotations

import pytest

from tests.cloud.plant import START_NS
from tests.cloud.replay.tanks import Site
from tests.cloud.replay.tanks import truth as rows_of
from twincloud.api.app import create_app
from twincloud.api.times import to_text
from twincloud.config import Settings
from twincloud.estimate.stepping import Stepper
from twincloud.estimate.task import CloudTwins
from twincloud.events.bus import Bus
from twincloud.identity.ledger import Ledger
from twincloud.identity.tokens import issue
from twincloud.operations.pool import LEASE_NS
from twinmodel.clock import SECOND_NS

BASE = "/api/v1/tenants/acme"
TWIN = f"{BASE}/sites/mill/twins"


@pytest.fixture
def site(tmp_path):
    site = Site(tmp_path)
    site.references = site.push()
    yield site
    site.store.close()


@pytest.fixture
async def http(site):
    import httpx

    ledger = Ledger(site.folder)
    app = create_app(
        site.store, clock=site.clock, bus=Bus(), ca=None, settings=Settings(state=site.folder),
        on_directive=lambda _gateway: None, ledger=ledger,
    )  # fmt: skip
    token = issue(ledger, site.clock, name="ann", tenant="acme", role="engineer", ttl_s=0)
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    headers = {"Authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(transport=transport, base_url="http://twins", headers=headers) as client:
        yield client
    app.state.threads.close()


def body(site, **changes):
    times = {"from_time": to_text(START_NS), "to_time": to_text(START_NS + 60 * SECOND_NS)}
    return {"model": site.references["right"], "against": site.references["wrong"], **times, **changes}


async def test_backtest_is_accepted_joined_cancelled_and_listed(site, http):
    site.run_plant(rows_of(60))
    asked = await http.post(f"{TWIN}/tanks:backtest", json=body(site))
    assert asked.status_code == 202
    view = asked.json()
    assert (view["state"], view["cached"], view["created_by"]) == ("queued", False, "ann")
    place = asked.headers["location"]
    assert place == f"{BASE}/operations/{view['id']}"
    again = await http.post(f"{TWIN}/tanks:backtest", json=body(site))
    assert (again.json()["id"], again.json()["cached"]) == (view["id"], True)
    assert (await http.get(f"{place}/plot.svg")).json()["reason"] == "NOT_FOUND"
    cancelled = await http.post(f"{place}:cancel")
    assert cancelled.json()["state"] == "cancelled"
    listed = (await http.get(f"{BASE}/operations", params={"state": "cancelled"})).json()["items"]
    assert [one["id"] for one in listed] == [view["id"]]


async def test_plot_of_a_backtest_that_is_done_is_an_svg(site, http):
    site.run_plant(rows_of(60))
    view = (await http.post(f"{TWIN}/tanks:backtest", json=body(site))).json()
    mine = site.store.claim_operation("w", ("backtest",), site.clock.wall_ns(), LEASE_NS)
    curves = {"t_ns": [START_NS, START_NS + 1], "measured": [0.1, None], "candidate": [0.1, 0.2], "sigma": [0.1, 0.1]}
    result = {"plot": {"level2": curves}, "units": {"level2": "m"}, "candidate": {"model": "<m>@1"}, "against": None}
    site.store.finish_operation(mine, "w", result, 1)
    answer = await http.get(f"{BASE}/operations/{view['id']}/plot.svg")
    assert answer.headers["content-type"] == "image/svg+xml"
    assert "Back-test of &lt;m&gt;@1" in answer.text


@pytest.mark.parametrize(
    ("change", "status", "reason"),
    [
        ({"model": "pump"}, 422, "REQUEST_INVALID"),
        ({"model": "pump@9.9.9"}, 404, "UNKNOWN_MODEL"),
        ({"to_time": "yesterday"}, 422, "REQUEST_INVALID"),
        ({"warm_up_s": -1}, 422, "REQUEST_INVALID"),
    ],
)
async def test_backtest_that_cannot_be_is_a_problem(site, http, change, status, reason):
    answer = await http.post(f"{TWIN}/tanks:backtest", json=body(site, **change))
    assert (answer.status_code, answer.json()["reason"]) == (status, reason)
    assert answer.json()["hint"]


async def test_twin_runs_in_the_cloud_by_one_request_and_stops_by_another(site, http):
    feeds = {port: {"twin": "tanks", "property": port} for port in ("pump", "level2")}
    wanted = {"model": site.references["right"], "inputs": {"pump": feeds["pump"]}, "since": to_text(START_NS)}
    put = await http.put(f"{TWIN}/line/run", json={**wanted, "outputs": {"level2": feeds["level2"]}})
    assert put.status_code == 200
    assert put.json()["waits_for"] == [{"site": "mill", "role": "measured", **feeds[p]} for p in ("level2", "pump")]
    site.run_plant(rows_of(60))
    CloudTwins(site.store, site.clock, Stepper(site.store, tier="interpreted")).run(site.clock.wall_ns())
    run = (await http.get(f"{TWIN}/line/run")).json()
    assert (run["ticks"], run["tick"], run["waits_for"]) == (60, to_text(START_NS + 59 * SECOND_NS), [])
    twin = (await http.get(f"{TWIN}/line")).json()
    assert twin["gateway"] == "cloud"
    assert [one["twin"] for one in (await http.get(f"{BASE}/cloudTwins")).json()["items"]] == ["line"]
    assert (await http.delete(f"{TWIN}/line/run")).status_code == 204
    assert (await http.get(f"{TWIN}/line/run")).status_code == 404
    assert (await http.get(f"{TWIN}/line/history", params={"property": "level2", "from": to_text(START_NS)})).is_success


async def test_name_of_a_twin_that_a_gateway_serves_is_refused(site, http):
    feed = {"pump": {"twin": "tanks", "property": "pump"}}
    answer = await http.put(f"{TWIN}/tanks/run", json={"model": site.references["right"], "inputs": feed})
    assert (answer.status_code, answer.json()["reason"]) == (409, "ALREADY_EXISTS")
