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
DEPTH_MAX: Final = 100
NODES_MAX: Final = 4096
POWER_MAX: Final = 8
# Number of arguments; min and max take more.
FUNCTIONS: Final = {
    "sqrt": 1, "abs": 1, "exp": 1, "log": 1, "tanh": 1, "sin": 1, "cos": 1,
    "pow": 2, "min": 2, "max": 2, "where": 3, "lookup": 2,
}  # fmt: skip
_BINARY: Final[dict[type[ast.operator], str]] = {ast.Add: "add", ast.Sub: "sub", ast.Mult: "mul", ast.Div: "div"}
_VARIADIC: Final = frozenset({"min", "max"})
# Characters on each side of a caret that an error shows.
_SHOWN: Final = 100


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

    def fail(self, at: int, message: str, *, reason: str = "EQUATION_INVALID", **facts: str) -> NoReturn:
        """Raises EQUATION_INVALID with a caret under character `at` of the expression."""
        begin = max(0, at - _SHOWN)
        shown = self.text[begin : at + _SHOWN].replace("\n", " ")
        owner = f"{self.owner}: " if self.owner else ""
        raise ConfigError(
            reason,
            f"{owner}{message}\n    {shown}\n    {' ' * (at - begin)}^",
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
    """One operation of the op-list.

    Two arguments: add sub mul div min max pow less (1 where the first is below the second, else 0). One: neg abs sqrt
    exp log tanh sin cos. Three: select (the second where the first is above 0, else the third).
    """

    name: str
    args: tuple[Expr, ...]
    at: int = 0


@dataclass(frozen=True, slots=True)
class Lookup:
    """Value of a table of the model at one or two coordinates: linear between its points, held at the ends."""

    table: str
    args: tuple[Expr, ...]
    at: int = 0


@dataclass(frozen=True, slots=True)
class Dense:
    """Component `index` of bias + W · args, the bias and W of a named block; made by families, never written."""

    block: str
    args: tuple[Expr, ...]
    index: int
    at: int = 0


Expr = Number | Name | Op | Lookup | Dense


def nearest(name: str, known: Iterable[str]) -> str:
    """`; the nearest is 'x'` for messages, empty when no known name is near."""
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; the nearest is {found[0]!r}" if found else ""


def arguments(expr: Expr) -> tuple[Expr, ...]:
    """Direct parts of an expression, none for a number or a name."""
    return () if isinstance(expr, Number | Name) else expr.args


def names(expr: Expr) -> dict[str, int]:
    """Every name an expression reads, with the place of its first use; tables are not among them."""
    found: dict[str, int] = {}
    seen: set[int] = set()
    stack = [expr]
    while stack:
        part = stack.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        if isinstance(part, Name):
            found.setdefault(part.name, part.at)
        stack.extend(reversed(arguments(part)))
    return found


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


class _Walker:
    """Turns the nodes of `ast` into ours, one kind at a time, and counts what they unfold to."""

    def __init__(self, source: Source, indent: int) -> None:
        self._source = source
        self._indent = indent
        # Number of operations below each part, unfolded: powers repeat theirs.
        self._sizes: dict[int, int] = {}
        self._kept: list[Expr] = []

    def _at(self, node: ast.expr) -> int:
        return self._indent + node.col_offset

    def _sized(self, expr: Expr) -> Expr:
        size = 1 + sum(self._sizes.get(id(a), 1) for a in arguments(expr))
        if size > NODES_MAX:
            self._source.fail(expr.at, "the expression unfolds into too many operations; split it with `define`")
        # Kept alive, because the identity of a part is its key.
        self._kept.append(expr)
        self._sizes[id(expr)] = size
        return expr

    def _op(self, name: str, args: tuple[Expr, ...], at: int) -> Expr:
        return self._sized(Op(name, args, at))

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
                return self._op("neg", (operand,), at) if isinstance(node.op, ast.USub) else operand
            case ast.BinOp():
                return self._binary(node, depth)
            case ast.Call():
                return self._call(node, depth)
            case ast.Compare() | ast.BoolOp() | ast.UnaryOp(op=ast.Not()):
                self._source.fail(at, "a comparison is allowed only as the first argument of where(condition, a, b)")
        allowed = "+ - * / ** " + " ".join(FUNCTIONS)
        return self._source.fail(at, f"{type(node).__name__} is not allowed; use {allowed}")

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
            base = self.expression(node.left, depth + 1)
            return self._power(base, self.expression(node.right, depth + 1), at)
        name = _BINARY.get(type(node.op))
        if name is None:
            hint = "; write ** for powers" if isinstance(node.op, ast.BitXor) else ""
            self._source.fail(at, f"operator {type(node.op).__name__} is not allowed{hint}")
        return self._op(name, (self.expression(node.left, depth + 1), self.expression(node.right, depth + 1)), at)

    def _power(self, base: Expr, exponent: Expr, at: int) -> Expr:
        """Small whole exponents become products, halves a root beside them; what is left is `pow`, which costs more."""
        value = constant(exponent)
        if value is None or abs(value) > POWER_MAX or value % 0.5 or value == 0.0:
            return self._op("pow", (base, exponent if value is None else Number(value, exponent.at)), at)
        whole, root = int(abs(value)), abs(value) % 1.0 != 0.0
        factors = [base] * whole + ([self._op("sqrt", (base,), at)] if root else [])
        result = factors[0]
        for factor in factors[1:]:
            result = self._op("mul", (result, factor), at)
        return result if value > 0.0 else self._op("div", (Number(1.0, at), result), at)

    def _call(self, node: ast.Call, depth: int) -> Expr:
        at = self._at(node)
        if not isinstance(node.func, ast.Name):
            self._source.fail(at, "only plain functions may be called")
        name = node.func.id
        if name not in FUNCTIONS:
            self._source.fail(at, f"function {name!r} is unknown{nearest(name, FUNCTIONS)}")
        if node.keywords or any(isinstance(a, ast.Starred) for a in node.args):
            self._source.fail(at, f"{name} takes plain arguments only")
        count, given = FUNCTIONS[name], len(node.args)
        most = DEPTH_MAX - depth if name in _VARIADIC else count + (name == "lookup")
        if not count <= given <= most:
            span = str(count) if most == count else f"{count} to {most}"
            self._source.fail(at, f"{name} takes {span} argument{'s' if most > 1 else ''}, {given} given")
        if name == "where":
            return self._where(node, depth)
        if name == "lookup":
            return self._lookup(node, depth)
        args = [self.expression(a, depth + 1 + (given if name in _VARIADIC else 0)) for a in node.args]
        if name == "pow":
            return self._power(args[0], args[1], at)
        if count == 1:
            return self._op(name, (args[0],), at)
        result = args[0]
        for arg in args[1:]:
            result = self._op(name, (result, arg), at)
        return result

    def _lookup(self, node: ast.Call, depth: int) -> Expr:
        table = node.args[0]
        if not isinstance(table, ast.Name):
            self._source.fail(self._at(table), "the first argument of lookup is the name of a table")
        args = tuple(self.expression(a, depth + 1) for a in node.args[1:])
        return self._sized(Lookup(table.id, args, self._at(node)))

    def _where(self, node: ast.Call, depth: int) -> Expr:
        condition = self._condition(node.args[0], depth + 1)
        chosen, other = (self.expression(a, depth + 1) for a in node.args[1:])
        return self._op("select", (condition, chosen, other), self._at(node))

    def _condition(self, node: ast.expr, depth: int) -> Expr:
        """1.0 where a condition holds, else 0.0; `and` is a product, `or` a maximum."""
        at = self._at(node)
        if depth > DEPTH_MAX:
            self._source.fail(at, f"the expression is nested deeper than {DEPTH_MAX}; split it with `define`")
        match node:
            case ast.Compare():
                return self._comparison(node, depth)
            case ast.UnaryOp(op=ast.Not()):
                return self._not(self._condition(node.operand, depth + 1), at)
            case ast.BoolOp():
                name = "min" if isinstance(node.op, ast.And) else "max"
                below = depth + len(node.values)
                result, *others = [self._condition(value, below) for value in node.values]
                for other in others:
                    result = self._op(name, (result, other), at)
                return result
        return self._source.fail(at, "the first argument of where is a comparison: < <= > >=, and, or, not")

    def _comparison(self, node: ast.Compare, depth: int) -> Expr:
        below = depth + 1 + len(node.ops)
        values = [self.expression(v, below) for v in (node.left, *node.comparators)]
        parts: list[Expr] = []
        for op, left, right in zip(node.ops, values, values[1:], strict=False):
            at = left.at
            match op:
                case ast.Lt():
                    parts.append(self._op("less", (left, right), at))
                case ast.Gt():
                    parts.append(self._op("less", (right, left), at))
                case ast.LtE():
                    parts.append(self._not(self._op("less", (right, left), at), at))
                case ast.GtE():
                    parts.append(self._not(self._op("less", (left, right), at), at))
                case _:
                    self._source.fail(at, "only < <= > >= compare; two reals are never surely equal")
        result = parts[0]
        for part in parts[1:]:
            result = self._op("min", (result, part), part.at)
        return result

    def _not(self, condition: Expr, at: int) -> Expr:
        return self._op("select", (condition, Number(0.0, at), Number(1.0, at)), at)


def constant(expr: Expr) -> float | None:
    """The value of an expression of literals alone, such as `-2/3`; None for any other."""
    match expr:
        case Number(value):
            return value
        case Op("neg", (inner,)):
            value_in = constant(inner)
            return None if value_in is None else -value_in
        case Op("add" | "sub" | "mul" | "div" as name, (left, right)):
            a, b = constant(left), constant(right)
            if a is None or b is None or (name == "div" and b == 0.0):
                return None
            value = {"add": a + b, "sub": a - b, "mul": a * b, "div": a / b if b else 0.0}[name]
            return value if math.isfinite(value) else None
    return None
