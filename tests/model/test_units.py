"""Units: parsing, comparing, converting, against pint as an independent witness."""

from __future__ import annotations

import functools
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinmodel.errors import InputError
from twinmodel.units import BASES, DIMENSIONLESS, TEXT_MAX, convert, parse, same_dimension

# Ours on the left, pint's spelling on the right.
PAIRS = {
    "m": "m", "m^0.5/s": "m**0.5/s", "m3/h": "m**3/h", "kW": "kW", "1/min": "1/min", "m/(V s)": "m/(V*s)",
    "m/V/s": "m/V/s", "bar": "bar", "mbar": "mbar", "kPa": "kPa", "psi": "psi", "l/min": "l/min", "L/s": "l/s",
    "kg/m^3": "kg/m**3", "N/m^3": "N/m**3", "W/(m2 K)": "W/(m**2*K)", "J/(kg K)": "J/(kg*K)", "kWh": "kWh",
    "%": "percent", "mA": "mA", "Hz": "Hz", "t/h": "t/h", "MW": "MW", "ohm": "ohm", "uS/cm": "uS/cm", "ft": "ft",
    "in": "inch", "mm/s": "mm/s", "m/(m3/h)^2": "m/(m**3/h)**2", "Ah": "A*h", "d": "day", "deg": "degree",
    "Wb": "Wb", "T": "tesla", "H": "henry", "F": "farad", "C": "coulomb", "lb": "lb", "atm": "atm",
    "s^-1": "1/s", "kg.m/s2": "kg*m/s**2", "W/degC": "W/delta_degC", "ppm": "ppm", "mol/l": "mol/l",
}  # fmt: skip


@functools.cache
def registry():
    """Those of pint; it takes a second to import and to fill, and every worker reads this file."""
    import pint

    return pint.UnitRegistry()


@pytest.mark.parametrize("text", PAIRS)
def test_a_unit_has_the_dimension_and_scale_that_pint_gives_it(text):
    ours, theirs = parse(text), registry().parse_expression(PAIRS[text])
    base = (1 * theirs).to_base_units()
    names = {"meter": "m", "kilogram": "kg", "second": "s", "ampere": "A", "kelvin": "K", "mole": "mol"}
    names |= {"delta_degree_Celsius": "K", "candela": "cd"}
    powers = {names[k]: v for k, v in base.unit_items() if k != "radian"}
    assert dict.fromkeys(BASES, 0) | powers == pytest.approx(dict(zip(BASES, map(float, ours.dimension), strict=True)))
    assert ours.scale == pytest.approx(base.magnitude, rel=1e-12)


@pytest.mark.parametrize(("value", "a", "b"), [(20.0, "degC", "K"), (68.0, "degF", "degC"), (300.0, "K", "degF")])
def test_temperatures_convert_with_their_zero(value, a, b):
    theirs = registry().Quantity(value, a).to(b).magnitude
    assert convert(value, a, b) == pytest.approx(theirs)


def test_a_temperature_inside_a_product_is_a_difference():
    assert parse("degC").affine
    assert not parse("degC/s").affine
    assert parse("degC").difference == parse("K")


def test_units_that_print_differently_are_the_same():
    assert same_dimension("m/(V s)", "m/V/s")
    assert same_dimension("rpm", "1/min")
    assert parse("rpm").scale == pytest.approx(parse("1/min").scale)
    assert parse("") == parse("1") == parse("  ") == DIMENSIONLESS
    assert parse("m^0.5").dimension[0] == Fraction(1, 2)


def test_conversion_between_dimensions_is_refused():
    with pytest.raises(InputError, match="cannot become") as caught:
        convert(1.0, "m", "s")
    assert caught.value.reason == "UNIT_CLASH"
    assert convert(1.0, "m3/h", "l/min") == pytest.approx(1000 / 60)


@pytest.mark.parametrize(("text", "near"), [("kw", "kW"), ("degc", "degC"), ("rmp", "rpm"), ("mbr", "mbar")])
def test_a_misspelt_unit_names_the_nearest(text, near):
    with pytest.raises(InputError, match=f"nearest is '{near}'") as caught:
        parse(text)
    assert caught.value.reason == "UNIT_UNKNOWN"
    assert caught.value.facts["nearest"] == near


@pytest.mark.parametrize("text", ["m/", "(m", "m)", "m^", "m^99", "2m", "m//s", "$", "m^^2", "m^0.0001", "m" * 100])
def test_text_that_is_no_unit_is_refused(text):
    with pytest.raises(InputError) as caught:
        parse(text)
    assert caught.value.reason == "UNIT_UNKNOWN"


@given(st.text("mkgsAK/^*()0123456789.- %°µ", max_size=TEXT_MAX + 5))
def test_no_text_makes_the_parser_fail_otherwise(text):
    reasons = set()
    try:
        parse(text)
    except InputError as error:
        reasons.add(error.reason)
    assert reasons <= {"UNIT_UNKNOWN"}


@given(st.floats(-1e6, 1e6), st.sampled_from([("degC", "degF"), ("m3/h", "l/s"), ("kW", "W"), ("bar", "psi")]))
def test_converting_there_and_back_gives_the_value(value, pair):
    assert convert(convert(value, *pair), pair[1], pair[0]) == pytest.approx(value, abs=1e-6)
