"""What the filter language takes, what it refuses, and how it says so."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twincloud.filters import Field, Fields, Kind, parse
from twinmodel.errors import InputError

FIELDS = Fields(
    (
        Field("site", Kind.TEXT),
        Field("health", Kind.TEXT, one_of=("ok", "warn", "bad", "offline")),
        Field("retired", Kind.BOOLEAN),
        Field("revision", Kind.WHOLE),
        Field("updated", Kind.TIME),
        Field("freshness", Kind.DURATION),
        Field("tags", Kind.NAMES),
        Field("tags.*", Kind.TEXT),
        Field("drift.*", Kind.NUMBER),
        Field("estimated.*.value", Kind.VALUE),
    )
)

TWIN = {
    "site": "mill",
    "health": "warn",
    "retired": False,
    "revision": 7,
    "updated": 1_767_225_600_000_000_001,
    "freshness": 90_000_000_000,
    "tags": {"line": "3", "the owner": "O'Hara"},
    "drift": {"flow": 0.5},
    "estimated": {"flow": {"value": 12.5}, "state": {"value": "open"}, "on": {"value": True}, "count": {"value": 1}},
}

TRUE = (
    'site = "mill"',
    "site = 'mill' and not retired",
    'site ^= "mi" and (health in ("warn", "bad") or retired)',
    'health not in ("ok", "offline")',
    "revision >= 7 and revision < 8",
    "updated > 2026-01-01T00:00:00Z and updated < 2026-01-01T00:00:00.000000002Z",
    'updated > "2026-01-01T01:00:00+01:00"',
    "freshness = 90s and freshness < 1.6m and freshness > 80000ms",
    'tags has "line" and tags.line = "3"',
    "tags.\"the owner\" = 'O\\'Hara'",
    "tags.floor = null and tags.line != null",
    'not tags.floor = "1"',
    "drift.flow > -1e-3",
    'estimated.flow.value > 12 and estimated.state.value = "open" and estimated.on.value = true',
    "not estimated.on.value = 1 and not estimated.count.value = true",
    "not not not retired",
    "retired = false or not estimated.flow.value < 0",
    'site = "mill" OR retired AND retired',
)
FALSE = (
    "retired",
    'site != "mill"',
    'tags.floor != "1"',
    "estimated.head.value > 0",
    "estimated.state.value > 0",
    "estimated.on.value in (1, 2)",
    'tags has "floor"',
    "site = null",
)


@pytest.mark.parametrize("text", TRUE)
def test_a_filter_that_fits_matches(text):
    assert parse(text, FIELDS).matches(TWIN)


@pytest.mark.parametrize("text", FALSE)
def test_a_filter_that_does_not_fit_does_not_match(text):
    assert not parse(text, FIELDS).matches(TWIN)


REFUSED = {
    "": (1, "site"),
    "   ": (1, "site"),
    "site": (5, "="),
    "sight = 'x'": (1, ""),
    "estimated.flow = 3": (1, ""),
    'site = "mill" retired': (15, "and"),
    'site = "mill': (8, "closing"),
    "site = 3": (8, "text"),
    "site < 'a'": (6, "^="),
    "health = 'wrn'": (10, "warn"),
    "revision = 1.5": (12, "whole"),
    "revision = 99999999999999999999": (12, "64"),
    "drift.flow = 1e999": (14, "1.8e308"),
    "drift.flow = 'x'": (14, "number"),
    "drift.flow ^= 1": (12, "="),
    "updated > yesterday": (11, "time"),
    "updated > 2026-13-01T00:00:00Z": (11, "time"),
    "updated > 2026-01-01T00:00:00": (11, "Z"),
    "updated > 2026-01-01T00:00:00.1234567890Z": (11, "time"),
    "freshness < 5": (13, "90s"),
    "freshness < 5x": (13, "90s"),
    "tags = 'line'": (6, "has"),
    "site has 'm'": (6, "="),
    "site in 'm'": (9, "("),
    "site in ()": (10, "text"),
    "site in ('m'": (13, ")"),
    "(retired": (9, ")"),
    "retired)": (8, "end"),
    "not": (4, "field"),
    "retired and": (12, "field"),
    "site = '\\x'": (9, "\\n"),
    "site = '\0'": (9, "NUL"),
    "estimated.a.value > 'x'": (21, "number"),
    "estimated.a.value ^= 1": (22, "text"),
    "retired ; drop table twins": (9, "operator"),
    'site = "' + "x" * 1_000: (1_001, "1000"),
    "(" * 11 + "retired" + ")" * 11: (11, "10"),
    " or ".join(["retired"] * 51): (551, "50"),
    "site in (" + ",".join(["''"] * 51) + ")": (160, "50"),
}


@pytest.mark.parametrize("text", REFUSED)
def test_a_wrong_filter_is_refused_with_its_column_and_what_was_expected(text):
    column, expected = REFUSED[text]
    with pytest.raises(InputError) as refused:
        parse(text, FIELDS)
    assert refused.value.reason == "FILTER_INVALID"
    assert refused.value.facts["column"] == column
    assert expected in str(refused.value.facts["expected"])
    assert f"column {column}" in refused.value.message
    assert len(refused.value.message) < 200


@pytest.mark.parametrize(
    ("text", "nearest"),
    [
        ("sight = 'x'", "site"),
        ("Health = 'ok'", "health"),
        ("estimate.flow.value > 1", "estimated.flow.value"),
        ("estimated.flow.val > 1", "estimated.flow.value"),
        ("tag.line = '3'", "tags.line"),
        ("value > 3", "estimated.*.value"),
        ("zzz = 1", ""),
    ],
)
def test_a_field_that_is_not_there_names_the_nearest(text, nearest):
    with pytest.raises(InputError) as refused:
        parse(text, FIELDS)
    assert refused.value.facts["nearest"] == nearest


WORDS = st.sampled_from(
    (
        *"()=<>!^,.\"'\\ \né", "site", "health", "retired", "tags", "estimated.flow.value", "and", "or", "not", "in",
        "has", "null", "true", "1", "-2.5e3", "90s", "2026-01-01T00:00:00Z", '"x"', "!=", "<=",
    )
)  # fmt: skip


@given(st.one_of(st.text(max_size=200), st.lists(WORDS, max_size=60).map(" ".join), st.lists(WORDS).map("".join)))
def test_no_text_breaks_the_parser(text):
    refused = None
    try:
        found = parse(text, FIELDS)
    except InputError as error:
        refused = error
    if refused is None:
        assert found.matches({}) in (True, False)
        assert found.matches(TWIN) in (True, False)
    else:
        assert refused.reason == "FILTER_INVALID"
        assert 1 <= int(str(refused.facts["column"])) <= len(text) + 1
