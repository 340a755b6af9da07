"""Expressions: what is read, what is refused, and where the caret stands."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinmodel.equations.parse import EXPRESSION_MAX, Name, Number, Op, Source, names, parse
from twinmodel.errors import ConfigError


def test_an_expression_becomes_operations_with_places():
    assert parse(Source("-a + 2*b")) == Op(
        "add", (Op("neg", (Name("a", 1),), 0), Op("mul", (Number(2.0, 5), Name("b", 7)), 5)), 0
    )


def test_powers_become_products_and_roots():
    x = Name("x", 0)
    assert parse(Source("x**2")) == Op("mul", (x, x), 0)
    assert parse(Source("x**0.5")) == Op("sqrt", (x,), 0)


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("x**3", "x*x*x"), ("x**1.5", "x*sqrt(x)"), ("x**-1", "1.0/x"), ("x**-0.5", "1.0/sqrt(x)"),
        ("x**(1/2)", "sqrt(x)"), ("pow(x, 2)", "x*x"), ("x**9", "pow(x, 9)"), ("x**y", "pow(x, y)"),
        ("x**(-2/3)", "pow(x, -0.6666666666666666)"), ("where(x > y, x, y)", "where(y < x, x, y)"),
    ],
)  # fmt: skip
def test_powers_and_comparisons_have_one_form(text, same):
    assert shape(parse(Source(text))) == shape(parse(Source(same)))


def shape(expr):
    if isinstance(expr, Op):
        return (expr.name, *map(shape, expr.args))
    return expr.value if isinstance(expr, Number) else expr.name


def test_conditions_become_numbers_of_0_and_1():
    below = ("less", "x", "y")
    assert shape(parse(Source("where(x < y, 1, 2)"))) == ("select", below, 1.0, 2.0)
    assert shape(parse(Source("where(y <= x, 1, 2)"))) == ("select", ("select", below, 0.0, 1.0), 1.0, 2.0)
    both = ("min", below, ("less", "y", "z"))
    assert shape(parse(Source("where(x < y < z, 1, 2)"))) == ("select", both, 1.0, 2.0)
    assert shape(parse(Source("where(x < y and y < z, 1, 2)"))) == ("select", both, 1.0, 2.0)
    either = ("max", below, ("select", ("less", "z", "y"), 0.0, 1.0))
    assert shape(parse(Source("where(x < y or not y > z, 1, 2)"))) == ("select", either, 1.0, 2.0)


def test_names_are_found_once_with_their_first_place_and_tables_are_none():
    assert names(parse(Source("b + a*lookup(t, b)"))) == {"b": 0, "a": 4}


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
        ("a < b", 1, "only as the first argument of where"),
        ("a and b", 1, "only as the first argument of where"),
        ("where(a, 1, 2)", 7, "is a comparison"),
        ("where(a == b, 1, 2)", 7, "only < <= > >= compare"),
        ("where(a < b, 1)", 1, "takes 3 arguments, 2 given"),
        ("lookup(2, a)", 8, "the name of a table"),
        ("lookup(t, a, b, c)", 1, "takes 2 to 3 arguments, 4 given"),
        ("max(" + "a, " * 200 + "a)", 1, "201 given"),
        ("+".join(["((((x**8)**8)**8)**2)"] * 5), 1, "too many operations"),
        ("sqrt(a, b)", 1, "takes 1 argument"),
        ("max(a)", 1, "takes 2 to 100 arguments, 1 given"),
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
    for text in ("a+" * EXPRESSION_MAX + "a", "-" * 150 + "a", "(" * 300 + "a" + ")" * 300):
        with pytest.raises(ConfigError) as caught:
            parse(Source(text))
        assert caught.value.reason == "EQUATION_INVALID"


_WORDS = ["a", "b", "x", "exp", "where", "lookup", "pow", "max", "(", ")", ",", "<", ">=", "+", "-", "*", "/", "**",
          "not ", " and ", "0.5", "1e300", "8", " "]  # fmt: skip


@given(st.text("abx0123456789.+-*/()^,' \t'<>=", max_size=60) | st.lists(st.sampled_from(_WORDS)).map("".join))
def test_no_text_makes_the_parser_fail_otherwise(text):
    reasons = set()
    try:
        parse(Source(text))
    except ConfigError as error:
        reasons.add(error.reason)
    assert reasons <= {"EQUATION_INVALID"}
