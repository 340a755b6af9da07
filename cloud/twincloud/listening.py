"""The listeners of REST and of enrolment: their sockets, their bounds, and how they are served."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from twincloud.api.addresses import bracketed
from twincloud.api.connections import EnrolmentProtocol
from twinmodel.errors import ConflictError

CONNECTIONS_MAX = 2_000
ENROLMENTS_MAX = 200
GRACE_S = 3


class Listener(uvicorn.Server):
    """A uvicorn server that leaves signals to us."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals end the whole service, not one listener."""
        yield


@contextlib.contextmanager
def bound(host: str, port: int, setting: str) -> Iterator[socket.socket]:
    """A socket that listens on an address; raises ConflictError PORT_IN_USE, naming the setting."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC, socket.IPPROTO_TCP) as listener:
        # Named TCP, so that asyncio switches Nagle's delay off: an answer in two writes waited 40 ms for a late ACK.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            raise ConflictError(
                "PORT_IN_USE",
                f"cannot listen on {bracketed(host)}:{port}: {error.strerror}",
                hint=f"stop the other process or set `{setting}`",
                port=port,
            ) from error
        yield listener


def rest_config(app: FastAPI, protocol: type[asyncio.Protocol]) -> uvicorn.Config:
    """How REST and console are served."""
    return _config(app, CONNECTIONS_MAX, protocol)


def enrolment_config(app: FastAPI, chain: Path, key: Path) -> uvicorn.Config:
    """How enrolment is served: TLS 1.3 with the server's certificate."""
    config = _config(app, ENROLMENTS_MAX, EnrolmentProtocol)
    config.ssl_certfile, config.ssl_keyfile = str(chain), str(key)
    config.load()
    assert config.ssl is not None
    config.ssl.minimum_version = ssl.TLSVersion.TLSv1_3
    return config


def _config(app: FastAPI, connections_max: int, protocol: type[asyncio.Protocol]) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=protocol,
        loop="asyncio",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=connections_max,
        timeout_keep_alive=20,
        timeout_graceful_shutdown=GRACE_S,
    )
