"""The OPC UA server below all simulated devices: policies, a certificate of its own, and what clients acknowledge."""

from __future__ import annotations

import contextlib
import datetime as dt
import gc
import socket
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from asyncua import ua
from asyncua.crypto.permission_rules import User, UserRole
from asyncua.server.internal_server import InternalServer
from asyncua.server.server import Server
from asyncua.server.subscription_service import SubscriptionService
from asyncua.server.user_managers import UserManager

from twinmodel.clock import Clock
from twinmodel.errors import ConflictError
from twinsim.certificate import application_certificate
from twinsim.served import ServedLog

APPLICATION_URI = "urn:hybridtwin:twinsim:server"
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MICROSECOND = dt.timedelta(microseconds=1)
Policy = ua.SecurityPolicyType


class Acknowledged(SubscriptionService):
    """The library's subscriptions, which tell the served log what clients have acknowledged."""

    def __init__(self, server: InternalServer, log: ServedLog | None) -> None:
        super().__init__(server.aspace, server)
        self._log = log
        self.points: dict[ua.NodeId, tuple[str, str]] = {}

    def publish(self, acks: Iterable[ua.SubscriptionAcknowledgement]) -> Any:
        """Takes a client's acknowledgements; what they name has been delivered."""
        acks = list(acks)
        for ack in acks:
            subscription = self.subscriptions.get(ack.SubscriptionId)
            sent = subscription and subscription._not_acknowledged_results.get(ack.SequenceNumber)  # noqa: SLF001  # no public way
            if sent and self._log is not None:
                self._note(subscription, sent.NotificationMessage.NotificationData)
        return super().publish(acks)

    def _note(self, subscription: Any, notifications: Iterable[Any]) -> None:
        nodes: dict[Any, Any] = {
            item.client_handle: item.read_value_id.NodeId
            for item in subscription.monitored_item_srv._monitored_items.values()  # noqa: SLF001  # no public way
        }
        # Bound method of the library's connection object; its name is the peer's address.
        peer = getattr(getattr(subscription.pub_result_callback, "__self__", None), "name", None)
        connection = f"{peer[0]}:{peer[1]}" if peer else ""
        updates: dict[tuple[str, int], tuple[list[str], list[int]]] = {}
        for notification in notifications:
            for item in getattr(notification, "MonitoredItems", ()):
                named = self.points.get(nodes[item.ClientHandle]) if item.ClientHandle in nodes else None
                if named is None or item.Value.SourceTimestamp is None:
                    continue
                device, point = named
                points, numbers = updates.setdefault((device, ns_of(item.Value.SourceTimestamp)), ([], []))
                points.append(point)
                if point == "sample_no":
                    numbers.append(int(item.Value.Value.Value))
        assert self._log is not None, "noted only with a log"
        for (device, t_ns), (points, numbers) in updates.items():
            self._log.add("opcua", device, connection, numbers[0] if numbers else None, t_ns, points)


class OneUser(UserManager):
    """Lets in one name with one password, and nobody else."""

    def __init__(self, user: str, password: str) -> None:
        self._known = (user, password)

    def get_user(
        self, iserver: Any, username: str | None = None, password: str | None = None, certificate: Any = None
    ) -> User | None:
        """See the library; None refuses."""
        del iserver, certificate
        return User(role=UserRole.User, name=username) if (username, password) == self._known else None


def stamp_of(t_ns: int) -> Any:
    """A time as the library has it."""
    return _EPOCH + dt.timedelta(microseconds=t_ns // 1000)


def ns_of(stamp: dt.datetime) -> int:
    """A time of the library as nanoseconds; one without a zone is UTC."""
    aware = stamp if stamp.tzinfo else stamp.replace(tzinfo=dt.UTC)
    return (aware - _EPOCH) // _MICROSECOND * 1000


def check_free(host: str, port: int) -> None:
    """Refuses a port in use at once, not after the second that the address space takes."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as refused:
            raise ConflictError("PORT_IN_USE", f"cannot listen on {host}:{port} for opcua", port=port) from refused


@contextlib.contextmanager
def _without_collecting() -> Iterator[None]:
    """Pauses the garbage collector: all nodes of the library stay, and looking through them takes half the time."""
    paused = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if paused:
            gc.enable()


async def prepared_server(
    log: ServedLog | None,
    clock: Clock,
    *,
    state: Path,
    host: str,
    port: int,
    login: tuple[str, str] | None = None,
) -> tuple[Server, Acknowledged]:
    """A server that has all but its address space and is not started; arguments as of `serve_opcua`.

    Raises:
        ConflictError: PORT_IN_USE.
    """
    check_free(host, port)
    inner = InternalServer(user_manager=None if login is None else OneUser(*login))
    subscriptions = Acknowledged(inner, log)
    inner.subscription_service = inner.isession.subscription_service = subscriptions
    inner.bind_condition_methods = 1  # it repeats conditions on request
    server = Server(inner)
    with _without_collecting():
        await server.init()
    await server.set_application_uri(APPLICATION_URI)
    server.set_server_name("twinsim")
    server.set_endpoint(f"opc.tcp://{host}:{port}/twinsim")
    certificate, key = application_certificate(state, APPLICATION_URI, clock)
    server.set_security_policy([Policy.NoSecurity, Policy.Basic256Sha256_Sign, Policy.Basic256Sha256_SignAndEncrypt])
    await server.load_certificate(certificate)
    await server.load_private_key(key)
    if login is not None:
        server.set_identity_tokens([ua.UserNameIdentityToken])
    return server, subscriptions
