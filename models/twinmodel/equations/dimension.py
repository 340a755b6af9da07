"""Unit check of expressions; inserts the factors that turn m3/h into m3/s and refuses metres plus seconds.

Every name carries its declared unit and its value in that unit. Sums, minima and assignments need one dimension;
where only the scale differs, the conversion factor is written into the expression. Values of a scale with its
own zero (degC) may only be compared, subtracted (giving a difference) or shifted by a difference.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from twinmodel.equations.parse import Expr, Name, Number, Op, Source, nearest
from twinmodel.units import DIMENSIONLESS, SECOND, Unit

_SAME = 1e-12


@dataclass(frozen=True, slots=True)
class Checked:
    """An expression and the unit of its value; `unit` is None for a literal 0, which fits everywhere."""

    expr: Expr
    unit: Unit | None


def check(expr: Expr, units: Mapping[str, Unit], source: Source) -> Checked:
    """Checks one expression against the units of its names.

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
        case Op():
            args = tuple(check(a, units, source) for a in expr.args)
            return _operation(expr, args, source)


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


def _operation(expr: Op, args: tuple[Checked, ...], source: Source) -> Checked:
    name = expr.name
    if name in {"add", "sub", "min", "max"}:
        return _sum(expr, args[0], args[1], source)
    for arg in args:
        if arg.unit is not None and arg.unit.affine:
            source.fail(arg.expr.at, f"{name} of a value of {_name(arg.unit)}; use a difference of two such values")
    exprs = tuple(a.expr for a in args)
    rebuilt = Op(name, exprs, expr.at)
    units = [a.unit or DIMENSIONLESS for a in args]
    if name == "mul":
        return Checked(rebuilt, None if any(a.unit is None for a in args) else units[0] * units[1])
    if name == "div":
        if args[1].unit is None:
            source.fail(args[1].expr.at, "division by 0")
        return Checked(rebuilt, None if args[0].unit is None else units[0] / units[1])
    if name == "sqrt":
        return Checked(rebuilt, None if args[0].unit is None else units[0] ** Fraction(1, 2))
    return Checked(rebuilt, args[0].unit)


def _sum(expr: Op, left: Checked, right: Checked, source: Source) -> Checked:
    if left.unit is None or right.unit is None:
        unit = right.unit if left.unit is None else left.unit
        if unit is not None and unit.affine and expr.name != "add":
            source.fail(expr.at, f"0 has no meaning on the scale of {_name(unit)}")
        return Checked(Op(expr.name, (left.expr, right.expr), expr.at), unit)
    if left.unit.dimension != right.unit.dimension:
        verb = {"add": "+", "sub": "-"}.get(expr.name, expr.name)
        source.fail(right.expr.at, f"{verb} of {_name(left.unit)} and {_name(right.unit)}")
    unit, target = _zero(expr, left.unit, right.unit, source)
    return Checked(Op(expr.name, (left.expr, _convert(right.expr, right.unit, target)), expr.at), unit)


def _zero(expr: Op, left: Unit, right: Unit, source: Source) -> tuple[Unit, Unit]:
    """Unit of the result and unit the right side must have, by the rules of scales with their own zero."""
    if expr.name in {"min", "max"}:
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
