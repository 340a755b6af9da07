"""Whole replies to columns: published values, and the same bits as decoding point by point."""

from __future__ import annotations

import ast
import json
import math
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twinedge.drivers.decode import ABSENT, DECODE
from twinedge.drivers.modbus_decode import Extractor, _scalar
from twinedge.drivers.modbus_fields import Scales, fields_of
from twinmodel.profile.schema import FirmwareProfile, kind_of
from twinmodel.quality import GOOD
from twinmodel.signal import Kind, Signal

DATA = Path(__file__).parents[2] / "data"
TELEGRAF = json.loads((DATA / "telegraf_register_vectors.json").read_text())["rows"]
THINGSBOARD = json.loads((DATA / "thingsboard_modbus_values.json").read_text())
ORDERS = {"": "ABCD", "AB": "ABCD", "BA": "BADC", "ABCDEFGH": "ABCD", "HGFEDCBA": "DCBA"}
ORDERS |= {"BADCFEHG": "BADC", "GHEFCDAB": "CDAB"} | {o: o for o in ("ABCD", "DCBA", "BADC", "CDAB")}


def fields(points):
    """The fields of a device, by point."""
    made = {"profile": "a/b", "protocol": "modbus", "base": 0, "points": points}
    loaded = FirmwareProfile.model_validate(made)
    signals = {n: Signal(i, f"d.{n}", kind_of(p), p.unit) for i, (n, p) in enumerate(loaded.points.items())}
    return fields_of(loaded, signals)


def read(points, raw, start=0, scales=None):
    """Point -> (value, quality), by one plan for all of them."""
    mine = fields(points)
    names = {f.signal.id: n for n, f in mine.items()}
    sources = {p for f in mine.values() if f.scale for p in f.scale.points}
    extractor, scales = Extractor(start, list(mine.values()), sources), scales or Scales()
    extractor.learn(raw, scales)
    found = {}
    for batch in extractor.decode(raw, 7, scales):
        assert set(batch.t_ns.tolist()) == {7}
        for id_, value, quality in zip(
            batch.signal.tolist(), batch.value.tolist(), batch.quality.tolist(), strict=True
        ):
            found[names[id_]] = (value, quality)
    assert found.keys() == mine.keys()
    return found


def telegraf_point(row):
    _, cells, order, kind, scale, bit, raw_hex, _ = row
    raw = bytes.fromhex(raw_hex)
    if kind == "":
        return {"at": "coil 0", "as": "bit"}, raw
    point = {"at": "holding 3", "order": ORDERS[order]}
    if kind == "BIT":
        return point | {"at": f"holding 3.{bit}", "as": "bit"}, raw
    if kind in {"FIXED", "UFIXED"}:
        point["as"] = ("int" if kind == "FIXED" else "uint") + str(16 * cells)
    else:
        point["as"] = f"string({2 * cells})" if kind == "STRING" else kind.lower().removesuffix("-ieee")
    if scale and float(scale) != 1:
        point["scale"] = float(scale)
    return point, raw


@pytest.mark.parametrize("row", TELEGRAF, ids=[r[0] for r in TELEGRAF])
def test_published_vector_of_telegraf_is_decoded_among_other_registers(row):
    point, raw = telegraf_point(row)
    if point["at"] == "coil 0":
        value, quality = read({"p": point}, raw)["p"]
    else:
        other = {"at": "holding 2", "as": "uint16"}
        value, quality = read({"p": point, "other": other}, b"\x12\x34" + raw, start=2)["p"]
    kind, _, text = row[7].partition("(")
    expected = json.loads(kind) if not text else ast.literal_eval(text.rstrip(")"))
    if kind == "uint64" and expected >= 1 << 63:
        assert (value, quality) == (0, DECODE)
        return
    assert quality == GOOD
    if kind == "float32":
        assert value == pytest.approx(expected, rel=1e-7)
    elif isinstance(expected, int) and isinstance(value, float):
        assert math.trunc(value) == expected
    else:
        assert value == expected


FORMATS = {"int16": "h", "uint16": "H", "int32": "i", "uint32": "I", "int64": "q", "uint64": "Q"}
FORMATS |= {"float16": "e", "float32": "f", "float64": "d"}


@pytest.mark.parametrize("row", THINGSBOARD["rows"], ids=[r[0] for r in THINGSBOARD["rows"]])
def test_the_same_registers_give_what_thingsboard_reads_in_both_orders(row):
    _, as_, little, big = row
    raw = little.encode() if as_.startswith("string") else struct.pack("<" + FORMATS[as_], little)
    found = read({"p": {"at": "holding 0", "as": as_, "order": "DCBA"}}, raw) if not as_.startswith("string") else {}
    assert found.get("p", (little, GOOD)) == (little, GOOD)
    value, quality = read({"p": {"at": "holding 0", "as": as_, "order": "ABCD"}}, raw)["p"]
    if isinstance(big, int) and big >= 1 << 63 and not as_.startswith("float"):
        assert (value, quality) == (0, DECODE)
    elif as_.startswith("float"):
        assert value == pytest.approx(float(big), rel=1e-15 if as_ == "float64" else 1e-5, abs=1e-6)
    else:
        assert (value, quality) == (big, GOOD)


def test_the_bits_of_thingsboards_coils_come_in_the_order_of_their_addresses():
    bits = THINGSBOARD["bits"]
    raw = np.packbits(bits, bitorder="little").tobytes()
    found = read({f"c{n}": {"at": f"coil {20 + n}", "as": "bit"} for n in range(16)}, raw, start=20)
    assert [found[f"c{n}"] for n in range(16)] == [(b, GOOD) for b in bits]


TYPES = ["int16", "uint16", "int32", "uint32", "int64", "uint64", "float16", "float32", "float64", "bcd16", "bcd32",
         "int8h", "uint8l", "string(5)"]  # fmt: skip


@st.composite
def point(draw):
    as_ = draw(st.sampled_from(TYPES))
    made = {"as": as_, "order": draw(st.sampled_from(["ABCD", "CDAB", "BADC", "DCBA"]))}
    if not as_.startswith("string"):
        made["scale"] = draw(st.sampled_from([None, 0.1, 0.001, 1000, -2.5, "10^@sf", "@sf * 0.5"]))
        made["offset"] = draw(st.sampled_from([None, -40, 0.05]))
        made["absent"] = draw(st.sampled_from([None, 0, 0xFFFF, 0x8000, -1, "0x80000000", "nan", 3.5]))
    return made


@settings(max_examples=60)
@given(st.lists(point(), min_size=1, max_size=8), st.data())
def test_columns_give_the_bits_of_decoding_point_by_point(points, data):
    placed, at = {"sf": {"at": "holding 0", "as": "int16", "absent": 99}}, 1
    for number, made in enumerate(points):
        placed[f"p{number}"] = made | {"at": f"holding {at}"}
        at += max(1, {"16": 1, "32": 2, "64": 4}.get(made["as"][-2:], 1)) if made["as"][0] != "s" else 3
    special = st.sampled_from([b"\x00\x00", b"\xff\xff", b"\x80\x00", b"\x7f\xc0", b"\x7f\x80", b"\x12\x34"])
    body = b"".join(data.draw(st.lists(special | st.binary(min_size=2, max_size=2), min_size=at - 1, max_size=at - 1)))
    factor = data.draw(st.sampled_from([-3, 0, 2, 25, 99]))
    raw = struct.pack(">h", factor) + body
    scales, mine = Scales(), fields(placed)
    found = read(placed, raw, scales=scales)
    for name, field in mine.items():
        cells = struct.unpack_from(f">{field.span.count}H", raw, 2 * field.span.start)
        value, quality = _scalar(field, scales)(cells)
        assert found[name][1] == quality, name
        assert str(found[name][0]) == str(value), name


def test_bit_fields_and_bits_of_one_register_are_told_apart_in_both_byte_orders():
    points = {
        "low": {"at": "holding 0.0-3", "as": "uint"},
        "high": {"at": "holding 0.12-15", "as": "uint", "absent": 0xF},
        "bit": {"at": "holding 0.4", "as": "bit"},
        "swapped": {"at": "holding 0.0-7", "as": "uint", "order": "BADC"},
        "scaled": {"at": "holding 0.0-3", "as": "uint", "scale": 0.5},
    }
    found = read(points, b"\xf0\x15")
    assert found == {
        "low": (5, GOOD), "high": (0, ABSENT), "bit": (True, GOOD), "swapped": (0xF0, GOOD), "scaled": (2.5, GOOD),
    }  # fmt: skip


def test_a_scale_that_is_not_known_or_absent_makes_no_numbers():
    points = {"v": {"at": "holding 1", "as": "uint16", "scale": "10^@sf"}}
    points |= {"sf": {"at": "holding 0", "as": "int16", "absent": 0x8000}}
    assert read(points, b"\x00\x02\x00\x07")["v"] == (700.0, GOOD)
    assert str(read(points, b"\x80\x00\x00\x07")["v"]) == str((math.nan, ABSENT))
    alone, scales = fields(points)["v"], Scales()
    batch = Extractor(1, [alone]).decode(b"\x00\x07", 1, scales)[0]
    assert (math.isnan(batch.value[0]), batch.quality[0]) == (True, DECODE)
    scales.learn("sf", -1.0, GOOD)
    assert Extractor(1, [alone]).decode(b"\x00\x07", 1, scales)[0].value[0] == 0.7


def test_infinite_and_missing_floats_are_never_numbers():
    points = {n: {"at": f"holding {2 * i}", "as": "float32"} for i, n in enumerate(("a", "inf", "minus", "nan"))}
    raw = struct.pack(">4f", 1.5, math.inf, -math.inf, math.nan)
    found = read(points, raw)
    assert found["a"] == (1.5, GOOD)
    assert [found[n][1] for n in ("inf", "minus", "nan")] == [DECODE, DECODE, ABSENT]
    assert all(math.isnan(found[n][0]) for n in ("inf", "minus", "nan"))


def test_one_type_side_by_side_is_one_column_of_one_kind():
    made = fields({f"p{n}": {"at": f"holding {2 * n}", "as": "float32"} for n in range(30)})
    extractor = Extractor(0, list(made.values()))
    (batch,) = extractor.decode(np.arange(30, dtype=">f4").tobytes(), 5, Scales())
    assert batch.kind is Kind.FLOAT
    assert batch.value.tolist() == list(range(30))
    assert not batch.quality.any()
