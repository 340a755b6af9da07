"""Small files that survive a power cut: written beside, synced, renamed; a damaged one is set aside."""

from __future__ import annotations

import json
import os
from pathlib import Path

import structlog

from twinsync.transfer import storage_error, sync_folder

_log = structlog.get_logger(__name__)

JSON_BYTES_MAX = 4 << 20


def write_durably(path: Path, content: bytes) -> None:
    """Replaces a file as one step, readable by its owner alone; raises StorageError."""
    fresh = path.with_name(path.name + ".new")
    try:
        handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise storage_error(error, path) from error


def write_json(path: Path, document: object) -> None:
    """Replaces a JSON file as one step; raises StorageError."""
    write_durably(path, json.dumps(document, indent=1, sort_keys=True).encode())


def read_json(path: Path) -> object:
    """A JSON file, None when it is not there; what cannot be read is renamed to `.damaged` and counts as not there."""
    try:
        with path.open("rb") as file:
            return json.loads(file.read(JSON_BYTES_MAX))
    except FileNotFoundError:
        return None
    except (ValueError, OSError) as error:
        set_aside(path, str(error))
        return None


def set_aside(path: Path, why: str) -> None:
    """Renames a damaged file, so that the next start does not meet it again."""
    _log.error("file is damaged, set aside", path=str(path), detail=why)
    try:
        path.replace(path.with_name(path.name + ".damaged"))
    except OSError as error:
        _log.warning("damaged file stays where it is", path=str(path), detail=str(error))
