"""Exact extraction of matrices from equations that are linear in states and inputs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from twinmodel.equations.parse import Expr, Name, Number, Op, Source, names
from twinmodel.kernel.ops import COLUMNS, OPCODES
from twinmodel.kernel.vm_reference import run

Row = NDArray[np.float64]


def extract(
    groups: Sequence[tuple[Expr, Source]],
    definitions: Mapping[str, Expr],
    variables: Sequence[str],
    params: Mapping[str, float],
    places: Mapping[str, Source],
) -> NDArray[np.float64]:
    """Coefficients of each expression: columns are the variables, then the constant term.

    Args:
        groups: expressions with their places.
        definitions: values between, each needing only those before it.
        variables: states, then inputs.
        params: values of the constants.
        places: where the definitions stand.

    Raises:
        ConfigError: EQUATION_INVALID where an expression is not linear, with a caret at the operation.
    """
    columns = {name: i for i, name in enumerate(variables)}
    known: dict[str, Row] = {}
    needed = _needed([expr for expr, _ in groups], definitions)

    def row(expr: Expr, source: Source) -> Row:
        match expr:
            case Number(value):
                return _constant(value, len(columns))
            case Name(name) if name in definitions:
                return known[name]
            case Name(name) if name in params:
                return _constant(params[name], len(columns))
            case Name(name):
                result = np.zeros(len(columns) + 1)
                result[columns[name]] = 1.0
                return result
            case Op():
                return _combine(expr, [row(a, source) for a in expr.args], source)
        return source.fail(expr.at, "a table is not linear in states and inputs; use family: ode")

    # Definitions one after the other, so that a long chain of them needs no deep stack.
    for name, expr in definitions.items():
        if name in needed:
            known[name] = row(expr, places[name])
    return np.array([row(expr, source) for expr, source in groups])


def _needed(exprs: Sequence[Expr], definitions: Mapping[str, Expr]) -> set[str]:
    found: set[str] = set()
    waiting = [name for expr in exprs for name in names(expr)]
    while waiting:
        name = waiting.pop()
        if name in definitions and name not in found:
            found.add(name)
            waiting += names(definitions[name])
    return found


def _constant(value: float, width: int) -> Row:
    row = np.zeros(width + 1)
    row[-1] = value
    return row


def _combine(expr: Op, args: list[Row], source: Source) -> Row:
    constant = [not a[:-1].any() for a in args]
    row = _folded(expr.name, [float(a[-1]) for a in args], len(args[0])) if all(constant) else None
    if row is not None:
        return row
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
    if row is None and all(constant):
        source.fail(expr.at, f"{expr.name} of these constants has no finite value")
    if row is None and expr.name == "div" and constant[1]:
        source.fail(expr.at, "what it is divided by is 0")
    if row is None:
        source.fail(expr.at, f"{expr.name} is not linear in states and inputs here; use family: ode")
    return np.asarray(row)


def _folded(name: str, values: list[float], width: int) -> Row | None:
    """The finite value of an operation on constants alone, by the machine that would compute it at run time."""
    code = np.zeros((1, COLUMNS), np.int32)
    code[0, :2] = OPCODES[name], len(values)
    code[0, 2 : 2 + len(values)] = range(len(values))
    registers = [*(np.array([v]) for v in values), np.zeros(1)]
    with np.errstate(all="ignore"):
        run(code, registers)
    value = float(registers[-1][0])
    return _constant(value, width - 1) if math.isfinite(value) else None
