"""A read-only OPC UA server of measured values and estimates, with security on."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
from collections.abc import Mapping
from typing import Any, Final

import asyncua.ua
import structlog
from asyncua.server.server import Server

from twinedge.certificates import application_uri, ensure_certificate, read_certificate, thumbprint, uri_of
from twinedge.config.northbound import OpcuaServer
from twinedge.northbound.layout import layout_of
from twinedge.northbound.opcua_admission import Admission
from twinedge.northbound.opcua_feed import Source
from twinedge.northbound.opcua_nodes import INDEX, NAMESPACE, Space
from twinedge.northbound.opcua_server import Listener, ReadOnlyServer, tell_limits
from twinedge.northbound.ports import Surroundings
from twinedge.northbound.users import Users
from twinmodel.clock import SECOND_NS
from twinmodel.errors import ConflictError, TwinError
from twinsync.backoff import Backoff

ua: Any = asyncua.ua  # it re-exports its names without saying so, which strict typing refuses
log = structlog.get_logger(__name__)

AGAIN_FIRST_NS, AGAIN_MAX_NS = SECOND_NS, 60 * SECOND_NS
STOP_S: Final = 3.0
_KINDS: Final = ua.SecurityPolicyType


class OpcuaNorthbound:
    """The server; it comes back by itself when its port is free again or its certificate is mended.

    Args:
        settings: `northbound.opcua` of site.yaml.
        around: names, places, the newest samples.
    """

    name = "opcua"

    def __init__(self, settings: OpcuaServer, around: Surroundings) -> None:
        self._settings, self._around = settings, around
        self._space = Space(around.store, around.clock)
        self._source = Source(around.store, self._space, around.clock)
        passwords = {name: around.beside(user.password_file) for name, user in settings.users.items()}
        shown = settings.user_certificates
        named = bool(passwords or shown)
        self._anonymous = settings.anonymous or not named
        certificates = around.beside(shown) if shown else None
        self._users = Users(passwords, certificates, anonymous=self._anonymous, clock=around.clock)
        trusted = around.beside(settings.certificates) if settings.certificates else None
        self._admission = Admission(trusted, around.state_dir / "northbound", around.clock)
        self._inner: ReadOnlyServer | None = None
        self._served = 0
        self._thumbprint = ""
        self._trouble: TwinError | None = None
        self.port = settings.port
        self.listening = asyncio.Event()

    def use(self) -> None:
        """See `Part.use`."""
        layout = layout_of(self._around.store.catalogue, self._settings.signals)
        self._served = len(layout.by_id)
        self._space.show(self._around.gateway, layout, self._around.ranges)

    async def run(self) -> None:
        """See `Part.run`."""
        _quiet()
        backoff = Backoff(self._around.random, base_ns=AGAIN_FIRST_NS, cap_ns=AGAIN_MAX_NS)
        server: _Server | None = None
        while True:
            try:
                if server is None:
                    server = await self._made()
                await self._serve(server)
            except TwinError as trouble:
                if self._trouble is None or self._trouble.reason != trouble.reason:
                    log.warning("opc ua is not served", reason=trouble.reason, detail=trouble.message)
                self._trouble = trouble
            await asyncio.sleep(backoff.delay_ns() / SECOND_NS)

    async def _serve(self, server: _Server) -> None:
        """Listens until cancelled."""
        inner = server.inner
        listener = Listener(inner, self._settings.host, self._settings.port, server.policies)
        try:
            await listener.start()
        except OSError as taken:
            raise _explained(taken, self._settings.listen) from taken
        try:
            self.port = listener.port
            if self._trouble is not None:
                log.info("opc ua is served again", after=self._trouble.reason)
            self._trouble, self._inner = None, inner
            self.listening.set()
            log.info("opc ua is served", listen=self._settings.listen, port=self.port, thumbprint=self._thumbprint)
            await asyncio.Event().wait()
        finally:
            self.listening.clear()
            self._inner = None
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STOP_S):
                    await _stopped(inner, listener)

    async def _made(self) -> _Server:
        """The server with its nodes, before it listens."""
        around, settings = self._around, self._settings
        certificate, key = await asyncio.to_thread(self._certificate)
        der = read_certificate(certificate)
        self._thumbprint = thumbprint(der)
        inner = ReadOnlyServer(settings, self._users, self._admission, self._source)
        self._space.clear()
        server = _Server(inner)
        server.set_server_name(f"twinedge {around.site}/{around.gateway}")
        server.product_uri, server.manufacturer_name = "urn:hybridtwin:twinedge", "hybridtwin"
        server.application_type = ua.ApplicationType.Server
        # Clients compare it with the one in the certificate.
        await server.prepare(uri_of(der) or application_uri(), f"opc.tcp://{settings.listen}/", around.version)
        try:
            await server.load_certificate(der, "der")
            await server.load_private_key(key.read_bytes(), format="pem")
        except (OSError, ValueError, TypeError) as wrong:
            hint = f"remove {certificate} and {key}, a new pair is made then"
            raise ConflictError("CERT_INVALID", f"{key} holds no usable key", hint=hint) from wrong
        server.set_security_policy([*self._policies()])
        server.set_identity_tokens(self._tokens())
        await server.offer()
        self.use()
        return server

    def _certificate(self) -> Any:
        hosts = () if self._settings.host in {"0.0.0.0", "::"} else (self._settings.host,)  # noqa: S104  # compared
        try:
            return ensure_certificate(self._around.state_dir, self._around.clock, hosts)
        except OSError as lost:
            what = f"no certificate can be written to {self._around.state_dir}: {lost.strerror}"
            raise ConflictError(
                "CERT_INVALID", what, hint="let the agent's user write there, or free the disk"
            ) from lost

    def _policies(self) -> list[Any]:
        modes = ("SignAndEncrypt", "Sign") if self._settings.mode == "sign" else ("SignAndEncrypt",)
        made = [getattr(_KINDS, f"{policy}_{mode}") for policy in self._settings.policies for mode in modes]
        return [*([_KINDS.NoSecurity] if self._settings.insecure else []), *made]

    def _tokens(self) -> list[Any]:
        tokens = [ua.AnonymousIdentityToken] if self._anonymous else []
        tokens += [ua.UserNameIdentityToken] if self._settings.users else []
        return [*tokens, *([ua.X509IdentityToken] if self._settings.user_certificates else [])]

    def status(self) -> Mapping[str, Any]:
        """See `Part.status`."""
        inner, trouble = self._inner, self._trouble
        subscriptions = inner.subscription_service.subscriptions if inner is not None else {}
        return {
            "listen": self._settings.listen,
            "port": self.port,
            "serving": self.listening.is_set(),
            "reason": "" if trouble is None else trouble.reason,
            "error": "" if trouble is None else f"{trouble.message}; {trouble.hint}",
            "thumbprint": self._thumbprint,
            "signals": self._served,
            "clients": 0 if inner is None else inner.clients,
            "subscriptions": len(subscriptions),
            "items": 0 if inner is None else inner.items,
            "values": self._source.told + (0 if inner is None else inner.reads),
            "refused": self._users.refused + self._admission.refused,
        }


class _Server(Server):
    """asyncua's server without its own listener."""

    policies: list[Any]

    def __init__(self, inner: ReadOnlyServer) -> None:
        super().__init__(inner)
        self.inner = inner

    async def prepare(self, uri: str, endpoint: str, version: str) -> None:
        """Loads the nodes of OPC UA and adds our namespace."""
        self._application_uri = uri
        self.set_endpoint(endpoint)
        await self.init()
        when = (await self.get_node(ua.NodeId(ua.ObjectIds.Server_ServerStatus)).read_value()).BuildInfo.BuildDate
        await self.set_build_info(self.product_uri, self.manufacturer_name, "twinedge", version, version, when)
        index = await self.register_namespace(NAMESPACE)
        assert index == INDEX, "ours is the first namespace after that of the application"
        await tell_limits(self.inner)

    async def offer(self) -> None:
        """Makes endpoints and starts the clock of the server."""
        await self._setup_server_nodes()
        self.policies = self._policies
        await self.iserver.start()


async def _stopped(inner: ReadOnlyServer, listener: Listener) -> None:
    await inner.subscription_service.delete_subscriptions(list(inner.subscription_service.subscriptions))
    await listener.stop()
    await inner.stop()


def _explained(taken: OSError, listen: str) -> TwinError:
    if taken.errno == errno.EADDRINUSE:
        hint = "stop the other process, or set northbound.opcua.listen to another port"
        return ConflictError("PORT_IN_USE", f"northbound cannot listen on {listen}: it is taken", hint=hint)
    hint = "set northbound.opcua.listen to an address of this machine, and a port above 1023"
    return ConflictError("LISTEN_FAILED", f"northbound cannot listen on {listen}: {taken.strerror}", hint=hint)


def _quiet() -> None:
    """What asyncua says of every request and refusal of a client is no matter for the agent's log."""
    for name in ("asyncua.server", "asyncua.uaprotocol", "asyncua.crypto", "asyncua.common"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
