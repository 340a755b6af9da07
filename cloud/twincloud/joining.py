"""The stages of one coordinator, made of its settings and joined: who rings whom, and what its role leaves out.

all      everything in one process
api      REST, console, operations and upkeep; no gateways
ingest   gateways and their enrolment; of HTTP the probes and metrics alone
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from random import Random

from fastapi import FastAPI

from twincloud.api.app import create_app
from twincloud.api.enrolment import create_enrolment_app
from twincloud.api.metrics import Metrics
from twincloud.api.probes import create_probes
from twincloud.config import Settings
from twincloud.estimate.stepping import Stepper
from twincloud.estimate.task import CloudTwins
from twincloud.events.bus import Bus
from twincloud.events.neighbours import Neighbours
from twincloud.identity.ca import Authority
from twincloud.identity.ledger import Ledger
from twincloud.identity.shared_ledger import SharedLedger
from twincloud.ingest.servicer import SyncServicer
from twincloud.operations.pool import Pool
from twincloud.operations.task import Work
from twincloud.replay import backtest
from twincloud.storage.contract import GatewayKey, Store
from twincloud.upkeep.gateways import GatewayWatch
from twincloud.upkeep.runner import Runner
from twincloud.upkeep.tasks import tasks_of
from twinmodel.clock import Clock

KINDS: Mapping[str, Work] = {backtest.KIND: backtest.work}
"""Kinds of operations and how they are done."""


@dataclass(slots=True)
class Parts:
    """All stages of one service; `app` is that of the probes alone where people are not served."""

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


def join(settings: Settings, clock: Clock, store: Store, ca: Authority, ledger: Ledger) -> Parts:
    """The stages of a coordinator; to be called in the event loop that will run them."""
    bus, metrics = Bus(), Metrics()
    loop = asyncio.get_running_loop()

    def wake(gateway: GatewayKey) -> None:
        loop.call_soon_threadsafe(notify_directive, parts, gateway)

    if settings.serves_people:
        app = create_app(
            store, clock=clock, bus=bus, ca=ca, settings=settings, on_directive=wake, ledger=ledger, metrics=metrics
        )
    else:
        app = create_probes(store, clock=clock, settings=settings, metrics=metrics)
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
    tasks = (*tasks_of(settings, store, clock), GatewayWatch(store, bus.notify), cloud_twins)
    upkeep = Runner(tasks, store.lease, clock, Random())  # noqa: S311 it spreads work
    app.state.upkeep = upkeep
    parts = Parts(settings, clock, store, ca, ledger, bus, metrics, app, pool, enrolment, upkeep)
    return parts


def ledger_of(settings: Settings, store: Store) -> Ledger:
    """Where what was issued and revoked is kept: beside the store, or in the database that several share."""
    return SharedLedger(store.documents()) if settings.database_url else Ledger(settings.state)


def neighbours_of(parts: Parts) -> Neighbours:
    """The others on the same database."""
    return Neighbours(parts.store, parts.bus, partial(notify_directive, parts), parts.pool.wake, parts.clock)


def notify_directive(parts: Parts, gateway: GatewayKey) -> None:
    """Wakes the session of a gateway, when it is here."""
    if parts.servicer is not None:
        parts.servicer.notify_directive(gateway)
