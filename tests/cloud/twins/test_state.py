"""The fold: newest per signal, the same for any order, repetition and delay."""

from __future__ import annotations

from operator import attrgetter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from twincloud.twins.state import (
    FUTURE_NS,
    Origin,
    Reading,
    depth_of,
    drifts,
    fold,
    newest,
    pack,
    paired,
    signals_of,
    state_hash,
    unpack,
)
from twinmodel.signal import Batch, Catalogue, Kind, Signal, TwinBinding

NAMES = ("plc.flow", "pump/flow#estimate", "pump/flow#sigma", "pump/flow#drift")
CATALOGUE = Catalogue(
    (*(Signal(n, name) for n, name in enumerate(NAMES)), Signal(4, "plc.state", Kind.STRING), Signal(5, "plc.spare")),
    (TwinBinding("pump", "pump", "", {"flow": "plc.flow", "state": "plc.state", "gone": "plc.none"}, ("flow",), {}),),
)
DEPTH = np.array([1, 2, 2, 1, 1, 0], np.uint8)
ORDER = attrgetter("order")


def reading(t_ns: int, seq: int = 0, value: float = 0.0, counter: int = 1, boot: bytes = b"b" * 16) -> Reading:
    return Reading(t_ns, seq, value, 0, Origin(counter, boot, 1, 0, 5, 6))


def brute(batches, origin: Origin) -> dict[str, list[Reading]]:
    """The state of one block, sample by sample."""
    found: dict[str, list[Reading]] = {}
    seq = origin.first_seq
    for batch in batches:
        for s, v, q, t in zip(
            batch.signal.tolist(), batch.value.tolist(), batch.quality.tolist(), batch.t_ns.tolist(), strict=True
        ):
            if DEPTH[s] and t <= origin.received_ns + FUTURE_NS:
                found.setdefault(CATALOGUE.signals[s].name, []).append(Reading(t, seq, v, q, origin))
            seq += 1
    return {n: sorted(rs, key=ORDER, reverse=True)[: depth_of(n)] for n, rs in found.items()}


sample = st.tuples(st.integers(0, 3), st.integers(0, 6), st.integers(0, 3).map(float), st.sampled_from([0, 0x207]))
words = st.tuples(st.just(4), st.integers(0, 6), st.sampled_from(["on", "off"]), st.just(0))


@st.composite
def blocks(draw):
    """Blocks of several boots and streams; each with its own time of receipt."""
    made = []
    for n in range(draw(st.integers(1, 8))):
        batches = []
        for kind, element in ((Kind.FLOAT, sample), (Kind.STRING, words)):
            rows = sorted(draw(st.lists(element, max_size=6)), key=lambda row: row[0])
            if rows:
                s, t, v, q = zip(*rows, strict=True)
                batches.append(Batch.of(kind, s, v, q, [x * FUTURE_NS // 4 for x in t]))
        boot = draw(st.integers(0, 2))
        origin = Origin(1 + boot % 2, bytes([boot]) * 16, draw(st.integers(0, 1)), 100 * n,
                        draw(st.integers(0, 3)) * FUTURE_NS // 4, n)  # fmt: skip
        made.append((batches, origin))
    return made


def take(state, block) -> None:
    batches, origin = block
    for signal, one in newest(batches, DEPTH, origin):
        name = CATALOGUE.signals[signal].name
        fold(state, name, one, depth_of(name))


@settings(max_examples=150, deadline=None)
@given(blocks(), st.randoms(use_true_random=False))
def test_any_order_and_repetition_of_blocks_gives_the_same_bytes(made, random):
    forward, shuffled = {}, {}
    for block in made:
        take(forward, block)
    again = made + random.choices(made, k=len(made))
    random.shuffle(again)
    for block in again:
        take(shuffled, block)
    assert pack(shuffled) == pack(forward)
    assert state_hash(shuffled) == state_hash(forward)
    assert unpack(pack(forward)) == forward


@settings(max_examples=150, deadline=None)
@given(blocks())
def test_columns_give_what_a_fold_sample_by_sample_gives(made):
    expected: dict[str, list[Reading]] = {}
    state = {}
    for block in made:
        take(state, block)
        for name, readings in brute(*block).items():
            expected[name] = sorted({*expected.get(name, ()), *readings}, key=ORDER, reverse=True)[: depth_of(name)]
    assert state == expected


def test_hash_does_not_depend_on_when_things_arrived():
    early = reading(1)
    late = early._replace(origin=early.origin._replace(received_ns=99, committed_ns=100))
    assert state_hash({"a": [early]}) == state_hash({"a": [late]})
    assert pack({"a": [early]}) != pack({"a": [late]})
    assert state_hash({"a": [early]}) != state_hash({"a": [reading(2)]})


def test_equal_times_go_to_the_newer_boot_then_to_the_larger_number():
    state = {}
    assert fold(state, "a", reading(5, seq=9, counter=1), 1)
    assert fold(state, "a", reading(5, seq=1, counter=2), 1)
    assert fold(state, "a", reading(5, seq=2, counter=2), 1)
    assert not fold(state, "a", reading(5, seq=2, counter=2), 1)
    assert not fold(state, "a", reading(4, seq=99, counter=9), 1)
    assert state["a"] == [reading(5, seq=2, counter=2)]


def test_pair_is_the_newest_tick_that_has_both():
    state = {"p/x#estimate": [reading(3, value=30.0), reading(2, value=20.0)], "p/x#sigma": [reading(2, value=0.2)]}
    assert [r.value for r in paired(state, "p/x")] == [20.0, 0.2]
    state["p/x#sigma"] = [reading(1)]
    assert paired(state, "p/x") is None
    assert paired({}, "p/x") is None


def test_drift_is_told_from_the_newest_score_alone():
    assert drifts({"p/x#drift": [reading(1, value=1.0)]}, ["p/x"])
    assert not drifts({"p/x#drift": [reading(1, value=0.99)]}, ["p/x"])
    assert not drifts({"p/x#drift": [reading(1, value=float("nan"))]}, ["p/x", "p/y"])


def test_signals_of_a_twin_are_its_measurements_and_its_models_words():
    assert signals_of(CATALOGUE) == {"pump": (0, 1, 2, 3, 4)}
