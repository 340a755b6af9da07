"""Which reading of registers is starred, and on what grounds."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinedge.drivers.decode import swap_bytes
from twinedge.probe.plausible import ORDERS, as_text, best, candidates


def wired(raw, order):
    """Registers that hold the bytes of a number in an order."""
    if order == "DCBA":
        raw = raw[::-1]
    elif order == "CDAB":
        raw = b"".join(raw[i : i + 2] for i in range(len(raw) - 2, -1, -2))
    elif order == "BADC":
        raw = swap_bytes(raw)
    return struct.unpack(f">{len(raw) // 2}H", raw)


@given(
    st.floats(0.5, 490).map(lambda v: round(v, 1)),
    st.sampled_from(ORDERS),
    st.lists(st.floats(-0.02, 0.02), min_size=2),
)
def test_a_float_that_barely_moves_inside_its_range_is_starred_in_its_order(value, order, drift):
    reads = [wired(struct.pack(">f", value * (1 + d)), order) for d in (0.0, *drift[:2])]
    star = best(candidates(reads, ["float32"], (0, 500)))
    assert star is not None
    assert star.order == order or star.value == pytest.approx(value, rel=0.05)
    assert "inside 0..500" in star.grounds


@pytest.mark.parametrize("order", ORDERS)
def test_a_voltage_is_found_in_each_order_without_any_hint(order):
    reads = [(*wired(struct.pack(">f", v), order), 0, 0) for v in (230.1, 230.2, 230.2)]
    star = best(candidates(reads, ["uint16", "int16", "float32", "uint32", "int32"], None))
    assert (star.as_, star.order) == ("float32", order)
    assert any("in 3 reads" in ground for ground in star.grounds)


def test_words_that_are_swapped_are_seen_in_a_counter():
    star = best(candidates([wired(struct.pack(">I", 1_234_567), "CDAB")], ["uint32"], None))
    assert (star.order, star.value) == ("CDAB", 1_234_567)


@pytest.mark.parametrize("order", ORDERS)
def test_a_count_below_16_millions_is_starred_before_what_another_order_makes_of_it(order):
    star = best(candidates([wired(struct.pack(">I", 123_456), order)] * 3, ["uint32"], None))
    assert (star.order, star.value) == (order, 123_456)


def test_values_that_jump_are_not_starred():
    reads = [wired(struct.pack(">f", v), "ABCD") for v in (1.5, 80_000.0, 0.02)]
    assert best([c for c in candidates(reads, ["float32"], None) if c.order == "ABCD"]) is None


def test_nothing_outside_the_range_is_starred():
    assert best(candidates([wired(struct.pack(">f", 230.0), "ABCD")], ["float32"], (0, 10))) is None


def test_zeros_say_nothing():
    assert best(candidates([(0, 0, 0, 0)] * 3, ["uint16", "float32", "uint32"], None)) is None


def test_numbers_that_mean_no_value_are_not_starred():
    assert best(candidates([(0x8000,)], ["int16"], None)) is None
    assert best(candidates([(0xFFFF, 0xFFFF)], ["uint32", "float32"], None)) is None


def test_scale_applies_before_the_range():
    star = best(candidates([(2301,)], ["uint16"], (220, 240), 0.1))
    assert star.value == pytest.approx(230.1)


def test_text_is_told_from_numbers():
    cells = struct.unpack(">8H", b"TWINSIM TANKS1.0")
    assert as_text(cells) == "TWINSIM TANKS1.0"
    assert as_text((1, 2, 3, 4)) == ""
    star = best(candidates([cells], ["string(16)"], None))
    assert star.value == "TWINSIM TANKS1.0"


@given(st.lists(st.integers(0, 0xFFFF), min_size=4, max_size=4), st.integers(1, 4))
def test_any_registers_can_be_read_in_any_way(cells, size):
    found = candidates([cells[:size]] * 3, ["uint16", "float16", "float32", "bcd16", "uint64", "string(4)"], (0, 1))
    assert all(c.score >= 0 for c in found)
    assert {c.order for c in found} == set(ORDERS)
