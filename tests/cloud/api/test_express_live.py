"""The short way at real connections: order, segments, peers that leave, and what is left to the real parser."""

from __future__ import annotations

import asyncio
import logging
import re
import socket
import threading
from dataclasses import dataclass, field

import pytest
from structlog.testing import capture_logs

from tests.cloud.api.live import CHANGE, Answer, Connection, Live, Prompt, change, read
from twincloud.api.connections import express_protocol
from twincloud.api.express import Express
from twincloud.identity.ledger import Ledger
from twincloud.listening import rest_config
from twinmodel.clock import SECOND_NS
from twinmodel.errors import DeniedError, StorageError

LONG_WAY = b"x-not-known: 1\r\n"


@dataclass
class Gate:
    """Stands in a method of the store: each call tells that it came, and waits until it is let through."""

    came: asyncio.Queue[int] = field(default_factory=asyncio.Queue)
    lets: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))


@pytest.fixture
def tank(plant):
    gateway = plant.gateway("acme", "north", "gw-1", "tank-1", "tank-2", "tank-3")
    gateway.send({"tank-1-dev.level": 1.0})
    return gateway


@pytest.fixture
async def live(plant, tank, caplog):
    app = plant.app()
    ours = Live(None)

    class Counting(Express):
        def take(self, *args):
            taken = super().take(*args)
            ours.taken += taken
            return taken

    class Watched(express_protocol(app.state.short)):
        express = Counting(app.state.short)
        look_s = 600.0  # a machine under load is no silent peer

        def data_received(self, data):
            super().data_received(data)
            ours.segments.put_nowait(data)

        def _answer(self, answer):
            # What was held back comes again; the client sent it once.
            before = ours.segments.qsize()
            super()._answer(answer)
            while ours.segments.qsize() > before:
                ours.segments.get_nowait()

        def connection_lost(self, exc):
            super().connection_lost(exc)
            ours.lost.set()

        def shutdown(self):
            super().shutdown()
            ours.told_to_end.set()

    listening = socket.create_server(("127.0.0.1", 0))
    config = rest_config(app, Watched)
    config.timeout_keep_alive = config.timeout_graceful_shutdown = 600
    ours.server, ours.port = Prompt(config), listening.getsockname()[1]
    with capture_logs() as said, caplog.at_level(logging.ERROR):
        ours.serving = asyncio.create_task(ours.server.serve([listening]), name="server")
        await ours.server.began.wait()
        yield ours
        for writer in ours.open:
            writer.transport.abort()
        ours.server.force_exit = True
        ours.server.end.set()
        await ours.serving
        app.state.threads.close()
    assert not [record for record in caplog.get_records("call") if record.levelno >= logging.ERROR]
    assert [entry["event"] for entry in said if entry["log_level"] == "error"] == ["request failed"] * ours.failures


class Odd(Exception):  # noqa: N818 - an error nobody expects
    """Raised by tests alone."""


@pytest.fixture
async def gated(plant, monkeypatch):
    """Function: name of a method of the store -> the gate in it."""
    gates, loop = [], asyncio.get_running_loop()

    def gated(name: str) -> Gate:
        gate, real = Gate(), getattr(type(plant.store), name)
        gates.append(gate)

        def waiting(self, tenant, asked, *args):
            loop.call_soon_threadsafe(gate.came.put_nowait, len(asked))
            gate.lets.acquire(timeout=50)
            return real(self, tenant, asked, *args)

        monkeypatch.setattr(type(plant.store), name, waiting)
        return gate

    yield gated
    for gate in gates:
        gate.lets.release(100)


async def known(live, plant, role: str = "engineer", tenant: str = "acme") -> tuple[str, Connection]:
    """A token that was looked up already, and a connection."""
    token, connection = plant.token(role, tenant), await live.connect()
    await connection.ask(read(token))
    live.taken = 0
    return token, connection


def is_record(answer: Answer) -> bool:
    assert answer.status == 200
    return b'"tags"' in answer.body and b'"health"' not in answer.body


async def test_requests_sent_ahead_are_answered_in_their_order(live, plant, gated):
    token, connection = await known(live, plant)
    gate = gated("patch_twins")
    await connection.send(read(token) + change(token, LONG_WAY) + read(token))
    await gate.came.get()
    gate.lets.release()
    assert [is_record(await connection.answer()) for _ in range(3)] == [False, True, False]
    assert live.taken == 0
    await connection.send(read(token), change(token, LONG_WAY))
    await gate.came.get()
    await connection.send(read(token))
    gate.lets.release()
    assert [is_record(await connection.answer()) for _ in range(3)] == [False, True, False]
    assert live.taken == 1
    assert not is_record(await connection.ask(read(token)))
    assert live.taken == 2


async def test_what_comes_behind_a_pending_answer_is_answered_after_it(live, plant, gated):
    token, connection = await known(live, plant)
    gate = gated("patch_twins")
    await connection.send(change(token))
    await gate.came.get()
    half = read(token)[:40]
    await connection.send(read(token) + change(token, LONG_WAY) + half)
    gate.lets.release()
    assert [is_record(await connection.answer()) for _ in range(2)] == [True, False]
    assert live.taken == 1
    await gate.came.get()
    gate.lets.release()
    assert is_record(await connection.answer())
    assert not is_record(await connection.ask(read(token)[40:]))
    assert not is_record(await connection.ask(read(token)))
    assert live.taken == 2


async def test_a_request_in_segments_is_one_request_even_when_its_body_looks_like_another(live, plant):
    token, connection = await known(live, plant)
    asked = read(token)
    assert not is_record(await connection.ask(asked[:9], asked[9:60], asked[60:-2], asked[-2:]))
    head, end, body = change(token).partition(b"\r\n\r\n")
    assert is_record(await connection.ask(head + end, body))
    head, end, body = change(token, body=read(token)).partition(b"\r\n\r\n")
    assert (await connection.ask(head + end, body)).status == 422
    # Refused before its body came: the rest is no request either.
    head, end, body = change("", body=read(token)).partition(b"\r\n\r\n")
    assert (await connection.ask(head + end)).status == 401
    await connection.send(body)
    assert live.taken == 0
    assert not is_record(await connection.ask(read(token)))
    assert live.taken == 1


async def test_change_of_a_client_that_hung_up_is_made_once(live, plant, gated):
    token, connection = await known(live, plant)
    gate = gated("patch_twins")
    gate.lets.release()
    before = await connection.ask(change(token))
    assert await gate.came.get() == 1
    await connection.send(change(token, body=b'{"tags": {"n": "2"}}'))
    await gate.came.get()
    connection.writer.transport.abort()
    await live.lost.wait()
    gate.lets.release(2)
    again = await live.connect()
    # Made after the one that nobody waits for, so that is over by then.
    after = await again.ask(change(token, body=b'{"tags": {"m": "3"}}'))
    gate.lets.release()
    last = await again.ask(change(token, body=b'{"tags": {"m": "4"}}'))
    revisions = [int(one.named(b"etag").strip(b'"')) for one in (before, after, last)]
    assert revisions[1] - revisions[0] == 2 * (revisions[2] - revisions[1])
    assert b'"n":"2"' in after.body
    assert gate.came.qsize() == 2
    assert live.taken == 4


@pytest.mark.parametrize(
    ("method", "asked", "status"),
    [("patch_twins", change, 200), ("twin_versions", lambda token: read(token, twin="tank-9"), 404)],
    ids=["short", "handed over"],
)
async def test_shutdown_waits_for_the_pending_answer_and_closes_then(live, plant, gated, method, asked, status):
    token, connection = await known(live, plant)
    gate = gated(method)
    await connection.send(asked(token))
    await gate.came.get()
    assert live.taken == 1
    live.server.end.set()
    await live.told_to_end.wait()
    gate.lets.release(9)
    assert (await connection.answer()).status == status
    assert await connection.reader.read() == b""
    await live.serving


async def by_all_ways(live, asked) -> Answer:
    """The answer of connection, lane and framework; `asked` makes a request of headers and the name of a twin."""
    connection, found = await live.connect(), []
    short, lane, framework = asked(b"", "tank-1"), asked(b"", "tank-2"), asked(LONG_WAY, "tank-3")
    for segments in ((short,), (lane[:20], lane[20:]), (framework,)):
        one = await connection.ask(*segments)
        headers = tuple(re.sub(rb'^etag: "\d\d"$', b'etag: "NN"', line) for line in one.headers)
        body = re.sub(rb'("revision":|is \\")\d\d\b', rb"\1NN", re.sub(rb"tank-[123]", b"tank-N", one.body))
        found.append(Answer(one.status, headers, body))
    assert found[1:] == [found[0], found[0]]
    return found[0]


async def test_changes_are_answered_the_same_by_all_ways(live, plant, monkeypatch):
    token, connection = await known(live, plant)
    tags = {}
    for twin in (*("tank-1", "tank-2", "tank-3") * 2, "tank-1", "tank-2", "tank-3"):  # revisions have two digits then
        tags[twin] = (await connection.ask(change(token, twin=twin))).named(b"etag")
    live.taken = 0
    for more, body, status in (
        (b"", CHANGE, 200),
        (b'If-Match: "9999"\r\n', CHANGE, 412),
        (b'If-Match: W/"1"\r\n', CHANGE, 412),
        (b"If-Match: 1\r\n", CHANGE, 422),
        (b"", b'{"tags": []}', 422),
        (b"", b"{", 422),
        (b"", b"\xff", 422),
        (b"", b"", 422),
    ):
        found = await by_all_ways(live, lambda way, twin, more=more, body=body: change(token, way + more, body, twin))
        assert (found.status, found.named(b"etag") != b"") == (status, status in (200, 412))
    assert live.taken == 8
    tags = {twin: (await connection.ask(change(token, twin=twin))).named(b"etag") for twin in tags}
    found = await by_all_ways(
        live, lambda way, twin: change(token, way + b"If-Match: " + tags[twin] + b"\r\n", CHANGE, twin)
    )
    assert found.status == 200
    live.taken = 0
    for reason, status in (("STORE_FULL", 507), ("STORE_SYNC_FAILED", 507), ("", 500)):

        def failing(self, tenant, changes, now_ns, reason=reason):
            raise StorageError(reason, "the disk is full", hint="free it") if reason else Odd("nobody knows")

        monkeypatch.setattr(type(plant.store), "patch_twins", failing)
        found = await by_all_ways(live, lambda way, twin: change(token, way, twin=twin))
        assert (found.status, found.named(b"content-type")) == (status, b"application/problem+json")
        assert b'"reason":"%s"' % (reason or "INTERNAL").encode() in found.body
    assert live.taken == 3
    live.failures = 3


async def test_readings_are_answered_the_same_by_all_ways(live, plant):
    foreign, _ = await known(live, plant, "viewer", "globex")
    token, _ = await known(live, plant, "viewer")
    found = await by_all_ways(live, lambda way, _: read(token, way))
    assert (found.status, live.taken) == (200, 1)
    tag = b"If-None-Match: " + found.named(b"etag") + b"\r\n"
    for status, asked in (
        (304, lambda way, _: read(token, way + tag)),
        (401, lambda way, _: read("", way)),
        (401, lambda way, _: read("twt_unknown", way)),
        (403, lambda way, _: read(foreign, way)),
        (403, lambda way, twin: change(token, way, twin=twin)),
        (401, lambda way, twin: change("", way, twin=twin)),
    ):
        assert (await by_all_ways(live, asked)).status == status
    assert live.taken == 1
    assert (await by_all_ways(live, lambda way, _: read(token, way, "tank-9"))).status == 404
    engineer, connection = await known(live, plant)
    demanding = read(engineer, twin="tank-1/record").replace(b"GET", b"DELETE", 1)  # a PATCH demands nothing
    assert (await connection.ask(demanding)).status == 428
    assert live.taken == 0


async def test_what_could_be_read_in_two_ways_is_left_to_the_server(live, plant):
    token, _ = await known(live, plant)
    plain, changing = read(token), change(token)
    chunked = changing.replace(b"Content-Length: %d" % len(CHANGE), b"Transfer-Encoding: chunked")
    chunked = chunked.replace(CHANGE, b"%x\r\n%s\r\n0\r\n\r\n" % (len(CHANGE), CHANGE))
    for asked, status in (
        (plain.replace(b"HTTP/1.1", b"HTTP/1.0"), 200),
        (plain.replace(b"Host: x", b"Connection: close"), 200),
        (plain.replace(b"Host: x", b"Host: x\r\nHost: y"), 200),
        (chunked, 200),
        (chunked.replace(b"Transfer", b"Content-Length: 2\r\nTransfer"), 400),
        (changing.replace(b"Content-Length", b"Content-Length: 2\r\nContent-Length"), 400),
        (plain.replace(b"Host: x", b"Host: x\r\n y"), 400),
        (plain.replace(b"Host: x", b"Host: \x00"), 400),
        (plain.replace(b"Host: x", b"Host"), 400),
        (plain.replace(b"Host: x", b"Host : x"), 400),
        (plain.replace(b"Host: x\r\n", b"Host: x\n"), 400),
        (plain.replace(b"Host: x\r\n", b"Host: x\r"), 400),
    ):
        connection = await live.connect()
        found = await connection.ask(asked)
        assert (found.status, live.taken) == (status, 0), asked
        closes = found.named(b"connection") == b"close"
        assert closes == (status == 400 or b"1.0" in asked or b"close" in asked)
        if closes:
            assert await connection.reader.read() == b""
    connection = await live.connect()
    await connection.send(change(token, b"Expect: 100-continue\r\n"))
    assert await connection.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert is_record(await connection.answer())
    assert live.taken == 0


async def test_revoked_token_is_refused_at_once_and_one_the_store_refuses_within_a_second(live, plant, monkeypatch):
    token, connection = await known(live, plant)
    other, _ = await known(live, plant)
    assert (await connection.ask(read(token))).status == 200
    Ledger(plant.state).revoke_token("t0", plant.clock.wall_ns())  # as the command line does, beside the service
    for asked in (read(token), change(token)):
        assert (await connection.ask(asked)).status == 401
    assert (await connection.ask(read(other))).status == 200

    def refusing(self, token_hash, now_ns):
        raise DeniedError("TOKEN_INVALID", "the token is revoked")

    monkeypatch.setattr(type(plant.store), "principal", refusing)
    live.taken = 0
    assert (await connection.ask(read(other))).status == 200
    assert live.taken == 1
    plant.clock.advance(SECOND_NS)
    for asked in (read(other), change(other)):
        assert (await connection.ask(asked)).status == 401
    assert live.taken == 1


async def test_ledger_that_cannot_be_read_lets_nobody_in_and_breaks_no_connection(live, plant):
    token, connection = await known(live, plant)
    (plant.state / "identity" / "ledger.json").write_text("{")
    for asked in (read(token), change(token)):
        found = await connection.ask(asked)
        assert (found.status, found.named(b"content-type")) == (507, b"application/problem+json")
    assert live.taken == 0
