"""Small files that survive a power cut: written beside, synced, renamed, the folder synced."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Final

from twinmodel.errors import StorageError

OWNER_ONLY: Final = 0o600
_REASONS: Final = {errno.ENOSPC: "STORE_FULL", errno.EDQUOT: "STORE_FULL", errno.EROFS: "STORE_READ_ONLY"}


def write_durably(path: Path, content: bytes) -> None:
    """Replaces a file as one step, readable by its owner alone.

    Raises:
        StorageError: STORE_FULL, STORE_READ_ONLY or STORE_SYNC_FAILED; the file is as it was then.
    """
    draft = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        draft.unlink(missing_ok=True)
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, OWNER_ONLY)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise storage_error(error, path) from error


def sync_folder(folder: Path) -> None:
    """Makes new names in a folder survive a power cut; raises OSError."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def storage_error(error: OSError, path: Path) -> StorageError:
    """An OSError of a file as the project's error."""
    reason = _REASONS.get(error.errno or 0, "STORE_SYNC_FAILED")
    return StorageError(reason, f"{path}: {error.strerror or error}", path=str(path))
