"""The coordinator as one process: it starts the listeners of its role and ends them cleanly.

    gateway ═gRPC═▶ ingest ─▶ store ─▶ twins ─▶ api ─▶ people
       ▲              │ rings                   ▲ │
       │              └──────────▶ bus ─────────┘ │ assigns
       └══gRPC══ downlink ◀─ mailbox ◀────────────┘
       └══TLS═══▶ enrolment ─▶ identity

Facts come in by gRPC, are committed, and ring the bus, which wakes the event streams of the API. What people assign
becomes a directive in the store, and wakes the session of its gateway.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import structlog
import uvicorn

from twincloud.api.addresses import Addresses, bracketed
from twincloud.api.connections import ImpatientProtocol, express_protocol
from twincloud.config import Settings
from twincloud.downlink.commands import CommandDesk
from twincloud.downlink.mailbox import Mailbox
from twincloud.identity.ca import LOOPBACK_NAMES, Authority
from twincloud.ingest.servicer import SyncServicer, serve
from twincloud.joining import Parts, join, ledger_of, neighbours_of
from twincloud.listening import Listener, bound, enrolment_config, rest_config
from twincloud.storage import open_store
from twincloud.storage.contract import Commit, GatewayKey, Store
from twinmodel.clock import Clock
from twinmodel.errors import StorageError, TwinError
from twinmodel.process import notify, watchdog_period_s
from twinsync.channel import Credentials

FACTS = "service.json"
SWITCH_S = 0.0005
LOOK_S = 1.0
RENEW_LOOK_S = 3_600.0
STORE_TIMEOUT_S = 5.0

_log = structlog.get_logger("twincloud")


def run(settings: Settings, clock: Clock, *, ready_file: Path | None = None) -> None:
    """Serves until SIGTERM or SIGINT; for the main thread of a process.

    Raises:
        TwinError: VALUE_INVALID, NOT_INITIALISED, STATE_LOCKED, PORT_IN_USE and what the store raises.
    """
    # Threads that commit and decode never wait of themselves: who answers people must not wait for each as long as
    # Python's default, 5 ms.
    sys.setswitchinterval(SWITCH_S)
    asyncio.run(_run_until_signal(settings, clock, ready_file))


async def _run_until_signal(settings: Settings, clock: Clock, ready_file: Path | None) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await run_service(settings, clock, stop=stop, ready_file=ready_file)


async def run_service(
    settings: Settings,
    clock: Clock,
    *,
    stop: asyncio.Event,
    ready_file: Path | None = None,
    on_ready: Callable[[Addresses], None] | None = None,
) -> None:
    """Serves until `stop` is set; then ends event streams and sessions, answers what runs, and closes the store.

    Args:
        settings: everything else.
        clock: server time.
        stop: set it to end.
        ready_file: written with the real addresses once all listeners listen, removed at the end.
        on_ready: called at the same moment.

    Raises:
        TwinError: VALUE_INVALID, NOT_INITIALISED, STATE_LOCKED, PORT_IN_USE and what the store raises.
    """
    settings.check_role()
    ca = Authority.load(settings.state, clock)
    settings = settings.model_copy(update={"names": settings.names or ca.server_names()})
    ca.server_pair(settings.names)
    store = await asyncio.to_thread(
        open_store,
        settings.state,
        clock=clock,
        database=settings.database_url,
        decoded_samples=settings.decoded_samples,
    )
    try:
        await asyncio.to_thread(_forget_sessions, store, clock)
        ledger = await asyncio.to_thread(ledger_of, settings, store)
        parts = join(settings, clock, store, ca, ledger)
        async with parts.app.router.lifespan_context(parts.app):
            await _serve(parts, stop, ready_file, on_ready)
    except BaseExceptionGroup as group:
        raise _first_of_ours(group) from None
    finally:
        await asyncio.to_thread(_leave, store, [settings.state / FACTS, ready_file])
        _log.info("stopped")


def _forget_sessions(store: Store, clock: Clock) -> None:
    try:
        store.end_sessions(clock.wall_ns())
    except StorageError as error:
        # With a full disk it must still start: people need to read, and gateways are told to wait.
        _log.error("store refuses to be written", reason=error.reason, detail=error.message)


def _leave(store: Store, files: Sequence[Path | None]) -> None:
    for path in files:
        if path is not None:
            path.unlink(missing_ok=True)
    store.close()


async def _serve(
    parts: Parts, stop: asyncio.Event, ready_file: Path | None, on_ready: Callable[[Addresses], None] | None
) -> None:
    settings = parts.settings
    with contextlib.ExitStack() as sockets:
        rest_socket = sockets.enter_context(bound(settings.host, settings.port, "port"))
        servers = [(Listener(rest_config(parts.app, _protocol(parts))), rest_socket)]
        ports = {"port": rest_socket.getsockname()[1]}
        async with asyncio.TaskGroup() as group:
            watching = []
            if settings.serves_gateways:
                enrol_socket = sockets.enter_context(bound(settings.gateway_host, settings.enrol_port, "enrol_port"))
                enrol = enrolment_config(parts.enrolment, *parts.ca.server_pair(settings.names))
                servers.append((Listener(enrol), enrol_socket))
                sync_port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
                watching.append(group.create_task(_sync_forever(parts, enrol, sync_port), name="sync"))
                ports |= {"sync_port": await sync_port, "enrol_port": enrol_socket.getsockname()[1]}
            addresses = Addresses.of(settings, **ports)
            parts.app.state.addresses = parts.enrolment.state.addresses = addresses
            listeners = [
                group.create_task(server.serve([socket]), name=f"listener {number}")
                for number, (server, socket) in enumerate(servers)
            ]
            while not all(server.started for server, _ in servers):  # noqa: ASYNC110 uvicorn has a flag and no event
                await asyncio.sleep(0.01)
            watching += _background(parts, group)
            _tell_ready(parts, addresses, ready_file, on_ready)
            await stop.wait()
            notify("STOPPING=1")
            parts.app.state.stream.close()
            for task in watching:
                task.cancel()
            for server, _ in servers:
                server.should_exit = True
            await asyncio.wait(listeners)


def _protocol(parts: Parts) -> type[asyncio.Protocol]:
    return express_protocol(parts.app.state.short) if parts.settings.serves_people else ImpatientProtocol


def _background(parts: Parts, group: asyncio.TaskGroup) -> list[asyncio.Task[None]]:
    """What goes on beside the listeners; work that people wait for is done where they are served."""
    work = {
        "revocations": _follow_ledger(parts),
        "watchdog": _feed_watchdog(parts),
        "neighbours": neighbours_of(parts).run(),
    }
    if parts.settings.serves_people:
        work |= {"upkeep": parts.upkeep.run(), "operations": parts.pool.run()}
    return [group.create_task(task, name=name) for name, task in work.items()]


def _tell_ready(
    parts: Parts, addresses: Addresses, ready_file: Path | None, on_ready: Callable[[Addresses], None] | None
) -> None:
    facts = asdict(addresses)
    for path in (parts.settings.state / FACTS, ready_file):
        if path is not None:
            draft = path.with_name(path.name + ".new")
            draft.write_text(json.dumps({**facts, "pid": os.getpid(), "ca_sha256": parts.ca.fingerprint}))
            draft.replace(path)
    notify("READY=1")
    _log.info("ready", **facts)
    if not parts.settings.names and parts.settings.gateway_host not in LOOPBACK_NAMES:
        _log.warning("gateways are told the listening address; name this host with `names:` or --name", **facts)
    if parts.settings.host not in LOOPBACK_NAMES:
        _log.warning("REST and console are reachable without TLS; tokens pass in the clear", rest=addresses.rest)
    if on_ready is not None:
        on_ready(addresses)


async def _sync_forever(parts: Parts, enrol: uvicorn.Config, port: asyncio.Future[int]) -> None:
    """Runs the gRPC server; when the server certificate was renewed, gateways are asked to come again."""
    wanted = parts.settings.sync_port
    while True:
        async with _sync_server(parts, wanted) as bound:
            wanted = bound
            if not port.done():
                port.set_result(bound)
            await _until_renewed(parts)
        chain, key = parts.ca.server_pair(parts.settings.names)
        assert enrol.ssl is not None
        enrol.ssl.load_cert_chain(chain, key)
        _log.info("server certificate renewed")


@contextlib.asynccontextmanager
async def _sync_server(parts: Parts, port: int) -> AsyncIterator[int]:
    chain, key = parts.ca.server_pair(parts.settings.names)
    credentials = Credentials(parts.ca.root_pem, chain.read_bytes(), key.read_bytes())

    def committed(_gateway: GatewayKey, commit: Commit) -> None:
        parts.metrics.ingested.inc(commit.samples)
        parts.metrics.refused.inc(len(commit.rejected))
        parts.metrics.unreadable.inc(commit.unreadable)
        parts.bus.notify_twins(commit.twins)

    servicer = SyncServicer(
        parts.store,
        Mailbox(parts.store, parts.clock),
        clock=parts.clock,
        on_commit=committed,
        is_revoked=parts.ledger.is_revoked,
        commands=CommandDesk(parts.store, parts.clock),
    )
    parts.metrics.sessions.set_function(lambda: len(servicer.connected))
    parts.metrics.pending.set_function(lambda: servicer.pending_bytes)
    async with serve(servicer, f"{bracketed(parts.settings.gateway_host)}:{port}", credentials) as bound:
        parts.servicer = servicer
        try:
            yield bound
        finally:
            parts.servicer = None


async def _until_renewed(parts: Parts) -> None:
    serving = parts.ca.server_not_after_ns()
    while serving == parts.ca.server_not_after_ns():
        await asyncio.sleep(RENEW_LOOK_S)
        parts.ca.server_pair(parts.settings.names)


async def _follow_ledger(parts: Parts) -> None:
    """Cuts the sessions of certificates the command line has revoked."""
    known = parts.ledger.content()
    while True:
        await asyncio.sleep(LOOK_S)
        present = await asyncio.to_thread(parts.ledger.refresh)
        if present is not known and parts.servicer is not None:
            parts.servicer.recheck()
        known = present


async def _feed_watchdog(parts: Parts) -> None:
    """Says WATCHDOG=1 while the loop turns, the store answers and the event streams run."""
    period_s = watchdog_period_s()
    while period_s is not None:
        try:
            async with asyncio.timeout(STORE_TIMEOUT_S):
                await parts.app.state.threads.run(parts.store.status)
            if parts.app.state.stream.alive:
                notify("WATCHDOG=1")
        except (TimeoutError, TwinError) as error:
            _log.warning("watchdog not fed: the store does not answer", detail=str(error))
        await asyncio.sleep(period_s)


def _first_of_ours(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one error that explains a group: ours before others."""
    flat: list[BaseException] = []
    waiting: list[BaseException] = [group]
    while waiting:
        error = waiting.pop()
        if isinstance(error, BaseExceptionGroup):
            waiting += error.exceptions
        else:
            flat.append(error)
    return next((error for error in flat if isinstance(error, TwinError)), flat[0] if len(flat) == 1 else group)
