"""OPC UA: one session per endpoint and security, every point a monitored item found by its browse path.

Each connection starts from nothing: a new client, the namespace looked up by its URI, paths resolved again. That
survives restarts, renumbered namespaces and half-open links alike. The library's publish callback is used below its
Subscription class, which drops the oldest values when the agent is slow; awaited here, the server's queue holds them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from asyncua.client.client import Client
from asyncua.common.utils import ServiceError
from asyncua.crypto import security_policies
from asyncua.crypto.uacrypto import CertProperties
from cryptography.hazmat.primitives import serialization

from twinedge.drivers import opcua_trust
from twinedge.drivers.decode import typed_value
from twinedge.drivers.link import Assignment, Backoff, Columns, DeviceLink, names
from twinedge.drivers.opcua_items import Item, create_items, items_of, relative_path, ua
from twinedge.drivers.opcua_values import DOUBTED, event_time, overflowed, quality_of
from twinedge.ports import DriverHealth, NotAcquired, Sink
from twinmodel.clock import MILLISECOND_NS, SECOND_NS, Clock, round_to_step
from twinmodel.errors import UnreachableError
from twinmodel.quality import GOOD, QualityReason, bad

TIMEOUT_S = 4.0
CONNECT_S = 8.0
BACKOFF_MAX_S = 4.0
WATCHDOG_S = 1.0
PUBLISH_MIN_MS, PUBLISH_MAX_MS = 50, 500
KEEPALIVE_MS = 2000
SILENT_S = 3 * KEEPALIVE_MS / 1000 + 1
ITEMS_PER_REQUEST = 500
BROWSE_AGAIN_S = 10.0
REFUSED = (
    ua.StatusCodes.BadUserAccessDenied,
    ua.StatusCodes.BadIdentityTokenRejected,
    ua.StatusCodes.BadIdentityTokenInvalid,
    ua.StatusCodes.BadSecurityChecksFailed,
    ua.StatusCodes.BadCertificateUntrusted,
    ua.StatusCodes.BadCertificateInvalid,
    ua.StatusCodes.BadSecurityPolicyRejected,
    ua.StatusCodes.BadSecurityModeRejected,
)

logging.getLogger("asyncua").setLevel(logging.CRITICAL)  # it logs each step of a reconnect; told here once


class LostError(Exception):
    """The session ended."""


class OpcuaDriver:
    """Subscribes to all devices behind one endpoint.

    Args:
        assignments: devices with the same address and security.
        clock: stamps samples that carry no sane time; its boot clock finds a silent server.
        rng: jitter of reconnects.
        state_dir: where our certificate lies, and those of servers nobody has trusted yet.
    """

    def __init__(self, assignments: Sequence[Assignment], *, clock: Clock, rng: random.Random, state_dir: Path) -> None:
        self._assignment = assignments[0]
        self._url = self._assignment.device.address
        self._clock, self._state_dir = clock, state_dir
        self._backoff = Backoff(rng, max_s=BACKOFF_MAX_S)
        self._links = [DeviceLink(a, clock) for a in assignments]
        self._items = items_of(self._links)
        self._published_ns = 0
        self._publishing = False
        self._publish_ms = PUBLISH_MAX_MS
        self._missing: list[Item] = []

    @property
    def name(self) -> str:
        """See `Driver.name`."""
        security = self._assignment.device.security
        return f"opcua {urlsplit(self._url).netloc} {security.policy}/{security.mode} {security.user or 'anonymous'}"

    @property
    def devices(self) -> tuple[str, ...]:
        """See `Driver.devices`."""
        return names(self._links)

    def health(self) -> list[DriverHealth]:
        """See `Driver.health`."""
        return [link.health() for link in self._links]

    async def run(self, sink: Sink) -> None:
        """See `Driver.run`."""
        while True:
            reason, text = "DEVICE_UNREACHABLE", ""
            try:
                await self._attempt(sink)
            except UnreachableError as refused:
                reason, text = refused.reason, f"{refused.message}; {refused.hint}"
            except Exception as lost:  # noqa: BLE001  # asyncua raises bare Exception and AssertionError among others
                reason, text = self._explain(lost)
            for link in self._links:
                stamped = link.lost(reason, text)
                if stamped is not None:
                    await sink.put(stamped)
            await asyncio.sleep(self._backoff.delay_s())

    async def _attempt(self, sink: Sink) -> None:
        """Connects, subscribes and watches; raises when the session ends or does not begin."""
        lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        async def on_lost(error: Exception) -> None:
            if not lost.done():
                lost.set_exception(LostError(f"connection lost: {type(error).__name__} {error}"))

        client = Client(self._url, timeout=TIMEOUT_S, watchdog_intervall=WATCHDOG_S)
        client.connection_lost_callback = on_lost
        try:
            async with asyncio.timeout(CONNECT_S):
                await self._secure(client)
                await client.connect()
            subscription = await self._subscribe(client, sink)
            self._backoff.reset()
            await self._watch(client, subscription, lost)
        finally:
            lost.cancel()
            await _close(client)

    async def _secure(self, client: Client) -> None:
        """User and security policy; the server's certificate is checked before anything secret is said."""
        device = self._assignment.device
        security = device.security
        client.name = client.description = "twinedge"
        client.application_uri = opcua_trust.application_uri()
        if security.user is not None:
            client.set_user(security.user)
            if security.password_file is not None:
                client.set_password(self._assignment.file(security.password_file).read_text().strip())
        if security.policy == "None":
            return
        policy = getattr(security_policies, f"SecurityPolicy{security.policy}")
        mode = {"sign": ua.MessageSecurityMode.Sign, "sign_and_encrypt": ua.MessageSecurityMode.SignAndEncrypt}
        endpoints = await client.connect_and_get_server_endpoints()
        endpoint = Client.find_endpoint(endpoints, mode[security.mode], policy.URI)
        trusted = self._assignment.file(security.server_certificate) if security.server_certificate else None
        pending = self._state_dir / "opcua" / "pending"

        def check(presented: bytes) -> None:
            opcua_trust.check_server(presented, trusted, pending, self._assignment.name)

        check(opcua_trust.first_certificate(endpoint.ServerCertificate))

        async def validate(certificate: Any, _server: Any) -> None:
            try:
                check(certificate.public_bytes(serialization.Encoding.DER))
            except UnreachableError as untrusted:
                raise ServiceError(ua.StatusCodes.BadCertificateUntrusted) from untrusted

        client.certificate_validator = validate  # the default, None, would accept any server
        own, key = opcua_trust.ensure_certificate(self._state_dir, self._clock)
        if security.certificate and security.key:
            own, key = self._assignment.file(security.certificate), self._assignment.file(security.key)
        secret = key.read_bytes()
        assert trusted is not None, "check_server refuses a server without one"
        await client.set_security(
            policy,
            CertProperties(opcua_trust.read_certificate(own), "der"),
            CertProperties(secret, "pem" if b"-----BEGIN" in secret else "der"),
            server_certificate=CertProperties(opcua_trust.read_certificate(trusted), "der"),
            mode=mode[security.mode],
        )

    def _explain(self, lost: Exception) -> tuple[str, str]:
        """Reason and text of whatever the library raised."""
        code = getattr(lost, "code", None)
        if code in REFUSED:
            text = f"{self._url} refused us: {type(lost).__name__}"
            if self._assignment.device.security.policy != "None":
                own = self._state_dir / "opcua" / "own.der"
                print_ = opcua_trust.thumbprint(own.read_bytes()) if own.is_file() else "of security.certificate"
                text += f"; let the server trust our certificate {print_}"
            return "DEVICE_REFUSED", text
        return "DEVICE_UNREACHABLE", f"{self._url}: {type(lost).__name__} {lost}".strip()

    async def _subscribe(self, client: Client, sink: Sink) -> int:
        """One subscription for all items; what cannot be found is bad and looked for again later."""
        fastest_ms = min(i.every_ns for i in self._items) // MILLISECOND_NS
        publish_ms = max(PUBLISH_MIN_MS, min(PUBLISH_MAX_MS, fastest_ms))
        params = ua.CreateSubscriptionParameters()
        params.RequestedPublishingInterval = publish_ms
        params.RequestedMaxKeepAliveCount = max(1, KEEPALIVE_MS // publish_ms)
        params.RequestedLifetimeCount = 10 * params.RequestedMaxKeepAliveCount
        params.MaxNotificationsPerPublish = 10_000
        params.PublishingEnabled = True
        by_handle = {item.handle: item for item in self._items}
        for item in self._items:
            item.confirm_ns = item.link.lost_ns

        async def published(result: Any) -> None:
            self._publishing = True
            try:
                await self._take(result, by_handle, sink)
            finally:
                self._publishing = False
                self._published_ns = self._clock.boot_ns()

        for link in self._links:  # before the first value, so that the hole closes in front of it
            hole = link.answered()
            if hole is not None:
                await sink.put(hole)
        self._published_ns = self._clock.boot_ns()
        result = await client.uaclient.create_subscription(params, published)
        missing = await self._monitor(client, result.SubscriptionId, self._items, publish_ms)
        for link in self._links:
            absent = [i for i in missing if i.link is link]
            for item in absent:
                link.fault(f"no node {'/'.join(item.path)} (of {len(absent)} missing)")
            if absent:
                await sink.put(link.stamp([i.signal for i in absent], bad(QualityReason.DEVICE_FAULT)))
        self._missing, self._publish_ms = missing, publish_ms
        return int(result.SubscriptionId)

    async def _monitor(self, client: Client, subscription: int, items: list[Item], publish_ms: int) -> list[Item]:
        """Resolves paths and creates monitored items; returns the items that have no node or are refused."""
        uris = await client.get_namespace_array()
        missing: list[Item] = []
        for start in range(0, len(items), ITEMS_PER_REQUEST):
            part = items[start : start + ITEMS_PER_REQUEST]
            paths = [relative_path(item, uris) for item in part]
            found = await client.translate_browsepaths(ua.NodeId(ua.ObjectIds.ObjectsFolder), paths)
            nodes = [
                (item, result.Targets[0].TargetId)
                for item, result in zip(part, found, strict=True)
                if result.StatusCode.is_good() and result.Targets
            ]
            missing += [i for i, r in zip(part, found, strict=True) if not (r.StatusCode.is_good() and r.Targets)]
            for filtered in (True, False):
                nodes = await create_items(client, subscription, nodes, publish_ms, missing, filtered=filtered)
            missing += [item for item, _ in nodes]
        return missing

    async def _watch(self, client: Client, subscription: int, lost: asyncio.Future[None]) -> None:
        """Returns never; raises when the connection is lost or the server stops to publish."""
        browse_again_ns = self._clock.boot_ns() + round(BROWSE_AGAIN_S * SECOND_NS)
        while True:
            await asyncio.wait([lost], timeout=WATCHDOG_S)
            if lost.done():
                lost.result()
            now_ns = self._clock.boot_ns()
            if not self._publishing and now_ns - self._published_ns > SILENT_S * SECOND_NS:
                raise LostError(f"no keep-alive for {SILENT_S:g} s")
            if self._missing and now_ns >= browse_again_ns:
                browse_again_ns = now_ns + round(BROWSE_AGAIN_S * SECOND_NS)
                self._missing = await self._monitor(client, subscription, self._missing, self._publish_ms)

    async def _take(self, result: Any, by_handle: dict[int, Item], sink: Sink) -> None:
        """Turns one notification message into deliveries, one per device."""
        gathered: dict[int, tuple[DeviceLink, Columns]] = {}
        holes: list[NotAcquired] = []
        arrival_ns = self._clock.wall_ns()
        for notification in result.NotificationMessage.NotificationData or ():
            if isinstance(notification, ua.StatusChangeNotification):
                self._published_ns = -(1 << 62)  # the subscription is gone; the watch starts over
            for change in getattr(notification, "MonitoredItems", ()):
                item = by_handle.get(change.ClientHandle)
                if item is None:
                    continue
                link, columns = gathered.setdefault(id(item.link), (item.link, Columns()))
                hole = _add(item, change.Value, arrival_ns, columns)
                if hole is not None:
                    link.fault(f"{item.signal.name}: the server's queue overflowed")
                    holes.append(hole)
        for hole in holes:
            await sink.put(hole)
        for link, columns in gathered.values():
            await sink.put(link.delivery(columns))


def _add(item: Item, value: Any, arrival_ns: int, columns: Columns) -> NotAcquired | None:
    """Appends one `ua.DataValue`; returns the hole before it when the server's queue overflowed."""
    status = value.StatusCode.value if value.StatusCode is not None else 0
    t_ns, doubt = event_time(value.SourceTimestamp, value.ServerTimestamp, arrival_ns)
    t_ns = round_to_step(t_ns, item.link.assignment.time_step_ns)
    raw = value.Value.Value if value.Value is not None else None
    if isinstance(raw, ua.LocalizedText):
        raw = raw.Text
    told = quality_of(status)
    sample, found = typed_value(raw, item.signal.kind, item.convert, item.absent)
    code = max(told, found, doubt, key=lambda c: c >> 8)  # the first of the worst class: the server's word wins
    hole = None
    if overflowed(status):
        code = DOUBTED if code == GOOD else code
        hole = NotAcquired(item.link.name, "LIMIT_EXCEEDED", min(item.last_ns or t_ns, t_ns), t_ns)
    confirms, item.confirm_ns = t_ns <= item.confirm_ns, 0
    if t_ns != item.last_ns or not confirms:
        columns.add(item.signal, sample, code, t_ns)
    if confirms:
        # It has not changed since before the device was lost: said again, as of now, or NOT_CONNECTED would stay
        # the newest word on a signal that changes once a week.
        t_ns = round_to_step(arrival_ns, item.link.assignment.time_step_ns)
        columns.add(item.signal, sample, code, t_ns)
    item.last_ns = t_ns
    return hole


async def _close(client: Client) -> None:
    """Ends a session as politely as the far end allows within a second, then drops the socket."""
    with contextlib.suppress(Exception):  # whatever asyncua raises here, the connection is given up
        async with asyncio.timeout(1.0):
            await client.disconnect()
    with contextlib.suppress(Exception):
        client.disconnect_socket()
