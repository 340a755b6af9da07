"""Text of strangers in files that people read: as a scalar of YAML, or in a line of a comment."""

from __future__ import annotations

import re

_PLAIN = re.compile(
    r"(?:[A-Za-z_][A-Za-z0-9_./^()-]*|10\^@[A-Za-z0-9_][A-Za-z0-9_.-]*)(?: [A-Za-z0-9_./^()-]+)*"
    r"|\d{1,9}(?:ms|s|min|h)"
)
_WORDS = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})
_ESCAPES = {'"': '\\"', "\\": "\\\\"}


def quoted(text: str) -> str:
    """A text as a YAML scalar: in quotes where it needs them, with escapes for what YAML allows nowhere."""
    if _PLAIN.fullmatch(text) and text.lower() not in _WORDS:
        return text
    return '"' + "".join(_ESCAPES.get(c) or (c if c.isprintable() else _escape(c)) for c in text) + '"'


def visible(text: str, instead: str = "?") -> str:
    """A text with `instead` for each character that YAML allows nowhere or a terminal obeys, line breaks too."""
    return "".join(c if c.isprintable() else instead for c in text)


def _escape(c: str) -> str:
    code = ord(c)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
