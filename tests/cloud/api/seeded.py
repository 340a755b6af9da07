"""A store with everything the API can show, for each of two tenants, and what a right request of each route is.

Both tenants name most things alike, so that a key without its tenant would be found out; what one alone has carries
its name.
"""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import httpx
from anyio.from_thread import start_blocking_portal
from fastapi import FastAPI

from tests.cloud.plant import START_NS, alarm
from tests.cloud.replay.tanks import SOURCE, Site, catalogue, packages, truth
from twincloud.api.app import create_app
from twincloud.api.times import to_text
from twincloud.config import Settings
from twincloud.estimate.stepping import Stepper
from twincloud.estimate.task import CloudTwins
from twincloud.events.bus import Bus
from twincloud.identity.ca import Authority
from twincloud.identity.ledger import Ledger
from twincloud.identity.tokens import issue
from twincloud.operations.pool import LEASE_NS
from twincloud.storage import CoordinatorStore, open_store
from twincloud.storage.contract import Arrival, GatewayKey, TwinKey
from twincloud.storage.records_alarms import alarm_id
from twincloud.storage.records_commands import Order
from twincloud.upkeep.tasks import tasks_of
from twinmodel.alarms.records import encode
from twinmodel.alarms.states import State
from twinmodel.clock import SECOND_NS, ManualClock
from twinmodel.package.build import build
from twinmodel.package.signing import generate_key, public_pem, sign
from twinmodel.signal import ALARMS_SIGNAL, Batch, Kind, Signal, Stream
from twinsync import block
from twinsync.command import CommandKind
from twinsync.item import Block, Gap, Item

TENANTS = ("acme", "globex")
ALONE = {"acme": "acme-kiln", "globex": "globex-press"}
"""What one tenant alone has is named so; too unlike for one to be taken for a misspelling of the other."""
AGE_NS = 40 * 86_400 * SECOND_NS
TICKS = 90
DEFINITION = {
    "definition": "tank",
    "version": "1.0.0",
    "properties": {"setpoint": {"unit": "m", "min": 0, "max": 1, "desired": True}, "level2": {"unit": "m"}},
    "relationships": {"feeds": {"target": "tank", "properties": {"length": {"unit": "m"}}}},
}
NEW = {"If-None-Match": "*"}


@dataclass(frozen=True, slots=True)
class Right:
    """A request that the seeded store answers with success."""

    body: Any = None
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    path: Mapping[str, str] = field(default_factory=dict)


class Seeded:
    """A copy of the store, of which each has its own, with an app over it.

    Attributes:
        names: by tenant the path parameters of what it has.
    """

    def __init__(self, folder: Path) -> None:
        state, self.names = _template()
        self.folder = folder
        shutil.copytree(state, folder)
        self.clock = ManualClock(START_NS + AGE_NS)
        self.store = open_store(folder, clock=self.clock)
        self.settings = Settings(state=folder)
        tasks_of(self.settings, self.store, self.clock)  # says where the archive is
        self.ledger = Ledger(folder)
        self.bus = Bus()
        self.app = _app(self.store, self.clock, self.settings, self.ledger, self.bus)
        self._tokens = 0

    def headers(self, role: str, tenant: str) -> dict[str, str]:
        """What a token of a role in a tenant is sent as."""
        self._tokens += 1
        token = issue(self.ledger, self.clock, name=f"t{self._tokens}", tenant=tenant, role=role, ttl_s=0)
        return {"Authorization": f"Bearer {token}"}

    def client(self, role: str, tenant: str) -> httpx.AsyncClient:
        """A client with such a token, for one event loop."""
        client = self.stranger()
        client.headers.update(self.headers(role, tenant))
        return client

    def stranger(self) -> httpx.AsyncClient:
        """A client without a token."""
        transport = httpx.ASGITransport(app=self.app, raise_app_exceptions=False)
        return httpx.AsyncClient(transport=transport, base_url="http://twins")

    def close(self) -> None:
        self.app.state.threads.close()
        self.store.close()


def _app(store: CoordinatorStore, clock: ManualClock, settings: Settings, ledger: Ledger, bus: Bus) -> FastAPI:
    return create_app(
        store, clock=clock, bus=bus, ca=Authority.load(settings.state, clock), settings=settings,
        on_directive=lambda _gateway: None, ledger=ledger,
    )  # fmt: skip


@functools.cache
def _template() -> tuple[Path, dict[str, dict[str, str]]]:
    """The state directory all are copies of, and its names; made once in a process."""
    folder = Path(tempfile.mkdtemp(prefix="seeded-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    with start_blocking_portal() as portal:  # a loop of its own: tests may be in one already
        return folder / "state", portal.call(_sow, folder)


async def _sow(folder: Path) -> dict[str, dict[str, str]]:
    gateways = [GatewayKey(tenant, "mill", "gw-1") for tenant in TENANTS]
    plan = catalogue()
    plan = replace(plan, signals=(*plan.signals, Signal(len(plan), ALARMS_SIGNAL, Kind.STRING, "", Stream.ALARM)))
    site = Site(folder, gateway=gateways[0], plan=plan)
    site.join(gateways[1], plan)
    settings, ledger = Settings(state=site.folder), Ledger(site.folder)
    app = _app(site.store, site.clock, settings, ledger, Bus())
    names = {}
    for tenant in TENANTS:
        token = issue(ledger, site.clock, name=f"seed-{tenant}", tenant=tenant, role="admin", ttl_s=0)
        headers = {"Authorization": f"Bearer {token}"}
        base = f"http://twins/api/v1/tenants/{tenant}"
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url=base, headers=headers) as admin:
            names[tenant] = await _fill(site, partial(_say, admin), tenant)
    _age(site, settings)
    for tenant in TENANTS:
        names[tenant]["command"] = _command(site, GatewayKey(tenant, "mill", "gw-1"))
    app.state.threads.close()
    site.store.close()
    return names


async def _say(
    client: httpx.AsyncClient, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
) -> Any:
    content = {"content": body} if isinstance(body, bytes) else {"json": body} if body is not None else {}
    answer = await client.request(method, path, headers=headers, **content)
    assert answer.is_success, (method, path, answer.text)
    return answer.json() if answer.content else None


async def _fill(site: Site, say: Callable[..., Awaitable[Any]], tenant: str) -> dict[str, str]:
    """Gateway and samples, models, people's words, fleets, operations, a letter, a hole, wishes, a directive."""
    blobs, pem = packages()
    await say("POST", "/signers", {"name": "desk", "public_key_pem": pem.decode()})
    models = {name: await say("POST", "/models", blob) for name, blob in blobs.items()}
    references = {name: f"{model['name']}@{model['version']}" for name, model in models.items()}
    gateway = GatewayKey(tenant, "mill", "gw-1")
    feeds = {port: {"twin": "tanks", "property": port} for port in ("pump", "level2")}
    run = {"model": references["right"], "inputs": {"pump": feeds["pump"]}, "since": to_text(START_NS)}
    await say("PUT", "/sites/mill/twins/line/run", {**run, "outputs": {"level2": feeds["level2"]}})
    site.run_plant(truth(TICKS), gateway=gateway)
    CloudTwins(site.store, site.clock, Stepper(site.store, tier="interpreted")).run(site.clock.wall_ns())
    _hole_and_letter(site, gateway)
    _alarms(site, gateway)
    await say("PUT", "/twinDefinitions/tank/versions/1.0.0", DEFINITION)
    for twin in ("draft-1", "spare-1", ALONE[tenant]):
        body = {"definition": "tank@1.0.0", "tags": {"of": tenant}}
        await say("PUT", f"/sites/mill/twins/{twin}/record", body, NEW)
    await say("PATCH", "/sites/mill/twins/tanks/record", {"definition": "tank@1.0.0", "tags": {"line": "3"}})
    await say("PATCH", "/sites/mill/twins/tanks/desired", {"setpoint": {"value": 0.5}})
    for target in ("draft-1", ALONE[tenant]):
        place = f"/sites/mill/twins/tanks/relationships/feeds/mill/{target}"
        await say("PUT", place, {"properties": {"length": 2}}, NEW)
    await say("PUT", "/fleets/all", {"filter": 'site = "mill"'}, NEW)
    await say("PUT", f"/fleets/{ALONE[tenant]}", {"members": [{"site": "mill", "twin": "tanks"}]}, NEW)
    await say("POST", "/sites/mill/gateways/gw-1:coarsen", {"stream": "bulk", "period_s": 60})
    await say("POST", "/sites/mill/gateways/gw-1:coarsen", {"stream": "state", "period_s": 5})
    for name in ("wrong", "right"):
        await say("PUT", "/sites/mill/twins/tanks/model", {"model": references[name]})
    asked = {"model": references["right"], "from_time": to_text(START_NS)}
    done = await say(
        "POST", "/sites/mill/twins/tanks:backtest", {**asked, "to_time": to_text(START_NS + 60 * SECOND_NS)}
    )
    while (claimed := site.store.claim_operation("w", ("backtest",), site.clock.wall_ns(), LEASE_NS)) is not None:
        if claimed.tenant == tenant:
            times = [START_NS, START_NS + 1]
            curves = {"t_ns": times, "measured": [0.1, None], "candidate": [0.1, 0.2], "sigma": [0.1, 0.1]}
            result = {"plot": {"level2": curves}, "units": {"level2": "m"}, "candidate": {"model": tenant}}
            site.store.finish_operation(claimed, "w", {**result, "against": None}, site.clock.wall_ns())
        # Those of the other tenant run on, without a worker.
    queued = await say(
        "POST", "/sites/mill/twins/tanks:backtest", {**asked, "to_time": to_text(START_NS + 70 * SECOND_NS)}
    )
    alone = ALONE[tenant]
    await say("PUT", f"/twinDefinitions/{alone}/versions/1.0.0", {"definition": alone, "version": "1.0.0"})
    await say("POST", "/gateways:invite", {"site": alone, "gateway": alone})
    key = generate_key()
    await say("POST", "/signers", {"name": alone, "public_key_pem": public_pem(key.public_key()).decode()})
    source = site.folder.parent / f"{alone}.yaml"
    source.write_text(SOURCE.replace("model: two-tanks", f"model: {alone}"))
    own = await say("POST", "/models", sign(build(source), key))
    letters = await say("GET", "/deadLetters")
    return {
        "t": tenant, "s": "mill", "g": "gw-1", "twin": "tanks", "f": "all", "d": "tank", "v": "1.0.0",
        "name": models["right"]["name"], "version": models["right"]["version"], "digest": models["right"]["digest"],
        "operation": str(done["id"]), "queued": str(queued["id"]), "letter": str(letters["items"][0]["id"]),
        "type": "feeds", "target_site": "mill", "target": "draft-1", "property": "level2",
        **{name: alarm_id(gateway, name) for name in ("shelved", "spare")},
        "alarm": alarm_id(gateway, "level-high"),
        "own_alarm": alarm_id(gateway, ALONE[tenant]),
        "right": references["right"], "wrong": references["wrong"], "own_digest": own["digest"],
    }  # fmt: skip


def _hole_and_letter(site: Site, gateway: GatewayKey) -> None:
    plan, boot, session = site.gateways[gateway]
    gap = Item(boot.id, Stream.BULK, 0, 9, Gap("STORE_FULL", 10, START_NS, START_NS + SECOND_NS))
    # A block that can be read by now, as after an update of the coordinator.
    times = [START_NS + (TICKS + n) * SECOND_NS for n in range(10)]
    batch = Batch.of(Kind.FLOAT, [plan.by_name["plc.pump"].id] * 10, [4.0] * 10, [0] * 10, times)
    packed = block.encode([batch], plan)
    content = Block(packed.schema, packed.crc32c, packed.payload, packed.t_min_ns, packed.t_max_ns)
    letter = Item(boot.id, Stream.BULK, 10, 19, content)
    arrivals = [Arrival(gap), Arrival(letter, None, "SCHEMA_UNKNOWN")]
    assert site.store.commit(gateway, session, arrivals, site.clock.wall_ns()).nack is None


def _alarms(site: Site, gateway: GatewayKey) -> None:
    plan, boot, session = site.gateways[gateway]
    states = {"level-high": State.UNACK, "shelved": State.SHELVED, "spare": State.OUT_OF_SERVICE}
    states[ALONE[gateway.tenant]] = State.ACKED
    texts = [encode(alarm(name, state, source="plc.level2")) for name, state in states.items()]
    times = [START_NS + n * SECOND_NS for n in range(len(texts))]
    batch = Batch.of(Kind.STRING, [plan.by_name[ALARMS_SIGNAL].id] * len(texts), texts, [0] * len(texts), times)
    packed = block.encode([batch], plan)
    content = Block(packed.schema, packed.crc32c, packed.payload, packed.t_min_ns, packed.t_max_ns)
    told = Arrival(Item(boot.id, Stream.ALARM, 0, len(texts) - 1, content), (batch,))
    assert site.store.commit(gateway, session, [told], site.clock.wall_ns()).unreadable == 0


def _command(site: Site, gateway: GatewayKey) -> str:
    """A command that waits for another person, of a twin that says whose it is."""
    order = Order(CommandKind.WRITE, "pump", "", 4.0, "", 3_600 * SECOND_NS, 1, f"of {gateway.tenant}")
    key = TwinKey(gateway.tenant, "mill", "tanks")
    return site.store.issue_command(key, order, by="ann", now_ns=site.clock.wall_ns()).id


def _age(site: Site, settings: Settings) -> None:
    """Forty days later: history is compacted and archived, and a new day has begun in blocks."""
    site.clock.advance(START_NS + AGE_NS - site.clock.wall_ns())
    for task in tasks_of(settings, site.store, site.clock):
        while task.run(site.clock.wall_ns()):
            pass
    assert site.store.archives(), "days of history are in the archive"
    for tenant in TENANTS:
        site.send({"plc.level2": [0.125]}, [START_NS + AGE_NS - SECOND_NS], GatewayKey(tenant, "mill", "gw-1"))


def right_requests(names: Mapping[str, str]) -> dict[tuple[str, str], Right]:
    """What to send to each route that needs more than the names in its path: (method, path below the tenant)."""
    span = {"from": to_text(START_NS), "to": to_text(START_NS + TICKS * SECOND_NS)}
    feed = {"pump": {"twin": "tanks", "property": "pump"}}
    twin = "/sites/{s}/twins/{twin}"
    one = twin + "/relationships/{type}/{target_site}/{target}"
    period = {"from_time": span["from"], "to_time": span["to"]}
    blobs, pem = packages()
    definition = {**DEFINITION, "version": "1.1.0"}
    return {
        ("GET", twin + "/history"): Right(query={"property": "level2", **span}),
        ("GET", twin + "/export"): Right(query=span),
        ("GET", twin + "/replay"): Right(query=span),
        ("GET", twin + "/properties/{property}/explanation"): Right(query={"at": span["to"]}),
        ("GET", twin + "/run"): Right(path={"twin": "line"}),
        ("PUT", twin + "/run"): Right({"model": names["right"], "inputs": feed}, path={"twin": "line-2"}),
        ("DELETE", twin + "/run"): Right(path={"twin": "line"}),
        ("PUT", twin + "/model"): Right({"model": names["right"]}),
        ("POST", twin + ":backtest"): Right({"model": names["right"], **period}),
        ("PUT", twin + "/record"): Right({"definition": "tank@1.0.0"}, headers=NEW, path={"twin": "new-1"}),
        ("PATCH", twin + "/record"): Right({"tags": {"line": "4"}}),
        ("DELETE", twin + "/record"): Right(headers={"If-Match": "*"}, path={"twin": "spare-1"}),
        ("PATCH", twin + "/desired"): Right({"setpoint": {"value": 0.25}}),
        ("PUT", one): Right({"properties": {"length": 3}}, headers={"If-Match": "*"}),
        ("DELETE", one): Right(headers={"If-Match": "*"}),
        ("POST", twin + "/commands"): Right({"property": "pump", "value": 3.5, "approvals": 1}),
        ("POST", "/twins:batch"): Right({"items": [{"site": "mill", "twin": "tanks", "body": {"tags": {"a": "b"}}}]}),
        ("PUT", "/fleets/{f}"): Right({"filter": "drifting"}, headers={"If-Match": "*"}),
        ("DELETE", "/fleets/{f}"): Right(headers={"If-Match": "*"}),
        ("GET", "/alarms/{alarm}/journal"): Right(query=span),
        ("POST", "/alarms:ack"): Right({"items": [{"alarm": names["alarm"]}]}),
        ("POST", "/alarms/{alarm}:shelve"): Right({"for_s": 60}),
        ("POST", "/alarms/{alarm}:comment"): Right({"comment": "seen"}),
        ("POST", "/alarms/{alarm}:ack"): Right({"occurrence": 1}),
        ("POST", "/alarms/{alarm}:unshelve"): Right({}, path={"alarm": names["shelved"]}),
        ("POST", "/alarms/{alarm}:outOfService"): Right({}),
        ("POST", "/alarms/{alarm}:inService"): Right({}, path={"alarm": names["spare"]}),
        ("POST", "/gateways:invite"): Right({"site": "mill", "gateway": "gw-2"}),
        ("POST", "/sites/{s}/gateways/{g}:coarsen"): Right({"stream": "bulk", "period_s": 1}),
        ("PUT", "/sites/{s}/gateways/{g}/configuration"): Right({"content": "site: mill", "why": "try"}),
        ("POST", "/models"): Right(blobs["right"]),
        ("POST", "/signers"): Right({"name": "desk", "public_key_pem": pem.decode()}),
        ("POST", "/twinDefinitions"): Right({"items": [definition]}),
        ("PUT", "/twinDefinitions/{d}/versions/{v}"): Right(definition, path={"v": "1.1.0"}),
        ("PUT", "/retention"): Right({"policies": [{"pattern": "*", "raw_days": 400}]}, headers={"If-Match": "*"}),
        ("POST", "/retention:plan"): Right({}),
        ("POST", "/twinGraph:import"): Right([], query={"dry_run": "true"}),
        ("POST", "/operations/{operation}:cancel"): Right(path={"operation": names["queued"]}),
    }
