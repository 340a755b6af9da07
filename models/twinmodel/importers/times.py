"""Times of a data file: ISO 8601 or numbers, to integer nanoseconds UTC."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from twinmodel.errors import ConfigError

NAMES: Final = ("time", "timestamp", "t", "time_s", "t_s", "time_ms", "t_ms", "time_ns", "t_ns")
"""Headers a column of times is found by, in this order; the suffix names the unit, seconds without one."""
_ISO: Final = re.compile(
    r"(?P<date>\d{4}-\d\d-\d\d)(?:[T ](?P<clock>\d\d:\d\d(?::\d\d)?)(?:[.,](?P<digits>\d{1,9})\d*)?"
    r"(?P<zone>Z|[+-]\d\d(?::?\d\d)?)?)?"
)
_INTEGER: Final = re.compile(r"[+-]?\d{1,19}")
# Beyond these, nanoseconds and one more segment no longer fit 64 bits.
_LARGEST_NS: Final = 1 << 62


def read_times(cells: Sequence[str], header: str, path: Path, lines: Sequence[int] | None = None) -> NDArray[np.int64]:
    """Times of a column.

    Args:
        cells: the text of each row.
        header: name of the column; `_ms` or `_ns` at its end name the unit of numbers, else they are seconds.
        path: file, for errors.
        lines: line of each cell, for errors.

    Raises:
        ConfigError: VALUE_INVALID with path and line.
    """
    unit = next((s for s in ("_ms", "_ns") if header.lower().endswith(s)), "_s")
    times = np.empty(len(cells), np.int64)
    for at, cell in enumerate(cells):
        text = cell.strip()
        found = _from_iso(text) if len(text) > 9 and text[4:5] == "-" else _from_number(text, unit)
        if found is None or not -_LARGEST_NS < found < _LARGEST_NS:
            line = lines[at] if lines is not None else None
            message = f"column {header}: {text[:40]!r} is no time"
            hint = "write 2026-01-31T12:00:00Z or seconds"
            raise ConfigError("VALUE_INVALID", message, hint=hint, path=str(path), line=line)
        times[at] = found
    return times


def _from_number(text: str, unit: str) -> int | None:
    if unit == "_ns" or _INTEGER.fullmatch(text):
        if not _INTEGER.fullmatch(text):
            return None
        return int(text) * {"_ns": 1, "_ms": 1_000_000, "_s": 1_000_000_000}[unit]
    try:
        seconds = float(text.replace(",", "."))
    except ValueError:
        return None
    scale = 1e3 if unit == "_ms" else 1e6
    # Whole microseconds: more digits a float of today's seconds does not hold.
    return round(seconds * scale) * 1000 if abs(seconds) * scale < 1e18 else None


def _from_iso(text: str) -> int | None:
    found = _ISO.fullmatch(text)
    if found is None:
        return None
    zone = (found["zone"] or "Z").replace("Z", "+00:00")
    try:
        whole = datetime.fromisoformat(f"{found['date']}T{found['clock'] or '00:00'}{zone}")
    except ValueError:
        return None
    return int(whole.timestamp()) * 1_000_000_000 + int((found["digits"] or "0").ljust(9, "0"))
