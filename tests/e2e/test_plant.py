"""One deployment, every fault: wrong input is refused by name while all else runs on, and in the end nothing is lost.

The tests share the deployment and run in this order; the last one ends it. Each of them can be run alone.
"""

from __future__ import annotations

import contextlib
import time
from concurrent.futures import ThreadPoolExecutor

import grpc.aio
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.e2e import raw
from tests.e2e.judge import check_swap, verdict
from tests.e2e.plant import SITE, TENANT, Plant, join_line, may_mount, signing_request
from tests.e2e.wrong import REFUSALS, commands, spoil
from twincloud.identity.ca import Authority
from twincloud.storage.contract import GatewayKey
from twinmodel.clock import SECOND_NS
from twinmodel.errors import TwinError
from twinsim.control import send_order
from twinsim.deployment.processes import rss_bytes
from twinsync.channel import Credentials, open_channel
from twinsync.envelope import up_to_proto
from twinsync.session.messages import Committed, Items, Welcome
from twinsync.v1.sync_pb2_grpc import SyncStub

pytestmark = [pytest.mark.e2e, pytest.mark.service("mosquitto"), pytest.mark.timeout(300)]

CUT_S = 30.0
SETTLE_S = 20.0
RSS_MIB_MAX = 300


@pytest.fixture(scope="module")
def foreign(plant):
    """State of a coordinator that is none of ours."""
    state = plant.root / "foreign"
    plant.run("twincloud", "init", "--state", str(state))
    return state


@pytest.fixture(scope="module")
def spoilt(plant, tmp_path_factory):
    return spoil(plant, tmp_path_factory.mktemp("spoilt"))


@pytest.fixture(scope="module")
def refusals(plant, foreign, spoilt, tmp_path_factory):
    """All wrong commands, run beside each other: name -> finished process."""
    folder = tmp_path_factory.mktemp("wrong")
    wrong = commands(plant, foreign, spoilt, folder)
    plant.until(lambda: plant.twin("tank-1")["model"]["running"], "tank-1 runs a model")
    with ThreadPoolExecutor(3) as pool:
        done = dict(zip(wrong, pool.map(lambda c: plant.call(*c), wrong.values()), strict=True))
    assert not (folder / "join").exists()
    return done


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


async def test_a_certificate_of_a_foreign_coordinator_does_not_get_in(plant, foreign):
    key = ec.generate_private_key(ec.SECP256R1())
    authority = Authority.load(foreign, plant.clock)
    leaf = authority.issue(GatewayKey(TENANT, SITE, "mixed"), signing_request(key))
    ours = raw.credentials(plant, plant.gateways["mixed"].state)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    session = plant.status("mixed")["uplink"]["session"]
    async with open_channel(f"127.0.0.1:{plant.ports['sync-port']}", Credentials(ours.roots, leaf.chain_pem, pem)) as c:
        call = SyncStub(c).Session(timeout=20)
        with contextlib.suppress(grpc.aio.AioRpcError, grpc.aio.UsageError):
            await call.write(up_to_proto(raw.hello(plant.clock.wall_ns())))
            assert await call.read() is grpc.aio.EOF
        assert await call.code() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNAUTHENTICATED}
    assert plant.status("mixed")["uplink"]["session"] == session


async def test_a_broken_block_becomes_a_dead_letter_and_its_stream_goes_on(plant):
    state, now_ns = plant.root / "raw", plant.clock.wall_ns()
    plant.run(*join_line(plant.invite("raw")), "--state", str(state))
    ours = raw.credentials(plant, state)
    async with open_channel(f"127.0.0.1:{plant.ports['sync-port']}", ours) as channel:
        call = SyncStub(channel).Session(timeout=60)
        await call.write(up_to_proto(raw.hello(now_ns)))
        welcome = await raw.next_of(call, Welcome)
        await call.write(up_to_proto(raw.CATALOGUE))
        items = tuple(raw.item(first, now_ns, broken=first == 3) for first in (0, 3, 6))
        await call.write(up_to_proto(Items(welcome.session, items)))
        rejected, mark = [], 0
        while mark < 9:
            committed = await raw.next_of(call, Committed)
            rejected += committed.rejected
            mark = max(m.next_seq for m in committed.marks)
        assert [(r.first_seq, r.reason) for r in rejected] == [(3, "BLOCK_CORRUPT")]
        call.cancel()
    letters = [one for one in plant.operator.pages("deadLetters") if one["gateway"] == "raw"]
    assert [(one["first_seq"], one["reason"]) for one in letters] == [(3, "BLOCK_CORRUPT")]
    values = [sample["value"] for sample in plant.operator.samples(SITE, "raw")]
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
        plant.until(lambda n=name: plant.connected(n), f"{name} is connected")
        status = plant.status(name)
        assert status["degraded"] == []
        assert all(device["connected"] for device in status["devices"]), status["devices"]
    assert plant.coordinator.running


def test_agents_and_coordinator_stay_within_their_memory(plant, record_property):
    programs = {
        "agent_one_protocol": plant.gateways["single"].program,
        "agent_three_protocols": plant.gateways["mixed"].program,
        "coordinator": plant.coordinator,
    }
    plant.until(lambda: plant.twin("tank-1")["model"]["running"], "models run")
    time.sleep(max(0.0, SETTLE_S - (time.monotonic() - plant.up_since)))
    figures = {name: rss_bytes(program.pid) / 2**20 for name, program in programs.items()}
    for name, mebibytes in figures.items():
        record_property(f"rss_mib_{name}", round(mebibytes, 1))
    assert all(0 < mebibytes < RSS_MIB_MAX for mebibytes in figures.values()), figures


def directive(plant: Plant, opened):
    found = plant.operator.call("GET", "directives", query={"target": opened["target"]})["items"]
    return next(d for d in found if d["id"] == opened["id"])


def assign(plant: Plant, twin: str):
    return plant.operator.call("PUT", f"sites/{SITE}/twins/{twin}/model", body={"model": "two-tanks@1.1.0"})


def runs_next(plant: Plant, twin: str) -> bool:
    model = plant.twin(twin)["model"]
    return model["running"] == "two-tanks@1.1.0" and model["running_digest"] == digest_of(plant)


def digest_of(plant: Plant) -> str:
    models = plant.operator.pages("models")
    return next(m["digest"] for m in models if (m["name"], m["version"]) == ("two-tanks", "1.1.0"))


def ticks(plant: Plant, gateway: str, twin: str) -> int:
    return next(t["steps"] for t in plant.status(gateway)["twins"] if t["twin"] == twin)


def kill_agent_and_start_it_again(plant: Plant) -> None:
    plant.kill_agent("mixed")
    begun = plant.sample_numbers()["P-1"]
    # The broker keeps these for the session that is away.
    plant.until(lambda: plant.sample_numbers()["P-1"] >= begun + 5, "the pump goes on while its gateway is dead")
    plant.run_agent("mixed")


def kill_coordinator_and_start_it_again(plant: Plant) -> None:
    plant.coordinator.kill()
    plant.until(lambda: not plant.connected("mixed"), "the agent notices")
    plant.until(lambda: plant.status("mixed")["spool"]["backlog_samples"] > 40, "the agent buffers")
    plant.start_coordinator()


def test_nothing_is_lost_or_stored_twice_under_kills_a_cut_and_a_swap(plant, record_property):
    for name in ("mixed", "far", "single"):
        plant.until(lambda n=name: plant.connected(n), f"{name} is connected")
    for twin in ("tank-1", "tank-2"):
        plant.until(lambda t=twin: plant.twin(t)["model"]["running"], f"{twin} runs a model")
    plant.until(lambda: min(ticks(plant, "mixed", "tank-1"), ticks(plant, "far", "tank-2")) > 8, "estimates settle")

    near = assign(plant, "tank-1")
    plant.until(lambda: directive(plant, near)["outcome"], "the model is swapped under load")
    assert directive(plant, near)["outcome"] == "APPLIED", directive(plant, near)
    plant.until(lambda: runs_next(plant, "tank-1"), "the coordinator sees what runs")
    swapped = ticks(plant, "mixed", "tank-1")
    plant.until(lambda: ticks(plant, "mixed", "tank-1") > swapped + 5, "estimates go on")

    cut_ns = plant.clock.boot_ns()
    send_order(plant.link_state, {"do": "fault", "target": "wan", "kind": "cut"})
    plant.until(lambda: not plant.connected("far"), "the cut is noticed")
    away = assign(plant, "tank-2")
    kill_agent_and_start_it_again(plant)
    plant.until(lambda: plant.connected("mixed"), "the killed agent is back")
    kill_coordinator_and_start_it_again(plant)
    plant.until(lambda: plant.connected("mixed"), "the agents find the restarted coordinator")
    plant.until(lambda: runs_next(plant, "tank-1"), "the swapped model survived the kill")
    assert not plant.connected("far")
    assert directive(plant, away)["outcome"] == ""
    plant.until(lambda: plant.clock.boot_ns() - cut_ns >= CUT_S * SECOND_NS, "the cut lasts")
    assert not plant.connected("far")
    assert plant.status("far")["spool"]["backlog_samples"] > 0
    send_order(plant.link_state, {"do": "clear", "target": "wan"})
    plant.until(lambda: plant.connected("far"), "the link is back")
    plant.until(lambda: directive(plant, away)["outcome"], "the model waits out the cut")
    assert directive(plant, away)["outcome"] == "APPLIED", directive(plant, away)
    plant.until(lambda: runs_next(plant, "tank-2"), "the coordinator sees what runs there")
    swapped = ticks(plant, "far", "tank-2")
    plant.until(lambda: ticks(plant, "far", "tank-2") > swapped + 5, "estimates go on there")

    quiet_ns = plant.clock.wall_ns()
    plant.drain()
    verdict(plant, record_property)
    check_swap(plant, "tank-1", directive(plant, near)["ended"], plant.kills["mixed"][0])
    check_swap(plant, "tank-2", directive(plant, away)["ended"], quiet_ns)
