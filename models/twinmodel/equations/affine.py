"""Exact extraction of matrices from equations that are linear in states and inputs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from twinmodel.equations.parse import Expr, Name, Number, Op, Source

Row = NDArray[np.float64]


def extract(
    groups: Sequence[tuple[Expr, Source]],
    definitions: Mapping[str, Expr],
    variables: Sequence[str],
    params: Mapping[str, float],
) -> NDArray[np.float64]:
    """Coefficients of each expression: columns are the variables, then the constant term.

    Raises:
        ConfigError: EQUATION_INVALID where an expression is not linear, with a caret at the operation.
    """
    columns = {name: i for i, name in enumerate(variables)}
    known: dict[str, Row] = {}

    def row(expr: Expr, source: Source) -> Row:
        match expr:
            case Number(value):
                return _constant(value, len(columns))
            case Name(name) if name in definitions:
                if name not in known:
                    known[name] = row(definitions[name], source)
                return known[name]
            case Name(name) if name in params:
                return _constant(params[name], len(columns))
            case Name(name):
                result = np.zeros(len(columns) + 1)
                result[columns[name]] = 1.0
                return result
            case Op():
                return _combine(expr, [row(a, source) for a in expr.args], source)

    return np.array([row(expr, source) for expr, source in groups])


def _constant(value: float, width: int) -> Row:
    row = np.zeros(width + 1)
    row[-1] = value
    return row


def _combine(expr: Op, args: list[Row], source: Source) -> Row:
    constant = [not a[:-1].any() for a in args]
    row = _folded(expr.name, [float(a[-1]) for a in args], len(args[0])) if all(constant) else None
    if expr.name == "add":
        row = args[0] + args[1]
    elif expr.name == "sub":
        row = args[0] - args[1]
    elif expr.name == "neg":
        row = -args[0]
    elif expr.name == "mul" and any(constant):
        row = args[1] * args[0][-1] if constant[0] else args[0] * args[1][-1]
    elif expr.name == "div" and constant[1] and args[1][-1] != 0.0:
        row = args[0] / args[1][-1]
    if row is None:
        source.fail(expr.at, f"{expr.name} is not linear in states and inputs here; use family: ode")
    return np.asarray(row)


def _folded(name: str, values: list[float], width: int) -> Row | None:
    """The value of an operation on constants alone."""
    if name == "sqrt" and values[0] >= 0.0:
        return _constant(math.sqrt(values[0]), width - 1)
    table = {"abs": lambda: abs(values[0]), "min": lambda: min(values), "max": lambda: max(values)}
    return _constant(table[name](), width - 1) if name in table else None
