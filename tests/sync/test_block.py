"""A block gives back every bit it was given, and a damaged one never does more than be refused."""

import struct
import tracemalloc

import crc32c
import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from twinmodel.errors import InputError
from twinmodel.signal import DTYPES, Batch, Catalogue, Kind, Signal
from twinsync import block, limits

SECOND = 10**9
SIGNALS = (
    Signal(0, "a", Kind.FLOAT, exponent=2, step=5, period_ns=SECOND),
    Signal(1, "b", Kind.FLOAT, exponent=-3, period_ns=SECOND // 30),
    Signal(2, "c", Kind.FLOAT, exponent=40),
    Signal(3, "d", Kind.INT, period_ns=SECOND),
    Signal(4, "e", Kind.INT),
    Signal(5, "f", Kind.BOOL, period_ns=SECOND),
    Signal(6, "g", Kind.STRING),
    Signal(7, "h", Kind.FLOAT, exponent=1, period_ns=SECOND // 10),
)
CATALOGUE = Catalogue(SIGNALS)
OF_KIND = {kind: [s.id for s in SIGNALS if s.kind is kind] for kind in Kind}
I64 = st.integers(-(2**63), 2**63 - 1)
any_bits = st.integers(0, 2**64 - 1).map(lambda bits: struct.unpack("<d", struct.pack("<Q", bits))[0])
VALUES = {
    Kind.FLOAT: st.one_of(
        any_bits,
        st.integers(-10_000, 10_000).map(lambda k: k / 100),
        st.sampled_from([0.0, -0.0, float("nan"), float("inf"), -float("inf"), 5e-324, 1.7e308, 2.0**63]),
    ),
    Kind.INT: st.one_of(I64, st.integers(-5, 5), st.sampled_from([-(2**63), 2**63 - 1])),
    Kind.BOOL: st.booleans(),
    Kind.STRING: st.one_of(st.sampled_from(["", "run", "stop"]), st.text(st.characters(codec=None), max_size=6)),
}
TIMES = st.one_of(
    I64,
    st.integers(0, 50).map(lambda k: 1_700_000_000 * SECOND + k * SECOND),
    st.integers(0, 5000).map(lambda k: 1_700_000_000 * SECOND + k * 1_000_000 + k % 3),
)


@st.composite
def batches(draw, size_max=40):
    found = []
    for kind in draw(st.lists(st.sampled_from(Kind), min_size=1, max_size=5)):
        row = st.tuples(st.sampled_from(OF_KIND[kind]), VALUES[kind], st.integers(0, 65535), TIMES)
        rows = draw(st.lists(row, min_size=1, max_size=size_max))
        found.append(Batch.of(kind, *zip(*rows, strict=True)))
    return found


def bits(batch):
    value = batch.value.view(np.int64) if batch.kind is Kind.FLOAT else batch.value
    return batch.kind, batch.signal.tolist(), value.tolist(), batch.quality.tolist(), batch.t_ns.tolist()


def assert_same(one, other):
    assert [bits(b) for b in one] == [bits(b) for b in other]
    for batch in other:
        assert batch.value.dtype == DTYPES[batch.kind]
        assert (batch.signal.dtype, batch.quality.dtype, batch.t_ns.dtype) == (np.uint32, np.uint16, np.int64)


@settings(deadline=None, max_examples=300)
@given(batches())
def test_decoded_samples_have_the_bits_of_the_encoded_ones_in_canonical_order(given_batches):
    packed = block.encode(given_batches, CATALOGUE)
    back = block.decode(packed.payload, CATALOGUE)
    assert_same(block.canonical(given_batches), back)
    times = np.concatenate([b.t_ns for b in given_batches])
    assert (packed.count, packed.t_min_ns, packed.t_max_ns) == (len(times), times.min(), times.max())
    assert packed.schema == CATALOGUE.digest
    assert packed.crc32c == crc32c.crc32c(packed.payload)
    block.verify(packed.payload, packed.crc32c)


def test_canonical_order_is_kind_then_signal_then_arrival():
    ints = Batch.of(Kind.INT, [4, 3, 4], [1, 2, 3], [0, 0, 0], [9, 8, 7])
    floats = Batch.of(Kind.FLOAT, [7, 0, 7], [1.0, 2.0, 3.0], [0, 0, 0], [3, 2, 1])
    back = block.decode(block.encode([ints, floats], CATALOGUE).payload, CATALOGUE)
    assert [b.kind for b in back] == [Kind.FLOAT, Kind.INT]
    assert (back[0].signal.tolist(), back[0].value.tolist()) == ([0, 7, 7], [2.0, 1.0, 3.0])
    assert (back[1].signal.tolist(), back[1].value.tolist()) == ([3, 4, 4], [2, 1, 3])


def steady(seconds, signals=(0, 7), start_ns=1_700_000_000 * SECOND):
    """Ten samples a second per signal with a jitter of a few milliseconds."""
    rng = np.random.default_rng(5)
    count = 10 * seconds
    t_ns = start_ns + np.arange(count) * SECOND // 10 + rng.integers(0, 5, count) * 1_000_000
    ids = np.repeat(np.array(signals, np.uint32), count)
    value = np.round(rng.normal(20, 1, len(ids)) / 0.05) * 5 / 100
    return Batch(Kind.FLOAT, ids, value, np.zeros(len(ids), np.uint16), np.tile(t_ns, len(signals)))


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
    monkeypatch.setattr("twinsync.times._hashes", lambda runs, _t: [0] * runs.count)
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


def refused(payload, catalogue=CATALOGUE, **options):
    with pytest.raises(InputError) as refusal:
        block.decode(payload, catalogue, **options)
    assert refusal.value.reason == "BLOCK_CORRUPT"
    return refusal.value.message


SAMPLE = block.encode(
    [
        steady(2),
        Batch.of(Kind.FLOAT, [2, 2, 1], [1.25, float("nan"), 5000.0], [0, 512, 0], [5, 6, 7]),
        Batch.of(Kind.INT, [3, 3, 4], [2**62, -5, 0], [1, 1, 0], [7, 2**60, -3]),
        Batch.of(Kind.BOOL, [5, 5], [True, False], [0, 0], [1, 2]),
        Batch.of(Kind.STRING, [6, 6, 6], ["run", "", "run"], [0, 0, 0], [1, 2, 3]),
    ],
    CATALOGUE,
)


def columns_of(payload):
    return zstandard.ZstdDecompressor().decompress(payload[12:])


def plain(payload, raw):
    return payload[:3] + b"\x00" + payload[4:12] + raw


def outcome(payload):
    """Decodes hostile bytes: batches, or the one error there is. Any other exception fails the test."""
    try:
        found = block.decode(payload, CATALOGUE)
    except InputError as error:
        if error.reason != "BLOCK_CORRUPT":
            raise
        return None
    for batch in found:
        assert len(batch.value) == len(batch.quality) == len(batch.t_ns) == len(batch)
        assert set(batch.signal.tolist()) <= set(OF_KIND[batch.kind])
    return found


def test_every_truncation_is_refused():
    raw = columns_of(SAMPLE.payload)
    assert outcome(plain(SAMPLE.payload, raw)) is not None
    for length in range(len(SAMPLE.payload)):
        refused(SAMPLE.payload[:length])
    for length in range(len(raw)):
        refused(plain(SAMPLE.payload, raw[:length]))
    refused(SAMPLE.payload + b"\x00")
    refused(plain(SAMPLE.payload, raw + b"\x00"))


def test_every_flipped_bit_is_refused_or_decodes_within_the_catalogue():
    raw = columns_of(SAMPLE.payload)
    for position in range(len(raw) * 8):
        damaged = bytearray(raw)
        damaged[position // 8] ^= 1 << position % 8
        outcome(plain(SAMPLE.payload, bytes(damaged)))
    for position in range(len(SAMPLE.payload) * 8):
        damaged = bytearray(SAMPLE.payload)
        damaged[position // 8] ^= 1 << position % 8
        outcome(bytes(damaged))
        with pytest.raises(InputError, match="BLOCK_CORRUPT"):
            block.verify(bytes(damaged), SAMPLE.crc32c)


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_overwritten_columns_are_refused_or_decode_within_the_catalogue(data):
    raw = bytearray(columns_of(SAMPLE.payload))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(raw) - 1))
        lie = data.draw(st.binary(min_size=1, max_size=8))
        raw[at : at + len(lie)] = lie
    outcome(plain(SAMPLE.payload, bytes(raw)))


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=300), st.integers(0, 300))
def test_random_bytes_are_refused_or_decode_within_the_catalogue(raw, count):
    outcome(raw)
    header = SAMPLE.payload[:3] + b"\x00" + struct.pack("<I", count) + SAMPLE.payload[8:12]
    outcome(header + raw)


def test_zstd_bomb_is_refused_before_memory_is_taken():
    bomb = zstandard.ZstdCompressor(level=1).compress(bytes(limits.BLOCK_RAW_BYTES_MAX + 1))
    header = SAMPLE.payload[:12]
    tracemalloc.start()
    try:
        assert "claims" in refused(header + bomb)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_frame_that_hides_its_size_is_refused():
    hidden = zstandard.ZstdCompressor(level=1, write_content_size=False).compress(columns_of(SAMPLE.payload))
    assert "claims" in refused(SAMPLE.payload[:12] + hidden)


def test_lying_sample_count_is_refused_before_memory_is_taken():
    for count in (0, limits.BLOCK_SAMPLES_MAX + 1, 2**32 - 1):
        assert "claims" in refused(SAMPLE.payload[:4] + struct.pack("<I", count) + SAMPLE.payload[8:])
    refused(SAMPLE.payload[:4] + struct.pack("<I", SAMPLE.count + 1) + SAMPLE.payload[8:])
    assert "at most 3" in refused(SAMPLE.payload, count_max=3)


def test_block_of_another_catalogue_or_version_is_refused():
    assert "schema" in refused(SAMPLE.payload, Catalogue(SIGNALS[:7]))
    refused(b"TB\x02" + SAMPLE.payload[3:])
    refused(b"XX" + SAMPLE.payload[2:])
