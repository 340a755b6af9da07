"""The factor of `scale:`: a number, `10^@point`, or an expression over numbers and other points of the device.

    parse_scale("@ct_ratio * 0.001").factor({"ct_ratio": 40.0})  -> 0.04

Operators are `+ - * / ^` and parentheses; `@name` is the newest value of a point, its own scale applied. A name may
hold `-` and `.`, so a minus behind one needs a blank. Everything is computed in exact fractions: decimal exponents
and decimal factors stay exact, and integers from the wire are rounded once.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction

TEXT_MAX = 200
NODES_MAX = 48
DEPTH_MAX = 12
EXPONENT_MAX = 20
"""Largest power, so that a register full of rubbish never becomes a number of a million digits."""
_BITS_MAX = 512
_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:\d{1,20}(?:\.\d{0,20})?|\.\d{1,20})(?:[eE][+-]?\d{1,2})?)(?![\w.@])"
    r"|@(?P<point>[A-Za-z0-9_][A-Za-z0-9_.-]*)|(?P<op>[-+*/^()]))"
)

Node = tuple["str | Fraction | Node", ...]


@dataclass(frozen=True, slots=True)
class Scale:
    """A compiled scale.

    Attributes:
        text: as written.
        points: points it reads, each once, in order of their first use.
        exponent: the point in `10^@point`, the form of scale-factor registers; None for every other form.
    """

    text: str
    points: tuple[str, ...]
    exponent: str | None
    _root: Node

    def exact(self, values: Mapping[str, float]) -> Fraction | None:
        """The factor as a fraction; None when a point is not known, or NaN, or the result is none.

        It has none after a division by 0, a power that is no integer or beyond +-20, numbers beyond 512 bits.
        Costs some microseconds: compute it once for each change of `values`, not for each sample.

        Args:
            values: point -> newest value, in the point's unit.
        """
        return _value(self._root, values)

    def factor(self, values: Mapping[str, float]) -> float:
        """The factor as the nearest float; NaN where `exact` has none."""
        exact = self.exact(values)
        return math.nan if exact is None else float(exact)


def scaled(raw: float, factor: Fraction) -> float:
    """`raw * factor`, for an integer rounded once: 65496 times 1/10 is 6549.6, the nearest double."""
    if isinstance(raw, int):
        return raw * factor.numerator / factor.denominator
    return raw * float(factor)


def parse_scale(text: str | float) -> Scale:
    """Compiles a scale.

    Raises:
        ValueError: it is longer than 200 characters, nested deeper than 12, no expression, not finite, or always 0.
    """
    if not isinstance(text, str):
        if not math.isfinite(text):
            raise ValueError(f"a scale of {text}; write a number")
        text = repr(float(text)) if isinstance(text, float) else str(text)
    if len(text) > TEXT_MAX:
        raise ValueError(f"the scale is longer than {TEXT_MAX} characters")
    reader = _Reader(text)
    root = reader.sum(0)
    if reader.kind:
        raise reader.wrong()
    points = tuple(dict.fromkeys(reader.points))
    if not points:
        constant = _value(root, {})
        if constant is None:
            raise ValueError(f"{text!r} has no value")
        if constant == 0:
            raise ValueError("a scale of 0 makes every value 0")
    power = root[0] == "^" and root[1] == ("number", Fraction(10))
    exponent = root[2] if power and isinstance(root[2], tuple) and root[2][0] == "point" else None
    return Scale(text, points, str(exponent[1]) if exponent else None, root)


class _Reader:
    """Recursive descent; `kind` and `found` are of the token not yet taken."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.points: list[str] = []
        self.kind = ""
        self.found = ""
        self._start = self._next = 0
        self._nodes = 0
        self._advance()

    def wrong(self) -> ValueError:
        """What to say of the token that does not belong here."""
        rest = self.text[self._start :].strip()
        where = f"cannot be read from {rest!r} on" if rest else "ends too early"
        return ValueError(
            f"{self.text!r} {where}; write a number, 10^@point, or numbers and @points with + - * / ^ ( )"
        )

    def sum(self, depth: int) -> Node:
        node = self._product(depth)
        while self.found in {"+", "-"} and self.kind == "op":
            sign = self._take()
            node = self._node(sign, node, self._product(depth))
        return node

    def _product(self, depth: int) -> Node:
        node = self._signed(depth)
        while self.found in {"*", "/"} and self.kind == "op":
            sign = self._take()
            node = self._node(sign, node, self._signed(depth))
        return node

    def _signed(self, depth: int) -> Node:
        if depth > DEPTH_MAX:
            raise ValueError(f"the scale is nested deeper than {DEPTH_MAX} levels")
        if self.kind == "op" and self.found in {"-", "+"}:
            sign = self._take()
            inner = self._signed(depth + 1)
            return self._node("-", ("number", Fraction(0)), inner) if sign == "-" else inner
        base = self._atom(depth)
        if self.kind == "op" and self.found == "^":
            self._take()
            return self._node("^", base, self._signed(depth + 1))
        return base

    def _atom(self, depth: int) -> Node:
        if self.kind == "number":
            number = Fraction(self._take())
            if number and not -_BITS_MAX / 4 < math.log2(number) < _BITS_MAX / 4:
                raise ValueError(f"{self.text!r} holds a number out of range")
            return self._node("number", number)
        if self.kind == "point":
            self.points.append(self.found)
            return self._node("point", self._take())
        if self.kind == "op" and self.found == "(":
            self._take()
            inner = self.sum(depth + 1)
            if self.found != ")":
                raise self.wrong()
            self._take()
            return inner
        raise self.wrong()

    def _node(self, *parts: str | Fraction | Node) -> Node:
        self._nodes += 1
        if self._nodes > NODES_MAX:
            raise ValueError(f"the scale has more than {NODES_MAX} parts")
        return parts

    def _take(self) -> str:
        taken = self.found
        self._advance()
        return taken

    def _advance(self) -> None:
        self._start = self._next
        if not self.text[self._next :].strip():
            self.kind = self.found = ""
            return
        token = _TOKEN.match(self.text, self._next)
        if token is None or token.lastgroup is None:
            raise self.wrong()
        self.kind, self.found, self._next = token.lastgroup, token[token.lastgroup], token.end()


def _value(node: Node, values: Mapping[str, float]) -> Fraction | None:
    """The value of a node; None where it has none."""
    kind, *parts = node
    if kind == "number":
        return parts[0] if isinstance(parts[0], Fraction) else None
    if kind == "point":
        return _bounded(_read(values.get(str(parts[0]))))
    left, right = (_value(part, values) if isinstance(part, tuple) else None for part in parts)
    return None if left is None or right is None else _bounded(_OPERATIONS[str(kind)](left, right))


def _bounded(value: Fraction | None) -> Fraction | None:
    if value is None or max(value.numerator.bit_length(), value.denominator.bit_length()) > _BITS_MAX:
        return None
    return value


def _read(value: float | None) -> Fraction | None:
    """A point's value as the decimal it prints as: 0.1 is a tenth."""
    if value is None or not math.isfinite(value):
        return None
    return Fraction(value) if isinstance(value, int) else Fraction(repr(float(value)))


def _power(base: Fraction, exponent: Fraction) -> Fraction | None:
    if exponent.denominator != 1 or abs(exponent) > EXPONENT_MAX or (base == 0 and exponent < 0):
        return None
    return base**exponent.numerator


def _quotient(left: Fraction, right: Fraction) -> Fraction | None:
    return left / right if right else None


_OPERATIONS: Mapping[str, Callable[[Fraction, Fraction], Fraction | None]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": _quotient,
    "^": _power,
}
