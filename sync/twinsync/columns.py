"""Columns of integers as bytes: narrowed to the width they need, or one byte each with escapes.

All arithmetic is modulo 2**64 on arrays, so that the extremes of int64 pass through differences unharmed. A
reader checks every length against the bytes that are there before it allocates.
"""

from __future__ import annotations

from typing import Any, NoReturn, TypeVar

import numpy as np
from numpy.typing import NDArray

from twinmodel.errors import InputError

U64 = NDArray[np.uint64]
I64 = NDArray[np.int64]
Integer = TypeVar("Integer", bound=np.integer[Any])

SMALL_MIN, SMALL_MAX = -127, 126
"""What a byte of a signed plane holds; beyond, it stands for a larger number in the columns behind the plane."""

_IN_16_BITS, _IN_64_BITS = 127, -128
_NOWHERE = np.zeros(0, np.int64)
_WIDTHS = frozenset((0, 1, 2, 4, 8))
_INT16, _INT64 = np.dtype("<i2"), np.dtype("<i8")
_TYPES: dict[int, np.dtype[np.unsignedinteger[Any]]] = {2: np.dtype("<u2"), 4: np.dtype("<u4"), 8: np.dtype("<u8")}


def zigzag(values: I64) -> U64:
    """Maps 0, -1, 1, -2 ... to 0, 1, 2, 3 ..., so that small differences of either sign are small."""
    return ((values << 1) ^ (values >> 63)).view(np.uint64)


def unzigzag(values: U64) -> I64:
    """Undoes `zigzag`."""
    return (values >> np.uint64(1)).view(np.int64) ^ -(values & np.uint64(1)).view(np.int64)


def differences(values: NDArray[Integer]) -> NDArray[Integer]:
    """Each value less the one before it, the first as it is; `numpy.cumsum` undoes it. n > 0."""
    steps = values.copy()
    steps[1:] -= values[:-1]
    return steps


def largest(values: NDArray[np.unsignedinteger[Any]]) -> int:
    """The largest of unsigned values, 0 when there is none."""
    # Three times faster than a reduction on the short columns most blocks are made of.
    return int(values[values.argmax()]) if len(values) else 0


def beyond(values: I64) -> NDArray[np.bool_]:
    """Which values a byte of a signed plane cannot hold."""
    # One unsigned comparison for both ends.
    shifted: NDArray[np.bool_] = (values - SMALL_MIN).view(np.uint64) > SMALL_MAX - SMALL_MIN
    return shifted


def corrupt(what: str) -> NoReturn:
    """Raises the one error a decoder has."""
    raise InputError("BLOCK_CORRUPT", f"block payload: {what}")


class ColumnWriter:
    """Collects columns; `bytes()` joins them."""

    __slots__ = ("_parts",)

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def put(self, part: bytes) -> None:
        """Appends bytes whose length the reader knows."""
        self._parts.append(part)

    def narrow(self, values: U64) -> None:
        """Appends a column in the fewest bytes per value that fit its largest; zeros take none."""
        top = largest(values)
        if top < 1 << 8:
            self._parts.append(b"\x01" + values.astype(np.uint8).tobytes() if top else b"\x00")
            return
        width = 2 if top < 1 << 16 else 4 if top < 1 << 32 else 8
        self._parts.append(bytes((width,)))
        self._parts.append(_shuffled(values, width))

    def integers(self, values: I64) -> None:
        """Appends a column in the fewest bytes per value that fit its largest of either sign; zeros take none."""
        top = largest((values ^ (values >> 63)).view(np.uint64)) << 1
        if top == 0 and not np.count_nonzero(values):
            self._parts.append(b"\x00")
            return
        width = 1 if top < 1 << 8 else 2 if top < 1 << 16 else 4 if top < 1 << 32 else 8
        self._parts += (bytes((width,)), _shuffled(values.view(np.uint64), width))

    def signed(self, values: I64) -> None:
        """Appends a column of one byte per value; the few that need more follow in wider columns."""
        plane = values.astype(np.int8)
        large = beyond(values).nonzero()[0]
        if not len(large):
            self._parts += (b"\x00", plane.tobytes())
            return
        escapes = values[large]
        wide = escapes.astype(np.int16) != escapes
        plane[large] = np.where(wide, _IN_64_BITS, _IN_16_BITS)
        short, long = escapes[~wide].view(np.uint64), escapes[wide].view(np.uint64)
        self._parts += (b"\x01", plane.tobytes(), _shuffled(short, 2), _shuffled(long, 8))

    def sparse(self, positions: I64) -> None:
        """Appends ascending positions, as their count and the distance of each to the one before it."""
        self._parts.append(len(positions).to_bytes(4, "little"))
        if len(positions):
            self.narrow((differences(positions + 1) - 1).view(np.uint64))

    def bytes(self) -> bytes:
        """All columns in the order they were put."""
        return b"".join(self._parts)


class ColumnReader:
    """Reads what `ColumnWriter` wrote; raises InputError BLOCK_CORRUPT where that cannot be."""

    __slots__ = ("_raw", "_used")

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._used = 0

    def take(self, length: int) -> bytes:
        """The next `length` bytes."""
        start = self._claim(length)
        return self._raw[start : start + length]

    def byte(self) -> int:
        """The next byte, as a number."""
        return self._raw[self._claim(1)]

    def narrow(self, count: int, width_max: int = 8) -> U64:
        """A column of `count` values that `ColumnWriter.narrow` wrote, of at most `width_max` bytes each."""
        width = self.byte()
        if width == 1:
            return np.frombuffer(self._raw, np.uint8, count, self._claim(count)).astype(np.uint64)
        if width not in _WIDTHS or width > width_max:
            corrupt(f"column width {width}")
        if width == 0:
            return np.zeros(count, np.uint64)
        return self.wide(count, width).astype(np.uint64)

    def integers(self, count: int) -> I64:
        """A column of `count` values that `ColumnWriter.integers` wrote."""
        width = self.byte()
        if width not in _WIDTHS:
            corrupt(f"column width {width}")
        if width == 0:
            return np.zeros(count, np.int64)
        return self.wide(count, width).view(f"<i{width}").astype(np.int64)

    def below(self, count: int, limit: int, what: str) -> I64:
        """A narrow column whose values are all less than `limit`, as signed integers."""
        values = self.narrow(count)
        if largest(values) >= limit:
            corrupt(f"{what} {largest(values)} of {limit}")
        return values.view(np.int64)

    def signed(self, count: int) -> I64:
        """A column of `count` values that `ColumnWriter.signed` wrote."""
        escapes = self.byte()
        if escapes > 1:
            corrupt(f"column form {escapes}")
        plane = np.frombuffer(self._raw, np.int8, count, self._claim(count))
        values: I64 = plane.astype(np.int64)
        if escapes:
            for escape, dtype in ((_IN_16_BITS, _INT16), (_IN_64_BITS, _INT64)):
                large = (plane == escape).nonzero()[0]
                values[large] = self.wide(len(large), dtype.itemsize).view(dtype)
        return values

    def sparse(self, limit: int) -> I64:
        """Ascending positions below `limit` that `ColumnWriter.sparse` wrote."""
        count = int.from_bytes(self.take(4), "little")
        if count > limit:
            corrupt(f"{count} positions of {limit}")
        if not count:
            return _NOWHERE
        positions = (self.below(count, limit, "distance") + 1).cumsum() - 1
        if int(positions[-1]) >= limit:
            corrupt(f"position {int(positions[-1])} of {limit}")
        return positions

    def slices(self, count: int, *, signed: bool = False) -> Slices:
        """A column of `ColumnWriter.narrow` or, `signed`, of `ColumnWriter.integers`; slices are read on demand."""
        width = self.byte()
        if width not in _WIDTHS:
            corrupt(f"column width {width}")
        return Slices(self._raw, self._claim(count * width), count, width, signed)

    def signed_slices(self, count: int) -> SignedSlices:
        """A column that `ColumnWriter.signed` wrote; slices are read on demand."""
        escapes = self.byte()
        if escapes > 1:
            corrupt(f"column form {escapes}")
        plane = np.frombuffer(self._raw, np.int8, count, self._claim(count))
        if not escapes:
            return SignedSlices(plane, ())
        behind = []
        for escape, dtype in ((_IN_16_BITS, _INT16), (_IN_64_BITS, _INT64)):
            large = (plane == escape).nonzero()[0]
            behind.append((large, self.wide(len(large), dtype.itemsize).view(dtype)))
        return SignedSlices(plane, tuple(behind))

    @property
    def used(self) -> int:
        """How many bytes were read."""
        return self._used

    def since(self, start: int) -> bytes:
        """The bytes read since `used` was `start`."""
        return self._raw[start : self._used]

    def skip(self, known: bytes) -> bool:
        """Passes over these bytes when they are the next ones; whether they are."""
        if not self._raw.startswith(known, self._used):
            return False
        self._used += len(known)
        return True

    def finish(self) -> None:
        """Checks that nothing is left over."""
        if self._used != len(self._raw):
            corrupt(f"{len(self._raw) - self._used} bytes too many")

    def _claim(self, length: int) -> int:
        start = self._used
        if length > len(self._raw) - start:
            corrupt(f"ends {length - len(self._raw) + start} bytes early")
        self._used = start + length
        return start

    def wide(self, count: int, width: int) -> NDArray[np.unsignedinteger[Any]]:
        """A column of `count` values of `width` bytes each, as it stands: all low bytes first."""
        start = self._claim(count * width)
        plane = np.frombuffer(self._raw, np.uint8, count * width, start)
        if width == 1:
            return plane
        return np.ascontiguousarray(plane.reshape(width, count).T).view(_TYPES[width]).reshape(count)


class Slices:
    """A column in byte planes of which only some slices are wanted."""

    __slots__ = ("_count", "_raw", "_signed", "_start", "_width")

    def __init__(self, raw: bytes, start: int, count: int, width: int, signed: bool) -> None:  # noqa: FBT001 - of this module alone
        self._raw = raw
        self._start = start
        self._count = count
        self._width = width
        self._signed = signed

    def of(self, start: int, end: int) -> I64:
        """The values in [start, end)."""
        width, length = self._width, end - start
        if width == 0:
            return np.zeros(length, np.int64)
        planes = np.frombuffer(self._raw, np.uint8, self._count * width, self._start).reshape(width, self._count)
        dtype = np.dtype(f"<{'i' if self._signed else 'u'}{width}")
        values = np.ascontiguousarray(planes[:, start:end].T).view(dtype).reshape(length)
        # A narrow column of 8 bytes may use the highest bit: it is read as the same 64 bits.
        return values.astype(np.int64)


class SignedSlices:
    """A column of one byte per value with escapes, of which only some slices are wanted."""

    __slots__ = ("_escapes", "_plane")

    def __init__(self, plane: NDArray[np.int8], escapes: tuple[tuple[NDArray[np.intp], NDArray[Any]], ...]) -> None:
        self._plane = plane
        self._escapes = escapes

    def of(self, start: int, end: int) -> I64:
        """The values in [start, end)."""
        values = self._plane[start:end].astype(np.int64)
        for places, large in self._escapes:
            low, high = places.searchsorted((start, end)).tolist()
            values[places[low:high] - start] = large[low:high]
        return values


def _shuffled(values: U64, width: int) -> bytes:
    """All low bytes first, all high bytes last: runs of equal bytes are what a compressor finds."""
    if width == 1:
        return values.astype(np.uint8).tobytes()
    return values.astype(_TYPES[width]).view(np.uint8).reshape(len(values), width).T.tobytes()
