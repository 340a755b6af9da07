"""Several coordinators on one PostgreSQL: who runs, who does a piece of work alone, and that others have committed.

Advisory locks of a session say the first two: the server gives them back when the session ends, however it ends.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any, Final

import psycopg
import structlog
from sqlalchemy import Connection

from twinmodel.errors import ConflictError, TwinError

Open = Callable[[], contextlib.AbstractContextManager[psycopg.Connection[tuple[Any, ...]]]]
"""`PostgresDatabase.session`."""

CHANNEL: Final = "hybridtwin"
"""Where the trigger on `events` rings."""
AGAIN_S: Final = 0.5
"""Between two tries to reach the server again."""
LOOK_S: Final = 1.0
"""How long the end of listening may take."""
_TRY: Final = "SELECT pg_try_advisory_lock(hashtextextended(%s, 0))"
_TRY_SHARED: Final = "SELECT pg_try_advisory_lock_shared(hashtextextended(%s, 0))"
_SERVICE: Final = "hybridtwin:service"
"""Shared by all coordinators that run; alone with it, one may change what none of them expects to change."""
_FREE: Final = "SELECT pg_try_advisory_xact_lock(hashtextextended(%(name)s, 0))"

_log = structlog.get_logger("twincloud")


@contextlib.contextmanager
def lease(session: Open, name: str) -> Iterator[bool]:
    """See `Database.lease`."""
    with session() as connection:
        yield _take(connection, f"hybridtwin:lease:{name}")


def is_present(connection: Connection, replica: str) -> bool:
    """See `Database.is_present`; when it is not, nobody becomes it before this transaction ends."""
    free = connection.exec_driver_sql(_FREE, {"name": _presence(replica)}).scalar_one()
    return not free


@contextlib.contextmanager
def announce(session: Open, replica: str, ring: Callable[[], None]) -> Iterator[None]:
    """See `Database.announce`; it goes on by itself when the server was away, and rings then."""
    stop = threading.Event()
    thread = threading.Thread(target=_listen, args=(session, replica, ring, stop), name="listen", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@contextlib.contextmanager
def claim(session: Open, place: str) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
    """A session that has the database for itself; raises ConflictError STATE_LOCKED while a coordinator runs on it."""
    with session() as connection:
        if not _take(connection, _SERVICE):
            raise _busy(place)
        yield connection


def check_alone(connection: Connection, place: str) -> None:
    """Raises ConflictError STATE_LOCKED while a coordinator runs; none is present before the transaction ends then."""
    if not connection.exec_driver_sql(_FREE, {"name": _SERVICE}).scalar_one():
        raise _busy(place)


def _busy(place: str) -> ConflictError:
    return ConflictError("STATE_LOCKED", f"coordinators run on {place}", hint="stop all of them first", path=place)


def _listen(session: Open, replica: str, ring: Callable[[], None], stop: threading.Event) -> None:
    away = False
    while not stop.is_set():
        try:
            with session() as connection:
                connection.execute(f"LISTEN {CHANNEL}")
                held = False
                if away:
                    _log.info("database is back")
                    away = False
                ring()
                while not stop.is_set():
                    # A server that has not noticed yet that the one before is gone still holds its lock.
                    held = held or (
                        _take(connection, _presence(replica)) and _take(connection, _SERVICE, how=_TRY_SHARED)
                    )
                    if any(True for _ in connection.notifies(timeout=LOOK_S, stop_after=1)):
                        ring()
        except (TwinError, psycopg.Error) as error:
            if not away:
                _log.error("database is away", detail=str(error))
                away = True
            stop.wait(AGAIN_S)


def _take(connection: psycopg.Connection[tuple[Any, ...]], name: str, *, how: str = _TRY) -> bool:
    row = connection.execute(how.encode(), [name]).fetchone()
    return row is not None and bool(row[0])


def _presence(replica: str) -> str:
    return f"hybridtwin:replica:{replica}"
