"""The app factory of REST and console.

What a route or a page finds in `request.app.state`:

    store         storage.contract.Store     synchronous: call it as `await state.threads.run(state.store.twin, key)`
    threads       api.threads.Threads        the bounded pool those calls run in
    clock         twinmodel.clock.Clock      server time: `state.clock.wall_ns()`
    settings      config.Settings
    fleet         api.fleet.Fleet            `await state.fleet.summary(tenant) -> FleetSummary`, at most 1 s old;
                                             `await state.fleet.twin_view(key) -> TwinView`,
                                             `await state.fleet.gateway_view(key) -> GatewayView`
    views         api.held.HeldViews         `await state.views.twin(key) -> Held`: a twin as encoded JSON
    changes       api.changes.Changes        `await state.changes.make(change)`: committed with what else came
    short         api.short.Short            answers single twins and changes of records past the framework
    principals    api.principals.Principals  `await state.principals.of(token_hash) -> Principal`
    fleets        api.fleets.Fleets          fleets of twins as they stand; its methods block
    stream        api.stream.Stream          event streams: `state.stream.watch(...)`
    bus           events.bus.Bus             `bus.notify_twins(keys)`, from any thread
    ledger        identity.ledger.Ledger     what was issued and revoked
    ca            identity.ca.Authority      `ca.fingerprint`; None in tests without enrolment
    addresses     api.addresses.Addresses    where REST, gRPC and enrolment really listen
    metrics       api.metrics.Metrics
    principal_of  (token) -> Principal       blocking; raises TOKEN_INVALID
    wake_operations () -> None               wakes the workers of this process after something was asked of them
    on_directive  (GatewayKey) -> None       wakes the gateway's session after a directive was opened, from any thread

Routes are guarded by `Depends(allow("twins.read"))` of api.auth, which gives `Access(principal, tenant)`; others call
`await identify(request) -> Principal`, which raises TOKEN_INVALID when nobody is signed in, and
`authorise(principal, tenant, verb)` of identity.policy. A token comes as `Authorization: Bearer` or in the cookie the
console sets. Views are made by the pure functions of api.views.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from fastapi import FastAPI

from twincloud.api import health, problems, spec
from twincloud.api.addresses import Addresses
from twincloud.api.changes import Changes
from twincloud.api.console import DEFAULT_TENANT, console_router
from twincloud.api.fields import Fields
from twincloud.api.fleet import Fleet
from twincloud.api.fleets import Fleets
from twincloud.api.held import HeldViews
from twincloud.api.idempotency import Idempotency
from twincloud.api.lane import Lane
from twincloud.api.metrics import Metrics
from twincloud.api.principals import Principals
from twincloud.api.shell import Shell
from twincloud.api.short import Short
from twincloud.api.stream import Stream
from twincloud.api.threads import Threads
from twincloud.api.v1 import (
    alarms,
    backtests,
    cloud_twins,
    commands,
    configuration,
    definitions,
    directives,
    events,
    exports,
    fleet,
    fleets,
    gateways,
    models,
    operations,
    records,
    replay,
    retention,
    session,
    twin_graph,
    twins,
)
from twincloud.config import Settings
from twincloud.events.bus import Bus
from twincloud.identity.ca import Authority
from twincloud.identity.ledger import Ledger
from twincloud.identity.tokens import hash_of, resolve
from twincloud.replay.replay import Replayer
from twincloud.storage.contract import GatewayKey, Store
from twinmodel.clock import Clock

VERSION = "1"


def create_app(
    store: Store,
    *,
    clock: Clock,
    bus: Bus,
    ca: Authority | None,
    settings: Settings,
    on_directive: Callable[[GatewayKey], None],
    ledger: Ledger | None = None,
    metrics: Metrics | None = None,
) -> FastAPI:
    """Joins routers, gates and state into one app; its lifespan runs the event streams.

    Args:
        store: where everything is kept.
        clock: server time.
        bus: rung by whoever commits.
        ca: the authority whose fingerprint invitations carry; without it nobody can be invited.
        settings: bounds and names.
        on_directive: called in a thread of the pool after a directive was opened.
        ledger: revocations; by default those of the state directory.
        metrics: shared with other stages; a fresh registry by default.
    """
    metrics = metrics or Metrics()
    app = FastAPI(
        title="hybridtwin coordinator",
        version=VERSION,
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
        lifespan=_lifespan,
        separate_input_output_schemas=False,
    )
    state = app.state
    state.store, state.clock, state.bus, state.ca, state.settings = store, clock, bus, ca, settings
    state.on_directive, state.metrics = on_directive, metrics
    state.wake_operations = lambda: None
    state.ledger = ledger or Ledger(settings.state)
    state.threads = Threads(settings.threads)
    state.addresses = Addresses.of(settings)
    state.principal_of = lambda token: resolve(store, state.ledger, hash_of(token), clock.wall_ns())
    state.fleet = Fleet(store, state.threads, clock, stale_ns=settings.stale_ns)
    state.principals = Principals(store, state.ledger, state.threads, clock)
    state.views = HeldViews(store, state.threads, state.fleet, clock)
    state.changes = Changes(store, state.threads, bus, clock)
    state.short = Short(
        views=state.views, changes=state.changes, principals=state.principals, clock=clock, metrics=metrics
    )
    state.fleets = Fleets(store, clock, stale_ns=settings.stale_ns)
    state.replayer = Replayer(store)
    state.stream = Stream(store, state.threads, bus, state.fleet, clock, metrics, watchers_max=settings.watchers_max)
    problems.install(app)
    spec.install(app)
    app.add_middleware(Fields)
    app.add_middleware(Idempotency)
    app.add_middleware(Shell, clock=clock, metrics=metrics, model_bytes_max=settings.model_bytes_max)
    app.add_middleware(Lane, short=state.short)
    for module in (
        health,
        session,
        fleet,
        fleets,
        alarms,
        gateways,
        twins,
        exports,
        records,
        definitions,
        twin_graph,
        models,
        directives,
        events,
        operations,
        backtests,
        cloud_twins,
        commands,
        configuration,
        replay,
        retention,
    ):
        # As they are, where `include_router` would work out each route anew for each app at its first request.
        app.router.routes.extend(module.router.routes)
    app.include_router(console_router(default_tenant=next(iter(store.tenants()), DEFAULT_TENANT)))
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    stream: Stream = app.state.stream
    try:
        async with asyncio.TaskGroup() as group:
            pump = group.create_task(stream.run(), name="event streams")
            yield
            stream.close()
            pump.cancel()
    finally:
        app.state.threads.close()
