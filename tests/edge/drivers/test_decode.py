"""Registers to values, against published vectors and against an independent encoder."""

from __future__ import annotations

import ast
import json
import math
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinedge.drivers.decode import (
    ABSENT,
    DECODE,
    bit_decoder,
    converter,
    number_decoder,
    string_decoder,
)
from twinmodel.quality import GOOD
from twinmodel.signal import Kind

VECTORS = json.loads((Path(__file__).parents[2] / "data/telegraf_register_vectors.json").read_text())["rows"]
ORDERS = {"": "ABCD", "AB": "ABCD", "BA": "BADC", "ABCDEFGH": "ABCD", "HGFEDCBA": "DCBA"}
ORDERS |= {"BADCFEHG": "BADC", "GHEFCDAB": "CDAB"} | {o: o for o in ("ABCD", "DCBA", "BADC", "CDAB")}


def our_type(name, cells):
    if name in {"FIXED", "UFIXED"}:
        return ("int" if name == "FIXED" else "uint") + str(16 * cells)
    if name == "STRING":
        return f"string({2 * cells})"
    return name.lower().removesuffix("-ieee")


def decoded(row):
    _, cells, order, kind, scale, bit, raw_hex, _ = row
    raw = bytes.fromhex(raw_hex)
    if kind == "":  # a coil: the vector's byte holds the bits as sent
        return bit_decoder(None, "ABCD")([raw[0] & 1])
    registers = struct.unpack(f">{len(raw) // 2}H", raw)
    if kind == "BIT":
        return bit_decoder(int(bit), ORDERS[order])(registers)
    if kind == "STRING":
        return string_decoder(our_type(kind, cells), ORDERS[order], None)(registers)
    factor = float(scale) if scale and float(scale) != 1 else None
    as_ = our_type(kind, cells)
    whole = factor is None and "float" not in as_
    convert = converter(factor, None)
    return number_decoder(as_, ORDERS[order], Kind.INT if whole else Kind.FLOAT, convert, None)(registers)


@pytest.mark.parametrize("row", VECTORS, ids=[r[0] for r in VECTORS])
def test_published_vector_is_decoded(row):
    kind, _, text = row[7].partition("(")
    value, quality = decoded(row)
    expected = json.loads(kind) if not text else ast.literal_eval(text.rstrip(")"))
    if kind == "uint64" and expected >= 1 << 63:
        assert (value, quality) == (0, DECODE)  # it does not fit the 64-bit signed values samples carry
        return
    assert quality == GOOD
    if kind == "float32":
        assert value == pytest.approx(expected, rel=1e-7)
    elif isinstance(expected, float):
        assert value == expected
    elif isinstance(expected, int) and isinstance(value, float):
        assert math.trunc(value) == expected  # the vector casts scaled numbers back to the raw type
    else:
        assert value == expected


FORMATS = {"int16": "h", "uint16": "H", "int32": "i", "uint32": "I", "int64": "q", "float32": "f", "float64": "d"}


@given(st.data(), st.sampled_from(sorted(FORMATS)), st.sampled_from(["ABCD", "CDAB", "BADC", "DCBA"]))
def test_all_orders_bring_the_encoded_number_back(data, as_, order):
    width = int(as_.lstrip("uintfloa"))
    if as_.startswith("float"):
        value = data.draw(st.floats(width=width, allow_nan=False, allow_infinity=False))
    else:
        low = 0 if as_.startswith("u") else -(1 << width - 1)
        value = data.draw(st.integers(low, low + (1 << width) - 1))
    raw = struct.pack(">" + FORMATS[as_], value)
    words = [raw[i : i + 2] for i in range(0, len(raw), 2)]
    if order in {"CDAB", "DCBA"}:
        words.reverse()
    if order in {"BADC", "DCBA"}:
        words = [w[::-1] for w in words]
    registers = [int.from_bytes(w, "big") for w in words]
    kind = Kind.FLOAT if as_.startswith("float") else Kind.INT
    assert number_decoder(as_, order, kind, None, None)(registers) == (value, GOOD)


@given(st.integers(0, 99_999_999))
def test_bcd_reads_decimal_digits(number):
    raw = bytes.fromhex(f"{number:08d}")
    assert number_decoder("bcd32", "ABCD", Kind.INT, None, None)(struct.unpack(">2H", raw)) == (number, GOOD)


def test_bcd_with_a_digit_beyond_nine_is_bad():
    assert number_decoder("bcd16", "ABCD", Kind.INT, None, None)([0x12A4]) == (0, DECODE)


@pytest.mark.parametrize(
    ("as_", "absent", "registers"),
    [
        ("uint16", 0xFFFF, [0xFFFF]),
        ("int16", 0x8000, [0x8000]),
        ("int16", -32768, [0x8000]),
        ("int32", "0x80000000", [0x8000, 0]),
        ("uint16", 0, [0]),
        ("float32", None, [0x7FC0, 0]),
    ],
)
def test_absent_values_are_never_numbers(as_, absent, registers):
    value, quality = number_decoder(as_, "ABCD", Kind.FLOAT, converter(0.1, None), absent)(registers)
    assert math.isnan(value)
    assert quality == ABSENT


def test_infinite_numbers_and_wrong_text_are_bad():
    assert number_decoder("float32", "ABCD", Kind.FLOAT, None, None)([0x7F80, 0])[1] == DECODE
    assert string_decoder("string(2)", "ABCD", None)([0xFFFE]) == ("", DECODE)
    assert string_decoder("string(2)", "ABCD", "--")([0x2D2D]) == ("", ABSENT)


@given(st.integers(-(2**31), 2**31), st.sampled_from([1, 2, 3, 6]))
def test_decimal_scales_give_the_nearest_double(raw, digits):
    assert converter(float(f"1e-{digits}"), None)(raw) == float(f"{raw}e-{digits}")


@given(st.integers(0, 0xFFFF), st.integers(0, 15))
def test_bits_count_from_the_least_significant(register, bit):
    assert bit_decoder(bit, "ABCD")([register]) == (bool(register & 1 << bit), GOOD)
