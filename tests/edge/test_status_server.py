"""The status port under people who hold it."""

from __future__ import annotations

import contextlib
import socket
import threading

from twinedge.health.server import REQUESTS_MAX, StatusServer


def test_connections_that_are_held_take_a_bounded_number_of_threads(monkeypatch):
    # Places come free again only after the test, however slow the machine is.
    monkeypatch.setattr("twinedge.health.server.REQUEST_TIMEOUT_S", 300)
    server = StatusServer("127.0.0.1", 0)
    before = threading.active_count()
    try:
        with contextlib.ExitStack() as held:
            for _ in range(4 * REQUESTS_MAX):
                one = held.enter_context(socket.create_connection(("127.0.0.1", server.port)))
                one.settimeout(60)
            # The last ones were hung up on: their end is read, and nobody serves them.
            assert one.recv(1) == b""
            assert threading.active_count() - before <= REQUESTS_MAX
    finally:
        server.close()


def test_places_are_free_again_after_a_request():
    server = StatusServer("127.0.0.1", 0)
    try:
        for _ in range(3 * REQUESTS_MAX):
            with socket.create_connection(("127.0.0.1", server.port)) as one:
                one.settimeout(5)
                one.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
                answer = b"".join(iter(lambda: one.recv(4096), b""))
            assert b"503" in answer.splitlines()[0]
            assert b"frame-ancestors 'none'" in answer
    finally:
        server.close()
