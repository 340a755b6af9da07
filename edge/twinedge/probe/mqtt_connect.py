"""A connection to a broker in steps that fail one by one: TCP, TLS, the MQTT handshake; each says what is wrong."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from typing import Any, Final

import aiomqtt

from twinedge.config.broker import NOT_APPLICABLE, V5, V311, Login, Place
from twinedge.drivers.mqtt_refusal import told
from twinedge.drivers.mqtt_wire import Connection
from twinedge.probe.trust import described
from twinedge.refusals import code_of, leaf, other_version
from twinmodel.clock import Clock
from twinmodel.errors import InputError, UnreachableError

TIMEOUT_S: Final = 5.0
KEEPALIVE_S: Final = 20
_LOGIN: Final = {4, 5, 0x86, 0x87}
Json = dict[str, Any]


class Broker:
    """One broker to look at.

    Args:
        url: `mqtt://host:port` or `mqtts://`.
        login: who we are.
        identifier: client id, one that nobody else has: a broker ends the older connection of two.
        clock: judges certificates.

    Attributes:
        steps: what succeeded so far, for people.
        place: where it listens.
        certificate: what the broker shows, None without TLS.
        version: of MQTT that was spoken.
    """

    def __init__(self, url: str, login: Login, identifier: str, clock: Clock) -> None:
        self.place = Place.of(url)
        self._login, self._identifier, self._clock = login, identifier, clock
        self.steps: list[str] = []
        self.certificate: Json | None = None
        self.version = ""

    async def reach(self) -> None:
        """TCP, and TLS where the address says so.

        Raises:
            UnreachableError: DEVICE_UNREACHABLE or DEVICE_REFUSED with what is wrong and what to do.
        """
        try:
            await self._open(None)
        except (OSError, TimeoutError) as refused:
            raise self._unreachable(refused) from refused
        self.steps.append("TCP connects")
        if not self.place.tls:
            return
        context = self._context()
        try:
            self._seen(await self._open(context))
        except ssl.SSLCertVerificationError as untrusted:
            await self._look()
            reason, text = told(untrusted, str(self.place))
            what, _, hint = text.partition("; ")
            hint = f"{_as_options(hint)}; or correct the host name"
            raise UnreachableError(reason, what, hint=hint) from untrusted
        except (OSError, TimeoutError) as refused:
            text = f"{self.place} takes TCP connections, but no TLS: {getattr(refused, 'reason', None) or refused}"
            hint = "use mqtt:// and the plain port, or the port where TLS listens (usually 8883)"
            raise UnreachableError("DEVICE_REFUSED", text, hint=hint) from refused

    @contextlib.asynccontextmanager
    async def session(self) -> AsyncIterator[Connection]:
        """A clean session that leaves nothing behind; MQTT 5, else 3.1.1.

        Raises:
            UnreachableError: DEVICE_REFUSED or DEVICE_UNREACHABLE with the broker's reason.
        """
        connection: Connection | None = None
        for version, name in ((V5, "5"), (V311, "3.1.1")):
            connection = Connection(self._client(version))
            try:
                await connection.client.__aenter__()
            except (aiomqtt.MqttError, OSError, ValueError) as refused:
                connection.abandon()
                first = leaf(refused)
                if version is V5 and other_version(first):
                    continue
                raise self._refused(first) from refused
            self.version = name
            break
        assert connection is not None, "either way ends in a connection or an error"
        self.steps.append(f"MQTT {self.version} session as {self._login.user or 'anonymous'}")
        try:
            yield connection
        finally:
            with contextlib.suppress(aiomqtt.MqttError):
                await connection.client.__aexit__(None, None, None)

    def _client(self, version: aiomqtt.ProtocolVersion) -> aiomqtt.Client:
        five = version is V5
        return aiomqtt.Client(
            self.place.host,
            self.place.port,
            username=self._login.user,
            password=self._password(),
            identifier=self._identifier,
            protocol=version,
            clean_session=None if five else True,
            clean_start=True if five else NOT_APPLICABLE,
            keepalive=KEEPALIVE_S,
            timeout=TIMEOUT_S,
            tls_context=self._context() if self.place.tls else None,
        )

    def _password(self) -> str | None:
        try:
            return self._login.password()
        except OSError as missing:
            text = f"cannot read {self._login.password_file}: {missing.strerror}"
            raise InputError("FILE_MISSING", text) from missing
        except ValueError as wrong:
            raise InputError("VALUE_INVALID", f"{self._login.password_file} is no UTF-8 text") from wrong

    def _context(self, *, verify: bool = True) -> ssl.SSLContext:
        try:
            context = self._login.context()
        except OSError as wrong:
            hint = "give PEM files that this user can read"
            raise InputError("VALUE_INVALID", f"certificate files cannot be used: {wrong}", hint=hint) from wrong
        if not verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context

    async def _open(self, context: ssl.SSLContext | None) -> ssl.SSLObject | None:
        async with asyncio.timeout(TIMEOUT_S):
            _, writer = await asyncio.open_connection(self.place.host, self.place.port, ssl=context)
        found: ssl.SSLObject | None = writer.get_extra_info("ssl_object")
        writer.close()
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(1.0):
                await writer.wait_closed()
        return found

    async def _look(self) -> None:
        """The certificate of a broker that is not trusted, to show it; nothing is said to it."""
        with contextlib.suppress(OSError, TimeoutError):
            self._seen(await self._open(self._context(verify=False)), trusted=False)

    def _seen(self, tls: ssl.SSLObject | None, *, trusted: bool = True) -> None:
        if tls is None:
            return
        der = tls.getpeercert(binary_form=True)
        self.certificate = (described(der, self._clock) if der else {"thumbprint": "", "problem": "none"}) | {
            "trusted": trusted,
            "tls": tls.version() or "",
        }
        if trusted:
            self.steps.append(f"{tls.version()} with a certificate that is trusted")

    def _refused(self, first: BaseException) -> UnreachableError:
        reason, text = told(first, str(self.place))
        what, _, hint = text.partition("; ")
        if code_of(first) in _LOGIN:
            user = f"the user {self._login.user!r}" if self._login.user else "anonymous clients"
            hint = (
                "correct user and password, or its rights on the broker"
                if self._login.user
                else "give --user and --password-file"
            )
            return UnreachableError(
                "DEVICE_REFUSED", f"{what}: the broker refuses {user}", hint=f"{hint}; none is tried here"
            )
        if not hint:
            hint = "see the log of the broker; it may want TLS (mqtts://) at this port, or another listener"
        return UnreachableError(reason, what, hint=_as_options(hint))

    def _unreachable(self, refused: OSError) -> UnreachableError:
        if isinstance(refused, ConnectionRefusedError):
            text = f"{self.place} refuses the connection: the host is there, and nothing listens at this port"
            hint = "check the port, that the broker runs, and that its listener is not bound to localhost alone"
        elif isinstance(refused, TimeoutError):
            text, hint = f"no answer from {self.place} in {TIMEOUT_S:g} s", "check address, cable and firewall"
        elif isinstance(refused, socket.gaierror):
            text, hint = f"the name {self.place.host} is not known", "write its IP address, or mend the name server"
        else:
            text, hint = f"no connection to {self.place}: {refused.strerror or refused}", "check address and network"
        return UnreachableError("DEVICE_UNREACHABLE", text, hint=hint)


def _as_options(hint: str) -> str:
    """A hint that speaks of site.yaml, in the words of the command line."""
    said = hint.replace("security.certificate and key", "--certificate and --key")
    return said.replace("security.password_file", "--password-file").replace("security.", "--")
