"""DTDL there and back, and what of foreign files is not carried, by name."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twinmodel.definition import dtdl, dtdl_read
from twinmodel.definition.exchange import Bundle, LinkSpec, TwinSpec
from twinmodel.definition.schema import DefinitionSpec
from twinmodel.errors import InputError

LETTERS = st.text("aZ09_-2def5x3", min_size=1, max_size=12).filter(lambda t: t[0].isalnum())
PROPERTY_NAMES = st.text("aZ0_-.2de5fx3", min_size=1, max_size=12).filter(lambda t: t[0].isalnum())
VERSIONS = st.one_of(
    st.sampled_from(["1", "1.2", "1.2.0", "0.1.0", "2024-05", "1.02.3", "10.0.12", "v1", "1.2.3+b4", "1.2.3-rc.1"]),
    st.text("0129v.+-", min_size=1, max_size=8).filter(lambda t: t[0].isalnum()),
)
UNITS = st.sampled_from(["", "m3/h", "1/min", "degC", "%", "kg/kg", "N*m", "J", "m^0.5/s", "rpm"])


@st.composite
def prop(draw):
    if draw(st.booleans()):
        return {"kind": draw(st.sampled_from(["bool", "string"])), "desired": draw(st.booleans())}
    low = draw(st.none() | st.floats(-1e6, 0))
    high = draw(st.none() | st.floats(0, 1e6))
    fields = {"kind": draw(st.sampled_from(["float", "int"])), "unit": draw(UNITS), "min": low, "max": high}
    return fields | {"desired": draw(st.booleans()), "tolerance": draw(st.floats(0, 10))}


@st.composite
def definition(draw):
    names = draw(st.lists(PROPERTY_NAMES, unique=True, max_size=5))
    types = draw(st.lists(LETTERS, unique=True, max_size=3))
    relations = {
        name: {"target": draw(st.sampled_from(["", "tank", "tank@1.2.0"])), "min": draw(st.integers(0, 2)),
               "max": draw(st.none() | st.integers(2, 9)), "properties": {"length-a": {"unit": "m"}}}
        for name in types if name not in names
    }  # fmt: skip
    parents = draw(st.lists(st.sampled_from(["machine@1.0.0", "a_b@0.1"]), unique=True))
    fields = {"definition": draw(LETTERS), "version": draw(VERSIONS), "extends": parents}
    return DefinitionSpec.model_validate(
        fields | {"properties": {name: draw(prop()) for name in names}, "relationships": relations}
    )


@settings(max_examples=60, deadline=None)
@given(definition(), LETTERS, LETTERS)
def test_what_was_exported_is_imported_as_it_was(spec, site, twin):
    wishes = {name: True for name, p in spec.properties.items() if p.desired and p.kind == "bool"}
    links = tuple(LinkSpec(site, twin, name, "there", "T-1", {"length-a": 2.5}) for name in spec.relationships)
    bundle = Bundle((spec,), (TwinSpec(site, twin, spec.reference, wishes),), links)
    file, written = dtdl.write(bundle)
    assert written.refused == []
    back, read = dtdl_read.read(file)
    assert (back, read.refused) == (bundle, [])


@given(PROPERTY_NAMES, VERSIONS)
def test_names_and_versions_come_back_from_a_valid_dtmi(name, version):
    assert dtdl.name_of(dtdl.segment_of(name)) == name
    reference = f"{name.replace('.', '-')}@{version}"
    assert dtdl.reference_of(dtdl.dtmi_of(reference)) == reference


def test_versions_of_dtmis_are_versions_of_definitions():
    assert dtdl.dtmi_of("pump@1.2") == "dtmi:hybridtwin:pump;1.2"
    assert dtdl.dtmi_of("pump@1.2.3") == "dtmi:hybridtwin:pump:patch3;1.2"
    assert dtdl.reference_of("dtmi:com:example:Thermostat;4") == "com-example-Thermostat@4"
    assert dtdl.reference_of("dtmi:com:example:Thermostat") == "com-example-Thermostat@0"
    for wrong in ("dtmi:com:1x;1", "dtmi:a_;1", "dtmi:a;0", "dtmi:a;01", "pump", None, "dtmi:a;1.2.3"):
        with pytest.raises(InputError):
            dtdl.reference_of(wrong)


FOREIGN = {
    "@context": ["dtmi:dtdl:context;3", "dtmi:dtdl:extension:quantitativeTypes;1"],
    "@id": "dtmi:com:example:Thermostat;1",
    "@type": "Interface",
    "description": {"en": "A thermostat", "de": "Ein Thermostat"},
    "extends": "dtmi:com:example:Device;2",
    "contents": [
        {"@type": ["Telemetry", "Temperature"], "name": "temp", "schema": "double", "unit": "degreeFahrenheit"},
        {"@type": ["Property", "Temperature"], "name": "setPoint", "schema": "float", "unit": "degreeCelsius",
         "writable": True},
        {"@type": ["Telemetry", "Luminosity"], "name": "cooling", "schema": "double", "unit": "tonOfRefrigeration"},
        {"@type": "Property", "name": "tags", "schema": {"@type": "Map", "mapKey": {}, "mapValue": {}}},
        {"@type": "Property", "name": "levels", "schema": {"@type": "Array", "elementSchema": "double"}},
        {"@type": "Component", "name": "inside", "schema": "dtmi:com:example:Inside;1"},
        {"@type": "Command", "name": "reboot"},
        {"@type": "Relationship", "name": "floor", "target": "dtmi:com:example:Floor;1", "maxMultiplicity": 1,
         "properties": [{"@type": "Property", "name": "since", "schema": "dateTime"}]},
    ],
}  # fmt: skip


def test_a_foreign_interface_is_carried_as_far_as_it_goes_and_the_rest_is_named():
    bundle, tally = dtdl_read.read(FOREIGN)
    (spec,) = bundle.definitions
    assert (spec.reference, spec.parents) == ("com-example-Thermostat@1", ("com-example-Device@2",))
    assert spec.description == "A thermostat"
    assert {n: (p.unit, p.desired) for n, p in spec.properties.items()} == {
        "temp": ("degF", False), "setPoint": ("degC", True),
    }  # fmt: skip
    assert (spec.relationships["floor"].target, spec.relationships["floor"].most) == ("com-example-Floor@1", 1)
    left = {one.place.rpartition(" ")[2]: one.reason for one in tally.refused}
    assert left == {"cooling": "UNIT_UNKNOWN"} | dict.fromkeys(
        ("tags", "levels", "inside", "reboot", "since"), "VALUE_INVALID"
    )
    assert tally.found == len(tally.carried) + len(tally.refused) == 10


def test_a_unit_that_its_comment_contradicts_is_refused():
    content = {"@type": ["Property", "Length"], "name": "x", "schema": "double", "unit": "metre"}
    _, tally = dtdl_read.read(FOREIGN | {"contents": [content | {"comment": 'hybridtwin {"unit":"mm"}'}]})
    assert [one.reason for one in tally.refused] == ["UNIT_CLASH"]


def test_an_interface_that_cannot_be_one_is_refused_with_all_its_parts():
    bundle, tally = dtdl_read.read([FOREIGN | {"@id": "dtmi:x:" + "y" * 100 + ";1"}])
    assert bundle.definitions == ()
    assert tally.carried == []
    assert tally.found == 10


def test_a_twin_of_no_site_is_of_the_one_given_and_reported_values_stay_out():
    graph = {"digitalTwins": [{"$dtId": "T1", "$metadata": {"$model": FOREIGN["@id"]}, "setPoint": 21.0, "temp": 70,
                               "inside": {"$metadata": {}}}]}  # fmt: skip
    file = {"digitalTwinsModels": [FOREIGN], "digitalTwinsGraph": graph}
    bundle, tally = dtdl_read.read(file, site="mill")
    assert bundle.twins == (TwinSpec("mill", "T1", "com-example-Thermostat@1", {"setPoint": 21.0}),)
    assert {one.place.rpartition(" ")[2] for one in tally.refused} >= {"temp", "inside"}
    assert dtdl_read.read(file)[0].twins == ()


def test_what_an_interface_inherits_it_cannot_say_again_and_that_is_named():
    top = DefinitionSpec.model_validate({"definition": "machine", "version": "1", "properties": {"speed": {}}})
    low = DefinitionSpec.model_validate(
        {"definition": "pump", "version": "1", "extends": "machine@1", "properties": {"speed": {"max": 5}, "flow": {}}}
    )
    file, tally = dtdl.write(Bundle((top, low)))
    assert [one.place for one in tally.refused] == ["definitions.pump@1.properties.speed"]
    assert [c["name"] for c in file["digitalTwinsModels"][1]["contents"]] == ["flow"]


@pytest.mark.parametrize("wrong", [None, 3, "x", {}, {"@type": "Property"}, {"items": []}])
def test_what_is_no_dtdl_is_refused(wrong):
    with pytest.raises(InputError):
        dtdl_read.read(wrong)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5), lambda x: st.lists(x, max_size=3)
       | st.dictionaries(st.sampled_from(["@type", "@id", "contents", "name", "schema", "unit", "$dtId", "$metadata"]),
                         x, max_size=4), max_leaves=8))  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_nothing_breaks_the_reader_but_a_refusal(rubbish):
    for file in ({"digitalTwinsModels": rubbish, "digitalTwinsGraph": {"digitalTwins": rubbish}}, [rubbish]):
        _, tally = dtdl_read.read(file)
        assert tally.found == len(tally.carried) + len(tally.refused)
    contents = FOREIGN | {"contents": rubbish}
    dtdl_read.read(contents)
