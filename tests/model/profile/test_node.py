"""Addresses of OPC UA points: browse paths, node ids, namespaces and elements of arrays."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinmodel.profile.node import BrowseAddress, Name, NodeAddress, parse_node, parse_path


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("Pump/Flow", BrowseAddress((Name("Pump"), Name("Flow")))),
        ("Levels[3]", BrowseAddress((Name("Levels"),), 3)),
        ("0:Server/0:ServerStatus", BrowseAddress((Name("Server", index=0), Name("ServerStatus", index=0)))),
        ("nsu=http://a/b/;X/Y", BrowseAddress((Name("X", "http://a/b/"), Name("Y")))),
        ("Tank&/1/A&&B", BrowseAddress((Name("Tank/1"), Name("A&B")))),
        ("s=Press.Flow", NodeAddress("s", "Press.Flow")),
        ("s=Tags[3]", NodeAddress("s", "Tags[3]")),
        ("s=Tags [3]", NodeAddress("s", "Tags", element=3)),
        ("nsu=urn:maker;i=42", NodeAddress("i", "42", "urn:maker")),
        ("i=42[1]", NodeAddress("i", "42", element=1)),
        ("ns=0;i=2258", NodeAddress("i", "2258", zero=True)),
        (
            "g=09087e75-8e5e-499b-954f-f2a9603db28a",
            NodeAddress("g", "09087e75-8e5e-499b-954f-f2a9603db28a"),
        ),
        ("nsu=urn:m;b=AQID", NodeAddress("b", "AQID", "urn:m")),
        ("s=a;b=c/d", NodeAddress("s", "a;b=c/d")),
    ],
)
def test_every_form_of_address_is_read(text, address):
    assert parse_node(text) == address


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "browse path"),
        ("/Flow", "browse path"),
        ("Pump//Flow", "browse path"),
        ("Pump/", "browse path"),
        ("ns=2;s=Flow", "nsu="),
        ("i=flow", "number"),
        ("i=4294967296", "number"),
        ("g=1-2", "GUID"),
        ("b=%%", "base64"),
        ("/".join("a" * 65), "at most 64"),
        ("Levels[9999999]", "at most element"),
        ("x" * 5000, "longer"),
    ],
)
def test_wrong_address_says_what_to_write(text, says):
    with pytest.raises(ValueError, match=says):
        parse_node(text)


@given(st.lists(st.text(st.characters(codec="utf-8"), min_size=1), min_size=1, max_size=5))
def test_any_name_can_be_written_with_ampersands(names):
    text = "/".join("".join(f"&{c}" for c in name) for name in names)
    assert [n.name for n in parse_path(text)] == names


@given(st.text(max_size=60))
def test_any_text_is_an_address_or_a_value_error(text):
    with contextlib.suppress(ValueError):
        assert isinstance(parse_node(text), (BrowseAddress, NodeAddress))
