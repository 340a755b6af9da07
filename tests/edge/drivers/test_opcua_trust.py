"""Certificates of OPC UA servers: who is trusted, until when and for which host."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from twinedge.drivers.opcua_trust import (
    TrustStore,
    check_server,
    days_left,
    ensure_certificate,
    first_certificate,
    thumbprint,
    uri_of,
)
from twinmodel.clock import SECOND_NS, ManualClock
from twinmodel.errors import REASONS, MissingError, UnreachableError

NOW = datetime(2026, 5, 1, tzinfo=UTC)
HOST = "10.0.0.9"


def name_of(text):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def issue(subject="press", *, issuer=None, host=HOST, begins=NOW - timedelta(days=10), days=365):
    """A certificate and its key; with `issuer` (such a pair) it is no authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    signer, signing = (issuer[0].subject, issuer[1]) if issuer else (name_of(subject), key)
    usage = dict.fromkeys(
        ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"), False
    )
    names = [x509.DNSName("press.local"), x509.IPAddress(ipaddress.ip_address(host))]
    made = (
        x509.CertificateBuilder()
        .subject_name(name_of(subject))
        .issuer_name(signer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(begins + timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(
            x509.KeyUsage(
                **usage, key_cert_sign=issuer is None, crl_sign=False, encipher_only=False, decipher_only=False
            ),
            critical=True,
        )
        .sign(signing, hashes.SHA256())
    )
    return made, key


def der(certificate):
    return certificate.public_bytes(serialization.Encoding.DER)


@pytest.fixture
def store(tmp_path):
    return TrustStore(tmp_path / "opcua")


@pytest.fixture
def check(store):
    def run(presented, *, pinned=None, host=HOST, wall=NOW):
        clock = ManualClock(wall_ns=int(wall.timestamp()) * SECOND_NS)
        check_server(presented, pinned=pinned, store=store, host=host, clock=clock, device="press")

    return run


def trust(store, certificate):
    store.trusted.mkdir(parents=True, exist_ok=True)
    (store.trusted / f"{thumbprint(der(certificate))}.der").write_bytes(der(certificate))


def refusal(check, *arguments, **keywords):
    with pytest.raises(UnreachableError) as caught:
        check(*arguments, **keywords)
    assert caught.value.hint != REASONS[caught.value.reason].hint  # says the step for this very certificate
    return caught.value


def test_certificate_nobody_accepted_waits_and_is_trusted_once_accepted(store, check):
    press, _ = issue()
    refused = refusal(check, der(press))
    print_ = thumbprint(der(press))
    assert refused.reason == "CERT_UNTRUSTED"
    assert refused.facts["thumbprint"] == print_
    assert print_ in refused.message
    (waiting,) = store.list()
    assert (waiting.thumbprint, waiting.trusted, waiting.name) == (print_, False, "press")
    assert waiting.hosts == ("press.local", HOST)
    accepted = store.accept(print_[:8].upper())
    assert accepted.trusted
    assert [known.trusted for known in store.list()] == [True]
    check(der(press))


def test_accepting_needs_one_waiting_certificate(store):
    with pytest.raises(MissingError, match="no certificate waits"):
        store.accept("abcd")
    with pytest.raises(MissingError):
        store.accept("")
    for _ in range(2):
        store.keep(der(issue()[0]))
    with pytest.raises(MissingError):
        store.accept("")


def test_another_certificate_than_the_pinned_one_is_refused(check, store, tmp_path):
    press, other = issue()[0], issue()[0]
    pinned = tmp_path / "press.pem"
    pinned.write_bytes(press.public_bytes(serialization.Encoding.PEM))
    check(der(press), pinned=pinned, host="anything")
    trust(store, other)
    refused = refusal(check, der(other), pinned=pinned)
    assert refused.reason == "CERT_UNTRUSTED"
    assert "differs from press.pem" in refused.message


@pytest.mark.parametrize("wall", [NOW - timedelta(days=30), NOW + timedelta(days=400)])
def test_certificate_out_of_its_time_is_refused_though_it_is_trusted(check, store, wall, tmp_path):
    press, _ = issue()
    trust(store, press)
    assert refusal(check, der(press), wall=wall).reason == "CERT_EXPIRED"
    pinned = tmp_path / "press.der"
    pinned.write_bytes(der(press))
    assert refusal(check, der(press), pinned=pinned, wall=wall).reason == "CERT_EXPIRED"


def test_gateway_whose_clock_was_never_set_does_not_judge_dates(check, store):
    press, _ = issue()
    trust(store, press)
    check(der(press), wall=datetime(1970, 1, 2, tzinfo=UTC))


def test_certificate_of_another_host_is_refused_unless_it_is_pinned(check, store):
    press, _ = issue()
    trust(store, press)
    check(der(press), host="PRESS.local")
    refused = refusal(check, der(press), host="10.0.0.10")
    assert refused.reason == "CERT_INVALID"
    assert "10.0.0.9, not for 10.0.0.10" in refused.message


def test_authority_in_the_store_vouches_for_its_servers_while_it_is_valid(check, store):
    authority = issue("plant CA", days=30)
    press, _ = issue(issuer=authority)
    assert refusal(check, der(press)).reason == "CERT_UNTRUSTED"
    trust(store, authority[0])
    check(der(press))
    stranger, _ = issue(issuer=issue("plant CA"))
    assert refusal(check, der(stranger)).reason == "CERT_UNTRUSTED"
    assert refusal(check, der(press), wall=NOW + timedelta(days=60)).reason == "CERT_UNTRUSTED"


def test_server_certificate_is_no_authority_for_others(check, store):
    authority = issue("plant CA")
    press = issue("press", issuer=authority)
    trust(store, press[0])
    forged, _ = issue("forged", issuer=press)
    assert refusal(check, der(forged)).reason == "CERT_UNTRUSTED"


@pytest.mark.parametrize("presented", [b"", b"\x30\x82", b"no certificate"])
def test_what_is_no_certificate_is_refused(check, presented):
    assert refusal(check, presented).reason == "CERT_INVALID"


def test_store_keeps_a_bounded_number_and_leaves_out_what_is_no_certificate(store):
    for number in range(70):
        store.keep(bytes([number]))
    assert len(list(store.pending.iterdir())) == 64
    assert store.list() == []


def test_own_certificate_names_its_application_and_lasts(tmp_path):
    clock = ManualClock(wall_ns=int(NOW.timestamp()) * SECOND_NS)
    certificate, key = ensure_certificate(tmp_path, clock)
    assert uri_of(certificate.read_bytes()).endswith(":hybridtwin:twinedge")
    assert days_left(certificate.read_bytes(), clock) == 3650
    assert key.stat().st_mode & 0o777 == 0o600
    assert ensure_certificate(tmp_path, clock) == (certificate, key)


def test_leaf_is_cut_from_a_chain():
    press, authority = der(issue()[0]), der(issue("CA")[0])
    assert first_certificate(press + authority) == press
    assert first_certificate(b"") == b""


def test_own_certificate_is_made_once(tmp_path, clock):
    first, _ = ensure_certificate(tmp_path, clock)
    content = first.read_bytes()
    assert ensure_certificate(tmp_path, clock)[0].read_bytes() == content
