"""Who may trade an old certificate for a new one: whoever holds its key, while nobody has shut the gateway out.

    old certificate ─ ours? ─▶ signature of its key ─▶ fresh? ─▶ not revoked ─▶ within the grace ─▶ gateway not shut out

The identity of the new certificate is that of the old one; of the signing request only the key is used.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from twincloud.identity.ca import Authority, check_csr, gateway_of
from twincloud.identity.ledger import Ledger
from twincloud.storage.contract import GatewayKey, Store
from twinmodel.clock import SECOND_NS
from twinmodel.errors import ConflictError, DeniedError
from twinsync.renewal import renewal_bytes

FRESH_NS = 600 * SECOND_NS
DAY_NS = 86_400 * SECOND_NS


@dataclass(frozen=True, slots=True)
class Renewal:
    """What a gateway sends.

    Attributes:
        certificate_pem: its certificate, expired or not; what follows the first one is not looked at.
        csr_pem: signing request of its new key.
        t_ns: its wall time.
        signature: base64 of ECDSA-SHA256 by the old key over `renewal_bytes`.
    """

    certificate_pem: bytes
    csr_pem: bytes
    t_ns: int
    signature: str


def check_renewal(
    asked: Renewal, *, ca: Authority, ledger: Ledger, store: Store, now_ns: int, grace_days: float
) -> GatewayKey:
    """The gateway a renewal is for.

    Raises:
        InputError: REQUEST_INVALID for a signing request that is malformed, unsigned or not on P-256.
        DeniedError: CERT_INVALID, CERT_EXPIRED beyond the grace, SUSPENDED.
        ConflictError: IDENTITY_FORK.
        MissingError: UNKNOWN_GATEWAY.
    """
    check_csr(asked.csr_pem)
    certificate = _certificate_of_ours(asked.certificate_pem, ca)
    gateway = _named_gateway(certificate)
    _check_signature(asked, certificate)
    if abs(asked.t_ns - now_ns) > FRESH_NS:
        raise DeniedError(
            "CERT_INVALID",
            f"the request is of another time, {(asked.t_ns - now_ns) / SECOND_NS:+.0f} s from the coordinator's",
            hint="set the clock of the gateway; it asks again by itself",
        )
    if ledger.is_revoked(certificate.serial_number):
        raise DeniedError("CERT_INVALID", f"certificate {certificate.serial_number:x} was revoked")
    until = certificate.not_valid_after_utc
    if now_ns - int(until.timestamp()) * SECOND_NS > grace_days * DAY_NS:
        raise DeniedError(
            "CERT_EXPIRED", f"the certificate expired at {until:%Y-%m-%d %H:%M:%S} UTC, over {grace_days:g} days ago"
        )
    _check_state(store, gateway)
    return gateway


def _certificate_of_ours(pem: bytes, ca: Authority) -> x509.Certificate:
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        certificate.verify_directly_issued_by(ca.issuing.certificate)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm) as error:
        raise DeniedError("CERT_INVALID", "the certificate is not of this coordinator's authority") from error
    return certificate


def _named_gateway(certificate: x509.Certificate) -> GatewayKey:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except (x509.ExtensionNotFound, ValueError) as error:
        raise DeniedError("CERT_INVALID", "the certificate is not of a gateway") from error
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    if len(uris) != 1 or len(list(names)) != 1 or ExtendedKeyUsageOID.CLIENT_AUTH not in usage:
        raise DeniedError("CERT_INVALID", "the certificate is not of a gateway")
    return gateway_of(uris[0])


def _check_signature(asked: Renewal, certificate: x509.Certificate) -> None:
    public = certificate.public_key()
    csr = x509.load_pem_x509_csr(asked.csr_pem)
    signed = renewal_bytes(certificate.public_bytes(Encoding.DER), csr.public_bytes(Encoding.DER), asked.t_ns)
    assert isinstance(public, ec.EllipticCurvePublicKey), "the authority signs no other keys"
    try:
        public.verify(base64.b64decode(asked.signature, validate=True), signed, ec.ECDSA(hashes.SHA256()))
    except (InvalidSignature, binascii.Error) as error:
        raise DeniedError("CERT_INVALID", "the request is not signed by the key of the certificate") from error


def _check_state(store: Store, gateway: GatewayKey) -> None:
    state = store.gateway(gateway).state
    if state == "suspended":
        raise DeniedError("SUSPENDED", f"gateway {gateway.gateway!r} is suspended")
    if state == "forked":
        raise ConflictError("IDENTITY_FORK", f"gateway {gateway.gateway!r} has a twin of the same identity")
