"""Symbolic derivatives of checked expressions: the Jacobian that stiffness is judged by and `ros2` integrates with.

Derivatives of definitions become definitions of their own, so that the result grows with the model and not with the
ways through it. Kinks take the side the operation itself takes; tables take a central difference so narrow that only
a point of the table lies within: `ros2` keeps its order whatever the Jacobian is (Rang and Angermann 2005, W-methods).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from twinmodel.equations.blocks import Block, Blocks, Table
from twinmodel.equations.parse import Dense, Expr, Lookup, Name, Number, Op, constant

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
        blocks: those handed in, and the same weights without bias.
    """

    entries: tuple[Expr, ...]
    definitions: dict[str, Expr]
    blocks: Blocks


def jacobian(rates: Sequence[Expr], states: Sequence[str], definitions: Mapping[str, Expr], blocks: Blocks) -> Jacobian:
    """Derives each expression by each state; names that are neither state nor definition are constants."""
    every, dense = dict(definitions), dict(blocks.dense)
    columns = []
    for state in states:
        derivation = _Derivation(state, definitions, every, blocks.tables, dense)
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
        # Parts are known by identity; they live as long as the expressions handed in.
        self._known: dict[int, Expr] = {}

    def of(self, expr: Expr) -> Expr:
        if id(expr) not in self._known:
            self._known[id(expr)] = self._derive(expr)
        return self._known[id(expr)]

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
        inner = tuple(self.of(a) for a in expr.args)
        row = self._dense[expr.block].weights[expr.index]
        moving = [(float(weight), arg) for weight, arg in zip(row, inner, strict=True) if arg != ZERO]
        if all(isinstance(arg, Number) for _, arg in moving):
            total = 0.0
            for weight, arg in moving:
                total += weight * (constant(arg) or 0.0)
            return Number(total)
        name = expr.block if expr.block.startswith(_SLOPE) else _SLOPE + expr.block
        if name not in self._dense:
            block = self._dense[expr.block]
            self._dense[name] = Block(np.zeros_like(block.bias), block.weights)
        return Dense(name, inner, expr.index)


def _operation(expr: Op, inner: Sequence[Expr]) -> Expr:
    """The chain rule of one operation, given the derivatives of its arguments."""
    name, args = expr.name, expr.args
    if name == "less" or all(d == ZERO for d in inner):
        return ZERO
    if name in {"add", "sub"}:
        return add(inner[0], inner[1]) if name == "add" else subtract(inner[0], inner[1])
    if name in {"min", "max"}:
        first = (args[0], args[1]) if name == "min" else (args[1], args[0])
        return _choose(Op("less", first), inner[0], inner[1])
    if name == "select":
        return _choose(args[0], inner[1], inner[2])
    if name == "mul":
        return add(multiply(inner[0], args[1]), multiply(args[0], inner[1]))
    if name == "div":
        return divide(subtract(inner[0], multiply(expr, inner[1])), args[1])
    if name == "pow":
        return _power(expr, inner)
    return _function(expr, inner[0])


def _function(expr: Op, inner: Expr) -> Expr:
    """Operations of one argument."""
    (x,) = expr.args
    match expr.name:
        case "neg":
            return negate(inner)
        case "abs":
            return _choose(Op("less", (x, ZERO)), negate(inner), inner)
        case "sqrt":
            return divide(multiply(Number(0.5), inner), expr)
        case "exp":
            return multiply(expr, inner)
        case "log":
            return divide(inner, x)
        case "tanh":
            return multiply(Op("sub", (ONE, Op("mul", (expr, expr)))), inner)
        case "sin":
            return multiply(Op("cos", (x,)), inner)
        case "cos":
            return negate(multiply(Op("sin", (x,)), inner))
    raise AssertionError(expr.name)


def _power(expr: Op, inner: Sequence[Expr]) -> Expr:
    base, exponent = expr.args
    value = constant(exponent)
    if value is not None:
        return multiply(multiply(Number(value), Op("pow", (base, Number(value - 1.0)))), inner[0])
    growth = add(multiply(inner[1], Op("log", (base,))), divide(multiply(exponent, inner[0]), base))
    return multiply(expr, growth)


def _choose(condition: Expr, chosen: Expr, other: Expr) -> Expr:
    return chosen if chosen == other else Op("select", (condition, chosen, other))


def add(a: Expr, b: Expr) -> Expr:
    """a + b without sums of nothing."""
    if a == ZERO:
        return b
    return a if b == ZERO else Op("add", (a, b))


def subtract(a: Expr, b: Expr) -> Expr:
    """a - b without differences to nothing."""
    if a == ZERO:
        return negate(b)
    return a if b == ZERO else Op("sub", (a, b))


def multiply(a: Expr, b: Expr) -> Expr:
    """a * b without products by 0 or 1."""
    if ZERO in (a, b):
        return ZERO
    if a == ONE:
        return b
    return a if b == ONE else Op("mul", (a, b))


def divide(a: Expr, b: Expr) -> Expr:
    """a / b without quotients of nothing."""
    return ZERO if a == ZERO else Op("div", (a, b))


def negate(a: Expr) -> Expr:
    """-a."""
    return Number(-a.value) if isinstance(a, Number) else Op("neg", (a,))
