"""The present catalogue: durable in the spool, then in use by the pipeline, whatever the disk says meanwhile."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import structlog

from twinedge.pipeline import RETRY_S, Pipeline
from twinedge.uplink.spooled import SpooledItems
from twinmodel.errors import StorageError
from twinmodel.signal import Catalogue

log = structlog.get_logger(__name__)


class Publication:
    """Makes catalogues the present one of spool and pipeline.

    Args:
        spooled: stores them.
        pipeline: uses them.

    Attributes:
        trouble: why the newest one is not stored yet, None when it is.
    """

    def __init__(self, spooled: SpooledItems, pipeline: Pipeline) -> None:
        self._spooled = spooled
        self._pipeline = pipeline
        self.trouble: StorageError | None = None

    async def begin(self, catalogue: Catalogue) -> None:
        """Uses the first one at once: a disk that refuses keeps nobody from polling, samples wait in their lanes."""
        await self._store(catalogue)
        await self._pipeline.use(catalogue)

    async def publish(self, catalogue: Catalogue, stop: asyncio.Event) -> bool:
        """Stores and then uses one; a disk that refuses is asked until it does not, False when `stop` came first."""
        while not stop.is_set():
            if await self._store(catalogue):
                await self._pipeline.use(catalogue)
                return True
            with suppress(TimeoutError):
                async with asyncio.timeout(RETRY_S):
                    await stop.wait()
        return False

    async def _store(self, catalogue: Catalogue) -> bool:
        try:
            await self._spooled.use(catalogue)
        except StorageError as error:
            if self.trouble is None:
                log.warning("catalogue not stored, trying on", reason=error.reason, detail=error.message)
            self.trouble = error
            return False
        self.trouble = None
        return True
