"""Tokens of the filter language: what one is, and where it stood."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NoReturn

from twinmodel.errors import InputError

CHARS_MAX: Final = 1_000
WORDS: Final = frozenset({"and", "or", "not", "in", "has", "true", "false", "null"})

_TOKEN: Final = re.compile(
    r"""(?P<time>\d{4}-\d\d-\d\d[Tt]\d\d:\d\d[0-9:.]*(?:[Zz]|[+-]\d\d:\d\d)?)
      | (?P<duration>-?\d{1,15}(?:\.\d{1,9})?(?:ms|us|ns|s|m|h|d)(?![A-Za-z0-9_]))
      | (?P<number>-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?(?![A-Za-z0-9_.]))
      | (?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
      | (?P<name>[A-Za-z_][A-Za-z0-9_-]*)
      | (?P<sign>!=|<=|>=|\^=|[=<>(),.])""",
    re.VERBOSE | re.ASCII | re.DOTALL,
)
_BLANKS: Final = " \t\r\n"
_ESCAPES: Final = {"n": "\n", "t": "\t", "\\": "\\", '"': '"', "'": "'"}


class Sort(StrEnum):
    """What a token is."""

    TIME = "time"
    DURATION = "duration"
    NUMBER = "number"
    TEXT = "text"
    NAME = "name"
    WORD = "word"
    SIGN = "sign"
    END = "end"


@dataclass(frozen=True, slots=True)
class Token:
    """One token; `column` counts from 1, and a TEXT is without its quotes and escapes."""

    sort: Sort
    text: str
    column: int

    @property
    def shown(self) -> str:
        """How errors name it."""
        return "the end" if self.sort is Sort.END else repr(self.text[:40])


def refusal(column: int, message: str, *, expected: str = "", nearest: str = "") -> InputError:
    """The error FILTER_INVALID at a column of the filter."""
    hint = f"did you mean {nearest}?" if nearest else f"expected {expected}" if expected else None
    facts = {"field": "filter", "column": column, "expected": expected, "nearest": nearest}
    return InputError("FILTER_INVALID", f"filter, column {column}: {message}", hint=hint, **facts)


def tokens_of(text: str) -> list[Token]:
    """Cuts a filter into tokens, an END last; raises FILTER_INVALID."""
    if len(text) > CHARS_MAX:
        raise refusal(CHARS_MAX + 1, f"it has {len(text)} characters", expected=f"at most {CHARS_MAX} characters")
    found, at = list[Token](), 0
    while True:
        while at < len(text) and text[at] in _BLANKS:
            at += 1
        if at == len(text):
            return [*found, Token(Sort.END, "", at + 1)]
        match = _TOKEN.match(text, at)
        if match is None:
            _unreadable(text, at)
        sort, word = Sort(match.lastgroup or ""), match.group()
        if sort is Sort.TEXT:
            word = _plain(word[1:-1], at + 1)
        elif sort is Sort.NAME and word.lower() in WORDS and not _follows_dot(found):
            sort, word = Sort.WORD, word.lower()
        found.append(Token(sort, word, at + 1))
        at = match.end()


def _follows_dot(found: list[Token]) -> bool:
    """Whether the name to come is a step of a path, where `in` and `not` are names as others."""
    return bool(found) and found[-1].sort is Sort.SIGN and found[-1].text == "."


def _unreadable(text: str, at: int) -> NoReturn:
    if text[at] in "\"'":
        raise refusal(at + 1, "this text has no closing quote", expected=f"a closing {text[at]}")
    if text[at].isdigit() or text[at] == "-":
        word = re.match(r"[-\w.+:]+", text[at:])
        shown = word.group()[:40] if word else text[at]
        raise refusal(
            at + 1, f"{shown!r} is no number, duration or time", expected="12, -3.5e2, 90s or 2026-01-31T08:00:00Z"
        )
    raise refusal(at + 1, f"{text[at]!r} means nothing here", expected="a field, an operator or a literal")


def _plain(quoted: str, column: int) -> str:
    parts, at = list[str](), 0
    while at < len(quoted):
        if quoted[at] == "\\":
            escape = quoted[at + 1]
            if escape not in _ESCAPES:
                raise refusal(column + at + 1, f"the escape \\{escape} is not known", expected=r"\\, \", \', \n or \t")
            parts.append(_ESCAPES[escape])
            at += 2
            continue
        # No engine takes these in a text, and no record holds them.
        if quoted[at] == "\0" or "\ud800" <= quoted[at] <= "\udfff":
            raise refusal(column + at + 1, "this character is in no text", expected="Unicode text without NUL")
        parts.append(quoted[at])
        at += 1
    return "".join(parts)
