"""Lookups that hang, and what goes on meanwhile."""

from __future__ import annotations

import asyncio
import socket
import threading

import pytest

from twinedge import resolver
from twinedge.resolver import AgentLoop, find


class Resolver:
    """Stands for the machine's: what begins with `dead` hangs until the end of the test."""

    def __init__(self) -> None:
        self.asked = []
        self.over = threading.Event()
        self.real = socket.getaddrinfo

    def __call__(self, host, *rest):
        self.asked.append(host)
        if host.startswith("dead"):
            self.over.wait()
            raise socket.gaierror(socket.EAI_NONAME, "at last")
        if host == "nowhere":
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        return self.real("127.0.0.1", *rest)


@pytest.fixture
def names(monkeypatch):
    made = Resolver()
    monkeypatch.setattr(socket, "getaddrinfo", made)
    yield made
    made.over.set()


def run(work):
    with asyncio.Runner(loop_factory=AgentLoop) as runner:
        return runner.run(work)


def test_names_that_hang_keep_neither_other_devices_nor_the_disk_waiting(names):
    async def work():
        dead = [asyncio.create_task(find(f"dead-{n}", 502)) for n in range(resolver.LOOKUPS_MAX - 1)]
        await asyncio.sleep(0)
        server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        _, writer = await asyncio.open_connection("press", port)
        writer.close()
        assert await asyncio.to_thread(lambda: "written") == "written"
        assert not any(task.done() for task in dead)
        for task in dead:
            task.cancel()
        server.close()

    run(work())
    assert names.asked.count("press") == 1


def test_a_name_that_hangs_is_given_up_and_asked_for_once_however_many_want_it(names, monkeypatch):
    monkeypatch.setattr(resolver, "WAIT_S", 0.01)

    async def work():
        for _ in range(3):
            with pytest.raises(socket.gaierror, match="says nothing"):
                await find("dead", 502)
        monkeypatch.setattr(resolver, "WAIT_S", 60.0)
        waiting = asyncio.create_task(find("dead", 502))
        await asyncio.sleep(0)
        names.over.set()
        with pytest.raises(socket.gaierror, match="at last"):
            await waiting
        names.over.clear()
        await find("press", 502)

    run(work())
    assert names.asked == ["dead", "press"]


def test_more_names_than_are_looked_up_at_a_time_are_refused_at_once(names, monkeypatch):
    monkeypatch.setattr(resolver, "LOOKUPS_MAX", 2)

    async def work():
        dead = [asyncio.create_task(find(f"dead-{n}", 502)) for n in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(socket.gaierror, match="wait for the resolver"):
            await find("press", 502)
        for task in dead:
            task.cancel()

    run(work())


def test_a_name_that_is_wrong_is_told_as_such_and_an_address_needs_nobody(names):
    async def work():
        with pytest.raises(socket.gaierror, match="no such name"):
            await find("nowhere", 502)
        server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
        _, writer = await asyncio.open_connection("127.0.0.1", server.sockets[0].getsockname()[1])
        writer.close()
        server.close()

    run(work())
    assert names.asked == ["nowhere"]
