"""Where an OPC UA point lies: a browse path or a node id, with namespaces by URI, and an element of an array.

    Pump/Flow                                   browse path below the device's root, names in the profile's namespace
    nsu=http://opcfoundation.org/UA/DI/;DeviceHealth    a name in another namespace; `0:Value` in that of OPC UA
    Tank&/1/Level                               `&` takes the next character as it is
    Levels[3]                                   the fourth element of an array
    s=Press.Flow, i=1042, g=..., b=...          node id in the profile's namespace
    nsu=urn:maker:press;s=Press.Flow [3]        node id in another one; before an index of `s=` stands a blank

Indices of namespaces other than 0 are refused in node ids: a server numbers them anew after an update, and `ns=2`
would then read another variable without anyone noticing.
"""

from __future__ import annotations

import re
import uuid
from base64 import b64decode
from binascii import Error as Base64Error
from dataclasses import dataclass
from typing import Literal

ELEMENTS_MAX = 64
TEXT_MAX = 4096
INDEX_MAX = 1 << 20

_NODE_ID = re.compile(r"(?:nsu=(?P<uri>[^;]+);|ns=(?P<ns>\d{1,5});)?(?P<kind>[isgb])=(?P<id>.+)", re.DOTALL)
_ELEMENT = re.compile(r"(?:nsu=(?P<uri>[^;]+);|(?P<ns>\d{1,5}):)?(?P<name>(?:[^/&]|&.)*)", re.DOTALL)
_INDEX = re.compile(r"(?P<rest>.*?)(?P<blank>\s*)\[(?P<index>\d{1,7})\]", re.DOTALL)
IdKind = Literal["i", "s", "g", "b"]


@dataclass(frozen=True, slots=True)
class Name:
    """A qualified name.

    Attributes:
        name: text without namespace.
        uri: namespace; None is the profile's, or the one `index` gives.
        index: namespace by number, as `0:Value` writes it.
    """

    name: str
    uri: str | None = None
    index: int | None = None


@dataclass(frozen=True, slots=True)
class NodeAddress:
    """A node by its id.

    Attributes:
        kind: `i` number, `s` text, `g` GUID, `b` bytes in base64.
        identifier: as text.
        uri: namespace; None is the profile's unless `zero`.
        zero: whether it lies in the namespace of OPC UA itself.
        element: index into an array value, None for the value itself.
    """

    kind: IdKind
    identifier: str
    uri: str | None = None
    zero: bool = False
    element: int | None = None


@dataclass(frozen=True, slots=True)
class BrowseAddress:
    """A node by its browse path; `element` as in `NodeAddress`."""

    path: tuple[Name, ...]
    element: int | None = None


def parse_node(text: str) -> BrowseAddress | NodeAddress:
    """Reads the `at` of an OPC UA point. Raises ValueError that says what to write."""
    text = text.strip()
    if len(text) > TEXT_MAX:
        raise ValueError(f"{text[:40]!r}... is longer than {TEXT_MAX} characters")
    as_id = _NODE_ID.fullmatch(text)
    if as_id is not None:
        return _node_id(text, as_id)
    rest, element = _split_index(text, needs_blank=False)
    path = parse_path(rest)
    if not path:
        raise ValueError(f"{text!r} is no browse path; write e.g. Pump/Flow")
    return BrowseAddress(path, element)


def parse_path(text: str) -> tuple[Name, ...]:
    """Reads a browse path such as a device's `root`; empty text has no elements. Raises ValueError."""
    if not text:
        return ()
    names: list[Name] = []
    position = 0
    while True:
        found = _ELEMENT.match(text, position)
        name = re.sub(r"&(.)", r"\1", found["name"], flags=re.DOTALL) if found is not None else ""
        if found is None or not name:
            raise ValueError(f"{text!r} is no browse path; write e.g. Pump/Flow, with & before a / inside a name")
        names.append(Name(name, found["uri"], int(found["ns"]) if found["ns"] else None))
        position = found.end()
        if position >= len(text):
            break
        if text[position] != "/" or len(names) >= ELEMENTS_MAX:
            raise ValueError(f"{text!r} is no browse path of at most {ELEMENTS_MAX} names")
        position += 1
    return tuple(names)


def _split_index(text: str, *, needs_blank: bool) -> tuple[str, int | None]:
    found = _INDEX.fullmatch(text)
    if found is None or (needs_blank and not found["blank"]) or found["rest"].endswith("&"):
        return text, None
    if int(found["index"]) > INDEX_MAX:
        raise ValueError(f"{text!r}: at most element {INDEX_MAX}")
    return found["rest"], int(found["index"])


def _node_id(text: str, found: re.Match[str]) -> NodeAddress:
    kind: IdKind = found["kind"]  # type: ignore[assignment]  # the expression allows only these letters
    if found["ns"] and int(found["ns"]):
        raise ValueError(
            f"{text!r} numbers its namespace, which servers do anew after an update; write nsu=<namespace URI>;"
            f"{kind}=... or {kind}=... for the profile's own namespace"
        )
    identifier, element = _split_index(found["id"], needs_blank=kind == "s")
    try:
        if kind == "i":
            int(identifier).to_bytes(4, "big")
        if kind == "g":
            uuid.UUID(identifier)
        if kind == "b":
            b64decode(identifier, validate=True)
    except (ValueError, OverflowError, Base64Error):
        what = {"i": "a number below 2^32", "g": "a GUID", "b": "base64"}[kind]
        raise ValueError(f"{text!r}: behind {kind}= must stand {what}") from None
    return NodeAddress(kind, identifier, found["uri"], found["ns"] is not None, element)
