"""What a client of the OPC UA server may do: read, browse and subscribe, within bounds, and change nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import asyncua.ua
from asyncua.common.utils import ServiceError
from asyncua.server.internal_session import InternalSession
from asyncua.server.user_managers import UserManager

from twinedge.northbound.opcua_nodes import INDEX
from twinedge.northbound.users import Users

if TYPE_CHECKING:
    from twinedge.northbound.opcua_server import ReadOnlyServer

ua: Any = asyncua.ua  # it re-exports its names without saying so, which strict typing refuses

REQUEST_BYTES_MAX: Final = 1 << 20
PER_CALL_MAX: Final = 1_000  # nodes of one request, so that none holds up the agent for long
ITEMS_PER_CALL_MAX: Final = 500
REFERENCES_MAX: Final = 1_000  # of one answer to a browse; the rest is asked for
CONTINUATIONS_MAX: Final = 16
_CODES = ua.StatusCodes


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
                continue
            known = server.source.space.constant(wanted.NodeId, wanted.AttributeId)
            results.append(known or self.aspace.read_attribute_value(wanted.NodeId, wanted.AttributeId))
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
        _bounded(params.ItemsToCreate, ITEMS_PER_CALL_MAX)
        self._own(params.SubscriptionId)
        if self._server.items + len(params.ItemsToCreate) > self._server.settings.items:
            raise ServiceError(_CODES.BadTooManyMonitoredItems)
        return list(await super().create_monitored_items(params))

    async def modify_monitored_items(self, params: Any) -> list[Any]:
        """See `InternalSession`."""
        _bounded(params.ItemsToModify, ITEMS_PER_CALL_MAX)
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


class _ByCertificate(UserManager):
    """Asks for the user of a certificate where asyncua asks for one of any kind."""

    def __init__(self, users: Users) -> None:
        self._users = users

    def get_user(self, iserver: Any, username: Any = None, password: Any = None, certificate: Any = None) -> Any:
        """See `UserManager`."""
        del iserver, username, password
        return self._users.by_certificate(certificate)


def _bounded(wanted: list[Any] | None, most: int = PER_CALL_MAX) -> None:
    if wanted is not None and len(wanted) > most:
        raise ServiceError(_CODES.BadTooManyOperations)
