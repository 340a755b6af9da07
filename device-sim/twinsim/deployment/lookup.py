"""A value in a document by a dotted path, and whether it is what was wanted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from twinsim.deployment.schema import Bounds

NAMES = ("name", "twin", "device", "gateway", "alarm", "id")


class _Absent:
    """Stands where a path leads to nothing."""

    def __repr__(self) -> str:
        return "absent"


ABSENT = _Absent()


def look_up(document: Any, path: str) -> Any:
    """The value at a path, `ABSENT` where there is none; `properties.level1.health`, `items.0.kind`.

    Keys that hold dots are found, too. Items of a list are named by number, or by what stands at their `name`, `twin`,
    `device`, `gateway`, `alarm` or `id`.
    """
    return _walk(document, path.split("."))


def _walk(document: Any, parts: Sequence[str]) -> Any:
    if not parts:
        return document
    for length in range(1, len(parts) + 1):
        below = _child(document, ".".join(parts[:length]))
        if below is not ABSENT and (found := _walk(below, parts[length:])) is not ABSENT:
            return found
    return ABSENT


def _child(document: Any, key: str) -> Any:
    if isinstance(document, Mapping):
        return document.get(key, ABSENT)
    if not isinstance(document, Sequence) or isinstance(document, str):
        return ABSENT
    if key.isdigit():
        return document[int(key)] if int(key) < len(document) else ABSENT
    named = (item for item in document if isinstance(item, Mapping) and key in (item.get(name) for name in NAMES))
    return next(named, ABSENT)


def fits(found: Any, wanted: Any) -> bool:
    """Whether a found value is the wanted one, or within the wanted bounds."""
    if not isinstance(wanted, Mapping):
        return bool(found == wanted) and isinstance(found, bool) == isinstance(wanted, bool)
    bounds = Bounds.model_validate(wanted)
    if bounds.exists is not None and bounds.exists == (found is ABSENT or found is None):
        return False
    if bounds.min is not None or bounds.max is not None:
        if isinstance(found, bool) or not isinstance(found, int | float):
            return False
        if (bounds.min is not None and found < bounds.min) or (bounds.max is not None and found > bounds.max):
            return False
    if bounds.one_of is not None and found not in bounds.one_of:
        return False
    return bounds.contains is None or bounds.contains in (found if isinstance(found, str) else repr(found))
