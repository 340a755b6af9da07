"""Expressions written in Python: operators on named symbols give the text that a model file would hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

# How tightly a text binds, loosest first.
_SUM: Final = 1
_PRODUCT: Final = 2
_SIGN: Final = 3
_POWER: Final = 4
_ATOM: Final = 5


@dataclass(frozen=True, slots=True, eq=False)
class Condition:
    """A comparison of two symbols, for `where`; `&`, `|` and `~` combine."""

    text: str

    def __and__(self, other: Condition) -> Condition:
        return Condition(f"({self.text} and {other.text})")

    def __or__(self, other: Condition) -> Condition:
        return Condition(f"({self.text} or {other.text})")

    def __invert__(self) -> Condition:
        return Condition(f"(not {self.text})")

    def __bool__(self) -> bool:
        raise TypeError("a condition has no value yet; use where(condition, a, b), and & | ~ instead of and or not")


@dataclass(frozen=True, slots=True, eq=False)
class Symbol:
    """A name or an expression of a model; + - * / **, abs and comparisons make new ones."""

    text: str
    binds: int = _ATOM

    def __add__(self, other: Symbol | float) -> Symbol:
        return _binary(self, "+", other, _SUM)

    def __radd__(self, other: float) -> Symbol:
        return _binary(other, "+", self, _SUM)

    def __sub__(self, other: Symbol | float) -> Symbol:
        return _binary(self, "-", other, _SUM)

    def __rsub__(self, other: float) -> Symbol:
        return _binary(other, "-", self, _SUM)

    def __mul__(self, other: Symbol | float) -> Symbol:
        return _binary(self, "*", other, _PRODUCT)

    def __rmul__(self, other: float) -> Symbol:
        return _binary(other, "*", self, _PRODUCT)

    def __truediv__(self, other: Symbol | float) -> Symbol:
        return _binary(self, "/", other, _PRODUCT)

    def __rtruediv__(self, other: float) -> Symbol:
        return _binary(other, "/", self, _PRODUCT)

    def __pow__(self, other: Symbol | float) -> Symbol:
        return Symbol(f"{_inside(self, _ATOM)}**{_inside(other, _ATOM)}", _POWER)

    def __rpow__(self, other: float) -> Symbol:
        return Symbol(f"{_inside(other, _ATOM)}**{_inside(self, _ATOM)}", _POWER)

    def __neg__(self) -> Symbol:
        return Symbol(f"-{_inside(self, _SIGN)}", _SIGN)

    def __pos__(self) -> Symbol:
        return self

    def __abs__(self) -> Symbol:
        return _call("abs", self)

    def __lt__(self, other: Symbol | float) -> Condition:
        return _compare(self, "<", other)

    def __le__(self, other: Symbol | float) -> Condition:
        return _compare(self, "<=", other)

    def __gt__(self, other: Symbol | float) -> Condition:
        return _compare(self, ">", other)

    def __ge__(self, other: Symbol | float) -> Condition:
        return _compare(self, ">=", other)

    def __str__(self) -> str:
        return self.text


def sqrt(x: Symbol | float) -> Symbol:
    """Square root."""
    return _call("sqrt", x)


def exp(x: Symbol | float) -> Symbol:
    """Exponential of a plain number."""
    return _call("exp", x)


def log(x: Symbol | float) -> Symbol:
    """Natural logarithm of a plain number."""
    return _call("log", x)


def tanh(x: Symbol | float) -> Symbol:
    """Hyperbolic tangent of a plain number."""
    return _call("tanh", x)


def sin(x: Symbol | float) -> Symbol:
    """Sine of an angle or a plain number."""
    return _call("sin", x)


def cos(x: Symbol | float) -> Symbol:
    """Cosine of an angle or a plain number."""
    return _call("cos", x)


def minimum(*values: Symbol | float) -> Symbol:
    """The smallest of two or more values of one dimension."""
    return _call("min", *values)


def maximum(*values: Symbol | float) -> Symbol:
    """The largest of two or more values of one dimension."""
    return _call("max", *values)


def where(condition: Condition, chosen: Symbol | float, other: Symbol | float) -> Symbol:
    """`chosen` where the condition holds, else `other`."""
    return Symbol(f"where({condition.text}, {text_of(chosen)}, {text_of(other)})")


def lookup(table: str, *coordinates: Symbol | float) -> Symbol:
    """Value of a table of the model."""
    return _call("lookup", Symbol(table), *coordinates)


def text_of(value: Symbol | float | str) -> str:
    """The text of a symbol, a number or of an expression written as text."""
    return value if isinstance(value, str) else _symbol(value).text


def _symbol(value: Symbol | float) -> Symbol:
    if isinstance(value, Symbol):
        return value
    text = repr(float(value))
    return Symbol(text, _SIGN if text.startswith("-") else _ATOM)


def _inside(value: Symbol | float, binds: int) -> str:
    """A part in parentheses where it binds more loosely than its place."""
    symbol = _symbol(value)
    return symbol.text if symbol.binds >= binds else f"({symbol.text})"


def _binary(left: Symbol | float, operator: str, right: Symbol | float, binds: int) -> Symbol:
    # The right side needs parentheses even where it binds alike: sums are taken from the left.
    blank = " " if binds == _SUM else ""
    return Symbol(f"{_inside(left, binds)}{blank}{operator}{blank}{_inside(right, binds + 1)}", binds)


def _call(name: str, *values: Symbol | float) -> Symbol:
    return Symbol(f"{name}({', '.join(text_of(v) for v in values)})")


def _compare(left: Symbol | float, operator: str, right: Symbol | float) -> Condition:
    return Condition(f"{_inside(left, _SUM)} {operator} {_inside(right, _SUM)}")
