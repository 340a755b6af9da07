"""The account of what ticks saw is bounded, in number and in length, whatever signals and ticks do."""

from __future__ import annotations

import random
import string
from dataclasses import dataclass

import numpy as np
import pytest

from twinedge.estimate.lineage import AHEAD_MAX, PERIOD_MAX, Lineage
from twinmodel.align import Frame
from twinmodel.lineage import (
    EVERY_NS,
    EXCEPTIONS_MAX,
    TEXT_MAX,
    Checkpoint,
    Ended,
    Trace,
    lineage_signal,
    of_text,
    to_text,
)
from twinmodel.quality import QualityReason, uncertain
from twinmodel.signal import Batch, Catalogue, Kind, Signal, Stream

S = 1_000_000_000
T0 = 2_000_000_400 * S
LEVEL = Signal(0, "d.level", Kind.FLOAT, "m", Stream.STATE)
CATALOGUE = Catalogue((LEVEL, Signal(1, lineage_signal("tank"), Kind.STRING, "", Stream.STATE)), ())


@dataclass
class Package:
    name: str = "tank"
    version: str = "1.0.0"
    digest: bytes = bytes(32)


class Model:
    dt_ns = S
    inputs = outputs = ()
    package = Package()

    def state_hash(self):
        return bytes(32)

    def checkpoint(self):
        return bytes(100)


@pytest.fixture
def lineage():
    made = Lineage("tank", ({}, {"level": 0}, {0: 3 * S}))
    made.publish_as(CATALOGUE)
    return made


def step(lineage, model, t_ns):
    """One tick; the checkpoints told with it."""
    lineage.before(model, Frame(t_ns, np.zeros(1), np.zeros(1, np.uint16), 0, np.zeros(1, np.int64)), None, [0])
    lineage.given(t_ns, np.zeros(1), np.zeros(1))
    return [of_text(text) for batch in lineage.taken() for text in batch.value]


def test_leaps_without_end_make_no_checkpoints_without_end(lineage):
    model = Model()
    told = [mark for k in range(250) for mark in step(lineage, model, T0 + 2 * k * S)]
    assert len(told) == PERIOD_MAX
    (again,) = step(lineage, model, T0 + EVERY_NS)
    assert (again.cause, again.number) == ("pause", PERIOD_MAX + 1)
    assert again.ended.tick_ns == told[-1].next_ns


def test_device_whose_clock_is_ahead_does_not_fill_every_checkpoint(lineage):
    model, told = Model(), []
    for k in range(1_300):
        ahead = Batch.of(Kind.FLOAT, [0], [1.0], [uncertain(QualityReason.CLOCK)], [T0 + (k + 86_400) * S])
        lineage.pushed(ahead, np.zeros(1, bool))
        told += step(lineage, model, T0 + k * S)
    assert [mark.cause for mark in told[1:]] == ["period"] * (len(told) - 1)
    assert len(told) == 3
    assert all(mark.ended.complete for mark in told[1:]), "nothing of it concerns these ticks"
    lineage.end()
    assert len(lineage._passed) == AHEAD_MAX
    assert len(to_text(told[-1])) < 8_000


def test_text_is_bounded_and_what_does_not_fit_is_left_out():
    rng = random.Random(1)
    names = ["".join(rng.choices(string.ascii_letters, k=250)) for _ in range(EXCEPTIONS_MAX)]
    ended = Ended(T0, bytes(32), tuple((name, T0, True, 1) for name in names), foreign=(T0,))
    full = Checkpoint(1, "start", T0, T0 + S, S, "tank@1.0.0", bytes(32), rng.randbytes(TEXT_MAX), {}, {}, {}, {}, {},
                      ended=ended)  # fmt: skip
    text = to_text(full)
    assert len(text) <= TEXT_MAX
    found = of_text(text)
    assert (found.state, found.ended.passed, found.ended.complete, found.ended.seal) == (b"", (), False, bytes(32))


def test_trace_is_that_of_the_bits_however_they_are_told():
    g = np.random.default_rng(1)
    t_ns, u, y = np.arange(20), g.normal(size=(20, 3)), g.normal(size=(20, 2))
    y[3, 1] = np.nan
    other = y.copy()
    other.view(np.uint64)[3, 1] ^= 1  # another NaN
    whole, parts = Trace(), Trace()
    whole.add(t_ns, u, y)
    for k in range(20):
        parts.add(t_ns[k : k + 1], u[k : k + 1], other[k : k + 1])
    assert whole.digest() == parts.digest()
    u[0, 0] = np.nextafter(u[0, 0], 1.0)
    changed = Trace()
    changed.add(t_ns, u, y)
    assert changed.digest() != whole.digest()
