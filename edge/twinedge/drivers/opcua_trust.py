"""Who an OPC UA client and server are to each other: our own certificate, and the servers a person has trusted."""

from __future__ import annotations

import contextlib
import hashlib
import socket
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
    """A certificate of the store.

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
        wanted = thumbprint_.replace(":", "").replace(" ", "").lower()
        waiting = [s for s in self.list() if not s.trusted and wanted and s.thumbprint.startswith(wanted)]
        if len(waiting) != 1:
            what = "no certificate waits" if not waiting else f"{len(waiting)} certificates wait"
            hint = "give the whole thumbprint as the agent's log and the server show it"
            raise MissingError("NOT_FOUND", f"{what} under {thumbprint_}", hint=hint, thumbprint=thumbprint_)
        (server,) = waiting
        self.trusted.mkdir(parents=True, exist_ok=True)
        kept = self.trusted / server.path.name
        write_durably(kept, server.path.read_bytes())
        server.path.unlink()
        return replace(server, trusted=True, path=kept)

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
            if _is_authority(known) and (now is None or _in_time(known, now)):
                with contextlib.suppress(ValueError, TypeError, InvalidSignature):
                    presented.verify_directly_issued_by(known)
                    return True
        return False


def check_server(
    presented: bytes, *, pinned: Path | None, store: TrustStore, host: str, clock: Clock, device: str
) -> None:
    """Passes when the server presents a certificate that is trusted, valid now and its own.

    `security.server_certificate` of site.yaml pins one certificate to one device, whatever names stand in it. One of
    the store counts for every server, so it must have been issued for the host that the address names.

    Args:
        presented: DER.
        pinned: the file that site.yaml names, if any.
        store: what a person has accepted; an untrusted one is kept below its `pending`.
        host: of the device's address.
        clock: one that was never set cannot say what is valid now; then the dates are not judged.
        device: for messages.

    Raises:
        UnreachableError: CERT_UNTRUSTED, CERT_EXPIRED or CERT_INVALID with `thumbprint` and the step to take.
    """
    print_ = thumbprint(presented)
    facts = {"thumbprint": print_, "device": device}
    try:
        certificate = x509.load_der_x509_certificate(presented)
        name, hosts = _name(certificate), hosts_of(certificate)
    except ValueError as wrong:
        hint = "let the server make a certificate anew"
        what = f"{device}: the server presents no certificate that can be read ({print_})"
        raise UnreachableError("CERT_INVALID", what, hint=hint, **facts) from wrong
    wall_ns = clock.wall_ns()
    now = datetime.fromtimestamp(wall_ns // SECOND_NS, UTC) if wall_ns >= BUILD_NS else None
    told = f"{device}: the server's certificate {print_} ({name})"
    is_pinned = pinned is not None and read_certificate(pinned) == presented
    if not is_pinned and (pinned is not None or not store.vouches(certificate, now)):
        kept = store.keep(presented)
        why = f"differs from {pinned.name}" if pinned is not None else "is not trusted yet"
        step = f"if that is the thumbprint the server shows, set security.server_certificate to {kept}"
        if pinned is None:
            step += f", or move it to {store.trusted} for all devices of its host"
        raise UnreachableError("CERT_UNTRUSTED", f"{told} {why}", hint=step, path=str(kept), **facts)
    if now is not None and not _in_time(certificate, now):
        when = f"valid from {certificate.not_valid_before_utc:%Y-%m-%d} to {certificate.not_valid_after_utc:%Y-%m-%d}"
        hint = "renew it on the server (or mend the clock of server or gateway), then trust the new one"
        raise UnreachableError("CERT_EXPIRED", f"{told} is {when}, now is {now:%Y-%m-%d}", hint=hint, **facts)
    if not is_pinned and host.lower() not in {h.lower() for h in hosts}:
        kept = store.keep(presented)
        hint = f"use one of these names in `opcua:`, or pin it to this device: security.server_certificate: {kept}"
        issued = ", ".join(hosts) or "no host at all"
        raise UnreachableError("CERT_INVALID", f"{told} is for {issued}, not for {host}", hint=hint, **facts)


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


def _known(path: Path, *, trusted: bool) -> KnownServer | None:
    try:
        found = _parse(path.read_bytes())
        until_ns = int(found.not_valid_after_utc.timestamp()) * SECOND_NS
        print_ = thumbprint(found.public_bytes(serialization.Encoding.DER))
        return KnownServer(print_, trusted, _name(found), hosts_of(found), until_ns, path)
    except ValueError:
        return None


def _name(certificate: x509.Certificate) -> str:
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if names else certificate.subject.rfc4514_string()


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        basic = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return False
    return basic.ca and usage.key_cert_sign


def _in_time(certificate: x509.Certificate, now: datetime) -> bool:
    return certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc
