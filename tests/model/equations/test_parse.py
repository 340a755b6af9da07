"""Expressions: what is read, what is refused, and where the caret stands."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinmodel.equations.parse import EXPRESSION_MAX, Name, Number, Op, Source, parse
from twinmodel.errors import ConfigError


def test_an_expression_becomes_operations_with_places():
    assert parse(Source("-a + 2*b")) == Op(
        "add", (Op("neg", (Name("a", 1),), 0), Op("mul", (Number(2.0, 5), Name("b", 7)), 5)), 0
    )


def test_powers_become_products_and_roots():
    x = Name("x", 0)
    assert parse(Source("x**2")) == Op("mul", (x, x), 0)
    assert parse(Source("x**0.5")) == Op("sqrt", (x,), 0)


def test_max_of_three_becomes_two_operations():
    expr = parse(Source("max(a, b, c)"))
    assert expr.name == "max"
    assert expr.args[0].name == "max"


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        ("k1*sqr(h1)", 4, "function 'sqr' is unknown; the nearest is 'sqrt'"),
        ("a + b ^ 2", 1, "write \\*\\* for powers"),
        ("a + (b if c else d)", 6, "IfExp is not allowed"),
        ("a + x.y", 5, "Attribute is not allowed"),
        ("__import__('os').system('id')", 1, "only plain functions"),
        ("open('f')", 1, "function 'open' is unknown"),
        ("a + 'text'", 5, "is no number"),
        ("a + True", 5, "is no number"),
        ("a**b", 4, "exponent must be"),
        ("a**9", 4, "exponent must be"),
        ("a**-1", 4, "exponent must be"),
        ("sqrt(a, b)", 1, "takes 1 argument"),
        ("max(a)", 1, "takes 2 arguments"),
        ("max(*a)", 1, "plain arguments"),
        ("a + [b]", 5, "List is not allowed"),
        ("1e999", 1, "out of range"),
        ("a +", 4, "cannot be read"),
        ("a\n+ b", 1, "one line"),
        ("a + β", 5, "ASCII"),
        ("lambda: 1", 1, "Lambda is not allowed"),
        ("((((x**8)**8)**8)**8)**8", 2, "too many operations"),
    ],
)
def test_what_is_not_arithmetic_is_refused_with_a_caret(text, column, message):
    with pytest.raises(ConfigError, match=message) as caught:
        parse(Source(text, "h1'", "tank.yaml", 7, 11))
    error = caught.value
    assert error.reason == "EQUATION_INVALID"
    assert (error.facts["path"], error.facts["line"], error.facts["column"]) == ("tank.yaml", 7, 10 + column)
    assert str(error).startswith("tank.yaml:7:")
    lines = error.message.splitlines()
    assert lines[-1].index("^") == 4 + column - 1


def test_an_expression_beyond_the_limits_is_refused():
    for text in ("a+" * EXPRESSION_MAX + "a", "-" * 100 + "a", "(" * 300 + "a" + ")" * 300):
        with pytest.raises(ConfigError) as caught:
            parse(Source(text))
        assert caught.value.reason == "EQUATION_INVALID"


@given(st.text("abx0123456789.+-*/()^,' \t'", max_size=60))
def test_no_text_makes_the_parser_fail_otherwise(text):
    reasons = set()
    try:
        parse(Source(text))
    except ConfigError as error:
        reasons.add(error.reason)
    assert reasons <= {"EQUATION_INVALID"}
