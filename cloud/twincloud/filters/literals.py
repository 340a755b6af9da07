"""Literals of the filter language, read as what their field holds."""

from __future__ import annotations

import difflib
import math
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final, NoReturn

from twincloud.filters.fields import Field, Kind
from twincloud.filters.tokens import Sort, Token, refusal
from twincloud.filters.tree import Literal, Op
from twinmodel.clock import SECOND_NS

_UNITS_NS: Final = {
    "ns": 1,
    "us": 1_000,
    "ms": 1_000_000,
    "s": SECOND_NS,
    "m": 60 * SECOND_NS,
    "h": 3_600 * SECOND_NS,
    "d": 86_400 * SECOND_NS,
}
_WHOLE_MAX: Final = 2**63 - 1
_DIGITS_MAX: Final = 9
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def literal_of(token: Token, field: Field, op: Op) -> Literal:
    """The value a token has for a field; raises FILTER_INVALID when it is of another kind."""
    kind = field.kind
    if kind is Kind.VALUE:
        kind = _kind_of(token, field, op)
    if kind is Kind.TEXT and token.sort is Sort.TEXT:
        if field.one_of and op is not Op.PREFIX and token.text not in field.one_of:
            _no_such(token, field)
        return token.text
    if kind is Kind.BOOLEAN and token.sort is Sort.WORD and token.text in ("true", "false"):
        return token.text == "true"
    if kind is Kind.NUMBER and token.sort is Sort.NUMBER:
        return _number(token)
    if kind is Kind.WHOLE and token.sort is Sort.NUMBER:
        return _whole(token)
    if kind is Kind.TIME and token.sort in (Sort.TIME, Sort.TEXT):
        return _time_ns(token)
    if kind is Kind.DURATION and token.sort is Sort.DURATION:
        return _duration_ns(token)
    raise refusal(token.column, f"{token.shown} cannot be compared with {field.name}", expected=field.kind)


def _kind_of(token: Token, field: Field, op: Op) -> Kind:
    kinds = {Sort.NUMBER: Kind.NUMBER, Sort.TEXT: Kind.TEXT, Sort.WORD: Kind.BOOLEAN}
    taken = {Op.EQ: set(kinds), Op.NE: set(kinds), Op.PREFIX: {Sort.TEXT}}.get(op, {Sort.NUMBER})
    if token.sort not in taken or (token.sort is Sort.WORD and token.text not in ("true", "false")):
        expected = {Op.EQ: Kind.VALUE, Op.NE: Kind.VALUE, Op.PREFIX: Kind.TEXT}.get(op, Kind.NUMBER)
        raise refusal(token.column, f"{token.shown} cannot be compared with {field.name} by {op}", expected=expected)
    return kinds[token.sort]


def _no_such(token: Token, field: Field) -> NoReturn:
    near = difflib.get_close_matches(token.text, field.one_of, n=1)
    expected = "one of " + ", ".join(f'"{text}"' for text in field.one_of)
    nearest = f'"{near[0]}"' if near else ""
    raise refusal(token.column, f"{field.name} is never {token.shown}", expected=expected, nearest=nearest)


def _number(token: Token) -> float:
    value = float(token.text)
    if not math.isfinite(value):
        raise refusal(token.column, f"{token.shown} is too large", expected="a number below 1.8e308")
    return value


def _whole(token: Token) -> int:
    if not token.text.lstrip("-").isdigit():
        raise refusal(token.column, f"{token.shown} is no whole number", expected=Kind.WHOLE)
    return _within(int(token.text), token)


def _duration_ns(token: Token) -> int:
    digits = token.text.rstrip("nusmhd")
    return _within(int(Decimal(digits) * _UNITS_NS[token.text[len(digits) :]]), token)


def _time_ns(token: Token) -> int:
    text = token.text.upper()
    whole, dot, rest = text.partition(".")
    fraction = rest.rstrip("Z").partition("+")[0].partition("-")[0] if dot else ""
    zone = rest[len(fraction) :] if dot else ""
    if dot and not (fraction.isascii() and fraction.isdigit() and len(fraction) <= _DIGITS_MAX):
        raise refusal(token.column, f"{token.shown} is no time of at most nine digits", expected=Kind.TIME)
    try:
        moment = datetime.fromisoformat(whole + zone)
    except ValueError as cause:
        raise refusal(token.column, f"{token.shown} is no time", expected=Kind.TIME) from cause
    if moment.tzinfo is None or "T" not in text:
        raise refusal(token.column, f"{token.shown} lacks its zone", expected=f"{Kind.TIME}, with Z or +01:00")
    apart = moment - _EPOCH
    seconds = apart.days * 86_400 + apart.seconds
    return _within(seconds * SECOND_NS + int(fraction.ljust(_DIGITS_MAX, "0") or 0), token)


def _within(value: int, token: Token) -> int:
    if abs(value) > _WHOLE_MAX:
        raise refusal(token.column, f"{token.shown} is too large", expected="a number of 64 bits")
    return value
