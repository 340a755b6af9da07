"""The profiles that ship: sound, sourced, in their place, readable in whole values; and what any other text gives."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinedge.drivers.plan import Span, plan_reads
from twinmodel.errors import ConfigError
from twinmodel.profile.address import parse_address, parse_type
from twinmodel.profile.diff import differences
from twinmodel.profile.document import read_document
from twinmodel.profile.find import find_profile
from twinmodel.profile.load import examine, load_profile
from twinmodel.profile.remarks import findings
from twinmodel.profile.scale import parse_scale
from twinmodel.profile.shape import json_schema

FOLDER = Path(__file__).resolve().parents[3] / "firmware-profiles"
FILES = sorted(FOLDER.glob("*/*/*.yaml"))
SCHEMA = jsonschema.Draft202012Validator(json_schema())


def names(paths):
    return ["/".join(path.with_suffix("").parts[-3:]) for path in paths]


def plain(path):
    return json.loads(json.dumps(read_document(path).content))


def test_enough_kinds_of_devices_ship():
    profiles = [load_profile(path) for path in FILES]
    assert len({p.name for p in profiles if not p.name.startswith("hybridtwin/")}) >= 8
    assert {p.protocol for p in profiles} == {"modbus", "opcua", "mqtt"}
    assert "sparkplug" in {p.defaults.payload for p in profiles}


@pytest.mark.parametrize("path", FILES, ids=names(FILES))
def test_a_shipped_profile_has_no_finding_fits_the_json_schema_and_tells_its_source(path):
    examined = examine(path, [FOLDER])
    assert not findings(examined, path)
    assert not list(SCHEMA.iter_errors(plain(path)))
    assert len(examined.profile.source) > 10
    assert find_profile("/".join(path.with_suffix("").parts[-3:]), [FOLDER]) == path


@pytest.mark.parametrize("path", [p for p in FILES if load_profile(p).protocol == "modbus"], ids=str)
@pytest.mark.parametrize("bridge", [0, 20])
def test_a_shipped_modbus_profile_is_read_in_blocks_that_split_no_value(path, bridge):
    profile = load_profile(path)
    spans = []
    for name, point in profile.points.items():
        address, wire = parse_address(point.at, profile.base), parse_type(point.as_)
        spans.append(Span(address.table, address.number, wire.registers, name))
        for needed in parse_scale(point.scale).points if isinstance(point.scale, str) else ():
            assert needed in profile.points
    reads = plan_reads(spans, max_read=profile.limits.max_read, bridge=bridge)
    assert sorted(s.point for read in reads for s in read.spans) == sorted(profile.points)
    for read in reads:
        assert read.count <= profile.limits.max_read
        assert all(read.start <= s.start and s.end <= read.start + read.count for s in read.spans)


def test_an_update_of_a_real_meter_that_moves_its_registers_is_seen():
    old, new = (load_profile(FOLDER / f"kostal/ksem/{version}.yaml") for version in ("2.5", "2.6"))
    moved = [change for change in differences(old, new) if change.what != "device"]
    assert {change.what for change in moved} == {"moved"}
    assert all(int(c.new.split()[1]) == int(c.old.split()[1]) + 1 for c in moved)
    assert find_profile("kostal/ksem", [FOLDER], "2.5.3").stem == "2.5"
    assert find_profile("kostal/ksem", [FOLDER], "2.6.0").stem == "2.6"


def test_sunspec_points_lie_where_model_103_has_them():
    points = load_profile(FOLDER / "sunspec/inverter-three-phase/all.yaml").points
    offsets = {name: parse_address(point.at, 1).number - 40070 for name, point in points.items()}
    expected = {"model": 0, "current": 2, "voltage_l1": 10, "power": 14, "energy": 24, "state": 38, "events": 40}
    assert {name: offsets[name] for name in expected} == expected


@pytest.mark.parametrize(
    "wrong", ["{}", "{profile: a/b}", "{profile: a/b, protocol: x, points: {}}", "{profile: a/b, inherits: x}"]
)
def test_the_json_schema_refuses_what_is_no_profile(tmp_path, wrong):
    path = tmp_path / "x.yaml"
    path.write_text(wrong)
    assert list(SCHEMA.iter_errors(plain(path)))


def load_text(folder, text):
    path = folder / "acme/press/1.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    examined = examine(path, [])
    assert examined.errors or examined.profile.points
    assert all(error.hint and str(error) for error in examined.errors)
    assert findings(examined, path) is not None
    with contextlib.suppress(ConfigError):
        load_profile(path, [])


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("profiles")


@given(text=st.text(max_size=300))
def test_any_text_gives_a_profile_or_a_config_error(scratch, text):
    load_text(scratch, text)


VOCABULARY = (
    "profile|acme/press|acme/press/1|firmware|*|2.*|inherits|protocol|modbus|mqtt|opcua|base|points|at|as|holding 1|"
    "holding 1.3-5|coil 2|float32|uint|string(9)|bit|scale|10^@a|@a|unit|kW|range|write|class|counter|wraps|states|"
    "identify|match|a|b|limits|max_read|defaults|payload|sparkplug|topic|{root}/x|$.a|namespace|every|1s|absent|0x8000|"
    "watchdog|interlock|not a|where|each|time|queue|order|CDAB|availability|online|report|deadband"
)
WORDS = st.sampled_from(VOCABULARY.split("|"))
CONTENT = st.recursive(
    WORDS | st.none() | st.booleans() | st.integers(-5, 70000) | st.floats(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=5),
    max_leaves=20,
)
POINT = st.fixed_dictionaries(
    {"at": WORDS}, optional=dict.fromkeys(("as", "scale", "unit", "range", "write", "states", "absent"), CONTENT)
)


@given(
    protocol=st.sampled_from(["modbus", "opcua", "mqtt"]),
    points=st.dictionaries(WORDS, POINT | CONTENT, min_size=1, max_size=4),
    more=st.dictionaries(WORDS, CONTENT, max_size=4),
)
def test_any_content_gives_a_profile_or_a_config_error(scratch, protocol, points, more):
    head = {"profile": "acme/press", "protocol": protocol, "base": 0, "namespace": "urn:x", "points": points}
    load_text(scratch, json.dumps(more | head))
