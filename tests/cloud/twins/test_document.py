"""Merge patches of a twin's record: RFC 7396 for all that is free, checks for all that means something."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twincloud.twins.document import Document, merged
from twincloud.twins.graph import first_cycle
from twincloud.twins.lifecycle import State
from twinmodel.definition.resolve import resolve
from twinmodel.definition.schema import DefinitionSpec
from twinmodel.errors import ConflictError, InputError, TwinError

PUMP = resolve(
    DefinitionSpec.model_validate({
        "definition": "pump", "version": "1",
        "properties": {
            "speed": {"unit": "1/min", "min": 0, "max": 3000, "desired": True},
            "steps": {"kind": "int", "desired": True},
            "name": {"kind": "string", "desired": True},
        },
    }),
    lambda _: None,
)  # fmt: skip
SLOW = resolve(
    DefinitionSpec.model_validate({
        "definition": "slow", "version": "1", "properties": {"speed": {"unit": "1/min", "max": 10, "desired": True}},
    }),
    lambda _: None,
)  # fmt: skip


def patched(old: Document, patch: object) -> Document:
    return merged("P-1", old, patch, {"pump@1": PUMP, "slow@1": SLOW}.__getitem__, by="ann", now_ns=7)


NEW = Document("pump@1")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abcd"), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


def merge_patch(target: object, patch: object) -> object:
    """The pseudo-code of RFC 7396, clause 2, word for word."""
    if isinstance(patch, dict):
        if not isinstance(target, dict):
            target = {}
        target = dict(target)
        for name, value in patch.items():
            if value is None:
                if name in target:
                    del target[name]
            else:
                target[name] = merge_patch(target.get(name), value)
        return target
    return patch


@given(
    st.dictionaries(st.sampled_from("abcd"), JSON, max_size=4),
    st.dictionaries(st.sampled_from("abcd"), JSON, max_size=4),
)
def test_attributes_are_merged_as_the_rfc_says(first, second):
    once = patched(NEW, {"attributes": first})
    twice = patched(once, {"attributes": second})
    assert twice.attributes == merge_patch(merge_patch({}, first), second)


@given(JSON)
def test_whatever_is_sent_as_a_patch_is_taken_or_refused_by_reason(patch):
    for body in (patch, {"desired": patch}, {"tags": patch}, {"state": patch}, {"desired": {"speed": patch}}):
        assert taken_or_hinted(body)


def taken_or_hinted(body: object) -> bool:
    try:
        return isinstance(patched(NEW, body), Document)
    except TwinError as refused:
        return bool(refused.hint)


def test_who_desires_what_is_written_down_and_stays_when_another_property_changes():
    first = patched(NEW, {"desired": {"speed": {"value": 10, "unit": "1/s"}}})
    assert (first.desired["speed"].value, first.desired["speed"].by, first.desired["speed"].at_ns) == (600.0, "ann", 7)
    second = merged("P-1", first, {"desired": {"steps": {"value": 3.0}}}, lambda _: PUMP, by="bob", now_ns=9)
    assert second.desired["speed"] == first.desired["speed"]
    assert (second.desired["steps"].value, second.desired["steps"].by) == (3, "bob")
    assert type(second.desired["steps"].value) is int


@pytest.mark.parametrize("value", [3000.1, -1, float("inf"), True, "fast", None, [1], 10**400])
def test_a_value_the_property_cannot_be_is_refused(value):
    with pytest.raises(InputError):
        patched(NEW, {"desired": {"speed": {"value": value}}})


def test_a_definition_that_what_is_desired_does_not_fit_is_refused_unless_the_same_patch_mends_it():
    old = patched(NEW, {"desired": {"speed": {"value": 100}}})
    with pytest.raises(ConflictError) as refused:
        patched(old, {"definition": "slow@1"})
    assert refused.value.reason == "DEFINITION_CONFLICT"
    mended = patched(old, {"definition": "slow@1", "desired": {"speed": {"value": 5}}})
    assert (mended.definition, mended.desired["speed"].value) == ("slow@1", 5.0)


def test_nothing_is_desired_of_a_retired_twin():
    with pytest.raises(ConflictError) as refused:
        patched(Document("pump@1", State.RETIRED), {"desired": {"speed": {"value": 5}}})
    assert refused.value.reason == "TWIN_OUT_OF_SERVICE"


def test_attributes_deeper_than_allowed_are_refused():
    deep: object = 1
    for _ in range(40):
        deep = {"a": deep}
    with pytest.raises(InputError) as refused:
        patched(NEW, {"attributes": deep})
    assert refused.value.reason == "LIMIT_EXCEEDED"


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=15))
def test_a_circle_is_found_exactly_where_there_is_one(edges):
    cycle = first_cycle(edges)
    left = set(edges)
    while True:  # Kahn: what nobody leads to is in no circle
        ends = {target for _, target in left}
        inner = {edge for edge in left if edge[0] in ends}
        if inner == left:
            break
        left = inner
    assert bool(cycle) == bool(left)
    if cycle:
        assert cycle[0] == cycle[-1]
        assert set(itertools.pairwise(cycle)) <= set(edges)
