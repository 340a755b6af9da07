"""Definitions: what they inherit, what may be said again, and which circles and depths are refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinmodel.definition.resolve import DEPTH_MAX, order_of, resolve
from twinmodel.definition.schema import DefinitionSpec
from twinmodel.errors import ConflictError, InputError, MissingError


def spec(name: str, *parents: str, **parts) -> DefinitionSpec:
    return DefinitionSpec.model_validate({"definition": name, "version": "1", "extends": list(parents), **parts})


def found(*specs: DefinitionSpec):
    return {one.reference: one for one in specs}.get


MACHINE = spec(
    "machine",
    properties={"power": {"unit": "kW", "min": 0, "max": 100}, "mode": {"kind": "string"}},
    relationships={"feeds": {"max": 2}},
)


def test_a_child_has_what_its_parents_have_and_says_where_it_is_from():
    pump = spec(
        "pump", "machine@1", properties={"flow": {"unit": "m3/h"}, "power": {"unit": "kW", "min": 1, "max": 50}}
    )
    whole = resolve(pump, found(MACHINE))
    assert list(whole.properties) == ["power", "mode", "flow"]
    assert (whole.properties["power"].low, whole.properties["power"].high) == (1, 50)
    assert whole.origins["properties.power"] == "pump@1"
    assert whole.origins["properties.mode"] == "machine@1"
    assert whole.chain == ("pump@1", "machine@1")
    assert whole.is_a("machine")
    assert whole.is_a("machine@1")
    assert not whole.is_a("machine@2")
    assert not whole.is_a("tank")


@pytest.mark.parametrize(
    ("parts", "why"),
    [
        ({"properties": {"power": {"unit": "W", "min": 0, "max": 100}}}, "the unit W is not kW"),
        ({"properties": {"power": {"kind": "int", "unit": "kW", "min": 0, "max": 100}}}, "the kind int is not float"),
        ({"properties": {"power": {"unit": "kW", "min": -1, "max": 100}}}, "its min -1.0 is below 0.0"),
        ({"properties": {"power": {"unit": "kW", "min": 0}}}, "its max None is above 100.0"),
        ({"relationships": {"feeds": {"max": 3}}}, "its max 3 is above 2"),
        ({"relationships": {"feeds": {}}}, "its max none is above 2"),
    ],
)
def test_an_override_that_says_something_wider_is_refused_with_both_places(parts, why):
    with pytest.raises(ConflictError) as refused:
        resolve(spec("pump", "machine@1", **parts), found(MACHINE))
    assert refused.value.reason == "DEFINITION_CONFLICT"
    assert why in refused.value.message
    assert "machine@1" in refused.value.message


def test_two_parents_that_disagree_are_refused_and_one_grandparent_by_two_ways_is_not():
    a = spec("a", "machine@1")
    b = spec("b", "machine@1")
    assert resolve(spec("c", "a@1", "b@1"), found(MACHINE, a, b)).chain == ("c@1", "a@1", "machine@1", "b@1")
    other = spec("other", properties={"power": {"unit": "kW"}})
    with pytest.raises(ConflictError, match="two parents"):
        resolve(spec("c", "a@1", "other@1"), found(MACHINE, a, other))


def test_circles_are_refused_by_name():
    a, b, c = spec("a", "b@1"), spec("b", "c@1"), spec("c", "a@1")
    for refuse in (lambda: order_of([a, b, c]), lambda: resolve(a, found(a, b, c))):
        with pytest.raises(ConflictError) as refused:
            refuse()
        assert refused.value.reason == "DEFINITION_CYCLE"
        assert refused.value.facts["cycle"] == "a@1 -> b@1 -> c@1 -> a@1"
    with pytest.raises(ConflictError, match="a@1 -> a@1"):
        resolve(spec("a", "a@1"), found(spec("a", "a@1")))


def test_more_generations_than_allowed_are_refused_and_as_many_are_not():
    line = [spec("d0"), *(spec(f"d{n}", f"d{n - 1}@1") for n in range(1, DEPTH_MAX + 1))]
    assert resolve(line[DEPTH_MAX - 1], found(*line)).generations == DEPTH_MAX
    with pytest.raises(InputError) as refused:
        resolve(line[DEPTH_MAX], found(*line))
    assert refused.value.reason == "LIMIT_EXCEEDED"


def test_a_parent_that_is_not_there_is_named():
    with pytest.raises(MissingError, match=r"extends machine@1"):
        resolve(spec("pump", "machine@1"), found())


def test_many_ways_to_the_same_ancestors_cost_one_look_at_each():
    looked = []
    layers = [[spec(f"d0-{k}") for k in range(8)]]
    for level in range(1, DEPTH_MAX - 1):
        parents = [one.reference for one in layers[-1]]
        layers.append([spec(f"d{level}-{k}", *parents) for k in range(8)])
    known = {one.reference: one for layer in layers for one in layer}

    def find(reference):
        looked.append(reference)
        return known.get(reference)

    whole = resolve(spec("top", *(one.reference for one in layers[-1])), find)
    assert len(whole.chain) == len(looked) + 1 == len(known) + 1


@given(st.permutations(range(6)))
def test_definitions_published_together_come_parents_first_in_any_order(order):
    line = [spec("d0"), *(spec(f"d{n}", f"d{n - 1}@1", "d0@1") for n in range(1, 6))]
    assert [one.definition for one in order_of([line[n] for n in order])] == [f"d{n}" for n in range(6)]
