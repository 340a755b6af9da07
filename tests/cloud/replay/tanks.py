"""A store with half an hour of two tanks, and packages that are right and wrong about them."""

from __future__ import annotations

import functools
import hashlib
import shutil
from pathlib import Path

import numpy as np

from tests.cloud.plant import START_NS, template
from twincloud.storage import open_store
from twincloud.storage.contract import Arrival, GatewayKey, Hello, TwinKey
from twinmodel.clock import SECOND_NS, ClockQuality, ManualClock
from twinmodel.package.build import build
from twinmodel.package.signing import generate_key, public_pem, sign
from twinmodel.signal import OUTPUT_ROLES, Batch, Catalogue, Kind, Signal, Stream, TwinBinding
from twinsync import block
from twinsync.item import Block, Boot, Item

# Two tanks in a row whose drains are linear: its kernel costs a tenth of one with roots, also interpreted.
SOURCE = """
model: two-tanks
version: 1.0.0
description: Two tanks with linear drains; level1 is virtual.
family: linear
dt: 1s
states:
  h1: {unit: m, start: 0.2, sigma: 0.2}
  h2: {unit: m, start: 0.2, sigma: 0.2}
inputs:
  pump: {unit: V, min: 0, max: 10, nominal: 5}
params:
  k1: {value: 0.04, unit: 1/s}
  k3: {value: 0.04, unit: 1/s}
  k4: {value: 0.002, unit: m/(V s)}
equations:
  h1': k4*pump - k1*h1
  h2': k1*h1 - k3*h2
outputs:
  level1: {value: h1, unit: m, min: 0, max: 2, nominal: 0.25, resolution: 0.0001}
  level2: {value: h2, unit: m, min: 0, max: 2, nominal: 0.25, resolution: 0.0001}
noise:
  process: {h1: 0.0002, h2: 0.0002}
  measurement: {level1: 0.002, level2: 0.002}
regime:
  box: {pump: [0, 10]}
"""
GATEWAY = GatewayKey("acme", "mill", "gw-1")
TWIN = TwinKey("acme", "mill", "tanks")
TICKS = 600


@functools.cache
def packages():
    """The right model, one that drains too fast, and the key that signed them."""
    key = generate_key()
    wrong = SOURCE.replace("version: 1.0.0", "version: 0.9.0").replace("k3: {value: 0.04", "k3: {value: 0.06")
    blobs = {}
    for name, text in (("right", SOURCE), ("wrong", wrong)):
        path = template().parent / f"{name}.yaml"
        path.write_text(text)
        blobs[name] = sign(build(path), key)
    return blobs, public_pem(key.public_key())


def truth(ticks: int = TICKS, seed: int = 1):
    """Voltage and measured lower level, one a second."""
    g = np.random.default_rng(seed)
    h, rows = np.array([0.3, 0.1]), []
    for tick in range(ticks):
        volts = 4.0 + 2.0 * (tick // 120 % 2)
        rows.append((volts, round(float(h[1] + 0.002 * g.normal()), 4)))
        for _ in range(4):
            flow = 0.04 * h
            h = h + 0.25 * np.array([0.002 * volts - flow[0], flow[0] - flow[1]])
        h = h + 2e-4 * g.normal(size=2)
    return rows


def catalogue(twin: str = "tanks", device: str = "plc") -> Catalogue:
    units = {"pump": "V", "level1": "m", "level2": "m"}
    names = [(f"{device}.pump", "V"), (f"{device}.level2", "m")]
    names += [
        (f"{twin}/{o}#{role}", "" if role == "drift" else "m") for o in ("level1", "level2") for role in OUTPUT_ROLES
    ]
    signals = [
        Signal(i, name, Kind.FLOAT, unit, Stream.STATE, exponent=6, period_ns=SECOND_NS)
        for i, (name, unit) in enumerate(names)
    ]
    bound = {"pump": f"{device}.pump", "level1": "", "level2": f"{device}.level2"}
    return Catalogue(tuple(signals), (TwinBinding(twin, "tanks", "", bound, ("level1", "level2"), units),))


class Site:
    """A store, and a gateway in it that sends."""

    def __init__(self, folder: Path, *, gateway: GatewayKey = GATEWAY, plan: Catalogue | None = None) -> None:
        self.folder = folder / "state"
        if not self.folder.exists():
            shutil.copytree(template(), self.folder)
        self.clock = ManualClock(START_NS + 3_600 * SECOND_NS)
        self.store = open_store(self.folder, clock=self.clock)
        self.gateways: dict[GatewayKey, tuple[Catalogue, Boot, int]] = {}
        self.seqs: dict[GatewayKey, int] = {}
        self.join(gateway, plan or catalogue())

    def join(self, gateway: GatewayKey, plan: Catalogue) -> None:
        store, now_ns = self.store, self.clock.wall_ns()
        store.create_tenant(gateway.tenant, now_ns)
        secret = hashlib.sha256(repr(gateway).encode()).digest()
        store.create_invite(gateway, secret, now_ns, now_ns + SECOND_NS)
        store.redeem_invite(secret, now_ns)
        boot = Boot(secret[:16], b"", 1, START_NS, ClockQuality.SYNCED)
        hello = Hello((boot,), "0.1.0", ClockQuality.SYNCED, (plan.digest,), (), "ab12", 0)
        session = store.open_session(gateway, hello, now_ns).session
        store.put_catalogue(gateway, session, plan, now_ns)
        self.gateways[gateway] = plan, boot, session
        self.seqs[gateway] = 0

    def push(self) -> dict[str, str]:
        """Puts both models into the registry; their references."""
        blobs, pem = packages()
        self.store.add_signer("acme", "desk", pem, 1)
        found = {name: self.store.put_model("acme", blob, 1) for name, blob in blobs.items()}
        return {name: f"{model.name}@{model.version}" for name, model in found.items()}

    def send(self, values: dict[str, list[float]], times: list[int], gateway: GatewayKey = GATEWAY) -> None:
        """Commits one block: values of signals at the same times."""
        plan, boot, session = self.gateways[gateway]
        batches = [
            Batch.of(Kind.FLOAT, [plan.by_name[name].id] * len(times), column, [0] * len(times), times)
            for name, column in values.items()
        ]
        packed = block.encode(batches, plan)
        count = sum(len(batch) for batch in batches)
        content = Block(packed.schema, packed.crc32c, packed.payload, packed.t_min_ns, packed.t_max_ns)
        first = self.seqs[gateway]
        item = Item(boot.id, Stream.STATE, first, first + count - 1, content)
        commit = self.store.commit(
            gateway, session, [Arrival(item, tuple(block.decode(packed.payload, plan)))], self.clock.wall_ns()
        )
        assert commit.nack is None
        assert not commit.rejected
        self.seqs[gateway] += count

    def run_plant(self, rows, first: int = 0, gateway: GatewayKey = GATEWAY) -> None:
        """Sends measured rows, a block a minute."""
        for start in range(0, len(rows), 60):
            some = rows[start : start + 60]
            times = [START_NS + (first + start + n) * SECOND_NS for n in range(len(some))]
            self.send({"plc.pump": [v for v, _ in some], "plc.level2": [h for _, h in some]}, times, gateway)
