"""From addresses to monitored items on one connection: limits of the server, nodes, several subscriptions."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, Final, TypeVar

import asyncua.ua
from asyncua.client.client import Client
from asyncua.ua.uaerrors import BadTooManyOperations, BadTooManySubscriptions, UaStatusCodeError

from twinedge.drivers.opcua_items import Item, browse_path, item_request, node_id
from twinedge.drivers.opcua_publish import Publishing, Subscription
from twinmodel.clock import MILLISECOND_NS
from twinmodel.profile.node import NodeAddress

ua: Any = asyncua.ua  # it re-exports its names without saying so, which strict typing refuses

BATCH_MAX: Final = 500
ITEMS_PER_SUBSCRIPTION: Final = 4000
SUBSCRIPTIONS_MAX: Final = 64
NOTIFICATIONS_MAX: Final = 10_000
PUBLISH_MIN_MS, PUBLISH_MAX_MS = 50, 500
KEEPALIVE_MS: Final = 2000
LIFETIME_KEEPALIVES: Final = 30
_FULL: Final = ("BadTooManyMonitoredItems", "BadTooManySubscriptions", "BadMonitoredItemIdInvalid")
_FILTER: Final = (
    ua.StatusCodes.BadMonitoredItemFilterUnsupported,
    ua.StatusCodes.BadFilterNotAllowed,
    ua.StatusCodes.BadDeadbandFilterInvalid,
)
_LIMITS: Final = {
    "monitor": "Server_ServerCapabilities_OperationLimits_MaxMonitoredItemsPerCall",
    "translate": "Server_ServerCapabilities_OperationLimits_MaxNodesPerTranslateBrowsePathsToNodeIds",
    "read": "Server_ServerCapabilities_OperationLimits_MaxNodesPerRead",
    "browse": "Server_ServerCapabilities_OperationLimits_MaxNodesPerBrowse",
    "subscription": "Server_ServerCapabilities_MaxMonitoredItemsPerSubscription",
}
T = TypeVar("T")
R = TypeVar("R")


class Limits:
    """What a server takes in one request: what it says, at most `BATCH_MAX`, and less once it refused or was too slow.

    Kept from one connection to the next, for what was learned from a request that took too long.
    """

    def __init__(self) -> None:
        self._of: dict[str, int] = {}
        self._slow: dict[str, int] = {}

    async def read(self, client: Client) -> None:
        """Asks the server; what it does not know stays at the default."""
        nodes = [ua.NodeId(getattr(ua.ObjectIds, name)) for name in _LIMITS.values()]
        values = await client.uaclient.session.read_attributes(nodes, ua.AttributeIds.Value)
        for name, found in zip(_LIMITS, values, strict=True):
            told = found.Value.Value if found.Value is not None else None
            if isinstance(told, int) and not isinstance(told, bool) and told > 0:
                self._of[name] = told

    def size(self, name: str, most: int = BATCH_MAX) -> int:
        """How many at once."""
        return max(1, min(most, self._of.get(name, most), self._slow.get(name, most)))

    async def batches(
        self, name: str, things: Sequence[T], ask: Callable[[Sequence[T]], Awaitable[Sequence[R]]]
    ) -> list[R]:
        """Asks in batches; a batch that is too many for the server is halved, down to one.

        Raises:
            TimeoutError: the server took too long; the next connection asks for half as many at once.
        """
        answers: list[R] = []
        while len(answers) < len(things):
            part = things[len(answers) : len(answers) + self.size(name)]
            try:
                answers += await ask(part)
            except BadTooManyOperations:
                if len(part) == 1:
                    raise
                self._of[name] = len(part) // 2
            except TimeoutError:
                self._slow[name] = max(1, len(part) // 2)  # for the next connection; this one is given up
                raise
        return answers


async def resolve(client: Client, limits: Limits, items: Sequence[Item]) -> None:
    """Gives each item the node id it has now, None where there is no node."""
    uris = await client.get_namespace_array()
    paths: list[tuple[Item, Any]] = []
    for item in items:
        item.node = None
        if isinstance(item.address, NodeAddress):
            item.node = node_id(item.address, item.namespace, uris)
            continue
        path = browse_path(item, uris)
        if path is not None:
            paths.append((item, path))
    found = await translate(client, limits, [path for _, path in paths])
    for (item, _), result in zip(paths, found, strict=True):
        if result.StatusCode.is_good() and result.Targets:
            target = result.Targets[0].TargetId
            item.node = ua.NodeId(target.Identifier, target.NamespaceIndex, target.NodeIdType)


async def translate(client: Client, limits: Limits, paths: Sequence[Any]) -> list[Any]:
    """Results of browse paths, in their order."""

    async def ask(part: Sequence[Any]) -> Sequence[Any]:
        return await client.uaclient.session.translate_browsepaths_to_nodeids(list(part))

    return await limits.batches("translate", paths, ask)


async def read_values(client: Client, limits: Limits, items: Sequence[Item]) -> list[Any]:
    """Data values of resolved items, with both time stamps, as the server has them now."""

    async def ask(part: Sequence[Item]) -> Sequence[Any]:
        params = ua.ReadParameters()
        params.TimestampsToReturn = ua.TimestampsToReturn.Both
        params.NodesToRead = [ua.ReadValueId(NodeId=i.node, AttributeId=ua.AttributeIds.Value) for i in part]
        found: Sequence[Any] = await client.uaclient.session.read(params)
        return found

    return await limits.batches("read", items, ask)


class Monitor:
    """Creates subscriptions as items need them; each takes as many as the server allows."""

    def __init__(self, client: Client, limits: Limits, publishing: Publishing) -> None:
        self._client, self._limits, self._publishing = client, limits, publishing
        self._room: dict[int, int] = {}

    async def add(self, items: Sequence[Item]) -> list[tuple[Item, str]]:
        """Monitors items; returns those the server refuses, with the name of the status."""
        refused = [(item, "BadNodeIdUnknown") for item in items if item.node is None]
        todo = [item for item in items if item.node is not None]
        for filtered in (True, False):
            again: list[Item] = []
            for part in self._parts(todo):
                refused += await self._fill(part, again, filtered=filtered)
            todo = again
        return refused

    def _parts(self, items: Sequence[Item]) -> Iterator[list[Item]]:
        size = self._limits.size("subscription", ITEMS_PER_SUBSCRIPTION)
        for start in range(0, len(items), size):
            yield list(items[start : start + size])

    async def _fill(self, items: list[Item], again: list[Item], *, filtered: bool) -> list[tuple[Item, str]]:
        """Puts items into subscriptions with room; those whose filter is refused go to `again`."""
        refused: list[tuple[Item, str]] = []
        fresh = False
        while items:
            try:
                subscription, fresh = await self._with_room(items)
            except UaStatusCodeError as full:
                return refused + [(item, type(full).__name__) for item in items]
            take = items[: self._room[subscription.id]]
            results = await self._create(subscription, take, filtered=filtered)
            left: list[Item] = []
            for item, result in zip(take, results, strict=True):
                status = result.StatusCode
                if filtered and status.value in _FILTER:
                    again.append(item)
                elif status.name in _FULL and not (fresh and len(left) == len(take) - 1):
                    left.append(item)
                elif not status.is_good():
                    refused.append((item, status.name))
            self._room[subscription.id] = 0 if left else self._room[subscription.id] - len(take)
            if len(left) == len(take) and fresh:
                return refused + [(item, "BadTooManyMonitoredItems") for item in (*left, *items[len(take) :])]
            items = left + items[len(take) :]
        return refused

    async def _with_room(self, items: Sequence[Item]) -> tuple[Subscription, bool]:
        for number, room in self._room.items():
            if room > 0:
                return self._publishing.subscriptions[number], False
        if len(self._room) >= SUBSCRIPTIONS_MAX:
            raise BadTooManySubscriptions
        made = await self._publishing.create(subscription_params(items))
        self._room[made.id] = self._limits.size("subscription", ITEMS_PER_SUBSCRIPTION)
        return made, True

    async def _create(self, subscription: Subscription, items: Sequence[Item], *, filtered: bool) -> list[Any]:
        async def ask(part: Sequence[Item]) -> Sequence[Any]:
            params = ua.CreateMonitoredItemsParameters()
            params.SubscriptionId = subscription.id
            params.TimestampsToReturn = ua.TimestampsToReturn.Both
            params.ItemsToCreate = [item_request(item, subscription.publish_ms, filtered=filtered) for item in part]
            made: Sequence[Any] = await self._client.uaclient.session.create_monitored_items(params)
            return made

        return await self._limits.batches("monitor", items, ask)


def subscription_params(items: Sequence[Item]) -> Any:
    """As often as the fastest of the items is sampled, within bounds; a keep-alive every two seconds."""
    fastest_ms = min(item.every_ns for item in items) // MILLISECOND_NS
    publish_ms = max(PUBLISH_MIN_MS, min(PUBLISH_MAX_MS, fastest_ms))
    params = ua.CreateSubscriptionParameters()
    params.RequestedPublishingInterval = publish_ms
    params.RequestedMaxKeepAliveCount = max(1, KEEPALIVE_MS // publish_ms)
    params.RequestedLifetimeCount = LIFETIME_KEEPALIVES * params.RequestedMaxKeepAliveCount
    params.MaxNotificationsPerPublish = NOTIFICATIONS_MAX
    params.PublishingEnabled = True
    return params
