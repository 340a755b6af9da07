"""What users and strangers get wrong, at real processes: each is refused by name, and everything else runs on."""

from __future__ import annotations

import contextlib
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.e2e.plant import SITE, TENANT, join_line, may_mount, signing_request
from twincloud.identity.ca import Authority
from twincloud.storage.contract import GatewayKey
from twinedge.enrol import load_identity
from twinmodel.clock import SECOND_NS, ClockQuality, SystemClock
from twinmodel.errors import TwinError
from twinmodel.package import signing
from twinmodel.package.build import build
from twinmodel.signal import Batch, Catalogue, Kind, Signal, Stream
from twinsim.demo.processes import run
from twinsim.demo.story import find_examples, find_profiles
from twinsync import block
from twinsync.channel import Credentials, open_channel
from twinsync.envelope import down_from_proto, up_to_proto
from twinsync.item import Block, Boot, Item
from twinsync.session.messages import PROTOCOL, Committed, Hello, Items, Welcome
from twinsync.v1.sync_pb2_grpc import SyncStub

pytestmark = [pytest.mark.e2e, pytest.mark.service("mosquitto"), pytest.mark.timeout(300)]

SITE_FILE = """\
site: north
profiles: PROFILES
devices:
  T-1: {modbus: "tcp://127.0.0.1:1502", unit_id: 1, profile: hybridtwin/coupled-tanks}
twins:
  tank-1: {definition: two-tanks, inputs: {pump: T-1.pump}, outputs: {level2: T-1.level2}}
status: {port: 0}
"""
CHANGES = {
    "unknown key": ("status:", "spol: {}\nstatus:"),
    "missing profile": ("hybridtwin/coupled-tanks", "hybridtwin/coupled-tnks"),
    "unknown signal": ("T-1.level2", "T-1.level3"),
    "duplicate signal": ("inputs: {pump: T-1.pump}", "inputs: {level2: T-1.pump}"),
    "wrong unit": ("profiles: PROFILES", "profiles: odd"),
}
REFUSALS = {
    "unknown key": ("UNKNOWN_KEY", 2, "spool"),
    "missing profile": ("PROFILE_MISSING", 2, "coupled-tanks"),
    "unknown signal": ("UNKNOWN_SIGNAL", 2, "T-1.level2"),
    "duplicate signal": ("DUPLICATE_SIGNAL", 2, "one name"),
    "wrong unit": ("UNIT_UNKNOWN", 2, "unit"),
    "gateway that has not joined": ("NOT_JOINED", 1, "twinctl gateway invite"),
    "second agent on one state directory": ("STATE_LOCKED", 1, "stop it"),
    "status port in use": ("PORT_IN_USE", 1, "another port"),
    "coordinator's port in use": ("PORT_IN_USE", 1, "set `port`"),
    "second coordinator on one state directory": ("STATE_LOCKED", 1, "stop it"),
    "fingerprint of another authority": ("FINGERPRINT_MISMATCH", 4, "do not join"),
    "invitation used twice": ("INVITE_INVALID", 4, "twinctl gateway invite"),
    "unsigned package": ("PACKAGE_UNSIGNED", 4, "twinctl model sign"),
    "altered package": ("PACKAGE_ALTERED", 2, "again"),
    "package of a stranger": ("SIGNER_UNKNOWN", 4, "twinctl model trust"),
    "unknown model assigned": ("UNKNOWN_MODEL", 1, "twinctl model push"),
    "unfit model assigned": ("MODEL_UNFIT", 1, "inputs"),
    "model for an unknown twin": ("UNKNOWN_TWIN", 1, "tank-1"),
    "fault of an unknown device": ("UNKNOWN_DEVICE", 1, "T-1"),
}


@pytest.fixture(scope="session")
def foreign(plant):
    """State of a coordinator that is none of ours."""
    state = plant.root / "foreign"
    run("foreign-init", ["twincloud", "init", "--state", str(state)], plant.logs)
    return state


@pytest.fixture(scope="session")
def spoilt(plant):
    """Packages nobody may run: name -> file."""
    folder = plant.root / "spoilt"
    folder.mkdir()
    unsigned = build(find_examples() / "two-tanks.yaml")
    altered = bytearray(plant.packages["two-tanks.yaml"])
    altered[len(altered) // 2] ^= 1
    files = {
        "unsigned package": unsigned,
        "altered package": bytes(altered),
        "package of a stranger": signing.sign(unsigned, signing.generate_key()),
    }
    for name, blob in files.items():
        (folder / f"{name}.twin").write_bytes(blob)
    return {name: folder / f"{name}.twin" for name in files}


@pytest.fixture(scope="session")
def refusals(plant, foreign, spoilt, tmp_path_factory):
    """All wrong commands, run beside each other: name -> finished process."""
    folder = tmp_path_factory.mktemp("wrong")
    used, open_ = plant.invite("used"), plant.invite("never")
    run("join-used", [*join_line(used), "--state", str(folder / "used")], plant.logs)
    mixed = plant.gateways["mixed"]
    taken = plant.root / "taken.yaml"
    status = f"status: {{port: {mixed.status_port}}}"
    taken.write_text(mixed.config.read_text().replace("status: {port: 0}", status))
    serve = ["twincloud", "serve", "--sync-port", "0", "--enrol-port", "0", "--state"]
    join = ["--state", str(folder / "join")]
    wrong_pin = join_line(open_ | {"ca_sha256": Authority.load(foreign, SystemClock()).fingerprint})
    joined = ["twinedge", "run", "--state", str(folder / "used"), "--config"]
    commands = {
        **{name: _validate(folder, name) for name in CHANGES},
        "gateway that has not joined": ["twinedge", "run", "--config", str(mixed.config), "--state", str(folder / "n")],
        "second agent on one state directory": [
            *("twinedge", "run", "--config", str(mixed.config), "--state", str(mixed.state))
        ],
        "status port in use": [*joined, str(taken)],
        "coordinator's port in use": [*serve, str(foreign), "--port", str(plant.ports["port"])],
        "second coordinator on one state directory": [*serve, str(plant.coordinator_state), "--port", "0"],
        "fingerprint of another authority": [*wrong_pin, *join],
        "invitation used twice": [*join_line(used), *join],
        **{name: ["twinctl", "model", "push", str(path)] for name, path in spoilt.items()},
        "unknown model assigned": ["twinctl", "model", "assign", "north/tank-1", "two-tnks@1.0.0"],
        "unfit model assigned": ["twinctl", "model", "assign", "north/tank-1", "pump@1.0.0"],
        "model for an unknown twin": ["twinctl", "model", "assign", "north/tnk-1", "two-tanks@1.0.0"],
        "fault of an unknown device": ["twinsim", "fault", "T-99", "stuck", "--state", str(plant.devices_state)],
    }
    assert commands.keys() == REFUSALS.keys()
    plant.until(lambda: plant.twin("tank-1")["model"]["running"], "tank-1 runs a model")
    with ThreadPoolExecutor(3) as pool:
        done = dict(zip(commands, pool.map(lambda c: plant.call(*c), commands.values()), strict=True))
    assert not (folder / "join").exists()
    return done


def _validate(folder, name):
    old, new = CHANGES[name]
    assert old in SITE_FILE
    place = folder / name.replace(" ", "-")
    shutil.copytree(find_profiles(), place / "odd")
    tanks = place / "odd/hybridtwin/coupled-tanks/1.0.yaml"
    tanks.write_text(tanks.read_text().replace("unit: V", "unit: volts"))
    (place / "site.yaml").write_text(SITE_FILE.replace(old, new).replace("PROFILES", str(find_profiles())))
    return ["twinedge", "config", "validate", "--config", str(place / "site.yaml")]


@pytest.mark.parametrize("name", REFUSALS)
def test_a_wrong_command_ends_with_reason_code_and_hint(refusals, name):
    reason, code, part = REFUSALS[name]
    done = refusals[name]
    error, _, hint = done.stderr.partition("\nhint: ")
    assert (done.returncode, reason in error) == (code, True), done.stderr
    assert "Traceback" not in done.stderr
    assert part in hint, done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("path", "model", "reason"),
    [
        ("tank-1", "two-tanks@9.9.9", "UNKNOWN_MODEL"),
        ("tank-1", "exchanger@1.0.0", "MODEL_UNFIT"),
        ("tank-77", "two-tanks@1.0.0", "UNKNOWN_TWIN"),
    ],
)
def test_a_wrong_assignment_over_rest_is_a_problem_and_opens_nothing(plant, path, model, reason):
    before = len(plant.operator.call("GET", "directives", query={"target": path})["items"])
    with pytest.raises(TwinError, match=reason) as refused:
        plant.operator.call("PUT", f"sites/{SITE}/twins/{path}/model", body={"model": model})
    assert refused.value.reason == reason
    assert refused.value.hint
    assert len(plant.operator.call("GET", "directives", query={"target": path})["items"]) == before


def test_a_package_refused_over_rest_is_not_kept(plant, spoilt):
    before = [m["digest"] for m in plant.operator.pages("models")]
    for name, path in spoilt.items():
        with pytest.raises(TwinError, match=REFUSALS[name][0]):
            plant.operator.call("POST", "models", body=path.read_bytes())
    assert [m["digest"] for m in plant.operator.pages("models")] == before


def credentials(plant, state):
    identity = load_identity(state, plant.clock)
    return Credentials(identity.ca_pem, identity.cert_pem, identity.key_pem)


def hello(boot, schema, now_ns):
    boots = (Boot(boot, b"", 1, now_ns, ClockQuality.FREE),)
    return Hello(PROTOCOL, PROTOCOL, "raw", boots, (), now_ns, now_ns, ClockQuality.FREE, (), (schema,))


async def test_a_certificate_of_a_foreign_coordinator_does_not_get_in(plant, foreign):
    import grpc

    key = ec.generate_private_key(ec.SECP256R1())
    authority = Authority.load(foreign, plant.clock)
    leaf = authority.issue(GatewayKey(TENANT, SITE, "mixed"), signing_request(key))
    ours = credentials(plant, plant.gateways["mixed"].state)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    session = plant.status("mixed")["uplink"]["session"]
    async with open_channel(f"127.0.0.1:{plant.ports['sync-port']}", Credentials(ours.roots, leaf.chain_pem, pem)) as c:
        call = SyncStub(c).Session(timeout=20)
        with contextlib.suppress(grpc.aio.AioRpcError, grpc.aio.UsageError):
            await call.write(up_to_proto(hello(b"x" * 16, b"y" * 32, plant.clock.wall_ns())))
            assert await call.read() is grpc.aio.EOF
        assert await call.code() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNAUTHENTICATED}
    assert plant.status("mixed")["uplink"]["session"] == session


async def test_a_broken_block_becomes_a_dead_letter_and_its_stream_goes_on(plant):
    invited = plant.invite("raw")
    state = plant.root / "raw"
    run("join-raw", [*join_line(invited), "--state", str(state)], plant.logs)
    catalogue = Catalogue((Signal(0, "press.level", Kind.FLOAT, "m", Stream.STATE, exponent=3),))
    now_ns = plant.clock.wall_ns()
    boot = bytes(range(16))

    def item(first, *, broken):
        t_ns = np.arange(3, dtype=np.int64) * SECOND_NS + now_ns + first * SECOND_NS
        made = block.encode(
            [Batch.of(Kind.FLOAT, [0] * 3, [float(first + i) for i in range(3)], [0] * 3, t_ns.tolist())], catalogue
        )
        payload = bytes(made.payload)
        if broken:
            payload = payload[:-1] + bytes([payload[-1] ^ 0xFF])
        content = Block(catalogue.digest, made.crc32c, payload, int(t_ns[0]), int(t_ns[-1]))
        return Item(boot, Stream.STATE, first, first + 2, content)

    async with open_channel(f"127.0.0.1:{plant.ports['sync-port']}", credentials(plant, state)) as channel:
        call = SyncStub(channel).Session(timeout=60)

        async def await_down(kind):
            while True:
                down = down_from_proto(await call.read())
                if isinstance(down, kind):
                    return down

        await call.write(up_to_proto(hello(boot, catalogue.digest, now_ns)))
        welcome = await await_down(Welcome)
        await call.write(up_to_proto(catalogue))
        items = (item(0, broken=False), item(3, broken=True), item(6, broken=False))
        await call.write(up_to_proto(Items(welcome.session, items)))
        rejected, mark = [], 0
        while mark < 9:
            committed = await await_down(Committed)
            rejected += committed.rejected
            mark = max(m.next_seq for m in committed.marks)
        assert [(r.first_seq, r.reason) for r in rejected] == [(3, "BLOCK_CORRUPT")]
        call.cancel()
    letters = [one for one in plant.operator.pages("deadLetters") if one["gateway"] == "raw"]
    assert [(one["first_seq"], one["reason"]) for one in letters] == [(3, "BLOCK_CORRUPT")]
    values = [s["value"] for s in plant.operator.samples(SITE, "raw")]
    assert values == [0.0, 1.0, 2.0, 6.0, 7.0, 8.0]


def test_an_agent_whose_certificate_expired_reads_and_buffers_until_it_joins_anew(plant):
    made = plant.add("expired", ("T-4", "P-3"), expired=True)
    plant.until(lambda: "CERT_EXPIRED" in plant.status("expired")["degraded"], "the agent says CERT_EXPIRED")
    plant.until(lambda: plant.status("expired")["spool"]["backlog_samples"] > 40, "samples are buffered")
    status = plant.status("expired")
    assert status["gateway"] == f"{SITE}/expired"
    assert status["uplink"]["needs_operator"]
    assert status["uplink"]["last_error"].startswith("CERT_EXPIRED")
    assert all(device["connected"] for device in status["devices"])
    plant.join(made)
    made.program.stop()
    assert not made.program.running
    plant.run_agent("expired")
    plant.until(lambda: plant.connected("expired"), "the agent is let in with its new certificate")
    plant.until(lambda: plant.status("expired")["spool"]["backlog_samples"] < 50, "the backlog is sent")
    assert [i for i in plant.losses("expired") if i["kind"] == "GAP"] == []


def fill(file) -> None:
    """Writes until the disk is full."""
    with contextlib.suppress(OSError):
        while True:
            file.write(b"\0" * 4096)


@pytest.mark.skipif(not may_mount(), reason="NEEDS ROOT: a small file system cannot be mounted here")
def test_a_full_disk_keeps_samples_in_memory_and_heals_by_itself(plant):
    disk = plant.root / "small"
    plant.small_disk(disk, 24)
    plant.add("frail", ("T-5", "P-4"), state=disk / "state")
    plant.until(lambda: plant.connected("frail"), "the agent is connected")
    plant.until(lambda: plant.status("frail")["spool"]["commits"] > 2, "samples are stored")
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        fill(file)
        plant.until(lambda: "STORE_FULL" in plant.status("frail")["degraded"], "the agent says STORE_FULL")
    begun = plant.sample_numbers()["T-5"]
    plant.until(lambda: plant.sample_numbers()["T-5"] >= begun + 3, "devices are still polled")
    assert plant.status("frail")["lanes"]["samples"] > 0
    ballast.unlink()
    plant.until(lambda: not plant.status("frail")["degraded"], "the agent heals")
    plant.until(lambda: plant.status("frail")["spool"]["backlog_samples"] < 50, "the backlog is sent")
    assert plant.losses("frail") == []


def test_everything_else_ran_on(plant, refusals):
    for name in ("mixed", "far", "single"):
        status = plant.status(name)
        assert status["uplink"]["connected"], status
        assert status["degraded"] == []
        assert status["uplink"]["reconnects"] == 0
        assert all(device["connected"] for device in status["devices"]), status["devices"]
    assert plant.coordinator.running
