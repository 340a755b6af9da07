"""The gateway agent: opens what it stands on, runs its stages, and closes it again."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from random import Random

from twinedge.config.load import LoadedSite
from twinedge.configuration import Configuration
from twinedge.enrol import Identity, load_identity
from twinedge.health.clock import ClockWatch
from twinedge.health.server import PORT_FILE, StatusServer
from twinedge.spool.store import Spool
from twinedge.stages import Ground, Options, Stages
from twinedge.storage import Storage
from twinmodel.clock import Clock
from twinmodel.errors import TwinError

__all__ = ["Agent", "Options"]


class Agent:
    """One agent; made by options, a clock and chance, run once.

    Attributes:
        hangup: set it to have site.yaml read again.
        stages: what runs, None before it does.
    """

    def __init__(self, options: Options, clock: Clock, random: Random) -> None:
        self.hangup = asyncio.Event()
        self.stages: Stages | None = None
        self._options = options
        self._clock = clock
        self._random = random
        self._watch = ClockWatch(clock, options.state)

    async def run(self, stop: asyncio.Event, ready: Callable[[dict[str, object]], None]) -> None:
        """Runs until `stop` is set, then lets what is buffered become durable and, for a while, sent.

        Raises:
            TwinError: what keeps it from starting: configuration, identity, a taken port, a locked state directory.
        """
        options = self._options
        configuration = Configuration(options.config, options.state, self._clock)
        loaded = configuration.begin()
        identity = self._identity()
        server = StatusServer(loaded.site.status.host, loaded.site.status.port)
        try:
            storage = await Storage.open(lambda: self._open_spool(loaded))
            try:
                await asyncio.to_thread(configuration.keep_begun)
                with suppress(OSError):  # a full disk keeps nobody from running
                    (options.state / PORT_FILE).write_text(str(server.port))
                ground = Ground(
                    options, configuration, identity, storage, server, self._watch, self._random, self.hangup
                )
                self.stages = Stages(ground)
                await self.stages.run(stop, ready)
            finally:
                await storage.close()
        finally:
            server.close()

    def _identity(self) -> Identity | None:
        """Who this gateway is; with an expired certificate too, as it goes on reading under its own name.

        Its sessions at brokers hang on that name. The uplink says CERT_EXPIRED until there is a new certificate.
        """
        try:
            return load_identity(self._options.state, self._clock, expired_too=True)
        except TwinError:
            if not self._options.offline:
                raise
            return None

    def _open_spool(self, loaded: LoadedSite) -> Spool:
        return Spool.open(
            self._options.state,
            clock=self._clock,
            rng_bytes=os.urandom,
            disk_max_bytes=loaded.site.spool.disk,
            when_full=loaded.site.spool.when_full,
            clock_quality=self._watch.quality(),
            patient=True,
        )
