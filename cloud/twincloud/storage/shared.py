"""Several coordinators on one PostgreSQL: how its database is set up once, and opened by each of them."""

from __future__ import annotations

import contextlib

from sqlalchemy import Connection

from twincloud.storage import migrate, partitions, presence, rights
from twincloud.storage.postgres import ROLE, PostgresDatabase
from twincloud.storage.schema import metadata
from twinmodel.errors import ConflictError, StorageError, TwinError

_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('hybridtwin:upgrade', 0))"
_SOUND = ("C", "C.UTF-8", "C.utf8", "POSIX")


def upgrade(url: str, *, alone: bool = False) -> bool:
    """Makes the tables, or brings them to this version, and puts rights and policies on them.

    Args:
        url: of a user that owns the database (or its tables).
        alone: the caller has seen to it already that no coordinator runs.

    Returns:
        whether there were no tables yet.

    Raises:
        ConflictError: STATE_INVALID when the user may not make the application's role, STATE_LOCKED while coordinators
            run on tables that are older.
        StorageError: STATE_INVALID for a database that sorts text by a language, or of a newer program.
    """
    with contextlib.closing(PostgresDatabase(url, role="")) as database, database.write() as connection:
        connection.exec_driver_sql(_LOCK)
        rights.make_role(connection, ROLE)
        found = migrate.version(connection)
        migrate.check_known(found)
        check_sorting(connection)
        if found and found != migrate.newest() and not alone:
            presence.check_alone(connection, database.place)
        migrate.upgrade(connection)
        partitions.arrange(connection)
        rights.secure(connection, metadata, ROLE)
    return not found


def check_sorting(connection: Connection) -> None:
    """Raises StorageError STATE_INVALID for a database that does not sort text by its bytes."""
    encoding, collation = connection.exec_driver_sql(
        "SELECT pg_encoding_to_char(encoding), datcollate FROM pg_database WHERE datname = current_database()"
    ).one()
    if encoding != "UTF8" or collation not in _SOUND:
        raise StorageError(
            "STATE_INVALID",
            f"the database is {encoding} and sorts by {collation}; names must sort alike everywhere",
            hint="CREATE DATABASE hybridtwin TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C'",
        )


def open_shared(url: str) -> PostgresDatabase:
    """Opens the database for a coordinator.

    Raises:
        ConflictError: NOT_INITIALISED when it has no tables, STATE_INVALID when it is older than this program.
        StorageError: STORE_UNAVAILABLE, STATE_INVALID (refused, made by a newer program) and the like.
    """
    database = PostgresDatabase(url)
    try:
        _check(database, url)
    except TwinError:
        database.close()
        raise
    return database


def _check(database: PostgresDatabase, url: str) -> None:
    with contextlib.closing(PostgresDatabase(url, role="", readers_max=4)) as plain, plain.read() as connection:
        found = migrate.version(connection)
    if not found:
        raise ConflictError("NOT_INITIALISED", f"{database.place} has no tables", hint="run `twincloud init`")
    migrate.check_known(found)
    if found != migrate.newest():
        raise ConflictError(
            "STATE_INVALID",
            f"the tables of {database.place} have the version {found}, this program works with {migrate.newest()}",
            hint="stop all coordinators, take a backup, run `twincloud db upgrade` as the owner, then start them again",
        )
    with database.read() as connection:
        holes = rights.unguarded(connection)
    if holes:
        raise StorageError("STATE_INVALID", f"{database.place}: {holes[0]}", hint="run `twincloud db upgrade`")
