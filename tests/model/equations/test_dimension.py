"""Unit check of expressions: what fits, what is converted, what is refused; pint agrees."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from twinmodel.equations.dimension import Axes, assign, check, rate_of
from twinmodel.equations.oplist import lower
from twinmodel.equations.parse import Name, Number, Op, Source, arguments, parse
from twinmodel.errors import ConfigError
from twinmodel.kernel.vm_reference import run
from twinmodel.units import BASES
from twinmodel.units import parse as unit

UNITS = {
    "h": unit("m"), "d": unit("mm"), "t": unit("s"), "k": unit("m^0.5/s"), "T": unit("degC"), "U": unit("degC"),
    "F": unit("degF"), "q": unit("m3/h"), "v": unit("l/s"), "n": unit(""), "p": unit("%"), "a": unit("deg"),
}  # fmt: skip


def value(text, target, **names):
    source = Source(text)
    expr = assign(check(parse(source), UNITS, source), unit(target), source)
    lowered = lower([[(expr, source)]], {}, list(names))
    registers = [*names.values(), *lowered.consts, *[0.0] * lowered.registers]
    run(lowered.programs[0].code, registers)
    return registers[lowered.programs[0].results[0]]


@pytest.mark.parametrize(
    ("text", "target"),
    [("k*sqrt(h)", "m/s"), ("max(h, 0)", "m"), ("h*h/t", "m2/s"), ("n + 1", ""), ("T - U", "K"), ("0", "m"),
     ("T + 2*(T - U)", "degC"), ("min(T, U)", "degC"), ("-h", "m"), ("abs(h)/h", "1"), ("exp(-t/t)", ""),
     ("log(h/h)", ""), ("h**2.2", "m^2.2"), ("pow(h, -2/3)*h**(2/3)", "1"), ("n**n", "1"), ("q*h/q", "m"),
     ("where(h < 0, -h, h)", "m"), ("where(T > U, T, U)", "degC"), ("where(n < 1 and t > 0, 1, n)", ""),
     ("h**1.5", "m^1.5"), ("sin(n)*tanh(n) + cos(n)", "1")],
)  # fmt: skip
def test_expressions_that_fit_pass_unchanged(text, target):
    source = Source(text)
    expr = parse(source)
    assert assign(check(expr, UNITS, source), unit(target), source) == expr


@pytest.mark.parametrize(
    ("text", "target", "names", "expected"),
    [
        ("h + d", "m", {"h": 1.0, "d": 500.0}, 1.5),
        ("h + d", "mm", {"h": 1.0, "d": 500.0}, 1500.0),
        ("q + v", "m3/h", {"q": 1.0, "v": 1.0}, 4.6),
        ("max(q, v)", "l/s", {"q": 3.6, "v": 0.5}, 1.0),
        ("T - F", "K", {"T": 20.0, "F": 32.0}, 20.0),
        ("F", "degC", {"F": 212.0}, 100.0),
    ],
)
def test_scales_are_converted_where_only_they_differ(text, target, names, expected):
    assert value(text, target, **names) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("text", "target", "message"),
    [
        ("h + t", "m", "\\+ of m and s"), ("h + 1", "m", "\\+ of m and 1"), ("h*t", "m", "value has unit m s"),
        ("hh + h", "m", "name 'hh' is unknown; the nearest is 'h'"), ("T*2", "degC", "use a difference"),
        ("T + U", "degC", "\\+ of two values"), ("sqrt(T)", "K^0.5", "use a difference"), ("h/0", "m", "division by 0"),
        ("T", "K", "with its own zero"), ("max(T, 0)", "degC", "0 has no meaning"), ("n - T", "degC", "of 1 and K"),
        ("exp(h)", "", "exp takes 1, but the value has unit m"), ("log(T)", "", "use a difference"),
        ("h**n", "m", "needs a constant exponent"), ("n**h", "1", "exponent of pow takes 1, but the value has unit m"),
        ("h**3.14159265", "m", "no simple fraction"), ("h**99.5", "m", "no simple fraction"),
        ("where(h < t, h, h)", "m", "comparison of m and s"), ("where(h < d, h, t)", "m", "where of m and s"),
        ("where(T < 0, T, U)", "degC", "0 has no meaning"), ("lookup(curv, h)", "m", "'curv' is unknown"),
        ("max(T, T - U)", "degC", "max of K"), ("(T-U) + T", "degC", "first, then the difference"),
    ],
)  # fmt: skip
def test_units_that_do_not_fit_are_refused(text, target, message):
    source = Source(text)
    with pytest.raises(ConfigError, match=message) as caught:
        assign(check(parse(source), UNITS, source), unit(target), source)
    assert caught.value.reason == "EQUATION_INVALID"


def test_plain_numbers_are_taken_by_functions_and_angles_in_radian():
    source = Source("sin(a) + exp(p) + p**1.25")
    checked = check(parse(source), UNITS, source)
    assert checked.unit == unit("")
    factors = sorted(found(checked.expr))
    assert factors == pytest.approx([0.01, 0.01, 0.017453292519943295, 1.25])


def found(expr):
    return [expr.value] if isinstance(expr, Number) else [v for a in arguments(expr) for v in found(a)]


CURVE = {"curve": Axes((unit("m3/h"),), unit("m")), "map": Axes((unit("degC"), unit("m")), unit("%"))}


def test_a_table_takes_its_own_units_and_gives_them():
    source = Source("lookup(curve, v) + d")
    expr = assign(check(parse(source), UNITS, source, CURVE), unit("m"), source)
    assert found(expr) == pytest.approx([3.6, 0.001])
    source = Source("lookup(map, F, h)")
    assert check(parse(source), UNITS, source, CURVE).unit == unit("%")


@pytest.mark.parametrize(
    ("text", "message"),
    [("lookup(curve, h)", "table curve takes"), ("lookup(curve, v, h)", "has 1 coordinates, 2 given"),
     ("lookup(map, T - U, h)", "with its own zero"),
     ("lookup(curv, v)", "table 'curv' is unknown; the nearest is 'curve'")],
)  # fmt: skip
def test_a_table_refuses_what_its_coordinates_are_not(text, message):
    source = Source(text)
    with pytest.raises(ConfigError, match=message):
        check(parse(source), UNITS, source, CURVE)


def test_a_rate_of_temperature_is_a_difference_per_second():
    assert rate_of(unit("degC")) == unit("K/s")


def _grown(parts):
    name, a, b = parts
    if name in {"sqrt", "neg"}:
        return Op(name, (a,))
    if name == "tanh":
        # A quotient, so that it often is a plain number.
        return Op(name, (Op("div", (a, b)),))
    if name == "pow":
        return Op(name, (a, Number(1.5)))
    return Op("select", (Op("less", (a, b)), a, b)) if name == "select" else Op(name, (a, b))


_LEAVES = st.sampled_from(["h", "d", "t", "k", "q", "v", "p"]).map(Name)
_NAMES = ["add", "sub", "mul", "div", "max", "less", "select", "sqrt", "tanh", "pow", "neg"]
_TREES = st.recursive(
    _LEAVES,
    lambda inner: st.tuples(st.sampled_from(_NAMES), inner, inner).map(_grown),
    max_leaves=8,
)
_THEIRS = {"h": "m", "d": "mm", "t": "s", "k": "m**0.5/s", "q": "m**3/h", "v": "l/s", "p": "percent"}


@functools.cache
def _registry():
    """Those of pint; it takes a second to import and to fill, and every worker reads this file."""
    import pint

    return pint.UnitRegistry()


def _with_pint(expr):
    if isinstance(expr, Name):
        return _registry().Quantity(2.0, _THEIRS[expr.name])
    if isinstance(expr, Number):
        return expr.value
    args = [_with_pint(a) for a in expr.args]
    a, b = args[0], args[-1]
    table = {
        "add": lambda: a + b, "sub": lambda: a - b, "mul": lambda: a * b, "div": lambda: a / b, "neg": lambda: -a,
        "max": lambda: max(a, b), "less": lambda: _registry().Quantity(float(a < b)), "sqrt": lambda: abs(a) ** 0.5,
        "select": lambda: args[1] if a > 0 else args[1] + b - b, "pow": lambda: abs(a) ** b,
        "tanh": lambda: _registry().Quantity(float(np.tanh(a.to("").magnitude))),
    }  # fmt: skip
    return table[expr.name]()


@given(_TREES)
def test_pint_accepts_and_refuses_the_same_expressions(expr):
    import pint

    source = Source("x")
    try:
        theirs = _with_pint(expr)
    except pint.DimensionalityError:
        theirs = None
    except (ZeroDivisionError, OverflowError):
        assume(False)
    try:
        ours = check(expr, UNITS, source)
    except ConfigError:
        ours = None
    assert (ours is None) == (theirs is None)
    if ours is not None:
        base = (1 * theirs.units).to_base_units()
        powers = dict(base.unit_items())
        assert dict(zip(BASES, map(float, ours.unit.dimension), strict=True)) == pytest.approx(
            {name: float(powers.get(full, 0)) for name, full in zip(BASES, _FULL, strict=True)}
        )


_FULL = ("meter", "kilogram", "second", "ampere", "kelvin", "mole", "candela")


@given(_TREES.filter(lambda t: isinstance(t, Op)), st.tuples(*[st.floats(0.5, 4.0)] * 7))
def test_the_number_we_compute_is_the_one_pint_computes(expr, numbers):
    names = dict(zip(_THEIRS, numbers, strict=True))
    source = Source("x")
    try:
        checked = check(expr, UNITS, source)
    except ConfigError:
        assume(False)
    assert checked.unit.scale > 0
    expected = _numeric(expr, names)
    assume(expected is not None and np.isfinite(expected) and abs(expected) < 1e200)
    lowered = lower([[(checked.expr, source)]], {}, list(names))
    registers = [np.array([v]) for v in (*names.values(), *lowered.consts)]
    registers += [np.zeros(1)] * (lowered.registers - len(registers))
    with np.errstate(all="ignore"):
        run(lowered.programs[0].code, registers)
    found = float(registers[lowered.programs[0].results[0]][0]) * checked.unit.scale
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-12)


def _numeric(expr, names):
    """The value in SI units, computed with every leaf in SI."""
    if isinstance(expr, Name):
        return names[expr.name] * UNITS[expr.name].scale
    if isinstance(expr, Number):
        return expr.value
    x = [_numeric(a, names) for a in expr.args]
    if any(v is None for v in x):
        return None
    a, b = x[0], x[-1]
    # Where rounding decides, nothing is said.
    if expr.name in {"max", "less", "select", "sub"} and abs(a - b) <= 1e-9 * (abs(a) + abs(b)):
        return None
    if (expr.name == "div" and b == 0) or (expr.name in {"sqrt", "pow"} and a <= 0):
        return None
    table = {"add": lambda: a + b, "sub": lambda: a - b, "mul": lambda: a * b, "div": lambda: a / b, "neg": lambda: -a,
             "max": lambda: max(a, b), "less": lambda: float(a < b), "sqrt": lambda: a**0.5, "pow": lambda: a**b,
             "select": lambda: x[1] if a > 0 else x[2], "tanh": lambda: float(np.tanh(a))}  # fmt: skip
    return table[expr.name]()


_WORDS = ["h", "d", "T", "F", "p", "a", "n", "t", "exp(", "sin(", "sqrt(", "pow(", "max(", "where(", "lookup(curve, ",
          "lookup(map, ",
          "(", ")", ")", ", ", " < ", " >= ", " + ", " - ", "*", "/", "**", "0", "0.5", "-8", "1e300", "2"]  # fmt: skip


@given(st.lists(st.sampled_from(_WORDS), max_size=14).map("".join))
def test_no_text_makes_the_check_fail_otherwise(text):
    source = Source(text)
    reasons = set()
    try:
        assign(check(parse(source), UNITS, source, CURVE), unit("m"), source)
    except ConfigError as error:
        reasons.add(error.reason)
    assert reasons <= {"EQUATION_INVALID"}


@pytest.mark.parametrize("text", ["((d**8)**8)**8", "1/((d**8)**8)**8", "((d**8)**8)**-7", "((d**8)**11.3)**11.7"])
def test_a_unit_beyond_all_numbers_is_refused(text):
    source = Source(text)
    with pytest.raises(ConfigError, match="out of range"):
        check(parse(source), UNITS, source)
