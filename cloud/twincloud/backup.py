"""A coordinator as one folder that can be carried away: `twincloud db backup`, `restore` and `verify`.

    BACKUP/manifest.json      what is in it: program, schema, time, and the SHA-256 of every file
    BACKUP/coordinator.db     the database, a consistent snapshot taken while it is in use
    BACKUP/database/          instead of it, one that coordinators share (`backup_shared`)
    BACKUP/artifacts/         model packages by digest
    BACKUP/identity/          keys of the authority, ledger of tokens and certificates: guard it like a key

The database is copied first: whatever it names is then on the disk already. A backup appears whole or not at all, and
is restored only when every file still has its digest. What was archived stays where it is: archived files are never
changed, and the database says which they are.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Final

from sqlalchemy import create_engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from twincloud.registry.blobs import Blobs
from twincloud.storage.directory import ARTIFACTS, DATABASE, Lock
from twincloud.storage.dump import check_readable
from twincloud.storage.scrub import scrub
from twinmodel.clock import SECOND_NS, Clock
from twinmodel.errors import ConflictError, InputError, MissingError, StorageError
from twinmodel.files import storage_error, sync_folder, write_durably
from twinsync import block

MANIFEST: Final = "manifest.json"
DUMP: Final = "database"
FORMAT: Final = 1
FOLDERS: Final = (ARTIFACTS, "identity")
CHUNK_BYTES: Final = 1 << 20
PAGES_A_STEP: Final = 4_096
"""Pages of the database copied at a time: the service beside it goes on between two steps."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a backup holds.

    Attributes:
        format: layout of the folder.
        program: version of hybridtwin that wrote it.
        engine: database it came from.
        schema: version of the database's tables.
        taken_ns: wall clock when it was begun.
        files: SHA-256 by path in the folder.
        namespace: schema of a shared database that it comes from, "" for a file.
        rows: how many each table of a shared database had.
    """

    format: int
    program: str
    engine: str
    schema: str
    taken_ns: int
    files: dict[str, str]
    namespace: str = ""
    rows: dict[str, int] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The schema and the second it was taken in."""
        return f"schema {self.schema} of {self.taken_ns // SECOND_NS}"


def backup(state: Path, target: Path, clock: Clock) -> Manifest:
    """Copies a coordinator, running or not, into a new folder.

    Raises:
        ConflictError: NOT_INITIALISED, ALREADY_EXISTS.
        StorageError: STORE_FULL and the like; then no folder is left behind.
    """
    if not (state / DATABASE).exists():
        raise ConflictError("NOT_INITIALISED", f"{state} holds no coordinator", hint="run `twincloud init`")
    taken_ns = clock.wall_ns()
    with drafted(target) as draft:
        schema = _copy_database(state / DATABASE, draft / DATABASE)
        for name in FOLDERS:
            if (state / name).is_dir():
                copy_folder(state / name, draft / name)
        engine = f"sqlite {sqlite3.sqlite_version}"
        manifest = Manifest(FORMAT, version("hybridtwin"), engine, schema, taken_ns, digests(draft))
        write_manifest(draft, manifest)
    return manifest


@contextmanager
def drafted(target: Path) -> Iterator[Path]:
    """A folder beside `target` that takes its place when the block ends, and is gone when it raises.

    Raises:
        ConflictError: ALREADY_EXISTS.
        StorageError: STORE_FULL and the like.
    """
    if target.exists():
        raise ConflictError("ALREADY_EXISTS", f"{target} exists already", hint="name a folder that does not exist yet")
    draft = target.with_name(f".{target.name}.new")
    try:
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=0o700, parents=True)
        yield draft
        draft.rename(target)
        sync_folder(target.parent)
    except OSError as error:
        raise storage_error(error, target) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def write_manifest(draft: Path, manifest: Manifest) -> None:
    """The last file of a backup."""
    write_durably(draft / MANIFEST, json.dumps(asdict(manifest), indent=1).encode())


def read_manifest(source: Path) -> Manifest:
    """What a backup says of itself; raises MissingError NOT_FOUND, InputError SOURCE_INVALID."""
    try:
        manifest = Manifest(**json.loads((source / MANIFEST).read_text()))
    except FileNotFoundError:
        raise MissingError("NOT_FOUND", f"{source} is no backup: it has no {MANIFEST}", path=str(source)) from None
    except (OSError, ValueError, TypeError) as error:
        raise InputError("SOURCE_INVALID", f"{source / MANIFEST} cannot be read: {error}", path=str(source)) from error
    if manifest.format != FORMAT:
        raise InputError("SOURCE_INVALID", f"{source} has format {manifest.format}, this program reads {FORMAT}")
    return manifest


def faults(source: Path) -> Iterator[str]:
    """What is wrong with a backup: files that are missing, more or changed, and damage in the database."""
    manifest = read_manifest(source)
    present = {str(path.relative_to(source)) for path in _files(source)} - {MANIFEST}
    for name in sorted(present | manifest.files.keys()):
        if name not in present:
            yield f"{name} is missing"
        elif name not in manifest.files:
            yield f"{name} is not of this backup"
        elif _digest(source / name) != manifest.files[name]:
            yield f"{name} was changed or is damaged"
    if (source / DUMP).is_dir() and (told := check_readable(source / DUMP)):
        yield f"{DUMP}: {told}"
    if DATABASE in present:
        yield from _faults_of_database(source / DATABASE, Blobs(source / ARTIFACTS), how="mode=ro&immutable=1")


def sound_manifest(source: Path) -> Manifest:
    """The manifest of a backup without a fault; raises InputError SOURCE_INVALID, MissingError NOT_FOUND."""
    found = list(faults(source))
    if found:
        raise InputError(
            "SOURCE_INVALID", f"{source}: {'; '.join(found[:5])}", hint="take an older backup; this one is not restored"
        )
    return read_manifest(source)


def restore(source: Path, state: Path, *, replace: bool) -> Path | None:
    """Puts a backup in the place of a coordinator that does not run.

    Args:
        source: folder of `backup`.
        state: the state directory; made when it does not exist.
        replace: whether a coordinator that is there may be set aside.

    Returns:
        Where the one before was set aside, None when there was none.

    Raises:
        ConflictError: STATE_LOCKED while a process uses the directory, ALREADY_EXISTS without `replace`.
        InputError: SOURCE_INVALID when the backup is damaged.
        StorageError: the disk refuses; the state is as it was then.
    """
    if sound_manifest(source).namespace:
        raise InputError(
            "SOURCE_INVALID", f"{source} is of a shared database", hint="name it by `database:` or TWINCLOUD_DATABASE"
        )
    holds = (state / DATABASE).exists()
    if holds and not replace:
        raise ConflictError(
            "ALREADY_EXISTS", f"{state} holds a coordinator", hint="add --replace; it is set aside, not deleted"
        )
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        with Lock(state):
            draft = state / ".restore.new"
            shutil.rmtree(draft, ignore_errors=True)
            copy_folder(source, draft)
            aside = _set_aside(state, read_manifest(source)) if holds else None
            for name in (DATABASE, *FOLDERS):
                if (draft / name).exists():
                    (draft / name).rename(state / name)
            shutil.rmtree(draft)
            sync_folder(state)
    except OSError as error:
        raise storage_error(error, state) from error
    return aside


def _set_aside(state: Path, manifest: Manifest) -> Path:
    """Moves what the backup replaces into a folder of its own."""
    base = state / f"before-restore-of-{manifest.taken_ns // SECOND_NS}"
    aside = next(path for n in range(1_000) if not (path := base.with_name(f"{base.name}.{n}")).exists())
    aside.mkdir(mode=0o700)
    for name in (DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm", *FOLDERS):
        if (state / name).exists():
            (state / name).rename(aside / name)
    return aside


def _copy_database(source: Path, target: Path) -> str:
    """A snapshot of a database that is in use, and the version of its tables."""
    os.close(os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    try:
        # Of the library the service uses, which shares its locks: the service goes on writing meanwhile.
        with (
            closing(sqlite3.connect(f"{source.resolve().as_uri()}?mode=rw", uri=True, timeout=30)) as live,
            closing(sqlite3.connect(target)) as copy,
        ):
            # A read transaction holds the snapshot, else each commit of the service would begin the copy anew.
            live.execute("PRAGMA query_only=ON")
            live.execute("BEGIN")
            live.execute("SELECT count(*) FROM alembic_version").fetchone()
            live.backup(copy, pages=PAGES_A_STEP, sleep=0)
            (schema,) = copy.execute("SELECT version_num FROM alembic_version").fetchone()
            copy.execute("PRAGMA journal_mode=DELETE")
    except sqlite3.Error as error:
        full = getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_FULL
        reason = "STORE_FULL" if full else "STORE_CORRUPT"
        raise StorageError(reason, f"{source}: {error}", path=str(source)) from error
    _sync(target)
    return str(schema)


def copy_folder(source: Path, target: Path) -> None:
    """Copies a folder durably, without drafts and locks."""
    target.mkdir(mode=0o700)
    for path in sorted(source.iterdir()):
        if path.is_dir():
            copy_folder(path, target / path.name)
        elif not path.name.endswith((".new", ".lock")):
            _copy_file(path, target / path.name)
    sync_folder(target)


def _copy_file(source: Path, target: Path) -> None:
    handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, source.stat().st_mode & 0o700)
    with source.open("rb") as content, os.fdopen(handle, "wb") as copy:
        shutil.copyfileobj(content, copy, CHUNK_BYTES)
        copy.flush()
        os.fsync(copy.fileno())


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _files(folder: Path) -> Sequence[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file by its path in the folder."""
    return {str(path.relative_to(folder)): _digest(path) for path in _files(folder)}


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def faults_of_state(state: Path) -> Iterator[str]:
    """What is wrong with a coordinator's own files; it may run meanwhile. Raises ConflictError NOT_INITIALISED."""
    if not (state / DATABASE).exists():
        raise ConflictError("NOT_INITIALISED", f"{state} holds no coordinator", hint="run `twincloud init`")
    yield from _faults_of_database(state / DATABASE, Blobs(state / ARTIFACTS), how="mode=rw")


def _faults_of_database(path: Path, blobs: Blobs, *, how: str) -> Iterator[str]:
    """Damaged pages, then what `scrub` finds; of a snapshot, so that whoever writes is not held up."""
    uri = f"{path.resolve().as_uri()}?{how}"
    engine = create_engine("sqlite://", creator=lambda: sqlite3.connect(uri, uri=True, timeout=30), poolclass=NullPool)
    try:
        with engine.connect() as connection, connection.begin():
            connection.exec_driver_sql("PRAGMA query_only=ON")
            lines = [str(line) for (line,) in connection.exec_driver_sql("PRAGMA integrity_check(100)")]
            if lines == ["ok"]:
                yield from scrub(connection, blobs, block.decode)
            else:
                yield from (f"{path.name}: {line}" for line in lines)
    except DBAPIError as error:
        yield f"{path.name}: {error.orig}"
