"""Units of measurement as a small dimension table: parse, compare and convert without a library.

    parse("m3/h")            -> dimension m^3 s^-1, scale 1/3600
    convert(20, "degC", "K") -> 293.15

A unit is a product of powers: names, `*`, a blank or `.` multiply, `/` divides what follows next, `^` (or digits
behind a name, as in `m3`) raises, parentheses group. `degC` and `degF` carry an offset only where they stand
alone; inside a product (`W/degC`) they are differences.
"""

from __future__ import annotations

import difflib
import math
import re
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from typing import Final, NoReturn

from twinmodel.errors import InputError

Dimension = tuple[Fraction, ...]
BASES: Final = ("m", "kg", "s", "A", "K", "mol", "cd")
TEXT_MAX: Final = 64
_EXPONENT_MAX: Final = 12
_NONE: Final[Dimension] = (Fraction(0),) * len(BASES)


@dataclass(frozen=True, slots=True)
class Unit:
    """One unit: `SI value = value * scale + offset`.

    Attributes:
        dimension: exponents of `BASES`.
        scale: factor to the coherent SI unit.
        offset: zero of the scale in SI units; not 0 only for temperatures such as degC.
    """

    dimension: Dimension
    scale: float = 1.0
    offset: float = 0.0

    @property
    def affine(self) -> bool:
        """Whether the zero of its scale is not the zero of the quantity."""
        return self.offset != 0.0

    @property
    def difference(self) -> Unit:
        """The unit of differences of two values: K for degC, itself for most."""
        return Unit(self.dimension, self.scale)

    def __mul__(self, other: Unit) -> Unit:
        dimension = tuple(a + b for a, b in zip(self.dimension, other.dimension, strict=True))
        return Unit(dimension, self.scale * other.scale)

    def __truediv__(self, other: Unit) -> Unit:
        dimension = tuple(a - b for a, b in zip(self.dimension, other.dimension, strict=True))
        return Unit(dimension, self.scale / other.scale)

    def __pow__(self, exponent: Fraction) -> Unit:
        scale = math.prod([self.scale] * abs(exponent.numerator))
        if exponent.denominator == 2:
            scale = math.sqrt(scale)
        elif exponent.denominator != 1:
            # In decimal, because pow of one C library rounds other than that of the next.
            scale = float(Decimal(scale) ** (Decimal(1) / exponent.denominator))
        return Unit(tuple(a * exponent for a in self.dimension), scale if exponent > 0 else 1.0 / scale)

    def __str__(self) -> str:
        powers = [f"{b}^{e}" if e != 1 else b for b, e in zip(BASES, self.dimension, strict=True) if e]
        text = " ".join(powers) or "1"
        return text if self.scale == 1.0 else f"{self.scale:g} {text}"


def _unit(scale: float = 1.0, offset: float = 0.0, **exponents: int) -> Unit:
    return Unit(tuple(Fraction(exponents.get(base, 0)) for base in BASES), scale, offset)


DIMENSIONLESS: Final = Unit(_NONE)
SECOND: Final = _unit(s=1)
_ENERGY = {"kg": 1, "m": 2, "s": -2}
_POWER = {"kg": 1, "m": 2, "s": -3}
_PRESSURE = {"kg": 1, "m": -1, "s": -2}

# Names that take SI prefixes.
_PREFIXED: Final[dict[str, Unit]] = {
    "m": _unit(m=1),
    "g": _unit(1e-3, kg=1),
    "s": _unit(s=1),
    "A": _unit(A=1),
    "K": _unit(K=1),
    "mol": _unit(mol=1),
    "cd": _unit(cd=1),
    "Hz": _unit(s=-1),
    "N": _unit(kg=1, m=1, s=-2),
    "Pa": _unit(**_PRESSURE),
    "bar": _unit(1e5, **_PRESSURE),
    "J": _unit(**_ENERGY),
    "Wh": _unit(3600.0, **_ENERGY),
    "W": _unit(**_POWER),
    "VA": _unit(**_POWER),
    "var": _unit(**_POWER),
    "C": _unit(A=1, s=1),
    "Ah": _unit(3600.0, A=1, s=1),
    "V": _unit(kg=1, m=2, s=-3, A=-1),
    "ohm": _unit(kg=1, m=2, s=-3, A=-2),
    "Ω": _unit(kg=1, m=2, s=-3, A=-2),
    "S": _unit(kg=-1, m=-2, s=3, A=2),
    "F": _unit(kg=-1, m=-2, s=4, A=2),
    "H": _unit(kg=1, m=2, s=-2, A=-2),
    "T": _unit(kg=1, s=-2, A=-1),
    "Wb": _unit(kg=1, m=2, s=-2, A=-1),
    "l": _unit(1e-3, m=3),
    "L": _unit(1e-3, m=3),
    "t": _unit(1e3, kg=1),
}
_PLAIN: Final[dict[str, Unit]] = {
    "min": _unit(60.0, s=1),
    "h": _unit(3600.0, s=1),
    "d": _unit(86400.0, s=1),
    "rpm": _unit(1 / 60, s=-1),
    "rad": DIMENSIONLESS,
    "deg": Unit(_NONE, math.pi / 180),
    "%": Unit(_NONE, 0.01),
    "ppm": Unit(_NONE, 1e-6),
    "degC": _unit(1.0, 273.15, K=1),
    "°C": _unit(1.0, 273.15, K=1),
    "degF": _unit(5 / 9, 459.67 * 5 / 9, K=1),
    "in": _unit(0.0254, m=1),
    "ft": _unit(0.3048, m=1),
    "lb": _unit(0.45359237, kg=1),
    "psi": _unit(6894.757293168361, **_PRESSURE),
    "atm": _unit(101325.0, **_PRESSURE),
}
_PREFIXES: Final = {
    "p": 1e-12,
    "n": 1e-9,
    "u": 1e-6,
    "µ": 1e-6,
    "m": 1e-3,
    "c": 1e-2,
    "d": 1e-1,
    "h": 1e2,
    "k": 1e3,
    "M": 1e6,
    "G": 1e9,
    "T": 1e12,
}
_TOKEN = re.compile(
    r"\s*(?:(?P<power>(?:\^|\*\*)-?)|(?P<op>[*·./])|(?P<open>\()|(?P<close>\))"
    r"|(?P<number>\d+(?:\.\d+)?)|(?P<name>[A-Za-zΩµ%°]+))"
)


@lru_cache(maxsize=512)
def parse(text: str) -> Unit:
    """Reads a unit such as `m^0.5/s`, `m3/h`, `m/(V s)`, `degC`; empty text or `1` is dimensionless.

    Raises:
        InputError: UNIT_UNKNOWN, with the nearest name where one is near.
    """
    if not text.strip():
        return DIMENSIONLESS
    if len(text) > TEXT_MAX:
        _fail(text[:TEXT_MAX] + "...", f"is longer than {TEXT_MAX} characters")
    alone = _PLAIN.get(text.strip())
    if alone is not None:
        return alone
    reader = _Reader(text)
    unit = reader.product()
    if reader.kind is not None:
        _fail(text, f"cannot be read from {reader.text!r} on")
    if not math.isfinite(unit.scale) or unit.scale <= 0.0:
        _fail(text, "is out of range")
    return unit


def same_dimension(a: str | Unit, b: str | Unit) -> bool:
    """Whether values of one unit can be converted to the other."""
    return _of(a).dimension == _of(b).dimension


def convert(value: float, a: str | Unit, b: str | Unit) -> float:
    """Value given in unit `a`, expressed in unit `b`.

    Raises:
        InputError: UNIT_CLASH when the dimensions differ, UNIT_UNKNOWN for a name that is no unit.
    """
    origin, target = _of(a), _of(b)
    if origin.dimension != target.dimension:
        raise InputError("UNIT_CLASH", f"{a} ({origin}) cannot become {b} ({target})", found=str(a), expected=str(b))
    if origin == target:
        return value
    return (value * origin.scale + origin.offset - target.offset) / target.scale


def conversion(a: str | Unit, b: str | Unit) -> tuple[float, float]:
    """Gain and shift that take values of unit `a` to unit `b`: what models are fed by, the same bits on both tiers."""
    origin, target = _of(a), _of(b)
    if origin == target:
        return 1.0, 0.0
    return origin.scale / target.scale, (origin.offset - target.offset) / target.scale


def _of(unit: str | Unit) -> Unit:
    return parse(unit) if isinstance(unit, str) else unit


def _fail(text: str, why: str, **facts: str) -> NoReturn:
    raise InputError("UNIT_UNKNOWN", f"unit {text!r} {why}", hint=None, unit=text, **facts)


def _look_up(name: str, text: str) -> Unit:
    if name in _PREFIXED:
        return _PREFIXED[name]
    if name in _PLAIN:
        return _PLAIN[name].difference
    if name[0] in _PREFIXES and name[1:] in _PREFIXED:
        base = _PREFIXED[name[1:]]
        return Unit(base.dimension, base.scale * _PREFIXES[name[0]])
    known = [*_PREFIXED, *_PLAIN, "kg", "mm", "cm", "km", "ms", "kW", "kPa", "mbar", "mV", "mA", "kWh", "MW"]
    folded = {n.lower(): n for n in reversed(known)}
    near = difflib.get_close_matches(name.lower(), folded, n=1, cutoff=0.5)
    if near:
        nearest = folded[near[0]]
        _fail(text, f"names {name!r}, which is unknown; the nearest is {nearest!r}", nearest=nearest)
    _fail(text, f"names {name!r}, which is unknown")


class _Reader:
    """Recursive descent over the tokens of one unit; the text is short, so the depth is bounded."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self.kind: str | None = None
        self.text = ""
        self._next()

    def _next(self) -> None:
        found = _TOKEN.match(self._text, self._at)
        if found is None:
            if self._text[self._at :].strip():
                _fail(self._text, f"cannot be read from {self._text[self._at :]!r} on")
            self.kind, self.text = None, ""
            return
        self._at = found.end()
        self.kind, self.text = found.lastgroup, found.group(found.lastgroup or 0)

    def product(self) -> Unit:
        unit = self._power()
        while True:
            if self.kind == "op":
                divide = self.text == "/"
                self._next()
                factor = self._power()
                unit = unit / factor if divide else unit * factor
            elif self.kind in {"name", "open", "number"}:
                unit = unit * self._power()
            else:
                return unit

    def _power(self) -> Unit:
        unit = self._atom()
        if self.kind != "power":
            return unit
        negative = self.text.endswith("-")
        self._next()
        return unit ** self._exponent(negative=negative)

    def _exponent(self, *, negative: bool) -> Fraction:
        if self.kind != "number":
            _fail(self._text, "lacks a number behind ^")
        exponent = Fraction(self.text)
        if exponent > _EXPONENT_MAX or exponent.denominator > 100:
            _fail(self._text, f"has an exponent beyond {_EXPONENT_MAX}")
        self._next()
        return -exponent if negative else exponent

    def _atom(self) -> Unit:
        kind, text = self.kind, self.text
        if kind == "open":
            self._next()
            unit = self.product()
            if self.kind != "close":
                _fail(self._text, "lacks a closing parenthesis")
            self._next()
            return unit
        if kind == "number":
            if text != "1":
                _fail(self._text, f"holds the number {text}; only 1 may stand alone")
            self._next()
            return DIMENSIONLESS
        if kind != "name":
            _fail(self._text, "lacks a name where one must stand")
        end = self._at
        self._next()
        unit = _look_up(text, self._text)
        # Digits that touch a name raise it: m3, s2.
        if self.kind == "number" and self._text[end : end + 1].isdigit():
            return unit ** self._exponent(negative=False)
        return unit
