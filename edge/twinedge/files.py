"""Facts of the agent as JSON files: replaced as one step; a damaged one is set aside."""

from __future__ import annotations

import json
from pathlib import Path

import structlog

from twinmodel.files import write_durably

_log = structlog.get_logger(__name__)

JSON_BYTES_MAX = 4 << 20


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
