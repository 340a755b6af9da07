"""What a twin said is explained: the samples its model saw, the model, and the verdict; over REST as well."""

from __future__ import annotations

import httpx
import numpy as np
import pytest

from tests.cloud.plant import Plant
from tests.cloud.replay.edge import T0, TANK, Edge, S, prepare
from tests.cloud.replay.tier import TIER
from twincloud.replay.explain import explain
from twincloud.replay.replay import Replayer
from twincloud.storage import open_store
from twinmodel.errors import MissingError


@pytest.fixture
async def plant(tmp_path):
    plant = Plant(tmp_path / "state")
    plant.store.close()
    plant.store = open_store(plant.state, clock=plant.clock)
    plant.clock.advance(T0 - plant.clock.wall_ns())
    prepare(plant.store)
    edge = await Edge(plant.store, plant.clock).start()
    await edge.run(20, rng=np.random.default_rng(3))
    await edge.end()
    edge.deliver()
    yield plant
    plant.close()


async def test_estimate_names_inputs_of_its_tick_model_and_verdict(plant):
    found = explain(Replayer(plant.store, tier=TIER), plant.store, TANK, "cold_out", T0 + 10 * S + S // 2)
    assert found.t_ns == T0 + 10 * S
    assert {one.port: one.t_ns - T0 for one in found.inputs} == {
        "hot_in": 9_700_000_000, "hot_out": 9_900_000_000, "cold_in": 9_800_000_000,
    }  # fmt: skip
    assert found.inputs[0].block == found.said["estimate"].block
    assert (found.running, found.model.version) == ("exchanger@1.0.0", "1.0.0")
    assert (found.verdict.verdict, found.verdict.proof) == ("exact", "outputs")
    assert set(found.said) == {"estimate", "sigma", "prediction", "drift"}


async def test_property_that_is_none_and_a_time_before_all_values_are_refused(plant):
    replayer = Replayer(plant.store, tier=TIER)
    with pytest.raises(MissingError, match="no property 'depth'"):
        explain(replayer, plant.store, TANK, "depth", T0 + 10 * S)
    with pytest.raises(MissingError, match="has no value"):
        explain(replayer, plant.store, TANK, "hot_out", T0 - 10 * S)


async def test_rest_tells_explanation_and_replay(plant):
    app = plant.app()
    app.state.replayer = Replayer(plant.store, tier=TIER)
    headers, base = {"Authorization": f"Bearer {plant.token()}"}, "/api/v1/tenants/acme/sites/mill/twins/tank"
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app=app), base_url="http://test", headers=headers
    ) as client:
        asked = await client.get(f"{base}/properties/hot_out/explanation", params={"at": str(T0 + 10 * S)})
        told = asked.json()
        assert told["replay"]["verdict"] == "exact"
        assert told["said"]["measured"]["signal"] == "d.hot_out"
        assert [one["port"] for one in told["inputs"]] == ["hot_in", "cold_in", "hot_out"]
        replay = (await client.get(f"{base}/replay", params={"from": str(T0), "to": str(T0 + 60 * S)})).json()
        assert replay["exact"] == replay["ticks"] > 15
        refused = await client.get(f"{base}/replay", params={"from": str(T0), "to": str(T0 + 90_000 * S)})
        assert (refused.status_code, refused.json()["reason"]) == (422, "REQUEST_INVALID")
