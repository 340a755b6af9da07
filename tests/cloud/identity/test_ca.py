"""The authority: what its certificates say, and what it refuses to sign."""

from __future__ import annotations

import base64
import stat
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import PolicyBuilder, Store

from twincloud.identity.ca import Authority, gateway_of, uri_of
from twincloud.storage.contract import GatewayKey
from twinmodel.clock import SECOND_NS, ManualClock
from twinmodel.errors import TwinError
from twinsync.channel import peer_identity

KEY = GatewayKey("acme", "north", "gw-1")


@pytest.fixture
def clock():
    return ManualClock(1_700_000_000 * SECOND_NS)


@pytest.fixture
def ca(tmp_path, clock):
    return Authority.create(tmp_path, clock)


def csr_of(key, subject="anything", san: str = "") -> bytes:
    builder = x509.CertificateSigningRequestBuilder().subject_name(
        x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, subject)])
    )
    if san:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(san)]), False)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


def chain(pem: bytes) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates(pem)


def verify_server(ca, clock, chain_pem: bytes, name: str) -> None:
    from datetime import UTC, datetime

    leaf, *rest = chain(chain_pem)
    moment = datetime.fromtimestamp(clock.wall_ns() / SECOND_NS, UTC)
    verifier = PolicyBuilder().store(Store([ca.root])).time(moment).build_server_verifier(x509.DNSName(name))
    verifier.verify(leaf, rest)


def test_leaf_names_exactly_one_gateway_whatever_the_request_asked_for(ca):
    key = ec.generate_private_key(ec.SECP256R1())
    foreign = uri_of(GatewayKey("globex", "south", "gw-9"))
    issued = ca.issue(KEY, csr_of(key, "CN=admin", foreign))
    leaf, issuing = chain(issued.chain_pem)
    identity = peer_identity(issued.chain_pem)
    assert (identity.tenant, identity.site, identity.gateway) == ("acme", "north", "gw-1")
    assert identity.serial == issued.serial
    assert identity.until_ns == issued.not_after_ns
    assert leaf.public_key() == key.public_key()
    assert leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value == x509.ExtendedKeyUsage(
        [ExtendedKeyUsageOID.CLIENT_AUTH]
    )
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    leaf.verify_directly_issued_by(issuing)
    issuing.verify_directly_issued_by(ca.root)
    assert issuing.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length == 0


def test_leaf_lives_thirty_days_unless_told(ca, clock):
    key = ec.generate_private_key(ec.SECP256R1())
    for days, given in ((30, {}), (0.5, {"days": 0.5})):
        issued = ca.issue(KEY, csr_of(key), **given)
        assert issued.not_after_ns == clock.wall_ns() + round(days * 86_400) * SECOND_NS


def test_request_that_is_forged_weak_or_no_request_is_refused(ca):
    key = ec.generate_private_key(ec.SECP256R1())
    good = csr_of(key)
    body = bytearray(x509.load_pem_x509_csr(good).public_bytes(Encoding.DER))
    body[-1] ^= 1
    forged = x509.load_der_x509_csr(bytes(body)).public_bytes(Encoding.PEM)
    wrong = [forged, csr_of(ec.generate_private_key(ec.SECP384R1())), b"junk", good[:-40], good * 30]
    wrong.append(csr_of(rsa.generate_private_key(65537, 2048)))
    der = x509.load_pem_x509_csr(good).public_bytes(Encoding.DER)
    for known, strange in (
        (b"\x2a\x86\x48\xce\x3d\x02\x01", b"\x02\x7f"),
        (b"\x2a\x86\x48\xce\x3d\x03\x01\x07", b"\x01\x7f"),
    ):
        unheard = der.replace(known, known[:-2] + strange)
        assert unheard != der
        text = base64.encodebytes(unheard)
        wrong.append(b"-----BEGIN CERTIFICATE REQUEST-----\n" + text + b"-----END CERTIFICATE REQUEST-----\n")
    for csr in wrong:
        with pytest.raises(TwinError, match="REQUEST_INVALID"):
            ca.issue(KEY, csr)


def test_server_certificate_verifies_for_loopback_and_given_names_and_renews_itself(ca, clock):
    first, _ = ca.server_pair(["twins.example"])
    pem = first.read_bytes()
    for name in ("localhost", "twins.example"):
        verify_server(ca, clock, pem, name)
    with pytest.raises(x509.verification.VerificationError):
        verify_server(ca, clock, pem, "other.example")
    assert ca.server_names() == ("twins.example",)
    assert ca.server_pair(["twins.example"])[0].read_bytes() == pem
    clock.advance(int(timedelta(days=61).total_seconds()) * SECOND_NS)
    renewed = ca.server_pair(["twins.example"])[0].read_bytes()
    assert renewed != pem
    verify_server(ca, clock, renewed, "twins.example")
    added = ca.server_pair(["twins.example", "10.0.0.5"])[0].read_bytes()
    assert added != renewed
    assert set(ca.server_names()) == {"twins.example", "10.0.0.5"}


def test_gateway_leaf_does_not_pass_for_a_server(ca, clock):
    issued = ca.issue(GatewayKey("acme", "north", "localhost"), csr_of(ec.generate_private_key(ec.SECP256R1())))
    with pytest.raises(x509.verification.VerificationError):
        verify_server(ca, clock, issued.chain_pem, "localhost")


def test_authority_is_read_back_and_never_replaced(ca, tmp_path, clock):
    again = Authority.load(tmp_path, clock)
    assert again.fingerprint == ca.fingerprint
    assert len(ca.fingerprint) == 64
    with pytest.raises(TwinError, match="ALREADY_EXISTS"):
        Authority.create(tmp_path, clock)
    with pytest.raises(TwinError, match="NOT_INITIALISED"):
        Authority.load(tmp_path / "elsewhere", clock)
    (tmp_path / "identity" / "issuing.key").write_text("damaged")
    with pytest.raises(TwinError, match="STATE_INVALID"):
        Authority.load(tmp_path, clock)


def test_all_files_belong_to_their_owner_alone(ca, tmp_path):
    ca.server_pair()
    folder = tmp_path / "identity"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    files = sorted(folder.iterdir())
    assert {f.name for f in files} == {
        "issuing.key", "issuing.pem", "root.key", "root.pem", "server.key", "server.pem",
    }  # fmt: skip
    assert {stat.S_IMODE(f.stat().st_mode) for f in files} == {0o600}


@pytest.mark.parametrize("uri", ["spiffe://other/t/a/s/b/gw/c", "spiffe://hybridtwin/t/a/s/b/gw/", "https://x", ""])
def test_uri_of_anything_else_names_no_gateway(uri):
    assert gateway_of(uri_of(KEY)) == KEY
    with pytest.raises(TwinError, match="CERT_INVALID"):
        gateway_of(uri)
