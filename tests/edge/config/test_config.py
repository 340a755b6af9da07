"""site.yaml and its catalogue: what fits is numbered the same every time, what does not is named with its line."""

from __future__ import annotations

import pytest
from ruamel.yaml import YAML

from twinedge.config.catalogue import ModelPorts, build_catalogue, storage_step
from twinedge.config.load import load_site
from twinmodel.errors import ConfigError
from twinmodel.profile.schema import Point
from twinmodel.signal import Kind, Stream

PROFILE = """\
profile: acme/tanks
protocol: modbus
base: 0
defaults: {every: 500ms}
points:
  pump: {at: holding 0, as: float32, unit: V, range: [0, 10]}
  level1: {at: holding 2, as: uint16, unit: mm, scale: 0.5}
  level2: {at: holding 4, as: uint16, unit: m, resolution: 0.001}
  trip: {at: coil 0, priority: alarm}
"""
SITE = """\
site: plant-a
profiles: profiles
devices:
  rig: {modbus: "tcp://127.0.0.1:502", profile: acme/tanks}
twins:
  tank-1:
    definition: two-tanks
    inputs: {u: rig.pump}
    outputs: {lower: rig.level2}
    properties: {upper: rig.level1}
    model: two-tanks@champion
"""
PORTS = {"tank-1": ModelPorts({"u": "V"}, {"lower": "m", "hidden": "m3/h"})}


@pytest.fixture
def site(tmp_path):
    def write(text=SITE, profile=PROFILE):
        folder = tmp_path / "profiles/acme/tanks"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "1.0.yaml").write_text(profile)
        path = tmp_path / "site.yaml"
        path.write_text(text)
        return path

    return write


def refused(path, models=None):
    with pytest.raises(ConfigError) as caught:
        build_catalogue(load_site(path), models)
    return caught.value


def test_catalogue_numbers_measured_signals_then_outputs(site):
    catalogue = build_catalogue(load_site(site()), PORTS)
    names = [s.name for s in catalogue.signals]
    assert names[:4] == ["rig.pump", "rig.level1", "rig.level2", "rig.trip"]
    assert names[4] == "@alarms"
    assert names[5:10] == [f"tank-1/lower#{r}" for r in ("estimate", "sigma", "prediction", "innovation", "drift")]
    assert names[10] == "tank-1/hidden#estimate"
    assert (catalogue.signals[4].stream, catalogue.signals[4].role) == (Stream.ALARM, "alarms")
    by_name = catalogue.by_name
    assert by_name["rig.level1"].exponent == 1
    assert by_name["rig.level1"].step == 5
    assert by_name["rig.level1"].kind is Kind.FLOAT
    assert by_name["rig.level1"].period_ns == 500_000_000
    assert by_name["rig.trip"].stream is Stream.ALARM
    assert by_name["rig.pump"].stream is Stream.STATE
    assert by_name["rig.level1"].stream is Stream.TELEMETRY
    assert by_name["tank-1/lower#estimate"].exponent == 4
    assert by_name["tank-1/hidden#estimate"].exponent == 6
    assert by_name["tank-1/hidden#estimate"].unit == "m3/h"
    binding = catalogue.twins[0]
    assert binding.properties == {"u": "rig.pump", "lower": "rig.level2", "upper": "rig.level1", "hidden": ""}
    assert binding.outputs == ("lower", "hidden")
    assert binding.units["upper"] == "mm"


def test_same_files_give_the_same_digest(site):
    path = site()
    assert build_catalogue(load_site(path), PORTS).digest == build_catalogue(load_site(path), PORTS).digest
    assert build_catalogue(load_site(path)).digest != build_catalogue(load_site(path), PORTS).digest


@pytest.mark.parametrize(
    ("old", "new", "reason", "line", "part"),
    [
        ("rig.pump}", "rig.pmup}", "UNKNOWN_SIGNAL", 8, "rig.pump"),
        ("{u: rig.pump}", "{v: rig.pump}", "VALUE_INVALID", 8, "no input 'v'"),
        ("inputs: {u: rig.pump}", "inputs: {}", "VALUE_INVALID", 8, "needs the inputs u"),
        ("lower: rig.level2", "lower: rig.pump", "UNIT_CLASH", 9, "takes lower in m"),
        ("upper: rig.level1", "lower: rig.level1", "DUPLICATE_SIGNAL", 10, "rig.level2"),
        ("lower: rig.level2", "lowr: rig.level2", "VALUE_INVALID", 9, "no output 'lowr'"),
        ("acme/tanks", "acme/tnks", "PROFILE_MISSING", 4, "acme/tnks"),
        ("tcp://127.0.0.1:502", "127.0.0.1:502", "VALUE_INVALID", 4, "write tcp://host:port"),
        ("tcp://127.0.0.1", "tcp://me:secret@127.0.0.1", "VALUE_INVALID", 4, "no user or password"),
        ("modbus:", "opcua:", "VALUE_INVALID", 4, "opc.tcp://host:port"),
        ("modbus:", "mdbus:", "UNKNOWN_KEY", 4, "modbus"),
        ("profiles: profiles", "profiles: nowhere", "FILE_MISSING", 2, "no folder"),
        ("acme/tanks}", "acme/tanks, security: {ca: no.pem}}", "FILE_MISSING", 4, "no.pem"),
        ("site: plant-a", "site: plant a", "VALUE_INVALID", 1, "pattern"),
    ],
)
def test_a_wrong_site_is_refused_at_its_line(site, old, new, reason, line, part):
    assert old in SITE
    error = refused(site(SITE.replace(old, new)), PORTS)
    assert error.reason == reason
    assert error.facts["line"] == line
    assert part in error.message or part in error.hint


def test_address_of_another_protocol_than_the_profile_is_refused(site):
    error = refused(site(SITE.replace('modbus: "tcp://', 'mqtt: "mqtt://')))
    assert "speaks modbus" in error.message
    assert "secret" not in str(error)


def test_units_of_one_dimension_fit(site):
    text = SITE.replace("lower: rig.level2", "lower: rig.level1").replace("upper: rig.level1", "upper: rig.level2")
    catalogue = build_catalogue(load_site(site(text)), PORTS)
    assert catalogue.twins[0].units["lower"] == "m"
    assert catalogue.by_name["rig.level1"].unit == "mm"
    # The sensor tells half a millimetre: estimates in metres keep a digit more than that.
    assert catalogue.by_name["rig.level1"].exponent == 1
    assert catalogue.by_name["tank-1/lower#estimate"].exponent == 5


def test_text_cannot_feed_a_model(site):
    profile = PROFILE.replace("level2: {at: holding 4, as: uint16, unit: m, resolution: 0.001}",
                              "level2: {at: holding 4, as: string(8)}")  # fmt: skip
    error = refused(site(profile=profile), PORTS)
    assert "rig.level2 is text" in error.message


@pytest.mark.parametrize(
    ("point", "expected"),
    [
        ({"resolution": 0.001}, (3, 1)),
        ({"scale": 0.5}, (1, 5)),
        ({"scale": -0.1}, (1, 1)),
        ({"scale": 10}, (0, 10)),
        ({"resolution": 1 / 3}, (0, 1)),
        ({}, (0, 1)),
    ],
)
def test_storage_step_is_what_the_converter_can_tell_apart(point, expected):
    assert storage_step(Point(at="holding 0", **point)) == expected


@pytest.mark.parametrize(
    ("written", "limit_s"),
    [("[level]", 600), ("{outputs: [level], for: 2min}", 120), ("{outputs: [level], for: ever}", 0)],
)
def test_an_output_may_be_substituted_for_a_time_or_ever(written, limit_s):
    from twinedge.config.schema import Twin

    twin = Twin.model_validate(
        {"definition": "d", "outputs": {"level": "a.b"}, "substitute": YAML(typ="safe").load(written)}
    )
    assert (twin.substitute.outputs, twin.substitute.limit_ns) == (["level"], limit_s * 10**9)


def test_an_output_that_nothing_measures_cannot_be_substituted():
    from twinedge.config.schema import Twin

    with pytest.raises(ValueError, match="none of `outputs`"):
        Twin.model_validate({"definition": "d", "outputs": {"level": "a.b"}, "substitute": ["flow"]})
