"""A link passes, delays, blackholes, cuts and resets what two real sockets say."""

import asyncio
import socket
from contextlib import suppress

import pytest

from twinmodel.errors import ConflictError, InputError
from twinsim.link import BUFFER_BYTES, LinkMode, link


@pytest.fixture
async def echo():
    async def answer(reader, writer):
        try:
            while chunk := await reader.read(1 << 16):
                writer.write(chunk)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()
    server.close()


class Talk:
    def __init__(self, port):
        self.port = port

    async def __aenter__(self):
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
        return self

    async def __aexit__(self, *_):
        self.writer.close()
        with suppress(OSError):
            await self.writer.wait_closed()

    async def say(self, text, timeout_s=60.0):
        self.writer.write(text)
        async with asyncio.timeout(timeout_s):
            return await self.reader.readexactly(len(text))


async def test_bytes_pass_both_ways_and_are_counted(echo):
    async with link(echo) as made, Talk(made.port) as talk:
        blob = bytes(range(256)) * 4000
        assert await talk.say(blob) == blob
        assert made.passed_bytes == 2 * len(blob)


async def test_a_delayed_link_takes_its_time_and_keeps_the_order(echo):
    async with link(echo) as made, Talk(made.port) as talk:
        await talk.say(b"x")
        made.set_mode("delay", delay_s=0.1)
        loop = asyncio.get_running_loop()
        start = loop.time()
        assert await talk.say(b"first") == b"first"
        assert loop.time() - start >= 0.2


async def test_a_half_open_link_passes_nothing_and_delivers_when_it_is_up_again(echo):
    async with link(echo) as made, Talk(made.port) as talk:
        await talk.say(b"x")
        made.set_mode("half_open")
        with pytest.raises(TimeoutError):
            await talk.say(b"hello", timeout_s=0.2)
        async with Talk(made.port) as late:
            with pytest.raises(TimeoutError):
                await late.say(b"new", timeout_s=0.1)
            made.set_mode("up")
            assert await talk.reader.readexactly(5) == b"hello"
            assert await late.reader.readexactly(3) == b"new"


async def test_a_half_open_link_holds_no_more_than_its_buffers(echo):
    async with link(echo) as made, Talk(made.port) as talk:
        await talk.say(b"x")
        made.set_mode("half_open")
        talk.writer.write(bytes(64 << 20))
        await asyncio.sleep(0.2)
        assert made.passed_bytes == 2
        assert talk.writer.transport.get_write_buffer_size() > (64 << 20) - (16 << 20) - BUFFER_BYTES
        talk.writer.transport.abort()


async def test_a_cut_link_closes_connections_refuses_new_ones_and_comes_back_on_its_port(echo):
    async with link(echo) as made:
        async with Talk(made.port) as talk:
            await talk.say(b"x")
            made.set_mode("cut")
            assert await talk.reader.read() == b""
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", made.port)
        made.set_mode("up")
        await asyncio.sleep(0.05)
        async with Talk(made.port) as talk:
            assert await talk.say(b"back") == b"back"


async def test_a_cut_with_a_time_heals_by_itself(echo):
    async with link(echo) as made:
        made.set_mode("cut", for_s=0.1)
        assert made.mode is LinkMode.CUT
        await asyncio.sleep(0.25)
        assert made.mode is LinkMode.UP
        async with Talk(made.port) as talk:
            assert await talk.say(b"back") == b"back"


async def test_a_reset_link_sends_rst_to_old_and_new_connections(echo):
    async with link(echo) as made:
        async with Talk(made.port) as talk:
            await talk.say(b"x")
            made.set_mode("reset")
            with pytest.raises(ConnectionResetError):
                await talk.reader.read()
        with pytest.raises(ConnectionResetError):
            async with Talk(made.port) as talk:
                await talk.say(b"x")


async def test_an_end_of_stream_passes_and_the_connection_is_forgotten(echo, eventually):
    async with link(echo) as made, Talk(made.port) as talk:
        talk.writer.write(b"bye")
        talk.writer.write_eof()
        assert await talk.reader.read() == b"bye"
        await eventually(lambda: made.connections == 0)


async def test_a_dead_target_closes_the_connection(unused_tcp_port):
    async with link(("127.0.0.1", unused_tcp_port)) as made, Talk(made.port) as talk:
        assert await talk.reader.read() == b""


async def test_nonsense_is_refused_with_its_reason(echo):
    async with link(echo) as made:
        for order in ({"mode": "wobble"}, {"mode": "delay", "delay_s": 1e9}, {"mode": "cut", "for_s": 0.0}):
            with pytest.raises(InputError):
                made.set_mode(**order)
        assert made.mode is LinkMode.UP


async def test_a_port_in_use_is_said_so(echo):
    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(ConflictError) as refused:
        async with link(echo, port=other.getsockname()[1]):
            pass
    assert refused.value.reason == "PORT_IN_USE"
