"""Files that hold secrets: readable by their owner alone, and never half written."""

from __future__ import annotations

import os
from pathlib import Path

from twinmodel.errors import StorageError

DIRECTORY_MODE = 0o700
SECRET_MODE = 0o600


def make_directory(path: Path) -> None:
    """Makes a directory for its owner alone; raises STORE_READ_ONLY when the disk refuses."""
    try:
        path.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError("STORE_READ_ONLY", f"{path}: {error.strerror}", path=str(path)) from error


def write_secret(path: Path, content: bytes) -> None:
    """Replaces a file in one step, mode 0600, durable when it returns; raises STORE_READ_ONLY."""
    draft = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        draft.unlink(missing_ok=True)
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, SECRET_MODE)
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        draft.replace(path)
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        raise StorageError("STORE_READ_ONLY", f"{path}: {error.strerror}", path=str(path)) from error
