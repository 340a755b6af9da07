"""Directories that hold secrets: for their owner alone."""

from __future__ import annotations

from pathlib import Path

from twinmodel.errors import StorageError

DIRECTORY_MODE = 0o700


def make_directory(path: Path) -> None:
    """Makes a directory for its owner alone; raises STORE_READ_ONLY when the disk refuses."""
    try:
        path.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError("STORE_READ_ONLY", f"{path}: {error.strerror}", path=str(path)) from error
