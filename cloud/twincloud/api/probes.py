"""What a coordinator that serves gateways alone answers over HTTP: whether it lives, is ready, and what it counts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from twincloud.api import health, problems
from twincloud.api.addresses import Addresses
from twincloud.api.metrics import Metrics
from twincloud.api.shell import Shell
from twincloud.api.threads import Threads
from twincloud.config import Settings
from twincloud.storage.contract import Store
from twinmodel.clock import Clock


class NoStream:
    """Stands where event streams would be: there are none that could have stopped."""

    alive = True

    def close(self) -> None:
        """Nothing is open."""


def create_probes(store: Store, *, clock: Clock, settings: Settings, metrics: Metrics) -> FastAPI:
    """The app of the probes; its state is that part of `api.app`'s which they, and enrolment, need.

    Args:
        store: asked whether it answers.
        clock: server time.
        settings: bounds and names.
        metrics: what is counted, by all stages.
    """
    app = FastAPI(title="hybridtwin coordinator", docs_url=None, redoc_url=None, openapi_url=None, lifespan=_lifespan)
    state = app.state
    state.store, state.metrics = store, metrics
    state.threads = Threads(settings.threads)
    state.addresses = Addresses.of(settings)
    state.stream = NoStream()
    problems.install(app)
    app.add_middleware(Shell, clock=clock, metrics=metrics, model_bytes_max=settings.model_bytes_max)
    app.include_router(health.router)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    try:
        yield
    finally:
        app.state.threads.close()
