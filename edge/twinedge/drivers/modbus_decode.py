"""The bytes of one reply to columns of values, by a plan that is made once for each read.

Points of one type become one array: their bytes are gathered in the order of significance, viewed as numbers, compared
with the maker's "no value", scaled. What that cannot do exactly (64-bit numbers with a scale, BCD, text) is decoded
point by point; both ways give the same bits.
"""

from __future__ import annotations

import math
import struct
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinedge.drivers.decode import (
    ABSENT,
    DECODE,
    Converter,
    Decoder,
    NoValueError,
    bit_decoder,
    converter,
    field_decoder,
    number_decoder,
    string_decoder,
)
from twinedge.drivers.modbus_fields import (
    Field,
    Scales,
    absent_number,
    absent_pattern,
    byte_places,
    constant_factor,
    exact,
)
from twinmodel.profile.address import WireType
from twinmodel.profile.scale import Scale
from twinmodel.signal import DTYPES, Batch, Kind

EXACT = 1 << 53
"""Integers below it, and quotients of two of them, are computed by doubles as exactly as by fractions."""
Values = NDArray[Any]
Codes = NDArray[np.uint16]


class Extractor:
    """Decodes the replies to one read.

    Args:
        start: first register or bit of the read.
        fields: what it answers.
        sources: names of points that scales of the device read.
    """

    def __init__(self, start: int, fields: Sequence[Field], sources: Iterable[str] = ()) -> None:
        sources = set(sources)
        self._sources = [(f.span.point, _scalar(f), f.span, start) for f in fields if f.span.point in sources]
        by_column: dict[tuple[Any, ...], list[Field]] = {}
        for field in fields:
            by_column.setdefault((field.signal.kind, *_column_key(field)), []).append(field)
        kinds: dict[Kind, list[_Column]] = {}
        ids: dict[Kind, list[int]] = {}
        for (kind, *_), same in sorted(by_column.items(), key=lambda item: str(item[0])):
            same.sort(key=lambda f: f.span.start)
            kinds.setdefault(kind, []).append(_column(same, start))
            ids.setdefault(kind, []).extend(f.signal.id for f in same)
        self._kinds = [(k, _sealed(np.array(ids[k], np.uint32)), columns) for k, columns in sorted(kinds.items())]
        self._good = {k: _sealed(np.zeros(len(ids[k]), np.uint16)) for k in ids}

    @property
    def feeds_scales(self) -> bool:
        """Whether it holds points that scales read."""
        return bool(self._sources)

    def learn(self, raw: bytes, scales: Scales) -> None:
        """Hands the points that scales read to `scales`; before `decode` of any reply of the cycle."""
        for point, decode, span, start in self._sources:
            value, quality = decode(_registers(raw, span.start - start, span.count))
            scales.learn(point, value, quality)  # type: ignore[arg-type]  # the profile allows only numbers there

    def decode(self, raw: bytes, t_ns: int, scales: Scales) -> list[Batch]:
        """One batch per kind, all of one time."""
        with np.errstate(all="ignore"):  # what is not finite gets its quality
            return self._decode(raw, t_ns, scales)

    def _decode(self, raw: bytes, t_ns: int, scales: Scales) -> list[Batch]:
        batches = []
        for kind, ids, columns in self._kinds:
            found = [column.decode(raw, scales) for column in columns]
            if len(found) == 1:
                values, quality = found[0]
                if quality is None:
                    quality = self._good[kind]
            else:
                values = np.concatenate([v for v, _ in found])
                quality = self._good[kind]
                if any(q is not None for _, q in found):
                    quality = np.concatenate([np.zeros(len(v), np.uint16) if q is None else q for v, q in found])
            times = np.empty(len(ids), np.int64)
            times.fill(t_ns)
            batches.append(Batch(kind, ids, values, quality, times))
        return batches


class _Column(ABC):
    """Points that are decoded together."""

    @abstractmethod
    def decode(self, raw: bytes, scales: Scales) -> tuple[Values, Codes | None]:
        """Their values, and qualities where not all are good."""


class _Singly(_Column):
    """Points decoded one by one; `convert` of those with a scale by other points is made anew for each reply."""

    def __init__(self, fields: Sequence[Field], start: int) -> None:
        self._fields = fields
        self._start = start
        self._kind = fields[0].signal.kind
        self._decoders = [None if f.scale is not None and f.scale.points else _scalar(f) for f in fields]

    def decode(self, raw: bytes, scales: Scales) -> tuple[Values, Codes | None]:
        values: Values = np.empty(len(self._fields), DTYPES[self._kind])
        quality = np.zeros(len(self._fields), np.uint16)
        for place, (field, known) in enumerate(zip(self._fields, self._decoders, strict=True)):
            decode = _scalar(field, scales) if known is None else known
            cells = _registers(raw, field.span.start - self._start, field.span.count)
            values[place], quality[place] = decode(cells)
        return values, quality if quality.any() else None


class _Bits(_Column):
    """Bits of a bit table."""

    def __init__(self, fields: Sequence[Field], start: int) -> None:
        self._index = np.array([f.span.start - start for f in fields], np.intp)

    def decode(self, raw: bytes, scales: Scales) -> tuple[Values, Codes | None]:
        del scales
        bits = np.unpackbits(np.frombuffer(raw, np.uint8), bitorder="little")
        return bits[self._index].astype(np.bool_), None


class _Numbers(_Column):
    """Numbers of one type, their bytes gathered by an index."""

    def __init__(self, fields: Sequence[Field], start: int) -> None:
        first = fields[0]
        self._dtype = _dtype(first.wire)
        width = self._dtype.itemsize
        index = np.array([byte_places(f, start) for f in fields], np.intp)
        self._index: NDArray[np.intp] | None = index
        self._from = int(index[0, 0])
        if (index.ravel() == np.arange(self._from, self._from + index.size)).all():
            self._index = None  # they lie side by side, most significant byte first
        self._count = len(fields)
        self._unsigned = np.dtype(f">u{width}")
        self._masked = None
        if any(f.bit is not None for f in fields):
            shift = np.array([f.bit or 0 for f in fields], np.uint16)
            self._masked = shift, np.array([(1 << f.width) - 1 for f in fields], np.uint16)
        patterns = [absent_pattern(f) for f in fields]
        self._has_pattern = np.array([p is not None for p in patterns])
        self._patterns = np.array([p or 0 for p in patterns], f"u{width}")
        self._numbers = np.array([absent_number(f) for f in fields])
        self._any_pattern, self._any_number = bool(self._has_pattern.any()), not np.isnan(self._numbers).all()

    def read(self, raw: bytes) -> tuple[Values, NDArray[np.bool_] | None]:
        """The numbers, and which of them mean "no value"."""
        if self._index is None:
            numbers: Values = np.frombuffer(raw, self._dtype, self._count, self._from)
        else:
            numbers = np.frombuffer(raw, np.uint8)[self._index].view(self._dtype).reshape(self._count)
        absent: NDArray[np.bool_] | None = None
        patterns = numbers.view(self._unsigned)
        if self._masked is not None:
            numbers = patterns = (patterns >> self._masked[0]) & self._masked[1]
        if self._any_pattern:
            absent = (patterns == self._patterns) & self._has_pattern
        if self._any_number:
            same = numbers == self._numbers
            absent = same if absent is None else absent | same
        return numbers, absent if absent is not None and absent.any() else None


class _Integers(_Numbers):
    """Integers that stay integers."""

    def decode(self, raw: bytes, scales: Scales) -> tuple[Values, Codes | None]:
        del scales
        numbers, absent = self.read(raw)
        values = numbers.astype(np.int64)
        quality: Codes | None = None
        if self._dtype == np.dtype(">u8") and (values < 0).any():  # it does not fit the signed 64 bits of samples
            quality = np.where(values < 0, np.uint16(DECODE), np.uint16(0))
            values[values < 0] = 0
        if absent is not None:
            quality = np.where(absent, np.uint16(ABSENT), np.uint16(0) if quality is None else quality)
            values[absent] = 0
        return values, quality


class _Flags(_Numbers):
    """Single bits of registers."""

    def decode(self, raw: bytes, scales: Scales) -> tuple[Values, Codes | None]:
        del scales
        return self.read(raw)[0].astype(np.bool_), None


class _Floats(_Numbers):
    """Numbers that become floats: floats as they are, or a factor and an offset of each."""

    def __init__(self, fields: Sequence[Field], start: int) -> None:
        super().__init__(fields, start)
        self._fields = fields
        self._scale = fields[0].scale if fields[0].scale is not None and fields[0].scale.points else None
        plain = all(f.scale is None and f.offset is None for f in fields)
        self._apply = None if plain or self._scale is not None else self._applied([constant_factor(f) for f in fields])
        self._factor: Fraction | None = None

    def _applied(self, factors: Sequence[Fraction]) -> Callable[[Values], Values] | None:
        """What scales numbers by these factors; None where doubles would not be exact."""
        offsets = [exact(f.offset or 0.0) for f in self._fields]
        if self._dtype.kind == "f":
            multiply, add = np.array([float(f) for f in factors]), np.array([float(o) for o in offsets])
            return lambda numbers: numbers * multiply + add
        terms = [(f.numerator * o.denominator, o.numerator * f.denominator, f.denominator * o.denominator)
                 for f, o in zip(factors, offsets, strict=True)]  # fmt: skip
        largest = 1 << (8 * self._dtype.itemsize)
        if any(largest * abs(n) + abs(a) >= EXACT or d >= EXACT for n, a, d in terms):
            return None
        numerator, addend, denominator = (np.array(column, np.float64) for column in zip(*terms, strict=True))
        if not addend.any() and (numerator > 0).all():  # else the sum keeps a zero from becoming -0.0
            return lambda numbers: numbers * numerator / denominator
        return lambda numbers: (numbers * numerator + addend) / denominator

    def decode(self, raw: bytes, scales: Scales) -> tuple[Values, Codes | None]:
        numbers, absent = self.read(raw)
        values = self._scaled(numbers.astype(np.float64), raw, scales)
        quality: Codes | None = None
        if values is None:
            assert self._scale is not None, "only a scale by other points may have no factor"
            values = np.full(self._count, math.nan)
            quality = np.full(self._count, scales.missing(self._scale), np.uint16)
        elif b"\0" in np.isfinite(values).tobytes():  # half the time of `all`
            quality = np.where(np.isnan(values), np.uint16(ABSENT), np.where(np.isinf(values), DECODE, 0))
            quality = quality.astype(np.uint16)
            values = np.where(np.isinf(values), math.nan, values)
        if absent is not None:
            quality = np.where(absent, np.uint16(ABSENT), np.uint16(0) if quality is None else quality)
            values = np.where(absent, math.nan, values)
        return values, quality

    def _scaled(self, numbers: Values, raw: bytes, scales: Scales) -> Values | None:
        if self._scale is None:
            return numbers if self._apply is None else self._apply(numbers)
        factor = scales.factor(self._scale)
        if factor is None:
            return None
        if factor != self._factor:
            self._factor, self._apply = factor, self._applied([factor] * self._count)
        if self._apply is not None:
            return self._apply(numbers)
        integers = self.read(raw)[0].tolist()
        offsets = [exact(f.offset or 0.0) for f in self._fields]
        return np.array([_quotient(n, factor, o) for n, o in zip(integers, offsets, strict=True)])


def _column_key(field: Field) -> tuple[Any, ...]:
    """Fields with equal keys can be decoded together."""
    if field.span.table in {"coil", "discrete"}:
        return ("bits",)
    if field.wire.name == "bit":
        return ("flags",)
    if field.wire.name in {"string", "bcd"}:
        return ("singly",)
    if field.signal.kind is Kind.INT:
        return ("integers", str(_dtype(field.wire)), field.bit is not None)
    plain = field.scale is None and field.offset is None
    by_points = field.scale.text if field.scale is not None and field.scale.points else ""
    wide = field.wire.name != "float" and field.wire.size > 32
    if not plain and not by_points and (wide or not _isexact(field)):
        return ("singly",)
    return ("floats", str(_dtype(field.wire)), field.bit is not None, plain, by_points)


def _column(fields: Sequence[Field], start: int) -> _Column:
    first = fields[0]
    name = _column_key(first)[0]
    made: dict[str, Callable[[Sequence[Field], int], _Column]] = {
        "bits": _Bits, "flags": _Flags, "singly": _Singly, "integers": _Integers, "floats": _Floats,
    }  # fmt: skip
    return made[name](fields, start)


def _isexact(field: Field) -> bool:
    if field.wire.name == "float":
        return True
    factor, offset = constant_factor(field), exact(field.offset or 0.0)
    largest = abs(factor.numerator * offset.denominator) << field.wire.size
    return (
        largest + abs(offset.numerator * factor.denominator) < EXACT
        and factor.denominator * offset.denominator < EXACT
    )  # fmt: skip


def _quotient(number: float, factor: Fraction, offset: Fraction) -> float:
    if isinstance(number, int):
        found = number * factor + offset
        return found.numerator / found.denominator
    return number * float(factor) + float(offset)


def _scalar(field: Field, scales: Scales | None = None) -> Decoder:
    """The decoder of one point alone; the measure of what the columns give."""
    if field.wire.name == "bit":
        return bit_decoder(field.bit, field.order)
    if field.wire.name == "string":
        return string_decoder(field.as_, field.order, field.absent)
    convert: Converter | None
    if field.scale is not None and field.scale.points:
        convert = _by_points(field.scale, field.offset, scales or Scales())
    else:
        factor = field.scale.exact({}) if field.scale is not None else None
        convert = converter(factor, field.offset)
    if field.bit is not None:
        return field_decoder(field.bit, field.width, field.order, field.signal.kind, convert, field.absent)
    return number_decoder(field.as_, field.order, field.signal.kind, convert, field.absent)


def _by_points(scale: Scale, offset: float | None, scales: Scales) -> Converter:
    summand = exact(offset or 0.0)

    def convert(raw: float) -> float:
        factor = scales.factor(scale)
        if factor is not None:
            return _quotient(raw, factor, summand)
        if scales.missing(scale) == ABSENT:
            return math.nan
        raise NoValueError(f"the scale {scale.text} is not known")

    return convert


def _registers(raw: bytes, at: int, count: int) -> tuple[int, ...]:
    return struct.unpack_from(f">{count}H", raw, 2 * at)


def _dtype(wire: WireType) -> np.dtype[Any]:
    if wire.name == "bit":
        return np.dtype(">u2")
    return np.dtype(f">{ {'int': 'i', 'uint': 'u', 'float': 'f'}[wire.name] }{wire.size // 8}")


def _sealed(array: Values) -> Values:
    """An array that batches share."""
    array.flags.writeable = False
    return array
