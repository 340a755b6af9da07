"""Layouts that are remembered: the same samples as without a memory, whatever blocks came before."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.sync.samples import assert_same
from twinmodel.errors import InputError
from twinmodel.signal import Batch, Catalogue, Kind, Signal
from twinsync import block, layout, scales

SECOND = 10**9


def catalogue(name: str, exponent: int = 2) -> Catalogue:
    kinds = (Kind.FLOAT, Kind.INT, Kind.FLOAT, Kind.BOOL)
    return Catalogue(
        tuple(Signal(n, f"{name}{n}", k, exponent=exponent, period_ns=SECOND) for n, k in enumerate(kinds))
    )


def batches(start: int, lengths: tuple[int, int, int, int]) -> list[Batch]:
    made = []
    for kind, numbers in ((Kind.FLOAT, (0, 2)), (Kind.INT, (1,)), (Kind.BOOL, (3,))):
        signal = np.concatenate([np.full(lengths[n], n, np.uint32) for n in numbers])
        if not len(signal):
            continue
        t_ns = np.concatenate([(start + np.arange(lengths[n])) * SECOND for n in numbers])
        value = (np.arange(len(signal)) * 3 + start) % 2
        made.append(Batch(kind, signal, value.astype({Kind.FLOAT: float, Kind.INT: int, Kind.BOOL: bool}[kind]),
                          np.zeros(len(signal), np.uint16), t_ns))  # fmt: skip
    return made


lengths = st.tuples(*[st.integers(0, 3)] * 4).filter(any)


@given(st.lists(st.tuples(st.integers(0, 100), lengths, st.sampled_from([1, 2])), min_size=1, max_size=12))
def test_blocks_of_any_layouts_by_turns_decode_to_what_was_encoded(made):
    for start, some, exponent in made:
        samples, known = batches(start, some), catalogue("s", exponent)
        assert_same(block.canonical(samples), block.decode(block.encode(samples, known).payload, known))


def test_blocks_of_one_layout_share_signals_that_cannot_be_written_to():
    known = catalogue("shared")
    _, one, two = (block.decode(block.encode(batches(s, (2, 2, 2, 2)), known).payload, known) for s in (0, 25, 50))
    assert all(a.signal is b.signal for a, b in zip(one, two, strict=True))
    with pytest.raises(ValueError, match="read-only"):
        one[0].signal[0] = 9
    with pytest.raises(ValueError, match="read-only"):
        one[0].quality[0] = 9


def test_gateways_that_differ_only_in_names_share_scales():
    assert scales.scales_of(catalogue("a")) is scales.scales_of(catalogue("b"))
    assert scales.scales_of(catalogue("a")) is not scales.scales_of(catalogue("a", 3))


def test_remembered_layouts_are_bounded(monkeypatch):
    monkeypatch.setattr(layout, "WEIGHT_MAX", 200)
    memo = layout._Memo()
    monkeypatch.setattr(layout, "_memo", memo)
    known = catalogue("bounded")
    for count in range(1, 12):
        samples = batches(0, (count, 0, 0, 0))
        for _ in range(2):
            assert_same(block.canonical(samples), block.decode(block.encode(samples, known).payload, known))
        assert 0 < memo.weight <= 200
    assert len(memo._layouts) == 2, "small ones weigh what they are made of"


def test_layouts_that_do_not_come_again_take_no_memory(monkeypatch):
    monkeypatch.setattr(layout, "SEEN_MAX", 4)
    memo = layout._Memo()
    monkeypatch.setattr(layout, "_memo", memo)
    known = catalogue("once")
    for count in range(1, 12):
        block.decode(block.encode(batches(0, (count, 0, 0, 0)), known).payload, known)
    assert (memo.weight, len(memo._seen)) == (0, 4)


def test_remembered_scales_are_bounded(monkeypatch):
    monkeypatch.setattr(scales, "_MEMO_SIGNALS_MAX", 15)
    memo = scales._Memo()
    for n in range(9):
        assert len(memo.of(catalogue(f"n{n}"))) == 4
        assert memo.signals <= 15


def test_a_known_layout_that_is_cut_short_is_corrupt():
    known = catalogue("cut")
    columns = block.columns_of(batches(0, (1, 1, 1, 1)), known)
    whole = _plain(columns, known)
    block.decode(whole, known)
    for end in range(12, len(whole)):
        with pytest.raises(InputError, match="block payload"):
            block.decode(whole[:end], known)


def _plain(columns: bytes, known: Catalogue) -> bytes:
    return b"TB" + bytes((2, 0)) + (4).to_bytes(4, "little") + known.digest[:4] + columns
