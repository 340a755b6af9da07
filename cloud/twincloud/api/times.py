"""Times as REST writes and reads them: RFC 3339, UTC, nine digits; nanoseconds inside."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import lru_cache

from twinmodel.clock import SECOND_NS
from twinmodel.errors import InputError

_RFC3339 = re.compile(r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?([Zz]|[+-]\d\d:\d\d)")
_PARSED_NS_MAX = 9_200_000_000 * SECOND_NS
"""Years 1679 to 2261: what 64 bits of nanoseconds hold, with room to add and to subtract a span."""
_SECOND_MAX = 253_402_300_799
_SECOND_MIN = -62_135_596_800


def to_text(t_ns: int) -> str:
    """RFC 3339 text of a time; a time outside of the years 1..9999 is shown as the nearest one inside."""
    second, rest = divmod(t_ns, SECOND_NS)
    return f"{_whole(min(max(second, _SECOND_MIN), _SECOND_MAX))}.{rest:09d}Z"


@lru_cache(maxsize=4_096)
def _whole(second: int) -> str:
    # Most times of an answer lie within a few seconds.
    return datetime.fromtimestamp(second, UTC).isoformat()[:19]


def to_text_or_none(t_ns: int) -> str | None:
    """RFC 3339 text, None for 0, which stands for "never"."""
    return to_text(t_ns) if t_ns else None


def parse(text: str, field: str) -> int:
    """Nanoseconds of RFC 3339 text or of a plain integer of nanoseconds.

    Raises:
        InputError: REQUEST_INVALID naming the field, also for a time outside of the years 1679 to 2261.
    """
    try:
        t_ns = int(text) if re.fullmatch(r"-?[0-9]{1,19}", text) else _of_rfc3339(text.strip())
        if abs(t_ns) <= _PARSED_NS_MAX:
            return t_ns
        said = "is out of range"
    except (ValueError, OverflowError):
        said = "is no time"
    raise InputError(
        "REQUEST_INVALID", f"{field}: {text[:40]!r} {said}", hint="write e.g. 2026-03-01T12:00:00Z", field=field
    )


def _of_rfc3339(text: str) -> int:
    found = _RFC3339.fullmatch(text)
    if found is None:
        raise ValueError(text)
    day, time, digits, zone = found.groups()
    whole = datetime.fromisoformat(f"{day}T{time}{'+00:00' if zone in 'Zz' else zone}")
    return int(whole.timestamp()) * SECOND_NS + int((digits or "0").ljust(9, "0"))
