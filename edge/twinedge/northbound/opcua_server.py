"""asyncua's server with what a plant needs: bounds, encryption that cannot be left out, and sessions that only read.

asyncua's own is made for tests and trusted networks: it takes requests of any size, keeps what is subscribed without
bound, lets a client without a session register servers, and speaks without encryption to whoever asks for it. What
this module overrides closes that.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

import asyncua.ua
from asyncua.common.connection import TransportLimits
from asyncua.common.utils import ServiceError
from asyncua.crypto.security_policies import SecurityPolicyNone
from asyncua.server.binary_server_asyncio import BinaryServer, OPCUAProtocol
from asyncua.server.internal_server import InternalServer
from asyncua.server.subscription_service import SubscriptionService
from asyncua.server.uaprocessor import UaProcessor
from asyncua.ua.ua_binary import struct_from_binary

from twinedge.config.northbound import OpcuaServer
from twinedge.northbound.opcua_admission import Admission
from twinedge.northbound.opcua_base import load
from twinedge.northbound.opcua_feed import Feed, Source
from twinedge.northbound.opcua_sessions import ITEMS_PER_CALL_MAX, PER_CALL_MAX, REQUEST_BYTES_MAX, Session
from twinedge.northbound.share import Share
from twinedge.northbound.users import Users

ua: Any = asyncua.ua  # it re-exports its names without saying so, which strict typing refuses

CHUNK_BYTES: Final = 65_535
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

    async def load_standard_address_space(self, shelf_file: Any = None) -> None:
        """See `InternalServer`; of the nodes of OPC UA those that have a use here."""
        del shelf_file
        await asyncio.to_thread(load, self.aspace)

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


async def tell_limits(server: ReadOnlyServer) -> None:
    """Says in the nodes of `OperationLimits` how much a request may ask for; clients cut theirs accordingly."""
    limits = "Server_ServerCapabilities_OperationLimits_Max"
    for name in ("Read", "Write", "MethodCall", "Browse", "RegisterNodes", "TranslateBrowsePathsToNodeIds"):
        await _tell(server, f"{limits}NodesPer{name}", PER_CALL_MAX)
    await _tell(server, f"{limits}MonitoredItemsPerCall", ITEMS_PER_CALL_MAX)


async def _tell(server: ReadOnlyServer, node: str, number: int) -> None:
    value = ua.DataValue(ua.Variant(number, ua.VariantType.UInt32))
    await server.write_attribute_value(ua.NodeId(getattr(_IDS, node)), value)
