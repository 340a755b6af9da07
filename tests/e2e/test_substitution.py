"""From a sensor that dies to what REST says: the stages of the agent, its spool, the coordinator's store and API."""

from __future__ import annotations

import itertools
import random

import httpx
import pytest

from tests.cloud.plant import Plant
from tests.edge.downlink.packages import OLD, estimator, package, signed, trust
from twincloud.storage.contract import Arrival, GatewayKey, Hello
from twinedge.config.load import load_site
from twinedge.gate.gate import Gate
from twinedge.gate.rules import rules_of
from twinedge.lanes import Lanes, windows_of
from twinedge.models import Models
from twinedge.modelstore.store import ModelStore
from twinedge.pipeline import Pipeline
from twinedge.ports import Delivery
from twinedge.replays import Replays
from twinedge.spool.store import Spool
from twinmodel.clock import BUILD_NS, SECOND_NS, ClockQuality
from twinmodel.quality import GOOD, QualityReason, bad, describe
from twinmodel.signal import Batch, Kind
from twinsync import block
from twinsync.item import Block

PROFILE = """\
profile: acme/rig
protocol: modbus
base: 0
points:
  pump: {at: holding 0, as: float32, unit: V}
  level2: {at: holding 2, as: float32, unit: m, range: [0, 2]}
"""
SITE = """\
site: north
profiles: profiles
devices:
  rig: {modbus: "tcp://127.0.0.1:502", profile: acme/rig}
twins:
  tank:
    definition: two-tanks
    inputs: {pump: rig.pump}
    outputs: {level2: rig.level2}
    model: two-tanks@1.0.0
    substitute: {outputs: [level2], for: 20s}
"""
GATEWAY = GatewayKey("acme", "north", "gw-1")
SECRET = b"s" * 32
AWAY = bad(QualityReason.NOT_CONNECTED)


class Gateway:
    """An agent's stages on a clock that is turned; its link is a call."""

    def __init__(self, folder, plant: Plant, site_text: str) -> None:
        self.plant, self.clock = plant, plant.clock
        (folder / "profiles/acme/rig").mkdir(parents=True)
        (folder / "profiles/acme/rig/1.yaml").write_text(PROFILE)
        (folder / "site.yaml").write_text(site_text)
        loaded = load_site(folder / "site.yaml")
        store = ModelStore(folder / "state", trust(folder / "signers"))
        store.put(signed(OLD))
        store.want("tank", digest=package(OLD).digest, version=1, name=OLD)
        self.models = Models(loaded, store, None)
        # The interpreted tier: nothing is compiled here.
        self.models.build = lambda _twin, _package, _loaded: estimator(OLD)
        self.models.start()
        self.catalogue = self.models.catalogue()
        gate = Gate(rules_of(loaded, self.catalogue), self.clock)
        self.spool = Spool.open(
            folder / "state", clock=self.clock, rng_bytes=random.Random(1).randbytes, disk_max_bytes=1 << 22,
            when_full="thin",
        )  # fmt: skip
        lanes = Lanes(windows_of(SECOND_NS, SECOND_NS))
        self.pipeline = Pipeline(Replays({}), gate, lanes, self.models.runners, self._commit, self.clock)
        now_ns = self.clock.wall_ns()
        plant.store.create_tenant("acme", now_ns)
        plant.store.create_invite(GATEWAY, SECRET, now_ns, now_ns + SECOND_NS)
        plant.store.redeem_invite(SECRET, now_ns)
        hello = Hello((self.spool.boot,), "0.1.0", ClockQuality.SYNCED, (self.catalogue.digest,), (), "ab12", 0)
        self.session = plant.store.open_session(GATEWAY, hello, now_ns).session
        plant.store.put_catalogue(GATEWAY, self.session, self.catalogue, now_ns)
        self.marks = []

    async def _commit(self, flush, catalogue):
        self.spool.append_many(flush.parts, catalogue, flush.records, declare=flush.declare)

    async def poll(self, level: float, quality: int = GOOD) -> None:
        """One poll, a second, and what the uplink would send."""
        t_ns = self.clock.wall_ns()
        values = Batch.of(Kind.FLOAT, [0, 1], [5.0, level], [GOOD, quality], [t_ns, t_ns])
        await self.pipeline.put(Delivery("rig", (values,)))
        self.clock.advance(SECOND_NS)
        await self.pipeline.commit(everything=True)
        items = self.spool.unsent(self.marks, bytes_max=1 << 24, items_max=1000)
        arrivals = [
            Arrival(item, tuple(block.decode(item.content.payload, self.catalogue)))
            for item in items
            if isinstance(item.content, Block)
        ]
        commit = self.plant.store.commit(GATEWAY, self.session, arrivals, self.clock.wall_ns())
        assert commit.nack is None
        self.spool.acknowledge(commit.marks)


@pytest.fixture
async def begun(tmp_path):
    made = []

    async def begin(name="a", site_text=SITE):
        plant = Plant(tmp_path / name / "cloud")
        plant.clock.advance(BUILD_NS - plant.clock.wall_ns() + 86_400 * 300 * SECOND_NS)
        gateway = Gateway(tmp_path / name, plant, site_text)
        await gateway.pipeline.use(gateway.catalogue)
        made.append(gateway)
        return gateway

    yield begin
    for gateway in made:
        gateway.spool.close()
        gateway.plant.close()


async def ask(plant: Plant, path: str, **params: str):
    app = plant.app()
    headers = {"authorization": f"Bearer {plant.token()}"}
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app=app), base_url="http://t", headers=headers
    ) as client:
        answer = await client.get(f"/api/v1/tenants/acme/sites/north/twins/tank{path}", params=params)
    app.state.threads.close()
    assert answer.status_code == 200, answer.text
    return answer.json()


async def level2(plant: Plant):
    view = await ask(plant, "")
    return next(p for p in view["properties"] if p["name"] == "level2"), view


async def test_a_dead_sensor_is_stood_in_for_until_its_limit_and_counts_again_when_it_is_back(begun):
    gateway = await begun()
    plant = gateway.plant
    for _ in range(10):
        await gateway.poll(0.25)
    found, _ = await level2(plant)
    assert (found["reported"]["origin"], found["reported"]["value"], found["replaced"]) == ("measured", 0.25, None)

    for _ in range(8):
        await gateway.poll(float("nan"), AWAY)
    found, view = await level2(plant)
    shown, estimated = found["reported"], found["estimated"]
    assert (shown["origin"], shown["quality"]) == ("substituted", "uncertain(SUBSTITUTED)")
    assert (shown["value"], shown["sigma"]) == (estimated["value"], estimated["sigma"])
    assert shown["model"] == found["estimated"]["model"]
    assert found["replaced"]["quality"] == "bad(NOT_CONNECTED)"
    assert "uncertain(SUBSTITUTED) for bad(NOT_CONNECTED)" in view["why"]
    assert gateway.models.runners[0].substitution.since_ns()

    for _ in range(20):
        await gateway.poll(float("nan"), AWAY)
    found, _ = await level2(plant)
    assert (found["reported"]["value"], found["reported"]["quality"]) == (None, "bad(STALE)")

    await gateway.poll(0.31)
    found, _ = await level2(plant)
    assert (found["reported"]["origin"], found["reported"]["value"]) == ("measured", pytest.approx(0.31, abs=1e-6))
    assert found["replaced"] is None
    # The measured signal is as it came: nothing was written over.
    series = (await ask(plant, "/history", property="level2", roles="measured,substitute"))["series"]
    groups = [(describe(code), len(list(run))) for code, run in itertools.groupby(series["measured"]["quality"])]
    assert groups == [("good", 10), ("bad(NOT_CONNECTED)", 28), ("good", 1)]
    said = [describe(code) for code, _ in itertools.groupby(series["substitute"]["quality"])]
    assert said[:2] == ["uncertain(SUBSTITUTED)", "bad(STALE)"]
    assert series["substitute"]["value"][0] is not None


async def test_a_model_does_not_know_whether_it_stands_in(begun):
    """State, drift and counts are bit for bit those of an agent that substitutes nothing."""
    plain = SITE.replace("    substitute: {outputs: [level2], for: 20s}\n", "")
    runs = []
    for name, text in (("with", SITE), ("without", plain)):
        gateway = await begun(name, text)
        for k in range(40):
            away = 10 <= k < 30
            await gateway.poll(float("nan") if away else 0.25 + 0.001 * k, AWAY if away else GOOD)
        runner = gateway.models.runners[0]
        runs.append((runner.slot.current().state_hash(), runner.steps, runner.last.drift.tobytes()))
        assert (runner.substitution.ticks > 10) == (name == "with")
    assert runs[0] == runs[1]
