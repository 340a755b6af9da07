"""Every reason of quality is on the page, and comes out of a real driver, gate or model."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.edge.drivers.conftest import assign, clock  # noqa: F401 - fixtures
from tests.edge.drivers.sparkplug_line import METRICS, Line
from tests.edge.drivers.sparkplug_node import Node
from tests.edge.drivers.test_mqtt_points import read, site  # noqa: F401 - `site` is a fixture
from tests.edge.estimate.test_runner import T0, WIRING, Model, Port, Slot, catalogue, samples, tanks
from tests.edge.estimate.test_substitution import missing, runner, stand_ins
from twinedge.config.catalogue import build_catalogue
from twinedge.config.load import load_site
from twinedge.drivers.mqtt_feed import Now
from twinedge.estimate.runner import TwinRunner
from twinedge.gate import Gate, rules_of
from twinmodel.align import Aligner, AlignInput
from twinmodel.clock import BUILD_NS, SECOND_NS, ManualClock
from twinmodel.quality import GOOD, QualityReason, bad, describe
from twinmodel.signal import Batch

S = SECOND_NS
WALL = BUILD_NS + 300 * 86_400 * S
PAGE = Path(__file__).resolve().parents[3] / "docs/quality.md"
PROFILE = """\
profile: acme/rig
protocol: modbus
base: 0
points:
  level: {at: holding 0, as: float32, unit: m, range: [0, 10], rate: 1, frozen: 3s}
  count: {at: holding 2, as: uint32, class: counter, wraps: 4294967296}
  mode: {at: holding 4, as: uint16, states: {0: "off", 1: "on"}}
  energy: {at: holding 5, as: uint16, unit: kWh, scale: 0.1, class: counter, wraps: 65536, rate: 1}
  scaled: {at: holding 6, as: uint16, unit: A, scale: 10^@mode, class: counter, wraps: 65536}
"""


def names(codes):
    """Reasons of some codes."""
    return {QualityReason(code & 0xFF).name for code in codes if code}


@pytest.fixture
def rig(tmp_path):
    """Function: (point, values) -> codes, by the rules that the profile gives."""
    folder = tmp_path / "profiles/acme/rig"
    folder.mkdir(parents=True)
    (folder / "1.yaml").write_text(PROFILE)
    text = "site: s\nprofiles: profiles\ndevices:\n  d: {modbus: 'tcp://h:502', profile: acme/rig}\n"
    (tmp_path / "site.yaml").write_text(text)
    loaded = load_site(tmp_path / "site.yaml")
    signals = build_catalogue(loaded)
    gate = Gate(rules_of(loaded, signals), ManualClock(WALL))

    def judge(point, *values):
        signal = signals.by_name[f"d.{point}"]
        times = [WALL - 100 * S + k * S for k in range(len(values))]
        one = Batch.of(signal.kind, [signal.id] * len(values), values, [GOOD] * len(values), times)
        return gate.apply(one).quality.tolist()

    return judge


def test_the_page_names_every_reason_once_and_no_other():
    rows = re.findall(r"^\| `([A-Z_]+)` \| ([a-z, ;]+) \| (.+) \|$", PAGE.read_text(), re.MULTILINE)
    assert [name for name, _, _ in rows] == [reason.name for reason in QualityReason if reason]
    assert all(re.fullmatch(r"(good|uncertain|bad)([,;] (good|uncertain|bad))*", classes) for _, classes, _ in rows)


def test_a_code_reads_as_its_class_and_reason_and_an_unknown_one_as_bad():
    assert [describe(code) for code in (0, 0x0C, 0x102, 0x205)] == [
        "good", "good(BACKFILLED)", "uncertain(RATE)", "bad(STALE)",
    ]  # fmt: skip
    assert describe(0x7763) == "bad(99)"


@pytest.mark.parametrize(
    ("point", "values", "reasons"),
    [
        ("level", [10.5], {"OUT_OF_RANGE"}),
        ("level", [99.0], {"OUT_OF_RANGE"}),
        ("mode", [0, 1, 7], {"OUT_OF_RANGE"}),
        ("level", [1.0, 4.0], {"RATE"}),
        ("count", [9, 3], {"RATE"}),
        ("count", [4294967290, 3], set()),
        ("level", [0.0, 10.5, 0.1], {"SPIKE"}),
        ("level", [1.0] * 5, {"FROZEN"}),
        ("level", [float("inf")], {"DECODE"}),
        # 65535 raw counts are 6553.5 kWh: four more go round the end, and 1 kWh/s is not exceeded by 0.5.
        ("energy", [6553.4, 0.3], set()),
        ("energy", [6500.0, 0.3], {"RATE"}),
        ("scaled", [65535.0, 1.0], {"RATE"}),
    ],
)
def test_rules_of_a_profile_raise_their_reasons(rig, point, values, reasons):
    assert names(rig(point, *values)) == reasons


def test_drivers_raise_what_only_they_know(site, assign):  # noqa: F811 - fixtures
    profile = {"defaults": {"topic": "x", "time": "$.t"}, "points": {"a": {"at": "$.a"}}}
    routes, links = site(d=("", profile))
    now, t_ms = Now(S, WALL), WALL // 10**6

    def heard(payload, **how):
        return names(row[2] for row in read(routes, "x", payload, now=now, **how))

    assert heard({"t": t_ms, "a": None}) == {"ABSENT"}
    assert heard({"t": t_ms, "a": "much"}) == {"DECODE"}
    assert heard({"t": t_ms + 6000, "a": 1}) == {"CLOCK"}
    assert heard({"t": t_ms, "a": 1}, retained=True) == {"BACKFILLED"}
    lost = links[0].lost("DEVICE_UNREACHABLE", "no answer")
    assert names(code for batch in lost.batches for code in batch.quality.tolist()) == {"NOT_CONNECTED"}

    line, node = Line(assign), Node(METRICS)
    line.hear(*node.births())
    assert "STALE" in names(row[2] for row in line.hear(node.ndeath()))


def test_a_device_that_answers_with_an_exception_has_a_fault():
    from twinedge.drivers.opcua_values import quality_of

    assert describe(quality_of(0x808B0000)) == "bad(DEVICE_FAULT)"  # BadDeviceFailure
    assert describe(quality_of(0x40910000)) == "uncertain(SUBSTITUTED)"  # UncertainSubstituteValue


def test_what_gets_old_is_stale_to_a_model():
    aligner = Aligner(S, [AlignInput(0, "hold", 2 * S), AlignInput(1, "hold", 0)], 0)
    aligner.push(samples(0, (0, 1.0)))
    aligner.push(samples(1, *((k * S, 1.0) for k in range(5))))
    frames = aligner.close(T0 + 4 * S)
    assert [describe(int(frame.quality[0])) for frame in frames] == ["good"] * 3 + ["bad(STALE)"] * 2
    assert np.isnan([frame.values[0] for frame in frames]).tolist() == [False] * 3 + [True] * 2


def test_models_say_that_they_settle_left_their_regime_or_stand_in():
    settling = TwinRunner(WIRING, Slot(tanks(settling=True)))
    settling.publish_as(catalogue("level2"))
    settling.run(T0)
    for signal in (0, 1):
        settling.push(samples(signal, (0, 5.0), (S, 5.0)), T0)
    assert names(settling.run(T0)[0].quality.tolist()) == {"SETTLING"}

    class Outside(Model):
        def step(self, t_ns, u, y):
            return replace(super().step(t_ns, u, y), in_regime=False)

    outside = TwinRunner(WIRING, Slot(Outside((Port("pump"),), (Port("level2"),))))
    outside.publish_as(catalogue("level2"))
    outside.run(T0)
    for signal in (0, 1):
        outside.push(samples(signal, (0, 5.0), (S, 5.0)), T0)
    assert names(outside.run(T0)[0].quality.tolist()) == {"REGIME"}

    made, _ = runner()
    made.push(samples(0, (0, 5.0)), T0)
    made.push(missing(0, bad(QualityReason.STALE)), T0)
    value, code = stand_ins(made.run(T0))[0]
    assert names([code]) == {"SUBSTITUTED"}
    assert math.isfinite(value)
