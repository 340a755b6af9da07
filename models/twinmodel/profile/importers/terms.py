"""Words of other tools in our terms: units, factors, names of states, byte orders."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from fractions import Fraction

from twinmodel import units
from twinmodel.errors import InputError
from twinmodel.profile.importers.found import Fields
from twinmodel.profile.importers.intake import clean, words

STATES_MAX = 256
DESCRIPTION_MAX = 4000

_UNITS: Mapping[str, str] = {
    "pct": "%",
    "percent": "%",
    "°c": "degC",
    "deg c": "degC",
    "celsius": "degC",
    "degrees celsius": "degC",
    "degrees centigrade": "degC",
    "°f": "degF",
    "fahrenheit": "degF",
    "degrees": "deg",
    "degree": "deg",
    "decimal degrees": "deg",
    "°": "deg",
    "secs": "s",
    "sec": "s",
    "seconds": "s",
    "second": "s",
    "minutes": "min",
    "minute": "min",
    "hours": "h",
    "hour": "h",
    "hrs": "h",
    "days": "d",
    "rpm": "rpm",
    "v ac": "V",
    "v dc": "V",
    "a ac": "A",
    "a dc": "A",
    "volts": "V",
    "volt": "V",
    "amps": "A",
    "ampere": "A",
    "watts": "W",
    "watt": "W",
    "hertz": "Hz",
    "ah": "Ah",
    "vah": "VA h",
    "varh": "var h",
    "kvah": "kVA h",
    "kvarh": "kvar h",
    "litres": "l",
    "litre": "l",
    "liters": "l",
    "m³": "m3",
    "m³/h": "m3/h",
    "ug/m^3": "ug/m3",
    "ohms": "ohm",
}
_NONE = frozenset({"", "-", "--", "none", "n/a", "na", "count", "counts", "1", "cos()", "nil"})
_UNSURE = frozenset({"C", "F", "T", "H", "d", "t", "S", "P", "p"})
"""Single letters that are one unit to us and, as often as not, another one to who wrote them."""
_STATE = re.compile(r"\s*(-?\d{1,10})\s*=\s*(.*?)\s*")
_ORDERS: Mapping[tuple[bool, bool], str] = {
    (False, False): "ABCD",
    (True, False): "BADC",
    (False, True): "CDAB",
    (True, True): "DCBA",
}


def order_of(*, bytes_swapped: bool, words_swapped: bool) -> str:
    """Our order of a value whose bytes are swapped in each register, whose registers are reversed, or both."""
    return _ORDERS[bytes_swapped, words_swapped]


def unit_of(text: str, own: Mapping[str, str] | None = None) -> str | None:
    """Our unit of a foreign text, "" for none, None where the text is no unit we know for sure.

    Args:
        text: as the source has it.
        own: what the format itself defines, exactly as written; it goes before everything else.
    """
    text = clean(text).strip()
    if own is not None and text in own:
        return own[text]
    lower = text.lower()
    if lower in _NONE:
        return ""
    if text in _UNSURE:
        return None
    plain = _UNITS.get(lower, text)
    try:
        units.parse(plain)
    except InputError:
        return None
    return plain


def put_unit(fields: Fields, text: str, own: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """Sets `unit`, or keeps a text that is no unit in the description; what to say about it."""
    unit = unit_of(text, own)
    if unit is None:
        describe(fields, f"unit in the source: {text}")
        return (f"{clean(text)[:60]!r} is no unit known here; it stands in the description",)
    if unit:
        fields["unit"] = unit
    return ()


def describe(fields: Fields, text: str) -> None:
    """Adds a sentence to the description; what is too long ends in `...`."""
    text = " ".join(clean(text).split())
    if not text:
        return
    whole = f"{fields['description']}; {text}" if fields.get("description") else text
    fields["description"] = whole if len(whole) <= DESCRIPTION_MAX else whole[: DESCRIPTION_MAX - 3] + "..."


def number_of(value: object, what: str) -> Fraction:
    """A finite number, or its text, exactly as written: `0.1` is a tenth. Raises InputError VALUE_INVALID."""
    text = repr(value) if isinstance(value, float) else words(value, what)
    try:
        decimal = Decimal(text) if len(text) <= 60 else Decimal("NaN")
    except InvalidOperation:
        decimal = Decimal("NaN")
    if not decimal.is_finite() or (decimal and abs(decimal.adjusted()) > 60):
        raise InputError("VALUE_INVALID", f"{what} is {clean(text)[:60]!r}, not a finite number")
    return Fraction(decimal)


def put_scale(fields: Fields, factor: Fraction, offset: Fraction = Fraction(0)) -> None:
    """Sets `scale` and `offset` of raw * factor + offset where they change anything.

    Raises:
        InputError: VALUE_INVALID, the factor is 0 or neither a decimal nor a fraction a scale can hold.
    """
    if factor == 0:
        raise InputError("VALUE_INVALID", "a scale of 0 makes every value 0")
    if factor != 1:
        near = float(factor)
        if Fraction(repr(near)) == factor:
            fields["scale"] = int(factor) if factor.denominator == 1 and abs(near) < 1e15 else near
        else:
            fields["scale"] = f"{factor.numerator} / {factor.denominator}"
        if not math.isfinite(near) or len(str(fields["scale"])) > 40:
            raise InputError("VALUE_INVALID", f"a factor of {near:g} cannot be carried exactly")
    if offset:
        near = float(offset)
        if Fraction(repr(near)) != offset:
            raise InputError("VALUE_INVALID", f"an offset of {near:g} cannot be carried exactly")
        fields["offset"] = int(offset) if offset.denominator == 1 and abs(near) < 1e15 else near


def cut_note(fields: Fields, as_: str) -> tuple[str, ...]:
    """What to say where the source's tool cuts the decimals of a scaled integer, which we keep."""
    scale = fields.get("scale")
    if as_.startswith(("int", "uint")) and scale is not None and not isinstance(scale, int):
        return ("the source's tool cuts the decimals of the scaled integer; here they are kept",)
    return ()


def put_range(fields: Fields, low: Fraction | None, high: Fraction | None) -> tuple[str, ...]:
    """Sets `range` of two bounds; what to say where they are none."""
    if low is None or high is None:
        return ("one bound alone is no range, it is left out",) if (low, high) != (None, None) else ()
    if not low < high:
        return (f"{float(low):g} to {float(high):g} is no range, it is left out",)
    fields["range"] = [float(low), float(high)]
    return ()


def states_of(text: str, separators: str = ";|") -> dict[int, str] | None:
    """States of `0=off;1=on`; None where the text is something else."""
    states: dict[int, str] = {}
    for part in re.split(f"[{re.escape(separators)}]", clean(text)):
        if not part.strip() and states:
            continue
        found = _STATE.fullmatch(part)
        if found is None or int(found[1]) in states:
            return None
        states[int(found[1])] = found[2]
    return states or None


def put_states(fields: Fields, states: Mapping[int, str]) -> tuple[str, ...]:
    """Sets `states` of an integer or a bit without a scale, else describes them; what to say about it."""
    as_ = str(fields.get("as", ""))
    whole = as_.startswith(("int", "uint", "bcd")) and "scale" not in fields and "offset" not in fields
    bit = as_ == "bit" and states.keys() <= {0, 1}
    fits = len(states) <= STATES_MAX and all(1 <= len(label) <= 64 for label in states.values())
    if (whole or bit) and fits:
        fields["states"] = dict(sorted(states.items()))
        fields["class"] = "state"
        return ()
    describe(fields, "; ".join(f"{value}={label}" for value, label in sorted(states.items())))
    return ("its states do not fit the schema; they stand in the description",)
