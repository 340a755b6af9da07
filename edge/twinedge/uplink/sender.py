"""Drives the session with the coordinator over gRPC: sends what the spool holds, for ever, and says how it stands.

    pipeline ─wake()─▶ ┌────────┐ ─Up──▶ coordinator
    spool ◀─unsent()── │ Uplink │ ◀─Down─
    receiver ─report()▶└────────┘ ─offer()─▶ receiver

Cancelling `run` drops the stream; nothing is lost by it, as only the coordinator's marks delete.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable
from random import Random
from typing import NoReturn, TypeAlias, cast

import grpc
import grpc.aio
import structlog

from twinedge.uplink.closing import ANEW, chain_of, close_of, unreachable
from twinedge.uplink.ports import CommandPort, DownlinkPort, SpoolPort
from twinedge.uplink.status import Tally, UplinkStatus
from twinmodel.clock import SECOND_NS, Clock
from twinmodel.errors import MissingError, TwinError, UnreachableError
from twinsync.backoff import Backoff
from twinsync.channel import Credentials, open_channel, valid_until_ns
from twinsync.command import Command, CommandConfirmed, CommandState
from twinsync.directive import Directive, DirectiveState
from twinsync.envelope import down_from_proto, up_to_proto
from twinsync.session import EdgeLimits, EdgeSession, EdgeState
from twinsync.session.edge import (
    Acknowledge,
    Appended,
    Beat,
    Close,
    Compare,
    EdgeAction,
    EdgeEvent,
    Established,
    LinkDown,
    LinkUp,
    Progressed,
    Pull,
    Pulled,
    Rewind,
    Send,
    SendCatalogue,
    Tick,
)
from twinsync.session.messages import PROTOCOL, Coarsen, Committed, Down, Heartbeat, Hello, Items, Part, Reject, Up
from twinsync.session.pacing import Pacer
from twinsync.session.verdicts import verdict_of
from twinsync.v1 import sync_pb2, sync_pb2_grpc

_log = structlog.get_logger(__name__)

INBOX_MAX = 64
REPORTS_MAX = 256
WRITE_TIMEOUT_S = 30.0
LAST_WORD_TIMEOUT_S = 2.0

_Call: TypeAlias = "grpc.aio.StreamStreamCall[sync_pb2.Up, sync_pb2.Down]"


class Uplink:
    """The gateway's one connection to its coordinator; all calls come from the event loop.

    Args:
        address: `host:port` of the coordinator, see `use`.
        credentials: read before each connection, so that a renewed certificate is used; may raise a TwinError.
        spool: what is sent.
        downlink: where directives go.
        commands: where commands go; without it they are left unanswered.
        clock: boot clock for all waiting, wall clock for what is told.
        random: jitter.
        agent_version: told to the coordinator.
        server_name: name in the coordinator's certificate when it differs from the host.
        edge_limits: patience of a session.
        backoff: waits between sessions.
        on_server_time: told what the coordinator's clock says, and at which boot time it was asked.
    """

    def __init__(
        self,
        address: str,
        credentials: Callable[[], Credentials],
        spool: SpoolPort,
        downlink: DownlinkPort,
        *,
        clock: Clock,
        random: Random,
        agent_version: str,
        server_name: str = "",
        commands: CommandPort | None = None,
        edge_limits: EdgeLimits | None = None,
        backoff: Backoff | None = None,
        on_server_time: Callable[[int, int], None] = lambda _server_ns, _asked_ns: None,
    ) -> None:
        self._address = address
        self._credentials = credentials
        self._spool = spool
        self._downlink = downlink
        self._commands = commands
        self._clock = clock
        self._agent_version = agent_version
        self._server_name = server_name
        self._machine = EdgeSession(edge_limits or EdgeLimits(), Pacer())
        self._backoff = backoff or Backoff(random)
        self._on_server_time = on_server_time
        self._asked_ns = 0
        self._inbox: asyncio.Queue[Down | Close | None] = asyncio.Queue(INBOX_MAX)
        self._reports: deque[DirectiveState | CommandState] = deque(maxlen=REPORTS_MAX)
        self._woken = self._reopens = False
        self._retry = asyncio.Event()
        self._channel: grpc.aio.Channel | None = None
        self._tally = Tally(clock.wall_ns())

    def wake(self) -> None:
        """The spool has new items; costs nothing when nobody listens."""
        self._woken = True
        self._stir()

    def report(self, state: DirectiveState | CommandState) -> None:
        """Tells an outcome or a step at once when a session is open; else the port's `states` tells it later."""
        self._reports.append(state)
        self._stir()

    def retry_now(self) -> None:
        """Ends a wait between two sessions, for instance because there is a new certificate."""
        self._retry.set()

    def reopen(self) -> None:
        """Ends an open session for one that begins with what is present now: an earlier catalogue, again."""
        self._reopens |= self._machine.state is EdgeState.OPEN
        self._stir()

    def use(self, address: str) -> None:
        """Connects to this address from now on; a session with another one ends."""
        if address != self._address:
            self._address, self._reopens = address, True
            self.retry_now()
            self._stir()

    def status(self) -> UplinkStatus:
        """How the uplink stands, for the local page."""
        return self._tally.status(self._machine)

    async def fetch(self, digest: bytes, offset: int) -> AsyncGenerator[tuple[int, int, bytes], None]:
        """Chunks (offset, total, bytes) of an artifact from an offset on.

        Raises:
            MissingError: UNKNOWN_MODEL, the coordinator does not have it.
            UnreachableError: the link is down or was cut; worth another try from where it stopped.
        """
        channel = self._channel
        if channel is None:
            raise UnreachableError("COORDINATOR_UNREACHABLE", f"{self._address}: no connection")
        try:
            request = sync_pb2.FetchRequest(digest=digest, offset=offset)
            async for chunk in _stub(channel).Fetch(request):
                yield chunk.offset, chunk.total, chunk.data
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                raise MissingError("UNKNOWN_MODEL", f"the coordinator has no artifact {digest.hex()}") from error
            raise UnreachableError("COORDINATOR_UNREACHABLE", f"{self._address}: {error.details()}") from error
        except asyncio.CancelledError:
            # A channel that is closed cancels its calls; only a cancelled task may end by it.
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise UnreachableError("COORDINATOR_UNREACHABLE", f"{self._address}: the link was cut") from None

    async def run(self) -> NoReturn:
        """Holds a session open until cancelled; comes back from every failure."""
        while True:
            ended = self._named(await self._one_session())
            now_ns = self._clock.boot_ns()
            due_ns = self._backoff.failed(now_ns, floor_ns=ended.wait_ns)
            self._tally.lost(ended, self._clock.wall_ns(), due_ns - now_ns)
            self._retry.clear()
            try:
                async with asyncio.timeout((due_ns - now_ns) / SECOND_NS):
                    await self._retry.wait()
            except TimeoutError:
                continue

    async def _one_session(self) -> Close:
        """Connects and serves one session to its end; tells why it ended."""
        try:
            credentials = self._credentials()
            self._tally.certificate_until_ns = valid_until_ns(credentials.chain)
        except TwinError as error:
            return close_of(error)
        self._inbox = asyncio.Queue(INBOX_MAX)
        self._reopens = False
        try:
            async with open_channel(self._address, credentials, server_name=self._server_name) as channel:
                call = _stub(channel).Session()
                self._channel = channel
                async with asyncio.TaskGroup() as group:
                    reading = group.create_task(self._read(call), name="uplink-read")
                    try:
                        return await self._serve(call)
                    finally:
                        reading.cancel()
                        call.cancel()
        finally:
            self._channel = None
            self._machine.receive(LinkDown(), self._clock.boot_ns())
            if self._commands is not None:
                self._commands.session_ended()

    async def _serve(self, call: _Call) -> Close:
        try:
            return await self._converse(call)
        except (TwinError, TimeoutError) as error:
            return close_of(error)
        except (grpc.aio.AioRpcError, grpc.aio.UsageError, asyncio.InvalidStateError) as error:
            return await self._last_word(error)

    async def _last_word(self, error: Exception) -> Close:
        """A write failed: the coordinator may have said why before it hung up."""
        try:
            async with asyncio.timeout(LAST_WORD_TIMEOUT_S):
                while True:
                    event = await self._inbox.get()
                    if isinstance(event, Close):
                        return event
                    if isinstance(event, Reject):
                        for action in self._machine.receive(event, self._clock.boot_ns()):
                            if isinstance(action, Close):
                                return action
        except TimeoutError:
            return close_of(error)

    async def _converse(self, call: _Call) -> Close:
        facts = await self._spool.hello_facts()
        boots = chain_of(facts.boots)
        # More boots may hold something than a hello may name; the coordinator knows those from earlier ones.
        named = {boot.id for boot in boots}
        hello = Hello(
            PROTOCOL,
            PROTOCOL,
            self._agent_version,
            boots,
            tuple(one for one in facts.ranges if one.boot in named),
            self._clock.wall_ns(),
            self._clock.boot_ns(),
            facts.clock,
            self._downlink.running(),
            facts.schemas,
        )
        ended = await self._take(call, LinkUp(hello))
        while ended is None:
            event = await self._next()
            if isinstance(event, Close):
                return event
            ended = await self._take(call, event) or await self._look_around(call)
        return ended

    async def _next(self) -> EdgeEvent | Close:
        """What happened first: a message, new items, or nothing for too long."""
        due_ns = self._machine.deadline_ns()
        wait_ns = SECOND_NS if due_ns is None else max(due_ns - self._clock.boot_ns(), 0)
        try:
            async with asyncio.timeout(wait_ns / SECOND_NS):
                return await self._inbox.get() or Appended()
        except TimeoutError:
            return Tick()

    async def _look_around(self, call: _Call) -> Close | None:
        """What may have come up while a message was handled."""
        if self._reopens:
            return ANEW
        if self._machine.state is EdgeState.OPEN:
            while self._reports:
                await self._write(call, self._reports.popleft())
        if self._woken:
            self._woken = False
            ended = await self._take(call, Appended())
            if ended is not None:
                return ended
        due_ns = self._machine.deadline_ns()
        return await self._take(call, Tick()) if due_ns is not None and self._clock.boot_ns() >= due_ns else None

    async def _take(self, call: _Call, event: EdgeEvent) -> Close | None:
        """Has the machine take an event and does all it asks for; tells when it asks to close."""
        in_flight = self._machine.window.items
        actions = deque(self._machine.receive(event, self._clock.boot_ns()))
        if isinstance(event, Committed):
            self._tally.committed(event, in_flight - self._machine.window.items, self._clock.boot_ns())
        elif isinstance(event, Heartbeat) and self._machine.state is EdgeState.OPEN:
            way_ns = self._machine.pacer.rate.delay_ns if self._machine.pacer is not None else 0
            self._on_server_time(event.wall_ns, self._clock.boot_ns() - way_ns)
        elif isinstance(event, Coarsen) and self._machine.state is EdgeState.OPEN:
            await self._spool.coarsen(event)
        elif isinstance(event, Directive) and self._machine.state is EdgeState.OPEN:
            self._downlink.offer(event)
        elif self._commands is not None and self._machine.state is EdgeState.OPEN:
            if isinstance(event, Command):
                self._commands.order(event)
            elif isinstance(event, CommandConfirmed):
                self._commands.confirmed(event)
        while actions:
            action = actions.popleft()
            if isinstance(action, Close) or (self._reopens and isinstance(action, Pull | Send)):
                return action if isinstance(action, Close) else ANEW
            actions.extend(await self._act(call, action))
        return None

    async def _act(self, call: _Call, action: EdgeAction) -> list[EdgeAction]:
        match action:
            case Send():
                if isinstance(action.message, Items | Part):
                    self._tally.sent(action.message, self._clock.boot_ns())
                await self._write(call, action.message)
            case Pull():
                items = await self._spool.unsent(action.after, action.bytes_max, action.items_max)
                return self._machine.receive(Pulled(action.generation, tuple(items)), self._clock.boot_ns())
            case Acknowledge():
                await self._spool.acknowledge(action.marks)
            case SendCatalogue():
                await self._send_catalogue(call, action.digest)
            case Beat():
                await self._beat(call, action.session)
            case Rewind() | Compare():
                await self._spool.rewind(action.marks)
            case Progressed():
                self._backoff.progressed()
            case Established():
                self._on_server_time(action.server_ns, self._asked_ns)
                self._tally.found(self._clock.wall_ns(), self._address)
                await self._spool.confirm_boot()
                self._reports.clear()
                told: list[Up] = [*self._downlink.states(), *(self._commands.states() if self._commands else ())]
                for state in told:
                    await self._write(call, state)
        return []

    async def _send_catalogue(self, call: _Call, digest: bytes) -> None:
        catalogue = await self._spool.catalogue(digest)
        if catalogue is None:
            _log.error("catalogue is gone, its blocks become dead letters", schema=digest.hex())
            return
        await self._write(call, catalogue)

    async def _beat(self, call: _Call, session: int) -> None:
        backlog = await self._spool.backlog()
        left = backlog.bytes, backlog.samples, backlog.oldest_ns
        news = None if self._commands is None else self._commands.commandables()
        await self._write(call, Heartbeat(session, self._clock.wall_ns(), self._downlink.running(), *left, news))

    async def _write(self, call: _Call, message: Up) -> None:
        async with asyncio.timeout(WRITE_TIMEOUT_S):
            await call.write(up_to_proto(message))
        if isinstance(message, Hello):
            self._asked_ns = self._clock.boot_ns()

    async def _read(self, call: _Call) -> None:
        """Brings messages to the inbox; the last thing it brings is why there are no more."""
        try:
            while True:
                message = await call.read()
                if not isinstance(message, sync_pb2.Down):
                    detail = await call.details() or "the coordinator ended the session"
                    await self._inbox.put(unreachable(detail))
                    return
                await self._inbox.put(down_from_proto(message))
        except (TwinError, grpc.aio.AioRpcError) as error:
            await self._inbox.put(close_of(error))

    def _named(self, ended: Close) -> Close:
        """An expired certificate looks like a cut cable to gRPC: look at our own."""
        until_ns = self._tally.certificate_until_ns
        if ended.reason == "CERT_EXPIRED" and self._renewed():
            return Close("RETRY_AFTER", "the session's certificate ended, it was renewed meanwhile", 0, False)
        if ended.reason != "COORDINATOR_UNREACHABLE" or not 0 < until_ns < self._clock.wall_ns():
            return ended
        verdict = verdict_of("CERT_EXPIRED")
        detail = "this gateway's certificate has expired, the coordinator does not answer to it"
        return Close("CERT_EXPIRED", detail, verdict.wait_ns, verdict.needs_operator)

    def _renewed(self) -> bool:
        """Whether the certificate at hand lives longer than the one of the last session."""
        try:
            return valid_until_ns(self._credentials().chain) > self._tally.certificate_until_ns > 0
        except TwinError:
            return False

    def _stir(self) -> None:
        if self._inbox.empty():
            self._inbox.put_nowait(None)


def _stub(channel: grpc.aio.Channel) -> sync_pb2_grpc.SyncAsyncStub:
    # One class serves both kinds of channel; the stubs name the asynchronous one apart.
    return cast("sync_pb2_grpc.SyncAsyncStub", sync_pb2_grpc.SyncStub(channel))
