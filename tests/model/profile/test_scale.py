"""Scales: numbers, decimal exponents and expressions over other points, exact and bounded."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinmodel.profile.scale import EXPONENT_MAX, TEXT_MAX, parse_scale, scaled


@pytest.mark.parametrize(
    ("text", "values", "factor"),
    [
        (0.1, {}, Fraction(1, 10)),
        (10, {}, Fraction(10)),
        ("0.001", {}, Fraction(1, 1000)),
        (".5", {}, Fraction(1, 2)),
        ("1e-3", {}, Fraction(1, 1000)),
        ("10^@sf", {"sf": -3}, Fraction(1, 1000)),
        ("10^@sf", {"sf": 2.0}, Fraction(100)),
        ("@ct_ratio * 0.001", {"ct_ratio": 40.0}, Fraction(1, 25)),
        ("@ct * @vt / 10", {"ct": 40, "vt": 100}, Fraction(400)),
        ("10 ^ (@a - 3)", {"a": 1}, Fraction(1, 100)),
        ("@a - 1", {"a": 4}, Fraction(3)),
        ("-@a", {"a": 0.1}, Fraction(-1, 10)),
        ("2^-3 + 1", {}, Fraction(9, 8)),
        ("-2^2", {}, Fraction(-4)),
        ("2^3^2", {}, Fraction(512)),
        ("6 / 3 / 2", {}, Fraction(1)),
        ("1 - 2 - 3", {}, Fraction(-4)),
        ("@phase.a-1", {"phase.a-1": 2}, Fraction(2)),
    ],
)
def test_a_scale_gives_its_exact_factor(text, values, factor):
    scale = parse_scale(text)
    assert scale.exact(values) == factor
    assert scale.factor(values) == float(factor)
    assert set(scale.points) == set(values)


def test_the_decimal_exponent_form_is_told_from_all_others():
    assert parse_scale("10^@sf").exponent == "sf"
    assert parse_scale(" 10 ^ @sf ").exponent == "sf"
    assert all(parse_scale(text).exponent is None for text in ("10^-1", "10^(@a - 1)", "2^@a", "10^@a * 2", 0.1))


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("10^@sf", {}),
        ("10^@sf", {"sf": math.nan}),
        ("10^@sf", {"sf": math.inf}),
        ("10^@sf", {"sf": 0.5}),
        ("10^@sf", {"sf": EXPONENT_MAX + 1}),
        ("1 / @a", {"a": 0}),
        ("@a ^ -1", {"a": 0}),
        ("@a ^ 20 ^ 1", {"a": 1e30}),
        ("@a * @b", {"a": 1.0}),
        ("@a", {"a": 1.34078079299426e154}),
    ],
)
def test_a_factor_that_is_not_known_or_out_of_range_is_nan(text, values):
    scale = parse_scale(text)
    assert scale.exact(values) is None
    assert math.isnan(scale.factor(values))


def test_integers_are_rounded_once():
    assert scaled(65496, parse_scale(0.1).exact({})) == 6549.6
    assert scaled(3, parse_scale("10^@sf").exact({"sf": -1})) == 0.3
    assert scaled(2.5, Fraction(2)) == 5.0


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "@", "10^", "10^@", "ten", "1 +", "(1", "1)", "1 2", "@a @b", "0", "1 - 1", "1/0", "0x10", "1,5"),
        *("__import__('os')", "1e99", "nan", "@a" + "+1" * TEXT_MAX, "(" * 40 + "1" + ")" * 40, "-" * 40 + "1"),
        "+".join(["@a"] * 30),
    ],
)
def test_what_is_no_scale_is_refused(text):
    with pytest.raises(ValueError, match=r"\S"):
        parse_scale(text)


@pytest.mark.parametrize("number", [0.0, math.nan, math.inf, -math.inf])
def test_a_number_that_scales_nothing_is_refused(number):
    with pytest.raises(ValueError, match="scale"):
        parse_scale(number)


@given(st.text("0123456789.@ab_-+*/^() eE", max_size=TEXT_MAX), st.floats(), st.integers())
def test_any_expression_has_a_bounded_factor_or_is_refused(text, a, b):
    try:
        scale = parse_scale(text)
    except ValueError:
        return
    factor = scale.exact(dict.fromkeys(scale.points, a) | {"b": b})
    assert factor is None or max(factor.numerator.bit_length(), factor.denominator.bit_length()) <= 512
    assert scale.exact(dict.fromkeys(scale.points, math.nan)) is None or not scale.points
