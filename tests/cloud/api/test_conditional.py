"""Entity tags: which change passes, which is refused and with what, after RFC 9110."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from twincloud.api.conditional import condition_of, content_tag, tag_of, unchanged, weak_tag
from twincloud.api.problems import problem_of
from twinmodel.errors import InputError, TwinError


def request(**headers: str | list[str]) -> Request:
    raw = [
        (name.replace("_", "-").encode(), one.encode("latin-1"))
        for name, said in headers.items()
        for one in ([said] if isinstance(said, str) else said)
    ]
    return Request({"type": "http", "method": "PATCH", "headers": raw})


@pytest.mark.parametrize(
    ("header", "current", "passes"),
    [
        ('"17"', '"17"', True),
        ('"16", "17"', '"17"', True),
        ('"16"', '"17"', False),
        ('W/"17"', '"17"', False),
        ('"17"', 'W/"17"', False),
        ("*", '"17"', True),
        ("*", None, False),
        ('"17"', None, False),
    ],
)
def test_if_match_compares_strongly(header, current, passes):
    condition = condition_of(request(if_match=header))
    if passes:
        condition.check(current)
    else:
        with pytest.raises(TwinError) as refused:
            condition.check(current, "twin tank-1")
        answer = problem_of(refused.value)
        assert answer.status_code == 412
        assert answer.headers.get("etag") == current


@pytest.mark.parametrize(
    ("header", "current", "passes"),
    [("*", None, True), ("*", '"1"', False), ('"1"', '"1"', False), ('W/"1"', '"1"', False), ('"2"', '"1"', True)],
)
def test_if_none_match_on_a_change_compares_weakly(header, current, passes):
    condition = condition_of(request(if_none_match=header))
    if passes:
        condition.check(current)
    else:
        with pytest.raises(TwinError, match="PRECONDITION_FAILED"):
            condition.check(current)


def test_missing_condition_is_428_only_where_one_is_required():
    assert condition_of(request()).revisions is None
    condition_of(request()).check(None)
    condition_of(request(if_none_match="*"), required=True)
    with pytest.raises(TwinError) as refused:
        condition_of(request(), required=True)
    assert problem_of(refused.value).status_code == 428


@pytest.mark.parametrize(
    "header", ["17", '"17', '"1""2"', "W/17", '"a" *', "", 'w/"1"', '"1",' * 100, '"' + "x" * 5000]
)
def test_what_is_no_list_of_tags_is_refused_on_a_change_and_ignored_on_a_reading(header):
    with pytest.raises(TwinError, match="REQUEST_INVALID"):
        condition_of(request(if_match=header))
    assert not unchanged(request(if_none_match=header), '"17"')


def test_headers_sent_twice_are_one_list_and_revisions_are_read_from_it():
    condition = condition_of(request(if_match=['"16"', '"17" ,, "x"']))
    assert condition.revisions == {16, 17}
    assert condition_of(request(if_match="*")).revisions is None
    assert condition_of(request(if_match='W/"17"')).revisions == set()


def test_reading_is_unchanged_when_the_tag_is_known_weak_or_strong():
    assert unchanged(request(if_none_match='"a", W/"17-ok"'), weak_tag(17, "ok"))
    assert unchanged(request(if_none_match="*"), '"17"')
    assert not unchanged(request(if_none_match='"18"'), '"17"')
    assert not unchanged(request(), '"17"')


@given(st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=20))
def test_tags_we_make_are_tags_we_read(revisions):
    header = ", ".join(tag_of(one) for one in revisions)
    assert condition_of(request(if_match=header)).revisions == set(revisions)
    tag = content_tag(header.encode())
    condition_of(request(if_match=tag)).check(tag)


@given(st.text(st.characters(max_codepoint=255), max_size=60))
def test_any_header_is_read_or_refused_by_name(header):
    with contextlib.suppress(InputError):
        condition_of(request(if_match=header))
