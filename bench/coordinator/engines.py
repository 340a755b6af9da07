"""The two engines a coordinator stores on: files of its own, and a PostgreSQL that the bench starts and ends."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import psycopg
from psycopg import sql

from bench.drivers.process import cpu_s
from twincloud.storage import CoordinatorStore, create, open_store
from twincloud.storage.directory import create_shared
from twincloud.storage.shared import upgrade
from twinmodel.clock import Clock

_USER = "postgres"
_START_S = 60.0
_SETTINGS = ("shared_buffers=256MB", "max_connections=60", "max_wal_size=4GB", "fsync=on", "synchronous_commit=on")


@dataclass(slots=True)
class Postgres:
    """A running server, its databases without data before they are asked for."""

    port: int
    process: int
    newest: str = ""
    _names: Iterator[int] = field(default_factory=lambda: count(1))

    def database(self) -> str:
        """The URL of a new database."""
        name = f"bench_{next(self._names)}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
        self.newest = self.url(name)
        return self.newest

    def analyze(self) -> None:
        """Has the planner look at the newest database now, as autovacuum does within a minute of a bulk load."""
        with psycopg.connect(self.newest, autocommit=True) as connection:
            connection.execute("ANALYZE")

    def url(self, name: str) -> str:
        """Where a database is."""
        return f"postgresql://{_USER}@127.0.0.1:{self.port}/{name}"

    def cpu_s(self) -> float:
        """Processor time of the server with all of its present children."""
        children = Path(f"/proc/{self.process}/task/{self.process}/children").read_text().split()
        return sum(cpu_s(int(pid)) for pid in (str(self.process), *children))


@contextmanager
def postgres() -> Iterator[Postgres | None]:
    """The newest server that is installed, with fsync, until the block ends; None when there is none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    if not found:
        yield None
        return
    programs, folder = found[-1].parent, Path(tempfile.mkdtemp(prefix="hybridtwin-bench-"))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    as_user = []
    if os.geteuid() == 0:  # the server refuses root
        os.chown(folder, pwd.getpwnam(_USER).pw_uid, -1)
        as_user = ["--reuid", _USER, "--regid", _USER, "--clear-groups"]
    as_user = ["setpriv", *as_user, "--pdeathsig", "QUIT", "--"]
    words = ["-U", _USER, "-A", "trust", "--locale=C", "--encoding=UTF8", "--no-instructions"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": "/"}
    subprocess.run([*as_user, programs / "initdb", "-D", folder / "files", *words], check=True, **quiet)  # type: ignore[call-overload] # as keywords
    settings = (*_SETTINGS, "listen_addresses=127.0.0.1", "unix_socket_directories=", f"port={port}")
    options = [word for setting in settings for word in ("-c", setting)]
    server = subprocess.Popen([*as_user, programs / "postgres", "-D", folder / "files", *options], **quiet)  # type: ignore[call-overload] # as keywords
    try:
        _wait(port)
        yield Postgres(port, server.pid)
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(_START_S)
        shutil.rmtree(folder, ignore_errors=True)


def _wait(port: int) -> None:
    until = time.monotonic() + _START_S
    while True:
        try:
            psycopg.connect(f"postgresql://{_USER}@127.0.0.1:{port}/postgres").close()
        except psycopg.OperationalError:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)
        else:
            return


@contextmanager
def opened(state: Path, clock: Clock, server: Postgres | None = None) -> Iterator[CoordinatorStore]:
    """A new store in the folder, or on the server where one is given."""
    if server is None:
        create(state)
        store = open_store(state, clock=clock)
    else:
        url = server.database()
        create_shared(state)
        upgrade(url)
        store = open_store(state, clock=clock, database=url)
    try:
        yield store
    finally:
        store.close()
