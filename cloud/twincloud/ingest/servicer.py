"""The gRPC service of gateways: who may come, which stream is the current one, artifacts by digest; and its server.

gateway ═mTLS═▶ GatewayStream ─▶ Writer ─▶ store
                    ▲                │ Stored
                    └────────────────┘
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NoReturn, ParamSpec, TypeVar

import grpc
import grpc.aio
import structlog

from twincloud.ingest.gathering import Gathering
from twincloud.ingest.limits import IngestLimits
from twincloud.ingest.ports import CommandSource, DirectiveSource
from twincloud.ingest.stream import Context, GatewayStream
from twincloud.ingest.writer import Writer
from twincloud.storage.contract import Commit, GatewayKey, Hello, Ingest, Opened
from twinmodel.clock import SECOND_NS, Clock
from twinmodel.errors import ConflictError, DeniedError, TwinError
from twinsync.channel import SERVER_OPTIONS, Credentials, Identity, peer_identity, server_credentials
from twinsync.envelope import down_to_proto
from twinsync.session.messages import Reject
from twinsync.session.server import Refused, Regrant
from twinsync.transfer import CHUNK_BYTES
from twinsync.v1 import sync_pb2, sync_pb2_grpc

_log = structlog.get_logger(__name__)

P = ParamSpec("P")
R = TypeVar("R")

STORE_THREADS = 4
DRAIN_TIMEOUT_S = 5.0


class SyncServicer(sync_pb2_grpc.SyncServicer):
    """Sessions of all gateways; `run` must be running while it serves.

    Args:
        store: what is asked and committed.
        mailbox: directives of gateways.
        commands: commands of gateways, None where none are given.
        clock: wall and boot clock.
        on_commit: told of every commit, in the event loop, after its acknowledgement is queued; must not raise.
        is_revoked: whether a certificate serial (lower-case hex) is revoked; must not block.
        limits: bounds.
    """

    def __init__(
        self,
        store: Ingest,
        mailbox: DirectiveSource,
        *,
        clock: Clock,
        on_commit: Callable[[GatewayKey, Commit], None],
        is_revoked: Callable[[str], bool],
        commands: CommandSource | None = None,
        limits: IngestLimits | None = None,
    ) -> None:
        self._store = store
        self._mailbox = mailbox
        self._commands = commands
        self._clock = clock
        self._is_revoked = is_revoked
        self._limits = limits or IngestLimits()
        self._writer = Writer(store, clock, on_commit, self._limits)
        self._writer.on_relief = self._relieve
        self._threads = ThreadPoolExecutor(STORE_THREADS, thread_name_prefix="session")
        self._streams: dict[GatewayKey, GatewayStream] = {}
        # A dict for its order: a replayed run must watch the streams in the same one.
        self._open: dict[GatewayStream, None] = {}
        self._hellos: Gathering[tuple[GatewayKey, Hello], Opened] = Gathering(
            self._greet, self._spawn, "session-hellos", self._unheard
        )
        self._tasks: asyncio.TaskGroup | None = None
        self._empty = asyncio.Event()
        self._empty.set()
        self._fetches = asyncio.Semaphore(self._limits.fetches_max)

    @property
    def connected(self) -> frozenset[GatewayKey]:
        """Gateways with an open session here."""
        return frozenset(self._streams)

    @property
    def pending_bytes(self) -> int:
        """What was received and is not yet committed."""
        return self._writer.pending_bytes

    async def run(self) -> None:
        """Decodes and commits what streams bring, and watches them, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            tasks.create_task(self._writer.run(), name="ingest-writer")
            tasks.create_task(self._watch(), name="ingest-watch")

    async def drain(self) -> None:
        """Sends all gateways away and waits, not for ever, until they are noted as away; then nothing runs any more.

        Each is told a time of its own to come back, so that a fleet does not stand before the next process at once.
        """
        for place, stream in enumerate(list(self._streams.values())):
            wait_ns = place * SECOND_NS // self._limits.returns_per_s
            stream.feed(Refused("RETRY_AFTER", "the coordinator stops", wait_ns))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_TIMEOUT_S):
                await self._empty.wait()

    def close(self) -> None:
        """Lets the threads go; calls that have begun end by themselves."""
        self._threads.shutdown(wait=False)

    def notify_directive(self, gateway: GatewayKey) -> None:
        """Delivers what a gateway is to do and how coarse at once when it is connected; call it in the event loop."""
        stream = self._streams.get(gateway)
        if stream is not None:
            stream.look_for_directives()

    def cut(self, gateway: GatewayKey, reason: str, detail: str) -> None:
        """Ends the open session of a gateway, for instance SUSPENDED; call it in the event loop."""
        stream = self._streams.get(gateway)
        if stream is not None:
            stream.feed(Refused(reason, detail))

    def recheck(self) -> None:
        """Cuts at once every session whose certificate was revoked meanwhile; call it in the event loop."""
        for stream in list(self._streams.values()):
            stream.recheck()

    async def Session(  # type: ignore[override] # noqa: N802 - gRPC's name; it takes a coroutine too, its stubs do not
        self, _requests: AsyncIterator[sync_pb2.Up], context: Context
    ) -> None:
        """One stream of one gateway, see `GatewayStream`."""
        try:
            identity = self._authenticate(context)
        except TwinError as error:
            _log.warning("gateway refused", reason=error.reason, detail=error.message, peer=context.peer())
            await context.write(down_to_proto(Reject(error.reason, error.message, 0)))
            return
        gateway = GatewayKey(identity.tenant, identity.site, identity.gateway)
        if len(self._open) >= self._limits.streams_max:
            await context.write(down_to_proto(Reject("RETRY_AFTER", "too many sessions", self._limits.retry_after_ns)))
            return
        stream = GatewayStream(
            gateway,
            identity,
            store=self._store,
            mailbox=self._mailbox,
            commands=self._commands,
            writer=self._writer,
            clock=self._clock,
            limits=self._limits,
            greet=self._hellos.ask,
            in_thread=self._in_thread,
            spawn=self._spawn,
            is_revoked=self._is_revoked,
            on_established=self._established,
        )
        self._open[stream] = None
        self._empty.clear()
        try:
            await stream.run(context)
        finally:
            self._open.pop(stream, None)
            if not self._open:
                self._empty.set()
            if self._streams.get(gateway) is stream:
                del self._streams[gateway]

    async def Fetch(  # noqa: N802 - gRPC's name
        self,
        request: sync_pb2.FetchRequest,
        context: grpc.aio.ServicerContext[sync_pb2.FetchRequest, sync_pb2.Chunk],
    ) -> AsyncIterator[sync_pb2.Chunk]:
        """An artifact of the caller's tenant from an offset on."""
        async with self._fetches:
            try:
                identity = self._authenticate(context)
                artifact = await self._in_thread(self._store.artifact, identity.tenant, request.digest.hex())
                if request.offset > len(artifact):
                    raise ConflictError("PROTOCOL_VIOLATION", f"offset {request.offset} of {len(artifact)} bytes")
            except TwinError as error:
                await context.abort(grpc.StatusCode[error.outcome.grpc], str(error))
            for offset in range(request.offset, len(artifact), CHUNK_BYTES):
                data = artifact[offset : offset + CHUNK_BYTES]
                yield sync_pb2.Chunk(offset=offset, total=len(artifact), data=data)

    def _authenticate(self, context: object) -> Identity:
        auth = context.auth_context()  # type: ignore[attr-defined] # both kinds of context have it
        certificates = auth.get("x509_pem_cert", ())
        if not certificates:
            raise DeniedError("CERT_INVALID", "no client certificate")
        identity = peer_identity(bytes(certificates[0]))
        if self._is_revoked(identity.serial):
            raise DeniedError("CERT_INVALID", f"certificate {identity.serial} was revoked", serial=identity.serial)
        return identity

    async def _greet(self, hellos: Sequence[tuple[GatewayKey, Hello]]) -> Sequence[Opened | Exception]:
        answers: Sequence[Opened | Exception]
        answers = await self._in_thread(self._store.open_sessions, hellos, self._clock.wall_ns())
        return answers

    def _unheard(self, asked: tuple[GatewayKey, Hello], opened: Opened) -> None:
        """Notes a gateway as away again that was gone before its session was open."""
        # Nobody waits for it: what can go wrong is logged there.
        asyncio.get_running_loop().run_in_executor(self._threads, self._forsake, asked[0], opened.session)

    def _forsake(self, gateway: GatewayKey, session: int) -> None:
        try:
            self._store.close_session(gateway, session, self._clock.wall_ns())
        except TwinError as error:
            _log.warning("departure not noted", gateway=gateway.gateway, reason=error.reason)

    def _established(self, stream: GatewayStream) -> None:
        older = self._streams.get(stream.gateway)
        if older is not None and older.session > stream.session:
            # The store granted both; the answers came back in the other order.
            stream.feed(Refused("FENCED", f"session {older.session} is open"))
            return
        self._streams[stream.gateway] = stream
        _log.info("session opened", gateway=stream.gateway.gateway, session=stream.session)
        if older is not None:
            older.feed(Refused("FENCED", f"session {stream.session} is open"))

    async def _watch(self) -> NoReturn:
        """One clock for all streams: thousands of idle ones need no timer each."""
        while True:
            await asyncio.sleep(self._limits.watch_s)
            now_ns = self._clock.boot_ns()
            for stream in list(self._open):
                stream.watch(now_ns)

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        if self._tasks is None:
            raise RuntimeError("the service does not run")
        self._tasks.create_task(work, name=name)

    def _relieve(self) -> None:
        # After every commit, over all streams: it has to be short.
        credit = self._writer.credit()
        if credit.bytes:
            for stream in [one for one in self._streams.values() if one.paused]:
                stream.feed(Regrant(credit))

    async def _in_thread(self, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """A blocking call of the store; one that is cancelled still runs to its end in its thread."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, partial(call, *args, **kwargs))


@contextlib.asynccontextmanager
async def serve(servicer: SyncServicer, address: str, credentials: Credentials) -> AsyncIterator[int]:
    """Runs the gRPC server and the servicer's writer while the context is open.

    Args:
        servicer: the service; it serves one such context only.
        address: `host:port`, port 0 for a free one.
        credentials: the coordinator's certificate, and the authority of the gateways'.

    Yields:
        The port that is listened on.

    Raises:
        ConflictError: PORT_IN_USE.
    """
    server = grpc.aio.server(options=list(SERVER_OPTIONS))
    sync_pb2_grpc.add_SyncServicer_to_server(servicer, server)
    try:
        port = server.add_secure_port(address, server_credentials(credentials))
    except RuntimeError as error:
        raise ConflictError("PORT_IN_USE", f"cannot listen on {address}: {error}", address=address) from error
    await server.start()
    try:
        async with asyncio.TaskGroup() as group:
            writing = group.create_task(servicer.run(), name="ingest-writer")
            try:
                yield port
            finally:
                stopping = group.create_task(server.stop(grace=1.0), name="ingest-stop")
                await servicer.drain()
                await stopping
                # What was committed meanwhile and not acknowledged is sent again, and refused as a duplicate.
                writing.cancel()
    finally:
        await server.stop(grace=None)
        servicer.close()
