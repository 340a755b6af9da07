"""Connections that are held for nothing, on a real socket."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import pytest
import uvicorn

from twincloud.api.connections import ImpatientProtocol

ASK = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


class Hasty(ImpatientProtocol):
    look_s = 0.05
    peer_max = 3


class Listener(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self):
        yield


async def app(scope, receive, send):
    message = {"more_body": True}
    while message.get("more_body"):
        message = await receive()
        if message["type"] == "http.disconnect":
            return
    if scope["path"] == "/slow":
        await asyncio.sleep(0.3)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@pytest.fixture
async def port():
    listening = socket.create_server(("127.0.0.1", 0))
    server = Listener(uvicorn.Config(app, http=Hasty, ws="none", lifespan="off", log_config=None))
    task = asyncio.create_task(server.serve([listening]), name="server")
    while not server.started:  # noqa: ASYNC110 uvicorn has a flag and no event
        await asyncio.sleep(0.01)
    yield listening.getsockname()[1]
    server.should_exit = True
    await task


@contextlib.asynccontextmanager
async def connected(port, first=b""):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(first)
        yield reader
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def ended(reader) -> bytes:
    """What came until the other side hung up."""
    async with asyncio.timeout(60):
        try:
            return await reader.read()
        except ConnectionResetError:
            return b""


@pytest.mark.parametrize(
    "said", [b"", b"GET / HTT", ASK[:-2], b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nfew"]
)
async def test_a_request_that_does_not_come_whole_is_cut(port, said):
    async with connected(port, said) as reader:
        assert b"200 OK" not in await ended(reader)


async def test_a_head_that_never_ends_is_cut_before_it_fills_the_memory(port):
    async with connected(port, b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 20_000) as reader:
        assert await ended(reader) == b""


async def test_a_slow_answer_is_waited_for_and_a_used_connection_cut_when_it_falls_silent(port):
    async with connected(port, ASK.replace(b" / ", b" /slow ")) as reader:
        assert (await ended(reader)).endswith(b"ok")


async def test_one_address_cannot_take_all_places(port):
    async with contextlib.AsyncExitStack() as places:
        readers = [await places.enter_async_context(connected(port)) for _ in range(3)]
        async with connected(port, ASK) as reader:
            assert await ended(reader) == b""
        for one in readers:
            await ended(one)
    async with connected(port, ASK) as reader:
        assert b"200 OK" in await ended(reader)
