"""What the table of the archive says, compared with what lies in its place."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from functools import partial

from twincloud.archive.objects import ObjectStore, open_objects, verify, whole
from twincloud.config import Settings
from twincloud.storage.archives import peek, peek_shared
from twincloud.storage.directory import DATABASE
from twincloud.storage.records_archives import Archive, FileState
from twincloud.storage.shared import open_shared
from twinmodel.errors import ConflictError, MissingError, StorageError

SOUND, MISSING, DAMAGED, UNKNOWN = "sound", "missing", "damaged", "unknown"


def files_of(settings: Settings) -> tuple[Archive, ...]:
    """All rows of a coordinator's table, beside a running service too; raises what opening the store raises."""
    if not settings.database_url:
        if not (settings.state / DATABASE).exists():
            raise ConflictError(
                "NOT_INITIALISED", f"{settings.state} holds no coordinator", hint="run `twincloud init`"
            )
        return peek(settings.state)
    with contextlib.closing(open_shared(settings.database_url)) as database:
        return peek_shared(database)


def faults_of_archive(settings: Settings) -> Iterator[str]:
    """Archived files that are not in their place or have another length, for people; objects are not read."""
    files = files_of(settings)
    if any(file.state is FileState.KEPT for file in files):
        objects = open_objects(settings.archive, settings.state / "archive")
        for key, verdict, detail in inspect(files, objects, quick=True):
            if verdict in {MISSING, DAMAGED}:
                yield f"archive: {key} is {verdict}: {detail}"


def inspect(files: Sequence[Archive], objects: ObjectStore, *, quick: bool = False) -> Iterator[tuple[str, str, str]]:
    """(key, verdict, detail) of every file that answers are read from, then of objects that no row names.

    Args:
        files: all rows.
        objects: the place.
        quick: look for the objects and their lengths, without reading them.

    Raises:
        TwinError: ARCHIVE_UNREACHABLE, ARCHIVE_DENIED: nothing can be said.
    """
    for file in files:
        if file.state is FileState.KEPT:
            yield (file.key, *_verdict(file, objects, quick=quick))
    named = {file.key for file in files}
    for head in objects.list("tenant="):
        if head.key not in named:
            yield head.key, UNKNOWN, f"{head.size} bytes that no row names"


def _verdict(file: Archive, objects: ObjectStore, *, quick: bool) -> tuple[str, str]:
    from twincloud.archive.parquet import read_footer  # noqa: PLC0415 pyarrow takes 60 MB that few need

    rows = file.samples
    try:
        if quick:
            head = objects.head(file.key)
            if head is None:
                return MISSING, f"{objects.name} holds no {file.key}"
            if head.size != file.size:
                return DAMAGED, f"{head.size} bytes, {file.size} were sent"
        else:
            whole(verify(objects, file.key, file.size, file.sha256))
            rows = read_footer(partial(objects.get, file.key), file.size, file.key).rows
    except MissingError as error:
        return MISSING, error.message
    except StorageError as error:
        return DAMAGED, error.message
    said = f"{rows} samples" + (f", {file.samples} were sent" if rows != file.samples else "")
    return SOUND if rows == file.samples else DAMAGED, said
