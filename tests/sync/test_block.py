"""A block gives back every bit it was given, whatever the kinds, the times and the qualities."""

import crc32c
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.sync.samples import CATALOGUE, MIXED, OF_KIND, SECOND, SIGNALS, WHOLE, assert_same, batches, steady
from twinmodel.errors import InputError
from twinmodel.signal import Batch, Catalogue, Kind, Signal
from twinsync import block, limits


@given(batches(), st.sampled_from([CATALOGUE, WHOLE]))
def test_decoded_samples_have_the_bits_of_the_encoded_ones_in_canonical_order(given_batches, catalogue):
    packed = block.encode(given_batches, catalogue)
    back = block.decode(packed.payload, catalogue)
    assert_same(block.canonical(given_batches), back)
    times = np.concatenate([b.t_ns for b in given_batches])
    assert (packed.count, packed.t_min_ns, packed.t_max_ns) == (len(times), times.min(), times.max())
    assert packed.schema == catalogue.digest
    assert packed.crc32c == crc32c.crc32c(packed.payload)
    block.verify(packed.payload, packed.crc32c)


def test_canonical_order_is_kind_then_signal_then_arrival():
    ints = Batch.of(Kind.INT, [4, 3, 4], [1, 2, 3], [0, 0, 0], [9, 8, 7])
    floats = Batch.of(Kind.FLOAT, [7, 0, 7], [1.0, 2.0, 3.0], [0, 0, 0], [3, 2, 1])
    back = block.decode(block.encode([ints, floats], CATALOGUE).payload, CATALOGUE)
    assert [b.kind for b in back] == [Kind.FLOAT, Kind.INT]
    assert (back[0].signal.tolist(), back[0].value.tolist()) == ([0, 7, 7], [2.0, 1.0, 3.0])
    assert (back[1].signal.tolist(), back[1].value.tolist()) == ([3, 4, 4], [2, 1, 3])


def test_signals_polled_together_store_their_times_once():
    alone = len(block.encode([steady(100, (0,))], CATALOGUE).payload)
    many = Catalogue(tuple(Signal(i, f"s{i}", exponent=2, step=5, period_ns=SECOND // 10) for i in range(8)))
    together = steady(100, tuple(range(8)))
    together = Batch(together.kind, together.signal, np.tile(together.value[:1000], 8), together.quality, together.t_ns)
    assert len(block.encode([together], many).payload) < 8 * alone * 0.75


def test_missing_samples_cost_bytes_only_where_they_miss():
    whole = steady(100, (7,))
    keep = np.ones(len(whole), np.bool_)
    keep[100::50] = False
    thinned = block.encode([whole.take(keep)], CATALOGUE)
    assert len(thinned.payload) < 1.3 * len(block.encode([whole], CATALOGUE).payload)
    assert_same([whole.take(keep)], block.decode(thinned.payload, CATALOGUE))


def test_equal_hashes_of_different_times_do_not_merge_them(monkeypatch):
    monkeypatch.setattr("twinsync.bases._hashes", lambda runs, _t: [0] * runs.count)
    mixed = [steady(3, (0, 7)), Batch.of(Kind.INT, [3, 4, 4], [1, 2, 3], [0, 0, 0], [1, 2, 3])]
    packed = block.encode(mixed, CATALOGUE)
    assert_same(block.canonical(mixed), block.decode(packed.payload, CATALOGUE))


def test_constant_nan_costs_next_to_nothing():
    count = 1000
    ids = np.zeros(count, np.uint32)
    t_ns = np.arange(count) * SECOND
    dead = Batch(Kind.FLOAT, ids, np.full(count, np.nan), np.full(count, 0x200, np.uint16), t_ns)
    assert len(block.encode([dead], CATALOGUE).payload) < 120


def ones(kind, count):
    return Batch.of(kind, [OF_KIND[kind][0]] * count, [True] * count, [0] * count, range(count))


@pytest.mark.parametrize(
    ("given_batches", "reason"),
    [
        ([], "VALUE_INVALID"),
        ([ones(Kind.FLOAT, 0)], "VALUE_INVALID"),
        ([Batch.of(Kind.FLOAT, [99], [1.0], [0], [0])], "VALUE_INVALID"),
        ([Batch.of(Kind.FLOAT, [3], [1.0], [0], [0])], "VALUE_INVALID"),
        ([Batch.of(Kind.STRING, [6], [None], [0], [0])], "VALUE_INVALID"),
        ([Batch.of(Kind.STRING, [6], ["x" * (limits.BLOCK_RAW_BYTES_MAX + 1)], [0], [0])], "LIMIT_EXCEEDED"),
    ],
)
def test_samples_that_do_not_fit_are_refused_with_a_reason(given_batches, reason):
    with pytest.raises(InputError) as refusal:
        block.encode(given_batches, CATALOGUE)
    assert refusal.value.reason == reason


def test_values_of_another_type_are_refused_instead_of_rounded():
    wrong = Batch(Kind.INT, np.array([3], np.uint32), np.array([1.5]), np.zeros(1, np.uint16), np.zeros(1, np.int64))
    with pytest.raises(InputError, match="float64"):
        block.encode([wrong], CATALOGUE)


def test_more_samples_than_a_block_holds_are_refused():
    count = limits.BLOCK_SAMPLES_MAX + 1
    columns = np.zeros(count, np.uint32), np.zeros(count), np.zeros(count, np.uint16), np.zeros(count, np.int64)
    with pytest.raises(InputError, match="LIMIT_EXCEEDED"):
        block.encode([Batch(Kind.FLOAT, *columns)], CATALOGUE)


def test_order_of_arrival_survives_where_blocks_are_joined_from_many_batches():
    parts = [Batch.of(Kind.FLOAT, [7, 0], [float(n), float(-n)], [n, n], [9 - n, n]) for n in range(9)]
    back = block.decode(block.encode(parts, CATALOGUE).payload, CATALOGUE)
    assert_same(block.canonical(parts), back)
    assert back[0].value.tolist() == [*(float(-n) for n in range(9)), *(float(n) for n in range(9))]


def test_every_odd_value_of_every_kind_comes_back_in_one_block():
    assert_same(block.canonical(MIXED), block.decode(block.encode(MIXED, CATALOGUE).payload, CATALOGUE))


@given(st.lists(batches(size_max=8), min_size=1, max_size=3))
def test_samples_behind_a_change_of_schema_read_with_theirs_and_older_ones_with_the_old(spans):
    # The new configuration has another order, another resolution, and one signal more.
    changed = Catalogue(
        (*(Signal(s.id, s.name + "'", s.kind, exponent=3, step=7) for s in SIGNALS), Signal(8, "new", Kind.BOOL))
    )
    stream = []
    for place, span in enumerate(spans):
        schema = (CATALOGUE, changed)[place % 2]
        stream.append((schema, block.encode(span, schema)))
    for span, (schema, packed) in zip(spans, stream, strict=True):
        assert_same(block.canonical(span), block.decode(packed.payload, schema))
        other = changed if schema is CATALOGUE else CATALOGUE
        with pytest.raises(InputError, match="schema"):
            block.decode(packed.payload, other)


def test_catalogue_too_large_for_narrow_keys_sorts_as_well():
    count = 20_000
    wide = Catalogue(tuple(Signal(n, f"s{n}", Kind.INT if n % 2 else Kind.FLOAT, exponent=1) for n in range(count)))
    ids = np.arange(count - 1, -1, -2)
    mixed = [
        Batch.of(Kind.INT, ids, ids, [0] * len(ids), ids),
        Batch.of(Kind.FLOAT, [4, 2], [0.1, 0.2], [0, 1], [1, 2]),
    ]
    assert_same(block.canonical(mixed), block.decode(block.encode(mixed, wide).payload, wide))


def test_times_finer_than_the_catalogues_step_come_back():
    fine = Catalogue(SIGNALS, time_step_ns=1)
    batch = Batch.of(Kind.FLOAT, [0] * 5, [1.0] * 5, [0] * 5, [1, 10**9 + 7, 2 * 10**9 + 3, -(2**63), 2**63 - 1])
    for catalogue in (fine, CATALOGUE):
        assert_same([batch], block.decode(block.encode([batch], catalogue).payload, catalogue))
