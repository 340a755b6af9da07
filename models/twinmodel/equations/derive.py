"""Symbolic derivatives of checked expressions: the Jacobian that stiffness is judged by and `ros2` integrates with.

Derivatives of definitions become definitions of their own, so that the result grows with the model and not with the
ways through it. Kinks take the side the operation itself takes; tables take a central difference so narrow that only
a point of the table lies within: `ros2` keeps its order whatever the Jacobian is (Rang and Angermann 2005, W-methods).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from twinmodel.equations.blocks import Block, Blocks, Table
from twinmodel.equations.parse import Dense, Expr, Lookup, Name, Number, Op, arguments, constant

ZERO: Final = Number(0.0)
ONE: Final = Number(1.0)
# Part of the narrowest distance of a table's points over which its slope is taken.
_NARROW: Final = 2.0**-12
_SLOPE: Final = "__slope_"


@dataclass(frozen=True, slots=True)
class Jacobian:
    """Derivatives of every rate by every state.

    Attributes:
        entries: row by row, n * n expressions.
        definitions: those handed in, and the derivatives of them that the entries name.
        blocks: those handed in, and the slopes of them.
    """

    entries: tuple[Expr, ...]
    definitions: dict[str, Expr]
    blocks: Blocks


def jacobian(rates: Sequence[Expr], states: Sequence[str], definitions: Mapping[str, Expr], blocks: Blocks) -> Jacobian:
    """Derives each expression by each state; names that are neither state nor definition are constants.

    Args:
        rates: checked expressions.
        states: what to derive by.
        definitions: values between, each needing only those before it.
        blocks: tables and weights.
    """
    every, dense = dict(definitions), dict(blocks.dense)
    columns = []
    for state in states:
        derivation = _Derivation(state, definitions, every, blocks.tables, dense)
        # One after the other, so that a long chain of definitions needs no deep stack.
        for name in definitions:
            derivation.of(Name(name))
        columns.append([derivation.of(rate) for rate in rates])
    entries = tuple(column[row] for row in range(len(rates)) for column in columns)
    return Jacobian(entries, every, Blocks(blocks.tables, dense))


class _Derivation:
    """Derivatives by one state, each part of an expression derived once."""

    def __init__(
        self,
        state: str,
        definitions: Mapping[str, Expr],
        every: dict[str, Expr],
        tables: Mapping[str, Table],
        dense: dict[str, Block],
    ) -> None:
        self._state = state
        self._definitions = definitions
        self._every = every
        self._tables = tables
        self._dense = dense
        self._named: dict[str, Expr] = {}
        self._slopes: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        # Parts are known by identity, and kept, so that no other part gets the same.
        self._known: dict[int, tuple[Expr, Expr]] = {}

    def of(self, expr: Expr) -> Expr:
        """The derivative; parts first, without recursion."""
        stack = [expr]
        while stack:
            part = stack[-1]
            below = [a for a in arguments(part) if id(a) not in self._known]
            if id(part) in self._known or not below:
                stack.pop()
                if id(part) not in self._known:
                    self._known[id(part)] = (part, self._derive(part))
            else:
                stack += below
        return self._known[id(expr)][1]

    def _derive(self, expr: Expr) -> Expr:
        match expr:
            case Number():
                return ZERO
            case Name(name):
                return self._name(name)
            case Lookup():
                return self._lookup(expr)
            case Dense():
                return self._block(expr)
            case Op():
                return _operation(expr, [self.of(a) for a in expr.args])

    def _name(self, name: str) -> Expr:
        if name not in self._definitions:
            return ONE if name == self._state else ZERO
        if name not in self._named:
            derived = self.of(self._definitions[name])
            if not isinstance(derived, Number | Name):
                key = f"__d_{self._state}_{name}"
                self._every[key] = derived
                derived = Name(key)
            self._named[name] = derived
        return self._named[name]

    def _lookup(self, expr: Lookup) -> Expr:
        total: Expr = ZERO
        for at, axis in enumerate(self._tables[expr.table].axes):
            inner = self.of(expr.args[at])
            if inner == ZERO:
                continue
            width = Number(float(np.min(np.diff(axis))) * _NARROW)
            sides = []
            for sign in ("add", "sub"):
                args = list(expr.args)
                args[at] = Op(sign, (expr.args[at], width))
                sides.append(Lookup(expr.table, tuple(args)))
            slope = Op("div", (Op("sub", (sides[0], sides[1])), Number(2.0 * width.value)))
            total = add(total, multiply(slope, inner))
        return total

    def _block(self, expr: Dense) -> Expr:
        """Another dense block of the arguments that move; what they add by constant rates is its bias."""
        inner = [self.of(a) for a in expr.args]
        block = self._dense[expr.block]
        columns = [k for k, arg in enumerate(inner) if not isinstance(arg, Number)]
        bias = np.zeros_like(block.bias)
        for k, arg in enumerate(inner):
            if isinstance(arg, Number) and arg != ZERO:
                bias = bias + block.weights[:, k] * arg.value
        if not columns:
            return Number(float(bias[expr.index]))
        key = (expr.block, tuple(columns), bias.tobytes())
        if key not in self._slopes:
            self._slopes[key] = f"{_SLOPE}{len(self._dense)}"
            self._dense[self._slopes[key]] = Block(bias, np.ascontiguousarray(block.weights[:, columns]))
        return Dense(self._slopes[key], tuple(inner[k] for k in columns), expr.index)


def _operation(expr: Op, inner: Sequence[Expr]) -> Expr:
    """The chain rule of one operation, given the derivatives of its arguments."""
    if expr.name == "less" or all(d == ZERO for d in inner):
        return ZERO
    if len(expr.args) == 1:
        return _FUNCTIONS[expr.name](expr, expr.args[0], inner[0])
    if expr.name == "select":
        return _choose(expr.args[0], inner[1], inner[2])
    return _BINARY[expr.name](expr, inner)


def _minimum(expr: Op, inner: Sequence[Expr]) -> Expr:
    first = expr.args if expr.name == "min" else expr.args[::-1]
    return _choose(Op("less", first), inner[0], inner[1])


def _power(expr: Op, inner: Sequence[Expr]) -> Expr:
    base, exponent = expr.args
    value = constant(exponent)
    if value is not None:
        return multiply(multiply(Number(value), Op("pow", (base, Number(value - 1.0)))), inner[0])
    growth = add(multiply(inner[1], Op("log", (base,))), divide(multiply(exponent, inner[0]), base))
    return multiply(expr, growth)


def _choose(condition: Expr, chosen: Expr, other: Expr) -> Expr:
    same = chosen is other or (isinstance(chosen, Number) and chosen == other)
    return chosen if same else Op("select", (condition, chosen, other))


def add(a: Expr, b: Expr) -> Expr:
    """The sum, without adding nothing."""
    if a == ZERO:
        return b
    return a if b == ZERO else Op("add", (a, b))


def subtract(a: Expr, b: Expr) -> Expr:
    """The difference, without subtracting nothing."""
    if a == ZERO:
        return negate(b)
    return a if b == ZERO else Op("sub", (a, b))


def multiply(a: Expr, b: Expr) -> Expr:
    """The product, without factors 0 or 1."""
    if ZERO in (a, b):
        return ZERO
    if a == ONE:
        return b
    return a if b == ONE else Op("mul", (a, b))


def divide(a: Expr, b: Expr) -> Expr:
    """The quotient, without dividing nothing."""
    return ZERO if a == ZERO else Op("div", (a, b))


def negate(a: Expr) -> Expr:
    """The negative, of a literal at once."""
    return Number(-a.value) if isinstance(a, Number) else Op("neg", (a,))


# The operation, its argument and the derivative of that.
_FUNCTIONS: Final[dict[str, Callable[[Op, Expr, Expr], Expr]]] = {
    "neg": lambda _, __, dx: negate(dx),
    "abs": lambda _, x, dx: _choose(Op("less", (x, ZERO)), negate(dx), dx),
    "sqrt": lambda y, _, dx: divide(multiply(Number(0.5), dx), y),
    "exp": lambda y, _, dx: multiply(y, dx),
    "log": lambda _, x, dx: divide(dx, x),
    "tanh": lambda y, _, dx: multiply(Op("sub", (ONE, Op("mul", (y, y)))), dx),
    "sin": lambda _, x, dx: multiply(Op("cos", (x,)), dx),
    "cos": lambda _, x, dx: negate(multiply(Op("sin", (x,)), dx)),
}
# The operation and the derivatives of its two arguments.
_BINARY: Final[dict[str, Callable[[Op, Sequence[Expr]], Expr]]] = {
    "add": lambda _, d: add(d[0], d[1]),
    "sub": lambda _, d: subtract(d[0], d[1]),
    "mul": lambda y, d: add(multiply(d[0], y.args[1]), multiply(y.args[0], d[1])),
    "div": lambda y, d: divide(subtract(d[0], multiply(y, d[1])), y.args[1]),
    "min": _minimum,
    "max": _minimum,
    "pow": _power,
}
