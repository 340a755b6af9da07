"""What SQLite and the file system say, as the reasons of the project."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import apsw

from twinmodel.errors import StorageError

_ERRNOS = {errno.ENOSPC: "STORE_FULL", errno.EDQUOT: "STORE_FULL", errno.EROFS: "STORE_READ_ONLY"}
_ROOM_BYTES = 1 << 16
"""Less than this is left of a full disk: the shared index alone takes half of it."""
DAMAGE = (apsw.CorruptError, apsw.NotADBError, apsw.FormatError)
"""What SQLite raises where the bytes of the file contradict each other."""


def storage_error(error: apsw.Error | OSError, path: Path) -> StorageError:
    """The StorageError for what went wrong with the file at `path`; the caller raises it."""
    return StorageError(_reason(error, path), f"{path}: {error}", path=str(path))


def _reason(error: apsw.Error | OSError, path: Path) -> str:
    if isinstance(error, OSError):
        return _ERRNOS.get(error.errno or 0, "STORE_SYNC_FAILED")
    if isinstance(error, apsw.FullError):
        return "STORE_FULL"
    if isinstance(error, DAMAGE):
        return "STORE_CORRUPT"
    if _mounted_read_only(path):
        return "STORE_READ_ONLY"
    if _has_no_room(path):
        # Not every call that lacks room says so: neither the shared index does, nor a file opened only to be read.
        return "STORE_FULL"
    return "STORE_READ_ONLY" if isinstance(error, apsw.ReadOnlyError) else "STORE_SYNC_FAILED"


def _mounted_read_only(path: Path) -> bool:
    try:
        return bool(os.statvfs(path.parent).f_flag & os.ST_RDONLY)
    except OSError:
        return False


def _has_no_room(path: Path) -> bool:
    try:
        facts = os.statvfs(path.parent)
    except OSError:
        return False
    return facts.f_bavail * facts.f_frsize < _ROOM_BYTES
