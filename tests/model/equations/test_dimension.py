"""Unit check of expressions: what fits, what is converted, what is refused; pint agrees."""

from __future__ import annotations

import pint
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from twinmodel.equations.dimension import Axes, assign, check, rate_of
from twinmodel.equations.oplist import lower
from twinmodel.equations.parse import Name, Number, Op, Source, arguments, parse
from twinmodel.errors import ConfigError
from twinmodel.kernel.vm_reference import run
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


_LEAVES = st.sampled_from(["h", "d", "t", "k", "q", "v"]).map(Name)
_TREES = st.recursive(
    _LEAVES,
    lambda inner: st.tuples(st.sampled_from(["add", "sub", "mul", "div"]), inner, inner).map(lambda t: Op(t[0], t[1:])),
    max_leaves=8,
)
_REGISTRY = pint.UnitRegistry()
_THEIRS = {"h": "m", "d": "mm", "t": "s", "k": "m**0.5/s", "q": "m**3/h", "v": "l/s"}


def _with_pint(expr):
    if isinstance(expr, Name):
        return _REGISTRY.Quantity(2.0, _THEIRS[expr.name])
    a, b = map(_with_pint, expr.args)
    return {"add": lambda: a + b, "sub": lambda: a - b, "mul": lambda: a * b, "div": lambda: a / b}[expr.name]()


@given(_TREES)
def test_pint_accepts_and_refuses_the_same_expressions(expr):
    source = Source("x")
    try:
        theirs = _with_pint(expr)
    except pint.DimensionalityError:
        theirs = None
    except ZeroDivisionError:
        assume(False)
    try:
        ours = check(expr, UNITS, source)
    except ConfigError:
        ours = None
    assert (ours is None) == (theirs is None)
    if ours is not None:
        base = (1 * theirs.units).to_base_units()
        assert ours.unit.scale == pytest.approx(base.magnitude, rel=1e-9)
