"""Authoring families: each computes what its numbers say, and refuses numbers that do not fit."""

from __future__ import annotations

import numpy as np
import pytest
from safetensors.numpy import save_file

from twinmodel.equations.compile import compile_model
from twinmodel.equations.load import load, read
from twinmodel.errors import ConfigError
from twinmodel.estimator import Estimator
from twinmodel.kernel.ops import INTEGRATORS
from twinmodel.kernel.vm_reference import Programs, integrate, run
from twinmodel.package.archive import inspect
from twinmodel.package.archive import load as open_package
from twinmodel.package.build import build_document
from twinmodel.package.signing import generate_key, key_id, sign

HEAD = "model: {name}\nversion: 1.0.0\ndt: 1s\n"
LUT = (
    HEAD.format(name="curve")
    + """\
family: lut
inputs:
  q: {unit: m3/h, min: 0, max: 40, nominal: 10, quantity: volume flow, tag: FT-101, quality: good}
  n: {unit: 1/min, min: 0, max: 3000, nominal: 1500}
tables:
  head_of: {x: {at: [0, 10, 40], unit: m3/h}, values: [32, 30, 12], unit: m}
  eta_of: {x: {at: [0, 40], unit: m3/h}, y: {at: [0, 3000], unit: rpm}, values: [[0, 10], [20, 80]], unit: "%"}
outputs:
  head: {value: "lookup(head_of, q)", min: 0, max: 40}
  eta: {value: "lookup(eta_of, q, n)", unit: "", min: 0, max: 1}
noise:
  measurement: {head: 0.1, eta: 0.01}
"""
)
MLP = (
    HEAD.format(name="net")
    + """\
family: mlp
inputs: {a: {unit: V, nominal: 1}, b: {unit: A, nominal: 2}}
network:
  inputs: [a, b]
  layers:
    - {weights: [[1, 2], [0.5, -1], [0, 1]], bias: [0.1, 0.2, 0.3]}
    - {weights: [[1, -1, 2]], bias: [0.5]}
  normalise: {inputs: {a: [1, 2]}, outputs: {power: [10, 4]}}
  bounds: {power: [-5, 15]}
outputs:
  power: {unit: W, min: -5, max: 15}
noise:
  measurement: {power: 0.1}
"""
)
HYBRID = (
    HEAD.format(name="hybrid")
    + """\
family: ode
states: {T: {unit: degC, start: 20}, w: {unit: K, start: 1}}
inputs: {heat: {unit: kW, nominal: 1}}
params: {c: {value: 100, unit: kJ/K}, tau: {value: 20, unit: s}}
equations: {T': heat/c, w': -w/tau}
residual:
  inputs: [T, heat]
  outputs: [T]
  activation: relu
  layers:
    - {weights: [[0.1, 0], [0, 1]], bias: [-1, 0]}
    - {weights: [[0.02, 0.5]], bias: [0]}
  bounds: {T: [-0.1, 0.2]}
outputs: {temperature: T}
noise:
  measurement: {temperature: 0.1}
"""
)
QUADRATIC = (
    HEAD.format(name="rom")
    + """\
family: quadratic
substeps: 2
states: {z1: {start: 1}, z2: {start: -0.5}}
inputs: {u: {nominal: 1}}
operators:
  A: [[-0.5, 0.1], [0, -0.3]]
  H: [[0.1, 0.02, -0.03], [0, 0.05, 0.01]]
  B: [[1], [0.2]]
  c: [0.1, -0.1]
  C: [[1, 2]]
outputs: {y: {min: -5, max: 5}}
noise:
  measurement: {y: 0.1}
"""
)
MAP = (
    HEAD.format(name="narx")
    + """\
family: map
states: {y0: {unit: V, start: 1}, y1: {unit: V, start: 0.5}}
inputs: {u: {unit: V}}
equations: {y0+: 0.5*y0 - 0.2*y1 + 0.1*u, y1+: y0}
outputs: {y: y0}
noise:
  measurement: {y: 0.1}
"""
)


def tick(document, x, u):
    """States after one tick and outputs before it, by the reference machine."""
    compiled = compile_model(document)
    t = compiled.tensors
    names = ("rates", "rate_results", "readings", "reading_results", "jacobian", "jacobian_results")
    programs = Programs(*(t[n] if i % 2 == 0 else t[n].tolist() for i, n in enumerate(names)))
    registers = [np.array([v]) for v in (*x, *u, *t["params"], *t["consts"])]
    registers += [np.zeros(1)] * (compiled.registers - len(registers))
    run(programs.readings, registers, t["pool"])
    y = [float(registers[r][0]) for r in programs.reading_results]
    dt, substeps = document.spec.dt / 1e9, document.spec.substeps
    after = integrate(programs, INTEGRATORS[compiled.integrator], registers, t["pool"], (dt / substeps, substeps))
    return [float(v[0]) for v in after], y


def test_tables_are_static_outputs_with_a_slow_offset():
    document = read(LUT)
    x, y = tick(document, [0.5, 0.01], [25.0, 1500.0])
    assert x == [0.5, 0.01]
    # The efficiency is declared in per cent in the table and as a plain number at the output.
    assert y == pytest.approx([21.0 + 0.5, 0.01 + 0.01 * (0.625 * 50 + 0.375 * 5)])
    offset = document.spec.states["head_offset"]
    assert (offset.unit, offset.low, offset.high) == ("m", -20.0, 20.0)
    assert document.spec.noise.process["head_offset"] == pytest.approx(40 * 0.01 / 60)
    manifest = inspect(build_document(document))
    assert (manifest.family, manifest.kernel, manifest.integrator, manifest.pool) == ("lut", "ode", "map", 17)
    port = manifest.inputs[0]
    assert (port.quantity, port.tag, port.quality) == ("volume flow", "FT-101", "good")
    assert [o.unit for o in manifest.outputs] == ["m", ""]


def test_a_static_output_with_its_own_zero_has_an_offset_of_differences():
    text = LUT.replace("values: [32, 30, 12], unit: m}", "values: [32, 30, 12], unit: degC}")
    assert read(text).spec.states["head_offset"].unit == "K"


def test_an_offset_may_be_declared():
    text = LUT.replace("tables:\n", "states: {eta_offset: {sigma: 0.02, min: -0.03, max: 0.03}}\ntables:\n")
    states = read(text).spec.states
    assert list(states) == ["head_offset", "eta_offset"]
    assert states["eta_offset"].high == 0.03


def network(a, b):
    hidden = np.tanh(np.array([[1, 2], [0.5, -1], [0, 1]]) @ [(a - 1) / 2, b] + [0.1, 0.2, 0.3])
    return float(np.clip(10 + 4 * (hidden @ [1, -1, 2] + 0.5), -5, 15))


@pytest.mark.parametrize("u", [(1.0, 2.0), (-3.0, 0.1), (0.3, -0.2)])
def test_a_network_gives_its_outputs(u):
    _, y = tick(read(MLP), [0.25], u)
    assert y == pytest.approx([network(*u) + 0.25], rel=1e-12)


@pytest.mark.parametrize("kind", ["npz", "safetensors"])
def test_a_network_in_a_file_is_the_one_written_out(tmp_path, kind):
    arrays = {"w0": [[1, 2], [0.5, -1], [0, 1]], "b0": [0.1, 0.2, 0.3], "w1": [[1, -1, 2]], "b1": [0.5]}
    arrays = {name: np.array(values, np.float64) for name, values in arrays.items()}
    if kind == "npz":
        np.savez(tmp_path / "weights.npz", **arrays)
    else:
        save_file(arrays, tmp_path / "weights.safetensors")
    start, end = MLP.index("  layers:"), MLP.index("  normalise:")
    (tmp_path / "net.yaml").write_text(MLP[:start] + f"  file: weights.{kind}\n" + MLP[end:])
    assert build_document(load(tmp_path / "net.yaml")) == build_document(read(MLP))


@pytest.mark.parametrize(("T", "heat"), [(20.0, 0.1), (20.0, 3.0), (5.0, 0.0), (20.0, 0.05)])
def test_a_correction_is_added_to_the_rates_within_its_bounds(T, heat):
    x, _ = tick(read(HYBRID), [T, 1.0], [heat])

    def rate(t):
        hidden = np.maximum([0.1 * t - 1, heat], 0)
        return heat / 100 + np.clip(0.02 * hidden[0] + 0.5 * hidden[1], -0.1, 0.2)

    now = T
    for _ in range(1000):
        now += 1e-3 * rate(now + 0.5e-3 * rate(now))
    assert x[0] == pytest.approx(now, rel=1e-6)
    assert x[1] == pytest.approx(np.exp(-1 / 20), rel=1e-6)


def test_a_correction_without_bounds_is_refused():
    with pytest.raises(ConfigError, match="needs bounds") as caught:
        compile_model(read(HYBRID.replace("  bounds: {T: [-0.1, 0.2]}\n", "")))
    assert caught.value.facts["line"] == 10


def slope(x, u):
    pairs = [x[0] * x[0], x[0] * x[1], x[1] * x[1]]
    return (
        np.array([[-0.5, 0.1], [0, -0.3]]) @ x
        + np.array([[0.1, 0.02, -0.03], [0, 0.05, 0.01]]) @ pairs
        + np.array([1, 0.2]) * u
        + [0.1, -0.1]
    )


def test_quadratic_operators_are_integrated():
    x, y = tick(read(QUADRATIC), [1.0, -0.5], [0.7])
    now = np.array([1.0, -0.5])
    for _ in range(2):
        k1 = slope(now, 0.7)
        k2 = slope(now + 0.25 * k1, 0.7)
        k3 = slope(now + 0.25 * k2, 0.7)
        k4 = slope(now + 0.5 * k3, 0.7)
        now = now + 0.5 / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    assert x == pytest.approx(now.tolist(), rel=1e-12)
    assert y == [0.0]


def test_quadratic_operators_in_all_columns_step_once_a_tick_when_discrete(tmp_path):
    full = np.array([[0.1, 0.01, 0.01, -0.03], [0, 0.02, 0.03, 0.01]])
    arrays = {"A": np.array([[-0.5, 0.1], [0, -0.3]]), "H": full, "B": np.array([[1], [0.2]])}
    np.savez(tmp_path / "rom.npz", c=np.array([0.1, -0.1]), C=np.array([[1.0, 2.0]]), **arrays)
    start, end = QUADRATIC.index("operators:"), QUADRATIC.index("outputs:")
    text = QUADRATIC[:start] + "operators: {kind: discrete, file: rom.npz}\n" + QUADRATIC[end:]
    (tmp_path / "rom.yaml").write_text(text.replace("substeps: 2\n", ""))
    x, _ = tick(load(tmp_path / "rom.yaml"), [1.0, -0.5], [0.7])
    assert x == pytest.approx(slope(np.array([1.0, -0.5]), 0.7).tolist())


def test_a_map_gives_the_next_state():
    x, y = tick(read(MAP), [1.0, 0.5], [2.0])
    assert x == pytest.approx([0.5 - 0.1 + 0.2, 1.0])
    assert y == [1.0]


@pytest.mark.parametrize(
    "text", [LUT, MLP, HYBRID, QUADRATIC, MAP, HYBRID.replace("family: ode", "family: ode\nintegrator: ros2")]
)
def test_every_family_becomes_a_package(text):
    blob = build_document(read(text))
    manifest = inspect(blob)
    assert manifest.kernel == "ode"
    assert blob == build_document(read(text))


@pytest.mark.parametrize(
    ("text", "old", "new", "match", "line"),
    [
        (LUT, "[0, 10, 40]", "[0, 0, 40]", "increase", 9),
        (LUT, "[32, 30, 12]", "[32, 30]", "3 numbers", 9),
        (LUT, "[32, 30, 12]", "[32, .nan, 12]", "finite", 9),
        (LUT, "[[0, 10], [20, 80]]", "[[0, 10], [20]]", "2 rows", 10),
        (LUT, ", min: 0, max: 40}\n  eta", "}\n  eta", "needs min and max", 12),
        (LUT, "head_of, q)", "head_of, n)", "table head_of takes", 12),
        (LUT, "lookup(head_of, q)", "q*q", "unit cannot be told", 12),
        (LUT, "nominal: 10", "nominal: 50", "nominal must lie within", 6),
        (LUT, "family: lut", "family: lut\nsubsteps: 2", "substeps: are for", 5),
        (LUT, "tables:", "states: {h: {}}\ntables:", "one state for each output", 8),
        (MLP, "[[1, -1, 2]]", "[[1, -1]]", "layer 1 takes 2", 7),
        (MLP, "bias: [0.5]", "bias: [0.5, 1]", "as many as the bias", 10),
        (MLP, "inputs: [a, b]", "inputs: [a, c]", "c is neither state nor input", 7),
        (MLP, "{power: [10, 4]}", "{power: [10, 0]}", "greater than 0", 11),
        (MLP, "{power: [-5, 15]}", "{powr: [-5, 15]}", "powr is no result", 7),
        (MLP, "unit: W, min", "unit: Wx, min", "Wx", 14),
        (MLP, "  layers:", "  file: w.npz\n  layers:", "either layers or file", 7),
        (HYBRID, "family: ode", "family: linear", "residual need family", 1),
        (HYBRID, "outputs: [T]", "outputs: [X]", "X is no state", 11),
        (QUADRATIC, "B: [[1], [0.2]]", "B: [[1, 2], [0.2, 1]]", "B must have shape", 11),
        (QUADRATIC, "[0, 0.05, 0.01]]", "[0, 0.05]]", "H must have shape", 10),
        (QUADRATIC, "{y: {min: -5, max: 5}}", "{y: {value: z1}}", "none beside", 14),
        (MAP, "y1+: y0", "y1': y0", "no such state", 7),
        (MAP, "family: map", "family: map\nintegrator: ros2", "differential equations", 5),
        (MAP, "start: 1}", "start: .inf}", "finite", 5),
    ],
)
def test_numbers_that_do_not_fit_are_refused_with_their_place(text, old, new, match, line):
    assert old in text
    with pytest.raises(ConfigError, match=match) as caught:
        compile_model(read(text.replace(old, new, 1), "m.yaml"))
    assert caught.value.facts["line"] == line


@pytest.mark.parametrize(
    ("arrays", "match"),
    [({"w0": np.ones((1, 2))}, "are no layer"), ({"w0": np.ones(2), "b0": np.ones(2)}, "are no layer"),
     ({"w1": np.ones((1, 2)), "b1": np.ones(1)}, "must hold w0"), ({"v": np.ones(1)}, "must hold w0"),
     ({"w0": np.ones((1, 2)), "b0": np.ones(1), "x": np.ones(1)}, "nothing else"),
     ({"w0": np.full((1, 2), np.nan), "b0": np.ones(1)}, "not finite")],
)  # fmt: skip
def test_a_file_that_holds_no_network_is_refused(tmp_path, arrays, match):
    np.savez(tmp_path / "w.npz", **arrays)
    start, end = MLP.index("  layers:"), MLP.index("  normalise:")
    (tmp_path / "net.yaml").write_text(MLP[:start] + "  file: w.npz\n" + MLP[end:])
    with pytest.raises(ConfigError, match=match) as caught:
        compile_model(load(tmp_path / "net.yaml"))
    assert caught.value.reason == "VALUE_INVALID"


@pytest.mark.parametrize("name", ["../w.npz", "/etc/w.npz", "w.pkl", "a/b.npz", ".npz"])
def test_a_file_elsewhere_or_of_another_kind_is_refused(name):
    with pytest.raises(ConfigError, match="pattern"):
        read(MLP.replace("  layers:", f"  file: {name}\n  layers:", 1))


def test_a_static_model_is_corrected_by_what_is_measured():
    key = generate_key()
    package = open_package(sign(build_document(read(LUT)), key), {key_id(key.public_key()): key.public_key()})
    estimator = Estimator(package, tier="interpreted")
    for second in range(1, 100):
        last = estimator.step(second * 10**9, np.array([25.0, 1500.0]), np.array([22.0, np.nan]))
    # The table says 21.0; the output that nobody measures keeps to its table, and says how unsure it is.
    assert last.estimate == pytest.approx([22.0, 0.33125], abs=1e-3)
    assert last.sigma[0] < 0.05 < last.sigma[1] + 0.01
    assert not last.drifting
