"""One gateway's stream: drives a `ServerSession` with what is read, what was committed and what time it is."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from typing import Any, TypeAlias

import grpc.aio
import structlog

from twincloud.ingest.limits import IngestLimits
from twincloud.ingest.ports import CommandSource, DirectiveSource
from twincloud.ingest.writer import Ticket, Writer, refusal_of
from twincloud.storage.contract import Beat, GatewayKey, Ingest, Opened, Running
from twincloud.storage.contract import Hello as StoredHello
from twinmodel.clock import SECOND_NS, Clock
from twinmodel.errors import MissingError, TwinError
from twinmodel.signal import Stream
from twinsync.channel import Identity
from twinsync.command import CommandConfirmed, CommandState, CommandStep
from twinsync.directive import Directive, DirectiveState
from twinsync.envelope import down_to_proto, up_from_proto
from twinsync.item import Boot
from twinsync.session import ServerSession
from twinsync.session.messages import Coarsen, Down, Heartbeat, Hello
from twinsync.session.server import (
    Close,
    Desired,
    Established,
    Granted,
    Keep,
    Note,
    Open,
    Ordered,
    Refused,
    Regrant,
    Send,
    ServerAction,
    ServerEvent,
    Settle,
    Store,
    Stored,
    Tick,
    Wished,
)
from twinsync.v1 import sync_pb2

_log = structlog.get_logger(__name__)

OFFSET_NEWS_NS = SECOND_NS
"""A clock that is off by this much more or less than was told is told again."""

Context: TypeAlias = grpc.aio.ServicerContext[sync_pb2.Up, sync_pb2.Down]
Call: TypeAlias = Callable[..., Awaitable[Any]]
Greet: TypeAlias = Callable[[tuple[GatewayKey, StoredHello]], Awaitable[Opened]]
Spawn: TypeAlias = Callable[[Coroutine[Any, Any, None], str], None]


class GatewayStream:
    """One open stream; `run` ends when it is over.

    A fleet is mostly idle: a stream that has nothing to write and nothing to deliver is one waiting task, no more.

    Args:
        greet: opens a session in the store.
        in_thread: awaits a blocking call of the store.
        spawn: runs a coroutine as a task of the service.
        on_established: told when the session is open, before anything of it is stored.
    """

    def __init__(
        self,
        gateway: GatewayKey,
        identity: Identity,
        *,
        store: Ingest,
        mailbox: DirectiveSource,
        commands: CommandSource | None,
        writer: Writer,
        clock: Clock,
        limits: IngestLimits,
        greet: Greet,
        in_thread: Call,
        spawn: Spawn,
        is_revoked: Callable[[str], bool],
        on_established: Callable[[GatewayStream], None],
    ) -> None:
        self._gateway = gateway
        self.identity = identity
        self._store = store
        self._mailbox = mailbox
        self._commands = commands
        self._writer = writer
        self._clock = clock
        self._limits = limits
        self._greet = greet
        self._in_thread = in_thread
        self._spawn = spawn
        self._is_revoked = is_revoked
        self._on_established = on_established
        self._machine = ServerSession(clock.boot_ns(), limits.session)
        self._outbox: deque[Down] = deque()
        self._context: Context | None = None
        self._reader: asyncio.Task[Any] | None = None
        self._writing = self._delivering = self._news = self._ended = False
        self._written: asyncio.Future[None] | None = None
        self._delivered, self._unanswered = frozenset[str](), set[str]()
        self._recheck_ns = clock.boot_ns() + limits.recheck_ns
        self._asked: dict[tuple[Stream, str], Coarsen] = {}
        self._offset_ns: int | None = None
        self._opened = 0
        self.session = 0
        self.alive = True

    @property
    def gateway(self) -> GatewayKey:
        """Whose stream it is."""
        return self._gateway

    @property
    def paused(self) -> bool:
        """Whether the gateway was last told to pause."""
        return self.alive and self._machine.paused

    def feed(self, event: Stored | Refused | Regrant | Desired | Ordered | Wished | Tick) -> None:
        """Takes what happened inside the coordinator; answers are queued, nothing blocks."""
        for action in self._machine.receive(event, self._clock.boot_ns()):
            self._post(action)

    def look_for_directives(self) -> None:
        """Has open directives, and coarser periods that are asked for, read again soon."""
        self._news = True
        if self.alive and self.session and not self._delivering:
            self._delivering = True
            self._spawn(self._deliver(), f"deliver-{self._gateway.gateway}")

    def watch(self, now_ns: int) -> None:
        """Turns the session's clock and looks at the certificate again when that is due; called now and then."""
        if now_ns >= self._recheck_ns:
            self._recheck_ns = now_ns + self._limits.recheck_ns
            self.recheck()
        due_ns = self._machine.deadline_ns()
        if self.alive and due_ns is not None and now_ns >= due_ns:
            self.feed(Tick(self._clock.wall_ns()))

    async def run(self, context: Context) -> None:
        """Serves the stream to its end; raises only CancelledError."""
        self._context, self._reader = context, asyncio.current_task()
        try:
            await self._read(context)
            if self._writing:
                self._written = asyncio.get_running_loop().create_future()
                await self._written
        except asyncio.CancelledError:
            # Our own end interrupts the read; whoever else cancels means it.
            if not self._ended or self._reader is None or self._reader.uncancel() > 0:
                raise
        finally:
            self.alive = False
            # A stream that was cut meanwhile never takes the session the store has opened.
            if self._opened:
                await asyncio.shield(self._leave())

    async def _leave(self) -> None:
        try:
            await self._in_thread(self._store.close_session, self._gateway, self._opened, self._clock.wall_ns())
            if self._commands is not None:
                await self._in_thread(self._commands.session_ended, self._gateway, self._opened)
        except TwinError as error:
            _log.warning("departure not noted", gateway=self._gateway.gateway, reason=error.reason)

    async def _read(self, context: Context) -> None:
        while self.alive:
            message = await context.read()
            if not isinstance(message, sync_pb2.Up):  # the end of the stream
                return
            try:
                event: ServerEvent = up_from_proto(message)
            except TwinError as error:
                event = Refused(error.reason, error.message)
            for action in self._machine.receive(event, self._clock.boot_ns()):
                await self._act(action)

    async def _act(self, action: ServerAction) -> None:
        try:
            match action:
                case Open():
                    await self._open(action.hello)
                case Keep():
                    await self._in_thread(
                        self._store.put_catalogue, self._gateway, self.session, action.catalogue, self._clock.wall_ns()
                    )
                    await self._assign_defaults()
                case Note():
                    self._note(action.heartbeat)
                case Settle():
                    await self._settle(action.state)
                case _:
                    self._post(action)
        # Whatever the store does to one gateway's request ends that gateway's stream and nothing else.
        except Exception as error:  # noqa: BLE001 - see above; it is told to the gateway and logged
            if not isinstance(error, TwinError):
                _log.error("session failed", gateway=self._gateway.gateway, exc_info=error)
            self.feed(refusal_of(error, self._limits.retry_after_ns))

    async def _assign_defaults(self) -> None:
        """Twins that are new here get the model their site.yaml names."""
        assign = partial(self._store.assign_defaults, gateway=self._gateway, now_ns=self._clock.wall_ns())
        if await self._in_thread(assign, self._gateway.tenant):
            self.look_for_directives()

    def _post(self, action: ServerAction) -> None:
        match action:
            case Send():
                if len(self._outbox) >= self._limits.outbox_max:
                    self._end()
                else:
                    self._outbox.append(action.message)
                    self._write_soon()
            case Store():
                self._writer.submit(Ticket(self, action.session, action.items, action.bytes, self._clock.wall_ns()))
            case Established():
                self.session = action.session
                self._on_established(self)
                self.look_for_directives()
            case Close():
                _log.info("session ended", gateway=self._gateway.gateway, reason=action.reason, detail=action.detail)
                self._end()
            case _:
                raise AssertionError(f"{type(action).__name__} is answered where it is read")

    async def _open(self, hello: Hello) -> None:
        stored = StoredHello(
            tuple(Boot(b.id, b.previous, b.counter, b.started_ns, b.clock) for b in hello.boots),
            hello.agent_version,
            hello.clock,
            hello.schemas,
            tuple(Running(r.twin, r.digest, r.name, r.tier, r.isolation) for r in hello.running),
            self.identity.serial,
            self.identity.until_ns,
        )
        opened = await self._greet((self._gateway, stored))
        self._opened = opened.session
        now_ns = self._clock.wall_ns()
        granted = Granted(opened.session, opened.marks, opened.missing_schemas, self._writer.credit(), now_ns)
        for action in self._machine.receive(granted, self._clock.boot_ns()):
            self._post(action)
        if not opened.missing_schemas:
            await self._assign_defaults()

    def _note(self, heartbeat: Heartbeat) -> None:
        now_ns = self._clock.wall_ns()
        beat = Beat(
            self._gateway,
            self.session,
            heartbeat.backlog_bytes,
            heartbeat.backlog_samples,
            heartbeat.oldest_ns,
            tuple(Running(r.twin, r.digest, r.name, r.tier, r.isolation) for r in heartbeat.running),
            now_ns,
            self._offset(now_ns - heartbeat.wall_ns),
            heartbeat.commandables,
        )
        self._writer.note(self, beat)

    def _offset(self, found_ns: int) -> int | None:
        """What our clock is ahead of the gateway's, the way of the message included; None when that is no news."""
        if self._offset_ns is not None and abs(found_ns - self._offset_ns) < OFFSET_NEWS_NS:
            return None
        self._offset_ns = found_ns
        return found_ns

    async def _settle(self, state: DirectiveState | CommandState) -> None:
        if isinstance(state, CommandState):
            await self._settle_step(state)
            return
        try:
            await self._in_thread(self._mailbox.settle, self._gateway, state)
        except MissingError:
            # A gateway keeps its last outcomes for ever; the store may have forgotten the directive.
            _log.info("outcome of an unknown directive", gateway=self._gateway.gateway, directive=state.id)
        self._unanswered.discard(state.id)
        # A mailbox gives a bounded number at once: more may wait behind those that are answered.
        if state.id in self._delivered and 2 * len(self._unanswered) <= len(self._delivered):
            self.look_for_directives()

    async def _settle_step(self, state: CommandState) -> None:
        """Keeps a step of a command, and confirms its end once that is kept."""
        if self._commands is not None:
            try:
                await self._in_thread(self._commands.settle, self._gateway, state)
            except MissingError:
                _log.info("step of an unknown command", gateway=self._gateway.gateway, command=state.id)
        if state.step.last:
            self.feed(Ordered(CommandConfirmed(state.id)))

    async def _deliver_commands(self) -> None:
        """Sends each command of this session; to an agent that knows none nothing is sent, and it has failed."""
        if self._commands is None:
            return
        for command in await self._in_thread(self._commands.due, self._gateway, self.session):
            if self._machine.takes_commands:
                self.feed(Ordered(command))
                continue
            text, now_ns = "this agent knows no commands", self._clock.wall_ns()
            refused = CommandState(command.id, CommandStep.FAILED, "UPGRADE_REQUIRED", text, at_ns=now_ns)
            await self._in_thread(self._commands.settle, self._gateway, refused)

    async def _deliver(self) -> None:
        """Sends each open directive once a session, as long as the mailbox may have new ones."""
        try:
            while self._news and self.alive:
                self._news = False
                waiting, wishes = await self._in_thread(self._waiting)
                fresh = [directive for directive in waiting if directive.id not in self._delivered]
                self._delivered = frozenset(directive.id for directive in waiting)
                self._unanswered = set(self._delivered)
                for directive in fresh:
                    self.feed(Desired(directive))
                self._tell_wishes(wishes)
                await self._deliver_commands()
        # As in `_act`: one gateway's trouble is its own.
        except Exception as error:  # noqa: BLE001 - see above; it is told to the gateway and logged
            if not isinstance(error, TwinError):
                _log.error("directives not delivered", gateway=self._gateway.gateway, exc_info=error)
            self.feed(refusal_of(error, self._limits.retry_after_ns))
        finally:
            self._delivering = False

    def _waiting(self) -> tuple[tuple[Directive, ...], tuple[Coarsen, ...]]:
        """Open directives and coarser periods of the gateway; blocking."""
        wishes = self._store.wishes(self._gateway, self._clock.wall_ns())
        asked = tuple(Coarsen(wish.stream, wish.period_ns, wish.until_ns, wish.signal) for wish in wishes)
        return self._mailbox.waiting(self._gateway), asked

    def _tell_wishes(self, asked: Sequence[Coarsen]) -> None:
        """Tells what has changed since it was told last in this session: a session begins without any wish."""
        fresh = {(wish.stream, wish.signal): wish for wish in asked}
        over = [Coarsen(stream, 0, 0, signal) for stream, signal in self._asked.keys() - fresh.keys()]
        for wish in (*over, *(wish for key, wish in fresh.items() if self._asked.get(key) != wish)):
            self.feed(Wished(wish))
        self._asked = fresh

    def recheck(self) -> None:
        """Cuts the stream when its certificate has expired or was revoked meanwhile, or nobody can say."""
        try:
            revoked = self._is_revoked(self.identity.serial)
        except (TwinError, OSError) as error:
            _log.warning("revocations cannot be read", gateway=self._gateway.gateway, detail=str(error))
            self.feed(refusal_of(error, self._limits.retry_after_ns))
            return
        if revoked:
            self.feed(Refused("CERT_INVALID", "the certificate was revoked"))
        elif self._clock.wall_ns() > self.identity.until_ns:
            self.feed(Refused("CERT_EXPIRED", "the certificate has expired"))

    def _write_soon(self) -> None:
        if not self._writing:
            self._writing = True
            self._spawn(self._write(), f"write-{self._gateway.gateway}")

    async def _write(self) -> None:
        """Writes what waits."""
        try:
            while self._outbox and self._context is not None:
                async with asyncio.timeout(self._limits.write_timeout_s):
                    await self._context.write(down_to_proto(self._outbox.popleft()))
        # A peer that is gone or reads nothing ends its own stream, whatever the library calls that.
        except Exception as error:  # noqa: BLE001 - see above; it is logged
            _log.info("stream broken", gateway=self._gateway.gateway, detail=str(error) or type(error).__name__)
            self._outbox.clear()
            self._end()
        finally:
            self._writing = False
            if self._written is not None and not self._written.done():
                self._written.set_result(None)
            elif self._ended:
                self._interrupt()

    def _end(self) -> None:
        """Ends the stream once what waits is written."""
        self.alive, self._ended = False, True
        if not self._writing:
            self._interrupt()

    def _interrupt(self) -> None:
        """Wakes the reader, which sees that the stream has ended."""
        reader = self._reader
        if (
            reader is not None
            and reader is not asyncio.current_task()
            and not reader.done()
            and not reader.cancelling()
        ):
            reader.cancel()
