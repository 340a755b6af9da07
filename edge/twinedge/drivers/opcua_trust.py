"""Who an OPC UA client and server are to each other: our own certificate, and the servers a person has trusted."""

from __future__ import annotations

import hashlib
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from twinmodel.clock import SECOND_NS, Clock
from twinmodel.errors import UnreachableError
from twinmodel.files import write_durably

KEY_BITS = 2048
VALID_DAYS = 3650
PENDING_MAX = 64


def application_uri() -> str:
    """URI by which servers know this gateway; it stands in the certificate as well, servers compare both."""
    return f"urn:{socket.gethostname()}:hybridtwin:twinedge"


def ensure_certificate(state_dir: Path, clock: Clock) -> tuple[Path, Path]:
    """Our application certificate (DER) and its key (PEM, readable by the owner only), made when missing."""
    folder = state_dir / "opcua"
    certificate, key = folder / "own.der", folder / "own.pem"
    if certificate.is_file() and key.is_file():
        return certificate, key
    folder.mkdir(parents=True, exist_ok=True)
    secret = rsa.generate_private_key(65537, KEY_BITS)
    written = secret.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    write_durably(key, written)
    write_durably(certificate, _self_signed(secret, clock).public_bytes(serialization.Encoding.DER))
    return certificate, key


def _self_signed(secret: rsa.RSAPrivateKey, clock: Clock) -> x509.Certificate:
    """The profile of OPC UA Part 6, 6.2.2: application URI, DNS name, key usages of a client."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"twinedge on {socket.gethostname()}"[:64])])
    now = datetime.fromtimestamp(clock.wall_ns() // SECOND_NS, UTC)
    alternative = [x509.UniformResourceIdentifier(application_uri()), x509.DNSName(socket.gethostname())]
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=True,
        key_encipherment=True,
        data_encipherment=True,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(secret.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=VALID_DAYS))
        .add_extension(x509.SubjectAlternativeName(alternative), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .sign(secret, hashes.SHA256())
    )


def thumbprint(der: bytes) -> str:
    """SHA-1 of a certificate in hexadecimal, as OPC UA tools show it."""
    return hashlib.sha1(der, usedforsecurity=False).hexdigest()


def read_certificate(path: Path) -> bytes:
    """A certificate file, PEM or DER, as DER. Raises UnreachableError DEVICE_REFUSED when it is neither."""
    raw = path.read_bytes()
    try:
        parsed = x509.load_pem_x509_certificate(raw) if b"-----BEGIN" in raw else x509.load_der_x509_certificate(raw)
    except ValueError as wrong:
        raise UnreachableError("DEVICE_REFUSED", f"{path} holds no certificate", path=str(path)) from wrong
    return parsed.public_bytes(serialization.Encoding.DER)


def first_certificate(chain: bytes) -> bytes:
    """The leaf of a chain of concatenated DER certificates, the form in which servers present theirs."""
    if len(chain) < 4 or chain[:2] != b"\x30\x82":
        return chain
    return chain[: int.from_bytes(chain[2:4], "big") + 4]


def check_server(presented: bytes, trusted: Path | None, pending: Path, device: str) -> None:
    """Passes when the server presents the very certificate that site.yaml trusts.

    Else the presented one is kept below `pending`, for a person to look at, and the error names its thumbprint.

    Raises:
        UnreachableError: DEVICE_REFUSED, with `thumbprint` and the step to take.
    """
    if trusted is not None and read_certificate(trusted) == presented:
        return
    pending.mkdir(parents=True, exist_ok=True)
    kept = pending / f"{thumbprint(presented)}.der"
    if not kept.exists() and len(list(pending.iterdir())) < PENDING_MAX:
        write_durably(kept, presented)
    why = f"differs from {trusted.name}" if trusted is not None else "is not trusted yet"
    step = f"if that is the thumbprint the server shows, set security.server_certificate to {kept}"
    raise UnreachableError(
        "DEVICE_REFUSED",
        f"{device}: the server's certificate {thumbprint(presented)} {why}",
        hint=step,
        thumbprint=thumbprint(presented),
        path=str(kept),
    )
