"""Unit check of expressions; inserts the factors that turn m3/h into m3/s and refuses metres plus seconds.

Every name carries its declared unit and its value in that unit. Sums, minima and assignments need one dimension;
where only the scale differs, the conversion factor is written into the expression. Values of a scale with its
own zero (degC) may only be compared, subtracted (giving a difference) or shifted by a difference.
exp, log, tanh, sin, cos and powers take plain numbers: per cent and degrees of angle are converted to 1 and radian.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from twinmodel.equations.parse import Dense, Expr, Lookup, Name, Number, Op, Source, constant, nearest
from twinmodel.units import DIMENSIONLESS, SECOND, Unit

_SAME = 1e-12
_SCALE_MAX = 1e100
_DENOMINATOR_MAX = 100
_EXPONENT_MAX = 12
_PLAIN = frozenset({"exp", "log", "tanh", "sin", "cos"})


@dataclass(frozen=True, slots=True)
class Axes:
    """Units of one table: of each coordinate, and of its values."""

    coordinates: tuple[Unit, ...]
    value: Unit


@dataclass(frozen=True, slots=True)
class Checked:
    """An expression and the unit of its value; `unit` is None for a literal 0, which fits everywhere."""

    expr: Expr
    unit: Unit | None


def check(expr: Expr, units: Mapping[str, Unit], source: Source, tables: Mapping[str, Axes] | None = None) -> Checked:
    """Checks one expression against the units of its names and tables.

    Raises:
        ConfigError: EQUATION_INVALID for an unknown name or units that do not fit.
    """
    match expr:
        case Number(value):
            return Checked(expr, None if value == 0.0 else DIMENSIONLESS)
        case Name(name, at):
            if name not in units:
                source.fail(at, f"name {name!r} is unknown{nearest(name, units)}", name=name)
            return Checked(expr, units[name])
        case Lookup():
            return _lookup(expr, tuple(check(a, units, source, tables) for a in expr.args), tables or {}, source)
        case Dense():
            return Checked(expr, DIMENSIONLESS)
        case Op():
            return _operation(expr, tuple(check(a, units, source, tables) for a in expr.args), source)


def assign(checked: Checked, target: Unit, source: Source) -> Expr:
    """The expression converted to the unit of what it defines."""
    if checked.unit is None:
        return checked.expr
    if checked.unit.dimension != target.dimension or checked.unit.affine != target.affine:
        source.fail(0, f"the value has unit {_name(checked.unit)}, but {_name(target)} is needed")
    return _convert(checked.expr, checked.unit, target)


def rate_of(unit: Unit) -> Unit:
    """Unit of the time derivative of a state: K/s for degC."""
    return unit.difference / SECOND


def _name(unit: Unit) -> str:
    return f"{unit} (with its own zero)" if unit.affine else str(unit)


def _convert(expr: Expr, origin: Unit, target: Unit) -> Expr:
    factor = origin.scale / target.scale
    if abs(factor - 1.0) > _SAME:
        expr = Op("mul", (expr, Number(factor)), expr.at)
    shift = (origin.offset - target.offset) / target.scale
    if abs(shift) > _SAME:
        expr = Op("add", (expr, Number(shift)), expr.at)
    return expr


def _lookup(expr: Lookup, args: tuple[Checked, ...], tables: Mapping[str, Axes], source: Source) -> Checked:
    if expr.table not in tables:
        source.fail(expr.at, f"table {expr.table!r} is unknown{nearest(expr.table, tables)}", name=expr.table)
    axes = tables[expr.table]
    if len(args) != len(axes.coordinates):
        source.fail(expr.at, f"table {expr.table} has {len(axes.coordinates)} coordinates, {len(args)} given")
    exprs = tuple(_fit(a, unit, source, f"table {expr.table}") for a, unit in zip(args, axes.coordinates, strict=True))
    return Checked(Lookup(expr.table, exprs, expr.at), axes.value)


def _fit(arg: Checked, target: Unit, source: Source, taker: str) -> Expr:
    """An argument in the unit its taker needs."""
    if arg.unit is None:
        return arg.expr
    if arg.unit.dimension != target.dimension or arg.unit.affine != target.affine:
        source.fail(arg.expr.at, f"{taker} takes {_name(target)}, but the value has unit {_name(arg.unit)}")
    return _convert(arg.expr, arg.unit, target)


def _power(expr: Op, base: Checked, exponent: Checked, source: Source) -> Checked:
    """A constant rational exponent raises the unit; any other base and exponent are plain numbers."""
    if base.unit is None:
        return Checked(Op("pow", (base.expr, _fit(exponent, DIMENSIONLESS, source, "pow")), expr.at), None)
    plain = _fit(exponent, DIMENSIONLESS, source, "the exponent of pow")
    value = constant(plain)
    if base.unit.dimension == DIMENSIONLESS.dimension:
        return Checked(Op("pow", (_fit(base, DIMENSIONLESS, source, "pow"), plain), expr.at), DIMENSIONLESS)
    if value is None:
        source.fail(expr.at, f"pow of {_name(base.unit)} needs a constant exponent; divide by a reference value first")
    fraction = Fraction(value).limit_denominator(_DENOMINATOR_MAX)
    if abs(float(fraction) - value) > _SAME * max(1.0, abs(value)) or abs(fraction) > _EXPONENT_MAX:
        source.fail(expr.at, f"the exponent {value:g} of {_name(base.unit)} is no simple fraction")
    try:
        unit = base.unit**fraction
    except ArithmeticError:
        unit = Unit(base.unit.dimension, math.inf)
    return Checked(Op("pow", (base.expr, plain), expr.at), _sound(unit, expr, source))


def _operation(expr: Op, args: tuple[Checked, ...], source: Source) -> Checked:
    name = expr.name
    if name in {"add", "sub", "min", "max", "less"}:
        return _sum(expr, args[0], args[1], source)
    if name == "select":
        chosen = _sum(Op("max", expr.args[1:], expr.at), args[1], args[2], source, shown="where")
        assert isinstance(chosen.expr, Op)
        return Checked(Op("select", (args[0].expr, *chosen.expr.args), expr.at), chosen.unit)
    for arg in args:
        if arg.unit is not None and arg.unit.affine:
            source.fail(arg.expr.at, f"{name} of a value of {_name(arg.unit)}; use a difference of two such values")
    if name in _PLAIN:
        return Checked(Op(name, (_fit(args[0], DIMENSIONLESS, source, name),), expr.at), DIMENSIONLESS)
    if name == "pow":
        return _power(expr, args[0], args[1], source)
    unit = _result(name, args, source)
    rebuilt = Op(name, tuple(a.expr for a in args), expr.at)
    return Checked(rebuilt, None if unit is None else _sound(unit, expr, source))


def _sound(unit: Unit, expr: Op, source: Source) -> Unit:
    """A unit whose scale is a number one can divide by."""
    if not 1 / _SCALE_MAX < unit.scale < _SCALE_MAX:
        source.fail(expr.at, f"the unit of {expr.name} is out of range")
    return unit


def _result(name: str, args: tuple[Checked, ...], source: Source) -> Unit | None:
    """Unit of a product, quotient, root, negation or absolute value."""
    units = [a.unit or DIMENSIONLESS for a in args]
    if name == "div" and args[1].unit is None:
        source.fail(args[1].expr.at, "division by 0")
    if any(a.unit is None for a in args):
        return None
    if name == "mul":
        return units[0] * units[1]
    if name == "div":
        return units[0] / units[1]
    return units[0] ** Fraction(1, 2) if name == "sqrt" else units[0]


def _sum(expr: Op, left: Checked, right: Checked, source: Source, shown: str = "") -> Checked:
    """Two values of one dimension; `shown` is what the file calls the operation."""
    if left.unit is None or right.unit is None:
        unit = right.unit if left.unit is None else left.unit
        if unit is not None and unit.affine and expr.name != "add":
            source.fail(expr.at, f"0 has no meaning on the scale of {_name(unit)}")
        result = DIMENSIONLESS if expr.name == "less" else unit
        return Checked(Op(expr.name, (left.expr, right.expr), expr.at), result)
    if left.unit.dimension != right.unit.dimension:
        verb = shown or {"add": "+", "sub": "-", "less": "comparison"}.get(expr.name, expr.name)
        source.fail(right.expr.at, f"{verb} of {_name(left.unit)} and {_name(right.unit)}")
    unit, target = _zero(expr, left.unit, right.unit, source)
    unit = DIMENSIONLESS if expr.name == "less" else unit
    return Checked(Op(expr.name, (left.expr, _convert(right.expr, right.unit, target)), expr.at), unit)


def _zero(expr: Op, left: Unit, right: Unit, source: Source) -> tuple[Unit, Unit]:
    """Unit of the result and unit the right side must have, by the rules of scales with their own zero."""
    if expr.name in {"min", "max", "less"}:
        if left.affine != right.affine:
            source.fail(expr.at, f"{expr.name} of {_name(left)} and {_name(right)}")
        return left, left
    if expr.name == "sub" and left.affine and right.affine:
        return left.difference, left
    if left.affine and not right.affine:
        return left, left.difference
    if right.affine:
        if expr.name == "add" and not left.affine:
            source.fail(expr.at, "write the value with its own zero first, then the difference")
        source.fail(expr.at, f"+ of two values of {_name(right)}; add a difference")
    return left, left
