"""A bounded pool of threads for the store's synchronous calls, so that the event loop never waits for a disk."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

from twinmodel.errors import UnreachableError

P = ParamSpec("P")
R = TypeVar("R")


class Threads:
    """Runs blocking calls; refuses instead of queueing without end.

    A cancelled caller leaves its call to finish in the thread: every store call is one bounded transaction.
    """

    def __init__(self, workers: int, waiting_max: int = 256) -> None:
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="rest")
        self._waiting_max = workers + waiting_max
        self._running = 0

    @property
    def running(self) -> int:
        """Calls that run or wait."""
        return self._running

    def submit(self, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[R]:
        """Starts `call` in a thread of the pool; raises RATE_LIMITED when too many wait."""
        if self._running >= self._waiting_max:
            raise UnreachableError("RATE_LIMITED", f"{self._running} requests wait for the store already")
        self._running += 1
        # What stands in the context of a request, such as its idempotency key, counts for its transactions too.
        bound = partial(contextvars.copy_context().run, call, *args, **kwargs)
        future = asyncio.get_running_loop().run_in_executor(self._pool, bound)
        future.add_done_callback(self._done)
        return future

    async def run(self, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Result of `call` in a thread of the pool; raises RATE_LIMITED when too many wait."""
        return await self.submit(call, *args, **kwargs)

    def _done(self, _future: asyncio.Future[R]) -> None:
        self._running -= 1

    def close(self) -> None:
        """Ends the threads once their calls have returned."""
        self._pool.shutdown(wait=False, cancel_futures=True)
