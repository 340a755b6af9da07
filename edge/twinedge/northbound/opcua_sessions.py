"""Sessions of the OPC UA server: they read, browse and subscribe, within bounds, and change nothing.

asyncua's server is made for tests and trusted networks: it takes requests of any size, keeps what is subscribed without
bound, lets a client without a session register servers, and speaks without encryption to whoever asks for it. What
this module overrides closes that.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import asyncua.ua
import structlog
from asyncua.common.connection import TransportLimits
from asyncua.common.utils import ServiceError
from asyncua.crypto.security_policies import SecurityPolicyNone
from asyncua.server.binary_server_asyncio import BinaryServer, OPCUAProtocol
from asyncua.server.internal_server import InternalServer
from asyncua.server.internal_session import InternalSession
from asyncua.server.subscription_service import SubscriptionService
from asyncua.server.uaprocessor import UaProcessor
from asyncua.server.user_managers import UserManager
from asyncua.ua.ua_binary import struct_from_binary
from cryptography import x509

from twinedge.certificates import PENDING_MAX, TrustStore, first_certificate, in_time, name_of, thumbprint
from twinedge.config.northbound import OpcuaServer
from twinedge.northbound.opcua_feed import Feed, Source
from twinedge.northbound.opcua_nodes import INDEX
from twinedge.northbound.share import Share
from twinedge.northbound.users import Users
from twinmodel.clock import BUILD_NS, SECOND_NS, Clock

log = structlog.get_logger(__name__)
ua: Any = asyncua.ua  # it re-exports its names without saying so, which strict typing refuses

CHUNK_BYTES: Final = 65_535
REQUEST_BYTES_MAX: Final = 1 << 20
PER_CALL_MAX: Final = 1_000  # nodes of one request, so that none holds up the agent for long
REFERENCES_MAX: Final = 1_000  # of one answer to a browse; the rest is asked for
CONTINUATIONS_MAX: Final = 16
CONNECTIONS_SPARE: Final = 8  # connections beyond the sessions there may be: clients look for endpoints first
ACTIVATION_S: Final = 10.0
SESSION_TIMEOUT_MS: Final = 120_000
UNACKNOWLEDGED_MAX: Final = 4  # messages a client may ask for again
LIFETIME_MAX, KEEP_ALIVE_MAX = 3_000, 1_000
_IDS = ua.ObjectIds
_CODES = ua.StatusCodes
_OPEN: Final = frozenset(
    ua.NodeId(kind)
    for kind in (
        _IDS.GetEndpointsRequest_Encoding_DefaultBinary,
        _IDS.FindServersRequest_Encoding_DefaultBinary,
        _IDS.CloseSecureChannelRequest_Encoding_DefaultBinary,
    )
)
"""What a client may ask without encryption: where and how to connect."""
_BEGINNING: Final = frozenset(
    ua.NodeId(kind)
    for kind in (
        _IDS.CreateSessionRequest_Encoding_DefaultBinary,
        _IDS.ActivateSessionRequest_Encoding_DefaultBinary,
    )
)
_REFUSED: Final = frozenset(
    ua.NodeId(kind)
    for kind in (
        _IDS.RegisterServerRequest_Encoding_DefaultBinary,
        _IDS.RegisterServer2Request_Encoding_DefaultBinary,
        _IDS.HistoryReadRequest_Encoding_DefaultBinary,
        _IDS.HistoryUpdateRequest_Encoding_DefaultBinary,
        _IDS.TransferSubscriptionsRequest_Encoding_DefaultBinary,
    )
)
_BROWSE_NEXT: Final = ua.NodeId(_IDS.BrowseNextRequest_Encoding_DefaultBinary)


class Session(InternalSession):
    """What one client may do."""

    def __init__(self, server: ReadOnlyServer, *arguments: Any, **more: Any) -> None:
        super().__init__(server, *arguments, **more)
        self._server = server
        self._rests: dict[bytes, list[Any]] = {}
        self._continuation = 0

    async def create_session(self, params: Any, sockname: Any = None) -> Any:
        """See `InternalSession`."""
        if self._server.clients > self._server.settings.sessions:
            self._server.unregister_external_session(self)
            raise ServiceError(_CODES.BadTooManySessions)
        result = await super().create_session(params, sockname)
        result.MaxRequestMessageSize = REQUEST_BYTES_MAX
        return result

    def activate_session(self, params: Any, peer_certificate: bytes | None) -> Any:
        """See `InternalSession`; a certificate of a user is asked for in another folder than one of an application."""
        token = params.UserIdentityToken
        if not isinstance(token, ua.X509IdentityToken):
            return super().activate_session(params, peer_certificate)
        if not isinstance(token, self.iserver.supported_tokens):
            raise ServiceError(_CODES.BadIdentityTokenRejected)
        users = self._server.users
        try:
            self.iserver.user_manager = _ByCertificate(users)
            return super().activate_session(params, peer_certificate)
        finally:
            self.iserver.user_manager = users

    async def read(self, params: Any) -> list[Any]:
        """See `InternalSession`; values of ours are read without their nodes."""
        _bounded(params.NodesToRead)
        server, results = self._server, []
        for wanted in params.NodesToRead:
            signal = None
            if wanted.AttributeId == ua.AttributeIds.Value and wanted.NodeId.NamespaceIndex == INDEX:
                signal = server.source.space.signal(wanted.NodeId)
            if signal is not None:
                results.append(server.source.space.read(signal))
            else:
                results.append(self.aspace.read_attribute_value(wanted.NodeId, wanted.AttributeId))
        server.reads += len(results)
        return results

    async def write(self, params: Any) -> list[Any]:
        """Refuses: nothing is ever written."""
        _bounded(params.NodesToWrite)
        return [
            ua.StatusCode(_CODES.BadNotWritable if w.NodeId in self.aspace else _CODES.BadNodeIdUnknown)
            for w in params.NodesToWrite
        ]

    async def call(self, params: Any) -> list[Any]:
        """Refuses: there is nothing to call."""
        _bounded(params)
        return [ua.CallMethodResult(ua.StatusCode(_CODES.BadUserAccessDenied)) for _ in params]

    async def browse(self, params: Any) -> list[Any]:
        """See `InternalSession`; long answers come in pieces."""
        _bounded(params.NodesToBrowse)
        most = min(params.RequestedMaxReferencesPerNode or REFERENCES_MAX, REFERENCES_MAX)
        results = await super().browse(params)
        for result in results:
            self._cut(result, list(result.References), most)
        return results

    async def browse_next(self, parameters: Any) -> list[Any]:
        """The next piece of answers that were too long, or their end when the client wants no more."""
        _bounded(parameters.ContinuationPoints)
        results = []
        for point in parameters.ContinuationPoints:
            result = ua.BrowseResult()
            rest = self._rests.pop(bytes(point or b""), None)
            if rest is None:
                result.StatusCode = ua.StatusCode(_CODES.BadContinuationPointInvalid)
            elif not parameters.ReleaseContinuationPoints:
                self._cut(result, rest, REFERENCES_MAX)
            results.append(result)
        return results

    def _cut(self, result: Any, references: list[Any], most: int) -> None:
        result.References = references[:most]
        if len(references) <= most:
            return
        if len(self._rests) >= CONTINUATIONS_MAX:
            result.References, result.StatusCode = [], ua.StatusCode(_CODES.BadNoContinuationPoints)
            return
        self._continuation += 1
        result.ContinuationPoint = self._continuation.to_bytes(4, "big")
        self._rests[result.ContinuationPoint] = references[most:]

    async def translate_browsepaths_to_nodeids(self, params: list[Any]) -> list[Any]:
        """See `InternalSession`."""
        _bounded(params)
        return list(await super().translate_browsepaths_to_nodeids(params))

    async def create_monitored_items(self, params: Any) -> list[Any]:
        """See `InternalSession`."""
        _bounded(params.ItemsToCreate)
        self._own(params.SubscriptionId)
        if self._server.items + len(params.ItemsToCreate) > self._server.settings.items:
            raise ServiceError(_CODES.BadTooManyMonitoredItems)
        return list(await super().create_monitored_items(params))

    async def modify_monitored_items(self, params: Any) -> list[Any]:
        """See `InternalSession`."""
        _bounded(params.ItemsToModify)
        self._own(params.SubscriptionId)
        return list(await super().modify_monitored_items(params))

    async def delete_monitored_items(self, params: Any) -> list[Any]:
        """See `InternalSession`."""
        self._own(params.SubscriptionId)
        return list(await super().delete_monitored_items(params))

    async def set_monitoring_mode(self, params: Any) -> list[Any]:
        """See `InternalSession`."""
        self._own(params.SubscriptionId)
        return list(await super().set_monitoring_mode(params))

    async def delete_subscriptions(self, ids: list[int]) -> list[Any]:
        """See `InternalSession`; those of other clients are not there."""
        mine = {i: self._is_own(i) for i in ids}
        done = iter(await super().delete_subscriptions([i for i in ids if mine[i]]))
        return [next(done) if mine[i] else ua.StatusCode(_CODES.BadSubscriptionIdInvalid) for i in ids]

    def _is_own(self, subscription: int) -> bool:
        found = self.subscription_service.subscriptions.get(subscription)
        return found is not None and found.session_id == self.session_id

    def _own(self, subscription: int) -> None:
        if not self._is_own(subscription):
            raise ServiceError(_CODES.BadSubscriptionIdInvalid)


class Admission:
    """Which applications may connect: those whose certificate a person has put into a folder, or any without one.

    Args:
        trusted: the folder, None for any application; the user decides then.
        folder: certificates that were refused wait in its `pending` for a person to look at.
        clock: one that was never set cannot say what is valid now; then the dates are not judged.
    """

    def __init__(self, trusted: Path | None, folder: Path, clock: Clock) -> None:
        self._store = None
        if trusted is not None:
            self._store = TrustStore(folder)
            self._store.trusted = trusted
        self._clock = clock
        self._told: set[str] = set()
        self.refused = 0

    def check(self, presented: bytes | None) -> None:
        """Raises ServiceError BadCertificateUntrusted, BadCertificateTimeInvalid or BadCertificateInvalid."""
        if self._store is None:
            return
        try:
            leaf = first_certificate(presented or b"")
            certificate = x509.load_der_x509_certificate(leaf)
        except ValueError:
            raise ServiceError(_CODES.BadCertificateInvalid) from None
        wall_ns = self._clock.wall_ns()
        now = datetime.fromtimestamp(wall_ns // SECOND_NS, UTC) if wall_ns >= BUILD_NS else None
        if not self._store.vouches(certificate, now):
            self._refuse(leaf, name_of(certificate))
            raise ServiceError(_CODES.BadCertificateUntrusted)
        if now is not None and not in_time(certificate, now):
            raise ServiceError(_CODES.BadCertificateTimeInvalid)

    def _refuse(self, leaf: bytes, name: str) -> None:
        self.refused += 1
        print_ = thumbprint(leaf)
        if print_ in self._told or len(self._told) >= PENDING_MAX:
            return
        self._told.add(print_)
        assert self._store is not None, "only a store refuses"
        try:
            kept = str(self._store.keep(leaf))
        except OSError as lost:
            kept = f"not kept: {lost.strerror}"
        step = f"when that is the thumbprint the client shows, move the file to {self._store.trusted}"
        log.warning("client's certificate is not trusted", client=name, thumbprint=print_, file=kept, step=step)


class _ByCertificate(UserManager):
    """Asks for the user of a certificate where asyncua asks for one of any kind."""

    def __init__(self, users: Users) -> None:
        self._users = users

    def get_user(self, iserver: Any, username: Any = None, password: Any = None, certificate: Any = None) -> Any:
        """See `UserManager`."""
        del iserver, username, password
        return self._users.by_certificate(certificate)


def _bounded(wanted: list[Any] | None) -> None:
    if wanted is not None and len(wanted) > PER_CALL_MAX:
        raise ServiceError(_CODES.BadTooManyOperations)


class Subscriptions(SubscriptionService):
    """Makes subscriptions of ours."""

    def __init__(self, server: ReadOnlyServer) -> None:
        super().__init__(server.aspace, iserver=server)
        self._server = server

    async def create_subscription(
        self, params: Any, callback: Any, session_id: Any, request_callback: Any = None
    ) -> Any:
        """See `SubscriptionService`."""
        server = self._server
        if len(self.subscriptions) >= server.settings.subscriptions:
            raise ServiceError(_CODES.BadTooManySubscriptions)
        result = ua.CreateSubscriptionResult()
        shortest_ms = server.settings.publish / 1e6
        wanted_ms = params.RequestedPublishingInterval
        result.RevisedPublishingInterval = max(wanted_ms, shortest_ms) if wanted_ms < 3_600_000 else 3_600_000.0
        result.RevisedLifetimeCount = self._clamp_lifetime_count(params.RequestedLifetimeCount)
        result.RevisedMaxKeepAliveCount = self._clamp_keep_alive_count(params.RequestedMaxKeepAliveCount)
        self._sub_id_counter += 1
        result.SubscriptionId = self._sub_id_counter
        made = Feed(
            result,
            self.aspace,
            server.source,
            params.MaxNotificationsPerPublish,
            callback=callback,
            session_id=session_id,
            request_callback=request_callback,
            delete_callback=lambda: self.subscriptions.pop(result.SubscriptionId, None),
            no_acks_limit=server.max_unacked_messages_per_subscription,
            max_queue_size=server.max_monitored_item_queue_size,
            publishing_enabled=params.PublishingEnabled,
        )
        await made.start()
        self.subscriptions[result.SubscriptionId] = made
        return result


class ReadOnlyServer(InternalServer):
    """The inner server, which hands out sessions of ours.

    Attributes:
        reads: values read by clients since the start.
    """

    def __init__(self, settings: OpcuaServer, users: Users, admission: Admission, source: Source) -> None:
        super().__init__(user_manager=users)
        self.settings, self.users, self.admission, self.source = settings, users, admission, source
        self.share = Share(settings.share, source.clock)
        self.reads = 0
        self.aspace._nodes = source.space  # noqa: SLF001  # as its own `load_aspace_shelf` does
        self.subscription_service = Subscriptions(self)
        self.isession.subscription_service = self.subscription_service
        self.allow_remote_admin = False
        self.min_session_timeout_ms, self.max_session_timeout_ms = 5_000, SESSION_TIMEOUT_MS
        self.max_unacked_messages_per_subscription = UNACKNOWLEDGED_MAX
        self.max_monitored_item_queue_size = 10
        self.max_pending_messages_per_connection = 64
        self.max_connections = settings.sessions + CONNECTIONS_SPARE
        self.max_pending_activation_seconds = ACTIVATION_S
        self.max_lifetime_count, self.max_keep_alive_count = LIFETIME_MAX, KEEP_ALIVE_MAX
        self.max_subscriptions = settings.subscriptions

    @property
    def clients(self) -> int:
        """Sessions of clients."""
        return len(self._external_sessions)

    @property
    def items(self) -> int:
        """Monitored items of all subscriptions."""
        return sum(s.items for s in self.subscription_service.subscriptions.values() if isinstance(s, Feed))

    def create_session(self, name: str, user: Any = None, external: bool = False) -> Any:  # noqa: FBT001, FBT002 - its
        """See `InternalServer`."""
        del user  # who it is, is known when the session is activated
        return Session(self, self.aspace, self.subscription_service, name, external=external)


class _Processor(UaProcessor):
    """Answers requests of one connection."""

    async def _process_message(self, typeid: Any, requesthdr: Any, seqhdr: Any, body: Any) -> Any:
        server: Any = self.iserver
        if typeid in _REFUSED:
            raise ServiceError(_CODES.BadServiceUnsupported)
        plain = isinstance(self._connection.security_policy, SecurityPolicyNone)
        if plain and typeid not in _OPEN and not server.settings.insecure:
            raise ServiceError(_CODES.BadSecurityPolicyRejected)
        if typeid in _BEGINNING and not plain:
            server.admission.check(self._connection.security_policy.peer_certificate)
        if typeid == _BROWSE_NEXT and self.session is not None and self.session.is_activated():
            response = ua.BrowseNextResponse()
            wanted = struct_from_binary(ua.BrowseNextParameters, body)
            response.Parameters.Results = await self.session.browse_next(wanted)
            answer: Any = self.send_response
            answer(requesthdr.RequestHandle, seqhdr, response)
            return True
        further: Any = super()._process_message
        return await further(typeid, requesthdr, seqhdr, body)


class _Protocol(OPCUAProtocol):
    """One connection."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        if self.processor is not None:
            processor: Any = _Processor(self.iserver, transport, self.limits)
            processor.set_policies(self.policies)
            self.processor = processor

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        # What is left is less than one chunk; a header that promises more would fill the memory.
        if len(self._buffer) > CHUNK_BYTES and self.transport is not None:
            self._buffer = b""
            self.transport.abort()

    async def _process_one_msg(self, header: Any, buf: Any) -> bool:
        server: Any = self.iserver
        share = server.share
        await share.turn()
        with share.spending():
            return bool(await super()._process_one_msg(header, buf))


class Listener(BinaryServer):
    """The listening socket."""

    def __init__(self, server: ReadOnlyServer, host: str, port: int, policies: list[Any]) -> None:
        chunks = REQUEST_BYTES_MAX // CHUNK_BYTES + 1
        super().__init__(server, host, port, TransportLimits(CHUNK_BYTES, CHUNK_BYTES, chunks, REQUEST_BYTES_MAX))
        self.set_policies(policies)

    def _make_protocol(self) -> OPCUAProtocol:
        return _Protocol(self.iserver, self._policies, self.clients, self.closing_tasks, self.limits)
