"""Names of devices and brokers, looked up so that one nobody answers for keeps no other waiting.

The resolver of the machine may hang for half a minute a name. By default asyncio asks it in the few threads that also
write to the spool: six dead names would stop the agent.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

LOOKUPS_MAX = 64
"""Names that are looked up at a time; each has a thread, also after nobody waits for it any more."""
WAIT_S = 10.0
THREADS = 32
"""For what blocks otherwise: the disk, and connections of libraries that know no event loop."""

Found = list[tuple[Any, ...]]


class AgentLoop(asyncio.SelectorEventLoop):
    """The event loop of an agent."""

    def __init__(self) -> None:
        super().__init__()
        self._lookups: dict[tuple[Any, ...], asyncio.Future[Found]] = {}

    async def getaddrinfo(
        self,
        host: str | bytes | None,
        port: str | bytes | int | None,
        *,
        family: int = 0,
        type: int = 0,  # noqa: A002 - the name asyncio gives it
        proto: int = 0,
        flags: int = 0,
    ) -> Found:
        """See `asyncio.loop.getaddrinfo`; several that ask for one name share its answer.

        Raises:
            OSError: of the resolver, or EAI_AGAIN when it says nothing in time or too many names are being looked up.
        """
        asked = host, port, family, type, proto, flags
        found = self._lookups.get(asked)
        if found is None:
            if len(self._lookups) >= LOOKUPS_MAX:
                raise socket.gaierror(socket.EAI_AGAIN, f"{LOOKUPS_MAX} names wait for the resolver already")
            found = self._lookups[asked] = self._begin(asked)
        try:
            async with asyncio.timeout(WAIT_S):
                return await asyncio.shield(found)
        except TimeoutError:
            raise socket.gaierror(socket.EAI_AGAIN, f"the resolver says nothing within {WAIT_S:g} s") from None

    def _begin(self, asked: tuple[Any, ...]) -> asyncio.Future[Found]:
        found: asyncio.Future[Found] = self.create_future()
        found.add_done_callback(partial(self._end, asked))

        def look() -> None:
            tell: Callable[[], None]
            try:
                tell = partial(_set, found, socket.getaddrinfo(*asked))
            except (OSError, UnicodeError) as error:
                tell = partial(_fail, found, error)
            with suppress(RuntimeError):  # the loop has ended meanwhile
                self.call_soon_threadsafe(tell)

        # Of nobody's pool, and no reason for the agent not to end.
        threading.Thread(target=look, name=f"lookup {asked[0]}", daemon=True).start()
        return found

    def _end(self, asked: tuple[Any, ...], found: asyncio.Future[Found]) -> None:
        self._lookups.pop(asked, None)
        if not found.cancelled():
            found.exception()  # nobody may wait for it any more


def _set(found: asyncio.Future[Found], result: Found) -> None:
    if not found.done():
        found.set_result(result)


def _fail(found: asyncio.Future[Found], error: Exception) -> None:
    if not found.done():
        found.set_exception(error)


async def find(host: str, port: int) -> None:
    """Looks a name up before a library does so in a thread of the agent; raises OSError."""
    await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
