"""A listener of the API that runs and ends by events, raw connections to it, and what they say."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from twincloud.listening import Listener

TWINS = "/api/v1/tenants/acme/sites/north/twins"
CHANGE = b'{"tags": {"n": "1"}}'


@dataclass(frozen=True)
class Answer:
    """An answer without its date; the order of headers means nothing."""

    status: int
    headers: tuple[bytes, ...]
    body: bytes

    def named(self, name: bytes) -> bytes:
        return next((line.partition(b": ")[2] for line in self.headers if line.startswith(name + b":")), b"")


class Connection:
    """A raw connection to the listener."""

    def __init__(self, live, reader, writer) -> None:
        self.live, self.reader, self.writer = live, reader, writer

    async def send(self, *segments: bytes) -> None:
        """Sends segments, each once the server has got the one before."""
        for segment in segments:
            self.writer.write(segment)
            async with asyncio.timeout(30):
                assert await self.live.segments.get() == segment

    async def answer(self) -> Answer:
        first, *lines = (await self.reader.readuntil(b"\r\n\r\n"))[:-4].split(b"\r\n")
        headers = tuple(sorted(line for line in lines if not line.startswith(b"date:")))
        found = Answer(int(first.split()[1]), headers, b"")
        assert first.startswith(b"HTTP/1.1 ")
        assert len(headers) == len(lines) - 1
        body = await self.reader.readexactly(int(found.named(b"content-length") or 0))
        return Answer(found.status, headers, body)

    async def ask(self, *segments: bytes) -> Answer:
        await self.send(*segments)
        return await self.answer()


class Prompt(Listener):
    """Begins and ends by events, where uvicorn looks ten times a second."""

    def __init__(self, config) -> None:
        super().__init__(config)
        self.began, self.end = asyncio.Event(), asyncio.Event()

    async def main_loop(self) -> None:
        await self.on_tick(0)
        self.began.set()
        await self.end.wait()


@dataclass
class Live:
    """A listener that runs, and what its connections went through."""

    server: Prompt
    port: int = 0
    serving: asyncio.Task | None = None
    taken: int = 0
    failures: int = 0
    segments: asyncio.Queue[bytes] = field(default_factory=asyncio.Queue)
    lost: asyncio.Event = field(default_factory=asyncio.Event)
    told_to_end: asyncio.Event = field(default_factory=asyncio.Event)
    open: list[asyncio.StreamWriter] = field(default_factory=list)

    async def connect(self) -> Connection:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.open.append(writer)
        return Connection(self, reader, writer)


def read(token: str, more: bytes = b"", twin: str = "tank-1") -> bytes:
    who = b"Authorization: Bearer %s\r\n" % token.encode() if token else b""
    return b"GET %s/%s HTTP/1.1\r\nHost: x\r\n%s%s\r\n" % (TWINS.encode(), twin.encode(), who, more)


def change(token: str, more: bytes = b"", body: bytes = CHANGE, twin: str = "tank-1") -> bytes:
    head = read(token, more, f"{twin}/record").replace(b"GET", b"PATCH", 1)[:-2]
    return head + b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
