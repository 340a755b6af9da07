"""The coordinator's state directory: one process at a time, the database, its backups and the artifacts."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from pathlib import Path
from types import TracebackType
from typing import Self

from twincloud.storage import migrate
from twincloud.storage.sqlite import SqliteDatabase
from twinmodel.errors import ConflictError, StorageError, TwinError
from twinmodel.files import sync_folder, write_durably

DATABASE = "coordinator.db"
LOCK = "coordinator.lock"
ARTIFACTS = "artifacts"
REPLICA = "replica"
DIRECTORY_MODE = 0o700
FILE_MODE = 0o600


class Lock:
    """Exclusive use of a state directory; the kernel gives it back when the process dies."""

    def __init__(self, directory: Path) -> None:
        """Takes the lock; raises ConflictError STATE_LOCKED when another process has it."""
        path = directory / LOCK
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
        except OSError as error:
            raise StorageError("STORE_READ_ONLY", f"{path}: {error.strerror}", path=str(path)) from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._file)
            raise ConflictError("STATE_LOCKED", f"another process uses {directory}", path=str(directory)) from error

    def release(self) -> None:
        """Gives it back; twice is no error."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def create(state_dir: Path) -> None:
    """Makes a state directory with an empty database.

    Raises:
        ConflictError: ALREADY_EXISTS when it holds a database, STATE_LOCKED when another process is at it.
        StorageError: the disk refuses.
    """
    try:
        state_dir.mkdir(parents=True, exist_ok=True, mode=DIRECTORY_MODE)
        (state_dir / ARTIFACTS).mkdir(exist_ok=True, mode=DIRECTORY_MODE)
    except OSError as error:
        raise StorageError("STORE_READ_ONLY", f"{state_dir}: {error.strerror}", path=str(state_dir)) from error
    path = state_dir / DATABASE
    with Lock(state_dir):
        if path.exists():
            raise ConflictError("ALREADY_EXISTS", f"{path} exists already", hint="use it, or choose another --state")
        # Made aside and renamed: an init that was cut off leaves no half database behind.
        draft = state_dir / (DATABASE + ".new")
        _remove_database(draft)
        os.close(os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE))
        with contextlib.closing(SqliteDatabase(draft)) as database, database.write() as connection:
            migrate.upgrade(connection)
        draft.rename(path)
        sync_folder(state_dir)


def open_database(state_dir: Path) -> SqliteDatabase:
    """Opens the database of a locked state directory, upgraded; a copy of it is kept before an upgrade.

    Raises:
        ConflictError: NOT_INITIALISED.
        StorageError: STORE_CORRUPT, STATE_INVALID (made by a newer program) and the like.
    """
    path = state_dir / DATABASE
    if not path.exists():
        raise ConflictError("NOT_INITIALISED", f"{path} does not exist", hint="run `twincloud init`", path=str(path))
    database = SqliteDatabase(path)
    try:
        with database.read() as connection:
            found = migrate.version(connection)
        migrate.check_known(found)
        if found != migrate.newest():
            _backup(database, path.with_name(f"{DATABASE}.before-{migrate.newest()}"))
            with database.write() as connection:
                migrate.upgrade(connection)
    except TwinError:
        database.close()
        raise
    return database


def version_of(state_dir: Path) -> str:
    """The version of the tables of a state directory, as they are; raises NOT_INITIALISED, STATE_LOCKED."""
    path = state_dir / DATABASE
    if not path.exists():
        raise ConflictError("NOT_INITIALISED", f"{path} does not exist", hint="run `twincloud init`", path=str(path))
    with Lock(state_dir), contextlib.closing(SqliteDatabase(path)) as database, database.read() as connection:
        return migrate.version(connection)


def create_shared(state_dir: Path) -> None:
    """Makes the state directory of a coordinator whose database is elsewhere.

    Raises:
        ConflictError: ALREADY_EXISTS when it has a database of its own.
        StorageError: the disk refuses.
    """
    try:
        state_dir.mkdir(parents=True, exist_ok=True, mode=DIRECTORY_MODE)
    except OSError as error:
        raise StorageError("STORE_READ_ONLY", f"{state_dir}: {error.strerror}", path=str(state_dir)) from error
    if (state_dir / DATABASE).exists():
        raise ConflictError("ALREADY_EXISTS", f"{state_dir / DATABASE} exists already", hint="choose another --state")


def replica_of(state_dir: Path) -> str:
    """The name of the coordinator of a directory among those that share its database; made at the first call."""
    path = state_dir / REPLICA
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        name = secrets.token_hex(8)
        write_durably(path, name.encode())
        return name


def _backup(database: SqliteDatabase, target: Path) -> None:
    draft = target.with_name(target.name + ".new")
    draft.unlink(missing_ok=True)
    database.backup(draft)
    handle = os.open(draft, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
    draft.rename(target)
    sync_folder(target.parent)


def _remove_database(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
