"""The fold: newest per signal, the same for any order, repetition and delay."""

from __future__ import annotations

from operator import attrgetter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from twincloud.twins.latest import ORIGINS_MAX, Fresh, Latest, not_overtaken
from twincloud.twins.state import (
    FUTURE_NS,
    Origin,
    Reading,
    depth_of,
    drifts,
    fold,
    paired,
    signals_of,
    state_hash,
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


def take(latest: Latest, block) -> None:
    batches, origin = block
    latest.fold(batches, latest.slots_of(1, [s.name for s in CATALOGUE.signals]), DEPTH, origin)


@given(blocks(), st.randoms(use_true_random=False))
def test_any_order_and_repetition_of_blocks_gives_the_same_bytes(made, random):
    forward, shuffled = Latest(), Latest()
    for block in made:
        take(forward, block)
    again = made + random.choices(made, k=len(made))
    random.shuffle(again)
    for block in again:
        take(shuffled, block)
    assert shuffled.state() == forward.state()
    assert state_hash(shuffled) == state_hash(forward)
    again = Latest.unpack(forward.pack(), 7)
    assert (again.state(), again.through) == (forward.state(), 7)


@given(blocks())
def test_columns_give_what_a_fold_sample_by_sample_gives(made):
    expected: dict[str, list[Reading]] = {}
    state = Latest()
    for block in made:
        take(state, block)
        for name, readings in brute(*block).items():
            expected[name] = sorted({*expected.get(name, ()), *readings}, key=ORDER, reverse=True)[: depth_of(name)]
    assert state.state() == expected


SHARED = np.array([0, 1, 1, 2, 3], np.uint32), np.array([0, 2], np.uint32)


@st.composite
def alike(draw):
    """Blocks of two layouts, as the decoder gives them: equal signals are the same array."""
    made = []
    for n in range(draw(st.integers(1, 10))):
        signal = SHARED[draw(st.integers(0, 1))]
        start = draw(st.integers(0, 12))
        steps = draw(st.lists(st.integers(0, 3), min_size=len(signal), max_size=len(signal)))
        t_ns = (start + np.array(steps)) * (FUTURE_NS // 4)
        batch = Batch(Kind.FLOAT, signal, np.full(len(signal), float(n)), np.zeros(len(signal), np.uint16), t_ns)
        origin = Origin(1, b"b" * 16, 1, 100 * n, 2 * FUTURE_NS, n)
        made.append(Fresh(1, [batch], origin, int(t_ns.min()), int(t_ns.max())))
    return made


@given(alike(), alike())
def test_passing_over_overtaken_blocks_changes_neither_state_nor_what_changed(before, made):
    every, some = Latest(), Latest()
    for fresh in before:
        take(every, (fresh.batches, fresh.origin))
        take(some, (fresh.batches, fresh.origin))
    slots = every.slots_of(1, [s.name for s in CATALOGUE.signals])
    changed = [every.fold(f.batches, slots, DEPTH, f.origin).tolist() for f in made]
    left = not_overtaken(made)
    changed_by_some = [some.fold(f.batches, slots, DEPTH, f.origin).tolist() for f in left]
    assert some.state() == every.state()
    assert set().union(*changed_by_some) == set().union(*changed)


def test_of_blocks_that_follow_each_other_the_last_two_are_left():
    def fresh(second: int) -> Fresh:
        t_ns = np.full(2, second * 10**9)
        batch = Batch(Kind.FLOAT, SHARED[1], np.zeros(2), np.zeros(2, np.uint16), t_ns)
        return Fresh(1, [batch], Origin(1, b"b" * 16, 1, second, 10**12, 1), second * 10**9, second * 10**9)

    made = [fresh(second) for second in range(8)]
    assert not_overtaken(made) == made[-2:]
    late = [*made[4:], *made[:4]]
    assert not_overtaken(late)[-1].origin.first_seq == 3
    assert {f.origin.first_seq for f in not_overtaken(late)} >= {6, 7}


def test_hash_does_not_depend_on_when_things_arrived():
    early = reading(1)
    late = early._replace(origin=early.origin._replace(received_ns=99, committed_ns=100))
    assert state_hash({"a": [early]}) == state_hash({"a": [late]})
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


def test_draft_leaves_the_one_it_was_made_of_alone():
    shared = Latest()
    take(shared, ([Batch.of(Kind.FLOAT, [0, 1], [1.0, 2.0], [0, 0], [1, 1])], reading(0).origin))
    before = shared.state()
    draft = shared.draft()
    take(draft, ([Batch.of(Kind.FLOAT, [0, 1], [5.0, 6.0], [0, 0], [2, 2])], reading(0).origin))
    assert shared.state() == before
    assert draft["plc.flow"][0].value == 5.0
    assert [r.value for r in draft["pump/flow#estimate"]] == [6.0, 2.0]


def test_signal_that_comes_with_a_later_catalogue_finds_its_own_place():
    latest = Latest()
    take(latest, ([Batch.of(Kind.FLOAT, [1], [2.0], [0], [1])], reading(0).origin))
    names = ["plc.new", *(s.name for s in CATALOGUE.signals)]
    slots = latest.slots_of(2, names)
    depth = np.array([1, *DEPTH], np.uint8)
    latest.fold([Batch.of(Kind.INT, [0], [7], [0], [3])], slots, depth, reading(0).origin)
    assert latest["plc.new"][0].value == 7
    assert latest["pump/flow#estimate"][0].value == 2.0


def test_origins_that_no_reading_refers_to_are_let_go():
    latest = Latest()
    for n in range(3 * ORIGINS_MAX):
        origin = reading(0).origin._replace(first_seq=n, received_ns=n)
        take(latest, ([Batch.of(Kind.FLOAT, [n % 2], [float(n)], [0], [n])], origin))
    assert len(latest.origins) <= ORIGINS_MAX
    assert latest["plc.flow"][0].origin.first_seq == 3 * ORIGINS_MAX - 2


def test_text_that_is_no_unicode_keeps_nobody_from_saving_or_comparing():
    latest = Latest()
    batch = Batch.of(Kind.STRING, [4], ["\ud83d"], [0], [7])
    take_names = latest.slots_of(1, tuple(s.name for s in CATALOGUE.signals))
    latest.fold([batch], take_names, DEPTH, Origin(1, b"b" * 16, 1, 0, 5, 6))
    assert Latest.unpack(latest.pack(), 3)["plc.state"][0].value == "\ud83d"
    assert state_hash(latest.state()) != state_hash({})
