"""`twinedge probe opcua`, `browse opcua`, `trust` and `test` against one simulated server."""

from __future__ import annotations

import asyncio

import pytest
import pytest_asyncio
from asyncua.ua.uaerrors import BadCertificateUntrusted, BadIdentityTokenRejected

from tests.ports import free_port
from twinedge.certificates import TrustStore
from twinedge.config.load import load_site
from twinedge.drivers.opcua_browse import BrowseLimits
from twinedge.probe import browsing, opcua, trust
from twinedge.probe.browse_opcua import draft_of, tree_text
from twinedge.probe.draft import write_draft
from twinedge.probe.opcua import Wanted, probe_opcua
from twinedge.probe.opcua_text import opcua_text
from twinedge.probe.trial import trial
from twinedge.probe.trial_text import trial_text
from twinmodel.clock import SystemClock
from twinmodel.errors import InputError, MissingError, UnreachableError
from twinmodel.profile.load import load_profile
from twinsim.device import Device
from twinsim.firmware import KINDS
from twinsim.serve.opcua import serve_opcua
from twinsim.served import ServedLog

# One event loop and one server for the whole file: an asyncua server takes three seconds to start.
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def url(tmp_path_factory):
    state, clock = tmp_path_factory.mktemp("server"), SystemClock()
    devices = [Device(KINDS["opcua"], number, 1) for number in (1, 2)]
    for device in devices:
        device.tick(1.0, clock.wall_ns())
    log = ServedLog(state)
    async with serve_opcua(devices, log, clock, state=state) as (_, port):
        yield f"opc.tcp://127.0.0.1:{port}"
    log.close()


@pytest.fixture(scope="module")
def state(tmp_path_factory):
    """One state for the file: making a key takes a second."""
    made = tmp_path_factory.mktemp("state")
    trust.own(made, SystemClock())
    return made


@pytest.fixture
def fresh(state):
    """The state with nobody trusted."""
    for folder in (TrustStore(state / "opcua").trusted, TrustStore(state / "opcua").pending):
        for path in folder.glob("*"):
            path.unlink()
    return state


@pytest.fixture
def probe(clock, fresh):
    async def run(place, **wanted):
        return await probe_opcua(place, Wanted(**wanted), state=fresh, clock=clock, profiles=None)

    return run


async def test_a_server_nobody_trusts_yet_is_shown_whole_with_the_step_here(probe, url):
    document, problem = await probe(url)
    assert problem.reason == "CERT_UNTRUSTED"
    (certificate,) = document["certificates"]
    assert certificate["thumbprint"] in problem.message
    assert f"twinedge trust accept {certificate['thumbprint'][:8]}" in problem.hint
    assert document["connected"]
    assert document["own"]["thumbprint"] in opcua_text(document)


async def test_once_accepted_the_probe_is_content_and_names_the_profile_with_its_roots(probe, url, fresh, clock):
    document, _ = await probe(url)
    trust.accept(fresh, document["certificates"][0]["thumbprint"][:6].upper(), clock)
    document, problem = await probe(url)
    assert problem is None
    assert document["certificates"][0]["trusted"]
    assert document["tried"]["mode"] == "sign_and_encrypt"
    assert [(m["profile"], m["root"], m["sure"]) for m in document["profiles"]] == [
        ("hybridtwin/heat-exchanger/1.0", "HX-1", True),
        ("hybridtwin/heat-exchanger/1.0", "HX-2", True),
    ]
    assert document["limits"]
    assert abs(document["clock_offset_s"]) < 60
    text = opcua_text(document)
    assert "urn:hybridtwin:plants" in text
    assert "of our" not in text


async def test_a_server_that_does_not_trust_us_is_told_by_our_thumbprint_path_and_the_step_there(
    probe, url, fresh, clock, monkeypatch
):
    async def refuse(_self):
        raise BadCertificateUntrusted

    monkeypatch.setattr("asyncua.client.client.Client.create_session", refuse)
    document, problem = await probe(url)
    own = trust.own(fresh, clock)
    assert not document["connected"]
    assert own["thumbprint"] in problem.message
    assert own["path"] in problem.hint
    assert "on the server: move" in problem.hint
    assert "twinedge trust accept" in problem.hint
    assert "was refused" in opcua_text(document)


async def test_a_server_that_wants_a_user_says_so_and_none_is_tried(probe, url, monkeypatch):
    async def refuse(*_, **__):
        raise BadIdentityTokenRejected

    monkeypatch.setattr("asyncua.client.client.Client.activate_session", refuse)
    _, problem = await probe(url, policy="None")
    assert problem.reason == "DEVICE_REFUSED"
    assert "anonymous users" in problem.message
    assert "--user" in problem.hint


async def test_a_user_is_not_told_to_a_server_that_is_not_trusted(probe, url, monkeypatch, tmp_path):
    async def never(*_, **__):
        raise AssertionError("a session was asked for")

    monkeypatch.setattr("asyncua.client.client.Client.connect", never)
    secret = tmp_path / "secret"
    secret.write_text("s")
    document, problem = await probe(url, user="bob", password_file=secret)
    assert problem.reason == "CERT_UNTRUSTED"
    assert not document["connected"]


async def test_nobody_and_no_server_are_told_apart(probe):
    with pytest.raises(UnreachableError, match="nothing listens"):
        await probe(f"opc.tcp://127.0.0.1:{free_port()}")

    def hang_up(_reader, writer):
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    try:
        with pytest.raises(UnreachableError) as told:
            await probe(f"opc.tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    finally:
        server.close()
    assert told.value.reason == "DEVICE_UNREACHABLE"


async def test_a_policy_and_a_mode_that_do_not_fit_are_refused(probe, url):
    with pytest.raises(InputError, match="do not fit"):
        await probe(url, policy="None", mode="sign")


async def test_the_tree_has_units_values_and_access_and_its_draft_loads(url, fresh, clock, tmp_path):
    document = await browsing.opcua(
        url, Wanted("None", "none"), path="HX-1", limits=BrowseLimits(within_s=50.0), config=tmp_path / "no.yaml",
        state=fresh, clock=clock,
    )  # fmt: skip
    assert document["complete"]
    hot = next(n for n in document["nodes"] if n["at"] == "HotInlet")
    assert (hot["type"], hot["symbol"], hot["access"], hot["range"]) == ("Double", "degC", "r", [0.0, 120.0])
    assert "HotInlet" in tree_text(document)
    path = tmp_path / "hx.yaml"
    write_draft(draft_of(document), path)
    profile = load_profile(path)
    assert profile.namespace == "urn:hybridtwin:plants"
    assert {p.at for p in profile.points.values()} >= {"HotInlet", "SampleNumber", "Running"}
    assert profile.points["hot_inlet"].unit == "degC"


async def test_browsing_is_bounded_and_a_wrong_path_is_named(url, fresh, clock, tmp_path):
    config = tmp_path / "no.yaml"
    document = await browsing.opcua(
        url, Wanted("None", "none"), path="", limits=BrowseLimits(nodes=3), config=config, state=fresh, clock=clock
    )
    assert not document["complete"]
    with pytest.raises(MissingError, match="no 'HX-9'"):
        await browsing.opcua(
            url, Wanted("None", "none"), path="HX-9", limits=BrowseLimits(), config=config, state=fresh, clock=clock
        )


async def test_the_trial_reads_every_point_once_and_names_who_is_not_trusted(url, fresh, clock, tmp_path):
    site = tmp_path / "site.yaml"
    security = "security: {policy: Basic256Sha256, mode: sign_and_encrypt}"
    site.write_text(
        f"site: s\ndevices:\n  hx: {{opcua: '{url}', root: HX-1, profile: hybridtwin/heat-exchanger, {security}}}\n"
    )
    loaded = load_site(site)
    document = await trial(loaded, [], state=fresh, clock=clock, within_s=50.0)
    assert not document["ok"]
    assert "is not trusted yet" in document["devices"][0]["error"]
    (waiting,) = trust.listed(fresh, clock)
    trust.accept(fresh, waiting["thumbprint"], clock)
    document = await trial(loaded, ["hx"], state=fresh, clock=clock, within_s=50.0)
    assert document["ok"], trial_text(document)
    assert {p["quality"] for p in document["devices"][0]["points"]} == {"good"}


async def test_a_certificate_that_does_not_fit_is_told_once_with_whom_it_was_kept_from(tmp_path):
    facts = {"thumbprint": "ab" * 20}
    seen = UnreachableError("CERT_INVALID", "it is for localhost", hint="pin it", **facts)
    held_back = UnreachableError(
        "CERT_INVALID", "it is for localhost; the user plc was not told to it", hint="pin it", **facts
    )
    told = opcua._both(seen, held_back, tmp_path)
    assert (told.reason, told.message, told.hint) == ("CERT_INVALID", held_back.message, "pin it")
