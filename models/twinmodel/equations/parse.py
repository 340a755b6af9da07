"""Whitelisted reading of one expression: arithmetic, names and a handful of functions, never code that runs.

    parse("k1*sqrt(max(h1, 0))", source) -> Op("mul", (Name("k1"), Op("sqrt", ...)))

Python's own grammar does the reading (`ast.parse` runs nothing); every node that is not on the list below is
refused with its line and a caret under the place.
"""

from __future__ import annotations

import ast
import difflib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NoReturn

from twinmodel.errors import ConfigError

EXPRESSION_MAX: Final = 2000
DEPTH_MAX: Final = 60
NODES_MAX: Final = 4096
_FUNCTIONS: Final = {"sqrt": 1, "abs": 1, "min": 2, "max": 2}
_BINARY: Final[dict[type[ast.operator], str]] = {ast.Add: "add", ast.Sub: "sub", ast.Mult: "mul", ast.Div: "div"}
_POWER_MAX: Final = 8


@dataclass(frozen=True, slots=True)
class Source:
    """Where an expression stands, for errors.

    Attributes:
        text: the expression.
        owner: what it defines, such as `h1'`.
        path: file.
        line, column: place of its first character, counted from 1.
    """

    text: str
    owner: str = ""
    path: str = ""
    line: int = 1
    column: int = 1

    def fail(self, at: int, message: str, **facts: str) -> NoReturn:
        """Raises EQUATION_INVALID with a caret under character `at` of the expression."""
        shown = self.text.replace("\n", " ")
        owner = f"{self.owner}: " if self.owner else ""
        raise ConfigError(
            "EQUATION_INVALID",
            f"{owner}{message}\n    {shown}\n    {' ' * at}^",
            path=self.path or None,
            line=self.line,
            column=self.column + at,
            hint=None,
            expression=self.text,
            **facts,
        )


@dataclass(frozen=True, slots=True)
class Number:
    """A literal; dimensionless, except that 0 fits every unit."""

    value: float
    at: int = 0


@dataclass(frozen=True, slots=True)
class Name:
    """A state, input, parameter or definition."""

    name: str
    at: int = 0


@dataclass(frozen=True, slots=True)
class Op:
    """One operation of the op-list: add sub mul div min max take two arguments, neg abs sqrt take one."""

    name: str
    args: tuple[Expr, ...]
    at: int = 0


Expr = Number | Name | Op


def nearest(name: str, known: Iterable[str]) -> str:
    """`; the nearest is 'x'` for messages, empty when no known name is near."""
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; the nearest is {found[0]!r}" if found else ""


def parse(source: Source) -> Expr:
    """Reads one expression.

    Raises:
        ConfigError: EQUATION_INVALID with path, line, column and a caret.
    """
    if len(source.text) > EXPRESSION_MAX:
        source.fail(0, f"the expression is longer than {EXPRESSION_MAX} characters")
    if not source.text.isascii():
        at = next(i for i, c in enumerate(source.text) if ord(c) > 127)
        source.fail(at, f"character {source.text[at]!r} is not allowed; names are ASCII")
    if "\n" in source.text or "\r" in source.text:
        source.fail(0, "the expression must stand on one line")
    try:
        tree = ast.parse(source.text.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        # Offset 0 is what the parser says at the end of the text.
        offset = getattr(error, "offset", None) or len(source.text) + 1
        at = min(offset - 1 + len(source.text) - len(source.text.lstrip()), len(source.text))
        source.fail(at, f"the expression cannot be read: {getattr(error, 'msg', 'too deep')}")
    indent = len(source.text) - len(source.text.lstrip())
    return _Walker(source, indent).expression(tree.body, 0)


def _size(expr: Expr) -> int:
    return 1 + sum(map(_size, expr.args)) if isinstance(expr, Op) else 1


class _Walker:
    """Turns the nodes of `ast` into ours, one kind at a time."""

    def __init__(self, source: Source, indent: int) -> None:
        self._source = source
        self._indent = indent

    def _at(self, node: ast.expr) -> int:
        return self._indent + node.col_offset

    def expression(self, node: ast.expr, depth: int) -> Expr:
        at = self._at(node)
        if depth > DEPTH_MAX:
            self._source.fail(at, f"the expression is nested deeper than {DEPTH_MAX}; split it with `define`")
        match node:
            case ast.Constant():
                return self._number(node)
            case ast.Name():
                return Name(node.id, at)
            case ast.UnaryOp(op=ast.USub() | ast.UAdd()):
                operand = self.expression(node.operand, depth + 1)
                return Op("neg", (operand,), at) if isinstance(node.op, ast.USub) else operand
            case ast.BinOp():
                return self._binary(node, depth)
            case ast.Call():
                return self._call(node, depth)
        return self._source.fail(at, f"{type(node).__name__} is not allowed; use + - * / ** sqrt abs min max")

    def _number(self, node: ast.Constant) -> Number:
        value = node.value
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            self._source.fail(self._at(node), f"{value!r} is no number")
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            self._source.fail(self._at(node), "the number is out of range")
        return Number(number, self._at(node))

    def _binary(self, node: ast.BinOp, depth: int) -> Expr:
        at = self._at(node)
        if isinstance(node.op, ast.Pow):
            return self._power(node, depth)
        name = _BINARY.get(type(node.op))
        if name is None:
            hint = "; write ** for powers" if isinstance(node.op, ast.BitXor) else ""
            self._source.fail(at, f"operator {type(node.op).__name__} is not allowed{hint}")
        return Op(name, (self.expression(node.left, depth + 1), self.expression(node.right, depth + 1)), at)

    def _power(self, node: ast.BinOp, depth: int) -> Expr:
        """x**k becomes multiplications, x**0.5 becomes sqrt: the step path holds no pow, whose bits differ by libm."""
        at = self._at(node)
        base = self.expression(node.left, depth + 1)
        exponent = node.right.value if isinstance(node.right, ast.Constant) else None
        if exponent == 0.5:
            return Op("sqrt", (base,), at)
        if isinstance(exponent, bool) or not isinstance(exponent, int) or not 1 <= exponent <= _POWER_MAX:
            self._source.fail(self._at(node.right), f"the exponent must be 0.5 or a whole number 1..{_POWER_MAX}")
        if exponent * _size(base) > NODES_MAX:
            self._source.fail(at, "the power unfolds into too many operations; split it with `define`")
        result = base
        for _ in range(exponent - 1):
            result = Op("mul", (result, base), at)
        return result

    def _call(self, node: ast.Call, depth: int) -> Expr:
        at = self._at(node)
        if not isinstance(node.func, ast.Name):
            self._source.fail(at, "only plain functions may be called")
        name = node.func.id
        if name not in _FUNCTIONS:
            self._source.fail(at, f"function {name!r} is unknown{nearest(name, _FUNCTIONS)}")
        if node.keywords or any(isinstance(a, ast.Starred) for a in node.args):
            self._source.fail(at, f"{name} takes plain arguments only")
        count = _FUNCTIONS[name]
        if len(node.args) < count or (count == 1 and len(node.args) > 1):
            self._source.fail(at, f"{name} takes {count} argument{'s' if count > 1 else ''}, {len(node.args)} given")
        args = [self.expression(a, depth + 1) for a in node.args]
        if count == 1:
            return Op(name, (args[0],), at)
        result = args[0]
        for arg in args[1:]:
            result = Op(name, (result, arg), at)
        return result
