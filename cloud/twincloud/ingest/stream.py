"""One gateway's stream: drives a `ServerSession` with what is read, what was committed and what time it is."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, NoReturn, Protocol, TypeAlias

import grpc.aio
import structlog

from twincloud.ingest.limits import IngestLimits
from twincloud.ingest.writer import Ticket, Writer, refusal_of
from twincloud.storage.contract import Beat, GatewayKey, Ingest, Running
from twincloud.storage.contract import Hello as StoredHello
from twinmodel.clock import SECOND_NS, Clock
from twinmodel.errors import MissingError, TwinError
from twinsync.channel import Identity
from twinsync.directive import Directive, DirectiveState
from twinsync.envelope import down_to_proto, up_from_proto
from twinsync.item import Boot
from twinsync.session import ServerSession
from twinsync.session.messages import Down, Heartbeat, Hello
from twinsync.session.server import (
    Close,
    Desired,
    Established,
    Granted,
    Keep,
    Note,
    Open,
    Refused,
    Regrant,
    Send,
    ServerAction,
    ServerEvent,
    Settle,
    Store,
    Stored,
    Tick,
)
from twinsync.v1 import sync_pb2

_log = structlog.get_logger(__name__)

Context: TypeAlias = grpc.aio.ServicerContext[sync_pb2.Up, sync_pb2.Down]
Call: TypeAlias = Callable[..., Awaitable[Any]]


class DirectiveSource(Protocol):
    """Where directives wait for a gateway; both methods block and are called in a thread."""

    def waiting(self, gateway: GatewayKey) -> tuple[Directive, ...]:
        """Directives without an outcome, oldest first."""
        ...

    def settle(self, gateway: GatewayKey, state: DirectiveState) -> None:
        """Keeps an outcome; the same outcome twice is no error."""
        ...


class GatewayStream:
    """One open stream; `run` ends when it is over.

    Args:
        in_thread: awaits a blocking call of the store.
        on_established: told when the session is open, before anything of it is stored.
    """

    def __init__(
        self,
        gateway: GatewayKey,
        identity: Identity,
        *,
        store: Ingest,
        mailbox: DirectiveSource,
        writer: Writer,
        clock: Clock,
        limits: IngestLimits,
        in_thread: Call,
        is_revoked: Callable[[str], bool],
        on_established: Callable[[GatewayStream], None],
    ) -> None:
        self._gateway = gateway
        self.identity = identity
        self._store = store
        self._mailbox = mailbox
        self._writer = writer
        self._clock = clock
        self._limits = limits
        self._in_thread = in_thread
        self._is_revoked = is_revoked
        self._on_established = on_established
        self._machine = ServerSession(clock.boot_ns(), limits.session)
        self._outbox: asyncio.Queue[Down | None] = asyncio.Queue()
        self._news = asyncio.Event()
        self._delivered: set[str] = set()
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

    def feed(self, event: Stored | Refused | Regrant | Desired | Tick) -> None:
        """Takes what happened inside the coordinator; answers are queued, nothing blocks."""
        for action in self._machine.receive(event, self._clock.boot_ns()):
            self._post(action)

    def look_for_directives(self) -> None:
        """Has the mailbox read again soon."""
        self._news.set()

    async def run(self, context: Context) -> None:
        """Serves the stream to its end; raises only CancelledError."""
        try:
            async with asyncio.TaskGroup() as group:
                name = self._gateway.gateway
                others = [
                    group.create_task(self._read(context), name=f"read-{name}"),
                    group.create_task(self._watch(), name=f"watch-{name}"),
                    group.create_task(self._deliver(), name=f"deliver-{name}"),
                ]
                await self._write(context)
                self.alive = False
                for task in others:
                    task.cancel()
        finally:
            self.alive = False
            if self.session:
                await asyncio.shield(self._leave())

    async def _leave(self) -> None:
        try:
            await self._in_thread(self._store.close_session, self._gateway, self.session, self._clock.wall_ns())
        except TwinError as error:
            _log.warning("departure not noted", gateway=self._gateway.gateway, reason=error.reason)

    async def _read(self, context: Context) -> None:
        while self.alive:
            message = await context.read()
            if not isinstance(message, sync_pb2.Up):  # the end of the stream
                self._outbox.put_nowait(None)
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
                        self._store.put_catalogue,
                        self._gateway,
                        self.session,
                        action.catalogue,
                        self._clock.wall_ns(),
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
            self._news.set()

    def _post(self, action: ServerAction) -> None:
        match action:
            case Send():
                if self._outbox.qsize() >= self._limits.outbox_max:
                    self._outbox.put_nowait(None)
                    self.alive = False
                else:
                    self._outbox.put_nowait(action.message)
            case Store():
                self._writer.submit(Ticket(self, action.session, action.items, action.bytes, self._clock.wall_ns()))
            case Established():
                self.session = action.session
                self._on_established(self)
                self._news.set()
            case Close():
                _log.info("session ended", gateway=self._gateway.gateway, reason=action.reason, detail=action.detail)
                self.alive = False
                self._outbox.put_nowait(None)
            case _:
                raise AssertionError(f"{type(action).__name__} is answered where it is read")

    async def _open(self, hello: Hello) -> None:
        stored = StoredHello(
            tuple(Boot(b.id, b.previous, b.counter, b.started_ns, b.clock) for b in hello.boots),
            hello.agent_version,
            hello.clock,
            hello.schemas,
            tuple(Running(r.twin, r.digest, r.name, r.tier) for r in hello.running),
            self.identity.serial,
            self.identity.until_ns,
        )
        now_ns = self._clock.wall_ns()
        opened = await self._in_thread(self._store.open_session, self._gateway, stored, now_ns)
        granted = Granted(opened.session, opened.marks, opened.missing_schemas, self._writer.credit(), now_ns)
        for action in self._machine.receive(granted, self._clock.boot_ns()):
            self._post(action)
        if not opened.missing_schemas:
            await self._assign_defaults()

    def _note(self, heartbeat: Heartbeat) -> None:
        beat = Beat(
            self._gateway,
            self.session,
            heartbeat.backlog_bytes,
            heartbeat.backlog_samples,
            heartbeat.oldest_ns,
            tuple(Running(r.twin, r.digest, r.name, r.tier) for r in heartbeat.running),
            self._clock.wall_ns(),
        )
        self._writer.note(self, beat)

    async def _settle(self, state: DirectiveState) -> None:
        try:
            await self._in_thread(self._mailbox.settle, self._gateway, state)
        except MissingError:
            # A gateway keeps its last outcomes for ever; the store may have forgotten the directive.
            _log.info("outcome of an unknown directive", gateway=self._gateway.gateway, directive=state.id)

    async def _deliver(self) -> NoReturn:
        """Sends each open directive once a session, whenever the mailbox may have a new one."""
        while True:
            await self._news.wait()
            self._news.clear()
            try:
                waiting = await self._in_thread(self._mailbox.waiting, self._gateway)
            except TwinError as error:
                self.feed(refusal_of(error, self._limits.retry_after_ns))
                continue
            fresh = [directive for directive in waiting if directive.id not in self._delivered]
            self._delivered = {directive.id for directive in waiting}
            for directive in fresh:
                self.feed(Desired(directive))

    async def _watch(self) -> None:
        """Turns the machine's clock and looks at the certificate again while the stream is open."""
        while self.alive:
            now_ns = self._clock.boot_ns()
            due_ns = self._machine.deadline_ns()
            wait_ns = self._limits.recheck_ns if due_ns is None else min(due_ns - now_ns, self._limits.recheck_ns)
            await asyncio.sleep(max(wait_ns, 0) / SECOND_NS)
            self.recheck()
            self.feed(Tick(self._clock.wall_ns()))

    def recheck(self) -> None:
        """Cuts the stream when its certificate has expired or was revoked meanwhile."""
        if self._is_revoked(self.identity.serial):
            self.feed(Refused("CERT_INVALID", "the certificate was revoked"))
        elif self._clock.wall_ns() > self.identity.until_ns:
            self.feed(Refused("CERT_EXPIRED", "the certificate has expired"))

    async def _write(self, context: Context) -> None:
        with contextlib.suppress(TimeoutError):
            while (message := await self._outbox.get()) is not None:
                async with asyncio.timeout(self._limits.write_timeout_s):
                    await context.write(down_to_proto(message))
