"""Times as people type them: RFC 3339, or an age."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from twinctl.render import from_ns
from twinmodel.errors import InputError

_AGE = re.compile(r"(\d+(?:\.\d+)?)(s|min|h|d)")
_UNIT_S = {"s": 1, "min": 60, "h": 3_600, "d": 86_400}


def duration_s(text: str) -> float:
    """Seconds of a duration such as 90s, 15min, 1h or 7d; raises REQUEST_INVALID."""
    found = _AGE.fullmatch(text.strip())
    if found is None:
        raise InputError("REQUEST_INVALID", f"{text!r} is no duration", hint="write e.g. 90s, 15min, 1h or 7d")
    return float(found[1]) * _UNIT_S[found[2]]


def time_of(text: str, now_ns: int) -> str:
    """RFC 3339 of a time or of an age before `now_ns`; raises REQUEST_INVALID."""
    found = _AGE.fullmatch(text.strip())
    if found:
        return from_ns(now_ns - round(float(found[1]) * _UNIT_S[found[2]] * 1e9))
    try:
        when = datetime.fromisoformat(text.strip())
    except ValueError as cause:
        hint = "write e.g. 2026-03-01T12:00:00Z, 90s, 15min, 1h or 7d"
        raise InputError("REQUEST_INVALID", f"{text!r} is neither a time nor an age", hint=hint) from cause
    when = when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)
    whole = when - timedelta(microseconds=when.microsecond)
    return f"{whole.strftime('%Y-%m-%dT%H:%M:%S')}.{when.microsecond:06d}000Z"
