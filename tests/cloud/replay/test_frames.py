"""Frames out of history are those an aligner makes of the same samples, whatever their order and quality."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from twincloud.replay.frames import Source, Wires, frames_of
from twincloud.storage.contract import GatewayKey
from twincloud.storage.tracks import Track
from twinmodel.align import Aligner, AlignInput
from twinmodel.quality import QualityReason, bad, good, uncertain
from twinmodel.signal import Batch, Kind

S = 1_000_000_000
T0 = 1_700_000_000 * S
GATEWAY = GatewayKey("acme", "mill", "edge-1")
WIRES = Wires({"pump": Source(GATEWAY, "d.pump", "V", 3 * S)}, {"level": Source(GATEWAY, "d.level", "cm", 0)})
CODES = (0, uncertain(QualityReason.RATE), bad(QualityReason.STALE), bad(QualityReason.CLOCK), good(QualityReason.LATE))


@dataclass
class Port:
    name: str
    unit: str


class Model:
    inputs = (Port("pump", "V"),)
    outputs = (Port("level", "m"), Port("virtual", "m"))
    dt_ns = S


class Stored:
    """A store of a few samples: (signal, time, value, quality) each."""

    def __init__(self, samples):
        self.samples = samples
        self.asked = []

    def tracks(self, gateway, signals, from_ns, to_ns, known=0):
        self.asked.append((from_ns, to_ns))
        return {name: self.track(name, from_ns, to_ns) for name in signals}

    def track(self, name, from_ns, to_ns):
        mine = sorted((x for x in self.samples if x[0] == name and from_ns <= x[1] < to_ns), key=lambda x: x[1])
        count = len(mine)
        return Track(
            0, name, Kind.FLOAT, "", np.array([x[1] for x in mine], np.int64), np.array([x[2] for x in mine], float),
            np.array([x[3] for x in mine], np.uint16), np.ones(count, np.int64), np.zeros(count, np.int32), (),
            np.arange(count),
        )  # fmt: skip


def aligned(samples):
    aligner = Aligner(S, [AlignInput(0, "hold", 3 * S), AlignInput(1, "hold", 0)], 0)
    names = {"d.pump": 0, "d.level": 1}
    for name, t_ns, value, code in samples:
        aligner.push(Batch.of(Kind.FLOAT, [names[name]], [value], [code], [t_ns]))
    return aligner.close(T0 + 40 * S)


sample = st.tuples(
    st.sampled_from(("d.pump", "d.level")),
    st.integers(0, 300).map(lambda k: T0 + k * S // 8),
    st.one_of(st.floats(-5, 5), st.just(float("nan"))),
    st.sampled_from(CODES),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(sample, min_size=1, max_size=60), st.integers(1, 20))
def test_frames_of_history_are_those_of_an_aligner(samples, chunk):
    frames = aligned(samples)
    if not frames:
        return
    found = list(frames_of(Stored(samples), WIRES, Model, frames[0].t_ns, T0 + 41 * S, chunk_ticks=chunk))
    assert np.concatenate([f.t_ns for f in found]).tolist() == [f.t_ns for f in frames]
    u = np.concatenate([f.u for f in found])
    y = np.concatenate([f.y for f in found])
    # What came before the first tick that an aligner can make is known to history alone.
    np.testing.assert_array_equal(u[:, 0], [f.values[0] for f in frames])
    np.testing.assert_array_equal(y[:, 0], [f.values[1] * 0.01 for f in frames])
    assert np.isnan(y[:, 1]).all()


def test_a_long_span_is_read_in_pieces_that_know_what_the_one_before_held():
    stored = Stored([("d.level", T0, 100.0, 0)])
    found = list(frames_of(stored, WIRES, Model, T0, T0 + 30 * S, chunk_ticks=10))
    assert [len(f) for f in found] == [10, 10, 10]
    assert np.concatenate([f.y[:, 0] for f in found]).tolist() == [1.0] * 30
    assert stored.asked[1] == (T0 + 9 * S + 1, T0 + 19 * S + 1)
