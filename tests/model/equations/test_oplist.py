"""Op-lists compute what the expression says, with few registers, and unsafe ones are refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twinmodel.equations.blocks import Block, Blocks, Table
from twinmodel.equations.oplist import OPCODES, Program, lower, verify
from twinmodel.equations.parse import Dense, Lookup, Name, Number, Op, Source, parse
from twinmodel.errors import ConfigError
from twinmodel.kernel.transcendental import NUMPY
from twinmodel.kernel.vm_reference import run

SOURCE = Source("x")
NAMES = ["a", "b", "c"]


def compute(groups, values, definitions=None, blocks=None):
    lowered = lower([[(e, SOURCE) for e in group] for group in groups], definitions or {}, NAMES, blocks)
    results = []
    pinned = len(NAMES) + len(lowered.consts)
    for program in lowered.programs:
        assert verify(program, pinned, lowered.registers, lowered.pool) is None
        registers = [np.array([v]) for v in (*values, *lowered.consts)]
        registers += [np.array([np.nan])] * (lowered.registers - len(registers))
        with np.errstate(all="ignore"):
            run(program.code, registers, lowered.pool)
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


def _squashed(weights, bias, inputs):
    """One layer by hand: the order of the machine's sums."""
    rows = []
    for j in range(len(bias)):
        v = bias[j] + weights[j, 0] * inputs[0]
        for k in range(1, len(inputs)):
            v = v + weights[j, k] * inputs[k]
        rows.append(v)
    return rows


@given(
    st.integers(0, 2**32 - 1),
    st.lists(st.sampled_from(["a", "b", "c", "a*b", "2", "tanh(a)", "b"]), min_size=1, max_size=6),
)
def test_dense_blocks_give_the_sums_whatever_lies_side_by_side(seed, texts):
    g = np.random.default_rng(seed)
    args = tuple(parse(Source(text)) for text in texts)
    wide, deep = int(g.integers(1, 6)), int(g.integers(1, 4))
    first = Block(g.normal(size=wide), g.normal(size=(wide, len(args))))
    second = Block(g.normal(size=deep), g.normal(size=(deep, wide)))
    hidden = tuple(Dense("first", args, j) for j in range(wide))
    squash = tuple(Op("tanh", (h,)) for h in hidden) if seed % 2 else hidden
    exprs = [*(Dense("second", squash, j) for j in range(deep)), Op("add", (hidden[0], args[0])), squash[-1]]
    values = tuple(g.normal(size=3))
    (found,), lowered = compute([exprs], values, blocks=Blocks(dense={"first": first, "second": second}))
    (inputs,), _ = compute([args], values)
    middle = _squashed(first.weights, first.bias, inputs)
    acted = [float(NUMPY.tanh(np.array([v]))[0]) for v in middle] if seed % 2 else middle
    assert found == [*_squashed(second.weights, second.bias, acted), middle[0] + inputs[0], acted[-1]]
    assert (lowered.programs[0].code[:, 0] == OPCODES["dense"]).sum() == 2


def test_tables_are_linear_between_their_points_and_held_at_the_ends():
    curve = Table(np.array([0.0, 1.0, 3.0]), np.array([1.0, 2.0, -2.0]))
    field = Table(np.array([0.0, 2.0]), np.array([[0.0, 1.0, 5.0], [2.0, 3.0, 7.0]]), np.array([0.0, 1.0, 2.0]))
    blocks = Blocks({"curve": curve, "field": field})
    exprs = [Lookup("curve", (Name("a"),)), Lookup("field", (Name("a"), Name("b")))]
    for a, b, y, z in [
        (0.5, 0.5, 1.5, 1.0),
        (2.0, 1.5, 0.0, 5.0),
        (-9, -9, 1.0, 0.0),
        (9, 9, -2.0, 7.0),
        (math.inf, 2, -2.0, 7.0),
    ]:
        (found,), _ = compute([exprs], (a, b, 0.0), blocks=blocks)
        assert found == [y, z]
    (found,), _ = compute([exprs], (math.nan, 1.0, 0.0), blocks=blocks)
    assert np.isnan(found).all()


def test_equal_tables_and_weights_lie_in_the_pool_once():
    block = Block(np.zeros(2), np.ones((2, 1)))
    exprs = [Dense(name, (Name(arg),), 1) for name, arg in (("p", "a"), ("q", "b"), ("p", "b"))]
    _, lowered = compute([exprs, exprs], (1.0, 2.0, 3.0), blocks=Blocks(dense={"p": block, "q": block}))
    assert len(lowered.pool) == 4
    assert len(lowered.programs[0].code) == 2


def test_a_chain_of_definitions_as_deep_as_allowed_needs_no_recursion():
    definitions = {"d0": parse(Source("a"))}
    for i in range(2000):
        definitions[f"d{i + 1}"] = Op("neg", (Name(f"d{i}"),))
    (found,), _ = compute([[Name("d2000")]], (3.0, 0.0, 0.0), definitions)
    assert found == [3.0]


def test_a_definition_that_needs_itself_is_refused():
    definitions = {"p": parse(Source("q + 1")), "q": parse(Source("p * 2"))}
    with pytest.raises(ConfigError, match="own value"):
        compute([[Name("p")]], (0.0, 0.0, 0.0), definitions)


def test_a_pool_that_grows_too_large_is_refused():
    blocks = Blocks(dense={"w": Block(np.zeros(300), np.ones((300, 300)))})
    args = tuple(Name("a") for _ in range(300))
    with pytest.raises(ConfigError, match="hold more than"):
        compute([[Dense("w", args, 0)]], (0.0, 0.0, 0.0), blocks=blocks)


class Registers(list):
    """Registers of a run that must not be left: what is outside, unwritten or pinned is an error."""

    def __init__(self, pinned, count):
        super().__init__([np.array([0.5])] * pinned + [None] * (count - pinned))
        self.pinned = pinned

    def _check(self, key):
        first, last = (key.start, key.stop - 1) if isinstance(key, slice) else (key, key)
        assert 0 <= first <= last < len(self), "outside"

    def __getitem__(self, key):
        self._check(key)
        found = super().__getitem__(key)
        assert all(v is not None for v in (found if isinstance(found, list) else [found])), "unwritten"
        return found

    def __setitem__(self, key, value):
        self._check(key)
        assert (key.start if isinstance(key, slice) else key) >= self.pinned, "pinned"
        super().__setitem__(key, value)


class Pool(np.ndarray):
    """A pool that must not be left."""

    def __getitem__(self, key):
        if type(self) is Pool and not isinstance(key, np.ndarray):
            first, last = (key.start, key.stop - 1) if isinstance(key, slice) else (key, key)
            assert first is None or 0 <= first <= (last if last is not None else first) < len(self), "outside the pool"
        found = super().__getitem__(key)
        return np.asarray(found) if isinstance(found, np.ndarray) else found


POOL = np.array([0.5, 1.0, 2.0, -1.0, 2.0, 0.0, 1.0, 5.0, 6.0, 3.0, 2.0, 0.0, 1.0, 2.0, 0.0, 1.0, 1, 2, 3, 4, 5, 6])
# Rows that are sound, over 4 pinned and 12 more registers; mutations start from these.
SOUND = [
    [0, 4, 0, 1, 0, 0], [8, 5, 0, 1, 0, 0], [11, 6, 1, 0, 0, 0], [14, 7, 0, 1, 0, 0], [15, 8, 0, 1, 0, 0],
    [16, 9, 0, 1, 2, 0], [17, 10, 4, 2, 0, 1], [18, 11, 3, 0, 4, 0], [19, 12, 0, 1, 9, 0], [17, 13, 0, 3, 2, 2],
]  # fmt: skip
_NUMBER = st.integers(-3, 26) | st.sampled_from([2**31 - 1, -(2**31), 1000, 65536])


def test_the_rows_that_mutations_start_from_are_sound():
    assert verify(Program(np.array(SOUND, np.int32), np.array([14]), 16), 4, 16, POOL) is None


@pytest.mark.parametrize("row", [[0, 4, 0, 15], [0, 3, 0, 1], [0, 16, 0, 1], [17, 4, 2, 4, 0, 1], [17, 4, 0, 4, 20, 1]])
def test_the_guards_of_these_arrays_notice_what_leaves_them(row):
    code = np.array([row + [0] * (6 - len(row))], np.int32)
    assert verify(Program(code, np.array([4]), 16), 4, 16, POOL) is not None
    with pytest.raises((AssertionError, ValueError)):
        run(code, Registers(4, 16), POOL.view(Pool))


@settings(max_examples=600)
@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 5), _NUMBER), max_size=4),
    st.permutations(range(10)) | st.just(list(range(10))),
    st.lists(_NUMBER, max_size=2),
    st.lists(st.tuples(st.integers(0, 21), st.sampled_from([0.0, -1.0, 2.0, 2.5, 1e300, 9.0])), max_size=2),
)
def test_a_mutated_program_is_refused_or_stays_inside_its_arrays(changes, order, results, numbers):
    rows = [list(SOUND[i]) for i in order]
    for row, column, value in changes:
        rows[row][column] = value
    pool = POOL.copy()
    for at, value in numbers:
        pool[at] = value
    program = Program(np.array(rows, np.int32), np.array([14, *results]), 16)
    if verify(program, 4, 16, pool) is None:
        registers = Registers(4, 16)
        with np.errstate(all="ignore"):
            run(program.code, registers, pool.view(Pool))
        for register in program.results.tolist():
            assert registers[register] is not None


@pytest.mark.parametrize(
    ("code", "results", "message"),
    [
        ([[99, 3, 0, 1]], [3], "unknown code"), ([[0, 2, 0, 1]], [2], "writes register"),
        ([[0, 7, 0, 1]], [3], "writes"),
        ([[0, 3, 4, 1]], [3], "holds nothing"), ([[0, 3, -1, 1]], [3], "holds nothing"),
        ([[0, 3, 0, 1]], [4], "result"),
        ([[0, 3, 0, 1]], [-1], "result"), ([[0, 3, 0, 1], [0, 3, 3, 1]], [3], "malformed"),
        ([[2, 3, 0, 1, 1]], [3], "malformed"), ([[17, 3, 0, 0, 0, 1]], [3], "malformed"),
        ([[17, 3, 0, 2, 0, 1]], [3], "weights"), ([[18, 3, 0, 0, 5]], [3], "not in the pool"),
        ([[OPCODES["sqrt"], 3, 0, 1]], [3], "malformed"), ([[-1, 3, 0, 1]], [3], "unknown code"),
    ],
)  # fmt: skip
def test_a_program_that_would_leave_its_registers_is_refused(code, results, message):
    rows = np.array([row + [0] * (6 - len(row)) for row in code], np.int32)
    program = Program(rows, np.array(results, np.int32), 5)
    assert message in (verify(program, 3, 5) or "")
