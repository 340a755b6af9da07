"""A self-signed application certificate for the OPC UA server, made once per state directory."""

from __future__ import annotations

import datetime as dt
import ipaddress
import os
import socket
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from twinmodel.clock import SECOND_NS, Clock

CERTIFICATE_NAME = "opcua-certificate.der"
KEY_NAME = "opcua-key.pem"
VALID_DAYS = 3650


def application_certificate(state: Path, uri: str, clock: Clock) -> tuple[Path, Path]:
    """Paths of certificate (DER) and private key (PEM, mode 0600); made when one of them is missing.

    Args:
        state: the directory they lie in.
        uri: application URI, which OPC UA (Part 6, 6.2.2) demands as subject alternative name.
        clock: says when validity begins.
    """
    certificate_path, key_path = state / CERTIFICATE_NAME, state / KEY_NAME
    if certificate_path.exists() and key_path.exists():
        return certificate_path, key_path
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    now = dt.datetime.fromtimestamp(clock.wall_ns() // SECOND_NS, dt.UTC)
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, "twinsim"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "hybridtwin"),
        ]
    )
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
    names = [
        x509.UniformResourceIdentifier(uri),
        x509.DNSName("localhost"),
        x509.DNSName(socket.gethostname()),
        x509.IPAddress(ipaddress.IPv4Address("127.0.0.1")),
    ]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=VALID_DAYS))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    with os.fdopen(os.open(key_path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(pem)
    certificate_path.write_bytes(certificate.public_bytes(serialization.Encoding.DER))
    return certificate_path, key_path
