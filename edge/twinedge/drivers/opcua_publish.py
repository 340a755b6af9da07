"""Publish requests and their answers: several under way, taken in order, acknowledged once the sink has them.

The library's own loop keeps one request under way, turns every value into objects, drops a response it cannot read and
does not look at sequence numbers. This one sends the requests through the library's session and reads the bytes
itself. Where the library has lost the private method that gives the bytes, its loop serves instead (`hooked`).
"""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import asyncua.ua
from asyncua.client.client import Client
from asyncua.client.ua_session import UaSession
from asyncua.ua.ua_binary import struct_from_binary, struct_to_binary
from asyncua.ua.uaerrors import BadNoSubscription, BadTooManyPublishRequests, UaStatusCodeError

from twinedge.drivers.opcua_items import Item
from twinedge.drivers.opcua_variant import WireError
from twinedge.drivers.opcua_wire import Message, read_publish_response
from twinmodel.clock import SECOND_NS, Clock

ua: Any = asyncua.ua  # it re-exports its names without saying so, which strict typing refuses

DEPTH_MIN: Final = 2
DEPTH_MAX: Final = 8
REPUBLISH_MAX: Final = 32
FAULTS_MAX: Final = 8
FAULT_PAUSE_S: Final = 0.5
_ENDED: Final = (
    "BadSessionIdInvalid",
    "BadSessionClosed",
    "BadSessionNotActivated",
    "BadSecureChannelIdInvalid",
    "BadSecureChannelClosed",
    "BadConnectionClosed",
    "BadShutdown",
    "BadServerHalted",
)
SEQUENCE_WRAP: Final = (1 << 32) - 1
Take = Callable[[Message, int], Awaitable[None]]


class LostError(Exception):
    """The session ended, or nothing it says can be trusted any more."""


@dataclass(slots=True)
class Subscription:
    """One subscription of this connection.

    Attributes:
        id: number the server gave.
        publish_ms: publishing interval the server granted.
        keep_alive_ns: longest silence of a healthy server.
        heard_ns: boot time of its last message.
        sequence: number of its last message with content, 0 before the first.
    """

    id: int
    publish_ms: float
    keep_alive_ns: int
    heard_ns: int
    sequence: int = 0


def hooked() -> bool:
    """Whether the library has the private method that this module builds on."""
    method = getattr(UaSession, "_send_request", None)
    return callable(method) and {"request", "timeout"} <= set(inspect.signature(method).parameters)


class Publishing:
    """The subscriptions of one connection.

    Args:
        client: connected.
        clock: its boot clock finds silent subscriptions, its wall clock dates arrivals.
        take: given each message with content or end, and the wall time of its arrival; may wait (the server's queues
            then hold what comes).
        lost: told of holes: `take` cannot be given what the server no longer has.
        own: False uses the library's loop; for tests, the default asks `hooked`.
    """

    def __init__(
        self,
        client: Client,
        clock: Clock,
        take: Take,
        lost: Callable[[int], Awaitable[None]],
        *,
        own: bool | None = None,
    ) -> None:
        self._client, self._clock, self._take, self._lost = client, clock, take, lost
        self._own = hooked() if own is None else own
        self._acks: list[Any] = []
        self._begun = asyncio.Event()
        self._depth_max = DEPTH_MAX
        self.subscriptions: dict[int, Subscription] = {}
        self._faults = 0
        self.busy = False

    async def create(self, params: Any) -> Subscription:
        """Creates a subscription; its messages come once `run` runs."""
        if self._own:
            request = ua.CreateSubscriptionRequest()
            request.Parameters = params
            response = struct_from_binary(ua.CreateSubscriptionResponse, await self._send(request))
            response.ResponseHeader.ServiceResult.check()
            result = response.Parameters
        else:
            result = await self._client.uaclient.create_subscription(params, self._published)
        publish_ms = max(1.0, float(result.RevisedPublishingInterval))
        keep_alive_ns = round(publish_ms * 1e6) * max(1, int(result.RevisedMaxKeepAliveCount))
        made = Subscription(int(result.SubscriptionId), publish_ms, keep_alive_ns, self._clock.boot_ns())
        self.subscriptions[made.id] = made
        self._begun.set()
        return made

    async def run(self) -> None:
        """Keeps requests under way until cancelled.

        Raises:
            LostError: the server has no subscription of ours any more, or sends what is no publish response.
        """
        await self._begun.wait()
        if not self._own:
            await asyncio.Event().wait()
        async with asyncio.TaskGroup() as group:
            waiting: deque[asyncio.Task[tuple[bytes, int] | None]] = deque()
            while True:
                depth = min(self._depth_max, DEPTH_MIN + len(self.subscriptions))
                while len(waiting) < depth:
                    waiting.append(group.create_task(self._publish(), name="opcua publish"))
                found = await waiting.popleft()
                if found is not None:
                    body, arrival_ns = found
                    await self._handle(self._read(body), arrival_ns)

    async def _publish(self) -> tuple[bytes, int] | None:
        """One request: the bytes of its answer and when it came; None when the server wants fewer of them.

        It may wait here for those before it while the sink does not take them: it is dated when it comes.
        """
        request = ua.PublishRequest()
        acks, self._acks = self._acks, []
        request.Parameters.SubscriptionAcknowledgements = acks
        try:
            answer = await self._send(request)
            arrival_ns = self._clock.wall_ns()
            body: bytes = answer.read(len(answer))
        except BadTooManyPublishRequests:
            self._acks += acks
            self._depth_max = max(1, self._depth_max - 1)
            return None
        except BadNoSubscription as gone:
            raise LostError("the server has no subscription of ours") from gone
        except UaStatusCodeError as fault:
            # Servers have faults that pass, with the session and its subscriptions unharmed; a lost one says so.
            self._faults += 1
            if type(fault).__name__ in _ENDED or self._faults > FAULTS_MAX:
                raise
            await asyncio.sleep(FAULT_PAUSE_S)
            return None
        else:
            self._faults = 0
            return body, arrival_ns

    def _read(self, body: bytes) -> Message:
        try:
            return read_publish_response(body)
        except WireError as wrong:
            raise LostError(f"the server sent a publish response that cannot be read: {wrong}") from wrong

    async def _send(self, request: Any) -> Any:
        timeout = 0 if isinstance(request, ua.PublishRequest) else None
        return await self._client.uaclient.session._send_request(request, timeout=timeout)  # noqa: SLF001  # `hooked`

    async def _published(self, result: Any) -> None:
        """The library's loop hands over a `PublishResult`; written again, its bytes go the same way as our own."""
        response = ua.PublishResponse()
        response.Parameters = result
        await self._handle(self._read(struct_to_binary(response)), self._clock.wall_ns())

    async def _handle(self, message: Message, arrival_ns: int) -> None:
        subscription = self.subscriptions.get(message.subscription)
        if subscription is None:
            return
        begun_ns = subscription.heard_ns = self._clock.boot_ns()
        self.busy = True
        try:
            if await self._in_order(subscription, message, arrival_ns):
                await self._take(message, arrival_ns)
        finally:
            self.busy = False
            held_up_ns = self._clock.boot_ns() - begun_ns
            for each in self.subscriptions.values():
                each.heard_ns += held_up_ns  # nobody is silent while we do not listen
        if message.ended:
            raise LostError(f"the server ended the subscription: status 0x{message.ended:08X}")
        if not message.keep_alive and self._own:
            self._acks.append(ua.SubscriptionAcknowledgement(message.subscription, message.sequence))

    async def _in_order(self, subscription: Subscription, message: Message, arrival_ns: int) -> bool:
        """Asks again for messages that were skipped; False for one that came before.

        A keep-alive carries the number that the next message will have (Part 4, 5.13.1.1).
        """
        before = subscription.sequence
        expected = before % SEQUENCE_WRAP + 1
        skipped = (message.sequence - expected) % SEQUENCE_WRAP if before else 0
        if not message.keep_alive:
            if message.sequence == before and before:
                return False
            subscription.sequence = message.sequence
        elif skipped:
            subscription.sequence = (message.sequence - 2) % SEQUENCE_WRAP + 1
        if 0 < skipped < SEQUENCE_WRAP // 2:
            missing = [(expected - 1 + n) % SEQUENCE_WRAP + 1 for n in range(min(skipped, REPUBLISH_MAX))]
            again = [await self._again(subscription.id, sequence) for sequence in missing]
            if skipped > REPUBLISH_MAX or None in again:
                await self._lost(subscription.id)  # before what came: the hole begins in front of that
            for sequence, found in zip(missing, again, strict=True):
                if found is not None:
                    await self._take(found, arrival_ns)
                    self._acks.append(ua.SubscriptionAcknowledgement(subscription.id, sequence))
        return True

    async def _again(self, subscription: int, sequence: int) -> Message | None:
        """One message once more; None when the server no longer has it."""
        try:
            again = await self._client.uaclient.session.republish(subscription, sequence)
        except (UaStatusCodeError, TimeoutError):
            return None
        if not again.NotificationData:
            return None
        response = ua.PublishResponse()
        response.Parameters.SubscriptionId = subscription
        response.Parameters.NotificationMessage = again
        return self._read(struct_to_binary(response))

    def missed(self) -> int:
        """Keep-alives that the most silent subscription misses; 0 while the sink holds us up."""
        if self.busy:
            return 0
        now_ns = self._clock.boot_ns()
        silent = ((now_ns - s.heard_ns - SECOND_NS) // s.keep_alive_ns for s in self.subscriptions.values())
        return max(0, *silent, 0)


def changes_of(items: Sequence[Item], values: Sequence[Any]) -> Message:
    """Values that were read, one per item, as if the server had published them."""
    response = ua.PublishResponse()
    pairs = zip(items, values, strict=True)
    changes = [ua.MonitoredItemNotification(ClientHandle=i.handle, Value=value) for i, value in pairs]
    response.Parameters.NotificationMessage.NotificationData = [ua.DataChangeNotification(MonitoredItems=changes)]
    return read_publish_response(struct_to_binary(response))
