"""Op-lists compute what the expression says, with few registers, and unsafe ones are refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinmodel.equations.oplist import OPCODES, Program, lower, verify
from twinmodel.equations.parse import Name, Number, Op, Source, parse
from twinmodel.errors import ConfigError
from twinmodel.kernel.vm_reference import run

SOURCE = Source("x")
NAMES = ["a", "b", "c"]


def compute(groups, values, definitions=None):
    lowered = lower([[(e, SOURCE) for e in group] for group in groups], definitions or {}, NAMES)
    results = []
    pinned = len(NAMES) + len(lowered.consts)
    for program in lowered.programs:
        assert verify(program, pinned, lowered.registers) is None
        registers = [np.array([v]) for v in (*values, *lowered.consts)]
        registers += [np.array([np.nan])] * (lowered.registers - len(registers))
        with np.errstate(all="ignore"):
            run(program.code, registers)
        results.append([float(registers[r][0]) for r in program.results])
    return results, lowered


def plain(expr, values):
    if isinstance(expr, Number):
        return expr.value
    if isinstance(expr, Name):
        return values[NAMES.index(expr.name)]
    args = [plain(a, values) for a in expr.args]
    table = {
        "add": lambda a, b: a + b, "sub": lambda a, b: a - b, "mul": lambda a, b: a * b, "neg": lambda a: -a,
        "abs": abs, "min": lambda a, b: min(b, a), "max": lambda a, b: max(b, a),
    }  # fmt: skip
    return table[expr.name](*args)


_TREES = st.recursive(
    st.sampled_from(NAMES).map(Name) | st.sampled_from([0.5, 2.0, -3.0]).map(Number),
    lambda inner: (
        st.tuples(st.sampled_from(["add", "sub", "mul", "min", "max"]), inner, inner).map(lambda t: Op(t[0], t[1:]))
        | st.tuples(st.sampled_from(["neg", "abs"]), inner).map(lambda t: Op(t[0], t[1:]))
    ),
    max_leaves=25,
)
_VALUES = st.tuples(*[st.floats(-8, 8).map(lambda v: v or 0.25)] * 3)


@given(st.lists(_TREES, min_size=1, max_size=4), _VALUES)
def test_an_op_list_gives_the_value_of_its_expressions_whatever_registers_it_reuses(exprs, values):
    (found,), _ = compute([exprs], values)
    assert found == [plain(e, values) for e in exprs]


def test_equal_parts_are_computed_once_and_constants_folded():
    expr = parse(Source("sqrt(a*b) + sqrt(a*b)*(2*3 + sqrt(16))"))
    (found,), lowered = compute([[expr]], (2.0, 8.0, 0.0))
    assert found == [[44.0]][0]
    assert len(lowered.programs[0].code) == 4


def test_a_definition_named_twice_each_time_costs_one_operation():
    definitions = {"d0": parse(Source("a + b"))}
    for i in range(40):
        definitions[f"d{i + 1}"] = parse(Source(f"d{i} + d{i}"))
    (found,), lowered = compute([[Name("d40")]], (1.0, 0.0, 0.0), definitions)
    assert found == [2.0**40]
    assert len(lowered.programs[0].code) == 41


def test_a_long_sum_needs_two_temporaries():
    expr = parse(Source("a*b + b*c + a*c + a*a + b*b + c*c"))
    _, lowered = compute([[expr]], (1.0, 2.0, 3.0))
    assert lowered.registers <= len(NAMES) + 3


def test_a_division_by_a_constant_zero_is_left_to_run_time():
    expr = Op("div", (Number(1.0), Op("sub", (Number(1.0), Number(1.0)))))
    (found,), _ = compute([[expr]], (0.0, 0.0, 0.0))
    assert math.isinf(found[0])


def test_too_many_operations_are_refused():
    terms = [parse(Source(f"a*{i} + b*{i}.5")) for i in range(1, 1200)]
    with pytest.raises(ConfigError, match=r"operations|registers"):
        lower([[(t, SOURCE) for t in terms]], {}, NAMES)


@pytest.mark.parametrize(
    ("code", "results", "message"),
    [
        ([[99, 3, 0, 1]], [3], "unknown code"), ([[0, 2, 0, 1]], [2], "writes register"),
        ([[0, 7, 0, 1]], [3], "writes"),
        ([[0, 3, 4, 1]], [3], "holds nothing"), ([[0, 3, -1, 1]], [3], "holds nothing"),
        ([[0, 3, 0, 1]], [4], "result"),
        ([[0, 3, 0, 1]], [-1], "result"), ([[0, 3, 0, 1], [0, 3, 3, 1]], [3], "malformed"),
        ([[OPCODES["sqrt"], 3, 0, 1]], [3], "malformed"), ([[-1, 3, 0, 1]], [3], "unknown code"),
    ],
)  # fmt: skip
def test_a_program_that_would_leave_its_registers_is_refused(code, results, message):
    rows = np.array([row + [0] * (6 - len(row)) for row in code], np.int32)
    program = Program(rows, np.array(results, np.int32), 5)
    assert message in (verify(program, 3, 5) or "")
