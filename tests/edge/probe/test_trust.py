"""Certificates from a shell: listed, shown, accepted by their beginning, revoked again."""

from __future__ import annotations

import json
import re
import shlex
import ssl

import pytest
from click.testing import CliRunner

from twinedge.certificates import TrustStore, ensure_certificate
from twinedge.cli import cli
from twinedge.drivers.opcua_trust import check_server
from twinedge.probe import trust
from twinedge.probe.mqtt_connect import _as_options
from twinedge.refusals import hint_of
from twinmodel.errors import MissingError, UnreachableError


class BrokerRefusalError(Exception):
    """As a library tells it: with the broker's code."""

    def __init__(self, rc):
        super().__init__("refused")
        self.rc = rc


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """DER of a certificate that a server shows."""
    from twinmodel.clock import SystemClock

    path, _ = ensure_certificate(tmp_path_factory.mktemp("server"), SystemClock())
    return path.read_bytes()


@pytest.fixture
def state(tmp_path, server):
    TrustStore(tmp_path / "opcua").keep(server)
    return tmp_path


def run(state, *arguments):
    done = CliRunner().invoke(cli, ["trust", *arguments, "--state", str(state), "-o", "json"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_a_waiting_certificate_is_accepted_by_its_beginning_and_revoked_again(state):
    (waiting,) = run(state, "list")
    assert waiting["state"] == "waits"
    accepted = run(state, "accept", waiting["thumbprint"][:8].upper())
    assert accepted["state"] == "trusted"
    assert [r["state"] for r in run(state, "list")] == ["trusted"]
    assert run(state, "show", waiting["thumbprint"][:8])["subject"].startswith("CN=twinedge")
    revoked = run(state, "revoke", waiting["thumbprint"])
    assert revoked["state"] == "waits"
    assert not list((state / "opcua/trusted").iterdir())


def test_a_thumbprint_nobody_has_is_refused_with_the_way_to_the_list(state, clock):
    for act in (trust.accept, trust.revoke, trust.one):
        with pytest.raises(MissingError) as told:
            act(state, "ffff00", clock)
        assert "twinedge trust list" in told.value.hint


def commands_in(hint):
    """What stands in backticks, as a shell would take it apart."""
    return [shlex.split(code) for code in re.findall(r"`(twinedge [^`]*)`", hint)]


def test_hints_about_trust_run_as_they_are_printed(tmp_path, server, clock):
    state = tmp_path / "a state's place"
    with pytest.raises(MissingError) as unknown:
        trust.one(state, "ffff00", clock)
    store = TrustStore(state / "opcua")
    with pytest.raises(UnreachableError) as untrusted:
        check_server(server, pinned=None, store=store, host="10.0.0.9", clock=clock, device="press")
    for told in (unknown, untrusted):
        (command,) = commands_in(told.value.hint)
        done = CliRunner().invoke(cli, command[1:], catch_exceptions=False)
        assert done.exit_code == 0, done.output
    assert [known.trusted for known in store.list()] == [True]


def test_hints_of_a_broker_name_options_that_exist():
    options = {flag for one in cli.commands["probe"].commands["mqtt"].params for flag in one.opts}
    for refused in (ssl.SSLError("certificate verify failed"), BrokerRefusalError(5)):
        named = re.findall(r"--[\w-]+", _as_options(hint_of(refused)))
        assert named
        assert set(named) <= options


def test_our_own_certificate_is_made_once_and_shown_with_its_place(tmp_path, clock):
    first = trust.own(tmp_path, clock)
    again = trust.own(tmp_path, clock)
    assert first["made_now"]
    assert not again["made_now"]
    assert first["thumbprint"] == again["thumbprint"]
    assert again["path"] == str(tmp_path / "opcua/own.der")
    assert "application URI" in trust.described_text(again)


def test_a_certificate_that_cannot_be_read_is_described_as_that(clock):
    document = trust.described(b"nonsense", clock)
    assert "cannot be read" in document["problem"]
    assert document["thumbprint"] in trust.described_text(document)


def test_an_empty_store_is_an_empty_list(tmp_path):
    assert run(tmp_path, "list") == []
