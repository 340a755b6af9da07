"""Joining a coordinator: the key is made here and stays here; the invitation's fingerprint says whom to trust.

    GET /ca     over TLS nobody vouches for yet ─▶ root certificate, compared with the fingerprint of the join line
    POST /enrol over TLS that trusts this root alone: one-time token, signing request ─▶ certificate
    POST /renew likewise: certificate held until now, signing request, signature of the old key ─▶ certificate

What was obtained lies in `state_dir/identity`: key.pem, cert.pem, ca.pem, coordinator.json and signers/<key id>.pem,
all of mode 0600. The folder is replaced as a whole, so that one that was cut off leaves the identity before it.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import os
import re
import shutil
import ssl
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import NameOID

from twinmodel.clock import SECOND_NS, Clock
from twinmodel.errors import REASONS, ConflictError, DeniedError, InputError, StorageError, TwinError, UnreachableError
from twinmodel.files import sync_folder
from twinsync.identity import names_of
from twinsync.renewal import renewal_bytes

TIMEOUT_S = 20.0
ANSWER_BYTES_MAX = 1 << 20
SIGNERS_MAX = 1_000
FILE_MODE = 0o600
FOLDER = "identity"
OLD_FOLDER = ".identity-old"

_KEY_ID = re.compile(r"[A-Za-z0-9_.-]{1,128}")
# The folder is read while a renewal of the same process replaces it.
_swap = threading.Lock()


@dataclass(frozen=True, slots=True)
class Joined:
    """Who this gateway is now and where it sends to (`host:port`)."""

    tenant: str
    site: str
    gateway: str
    sync_address: str


@dataclass(frozen=True, slots=True)
class Identity:
    """What the gateway shows and whom it trusts.

    Attributes:
        sync_address: `host:port` of the coordinator's gRPC.
        key_pem: private key; never logged.
        cert_pem: own certificate, then the issuing one.
        ca_pem: root certificate of the coordinator.
        serial: serial of the own certificate, lower-case hex.
        not_before_ns, not_after_ns: its life.
        enrol_url: where it can be renewed, "" for an identity that does not know.
        signers: public keys whose models may run, PEM by key id.
    """

    tenant: str
    site: str
    gateway: str
    sync_address: str
    key_pem: bytes = field(repr=False)
    cert_pem: bytes = field(repr=False)
    ca_pem: bytes = field(repr=False)
    serial: str
    not_before_ns: int
    not_after_ns: int
    enrol_url: str
    signers: Mapping[str, bytes] = field(repr=False)


def join(url: str, token: str, ca_sha256: str, state_dir: Path, clock: Clock) -> Joined:
    """Enrols this gateway with a one-time token; an identity that is there already is replaced when it succeeded.

    Args:
        url: `https://host:port` of the enrolment listener.
        token: one-time token of the join line.
        ca_sha256: SHA-256 of the coordinator's root certificate (DER), hex.
        state_dir: the agent's state directory.
        clock: checks that the certificate is valid now.

    Raises:
        InputError: REQUEST_INVALID when the URL or the fingerprint is malformed.
        UnreachableError: COORDINATOR_UNREACHABLE, RATE_LIMITED.
        DeniedError: FINGERPRINT_MISMATCH, INVITE_INVALID, CERT_INVALID.
        StorageError: the disk refuses.
    """
    host, port = _address(url)
    fingerprint = ca_sha256.replace(":", "").strip().lower()
    if re.fullmatch(r"[0-9a-f]{64}", fingerprint) is None:
        raise InputError("REQUEST_INVALID", "--ca-sha256 is no SHA-256 fingerprint", hint="copy the join line again")
    root = _pinned_root(host, port, fingerprint)
    key = ec.generate_private_key(ec.SECP256R1())
    answer = _trade(host, port, root, "/enrol", {"token": token, "csr_pem": _pem(_request(key))})
    joined, files = _unpack(answer, root, key, url)
    _parse_certificate(files["cert.pem"], key.public_key(), clock)
    _replace_folder(state_dir, files)
    return joined


def renew(state_dir: Path, url: str, clock: Clock) -> Joined:
    """Trades the certificate for one of a new key, also when it has expired; all else of the identity stays.

    Args:
        state_dir: the agent's state directory.
        url: `https://host:port` of the enrolment listener.
        clock: dates the request and checks that the new certificate is valid now.

    Raises:
        ConflictError: NOT_JOINED, IDENTITY_FORK.
        UnreachableError: COORDINATOR_UNREACHABLE, RATE_LIMITED.
        DeniedError: CERT_INVALID, CERT_EXPIRED when the coordinator renews it no more, SUSPENDED.
        StorageError: the disk refuses.
    """
    old = load_identity(state_dir, clock, expired_too=True)
    host, port = _address(url)
    old_key, key = load_pem_private_key(old.key_pem, None), ec.generate_private_key(ec.SECP256R1())
    assert isinstance(old_key, ec.EllipticCurvePrivateKey), "load_identity refuses other keys"
    request, t_ns = _request(key), clock.wall_ns()
    certificate = x509.load_pem_x509_certificate(old.cert_pem)
    signed = renewal_bytes(certificate.public_bytes(Encoding.DER), request.public_bytes(Encoding.DER), t_ns)
    asked = {
        "certificate_pem": certificate.public_bytes(Encoding.PEM).decode(),
        "csr_pem": _pem(request),
        "t_ns": t_ns,
        "signature": base64.b64encode(old_key.sign(signed, ec.ECDSA(hashes.SHA256()))).decode(),
    }
    fresh_pem = str(_trade(host, port, old.ca_pem, "/renew", asked).get("certificate_pem", "")).encode()
    joined = Joined(old.tenant, old.site, old.gateway, old.sync_address)
    if _names(_parse_certificate(fresh_pem, key.public_key(), clock)) != (old.tenant, old.site, old.gateway):
        raise DeniedError("CERT_INVALID", "the renewed certificate is of another gateway")
    if load_identity(state_dir, clock, expired_too=True).serial == old.serial:  # else it was joined anew meanwhile
        _replace_folder(state_dir, _files(joined, fresh_pem, old.ca_pem, key, url, old.signers))
    return joined


def load_identity(state_dir: Path, clock: Clock, *, expired_too: bool = False) -> Identity:
    """Reads what `join` or `renew` wrote.

    Args:
        state_dir: the agent's state directory.
        clock: tells whether the certificate has expired.
        expired_too: whether one that has expired will do: a name is still a name, only nobody is to be called with it.

    Raises:
        ConflictError: NOT_JOINED.
        DeniedError: CERT_EXPIRED by the own clock, CERT_INVALID when the files do not fit together.
        StorageError: STATE_INVALID when they cannot be read.
    """
    folder = state_dir / FOLDER
    try:
        with _swap:
            if not folder.exists() and (state_dir / OLD_FOLDER).exists():
                (state_dir / OLD_FOLDER).rename(folder)  # a join was cut off between its two renames
            facts = json.loads((folder / "coordinator.json").read_text())
            key_pem, cert_pem, ca_pem = ((folder / name).read_bytes() for name in ("key.pem", "cert.pem", "ca.pem"))
            signers = {path.stem: path.read_bytes() for path in sorted((folder / "signers").glob("*.pem"))}
        key = load_pem_private_key(key_pem, None)
        joined = Joined(*(str(facts[name]) for name in ("tenant", "site", "gateway", "sync_address")))
    except FileNotFoundError as error:
        raise ConflictError("NOT_JOINED", f"this gateway has not joined: {error.filename} does not exist") from error
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise StorageError("STATE_INVALID", f"the identity in {folder} cannot be read: {error}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise DeniedError("CERT_INVALID", f"{folder / 'key.pem'} is no P-256 key")
    certificate = _parse_certificate(cert_pem, key.public_key(), clock, expired_too=expired_too)
    if _names(certificate) != (joined.tenant, joined.site, joined.gateway):
        raise DeniedError("CERT_INVALID", f"the certificate in {folder} is of another gateway")
    return Identity(
        joined.tenant,
        joined.site,
        joined.gateway,
        joined.sync_address,
        key_pem,
        cert_pem,
        ca_pem,
        f"{certificate.serial_number:x}",
        int(certificate.not_valid_before_utc.timestamp()) * SECOND_NS,
        int(certificate.not_valid_after_utc.timestamp()) * SECOND_NS,
        str(facts.get("enrol_url", "")),
        signers,
    )


def _address(url: str) -> tuple[str, int]:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or 8422
    except ValueError:
        host, port = None, 0
    if not host or parts.scheme != "https":
        raise InputError("REQUEST_INVALID", f"{url!r} is no https:// address", hint="copy the join line again")
    return host, port


def _pinned_root(host: str, port: int, fingerprint: str) -> bytes:
    # Nothing secret is sent and nothing received is believed before its hash was compared.
    unverified = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    unverified.check_hostname = False
    unverified.verify_mode = ssl.CERT_NONE
    _, body = _exchange(host, port, unverified, "GET", "/ca", b"")
    try:
        root = x509.load_pem_x509_certificate(body)
    except ValueError as error:
        raise UnreachableError("COORDINATOR_UNREACHABLE", f"{host}:{port} is no enrolment listener: {error}") from error
    found = hashlib.sha256(root.public_bytes(Encoding.DER)).hexdigest()
    if found != fingerprint:
        raise DeniedError(
            "FINGERPRINT_MISMATCH",
            f"the coordinator at {host}:{port} shows {found}, the join line says {fingerprint}",
            found=found,
            expected=fingerprint,
        )
    return root.public_bytes(Encoding.PEM)


def _trade(host: str, port: int, root_pem: bytes, path: str, body: Mapping[str, object]) -> Mapping[str, object]:
    trusted = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusted.minimum_version = ssl.TLSVersion.TLSv1_3
    trusted.load_verify_locations(cadata=root_pem.decode())
    status, raw = _exchange(host, port, trusted, "POST", path, json.dumps(body).encode())
    try:
        answer = json.loads(raw)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise UnreachableError("COORDINATOR_UNREACHABLE", f"{host}:{port} answered {status} without a JSON object")
    if status != HTTPStatus.OK:
        raise _refusal(status, answer)
    return answer


def _refusal(status: int, answer: Mapping[str, object]) -> TwinError:
    reason, detail = str(answer.get("reason", "")), str(answer.get("detail", f"status {status}"))[:500]
    if reason not in REASONS:
        return UnreachableError("COORDINATOR_UNREACHABLE", f"the coordinator answered {status}: {detail}")
    hint = answer.get("hint")
    kind = {HTTPStatus.FORBIDDEN: DeniedError, HTTPStatus.TOO_MANY_REQUESTS: UnreachableError}.get(
        HTTPStatus(status), TwinError
    )
    return kind(reason, detail, hint=hint if isinstance(hint, str) else None)


def _exchange(host: str, port: int, context: ssl.SSLContext, method: str, path: str, body: bytes) -> tuple[int, bytes]:
    connection = http.client.HTTPSConnection(host, port, timeout=TIMEOUT_S, context=context)
    try:
        connection.request(method, path, body or None, {"Content-Type": "application/json"} if body else {})
        answer = connection.getresponse()
        content = answer.read(ANSWER_BYTES_MAX + 1)
        status = answer.status
    except ssl.SSLCertVerificationError as error:
        raise DeniedError(
            "CERT_INVALID",
            f"{host}:{port} does not show a certificate of its own authority for this name: {error.verify_message}",
            hint=f"name {host} with `twincloud init --name` or `names:` of the coordinator, or use a name it has",
        ) from error
    except (OSError, http.client.HTTPException) as error:
        raise UnreachableError("COORDINATOR_UNREACHABLE", f"{host}:{port}: {error}") from error
    finally:
        connection.close()
    if len(content) > ANSWER_BYTES_MAX:
        raise UnreachableError("COORDINATOR_UNREACHABLE", f"{host}:{port} answered more than {ANSWER_BYTES_MAX} bytes")
    return status, content


def _request(key: ec.EllipticCurvePrivateKey) -> x509.CertificateSigningRequest:
    # The names of a certificate are the coordinator's to give; the request only proves the key.
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "gateway")])
    return x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())


def _pem(request: x509.CertificateSigningRequest) -> str:
    return request.public_bytes(Encoding.PEM).decode()


def _unpack(
    answer: Mapping[str, object], root_pem: bytes, key: ec.EllipticCurvePrivateKey, url: str
) -> tuple[Joined, dict[str, bytes]]:
    signers = answer.get("signers")
    if not isinstance(signers, dict) or len(signers) > SIGNERS_MAX or not all(map(_KEY_ID.fullmatch, signers)):
        raise UnreachableError("COORDINATOR_UNREACHABLE", "the coordinator's answer lacks valid `signers`")
    try:
        joined = Joined(*(str(answer[name]) for name in ("tenant", "site", "gateway", "sync_address")))
        chain_pem = str(answer["certificate_pem"]).encode()
    except KeyError as error:
        raise UnreachableError("COORDINATOR_UNREACHABLE", f"the coordinator's answer lacks {error}") from error
    trusted = {key_id: str(pem).encode() for key_id, pem in signers.items()}
    return joined, _files(joined, chain_pem, root_pem, key, url, trusted)


def _files(
    joined: Joined,
    chain_pem: bytes,
    root_pem: bytes,
    key: ec.EllipticCurvePrivateKey,
    url: str,
    signers: Mapping[str, bytes],
) -> dict[str, bytes]:
    return {
        "key.pem": key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        "cert.pem": chain_pem,
        "ca.pem": root_pem,
        "coordinator.json": json.dumps(asdict(joined) | {"enrol_url": url}, indent=1).encode(),
    } | {f"signers/{key_id}.pem": pem for key_id, pem in signers.items()}


def _parse_certificate(
    chain_pem: bytes, public: ec.EllipticCurvePublicKey, clock: Clock, *, expired_too: bool = False
) -> x509.Certificate:
    try:
        certificate = x509.load_pem_x509_certificate(chain_pem)
    except ValueError as error:
        raise DeniedError("CERT_INVALID", f"the certificate cannot be read: {error}") from error
    if certificate.public_key() != public:
        raise DeniedError("CERT_INVALID", "the certificate is not of this gateway's key")
    _names(certificate)
    # gRPC reports an expired certificate like a cut cable, so the agent looks for itself.
    ended_ns = int(certificate.not_valid_after_utc.timestamp()) * SECOND_NS
    if clock.wall_ns() >= ended_ns and not expired_too:
        raise DeniedError(
            "CERT_EXPIRED", f"the certificate expired at {certificate.not_valid_after_utc:%Y-%m-%d %H:%M:%S} UTC"
        )
    return certificate


def _names(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    except (x509.ExtensionNotFound, ValueError):
        uris = []
    if len(uris) != 1:
        raise DeniedError("CERT_INVALID", "the certificate does not name exactly one gateway")
    return names_of(uris[0])


def _replace_folder(state_dir: Path, files: Mapping[str, bytes]) -> None:
    """Puts a whole new folder in place of the old one, durable when it returns."""
    target, old, draft = state_dir / FOLDER, state_dir / OLD_FOLDER, None
    try:
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{FOLDER}-", dir=state_dir))
        (draft / "signers").mkdir(mode=0o700)
        for name, content in files.items():
            handle = os.open(draft / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
            with os.fdopen(handle, "wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
        sync_folder(draft / "signers")
        sync_folder(draft)
        with _swap:
            shutil.rmtree(old, ignore_errors=True)
            if target.exists():
                target.rename(old)
            draft.rename(target)
        sync_folder(state_dir)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        if draft is not None:
            shutil.rmtree(draft, ignore_errors=True)
        raise StorageError("STORE_READ_ONLY", f"{target}: {error.strerror}", path=str(target)) from error
