"""A backup of a database that coordinators share, with the authority of this one, in the folder layout of `backup`.

    BACKUP/manifest.json     as of a file, with the rows of each table
    BACKUP/database/         what pg_dump wrote of one snapshot: tables, artifacts, ledger
    BACKUP/identity/         keys of the authority

Archived files stay in their place. On restore, what the database held is renamed and never dropped.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Final

from twincloud.backup import DUMP, FORMAT, Manifest, copy_folder, digests, drafted, sound_manifest, write_manifest
from twincloud.storage.artifacts import SharedBlobs
from twincloud.storage.directory import Lock
from twincloud.storage.dump import Dumped, dump, load
from twincloud.storage.scrub import scrub
from twincloud.storage.shared import open_shared
from twinmodel.clock import SECOND_NS, Clock
from twinmodel.errors import ConflictError, InputError
from twinmodel.files import storage_error, sync_folder
from twinsync import block

IDENTITY: Final = "identity"
ROOT: Final = "root.pem"


def backup(url: str, state: Path, target: Path, clock: Clock) -> Manifest:
    """Copies the shared database and this coordinator's authority into a new folder, while all of them run or not.

    Raises:
        ConflictError: NOT_INITIALISED, ALREADY_EXISTS, TOOL_MISSING.
        StorageError: STORE_UNAVAILABLE, STORE_FULL, STATE_INVALID; then no folder is left behind.
    """
    taken_ns = clock.wall_ns()
    with drafted(target) as draft:
        dumped = dump(url, draft / DUMP)
        if (state / IDENTITY).is_dir():
            copy_folder(state / IDENTITY, draft / IDENTITY)
        manifest = Manifest(
            FORMAT, version("hybridtwin"), dumped.engine, dumped.version, taken_ns, digests(draft), dumped.namespace,
            dumped.rows,
        )  # fmt: skip
        write_manifest(draft, manifest)
    return manifest


def restore(url: str, source: Path, state: Path, *, replace: bool) -> tuple[str, ...]:
    """Puts a backup into the shared database while no coordinator runs, and its authority into the state directory.

    Args:
        url: of the user that shall own the tables.
        source: folder of `backup`.
        state: the state directory of this coordinator; made when it does not exist.
        replace: whether tables and an authority that are there may be set aside.

    Returns:
        Where what was there before is now: a schema of the database, a folder.

    Raises:
        ConflictError: ALREADY_EXISTS without `replace`, STATE_LOCKED while coordinators run, TOOL_MISSING.
        InputError: SOURCE_INVALID when the backup is damaged or of a file.
        StorageError: the database or the disk refuses; both are as they were then.
    """
    manifest = sound_manifest(source)
    if not manifest.namespace:
        raise InputError(
            "SOURCE_INVALID", f"{source} is of a coordinator with a file", hint="restore it without `database:`"
        )
    taken_s = manifest.taken_ns // SECOND_NS
    same = _root(state) == _root(source)
    if _root(state) and not same and not replace:
        raise ConflictError(
            "ALREADY_EXISTS", f"{state} has another authority", hint="add --replace; it is set aside, not deleted"
        )
    dumped = Dumped(manifest.schema, manifest.engine, manifest.namespace, manifest.rows)
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        with Lock(state):
            aside = [load(url, source / DUMP, dumped, replace=replace, taken_s=taken_s)]
            if not same and _root(source):
                aside.append(_take_identity(source, state, taken_s))
            sync_folder(state)
    except OSError as error:
        raise storage_error(error, state) from error
    return tuple(place for place in aside if place)


def faults_of_shared(url: str) -> Iterator[str]:
    """What is wrong with the shared database, in one snapshot; coordinators may run meanwhile."""
    with contextlib.closing(open_shared(url)) as database:
        yield from database.check()
        with database.read() as connection:
            yield from scrub(connection, SharedBlobs(database), block.decode)


def _root(folder: Path) -> bytes:
    """The root certificate of a state directory or a backup, b"" when it has none."""
    try:
        return (folder / IDENTITY / ROOT).read_bytes()
    except FileNotFoundError:
        return b""


def _take_identity(source: Path, state: Path, taken_s: int) -> str:
    target, aside = state / IDENTITY, None
    if target.exists():
        base = f"{IDENTITY}-before-restore-of-{taken_s}"
        aside = next(path for n in range(1_000) if not (path := state / f"{base}.{n}").exists())
        target.rename(aside)
    copy_folder(source / IDENTITY, target)
    return str(aside or "")
