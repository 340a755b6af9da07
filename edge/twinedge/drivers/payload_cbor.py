"""CBOR (RFC 8949) to plain values: strictly bounded in depth, never allocating more than the input can fill."""

from __future__ import annotations

import math
import struct
from fractions import Fraction
from typing import Final

import msgpack

DEPTH_MAX: Final = 32
BIGNUM_BYTES_MAX: Final = 128
_BREAK: Final = object()
_FLOATS: Final = {25: ">e", 26: ">f", 27: ">d"}
_SIMPLE: Final = {20: False, 21: True, 22: None, 23: None}
_INDEFINITE: Final = 31


class CborError(ValueError):
    """The bytes are not well-formed CBOR, or nested too deep."""


def read_cbor(payload: bytes) -> object:
    """The one item of a payload: numbers, text, bytes, lists, dicts, booleans, None.

    Times (tags 0 and 1) become text and `msgpack.Timestamp`, big numbers (tags 2 and 3) integers; other tags are
    left off. Raises CborError.
    """
    reader = _Reader(payload)
    item = reader.item(0)
    if item is _BREAK:
        raise CborError("a break without a beginning")
    if reader.at != len(payload):
        raise CborError(f"{len(payload) - reader.at} bytes after the item")
    return item


class _Reader:
    def __init__(self, payload: bytes) -> None:
        self.payload = payload
        self.at = 0

    def take(self, count: int) -> bytes:
        taken = self.payload[self.at : self.at + count]
        if len(taken) != count:
            raise CborError("it ends too early")
        self.at += count
        return taken

    def item(self, depth: int) -> object:
        if depth > DEPTH_MAX:
            raise CborError(f"nested deeper than {DEPTH_MAX}")
        head = self.take(1)[0]
        major, info = head >> 5, head & 31
        if major == 7:
            return self.simple(info)
        if info == _INDEFINITE:
            return self.indefinite(major, depth)
        count = self.argument(info)
        if major in {0, 1}:
            return count if major == 0 else -1 - count
        if major in {2, 3}:
            return self.text(self.take(count), major)
        return self.tagged(count, depth) if major == 6 else self.container(major, count, depth)

    def container(self, major: int, count: int, depth: int) -> object:
        # Each element takes a byte at least: a length that cannot be filled allocates nothing.
        if count > len(self.payload) - self.at:
            raise CborError("it ends too early")
        if major == 4:
            return [self.element(depth) for _ in range(count)]
        return self.mapping([(self.element(depth), self.element(depth)) for _ in range(count)])

    def element(self, depth: int) -> object:
        item = self.item(depth + 1)
        if item is _BREAK:
            raise CborError("a break inside a list of known length")
        return item

    def argument(self, info: int) -> int:
        if info < 24:
            return info
        if info > 27:
            raise CborError(f"additional information {info} is reserved")
        return int.from_bytes(self.take(1 << (info - 24)), "big")

    def simple(self, info: int) -> object:
        if info in _FLOATS:
            value: float = struct.unpack(_FLOATS[info], self.take(1 << (info - 24)))[0]
            return value
        if info == _INDEFINITE:
            return _BREAK
        if info in _SIMPLE:
            return _SIMPLE[info]
        raise CborError("a simple value without meaning")

    def indefinite(self, major: int, depth: int) -> object:
        if major not in {2, 3, 4, 5}:
            raise CborError("a length that cannot be left open")
        items: list[object] = []
        while (item := self.item(depth + 1)) is not _BREAK:
            items.append(item)
        if major == 4:
            return items
        if major == 5:
            if len(items) % 2:
                raise CborError("a key without a value")
            return self.mapping(list(zip(items[::2], items[1::2], strict=True)))
        kind = bytes if major == 2 else str
        chunks = [c for c in items if isinstance(c, kind)]
        if len(chunks) != len(items):
            raise CborError("a chunk of another type")
        return kind().join(chunks)  # type: ignore[arg-type]  # all chunks are of this kind

    @staticmethod
    def text(raw: bytes, major: int) -> object:
        if major == 2:
            return raw
        try:
            return raw.decode()
        except UnicodeDecodeError as wrong:
            raise CborError("text is not UTF-8") from wrong

    @staticmethod
    def mapping(pairs: list[tuple[object, object]]) -> object:
        try:
            return dict(pairs)
        except TypeError as wrong:
            raise CborError("a key that is a list or a map") from wrong

    def tagged(self, tag: int, depth: int) -> object:
        item = self.element(depth)
        if tag in {2, 3}:
            if not isinstance(item, bytes) or len(item) > BIGNUM_BYTES_MAX:
                raise CborError("a big number that is none, or too big")
            number = int.from_bytes(item, "big")
            return number if tag == 2 else -1 - number
        if tag == 1:
            if isinstance(item, bool) or not isinstance(item, (int, float)) or not math.isfinite(item):
                raise CborError("a time that is no number")
            return _timestamp(item)
        return item


def _timestamp(seconds: float) -> msgpack.Timestamp:
    try:
        return msgpack.Timestamp.from_unix_nano(round(Fraction(repr(seconds)) * 10**9))
    except (ValueError, OverflowError) as wrong:
        raise CborError("a time out of range") from wrong
