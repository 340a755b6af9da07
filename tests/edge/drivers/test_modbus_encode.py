"""Values to registers: whatever is written reads back as what was meant, in every type and order."""

from __future__ import annotations

import math
import struct

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from twinedge.drivers.modbus_decode import Extractor
from twinedge.drivers.modbus_encode import encode, part_mask, step_of
from twinedge.drivers.modbus_fields import Scales, fields_of
from twinedge.drivers.modbus_frame import Request
from twinedge.drivers.modbus_write import echo_of, mask_request, write_request
from twinmodel.errors import InputError
from twinmodel.profile.schema import FirmwareProfile, kind_of
from twinmodel.signal import Signal

ORDERS = ["ABCD", "CDAB", "BADC", "DCBA"]
INTEGERS = {
    "int16": (-(1 << 15), (1 << 15) - 1), "uint16": (0, (1 << 16) - 1), "int32": (-(1 << 31), (1 << 31) - 1),
    "uint32": (0, (1 << 32) - 1), "int64": (-(1 << 63), (1 << 63) - 1), "uint64": (0, (1 << 63) - 1),
    "int8h": (-128, 127), "uint8l": (0, 255), "bcd16": (0, 9999), "bcd32": (0, 99_999_999),
}  # fmt: skip


def field_of(at="holding 0", **keys):
    profile = FirmwareProfile.model_validate(
        {"profile": "a/b", "protocol": "modbus", "base": 0, "points": {"x": {"at": at} | keys}}
    )
    return fields_of(profile, {"x": Signal(0, "d.x", kind_of(profile.points["x"]), "")})["x"]


def decoded(field, registers):
    raw = struct.pack(f">{len(registers)}H", *registers)
    batch = Extractor(0, [field]).decode(raw, 0, Scales())[0]
    return batch.value[0], int(batch.quality[0])


@given(st.data(), st.sampled_from(sorted(INTEGERS)), st.sampled_from(ORDERS))
def test_every_whole_number_of_a_type_comes_back(data, as_, order):
    low, high = INTEGERS[as_]
    value = data.draw(st.integers(low, high))
    field = field_of(as_=as_, order=order)
    assert decoded(field, encode(field, value, Scales())) == (value, 0)
    with pytest.raises(InputError, match="COMMAND_INVALID"):
        encode(field, high + 1 if as_ != "uint64" else 1 << 64, Scales())


@given(
    st.sampled_from(["int16", "uint32", "int64"]),
    st.sampled_from(ORDERS),
    st.sampled_from([0.1, 0.01, 2.5, -0.5, 1000.0]),
    st.sampled_from([None, -40.0, 0.25]),
    st.floats(-1e4, 1e4),
)
def test_a_scaled_value_comes_back_within_one_step(as_, order, scale, offset, value):
    field = field_of(as_=as_, order=order, scale=scale, offset=offset)
    try:
        registers = encode(field, value, Scales())
    except InputError:
        low, high = sorted(x * scale + (offset or 0) for x in INTEGERS[as_])
        assert not low <= value <= high
        return
    found, quality = decoded(field, registers)
    assert quality == 0
    assert abs(found - value) <= step_of(field, value, Scales())


@given(st.sampled_from(["float16", "float32", "float64"]), st.sampled_from(ORDERS), st.floats(-6e4, 6e4))
def test_a_float_comes_back_within_the_step_of_its_type(as_, order, value):
    field = field_of(as_=as_, order=order)
    found, quality = decoded(field, encode(field, value, Scales()))
    assert quality == 0
    assert abs(found - value) <= step_of(field, value, Scales())
    assert step_of(field, value, Scales()) <= max(abs(value), 1e-3) * 1e-2


@given(st.integers(1, 20), st.sampled_from(ORDERS), st.text(st.characters(codec="utf-8"), max_size=20))
def test_a_text_comes_back(size, order, text):
    field = field_of(as_=f"string({size})", order=order)
    try:
        registers = encode(field, text, Scales())
    except InputError:
        assert len(text.encode()) > size or "\0" in text or text != text.rstrip()
        return
    assert decoded(field, registers) == (text, 0)


@given(st.integers(0, 0xFFFF), st.integers(0, 15), st.integers(0, 15), st.data(), st.sampled_from(ORDERS))
def test_a_part_of_a_register_comes_back_and_leaves_the_rest(before, one, other, data, order):
    low, high = sorted((one, other))
    at, as_ = (f"holding 0.{low}-{high}", "uint") if high > low else (f"holding 0.{low}", "bit")
    field = field_of(at, as_=as_, order=order)
    value = data.draw(st.integers(0, (1 << (high - low + 1)) - 1))
    cell, mask = encode(field, value, Scales())[0], part_mask(field)
    assert cell & ~mask == 0
    after = before & ~mask | cell
    assert decoded(field, [after]) == (value, 0)
    assert (after ^ before) & ~mask == 0
    body = mask_request(0, mask, cell).body
    keep, bits = struct.unpack(">HH", body[3:])
    assert before & keep | bits & ~keep & 0xFFFF == after


def test_what_means_no_value_is_not_written():
    for keys, value in (({"as_": "int16", "absent": "0x8000"}, -32768), ({"as_": "uint16", "absent": 65535}, 65535)):
        with pytest.raises(InputError, match="no value"):
            encode(field_of(**keys), value, Scales())
    for value in (math.nan, math.inf, True, "1"):
        with pytest.raises(InputError, match="COMMAND_INVALID"):
            encode(field_of(as_="float32"), value, Scales())
    with pytest.raises(InputError, match="not known now"):
        encode(field_of(as_="int16", scale="10^@other"), 1.0, Scales())


@given(st.lists(st.integers(0, 0xFFFF), min_size=1, max_size=123), st.integers(0, 60_000))
def test_writes_are_the_bytes_of_the_specification_and_their_echo_is_known(cells, start):
    one = write_request("holding", start, cells[:1])
    assert one.body == struct.pack(">BHH", 6, start, cells[0])
    assert echo_of(one) == one.body[1:]
    many = write_request("holding", start, cells, "multiple")
    assert many.body == struct.pack(f">BHHB{len(cells)}H", 16, start, len(cells), 2 * len(cells), *cells)
    assert echo_of(many) == struct.pack(">HH", start, len(cells))
    assume(isinstance(one, Request))
    coils = write_request("coil", start, [c & 1 for c in cells])
    assert coils.function == (5 if len(cells) == 1 else 15)
