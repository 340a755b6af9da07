"""A small plant in a real store: tenants, gateways that speak, twins with values; what API tests are made of."""

from __future__ import annotations

import atexit
import functools
import hashlib
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from fastapi import FastAPI

from twincloud.api.app import create_app
from twincloud.config import Settings
from twincloud.events.bus import Bus
from twincloud.identity.ca import Authority
from twincloud.identity.ledger import Ledger
from twincloud.identity.tokens import hash_of, issue
from twincloud.registry.packages import Description
from twincloud.storage import create, open_store
from twincloud.storage.contract import Arrival, Beat, GatewayKey, Hello, Running
from twinmodel.alarms.records import AlarmRecord, Priority, encode
from twinmodel.alarms.states import State
from twinmodel.clock import SECOND_NS, ClockQuality, ManualClock
from twinmodel.errors import PackageError
from twinmodel.signal import ALARMS_SIGNAL, Batch, Catalogue, Kind, Signal, Stream, TwinBinding
from twinsync import block
from twinsync.item import Block, Boot, Item

START_NS = 1_700_000_000 * SECOND_NS


def describe_fake_package(blob: bytes, trusted: Mapping[str, bytes]) -> Description:
    """`name@version` in plain bytes stands for a package: verification has tests of its own."""
    name, at, version = blob.decode("ascii", "replace").partition("@")
    if not at:
        raise PackageError("PACKAGE_INVALID", "it is no package")
    signer = next(iter(trusted), "")
    return Description(name, version, hashlib.sha256(blob).hexdigest(), signer, {"flow": ""}, {"level": ""})


def alarm(name: str, state: State = State.UNACK, occurrence: int = 1, **more: object) -> AlarmRecord:
    """A record of an alarm of high priority."""
    plain: dict[str, object] = {
        "rule": name, "source": "tank-1-dev.level", "active": state in (State.UNACK, State.ACKED),
        "acked": state in (State.ACKED, State.NORM), "severity": 700, "priority": Priority.HIGH,
        "text": "above 9.5 m", "value": 9.75, "limit": 9.5, "unit": "m", "quality": "", "cause": "", "count": 1,
        "by": "", "comment": "", "until_ns": 0, "at_ns": 0,
    }  # fmt: skip
    return AlarmRecord(alarm=name, state=state, occurrence=occurrence, **(plain | more))


@functools.cache
def template() -> Path:
    """A state directory that was made once; migrating a database for each test would take most of its time."""
    state = Path(tempfile.mkdtemp(prefix="plant-")) / "state"
    atexit.register(shutil.rmtree, state.parent, ignore_errors=True)
    create(state)
    Authority.create(state, ManualClock(START_NS)).server_pair()
    return state


class Gateway:
    """A gateway that joined and speaks; `send` commits values of its twins at once."""

    def __init__(self, plant: Plant, key: GatewayKey, twins: tuple[str, ...]) -> None:
        self.plant, self.key, self.twins = plant, key, twins
        roles = ("", "#estimate", "#sigma", "#innovation", "#drift", "#substitute")
        names = [f"{twin}-dev.flow" for twin in twins] + [
            f"{twin}-dev.level" if not role else f"{twin}/level{role}" for twin in twins for role in roles
        ]
        signals = tuple(Signal(i, name, Kind.FLOAT, period_ns=SECOND_NS) for i, name in enumerate(names))
        signals += (Signal(len(names), ALARMS_SIGNAL, Kind.STRING, "", Stream.ALARM),)
        bindings = tuple(
            TwinBinding(t, "tank", "", {"flow": f"{t}-dev.flow", "level": f"{t}-dev.level"}, ("level",), {"level": ""})
            for t in twins
        )
        self.catalogue = Catalogue(signals, bindings)
        self.boot = Boot(hashlib.sha256(repr(key).encode()).digest()[:16], b"", 1, START_NS, ClockQuality.SYNCED)
        self.seq = self.told = 0
        self.session = 0

    def connect(self, running: tuple[Running, ...] = ()) -> None:
        clock, store = self.plant.clock, self.plant.store
        hello = Hello((self.boot,), "0.1.0", ClockQuality.SYNCED, (self.catalogue.digest,), running, "ab12", 0)
        self.session = store.open_session(self.key, hello, clock.wall_ns()).session
        store.put_catalogue(self.key, self.session, self.catalogue, clock.wall_ns())

    def disconnect(self) -> None:
        self.plant.store.close_session(self.key, self.session, self.plant.clock.wall_ns())

    def send(self, values: Mapping[str, float], *, quality: int = 0, t_ns: int | None = None) -> None:
        """Commits one sample per signal name."""
        now_ns = self.plant.clock.wall_ns()
        ids = sorted(self.catalogue.by_name[name].id for name in values)
        by_id = {self.catalogue.by_name[name].id: value for name, value in values.items()}
        times = [now_ns if t_ns is None else t_ns] * len(ids)
        batch = Batch.of(Kind.FLOAT, ids, [by_id[i] for i in ids], [quality] * len(ids), times)
        packed = block.encode([batch], self.catalogue)
        content = Block(packed.schema, packed.crc32c, packed.payload, packed.t_min_ns, packed.t_max_ns)
        item = Item(self.boot.id, Stream.TELEMETRY, self.seq, self.seq + len(ids) - 1, content)
        self.seq += len(ids)
        commit = self.plant.store.commit(self.key, self.session, [Arrival(item, (batch,))], now_ns)
        assert commit.nack is None
        self.plant.bus.notify_twins(commit.twins)

    def tell(self, *records: str | AlarmRecord, t_ns: int | None = None) -> None:
        """Commits records of alarms."""
        now_ns = self.plant.clock.wall_ns()
        texts = [one if isinstance(one, str) else encode(one) for one in records]
        times = [now_ns if t_ns is None else t_ns] * len(texts)
        signal = self.catalogue.by_name[ALARMS_SIGNAL].id
        batch = Batch.of(Kind.STRING, [signal] * len(texts), texts, [0] * len(texts), times)
        packed = block.encode([batch], self.catalogue)
        content = Block(packed.schema, packed.crc32c, packed.payload, packed.t_min_ns, packed.t_max_ns)
        item = Item(self.boot.id, Stream.ALARM, self.told, self.told + len(texts) - 1, content)
        self.told += len(texts)
        commit = self.plant.store.commit(self.key, self.session, [Arrival(item, (batch,))], now_ns)
        assert commit.nack is None
        self.plant.bus.notify_twins(commit.twins)

    def beat(self, **facts: int) -> None:
        backlog = {"backlog_bytes": 0, "backlog_samples": 0, "oldest_ns": 0} | facts
        beat = Beat(self.key, self.session, **backlog, running=(), at_ns=self.plant.clock.wall_ns())
        assert self.plant.store.heartbeats([beat]) == [None]


class Plant:
    """A store in a folder, an authority, and the app over both."""

    def __init__(self, state: Path, **settings: object) -> None:
        self.clock = ManualClock(START_NS)
        self.state = state
        shutil.copytree(template(), state)
        self.store = open_store(state, clock=self.clock, verify=describe_fake_package)
        self.settings = Settings(state=state, **settings)
        self.ledger = Ledger(state)
        self.ca = Authority.load(state, self.clock)
        self.bus = Bus()
        self.woken: list[GatewayKey] = []

    def app(self) -> FastAPI:
        return create_app(
            self.store,
            clock=self.clock,
            bus=self.bus,
            ca=self.ca,
            settings=self.settings,
            on_directive=self.woken.append,
        )

    def token(self, role: str = "viewer", tenant: str = "acme", ttl_s: float = 0) -> str:
        count = len(self.ledger.content().tokens)
        return issue(self.ledger, self.clock, name=f"t{count}", tenant=tenant, role=role, ttl_s=ttl_s)

    def gateway(self, tenant: str, site: str, name: str, *twins: str) -> Gateway:
        key = GatewayKey(tenant, site, name)
        now_ns = self.clock.wall_ns()
        self.store.create_tenant(tenant, now_ns)
        secret = hash_of(f"invite {key}")
        self.store.create_invite(key, secret, now_ns, now_ns + SECOND_NS)
        self.store.redeem_invite(secret, now_ns)
        gateway = Gateway(self, key, twins)
        gateway.connect()
        return gateway

    def close(self) -> None:
        self.store.close()
