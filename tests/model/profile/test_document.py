"""A YAML file is read with the place of every key, the same by either parser."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from twinmodel.errors import ConfigError
from twinmodel.profile.document import parse_document
from twinmodel.profile.parsing import Place, parse_carefully, parse_quickly

FILE = Path("site.yaml")
SITE = """\
# a press
site: plant-a
devices:
  press: {opcua: "opc.tcp://10.0.0.9:4840", root: 'Press', profile: acme/press}
  "pump-1":
    modbus: tcp://10.0.0.{20..59}:502
    unit_id: 1
twins:
- on: [a.b, c:d]
  empty:
  far: 1.5e3
"""
WORDS = [
    "  ",
    "\n  ",
    "\n    ",
    ": ",
    "- ",
    " #",
    "a: ",
    "? ",
    "---",
    "...",
    "!!str ",
    "&x ",
    "*x",
    ">-\n",
    "\\x41",
    "\r\n",
    "https://",
]
PIECES = st.sampled_from([*"ab1:,'\"#&*!%@`|>?.-\\{}[]~ \n\r\t\xa0\x85\u2028\ufeff\x7f\x00\U0001f600", *WORDS])
EDITED = st.tuples(
    st.integers(0, len(SITE)), st.integers(0, 4), st.lists(PIECES, max_size=4).map("".join), st.just(SITE)
).map(lambda edit: edit[3][: edit[0]] + edit[2] + edit[3][edit[0] + edit[1] :])


def same(text):
    """What is read quickly is what is read carefully; None for what is left to the careful one."""
    quick = parse_quickly(text, FILE)
    if quick is not None:
        careful = parse_carefully(text, FILE)
        assert repr(quick.content) == repr(careful.content)
        assert (quick.keys, quick.values) == (careful.keys, careful.values)
    return quick


@given(st.lists(PIECES, max_size=14).map("".join))
def test_any_text_means_the_same_to_both_parsers(text):
    same(text)


@given(EDITED)
def test_an_edited_file_means_the_same_to_both_parsers(text):
    same(text)


def test_an_ordinary_file_is_read_quickly():
    assert same(SITE) is not None
    document = parse_document(SITE, FILE)
    assert document.content["twins"] == [{"on": ["a.b", "c:d"], "empty": None, "far": 1500.0}]
    assert document.place(("devices", "pump-1"), key=True) == Place(5, 3)
    assert document.place(("twins", 0, "on", 1)) == Place(9, 13)


@pytest.mark.parametrize(
    "text",
    [
        "a: 1\t\n",
        "%YAML 1.1\n---\na: yes",
        "a: &x 1\n",
        "? a\n: 1\n",
        "a: |\n  b\n",
        "a: 1\na: 2\n",
        "a: [",
        "a: \x85b",
        ">\r#b",
    ],
)
def test_what_parsers_read_differently_is_left_to_the_careful_one(text):
    assert parse_quickly(text, FILE) is None


@pytest.mark.parametrize(
    ("text", "line", "column", "part"),
    [
        ("a: 1\nb: [1, 2\nc: 3\n", 3, 2, "expected ',' or ']'"),
        ("a: 1\n\tb: 2\n", 2, 1, "a tab; YAML is indented by spaces alone"),
        ("a: 1\nb: {c: 1\nd: 2\n", 3, 2, "part of what begins in line 2"),
        ("a:\n  b: 1\n   c: 2\n", 3, 5, "mapping values are not allowed"),
        ("a:\n  - b\n c: 2\n", 3, 2, "indented otherwise"),
        ("a: 1\nb: x\0y\n", 2, 5, "character #x0000 is not allowed"),
        ("a: 1\n b: 2\n", 2, 3, "mapping values are not allowed here"),
        ("a: 1\nb: *a\n", 2, 4, "aliases"),
        ("a: 1\nb: !!python/object:os.system 1\n", 2, 4, "tags are not allowed"),
        ("a: 1\n---\nb: 2\n", 2, 1, "only one document"),
        ("a: 1\nb: 2\na: 3\n", 3, 1, "first in line 1"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(text, line, column, part):
    with pytest.raises(ConfigError) as caught:
        parse_document(text, FILE)
    assert part in caught.value.message
    assert (caught.value.facts["line"], caught.value.facts["column"]) == (line, column)


def test_a_value_that_is_missing_stands_where_its_key_does():
    for parse in (parse_quickly, parse_carefully):
        parsed = parse("a:\n\n\nb: 1\n", FILE)
        assert parsed.content == {"a": None, "b": 1}
        assert parsed.values["a",] == Place(1, 1)


def test_without_libyaml_everything_is_read_carefully(monkeypatch):
    whole = parse_document(SITE, FILE)
    monkeypatch.setattr(yaml, "__with_libyaml__", False)
    assert parse_quickly(SITE, FILE) is None
    assert parse_document(SITE, FILE) == whole


def test_a_draft_is_named_in_what_is_wrong_with_it_and_read_where_it_will_lie():
    draft = Path("/tmp/draft.yaml")
    assert parse_document("a: 1\n", FILE, draft).path == FILE
    assert parse_document("a: 1\n", FILE, draft).error("VALUE_INVALID", ("a",), "no").facts["path"] == str(draft)
    with pytest.raises(ConfigError) as caught:
        parse_document("a: [", FILE, draft)
    assert caught.value.facts["path"] == str(draft)
