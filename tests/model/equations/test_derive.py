"""Symbolic derivatives against differences, through every operation, definitions, tables and dense blocks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinmodel.equations.blocks import Block, Blocks, Table
from twinmodel.equations.derive import ZERO, jacobian
from twinmodel.equations.oplist import lower
from twinmodel.equations.parse import Dense, Name, Op, Source, parse
from twinmodel.kernel.vm_reference import run

TABLES = {
    "t": Table(np.array([-9.0, -1.0, 0.5, 2.0, 9.0]), np.array([0.0, 1.0, -1.0, 3.0, 2.0])),
    "m": Table(np.array([-9.0, 0.0, 9.0]), np.array([[0.0, 1.0], [2.0, -1.0], [1.0, 4.0]]), np.array([-9.0, 9.0])),
}
BLOCKS = Blocks(TABLES, {"w": Block(np.array([0.1, -0.2]), np.array([[1.0, 2.0, 0.0], [0.5, -1.0, 3.0]]))})
STATES = ["x", "y"]


def values(exprs, definitions, blocks, at):
    source = Source("x")
    names = [*STATES, "u"]
    lowered = lower([[(e, source) for e in exprs]], definitions, names, blocks)
    registers = [np.array([v]) for v in (*at, *lowered.consts)]
    registers += [np.zeros(1)] * (lowered.registers - len(registers))
    with np.errstate(all="ignore"):
        run(lowered.programs[0].code, registers, lowered.pool)
    return np.array([float(registers[r][0]) for r in lowered.programs[0].results])


def check(exprs, definitions, at, rel=1e-5):
    derived = jacobian(exprs, STATES, definitions, BLOCKS)
    found = values(derived.entries, derived.definitions, derived.blocks, at).reshape(len(exprs), 2)
    step = 1e-6
    for k in range(2):
        up, down = list(at), list(at)
        up[k] += step
        down[k] -= step
        slope = (values(exprs, definitions, BLOCKS, up) - values(exprs, definitions, BLOCKS, down)) / (2 * step)
        assert found[:, k] == pytest.approx(slope, rel=rel, abs=1e-6)


@pytest.mark.parametrize(
    "text",
    [
        "x*y - u/x", "-x + abs(-x)", "sqrt(x*x + y)", "exp(-x)*log(y)", "tanh(x*y)", "sin(x)*cos(y)",
        "x**2.3 + y**-1.5", "pow(x, y)", "min(x, y*y) + max(x*x, y)", "where(x < y, x*y, y - x)",
        "where(not x < y and u > 0, x*x, 3*y)",
        "lookup(t, x*y)", "lookup(m, x, y)*x", "lookup(m, u, y)", "u*u", "3.5", "x**3/(1 + y**0.5)",
    ],
)  # fmt: skip
def test_a_derivative_is_the_slope(text):
    for at in ((0.7, 1.3, 2.0), (2.4, 0.6, -1.0)):
        check([parse(Source(text))], {}, at)


def test_definitions_are_derived_through_and_those_that_do_not_move_cost_nothing():
    definitions = {"a": parse(Source("x*y + u")), "b": parse(Source("a*a")), "c": parse(Source("u*u"))}
    exprs = [parse(Source("b + c")), Name("c")]
    check(exprs, definitions, (0.7, 1.3, 2.0))
    derived = jacobian(exprs, STATES, definitions, Blocks())
    assert derived.entries[2:] == (ZERO, ZERO)
    assert not [name for name in derived.definitions if name.endswith("_c")]


def test_a_long_chain_of_definitions_grows_by_its_length_alone():
    definitions = {"d0": parse(Source("x*y"))}
    for i in range(120):
        definitions[f"d{i + 1}"] = parse(Source(f"0.5*d{i}*d{i} + 0.1*d{i}"))
    derived = jacobian([Name("d120")], STATES, definitions, Blocks())
    lowered = lower([[(e, Source("x")) for e in derived.entries]], derived.definitions, [*STATES, "u"], derived.blocks)
    assert len(lowered.programs[0].code) < 2000
    check([Name("d120")], definitions, (0.3, 0.4, 0.0))


def test_layers_of_dense_blocks_are_derived_as_dense_blocks():
    definitions = {}
    args = (Name("x"), Name("y"), Name("u"))
    for layer in range(2):
        rows = [Op("tanh", (Dense("w", args, j),)) for j in range(2)]
        definitions |= {f"__h{layer}_{j}": row for j, row in enumerate(rows)}
        args = (*(Name(f"__h{layer}_{j}") for j in range(2)), Name("u"))
    exprs = [Dense("w", args, 0), Dense("w", args, 1)]
    check(exprs, definitions, (0.3, -0.2, 0.5))
    derived = jacobian(exprs, STATES, definitions, BLOCKS)
    slopes = [block for name, block in derived.blocks.dense.items() if name != "w"]
    # The first layer moves at constant rates, the second by two of its three arguments.
    assert {block.weights.shape for block in slopes} == {(2, 2)}
    assert not any(block.bias.any() for block in slopes)


def test_arguments_of_a_block_that_move_at_constant_rates_become_its_bias():
    args = (Name("x"), parse(Source("x*y + x")), Name("y"))
    exprs = [Dense("w", args, 0), Dense("w", args, 1)]
    check(exprs, {}, (0.3, -0.2, 0.5))
    slopes = jacobian(exprs, STATES, {}, BLOCKS).blocks.dense
    assert [b.weights.shape for name, b in slopes.items() if name != "w"] == [(2, 1), (2, 1)]


_TREES = st.recursive(
    st.sampled_from(["x", "y", "u"]).map(Name),
    lambda inner: (
        st.tuples(st.sampled_from(["add", "sub", "mul"]), inner, inner).map(lambda t: Op(t[0], t[1:]))
        | st.tuples(st.sampled_from(["neg", "tanh", "sin", "cos"]), inner).map(lambda t: Op(t[0], t[1:]))
    ),
    max_leaves=12,
)


@given(_TREES, st.tuples(*[st.floats(-1.5, 1.5)] * 3))
def test_derivatives_of_any_smooth_expression_are_slopes(expr, at):
    check([expr], {}, at, rel=1e-3)
