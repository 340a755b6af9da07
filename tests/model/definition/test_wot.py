"""WoT there and back without loss, and what of foreign Things is not carried, by name."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twinmodel.definition import wot
from twinmodel.definition.exchange import Bundle, LinkSpec, TwinSpec
from twinmodel.definition.schema import DefinitionSpec
from twinmodel.errors import InputError

PUMP = DefinitionSpec.model_validate(
    {
        "definition": "pump", "version": "1.2.0", "extends": ["machine@1.0.0"], "description": "A pump",
        "properties": {
            "flow": {"unit": "m3/h", "min": 0, "max": 200},
            "speed-limit": {"unit": "1/min", "desired": True, "tolerance": 5},
            "auto": {"kind": "bool", "desired": True}, "note": {"kind": "string"}, "starts": {"kind": "int"},
        },
        "relationships": {"feeds": {"target": "tank", "max": 1, "properties": {"length": {"unit": "m"}}}},
    }
)  # fmt: skip


def test_what_was_exported_is_imported_as_it_was():
    twin = TwinSpec("mill", "P-7", "pump@1.2.0", {"speed-limit": 25.0}, "active", "cloud", {"line": "3"}, {"n": [1]})
    bundle = Bundle((PUMP,), (twin,), (LinkSpec("mill", "P-7", "feeds", "mill", "TK-1", {"length": 3.0}),))
    file, written = wot.write(bundle)
    back, read = wot.read(file)
    assert (back, written.refused, read.refused) == (bundle, [], [])


THING = {
    "@context": "https://www.w3.org/2022/wot/td/v1.1",
    "id": "urn:uuid:1",
    "title": "Lamp 7",
    "security": "nosec_sc",
    "securityDefinitions": {"nosec_sc": {"scheme": "nosec"}},
    "properties": {
        "temp": {"type": "number", "unit": "om:degreeCelsius", "readOnly": True, "forms": [{"href": "/t"}]},
        "level": {"type": "integer", "readOnly": False, "minimum": 0, "maximum": 100},
        "glow": {"type": "number", "unit": "candlepower"},
        "colour": {"type": "object"},
        "steps": {"type": "array"},
    },
    "actions": {"toggle": {}},
    "events": {"overheating": {}},
    "links": [{"rel": "manifest", "href": "https://example.com/m"}],
}


def test_a_foreign_thing_is_carried_as_far_as_it_goes_and_the_rest_is_named():
    bundle, tally = wot.read(THING, site="mill")
    (spec,) = bundle.definitions
    assert {n: (p.kind, p.unit, p.desired) for n, p in spec.properties.items()} == {
        "temp": ("float", "degC", False), "level": ("int", "", True),
    }  # fmt: skip
    assert bundle.twins == (TwinSpec("mill", "Lamp-7", "Lamp-7@0"),)
    assert {one.place.partition("urn:uuid:1 ")[2].partition(" h")[0] for one in tally.refused} == {
        "properties.glow", "properties.colour", "properties.steps", "actions.toggle", "events.overheating",
        "links manifest",
    }  # fmt: skip
    assert tally.found == len(tally.carried) + len(tally.refused) == 10
    assert wot.read(THING)[0].twins == (), "it names no site"


@pytest.mark.parametrize("wrong", [None, 3, {}, [3], {"title": "x"}])
def test_what_is_no_wot_is_refused(wrong):
    with pytest.raises(InputError):
        wot.read(wrong)


RUBBISH = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda x: st.lists(x, max_size=3) | st.dictionaries(st.sampled_from(["type", "rel", "href", "id", "a"]), x),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.sampled_from([*THING, "@type", "version", "ht:relationships", "ht:tags"]), RUBBISH))
def test_nothing_breaks_the_reader_but_a_refusal(rubbish):
    _, tally = wot.read([THING | rubbish, rubbish | {"@context": "", "@type": "tm:ThingModel"}], site="mill")
    assert tally.found == len(tally.carried) + len(tally.refused)
