"""Samples of all kinds for the tests of blocks: a catalogue, strategies, one fixed mixture with every odd value."""

import struct

import numpy as np
from hypothesis import strategies as st

from twinmodel.signal import DTYPES, Batch, Catalogue, Kind, Signal

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
# All periods are whole milliseconds: the grid is computed another way then.
WHOLE = Catalogue((SIGNALS[0], Signal(1, "b", Kind.FLOAT, exponent=-3, period_ns=SECOND // 5), *SIGNALS[2:]))
OF_KIND = {kind: [s.id for s in SIGNALS if s.kind is kind] for kind in Kind}


def float_of(bits):
    return struct.unpack("<d", struct.pack("<Q", bits))[0]


QUIET_NAN, LOADED_NAN, SIGNALLING_NAN = (float_of(b) for b in (0x7FF8 << 48, 0xFFF8000000C0FFEE, 0x7FF0000000000001))
I64 = st.integers(-(2**63), 2**63 - 1)
VALUES = {
    Kind.FLOAT: st.one_of(
        st.integers(0, 2**64 - 1).map(float_of),
        st.integers(-10_000, 10_000).map(lambda k: k / 100),
        st.sampled_from([0.0, -0.0, QUIET_NAN, LOADED_NAN, SIGNALLING_NAN, float("inf"), -float("inf")]),
        st.sampled_from([5e-324, -2.2e-308, 1.7e308, 2.0**53 + 2, 2.0**63, -(2.0**63)]),
    ),
    Kind.INT: st.one_of(I64, st.integers(-300, 300), st.sampled_from([-(2**63), 2**63 - 1])),
    Kind.BOOL: st.booleans(),
    Kind.STRING: st.one_of(st.sampled_from(["", "run", "stop"]), st.text(st.characters(codec=None), max_size=6)),
}
T0 = 1_700_000_000 * SECOND
TIMES = st.one_of(
    I64,
    st.integers(0, 50).map(lambda k: T0 + k * SECOND),
    st.integers(0, 5000).map(lambda k: T0 + k * 1_000_000 + k % 3),
)


@st.composite
def batches(draw, size_max=20):
    """Batches of any kinds, several of a kind too, rows in any order; now and then all at the same few times."""
    found = []
    times = draw(st.sampled_from([TIMES, st.sampled_from([T0, T0 + SECOND, T0 + 2 * SECOND])]))
    for kind in draw(st.lists(st.sampled_from(Kind), min_size=1, max_size=5)):
        row = st.tuples(st.sampled_from(OF_KIND[kind]), VALUES[kind], st.integers(0, 65535), times)
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


def steady(seconds, signals=(0, 7), start_ns=T0, seed=5):
    """Ten samples a second per signal with a jitter of a few milliseconds."""
    rng = np.random.default_rng(seed)
    count = 10 * seconds
    t_ns = start_ns + np.arange(count) * SECOND // 10 + rng.integers(0, 5, count) * 1_000_000
    ids = np.repeat(np.array(signals, np.uint32), count)
    value = np.round(rng.normal(20, 1, len(ids)) / 0.05) * 5 / 100
    return Batch(Kind.FLOAT, ids, value, np.zeros(len(ids), np.uint16), np.tile(t_ns, len(signals)))


MIXED = [
    steady(2),
    Batch.of(Kind.FLOAT, [2, 2, 1], [1.25, float("nan"), 5000.0], [0, 512, 0], [5, 6, 7]),
    Batch.of(
        Kind.FLOAT, [0] * 6, [-0.0, LOADED_NAN, SIGNALLING_NAN, -float("inf"), 5e-324, 1.7e308], [0] * 6, range(6)
    ),
    Batch.of(Kind.INT, [3, 3, 4, 4], [2**62, -5, -(2**63), 2**63 - 1], [1, 1, 0, 65535], [7, 2**60, -3, -(2**63)]),
    Batch.of(Kind.BOOL, [5, 5], [True, False], [0, 0], [T0 + 1, T0 + 2 * SECOND]),
    Batch.of(Kind.STRING, [6, 6, 6, 6], ["run", "", "run", "\ud800ü"], [0, 0, 0, 3], [1, 2, 3, 2**63 - 1]),
]
"""One block's worth of everything; the golden files hold it."""
