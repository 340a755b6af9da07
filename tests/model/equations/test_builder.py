"""Models written in Python are the ones written in YAML; symbols give the text their operators mean."""

from __future__ import annotations

import runpy

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinmodel.equations import builder
from twinmodel.equations.builder import Model, cos, exp, log, maximum, minimum, sin, sqrt, tanh, where
from twinmodel.equations.compile import compile_model
from twinmodel.equations.parse import Number, Op, Source, parse
from twinmodel.equations.symbols import Symbol
from twinmodel.errors import ConfigError, InputError
from twinmodel.package.build import build, build_document


def test_two_tanks_in_python_are_the_package_of_the_yaml_byte_by_byte(plants):
    module = runpy.run_path(str(plants / "two_tanks.py"))
    assert build_document(module["two_tanks"]().document()) == build(plants / "two-tanks.yaml")


def test_the_yaml_of_a_model_in_python_gives_the_same_model(plants, tmp_path):
    model = runpy.run_path(str(plants / "two_tanks.py"))["two_tanks"]()
    (tmp_path / "m.yaml").write_text(model.yaml())
    assert build(tmp_path / "m.yaml") == build_document(model.document())


a, b, c = Symbol("a"), Symbol("b"), Symbol("c")


@pytest.mark.parametrize(
    ("symbol", "text"),
    [
        (a + b * c, "a + b*c"), ((a + b) * c, "(a + b)*c"), (a - (b - c), "a - (b - c)"), (a - b - c, "a - b - c"),
        (a / (b * c), "a/(b*c)"), (a / b * c, "a/b*c"), (-(a + b), "-(a + b)"), (-a * b, "-a*b"), (-(a**2), "-a**2.0"),
        ((-a) ** 2, "(-a)**2.0"), (a**b**c, "a**(b**c)"), (2 * a, "2.0*a"), (1 - a, "1.0 - a"), (1 / a, "1.0/a"),
        (a * -1.5, "a*-1.5"), (3 + a, "3.0 + a"), (2**a, "2.0**a"), (+abs(a - b), "abs(a - b)"),
        (sqrt(maximum(a, 0, b)), "sqrt(max(a, 0.0, b))"), (exp(-a) + log(b), "exp(-a) + log(b)"),
        (tanh(sin(a) * cos(b)), "tanh(sin(a)*cos(b))"), (minimum(a, b), "min(a, b)"),
        (where((a < b + 1) & ~(c >= 2) | (b > a), a, 0), "where(((a < b + 1.0 and (not c >= 2.0)) or b > a), a, 0.0)"),
        (where(a <= b, a, b), "where(a <= b, a, b)"),
    ],
)  # fmt: skip
def test_operators_give_the_text_they_mean(symbol, text):
    assert str(symbol) == text
    parse(Source(text))


def test_a_condition_has_no_value_of_its_own():
    with pytest.raises(TypeError, match="use where"):
        bool(a < b)
    with pytest.raises(TypeError, match="use where"):
        maximum(a, b if a < b else c)


_TREES = st.recursive(
    st.sampled_from("abc") | st.sampled_from([0.5, -2.0, 3.0]),
    lambda inner: st.tuples(st.sampled_from(["+", "-", "*", "/"]), inner, inner) | st.tuples(st.just("neg"), inner),
    max_leaves=12,
)


def _symbol(tree):
    if not isinstance(tree, tuple):
        return Symbol(tree) if isinstance(tree, str) else tree
    args = [_symbol(t) for t in tree[1:]]
    if not any(isinstance(x, Symbol) for x in args):
        args[0] = Symbol("a")
    if tree[0] == "neg":
        return -args[0]
    return {"+": lambda x, y: x + y, "-": lambda x, y: x - y, "*": lambda x, y: x * y, "/": lambda x, y: x / y}[
        tree[0]
    ](*args)


def _value(expr, names):
    if isinstance(expr, Number):
        return expr.value
    if not isinstance(expr, Op):
        return names[expr.name]
    x = [_value(arg, names) for arg in expr.args]
    return {"add": lambda: x[0] + x[1], "sub": lambda: x[0] - x[1], "mul": lambda: x[0] * x[1],
            "div": lambda: x[0] / x[1] if x[1] else np.nan, "neg": lambda: -x[0]}[expr.name]()  # fmt: skip


@given(_TREES.filter(lambda t: isinstance(t, tuple)))
def test_a_symbol_means_what_python_computes(tree):
    names = {"a": 1.25, "b": -0.75, "c": 2.5}
    symbol = _symbol(tree)

    def plain(t):
        if not isinstance(t, tuple):
            return (names[t], True) if isinstance(t, str) else (t, False)
        args = [plain(x) for x in t[1:]]
        if not any(moving for _, moving in args):
            args[0] = (names["a"], True)
        x = [v for v, _ in args]
        table = {"+": lambda: x[0] + x[1], "-": lambda: x[0] - x[1], "*": lambda: x[0] * x[1],
                 "/": lambda: x[0] / x[1] if x[1] else np.nan, "neg": lambda: -x[0]}  # fmt: skip
        return table[t[0]](), True

    found = _value(parse(Source(str(symbol))), names)
    assert found == pytest.approx(plain(tree)[0], nan_ok=True)


def test_every_family_can_be_written_in_python():
    m = Model("curve", version="1.0.0", family="lut", dt="1s")
    q = m.input("q", unit="m3/h", min=0, max=40)
    head = m.table("head_of", np.array([0, 20, 40]), np.array([32.0, 29, 12]), unit="m", x_unit="m3/h")
    eta = m.table("eta_of", [0, 40], [[0, 1], [1, 2]], [0, 1], x_unit="m3/h")
    m.output("head", head(q) + 0, min=0, max=40, unit="m")
    m.output("eta", eta(q, 0.5), min=0, max=1)
    m.noise(measurement={"head": 0.1, "eta": 0.1})
    assert compile_model(m.document()).integrator == "map"
    m = Model("narx", version="1.0.0", family="map", dt="1s")
    y0, y1 = m.state("y0", start=1), m.state("y1")
    mean = m.define("mean", (y0 + y1) / 2)
    m.next(y0, 0.5 * mean)
    m.next(y1, y0)
    m.output("y", y0)
    m.noise(measurement={"y": 0.1})
    assert compile_model(m.document()).integrator == "map"
    m = Model("net", version="1.0.0", family="mlp", dt="1s")
    m.input("u")
    m.part(
        "network",
        inputs=["u"],
        layers=[{"weights": np.ones((2, 1)), "bias": np.zeros(2)}, {"weights": [[1, 1]], "bias": [0]}],
    )
    m.output("y", min=0, max=1)
    m.noise(measurement={"y": 0.1})
    assert len(compile_model(m.document()).tensors["pool"]) == 7


def test_faults_are_told_with_the_line_of_the_text():
    m = Model("tank", version="1.0.0", family="ode", dt="1s")
    h = m.state("h", unit="m", start=1)
    with pytest.raises(InputError, match="given twice"):
        m.state("h")
    m.rate(h, h)
    m.output("y", h)
    m.noise(measurement={"y": 0.1})
    with pytest.raises(ConfigError, match="the value has unit m, but") as caught:
        compile_model(m.document())
    assert m.yaml().splitlines()[caught.value.facts["line"] - 1].strip() == "h': h"
    assert caught.value.facts["path"] == "<tank>"
    assert set(builder.__all__) >= {"Model", "where"}
