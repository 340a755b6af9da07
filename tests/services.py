"""Real services for tests: a PostgreSQL cluster per worker and a fresh database per test, gone with the tests.

postgres_cluster   Cluster      session: one server of this worker, on a port of its own, without fsync
postgres_url       str          an empty database of that server, for this test alone
"""

from __future__ import annotations

import contextlib
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from tests.ports import free_port

POSTGRES = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
USER = "postgres"
START_S = 60.0
_QUICK = ("shared_buffers=32MB", "max_connections=60", "autovacuum=off", "wal_level=minimal", "max_wal_senders=0")


KEPT = ("alembic_version",)
_SHAPE = (
    "SELECT relname, relkind::text, relowner, relispartition FROM pg_class"
    " WHERE relnamespace = 'public'::regnamespace ORDER BY 1"
)
_RESTART = "SELECT setval(oid::regclass, 1, false) FROM pg_class WHERE relkind = 'S'"


def find_postgres() -> str | None:
    """Path of the newest server's program; Debian does not put it on PATH."""
    return str(POSTGRES[-1]) if POSTGRES else shutil.which("postgres")


class Lent:
    """Copies of a template that tests borrow one after the other: their rows are brought back, tables must be the same.

    Attributes:
        free: names of those that nobody has.
    """

    def __init__(self, url: str) -> None:
        self.free: list[str] = []
        with psycopg.connect(url) as server:
            self._shape = server.execute(_SHAPE).fetchall()
            tables = [row for row in self._shape if row[1] in {"r", "p"} and not row[3]]
            names = [name for name, *_ in tables if name not in KEPT]
            self._rows = {name: rows for name in names if (rows := _rows(server, name))}
        parts = [sql.SQL("DELETE FROM {}").format(sql.Identifier(name)) for name in names]
        self._empty = sql.SQL(";").join(parts)

    def reset(self, url: str) -> bool:
        """Makes a copy as the template is; returns whether it could, which another table or partition forbids."""
        with psycopg.connect(url, options="-c lock_timeout=5s -c session_replication_role=replica") as server:
            if server.execute(_SHAPE).fetchall() != self._shape:
                return False
            server.execute(self._empty)
            for name, rows in self._rows.items():
                with server.cursor().copy(sql.SQL("COPY {} FROM STDIN").format(sql.Identifier(name))) as copy:
                    copy.write(rows)
            server.execute(_RESTART)
        return True


def _rows(server: psycopg.Connection, name: str) -> bytes:
    with server.cursor().copy(sql.SQL("COPY (SELECT * FROM {}) TO STDOUT").format(sql.Identifier(name))) as copy:
        return b"".join(map(bytes, copy))


class Cluster:
    """A PostgreSQL server of ours; it dies with the process that started it.

    Attributes:
        folder: where its files lie.
        port: on loopback.
    """

    def __init__(self, *, fsync: bool = False) -> None:
        """Makes the files and starts; as root it runs as the user `postgres`, because initdb refuses root."""
        program = find_postgres()
        assert program is not None
        self._bin = Path(program).parent
        self.folder = Path(tempfile.mkdtemp(prefix="hybridtwin-postgres-"))
        self.port = free_port()
        self._names = itertools.count(1)
        self._lent: dict[str, Lent] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._options = (*_QUICK, f"fsync={'on' if fsync else 'off'}")
        if os.geteuid() == 0:
            os.chown(self.folder, pwd.getpwnam(USER).pw_uid, -1)
        subprocess.run(
            [*self._as_user(), self._bin / "initdb", "-D", self.folder / "files", "-U", USER, "-A", "trust",
             "--locale=C", "--encoding=UTF8", "--no-sync", "--no-instructions"],
            check=True, stdout=subprocess.DEVNULL, cwd="/",
        )  # fmt: skip
        self.start()

    def start(self) -> None:
        """Starts the server and returns when it answers; it ends with the thread that calls this."""
        settings = (*self._options, "listen_addresses=127.0.0.1", "unix_socket_directories=", f"port={self.port}")
        log = (self.folder / "log").open("ab")
        with log:
            self._process = subprocess.Popen(
                [*self._as_user(), self._bin / "postgres", "-D", self.folder / "files",
                 *(word for setting in settings for word in ("-c", setting))],
                stdout=log, stderr=log, cwd="/",
            )  # fmt: skip
        subprocess.run(
            ["timeout", f"{START_S}", "sh", "-c", f"until {self._bin}/pg_isready -q -h 127.0.0.1 -p {self.port}; do sleep 0.1; done"],  # noqa: E501
            check=True,
        )  # fmt: skip

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Ends the server: SIGINT at once but in order, SIGQUIT as a crash."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(START_S)
            self._process = None

    def crash(self) -> None:
        """Kills the server as a power cut would, all of its processes."""
        self.stop(signal.SIGQUIT)

    def url(self, name: str = USER, user: str = USER) -> str:
        """Where a database is found."""
        return f"postgresql://{user}@127.0.0.1:{self.port}/{name}"

    def database(self, template: str = "template0") -> str:
        """Makes a database, empty or a copy, and returns its name."""
        name = f"test_{next(self._names)}"
        with psycopg.connect(self.url(), autocommit=True) as connection:
            names = sql.Identifier(name), sql.Identifier(template)
            # Files are copied for a third of the processor time that their pages in the log would take.
            connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY").format(*names))
        return name

    def borrow(self, template: str) -> str:
        """The name of a database that is as the template; one that was given back, where there is one."""
        if template not in self._lent:
            self._lent[template] = Lent(self.url(template))
        free = self._lent[template].free
        return free.pop() if free else self.database(template)

    def give_back(self, name: str, template: str) -> None:
        """Empties a borrowed database for the next test: a hundredth of the work of another copy."""
        lent = self._lent[template]
        with contextlib.suppress(psycopg.Error):
            if lent.reset(self.url(name)):
                lent.free.append(name)
                return
        self.drop(name)

    def drop(self, name: str) -> None:
        """Drops a database, whoever is still connected to it."""
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def close(self) -> None:
        """Stops the server and removes its files."""
        self.stop(signal.SIGQUIT)
        with contextlib.suppress(OSError):
            shutil.rmtree(self.folder)

    def _as_user(self) -> list[str]:
        """Ahead of a command: the user it runs as, and that it dies with this process."""
        change = ["--reuid", USER, "--regid", USER, "--clear-groups"] if os.geteuid() == 0 else []
        return ["setpriv", *change, "--pdeathsig", "QUIT", "--"]


@pytest.fixture(scope="session")
def postgres_cluster() -> Iterator[Cluster]:
    """The server of this worker; tests that use it carry the mark `service("postgresql")`."""
    cluster = Cluster()
    yield cluster
    cluster.close()


@pytest.fixture
def postgres_url(postgres_cluster: Cluster) -> Iterator[str]:
    """An empty database for this test alone, as a superuser sees it."""
    name = postgres_cluster.database()
    yield postgres_cluster.url(name)
    postgres_cluster.drop(name)
