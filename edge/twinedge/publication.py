"""The present catalogue: in use by the pipeline at once, durable in the spool as soon as the disk takes it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NoReturn

import structlog

from twinedge.config.numbers import Numbered
from twinedge.pipeline import RETRY_S, Pipeline
from twinedge.uplink.spooled import SpooledItems
from twinmodel.errors import StorageError
from twinmodel.signal import Catalogue

log = structlog.get_logger(__name__)

BEFORE_MAX = 4096
"""Catalogues of this run that are remembered; once one was forgotten, any other might be it."""


class Publication:
    """Makes catalogues the present one of pipeline and spool.

    Args:
        spooled: stores them.
        pipeline: uses them.
        on_again: called when one that was present before is again: the coordinator takes the newest it was told of in
            a session for the present one.

    Attributes:
        trouble: why the newest one is not stored yet, None when it is.
    """

    def __init__(self, spooled: SpooledItems, pipeline: Pipeline, on_again: Callable[[], None] = lambda: None) -> None:
        self._spooled = spooled
        self._on_again = on_again
        self._before: dict[bytes, None] = {}
        self._forgot = False
        self._again = False
        self._pipeline = pipeline
        self._present = Catalogue(())
        self._unstored = asyncio.Event()
        self.trouble: StorageError | None = None

    @property
    def present(self) -> Catalogue:
        """The one in use."""
        return self._present

    async def use(self, catalogue: Catalogue, numbered: Numbered | None = None) -> None:
        """Uses one from now on, whatever the disk says: does not wait, and is followed by `store`.

        Args:
            catalogue: of what goes into the lanes.
            numbered: see `Pipeline.use`.
        """
        was = self._forgot or catalogue.digest in self._before
        self._again = was and catalogue.digest != self._present.digest
        self._remember(self._present.digest)
        self._present = catalogue
        self._spooled.announce(catalogue)
        await self._pipeline.use(catalogue, numbered)
        self._unstored.set()

    def _remember(self, digest: bytes) -> None:
        self._before.pop(digest, None)
        self._before[digest] = None
        if len(self._before) > BEFORE_MAX:
            del self._before[next(iter(self._before))]
            self._forgot = True

    async def store(self) -> bool:
        """Stores the present one; False when the disk refuses, `run` tries on then."""
        catalogue = self._present
        try:
            await self._spooled.use(catalogue)
        except StorageError as error:
            if self.trouble is None:
                log.warning("catalogue not stored, trying on", reason=error.reason, detail=error.message)
            self.trouble = error
            return False
        if catalogue is self._present:
            self.trouble = None
            self._unstored.clear()
            if self._again:
                self._again = False
                self._on_again()
        return True

    async def run(self) -> NoReturn:
        """Stores what the disk refused, until cancelled."""
        while True:
            await self._unstored.wait()
            if not await self.store():
                await asyncio.sleep(RETRY_S)
