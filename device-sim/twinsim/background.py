"""Tasks that run while a context is open: started by name, ended with it, and a failure of one ends it all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager


class Background:
    """A task group whose tasks never end by themselves, so that leaving the context cancels them."""

    def __init__(self, group: asyncio.TaskGroup) -> None:
        self._group = group
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[object, object, None], name: str) -> asyncio.Task[None]:
        """Starts a named task."""
        task = self._group.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def cancel(self) -> None:
        """Cancels all tasks that still run."""
        for task in tuple(self._tasks):
            task.cancel()


@asynccontextmanager
async def background() -> AsyncIterator[Background]:
    """Opens a background; one failure leaves it as itself, several as an exception group."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = Background(group)
            try:
                yield tasks
            finally:
                tasks.cancel()
    except BaseExceptionGroup as failures:
        if len(failures.exceptions) == 1:
            raise failures.exceptions[0] from None
        raise
