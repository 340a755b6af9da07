"""What outlives the agent: where its alarms stand, as one file, replaced as one step."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import structlog

from twinedge.files import JSON_BYTES_MAX, read_json, set_aside
from twinmodel.errors import StorageError
from twinmodel.files import write_durably

log = structlog.get_logger(__name__)

FILE: Final = "alarms.json"
VERSION: Final = 1
KEPT_MAX: Final = 4000
"""Alarms that are kept: those that stand or are hidden, then those that changed last."""


class Memory:
    """The file of one agent.

    Args:
        path: where it lies.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._refused = False

    def load(self) -> Mapping[str, Mapping[str, Any]]:
        """What was kept, by name; a damaged file is told, set aside, and alarms begin anew. Blocks."""
        found = read_json(self._path)
        if found is None:
            return {}
        if not isinstance(found, dict) or found.get("v") != VERSION or not isinstance(found.get("alarms"), dict):
            set_aside(self._path, "it holds no alarms")
            return {}
        return {name: alarm for name, alarm in found["alarms"].items() if isinstance(alarm, dict)}

    def keep(self, alarms: Mapping[str, Mapping[str, Any]]) -> None:
        """Makes them durable; raises StorageError, having changed nothing. Blocks."""
        try:
            write_durably(self._path, _written(alarms))
        except StorageError as error:
            if not self._refused:
                log.warning("states of alarms are not kept", reason=error.reason, detail=error.message)
            self._refused = True
            raise
        if self._refused:
            log.info("states of alarms are kept again")
        self._refused = False


def _written(alarms: Mapping[str, Mapping[str, Any]]) -> bytes:
    """The file of as many alarms as can be read again."""

    def worth(one: tuple[str, Mapping[str, Any]]) -> tuple[bool, int]:
        return one[1].get("told") is not None, int(one[1].get("at_ns", 0))

    parts, room = [], JSON_BYTES_MAX - 1000
    for name, alarm in sorted(alarms.items(), key=worth, reverse=True)[:KEPT_MAX]:
        part = f"{json.dumps(name)}:{json.dumps(alarm, separators=(',', ':'))}"
        room -= len(part) + 1
        if room < 0:
            break
        parts.append(part)
    return f'{{"v":{VERSION},"alarms":{{{",".join(parts)}}}}}'.encode()
