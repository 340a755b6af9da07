"""MQTT payloads to plain values: JSON, CBOR, MessagePack and raw text, each read once, bounded, or refused.

Nothing that a payload can hold raises anything but `PayloadError`, whose reason is LIMIT_EXCEEDED for what is too
large and VALUE_INVALID for the rest.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping

import msgpack

from twinedge.drivers.payload_cbor import CborError, read_cbor
from twinmodel.errors import InputError

PAYLOAD_MAX = 256 * 1024
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
_WORDS = {"true": True, "false": False, "on": True, "off": False, "nan": float("nan"), "null": None}
_json = json.JSONDecoder().decode

Parse = Callable[[bytes], object]


class PayloadError(InputError):
    """The payload is not what the profile says."""

    def __init__(self, message: str, reason: str = "VALUE_INVALID") -> None:
        super().__init__(reason, message)


def too_large(size: int) -> PayloadError:
    """The refusal of a payload of so many bytes."""
    return PayloadError(f"{size} bytes, at most {PAYLOAD_MAX}", "LIMIT_EXCEEDED")


def parser(name: str) -> Parse:
    """The function that reads payloads of a format: bytes to numbers, text, lists, dicts. It raises PayloadError."""
    parse = _PARSERS[name]

    def bounded(payload: bytes) -> object:
        if len(payload) > PAYLOAD_MAX:
            raise too_large(len(payload))
        return parse(payload)

    return bounded


def _parse_json(payload: bytes) -> object:
    try:
        return _json(payload.decode())
    except UnicodeDecodeError as wrong:
        raise PayloadError("not UTF-8") from wrong
    except (ValueError, RecursionError) as wrong:
        raise PayloadError("not JSON") from wrong


def _parse_cbor(payload: bytes) -> object:
    try:
        return read_cbor(payload)
    except CborError as wrong:
        raise PayloadError(f"not CBOR: {wrong}") from wrong


def _parse_msgpack(payload: bytes) -> object:
    try:
        parsed: object = msgpack.unpackb(payload, strict_map_key=False)
    except UnicodeDecodeError as wrong:
        raise PayloadError("text in MessagePack is not UTF-8") from wrong
    # A key that is a list is a TypeError, a time out of range an OverflowError.
    except (ValueError, TypeError, OverflowError, RecursionError, msgpack.UnpackException) as wrong:
        raise PayloadError("not MessagePack") from wrong
    return parsed


def _parse_raw(payload: bytes) -> object:
    try:
        text = payload.decode().strip().rstrip("\0")
    except UnicodeDecodeError as wrong:
        raise PayloadError("not UTF-8") from wrong
    if not text:
        raise PayloadError("empty")
    return text


def raw_value(text: str) -> object:
    """What a raw payload says to a point that is no text: a number, true, on, false, off, null, else the text.

    Raises PayloadError for a number of more digits than can be read.
    """
    if _NUMBER.fullmatch(text):
        try:
            return int(text) if text.lstrip("+-").isdecimal() else float(text)
        except ValueError as wrong:
            raise PayloadError("a number of too many digits", "LIMIT_EXCEEDED") from wrong
    return _WORDS.get(text.lower(), text)


_PARSERS: Mapping[str, Parse] = {
    "json": _parse_json,
    "cbor": _parse_cbor,
    "msgpack": _parse_msgpack,
    "raw": _parse_raw,
}
