"""The coordinator's own certificate authority: root, issuing, the server's leaf and the gateways' leaves.

    root (20 years; its SHA-256 stands in every join line)
     └─ issuing (10 years, may sign leaves alone)
         ├─ server    TLS server of gRPC and enrolment; renewed by itself after two thirds of its life
         └─ gateway   TLS client, exactly one URI: spiffe://hybridtwin/t/<tenant>/s/<site>/gw/<gateway>

All keys are ECDSA P-256. The root key signs nothing but the issuing certificate and may be moved to a safe place.
"""

from __future__ import annotations

import ipaddress
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from twincloud.identity.files import make_directory
from twincloud.storage.contract import GatewayKey
from twinmodel.clock import SECOND_NS, Clock
from twinmodel.errors import ConflictError, InputError, StorageError
from twinmodel.files import write_durably
from twinsync.identity import gateway_uri, names_of

ROOT_DAYS = 20 * 365
ISSUING_DAYS = 10 * 365
SERVER_DAYS = 90
LEAF_DAYS = 30.0
SKEW = timedelta(minutes=5)
CSR_BYTES_MAX = 8_192
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")


def uri_of(gateway: GatewayKey) -> str:
    """The identity of a gateway as its certificate carries it; raises CERT_INVALID for what is no plain name."""
    return gateway_uri(gateway.tenant, gateway.site, gateway.gateway)


def gateway_of(uri: str) -> GatewayKey:
    """The gateway a URI names; raises CERT_INVALID for any other URI."""
    return GatewayKey(*names_of(uri))


@dataclass(frozen=True, slots=True)
class Leaf:
    """A certificate issued to a gateway.

    Attributes:
        chain_pem: the leaf and the issuing certificate.
        serial: hex, lower case.
        uri: the identity in it.
        not_after_ns: end of its life.
    """

    chain_pem: bytes
    serial: str
    uri: str
    not_after_ns: int


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


class Authority:
    """The authority of one state directory.

    Attributes:
        directory: `state_dir/identity`.
        root: the root certificate.
        issuing: the issuing certificate and its key.
    """

    def __init__(self, directory: Path, root: x509.Certificate, issuing: Pair, clock: Clock) -> None:
        self.directory = directory
        self.root = root
        self.issuing = issuing
        self._clock = clock

    @staticmethod
    def create(state_dir: Path, clock: Clock) -> Authority:
        """Makes root and issuing certificate; raises ALREADY_EXISTS rather than replace an authority."""
        directory = state_dir / "identity"
        make_directory(directory)
        if (directory / "root.pem").exists():
            raise ConflictError(
                "ALREADY_EXISTS", f"{directory} holds an authority already", hint="use it, or choose another --state"
            )
        now = _now(clock)
        root_key, issuing_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
        root_name = _name(f"hybridtwin root {secrets.token_hex(4)}")
        root = (
            _builder(root_name, root_name, root_key, now, timedelta(days=ROOT_DAYS), authority=1)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(root_key.public_key()), critical=False)
            .sign(root_key, hashes.SHA256())
        )
        issuing_name = _name(f"hybridtwin issuing {secrets.token_hex(4)}")
        issuing = (
            _builder(issuing_name, root_name, issuing_key, now, timedelta(days=ISSUING_DAYS), authority=0)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(issuing_key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key()), critical=False)
            .sign(root_key, hashes.SHA256())
        )
        for name, key in (("root.key", root_key), ("issuing.key", issuing_key)):
            write_durably(directory / name, _key_pem(key))
        write_durably(directory / "issuing.pem", _pem(issuing))
        write_durably(directory / "root.pem", _pem(root))
        return Authority(directory, root, Pair(issuing, issuing_key), clock)

    @staticmethod
    def load(state_dir: Path, clock: Clock) -> Authority:
        """Reads the authority; raises NOT_INITIALISED without one, STATE_INVALID when a file is damaged."""
        directory = state_dir / "identity"
        try:
            root = x509.load_pem_x509_certificate((directory / "root.pem").read_bytes())
            issuing = _read_pair(directory, "issuing")
        except FileNotFoundError as error:
            raise ConflictError(
                "NOT_INITIALISED", f"{error.filename} does not exist", hint="run `twincloud init`"
            ) from error
        except (ValueError, TypeError, OSError) as error:
            raise StorageError("STATE_INVALID", f"the authority in {directory} cannot be read: {error}") from error
        return Authority(directory, root, issuing, clock)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the root certificate (DER), hex: what a join line pins."""
        return self.root.fingerprint(hashes.SHA256()).hex()

    @property
    def root_pem(self) -> bytes:
        """The root certificate, what both sides trust."""
        return _pem(self.root)

    def issue(self, gateway: GatewayKey, csr_pem: bytes, *, days: float = LEAF_DAYS) -> Leaf:
        """A client certificate for the key of a signing request; its names are ours, nothing of the request is taken.

        Raises:
            InputError: REQUEST_INVALID for a request that is malformed, unsigned or not on P-256.
        """
        public = check_csr(csr_pem)
        now = _now(self._clock)
        uri = uri_of(gateway)
        builder = _builder(_name(gateway.gateway), self.issuing.certificate.subject, public, now, timedelta(days=days))
        leaf = (
            builder.add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)]), critical=False)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
            .add_extension(self._authority_key(), critical=False)
            .sign(self.issuing.key, hashes.SHA256())
        )
        chain = _pem(leaf) + _pem(self.issuing.certificate)
        return Leaf(chain, f"{leaf.serial_number:x}", uri, _ns(leaf.not_valid_after_utc))

    def server_pair(self, names: Sequence[str] = ()) -> tuple[Path, Path]:
        """Paths of the server's chain and key, made anew when it is old, when names are missing or when none exists."""
        wanted = tuple(dict.fromkeys((*LOOPBACK_NAMES, *names)))
        if not self._server_fits(wanted):
            self._make_server(wanted)
        return self.directory / "server.pem", self.directory / "server.key"

    def server_names(self) -> tuple[str, ...]:
        """Public names of the server's certificate, those of the loopback left out."""
        try:
            certificate = x509.load_pem_x509_certificate((self.directory / "server.pem").read_bytes())
            names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except (OSError, ValueError, x509.ExtensionNotFound):
            return ()
        return tuple(str(name.value) for name in names if str(name.value) not in LOOPBACK_NAMES)

    def server_not_after_ns(self) -> int:
        """End of the life of the server's certificate, 0 when there is none."""
        path = self.directory / "server.pem"
        if not path.exists():
            return 0
        return _ns(x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc)

    def _server_fits(self, wanted: Sequence[str]) -> bool:
        try:
            pair = _read_pair(self.directory, "server")
            names = pair.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except (OSError, ValueError, TypeError, x509.ExtensionNotFound):
            return False
        present = {str(value) for value in names.get_values_for_type(x509.DNSName)}
        present |= {str(value) for value in names.get_values_for_type(x509.IPAddress)}
        start, end = pair.certificate.not_valid_before_utc, pair.certificate.not_valid_after_utc
        return (
            set(wanted) <= present
            and start <= _now(self._clock) < start + (end - start) * 2 / 3
            and pair.certificate.issuer == self.issuing.certificate.subject
        )

    def _make_server(self, names: Sequence[str]) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        issuer = self.issuing.certificate.subject
        builder = _builder(_name("hybridtwin coordinator"), issuer, key, _now(self._clock), timedelta(days=SERVER_DAYS))
        certificate = (
            builder.add_extension(x509.SubjectAlternativeName([_general_name(n) for n in names]), critical=False)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(self._authority_key(), critical=False)
            .sign(self.issuing.key, hashes.SHA256())
        )
        write_durably(self.directory / "server.key", _key_pem(key))
        write_durably(self.directory / "server.pem", _pem(certificate) + _pem(self.issuing.certificate))

    def _authority_key(self) -> x509.AuthorityKeyIdentifier:
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(self.issuing.key.public_key())


def check_csr(csr_pem: bytes) -> ec.EllipticCurvePublicKey:
    """The public key of a signing request that proves possession of it; raises REQUEST_INVALID."""
    wrong = "REQUEST_INVALID"
    if len(csr_pem) > CSR_BYTES_MAX:
        raise InputError(wrong, f"csr_pem: it is larger than {CSR_BYTES_MAX} bytes", field="csr_pem")
    try:
        csr = x509.load_pem_x509_csr(csr_pem)
        public = csr.public_key()
        signed = csr.is_signature_valid
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm) as error:
        raise InputError(wrong, "csr_pem: it is no PKCS#10 signing request", field="csr_pem") from error
    if not isinstance(public, ec.EllipticCurvePublicKey) or not isinstance(public.curve, ec.SECP256R1):
        raise InputError(wrong, "csr_pem: its key is not on P-256", field="csr_pem")
    if not signed:
        raise InputError(wrong, "csr_pem: its signature does not prove the key", field="csr_pem")
    return public


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey | ec.EllipticCurvePublicKey,
    now: datetime,
    life: timedelta,
    *,
    authority: int | None = None,
) -> x509.CertificateBuilder:
    public = key.public_key() if isinstance(key, ec.EllipticCurvePrivateKey) else key
    is_authority = authority is not None
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - SKEW)
        .not_valid_after(now + life)
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=authority), critical=True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=not is_authority,
                key_cert_sign=is_authority,
                crl_sign=is_authority,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common[:64])])


def _now(clock: Clock) -> datetime:
    return datetime.fromtimestamp(clock.wall_ns() // SECOND_NS, UTC)


def _ns(moment: datetime) -> int:
    return int(moment.timestamp()) * SECOND_NS


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _read_pair(directory: Path, name: str) -> Pair:
    certificate = x509.load_pem_x509_certificate((directory / f"{name}.pem").read_bytes())
    key = load_pem_private_key((directory / f"{name}.key").read_bytes(), None)
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        raise ValueError(f"{name}.key is not the key of {name}.pem")
    return Pair(certificate, key)
