"""A TCP link that can be cut, blackholed, reset or slowed down while two real programs talk through it.

    up         bytes pass
    delay      bytes pass after a fixed time, in order
    half_open  connections stay open, accepted or new, and nothing passes: what a dead router looks like
    cut        nobody listens (connection refused); existing connections are closed in an orderly way
    reset      existing connections get a TCP RST, and so do new ones while it lasts

Each direction of each connection buffers at most 64 kB here; beyond that the sender feels back-pressure. In
`half_open` nothing is read, so that the sender's kernel buffer fills as on a real line, and bytes that wait pass when
the link is up again. Times use the event loop's monotonic clock.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from enum import StrEnum

import structlog

from twinmodel.errors import ConflictError, InputError
from twinsim.background import Background, background

CHUNK_BYTES = 16 << 10
BUFFER_BYTES = 64 << 10
CONNECTIONS_MAX = 256
CONNECT_TIMEOUT_S = 10.0
DELAY_DEFAULT_S = 0.2
DELAY_MAX_S = 60.0
RELISTEN_S = 0.1

_log = structlog.get_logger(__name__)


class LinkMode(StrEnum):
    """States of a link; see the module."""

    UP = "up"
    DELAY = "delay"
    HALF_OPEN = "half_open"
    CUT = "cut"
    RESET = "reset"


class Link:
    """One listening port whose connections lead to one target.

    Attributes:
        name: of the link, for commands and logs.
        host: address it listens on.
        port: it listens on.
        mode: what it does to bytes now.
        delay_s: how long bytes take in mode `delay`.
        passed_bytes: bytes that went through, both directions.
    """

    def __init__(self, name: str, target: tuple[str, int], tasks: Background) -> None:
        self.name = name
        self.target = target
        self._tasks = tasks
        self.host, self.port = "127.0.0.1", 0
        self.mode = LinkMode.UP
        self.delay_s = 0.0
        self.passed_bytes = 0
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._pairs: set[tuple[asyncio.StreamWriter, asyncio.StreamWriter | None]] = set()
        self._restore: asyncio.TimerHandle | None = None
        self._server: asyncio.Server | None = None
        self._uncut = asyncio.Event()

    @property
    def connections(self) -> int:
        """Number of connections open now."""
        return len(self._pairs)

    def set_mode(self, mode: str, *, delay_s: float | None = None, for_s: float | None = None) -> None:
        """Changes what the link does; after `for_s` seconds it goes back to `up`. Raises as `check_mode`."""
        check_mode(mode, delay_s=delay_s, for_s=for_s)
        if self._restore is not None:
            self._restore.cancel()
            self._restore = None
        if self.mode != mode:
            _log.info("link changes", link=self.name, mode=str(mode))
        self.mode = LinkMode(mode)
        self.delay_s = (DELAY_DEFAULT_S if delay_s is None else delay_s) if self.mode is LinkMode.DELAY else 0.0
        if self.mode in {LinkMode.UP, LinkMode.DELAY}:
            self._flowing.set()
        else:
            self._flowing.clear()
        if self.mode is LinkMode.CUT:
            self._uncut.clear()
            self._deafen()
        else:
            self._uncut.set()
        if self.mode in {LinkMode.CUT, LinkMode.RESET}:
            self._drop(reset=self.mode is LinkMode.RESET)
        if for_s is not None:
            self._restore = asyncio.get_running_loop().call_later(for_s, self.set_mode, LinkMode.UP)

    async def listen(self, host: str, port: int) -> None:
        """Starts to accept. Raises ConflictError PORT_IN_USE."""
        try:
            self._server = await asyncio.start_server(self._accept, host, port, limit=CHUNK_BYTES)
        except OSError as refused:
            raise ConflictError("PORT_IN_USE", f"cannot listen on {host}:{port} for a link", port=port) from refused
        self.host, self.port = host, self._server.sockets[0].getsockname()[1]

    async def keep_listening(self) -> None:
        """Listens again on the same port after each cut, for ever."""
        while True:
            await self._uncut.wait()
            if self._server is None:
                try:
                    await self.listen(self.host, self.port)
                except ConflictError:
                    await asyncio.sleep(RELISTEN_S)
                    continue
            self._uncut.clear()

    def _deafen(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    def close(self) -> None:
        """Drops all connections and forgets a planned restoration."""
        if self._restore is not None:
            self._restore.cancel()
        self._deafen()
        self._drop(reset=False)

    def _drop(self, *, reset: bool) -> None:
        for pair in tuple(self._pairs):
            for writer in pair:
                if writer is not None:
                    _shut(writer, reset=reset)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tasks.start(self._serve(reader, writer), f"link {self.name} connection")

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Handles one accepted connection until either end or the link closes it."""
        if self.mode in {LinkMode.CUT, LinkMode.RESET} or len(self._pairs) >= CONNECTIONS_MAX:
            _shut(writer, reset=self.mode is not LinkMode.CUT)
            return
        pair: tuple[asyncio.StreamWriter, asyncio.StreamWriter | None] = (writer, None)
        self._pairs.add(pair)
        try:
            await self._flowing.wait()
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                far_reader, far_writer = await asyncio.open_connection(*self.target, limit=CHUNK_BYTES)
            self._pairs.discard(pair)
            pair = (writer, far_writer)
            self._pairs.add(pair)
            async with asyncio.TaskGroup() as group:
                for source, sink in ((reader, far_writer), (far_reader, writer)):
                    queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(BUFFER_BYTES // CHUNK_BYTES)
                    group.create_task(self._read(source, queue), name=f"link {self.name} read")
                    group.create_task(self._write(queue, sink), name=f"link {self.name} write")
        except* (OSError, TimeoutError):
            pass  # either end went away; the other learns it below
        finally:
            self._pairs.discard(pair)
            for end in pair:
                if end is not None:
                    _shut(end, reset=False)

    async def _read(self, reader: asyncio.StreamReader, queue: asyncio.Queue[tuple[float, bytes]]) -> None:
        """Takes bytes in one direction, each chunk with the time it may leave; the bounded queue is the brake."""
        loop = asyncio.get_running_loop()
        chunk = b"-"
        while chunk:
            await self._flowing.wait()
            chunk = await reader.read(CHUNK_BYTES)
            await queue.put((loop.time() + self.delay_s, chunk))

    async def _write(self, queue: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter) -> None:
        """Gives bytes on when their time has come; an end of stream closes the writing side."""
        loop = asyncio.get_running_loop()
        while True:
            due, chunk = await queue.get()
            await asyncio.sleep(max(0.0, due - loop.time()))
            await self._flowing.wait()
            if not chunk:
                if writer.can_write_eof():
                    writer.write_eof()
                return
            writer.write(chunk)
            await writer.drain()
            self.passed_bytes += len(chunk)


def check_mode(mode: str, *, delay_s: float | None = None, for_s: float | None = None) -> None:
    """Refuses what no link can do.

    Raises:
        InputError: VALUE_INVALID for an unknown mode or a time that makes no sense.
    """
    if mode not in tuple(LinkMode):
        raise InputError("VALUE_INVALID", f"no link mode is called {mode!r}", hint=f"use one of {', '.join(LinkMode)}")
    if delay_s is not None and not 0 <= delay_s <= DELAY_MAX_S:
        raise InputError("VALUE_INVALID", f"a delay lies between 0 and {DELAY_MAX_S:g} s, not {delay_s}")
    if for_s is not None and for_s <= 0:
        raise InputError("VALUE_INVALID", f"a fault cannot last {for_s} s")


def _shut(writer: asyncio.StreamWriter, *, reset: bool) -> None:
    """Closes one end; a reset throws away what waits and sends RST."""
    if reset:
        sock = writer.get_extra_info("socket")
        if sock is not None:
            with suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
    else:
        writer.close()


@asynccontextmanager
async def link(
    target: tuple[str, int], *, name: str = "link", host: str = "127.0.0.1", port: int = 0
) -> AsyncIterator[Link]:
    """Opens a link to `target` and yields it; its port is `Link.port`.

    Raises:
        ConflictError: PORT_IN_USE.
    """
    async with background() as tasks:
        made = Link(name, target, tasks)
        await made.listen(host, port)
        tasks.start(made.keep_listening(), f"link {name}")
        try:
            yield made
        finally:
            made.close()
