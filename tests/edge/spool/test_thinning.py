"""What is kept of a full disk: a point a minute of every signal always, extremes, changes and surprises for long."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinedge.spool.thinning import LEVELS, MINUTE_NS, kept_of
from twinmodel.signal import Batch, Catalogue, Kind, Signal, Stream, TwinBinding
from twinsync.block import canonical

S = 10**9
ROLES = ("estimate", "sigma", "prediction", "innovation", "drift")
CATALOGUE = Catalogue(
    (
        Signal(0, "press.level"),
        Signal(1, "press.mode", Kind.STRING),
        Signal(2, "press.count", Kind.INT),
        Signal(3, "press.on", Kind.BOOL),
        *(Signal(4 + n, f"tank/level#{role}", stream=Stream.STATE) for n, role in enumerate(ROLES)),
    ),
    (TwinBinding("tank", "tank", "", {"level": "press.level"}, ("level",), {}),),
)
VALUES = {
    Kind.FLOAT: st.floats(allow_nan=True),
    Kind.STRING: st.sampled_from(["run", "stop"]),
    Kind.INT: st.integers(-5, 5),
    Kind.BOOL: st.booleans(),
}


def batch(signal, t_s, value, quality=None):
    signal = signal if isinstance(signal, list) else [signal] * len(t_s)
    kind = CATALOGUE.signals[signal[0]].kind
    return Batch.of(kind, signal, value, quality or [0] * len(t_s), [round(t * S) for t in t_s])


@st.composite
def blocks(draw):
    made = []
    for start in range(0, draw(st.integers(1, 4)) * 40, 40):
        batches = []
        for signal in draw(st.lists(st.integers(0, 8), min_size=1, max_size=4, unique=True)):
            times = sorted(draw(st.lists(st.integers(start, start + 39), min_size=1, max_size=12)))
            value = [draw(VALUES[CATALOGUE.signals[signal].kind]) for _ in times]
            batches.append(batch(signal, times, value, [draw(st.sampled_from([0, 0, 0x0206])) for _ in times]))
        made.append(canonical(batches))
    return made


def minutes(block_list, masks=None):
    found = set()
    for place, parts in enumerate(block_list):
        signal, t_ns = (np.concatenate([getattr(b, name) for b in parts]) for name in ("signal", "t_ns"))
        mask = np.ones(len(signal), np.bool_) if masks is None else masks[place]
        found |= set(zip(signal[mask].tolist(), (t_ns[mask] // MINUTE_NS).tolist(), strict=True))
    return found


@given(blocks(), st.sampled_from(LEVELS))
def test_every_minute_of_every_signal_keeps_a_point_and_a_coarser_level_keeps_no_more(parts, level):
    masks = kept_of(parts, CATALOGUE, level)
    assert [len(m) for m in masks] == [sum(map(len, p)) for p in parts]
    assert minutes(parts, masks) == minutes(parts)
    if level == 3:
        assert sum(int(m.sum()) for m in masks) == len(minutes(parts))


def test_least_and_greatest_of_a_minute_are_kept_across_blocks():
    values = np.sin(np.arange(60) / 9) + np.arange(60) % 7
    parts = [[batch(0, list(range(n, n + 10)), values[n : n + 10].tolist())] for n in range(0, 60, 10)]
    mask = np.concatenate(kept_of(parts, CATALOGUE, 1))
    assert mask.nonzero()[0].tolist() == sorted([int(values.argmin()), int(values.argmax())])
    assert np.concatenate(kept_of(parts, CATALOGUE, 2)).nonzero()[0].tolist() == [0]


def test_missing_values_hide_no_extreme():
    mask = kept_of([[batch(0, [0, 1, 2, 3], [float("nan"), 5.0, 9.0, 7.0])]], CATALOGUE, 1)[0]
    assert mask.tolist() == [False, True, True, False]


@pytest.mark.parametrize("level", [1, 2])
def test_changes_of_quality_and_of_switches_are_kept(level):
    quality = [0, 0, 0, 7, 7, 7, 0, 0]
    mask = kept_of([[batch(0, list(range(8)), [1.0] * 8, quality)]], CATALOGUE, level)[0]
    assert {0, 3, 6} == set(mask.nonzero()[0].tolist())
    words = kept_of([[batch(1, list(range(6)), ["run", "run", "stop", "stop", "run", "run"])]], CATALOGUE, level)[0]
    assert words.nonzero()[0].tolist() == [0, 2, 4]


def test_surprise_of_a_model_keeps_what_belongs_to_it_and_a_smaller_one_goes_at_a_coarser_level():
    t_s = [float(t) for t in range(50)]
    innovation = [0.1 * (-1) ** n for n in range(50)]
    innovation[20], innovation[30] = 2.0, 0.6
    # The measurement comes a moment before the tick that used it.
    parts = [[batch(0, [t - 0.3 for t in t_s], [1.0] * 50), batch(7, t_s, innovation), batch(4, t_s, [1.0] * 50)]]
    parts = [canonical(parts[0])]
    kept = {level: set(np.nonzero(kept_of(parts, CATALOGUE, level)[0])[0].tolist()) for level in LEVELS}
    for place in (20, 70, 120):
        assert all(place in kept[level] for level in (1, 2))
        assert place not in kept[3]
        assert place + 10 in kept[1]
        assert place + 10 not in kept[2]


@given(blocks())
def test_thinning_again_at_the_last_level_changes_nothing(parts):
    masks = kept_of(parts, CATALOGUE, 3)
    left = []
    for batches, mask in zip(parts, masks, strict=True):
        edges = np.cumsum([len(b) for b in batches])[:-1]
        left.append([b.take(m) for b, m in zip(batches, np.split(mask, edges), strict=True)])
    if all(sum(map(len, p)) for p in left):
        assert all(mask.all() for mask in kept_of(left, CATALOGUE, 3))
