"""A secured client for one endpoint: policy, certificates and user, and why a server refused us."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import asyncua.ua
import structlog
from asyncua.client.client import Client
from asyncua.common.utils import ServiceError
from asyncua.crypto import security_policies
from asyncua.crypto.uacrypto import CertProperties
from asyncua.ua.uaerrors import UaError
from cryptography.hazmat.primitives import serialization

from twinedge.drivers import opcua_trust
from twinedge.drivers.link import Assignment
from twinedge.refusals import leaf
from twinmodel.clock import Clock
from twinmodel.errors import TwinError, UnreachableError

ua: Any = asyncua.ua  # it re-exports its names without saying so, which strict typing refuses
_log = structlog.get_logger("twinedge.drivers")

SESSION_TIMEOUT_MS: Final = 120_000
RENEW_SOON_DAYS: Final = 30
MODES: Final = {
    "none": ua.MessageSecurityMode.None_,
    "sign": ua.MessageSecurityMode.Sign,
    "sign_and_encrypt": ua.MessageSecurityMode.SignAndEncrypt,
}
_USER: Final = ("BadUserAccessDenied", "BadIdentityTokenRejected", "BadIdentityTokenInvalid", "BadUserSignatureInvalid")
CERTIFICATE_REFUSALS: Final = (
    "BadCertificateInvalid",
    "BadCertificateTimeInvalid",
    "BadCertificateIssuerTimeInvalid",
    "BadCertificateHostNameInvalid",
    "BadCertificateUriInvalid",
    "BadCertificateUseNotAllowed",
    "BadCertificateUntrusted",
    "BadCertificateRevoked",
    "BadCertificateChainIncomplete",
    "BadSecurityChecksFailed",
    "BadApplicationSignatureInvalid",
)
_POLICY: Final = ("BadSecurityPolicyRejected", "BadSecurityModeRejected", "BadSecurityModeInsufficient")
STEPS: Final = {
    **dict.fromkeys(_USER, "correct security.user, its password_file or user_certificate, or its rights on the server"),
    **dict.fromkeys(CERTIFICATE_REFUSALS, "let the server trust our certificate {own}"),
    **dict.fromkeys(_POLICY, "use a policy and mode that the server offers"),
    "BadIdentityTokenRejected": "the server wants another kind of user: set or remove security.user",
    "BadTooManySessions": "close other clients of the server, or raise its limit of sessions",
}


class Secured:
    """What stays the same from one connection to the next.

    Args:
        assignment: one of the devices; all have the same address and security.
        clock: judges certificates.
        state_dir: where our certificate and the trust store lie.
    """

    def __init__(self, assignment: Assignment, clock: Clock, state_dir: Path) -> None:
        self._assignment, self.clock, self.state_dir = assignment, clock, state_dir
        self._security = assignment.device.security
        self.user, self.policy = self._security.user, self._security.policy
        self._store = opcua_trust.TrustStore(state_dir / "opcua")
        self._warned = False

    async def prepare(self, client: Client) -> None:
        """Gives a client its user and security; the server's certificate is checked before anything secret is said.

        Raises:
            UnreachableError: CERT_UNTRUSTED, CERT_EXPIRED, CERT_INVALID or DEVICE_REFUSED with the step to take.
        """
        security = self._security
        client.name = client.description = "twinedge"
        client.application_uri = opcua_trust.application_uri()
        client.session_timeout = SESSION_TIMEOUT_MS
        await self._user(client)
        if security.policy == "None":
            return
        own, key = self._own()
        own_der = opcua_trust.read_certificate(own)
        client.application_uri = opcua_trust.uri_of(own_der) or client.application_uri
        presented = await self._discover(client)

        async def validate(certificate: Any, _server: Any) -> None:
            try:
                self.check(certificate.public_bytes(serialization.Encoding.DER))
            except UnreachableError as untrusted:
                raise ServiceError(ua.StatusCodes.BadCertificateUntrusted) from untrusted

        client.certificate_validator = validate  # the default, None, would accept any server
        secret = self._read(key)
        try:
            await client.set_security(
                getattr(security_policies, f"SecurityPolicy{security.policy}"),
                CertProperties(own_der, "der"),
                CertProperties(secret, "pem" if b"-----BEGIN" in secret else "der"),
                server_certificate=CertProperties(presented, "der"),
                mode=MODES[security.mode],
            )
        except (ValueError, TypeError) as wrong:
            hint = "give a private key without passphrase, PEM or DER, that belongs to the certificate"
            raise UnreachableError("DEVICE_REFUSED", f"{key} holds no usable key", hint=hint) from wrong

    async def _user(self, client: Client) -> None:
        security = self._security
        if security.user is not None:
            client.set_user(security.user)
            if security.password_file is not None:
                secret = self._read(self._assignment.file(security.password_file))
                client.set_password(secret.decode(errors="replace").strip())
        if security.user_certificate is not None and security.user_key is not None:
            certificate = opcua_trust.read_certificate(self._assignment.file(security.user_certificate))
            key = self._assignment.file(security.user_key)
            extension = "pem" if b"-----BEGIN" in self._read(key) else "der"
            shown: Any = certificate  # the library takes bytes, too; its annotation says path
            await client.load_client_certificate(shown, "der")
            await client.load_private_key(key, extension=extension)

    def _own(self) -> tuple[Path, Path]:
        security = self._security
        if security.certificate and security.key:
            return self._assignment.file(security.certificate), self._assignment.file(security.key)
        return opcua_trust.ensure_certificate(self.state_dir, self.clock)

    async def _discover(self, client: Client) -> bytes:
        """The checked certificate of the endpoint with our policy and mode."""
        security = self._security
        endpoints = await client.connect_and_get_server_endpoints()
        uri = getattr(security_policies, f"SecurityPolicy{security.policy}").URI
        try:
            endpoint = Client.find_endpoint(endpoints, MODES[security.mode], uri)
        except UaError as none:
            names = {mode: name for name, mode in MODES.items()}
            offers = sorted({f"{_policy(e.SecurityPolicyUri)}/{names.get(e.SecurityMode, '?')}" for e in endpoints})
            what = f"{self._assignment.name}: the server offers no {security.policy}/{security.mode}"
            hint = f"it offers {', '.join(offers)}; set security.policy and mode to one of them"
            raise UnreachableError("DEVICE_REFUSED", what, hint=hint) from none
        presented = opcua_trust.first_certificate(endpoint.ServerCertificate or b"")
        self.check(presented)
        left = opcua_trust.days_left(presented, self.clock)
        if left < RENEW_SOON_DAYS and not self._warned:
            self._warned = True
            _log.warning("certificate of the server ends soon", device=self._assignment.name, days=left)
        return presented

    def check(self, presented: bytes) -> None:
        """Passes for a certificate of the server that is trusted, valid and its own. Raises UnreachableError."""
        named = self._security.server_certificate
        opcua_trust.check_server(
            presented,
            pinned=self._assignment.file(named) if named else None,
            store=self._store,
            host=urlsplit(self._assignment.device.address).hostname or "",
            clock=self.clock,
            device=self._assignment.name,
        )

    def _read(self, path: Path) -> bytes:
        try:
            return path.read_bytes()
        except OSError as missing:
            hint = "correct the path in site.yaml, or let the agent's user read the file"
            raise UnreachableError("DEVICE_REFUSED", f"cannot read {path}", hint=hint) from missing

    def explain(self, lost: BaseException) -> tuple[str, str]:
        """Reason and text of whatever ended or prevented a connection."""
        lost = leaf(lost)
        if isinstance(lost, TwinError):
            return lost.reason, f"{lost.message}; {lost.hint}"
        name, url = type(lost).__name__, self._assignment.device.address
        step = STEPS.get(name)
        if step is None and getattr(lost, "code", None) == ua.StatusCodes.BadCertificateUntrusted:
            return "CERT_UNTRUSTED", f"{url}: the server changed its certificate while connecting"
        if step is None:
            return "DEVICE_UNREACHABLE", f"{url}: {name} {lost}".strip()
        own = self.state_dir / "opcua" / "own.der"
        print_ = opcua_trust.thumbprint(own.read_bytes()) if own.is_file() else "of security.certificate"
        return "DEVICE_REFUSED", f"{url} refused us: {name}; {step.format(own=print_)}"


def _policy(uri: str | None) -> str:
    return (uri or "").rpartition("#")[2]
