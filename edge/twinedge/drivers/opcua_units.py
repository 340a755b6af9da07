"""Engineering units of OPC UA (Part 8, 5.6.3) as units of ours: by UNECE code, else by the symbol shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from twinedge.unece import CODES, UNECE_URI, unit_id
from twinmodel import units
from twinmodel.errors import InputError

__all__ = ["CODES", "UNECE_URI", "agrees", "symbol_of", "unit_id"]

_SYMBOLS: Final[Mapping[str, str]] = {
    "°C": "degC",
    "°F": "degF",
    "°": "deg",
    "r/min": "rpm",
    "1/min": "1/min",
    "r/s": "Hz",
    "℃": "degC",
    "℉": "degF",
    "deg C": "degC",
    "deg F": "degF",
    "DegC": "degC",
    "DegF": "degF",
    "C": "degC",
    "F": "degF",
    "rev/min": "rpm",
}
_NONE: Final = frozenset({"", "-", "--", "none", "n/a"})


_BY_ID: Final = {unit_id(code): symbol for code, symbol in CODES.items()}


def symbol_of(namespace: str | None, number: int, shown: str | None) -> str | None:
    """Our symbol of an EUInformation; "" when it names none, None when it is not known here.

    Args:
        namespace: its NamespaceUri; the number means something only in that of UNECE.
        number: its UnitId, -1 for none.
        shown: text of its DisplayName.
    """
    if (namespace or UNECE_URI).rstrip("/") == UNECE_URI and number in _BY_ID:
        return _BY_ID[number]
    text = (shown or "").strip()
    if text.lower() in _NONE:
        return "" if number in {-1, 0} else None
    if text in _SYMBOLS:
        return _SYMBOLS[text]
    plain = text.replace("⁻¹", "^-1").replace("²", "2").replace("³", "3").replace("·", " ").replace("μ", "µ")
    try:
        units.parse(plain)
    except InputError:
        return None
    return plain


def agrees(server: str, profile: str, scale: float, offset: float) -> bool:
    """Whether `raw * scale + offset` turns values of the server's unit into those of the profile's.

    A server's number without a dimension (percent, counts, one) may be scaled to anything.
    """
    theirs, ours = units.parse(server), units.parse(profile)
    if theirs.dimension != ours.dimension:
        bare = units.parse("1").dimension
        return theirs.dimension == bare and (scale, offset) != (1.0, 0.0)
    near = (abs(units.convert(raw, theirs, ours) - raw * scale - offset) for raw in (0.0, 100.0))
    span = abs(units.convert(100.0, theirs, ours) - units.convert(0.0, theirs, ours))
    return all(distance <= 1e-3 * span for distance in near)
