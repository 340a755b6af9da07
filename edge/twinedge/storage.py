"""The one thread that touches the spool, and the spool as the event loop sees it.

SQLite commits block for the time of an fsync; a commit on an SD card may take a second. So the spool lives in one
thread, and everything else awaits it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Concatenate, ParamSpec, TypeVar

from twinedge.spool.store import Spool

P = ParamSpec("P")
R = TypeVar("R")


class Storage:
    """Runs calls of the spool in its thread, in order; a call that is cancelled still runs to its end."""

    def __init__(self, spool: Spool, thread: ThreadPoolExecutor) -> None:
        self._spool = spool
        self._thread = thread

    @classmethod
    async def open(cls, opener: Callable[[], Spool]) -> Storage:
        """Opens the spool in the thread it will live in; raises its StorageErrors."""
        thread = ThreadPoolExecutor(1, thread_name_prefix="spool")
        try:
            spool = await asyncio.get_running_loop().run_in_executor(thread, opener)
        except BaseException:
            thread.shutdown(wait=False)
            raise
        return cls(spool, thread)

    async def call(self, method: Callable[Concatenate[Spool, P], R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Runs `method(spool, ...)`, for instance `call(Spool.acknowledge, marks)`."""
        loop = asyncio.get_running_loop()
        return await asyncio.shield(loop.run_in_executor(self._thread, lambda: method(self._spool, *args, **kwargs)))

    async def close(self) -> None:
        """Closes the spool after the calls that wait."""
        await self.call(Spool.close)
        self._thread.shutdown(wait=True)
