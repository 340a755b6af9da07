"""Certificates from a shell: listed, shown, accepted by their beginning, revoked again."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from twinedge.certificates import TrustStore, ensure_certificate
from twinedge.cli import cli
from twinedge.probe import trust
from twinmodel.errors import MissingError


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
