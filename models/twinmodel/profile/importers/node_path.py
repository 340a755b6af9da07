"""Browse paths as profiles write them: the profile's own namespace unsaid, others by URI, special letters escaped."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from twinmodel.errors import InputError
from twinmodel.profile.node import BrowseAddress, Name, parse_node

UA = "http://opcfoundation.org/UA/"
_ODD_START = re.compile(r"(?:nsu?=|[isgb]=|\d{1,5}:)")


@dataclass(frozen=True, slots=True)
class Named:
    """A browse name; `uri` is None where the file does not say which namespace it lies in."""

    name: str
    uri: str | None


def path_of(names: Sequence[Named], namespace: str) -> str:
    """`at` of a node below a device's root. Raises InputError VALUE_INVALID, no path can say it."""
    text = "/".join(_element(name, namespace) for name in names)
    try:
        read = parse_node(text)
    except ValueError as wrong:
        raise InputError("VALUE_INVALID", str(wrong)) from None
    expected = tuple(
        Name(n.name, None if n.uri in {namespace, UA} else n.uri, 0 if n.uri == UA != namespace else None)
        for n in names
    )
    if not isinstance(read, BrowseAddress) or read.path != expected or read.element is not None:
        raise InputError("VALUE_INVALID", f"{text[:80]!r} cannot be written as a browse path")
    return text


def _element(named: Named, namespace: str) -> str:
    name = re.sub(r"[&/\[]", r"&\g<0>", named.name)
    if named.uri == namespace:
        return f"&{name}" if _ODD_START.match(name) else name
    return f"0:{name}" if named.uri == UA else f"nsu={named.uri};{name}"
