"""Model files: shape errors with their line, linear extraction, and what the numbers mean."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twinmodel.equations.compile import compile_model
from twinmodel.equations.load import load, read
from twinmodel.errors import ConfigError

TANK = """\
model: tank
version: 1.0.0
family: ode
dt: 1s
states:
  h: {unit: m, start: 0.2, sigma: 0.1}
inputs:
  inflow: {unit: m3/h, min: 0, max: 10, nominal: 2}
params:
  area: {value: 0.5, unit: m2}
  k: {value: 0.01, unit: m^2.5/s}
equations:
  h': (inflow - k*sqrt(max(h, 0)))/area
outputs:
  level: h
noise:
  process: {h: 0.001}
  measurement: {level: 0.01}
"""


def fails(text, reason, match, line):
    with pytest.raises(ConfigError, match=match) as caught:
        compile_model(read(text, "tank.yaml"))
    assert caught.value.reason == reason
    assert caught.value.facts["path"] == "tank.yaml"
    assert caught.value.facts["line"] == line


def test_a_model_file_is_compiled_with_its_units_converted():
    compiled = compile_model(read(TANK))
    assert compiled.output_units == ("m",)
    # k sqrt(h) is turned from m3/s into m3/h, the quotient from m/h into m/s.
    assert sorted(compiled.tensors["consts"]) == pytest.approx([0.0, 1 / 3600, 3600.0])


@pytest.mark.parametrize(
    ("old", "new", "reason", "match", "line"),
    [
        ("start: 0.2", "strat: 0.2", "UNKNOWN_KEY", "strat", 6),
        ("dt: 1s", "dt: soon", "VALUE_INVALID", "no duration", 4),
        ("family: ode", "family: neural", "VALUE_INVALID", "family", 3),
        ("model: tank", "modell: tank", "UNKNOWN_KEY", "nearest is 'model'", 1),
        ("version: 1.0.0", "version: '1'", "VALUE_INVALID", "version", 2),
        ("unit: m2", "unit: mm2x", "UNIT_UNKNOWN", "mm2x", 10),
        ("k*sqrt", "kk*sqrt", "EQUATION_INVALID", "'kk' is unknown; the nearest is 'k'", 13),
        ("h':", "hh':", "EQUATION_INVALID", 'no such state; the nearest is "h\'"', 13),
        ("(inflow - k*sqrt(max(h, 0)))/area", "inflow - k", "EQUATION_INVALID", "- of ", 13),
        ("  level: h", "  level: 2*h*h", "EQUATION_INVALID", "unit cannot be told", 15),
        ("{level: 0.01}", "{levl: 0.01}", "VALUE_INVALID", "levl", 18),
        ("{level: 0.01}", "{}", "VALUE_INVALID", "needs a sigma", 18),
        ("min: 0, max: 10", "min: 10, max: 0", "VALUE_INVALID", "below max", 8),
        ("start: 0.2", "start: 0.2, max: 0.1", "VALUE_INVALID", "start value", 6),
        ("  k: ", "  sqrt: ", "VALUE_INVALID", "reserved", 11),
        ("  k: ", "  h: ", "VALUE_INVALID", "taken by states", 11),
        ("dt: 1s", "dt: {1s", "YAML_INVALID", "expected", 5),
    ],
)
def test_a_fault_in_a_model_file_is_named_with_its_line(old, new, reason, match, line):
    assert old in TANK
    fails(TANK.replace(old, new, 1), reason, match, line)


def test_a_file_that_is_missing_too_large_or_no_mapping_is_refused(tmp_path):
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / "none.yaml")
    assert caught.value.reason == "FILE_MISSING"
    for raw in (b"# " + b"x" * 300_000, b"\xff\xfe", b"- a\n- b\n", b"a: *b\n"):
        (tmp_path / "m.yaml").write_bytes(raw)
        with pytest.raises(ConfigError) as caught:
            load(tmp_path / "m.yaml")
        assert caught.value.reason == "YAML_INVALID"


def test_a_package_in_place_of_a_model_file_is_told_so(tmp_path):
    (tmp_path / "tank.twin").write_bytes(b"TWINPKG\0" + bytes(60))
    with pytest.raises(ConfigError, match="is a model package"):
        load(tmp_path / "tank.twin")


def test_of_an_expression_without_end_only_the_place_is_shown():
    with pytest.raises(ConfigError, match="longer than 2000") as caught:
        compile_model(read(TANK.replace("k*sqrt", "1*" * 3000 + "k*sqrt")))
    assert max(map(len, str(caught.value).splitlines())) < 200
    with pytest.raises(ConfigError, match="'q' is unknown") as caught:
        compile_model(read(TANK.replace("k*sqrt", f"0.{0:0300}1*q*k*sqrt")))
    *_, shown, caret = str(caught.value).splitlines()
    assert shown[caret.index("^")] == "q"


def test_aliases_that_multiply_are_refused():
    bomb = "a: &a [1,1,1,1,1,1,1,1,1]\n" + "".join(
        f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdef", "bcdefg", strict=True)
    )
    with pytest.raises(ConfigError, match="more than"):
        read(bomb)


def test_equations_declared_linear_give_the_matrices(plants):
    compiled = compile_model(load(plants / "exchanger.yaml"))
    # Steady state: x = A x + B u must be where the equations rest.
    A, B = compiled.tensors["A"], compiled.tensors["B"]
    rest = np.linalg.solve(np.eye(2) - A, B @ np.array([80.0, 20.0]))
    T = np.linalg.solve(np.array([[0.1, -0.05], [-0.05, 0.1]]), np.array([80.0, 20.0]) / 20)
    np.testing.assert_allclose(rest, T, rtol=1e-12)
    assert np.array_equal(compiled.tensors["C"], np.eye(2))


LINEAR = TANK.replace("family: ode", "family: linear")


def test_an_equation_that_is_not_linear_is_refused_at_the_operation():
    fails(LINEAR, "EQUATION_INVALID", "max is not linear", 13)


@pytest.mark.parametrize(("area", "k", "match"), [("0", "0.01", "divided by is 0"), ("0.5", "1/(1 - 1)", "no finite")])
def test_constants_that_have_no_value_are_told_apart_from_what_is_not_linear(area, k, match):
    text = TANK.replace("family: ode", "family: linear").replace("k*sqrt(max(h, 0))", f"h*k*({k})")
    fails(
        text.replace("value: 0.5, unit: m2", f"value: {area}, unit: m2").replace("m^2.5", "m2"),
        "EQUATION_INVALID",
        match,
        13,
    )


def test_a_linear_model_that_grows_beyond_all_numbers_in_a_tick_is_refused():
    text = TANK.replace("family: ode", "family: linear").replace("inflow - k*sqrt(max(h, 0))", "inflow + k*h")
    fails(text.replace("value: 0.01, unit: m^2.5", "value: 1e6, unit: m2"), "EQUATION_INVALID", "beyond all numbers", 4)


def test_constant_terms_become_offsets():
    text = LINEAR.replace("(inflow - k*sqrt(max(h, 0)))/area", "(inflow - loss - h*area*rate)/area")
    text = text.replace("  area:", "  loss: {value: 3.6, unit: m3/h}\n  rate: {value: 0.001, unit: 1/s}\n  area:")
    tensors = compile_model(read(text)).tensors
    assert tensors["a"][0] == pytest.approx(-0.001 / 0.5, rel=1e-3)
    assert tensors["A"][0, 0] == pytest.approx(np.exp(-0.001), rel=1e-12)


MATRICES = """\
model: rc
version: 0.1.0
family: linear
dt: 2s
states: {a: {unit: K}, b: {unit: K}}
inputs: {q: {unit: W}}
outputs: {ya: {unit: K}}
matrices: {kind: discrete, A: [[0.9, 0.1], [0, 0.8]], B: [[1], [0.5]], C: [[1, 0]]}
noise: {process: {a: 0.1, b: 0.1}, measurement: {ya: 0.2}}
"""


def test_discrete_matrices_are_taken_as_they_are():
    tensors = compile_model(read(MATRICES)).tensors
    assert tensors["A"].tolist() == [[0.9, 0.1], [0.0, 0.8]]
    assert tensors["D"].tolist() == [[0.0]]
    assert tensors["Q"].tolist() == pytest.approx(np.diag([0.02, 0.02]))


def test_continuous_matrices_are_discretised():
    tensors = compile_model(read(MATRICES.replace("discrete", "continuous"))).tensors
    assert tensors["A"][0, 0] == pytest.approx(np.exp(1.8))


def test_matrices_of_a_wrong_shape_are_refused():
    fails(
        MATRICES.replace("[[1], [0.5]]", "[[1, 2], [0.5, 1]]").replace("path", ""),
        "VALUE_INVALID",
        "shape \\(2, 1\\)",
        8,
    )


def test_definitions_may_stand_in_any_order():
    late = TANK.replace("k*sqrt(max(h, 0))", "out").replace(
        "equations:", "define:\n  out: k*root\n  root: sqrt(wet)\n  wet: max(h, 0)\nequations:"
    )
    found, expected = compile_model(read(late)), compile_model(read(TANK))
    assert all(np.array_equal(found.tensors[name], expected.tensors[name]) for name in expected.tensors)


def test_definitions_that_need_each_other_are_refused_with_the_loop():
    text = TANK.replace("equations:", "define:\n  a: 2*b\n  b: h + c\n  c: h*a\nequations:")
    with pytest.raises(ConfigError, match="algebraic loop: a needs b needs c needs a") as caught:
        compile_model(read(text, "tank.yaml"))
    assert (caught.value.facts["line"], caught.value.facts["column"]) == (15, 8)
    with pytest.raises(ConfigError, match="algebraic loop: a needs a"):
        compile_model(read(TANK.replace("equations:", "define:\n  a: a + 1\nequations:")))


def test_a_chain_of_definitions_as_long_as_allowed_is_no_matter_of_stack():
    chain = "".join(f"  d{i + 1}: {'-(' * 60}d{i}{')' * 60}\n" for i in range(120))
    text = TANK.replace("equations:", f"define:\n  d0: h\n{chain}equations:").replace("max(h, 0)", "max(d120, 0)")
    with pytest.raises(ConfigError, match="operations"):
        compile_model(read(text))
    for family in ("ode", "linear"):
        short = (
            text.replace("-(" * 60, "-(" * 10).replace(")" * 60, ")" * 10).replace("family: ode", f"family: {family}")
        )
        short = short.replace("k*sqrt(max(d120, 0))", "loss*d120").replace(
            "  k: ", "  loss: {value: 1, unit: m2/s}\n  k: "
        )
        assert compile_model(read(short)).kernel == family


def test_doubling_definitions_is_refused_before_they_run_away():
    """Each needs the one before it eight times over: shared, they cost what they are; a longer chain is refused."""
    chain = "".join(f"  d{i + 1}: {'*'.join([f'(d{i} + {j})' for j in range(1, 40)])}\n" for i in range(100))
    text = TANK.replace("equations:", f"define:\n  d0: h/one\n{chain}equations:").replace(
        "max(h, 0)", "max(d100*one, 0)"
    )
    with pytest.raises(ConfigError, match="more than 2048 operations"):
        compile_model(read(text.replace("  k: ", "  one: {value: 1, unit: m}\n  k: ")))


@pytest.mark.parametrize(
    ("old", "new", "match", "line"),
    [
        ("  k: {value: 0.01", "  k: {value: .nan", "finite", 11),
        ("  k: {value: 0.01", "  k: {value: .inf", "finite", 11),
        ("  k: {value: 0.01", "  k: {value: 0.01, bounds: [1, 2]", "outside its bounds", 11),
        ("  k: {value: 0.01", "  k: {value: 0.01, bounds: [2, 1]", "lower bound", 11),
        ("process: {h: 0.001}", "process: {h: -1}", "greater than or equal", 17),
        ("{level: 0.01}", "{level: 0}", "greater than 0", 18),
        ("  level: h", "  level: 1/0*h", "division by 0", 15),
        ("  level: h", "  level: h + 1e400*h", "out of range", 15),
        ("noise:", "regime: {box: {x: [0, 1]}}\nnoise:", "regime.box.x: no such name", 16),
        ("noise:", "regime: {box: {h: [1, 0]}}\nnoise:", "lower end", 16),
        ("noise:", "regime: {rate: {h: 0}}\nnoise:", "greater than 0", 16),
        (
            "noise:",
            "regime: {ellipsoid: {names: [h], centre: [1, 2], shape: [[1]], limit: 3}}\nnoise:",
            "1 numbers",
            16,
        ),
        ("noise:", "provenance: {author: x, size: 3}\nnoise:", "provenance.size", 16),
        ("noise:", "provenance: {parent: x}\nnoise:", "pattern", 16),
    ],
)
def test_numbers_that_make_no_sense_are_refused_at_their_line(old, new, match, line):
    assert old in TANK
    with pytest.raises(ConfigError, match=match) as caught:
        compile_model(read(TANK.replace(old, new, 1), "tank.yaml"))
    assert caught.value.facts["line"] == line


@given(st.lists(st.tuples(st.integers(0, 200), st.sampled_from([*TANK])), min_size=1, max_size=4), st.booleans())
@settings(max_examples=60)
def test_no_scribbling_makes_the_compiler_fail_otherwise(edits, drop):
    text = TANK
    for at, letter in edits:
        text = text[:at] + ("" if drop else letter) + text[at + 1 :]
    reasons = set()
    try:
        compile_model(read(text))
    except ConfigError as error:
        reasons.add(error.reason)
    assert reasons <= {"YAML_INVALID", "UNKNOWN_KEY", "VALUE_INVALID", "EQUATION_INVALID", "UNIT_UNKNOWN"}
