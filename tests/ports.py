"""Ports for servers of tests that cannot be given port 0."""

import contextlib
import random
import socket

_ANY = random.SystemRandom()


def free_port() -> int:
    """A port nobody listens on, of those that no connection and no port 0 is ever given: it stays free until used."""
    while True:
        port = _ANY.randrange(20_000, 32_000)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port
