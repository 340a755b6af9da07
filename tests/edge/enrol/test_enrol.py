"""The identity of a gateway on its disk, and what `join` refuses before it says anything to anybody."""

from __future__ import annotations

import socket

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from tests.cloud.identity.test_ca import KEY, csr_of
from twincloud.identity.ca import Authority
from twinedge import enrol
from twinmodel.clock import SECOND_NS, ManualClock
from twinmodel.errors import TwinError

PIN = "0" * 64


def test_expired_or_foreign_identity_is_refused_by_the_agents_own_clock(tmp_path):
    clock = ManualClock()
    ca = Authority.create(tmp_path / "cloud", clock)
    key = ec.generate_private_key(ec.SECP256R1())
    leaf = ca.issue(KEY, csr_of(key), days=1)
    answer = {
        "tenant": "acme", "site": "north", "gateway": "gw-1", "sync_address": "h:1", "signers": {},
        "certificate_pem": leaf.chain_pem.decode(),
    }  # fmt: skip
    edge = tmp_path / "edge"
    with pytest.raises(TwinError, match="NOT_JOINED"):
        enrol.load_identity(edge, clock)
    _, files = enrol._unpack(answer, ca.root_pem, key, "https://h:1")
    enrol._replace_folder(edge, files)
    identity = enrol.load_identity(edge, clock)
    assert identity.not_after_ns == leaf.not_after_ns
    assert identity.enrol_url == "https://h:1"
    assert "PRIVATE" not in repr(identity)
    (edge / "identity").rename(edge / ".identity-old")
    assert enrol.load_identity(edge, clock).serial == leaf.serial  # a cut between two renames heals
    clock.advance(86_400 * SECOND_NS)
    with pytest.raises(TwinError, match="CERT_EXPIRED"):
        enrol.load_identity(edge, clock)
    assert enrol.load_identity(edge, clock, expired_too=True).gateway == "gw-1"  # its name outlives its certificate
    clock.jump_wall(-3_600 * SECOND_NS)
    enrol._replace_folder(edge, files | {"coordinator.json": files["coordinator.json"].replace(b"gw-1", b"gw-2")})
    with pytest.raises(TwinError, match="CERT_INVALID"):
        enrol.load_identity(edge, clock)
    other = ec.generate_private_key(ec.SECP256R1())
    enrol._replace_folder(edge, enrol._unpack(answer, ca.root_pem, other, "https://h:1")[1])
    with pytest.raises(TwinError, match="CERT_INVALID"):
        enrol.load_identity(edge, clock)
    (edge / "identity" / "key.pem").write_text("damaged")
    with pytest.raises(TwinError, match="STATE_INVALID"):
        enrol.load_identity(edge, clock)


@pytest.mark.parametrize(
    ("url", "pin"),
    [("http://h:8422", PIN), ("h:8422", PIN), ("https://h:port", PIN), ("", PIN), ("https://h", "abc")],
)
def test_malformed_join_line_is_refused_without_a_connection(tmp_path, url, pin):
    with pytest.raises(TwinError, match="REQUEST_INVALID"):
        enrol.join(url, "twi_x", pin, tmp_path, ManualClock())
    assert not list(tmp_path.iterdir())


def test_coordinator_that_is_not_there_is_unreachable(tmp_path):
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # bound, but it does not listen
        with pytest.raises(TwinError, match="COORDINATOR_UNREACHABLE"):
            enrol.join(f"https://127.0.0.1:{held.getsockname()[1]}", "twi_x", PIN, tmp_path, ManualClock())


@pytest.mark.parametrize(
    "wrong",
    [
        {"signers": None},
        {"signers": {"../../etc/x": "pem"}},
        {"signers": {str(n): "" for n in range(1_001)}},
        {"site": None},
    ],
)
def test_answer_that_lacks_or_bends_a_part_writes_nothing(wrong):
    answer = {"tenant": "a", "site": "b", "gateway": "c", "sync_address": "h:1", "signers": {}, "certificate_pem": ""}
    answer |= wrong
    answer = {name: value for name, value in answer.items() if value is not None}
    with pytest.raises(TwinError, match="COORDINATOR_UNREACHABLE"):
        enrol._unpack(answer, b"", ec.generate_private_key(ec.SECP256R1()), "https://h:1")


def test_folder_that_cannot_be_replaced_leaves_the_one_before_and_no_draft(tmp_path, monkeypatch):
    enrol._replace_folder(tmp_path, {"key.pem": b"old"})
    monkeypatch.setattr(enrol.os, "fsync", refuse)
    with pytest.raises(TwinError, match="STORE_READ_ONLY"):
        enrol._replace_folder(tmp_path, {"key.pem": b"new"})
    assert (tmp_path / "identity" / "key.pem").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["identity"]


def refuse(_handle):
    raise OSError(28, "No space left on device")
