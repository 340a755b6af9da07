"""Names in certificates."""

from __future__ import annotations

import pytest
from cryptography import x509

from tests.cloud.ingest.memory import Authority
from twinmodel.errors import ConflictError, DeniedError
from twinsync.channel import Credentials, peer_identity, valid_until_ns
from twinsync.identity import gateway_uri

AUTHORITY = Authority()


def leaf(*uris: str) -> bytes:
    return AUTHORITY.issue([x509.DNSName("x"), *map(x509.UniformResourceIdentifier, uris)]).chain


def test_a_gateway_is_named_by_the_one_uri_of_its_certificate():
    pem = leaf("spiffe://hybridtwin/t/acme/s/plant-a/gw/gw_1")
    found = peer_identity(pem)
    certificate = x509.load_pem_x509_certificate(pem)
    assert (found.tenant, found.site, found.gateway) == ("acme", "plant-a", "gw_1")
    assert found.serial == f"{certificate.serial_number:x}"
    assert found.until_ns == valid_until_ns(pem)
    assert found.until_ns == int(certificate.not_valid_after_utc.timestamp()) * 10**9


@pytest.mark.parametrize(
    "uris",
    [
        (),
        ("spiffe://hybridtwin/t/acme/s/plant-a/gw/gw-1", "spiffe://hybridtwin/t/acme/s/plant-a/gw/gw-2"),
        ("spiffe://other/t/acme/s/plant-a/gw/gw-1",),
        ("spiffe://hybridtwin/t/acme/gw/gw-1",),
        ("spiffe://hybridtwin/t/acme/s/plant-a/gw/",),
        ("spiffe://hybridtwin/t/acme/s/plant-a/gw/gw-1/",),
        ("spiffe://hybridtwin/t/a..b/s/plant-a/gw/gw-1",),
        ("spiffe://hybridtwin/t/acme/s/plant-a/gw/gw-1\n",),
    ],
)
def test_any_other_set_of_names_is_refused(uris):
    with pytest.raises(DeniedError) as caught:
        peer_identity(leaf(*uris))
    assert caught.value.reason == "CERT_INVALID"


def test_what_is_no_certificate_is_refused():
    for call in (peer_identity, valid_until_ns):
        with pytest.raises(DeniedError, match="CERT_INVALID"):
            call(b"no certificate")


def test_a_name_that_could_be_read_otherwise_is_not_issued():
    assert gateway_uri("acme", "a", "g") == "spiffe://hybridtwin/t/acme/s/a/gw/g"
    with pytest.raises(DeniedError):
        gateway_uri("acme/s/b", "a", "g")


def test_credentials_never_show_their_key_and_name_the_missing_file(tmp_path):
    assert "BEGIN" not in repr(AUTHORITY.server())
    with pytest.raises(ConflictError, match="NOT_JOINED"):
        Credentials.read(tmp_path / "ca.pem", tmp_path / "c.pem", tmp_path / "k.pem")
