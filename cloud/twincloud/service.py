"""The coordinator as one process: it joins the stages, starts the listeners and ends them cleanly.

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
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from random import Random

import structlog
import uvicorn
from fastapi import FastAPI

from twincloud.api.addresses import Addresses, bracketed
from twincloud.api.app import create_app
from twincloud.api.connections import EnrolmentProtocol, ImpatientProtocol
from twincloud.api.enrolment import create_enrolment_app
from twincloud.api.metrics import Metrics
from twincloud.config import Settings
from twincloud.downlink.mailbox import Mailbox
from twincloud.estimate.stepping import Stepper
from twincloud.estimate.task import CloudTwins
from twincloud.events.bus import Bus
from twincloud.events.neighbours import Neighbours
from twincloud.identity.ca import LOOPBACK_NAMES, Authority
from twincloud.identity.ledger import Ledger
from twincloud.identity.shared_ledger import SharedLedger
from twincloud.ingest.servicer import SyncServicer, serve
from twincloud.operations.pool import Pool
from twincloud.operations.task import Work
from twincloud.replay import backtest
from twincloud.storage import open_store
from twincloud.storage.contract import Commit, GatewayKey, Store
from twincloud.upkeep.runner import Runner
from twincloud.upkeep.tasks import tasks_of
from twinmodel.clock import Clock
from twinmodel.errors import ConflictError, StorageError, TwinError
from twinmodel.process import notify, watchdog_period_s
from twinsync.channel import Credentials

FACTS = "service.json"
KINDS: Mapping[str, Work] = {backtest.KIND: backtest.work}
"""Kinds of operations and how they are done."""
CONNECTIONS_MAX = 2_000
ENROLMENTS_MAX = 200
GRACE_S = 3
LOOK_S = 1.0
RENEW_LOOK_S = 3_600.0
STORE_TIMEOUT_S = 5.0

_log = structlog.get_logger("twincloud")


class Listener(uvicorn.Server):
    """A uvicorn server that leaves signals to us."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals end the whole service, not one listener."""
        yield


@dataclass(slots=True)
class Parts:
    """All stages of one service."""

    settings: Settings
    clock: Clock
    store: Store
    ca: Authority
    ledger: Ledger
    bus: Bus
    metrics: Metrics
    app: FastAPI
    pool: Pool
    enrolment: FastAPI
    upkeep: Runner
    servicer: SyncServicer | None = None


def run(settings: Settings, clock: Clock, *, ready_file: Path | None = None) -> None:
    """Serves until SIGTERM or SIGINT; for the main thread of a process.

    Raises:
        TwinError: NOT_INITIALISED, STATE_LOCKED, PORT_IN_USE and what the store raises.
    """
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
        TwinError: NOT_INITIALISED, STATE_LOCKED, PORT_IN_USE and what the store raises.
    """
    ca = Authority.load(settings.state, clock)
    settings = settings.model_copy(update={"names": settings.names or ca.server_names()})
    ca.server_pair(settings.names)
    store = await asyncio.to_thread(open_store, settings.state, clock=clock, database=settings.database_url)
    try:
        await asyncio.to_thread(_forget_sessions, store, clock)
        ledger = await asyncio.to_thread(_ledger_of, settings, store)
        parts = _join(settings, clock, store, ca, ledger)
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


def _ledger_of(settings: Settings, store: Store) -> Ledger:
    return SharedLedger(store.documents()) if settings.database_url else Ledger(settings.state)


def _join(settings: Settings, clock: Clock, store: Store, ca: Authority, ledger: Ledger) -> Parts:
    bus, metrics = Bus(), Metrics()
    loop = asyncio.get_running_loop()

    def wake(gateway: GatewayKey) -> None:
        loop.call_soon_threadsafe(_notify_directive, parts, gateway)

    app = create_app(
        store, clock=clock, bus=bus, ca=ca, settings=settings, on_directive=wake, ledger=ledger, metrics=metrics
    )
    enrolment = create_enrolment_app(
        store,
        clock=clock,
        ca=ca,
        ledger=ledger,
        addresses=app.state.addresses,
        threads=app.state.threads,
        bus=bus,
        metrics=metrics,
        leaf_days=settings.leaf_days,
        renew_grace_days=settings.renew_grace_days,
    )
    pool = Pool(store, clock, KINDS)
    app.state.wake_operations = pool.wake
    cloud_twins = CloudTwins(store, clock, Stepper(store, on_commit=bus.notify_twins))
    upkeep = Runner((*tasks_of(settings, store, clock), cloud_twins), store.lease, clock, Random())  # noqa: S311 it spreads work
    app.state.upkeep = upkeep
    parts = Parts(settings, clock, store, ca, ledger, bus, metrics, app, pool, enrolment, upkeep)
    return parts


def _neighbours_of(parts: Parts) -> Neighbours:
    return Neighbours(parts.store, parts.bus, partial(_notify_directive, parts), parts.pool.wake, parts.clock)


def _notify_directive(parts: Parts, gateway: GatewayKey) -> None:
    if parts.servicer is not None:
        parts.servicer.notify_directive(gateway)


async def _serve(
    parts: Parts, stop: asyncio.Event, ready_file: Path | None, on_ready: Callable[[Addresses], None] | None
) -> None:
    settings = parts.settings
    with (
        _bound(settings.host, settings.port, "port") as rest_socket,
        _bound(settings.gateway_host, settings.enrol_port, "enrol_port") as enrol_socket,
    ):
        rest = Listener(_config(parts.app, CONNECTIONS_MAX, ImpatientProtocol))
        enrol = Listener(_tls_config(parts))
        sync_port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        async with asyncio.TaskGroup() as group:
            listeners = [
                group.create_task(rest.serve([rest_socket]), name="rest"),
                group.create_task(enrol.serve([enrol_socket]), name="enrolment"),
            ]
            sync = group.create_task(_sync_forever(parts, enrol.config, sync_port), name="sync")
            addresses = Addresses.of(
                settings,
                port=rest_socket.getsockname()[1],
                sync_port=await sync_port,
                enrol_port=enrol_socket.getsockname()[1],
            )
            parts.app.state.addresses = parts.enrolment.state.addresses = addresses
            while not (rest.started and enrol.started):  # noqa: ASYNC110 uvicorn has a flag and no event
                await asyncio.sleep(0.01)
            watching = [
                group.create_task(_follow_ledger(parts), name="revocations"),
                group.create_task(_feed_watchdog(parts), name="watchdog"),
                group.create_task(parts.upkeep.run(), name="upkeep"),
                group.create_task(parts.pool.run(), name="operations"),
                group.create_task(_neighbours_of(parts).run(), name="neighbours"),
            ]
            _tell_ready(parts, addresses, ready_file, on_ready)
            await stop.wait()
            notify("STOPPING=1")
            parts.app.state.stream.close()
            for task in (sync, *watching):
                task.cancel()
            rest.should_exit = enrol.should_exit = True
            await asyncio.wait(listeners)


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
        parts.bus.notify_twins(commit.twins)

    servicer = SyncServicer(
        parts.store,
        Mailbox(parts.store, parts.clock),
        clock=parts.clock,
        on_commit=committed,
        is_revoked=parts.ledger.is_revoked,
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


@contextlib.contextmanager
def _bound(host: str, port: int, setting: str) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC, socket.IPPROTO_TCP) as listener:
        # Named TCP, so that asyncio switches Nagle's delay off: an answer in two writes waited 40 ms for a late ACK.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            raise ConflictError(
                "PORT_IN_USE",
                f"cannot listen on {bracketed(host)}:{port}: {error.strerror}",
                hint=f"stop the other process or set `{setting}`",
                port=port,
            ) from error
        yield listener


def _config(app: FastAPI, connections_max: int, protocol: type[ImpatientProtocol]) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=protocol,
        loop="asyncio",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=connections_max,
        timeout_keep_alive=20,
        timeout_graceful_shutdown=GRACE_S,
    )


def _tls_config(parts: Parts) -> uvicorn.Config:
    chain, key = parts.ca.server_pair(parts.settings.names)
    config = _config(parts.enrolment, ENROLMENTS_MAX, EnrolmentProtocol)
    config.ssl_certfile, config.ssl_keyfile = str(chain), str(key)
    config.load()
    assert config.ssl is not None
    config.ssl.minimum_version = ssl.TLSVersion.TLSv1_3
    return config


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
