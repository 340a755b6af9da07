"""Certificates of OPC UA applications: our own, those a person has trusted, and what stands in them."""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import shlex
import socket
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from twinmodel.clock import BUILD_NS, SECOND_NS, Clock
from twinmodel.errors import MissingError, UnreachableError
from twinmodel.files import write_durably

KEY_BITS = 2048
VALID_DAYS = 3650
PENDING_MAX = 64


def application_uri() -> str:
    """URI by which servers know this gateway; it stands in the certificate as well, servers compare both."""
    return f"urn:{socket.gethostname()}:hybridtwin:twinedge"


def ensure_certificate(state_dir: Path, clock: Clock, serving: Sequence[str] | None = None) -> tuple[Path, Path]:
    """Our application certificate (DER) and its key (PEM, readable by the owner only), made when missing.

    Args:
        state_dir: the certificate of a client lies in its `opcua`, that of a server in its `northbound`.
        clock: begin of its validity; the day this software was made while it was never set.
        serving: names and addresses under which clients reach a server; None for a client.
    """
    folder = state_dir / ("opcua" if serving is None else "northbound")
    certificate, key = folder / "own.der", folder / "own.pem"
    if certificate.is_file() and key.is_file():
        return certificate, key
    state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    secret = rsa.generate_private_key(65537, KEY_BITS)
    written = secret.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    write_durably(key, written)
    write_durably(certificate, _self_signed(secret, clock, serving).public_bytes(serialization.Encoding.DER))
    return certificate, key


def _self_signed(secret: rsa.RSAPrivateKey, clock: Clock, serving: Sequence[str] | None) -> x509.Certificate:
    """The profile of OPC UA Part 6, 6.2.2: application URI, names, key usages."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"twinedge on {socket.gethostname()}"[:64])])
    now = datetime.fromtimestamp(max(clock.wall_ns(), BUILD_NS) // SECOND_NS, UTC)
    alternative: list[x509.GeneralName] = [x509.UniformResourceIdentifier(application_uri())]
    alternative += [_general(host) for host in dict.fromkeys((socket.gethostname(), *(serving or ())))]
    purposes = [ExtendedKeyUsageOID.CLIENT_AUTH]
    if serving is not None:
        purposes.append(ExtendedKeyUsageOID.SERVER_AUTH)
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
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        .sign(secret, hashes.SHA256())
    )


def _general(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def thumbprint(der: bytes) -> str:
    """SHA-1 of a certificate in hexadecimal, as OPC UA tools show it."""
    return hashlib.sha1(der, usedforsecurity=False).hexdigest()


def read_certificate(path: Path) -> bytes:
    """A certificate file, PEM or DER, as DER. Raises UnreachableError DEVICE_REFUSED when it is neither."""
    try:
        parsed = _parse(path.read_bytes())
    except OSError as missing:
        hint = "correct the path in site.yaml"
        raise UnreachableError("DEVICE_REFUSED", f"cannot read {path}", hint=hint, path=str(path)) from missing
    except ValueError as wrong:
        raise UnreachableError("DEVICE_REFUSED", f"{path} holds no certificate", path=str(path)) from wrong
    return parsed.public_bytes(serialization.Encoding.DER)


def first_certificate(chain: bytes) -> bytes:
    """The leaf of a chain of concatenated DER certificates, the form in which servers present theirs."""
    if len(chain) < 4 or chain[:2] != b"\x30\x82":
        return chain
    return chain[: int.from_bytes(chain[2:4], "big") + 4]


@dataclass(frozen=True, slots=True)
class KnownServer:
    """A certificate of a store.

    Attributes:
        trusted: whether a person has accepted it; else it waits.
        name: common name of its subject.
        hosts: names and addresses it was issued for.
        until_ns: end of its validity, wall time.
    """

    thumbprint: str
    trusted: bool
    name: str
    hosts: tuple[str, ...]
    until_ns: int
    path: Path


class TrustStore:
    """Certificates of servers: `trusted/` holds what a person has accepted, `pending/` what was presented.

    A certificate authority in `trusted/` vouches for the servers it issued certificates to.

    Args:
        folder: `<state>/opcua`.
    """

    def __init__(self, folder: Path) -> None:
        self.trusted, self.pending = folder / "trusted", folder / "pending"

    def step(self, verb: str, thumbprint_: str = "") -> str:
        """The command that does `verb` of `twinedge trust` here, as a shell takes it, whoever copies it."""
        state = shlex.quote(str(self.trusted.parent.parent.absolute()))
        return " ".join(part for part in ("twinedge trust", verb, thumbprint_[:8], "--state", state) if part)

    def list(self) -> list[KnownServer]:
        """Trusted certificates first, each group by its thumbprint; files that are no certificates are left out."""
        found = [
            _known(path, trusted=trusted)
            for folder, trusted in ((self.trusted, True), (self.pending, False))
            for path in sorted(folder.glob("*.*"))
            if path.is_file()
        ]
        return [server for server in found if server is not None]

    def accept(self, thumbprint_: str) -> KnownServer:
        """Trusts the one waiting certificate whose thumbprint begins so; it is used at the next attempt to connect.

        Raises:
            MissingError: NOT_FOUND when none or several begin so.
        """
        server = self._one(thumbprint_, trusted=False)
        return replace(server, trusted=True, path=_moved(server.path, self.trusted))

    def revoke(self, thumbprint_: str) -> KnownServer:
        """Trusts a certificate no longer; it waits again. A connection that stands is not cut, the next is refused.

        Raises:
            MissingError: NOT_FOUND when none or several trusted ones begin so.
        """
        server = self._one(thumbprint_, trusted=True)
        return replace(server, trusted=False, path=_moved(server.path, self.pending))

    def _one(self, beginning: str, *, trusted: bool) -> KnownServer:
        wanted = beginning.replace(":", "").replace(" ", "").lower()
        found = [s for s in self.list() if s.trusted == trusted and wanted and s.thumbprint.startswith(wanted)]
        if len(found) != 1:
            one, many = ("is trusted", "are trusted") if trusted else ("waits", "wait")
            what = f"{len(found)} certificates {many}" if found else f"no certificate {one}"
            hint = f"`{self.step('list')}` shows them; give more of the thumbprint as the server shows it"
            raise MissingError("NOT_FOUND", f"{what} under {beginning}", hint=hint, thumbprint=beginning)
        return found[0]

    def keep(self, presented: bytes) -> Path:
        """Keeps a certificate for a person to look at; at most `PENDING_MAX`, the rest are only named."""
        self.pending.mkdir(parents=True, exist_ok=True)
        kept = self.pending / f"{thumbprint(presented)}.der"
        if not kept.exists() and len(list(self.pending.iterdir())) < PENDING_MAX:
            write_durably(kept, presented)
        return kept

    def vouches(self, presented: x509.Certificate, now: datetime | None) -> bool:
        """Whether it was accepted itself, or issued by an authority that was (and is still valid)."""
        for path in sorted(self.trusted.glob("*.*")):
            try:
                known = _parse(path.read_bytes())
            except ValueError:
                continue
            if known == presented:
                return True
            if _is_authority(known) and (now is None or in_time(known, now)):
                with contextlib.suppress(ValueError, TypeError, InvalidSignature):
                    presented.verify_directly_issued_by(known)
                    return True
        return False


def days_left(presented: bytes, clock: Clock) -> int:
    """Days until a certificate ends; negative afterwards."""
    until = x509.load_der_x509_certificate(presented).not_valid_after_utc
    return int(until.timestamp() - clock.wall_ns() // SECOND_NS) // 86400


def hosts_of(certificate: x509.Certificate) -> tuple[str, ...]:
    """DNS names and addresses of its subject alternative name."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    addresses = (str(a) for a in names.get_values_for_type(x509.IPAddress))
    return (*names.get_values_for_type(x509.DNSName), *addresses)


def uri_of(der: bytes) -> str | None:
    """The application URI in a certificate; servers compare it with what the client says of itself."""
    try:
        names = x509.load_der_x509_certificate(der).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return None
    return next(iter(names.value.get_values_for_type(x509.UniformResourceIdentifier)), None)


def _parse(raw: bytes) -> x509.Certificate:
    return x509.load_pem_x509_certificate(raw) if b"-----BEGIN" in raw else x509.load_der_x509_certificate(raw)


def _moved(path: Path, folder: Path) -> Path:
    """Moves a certificate, so that a power cut leaves it in one of the two places."""
    folder.mkdir(parents=True, exist_ok=True)
    kept = folder / path.name
    write_durably(kept, path.read_bytes())
    path.unlink()
    return kept


def _known(path: Path, *, trusted: bool) -> KnownServer | None:
    try:
        found = _parse(path.read_bytes())
        until_ns = int(found.not_valid_after_utc.timestamp()) * SECOND_NS
        print_ = thumbprint(found.public_bytes(serialization.Encoding.DER))
        return KnownServer(print_, trusted, name_of(found), hosts_of(found), until_ns, path)
    except ValueError:
        return None


def name_of(certificate: x509.Certificate) -> str:
    """Common name of its subject, or all of the subject."""
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if names else certificate.subject.rfc4514_string()


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        basic = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return False
    return basic.ca and usage.key_cert_sign


def in_time(certificate: x509.Certificate, now: datetime) -> bool:
    """Whether it is valid at a moment."""
    return certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc
