"""Samples of a few signals picked out of a block are those of the whole block, bit by bit."""

import contextlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.sync.samples import CATALOGUE, MIXED, WHOLE, batches, bits, steady
from twinmodel.errors import InputError
from twinmodel.signal import DTYPES, Batch, Kind
from twinsync import block
from twinsync.pick import Picked, pick

OLD = bytes.fromhex((Path(__file__).parents[1] / "golden/block_v1.hex").read_text())


def expected(payload, catalogue, signals):
    found, before = {}, 0
    for batch in block.decode(payload, catalogue):
        for signal in set(signals):
            at = np.flatnonzero(batch.signal == signal)
            if len(at):
                found[signal] = signal, before + int(at[0]), bits(batch.take(at))
        before += len(batch)
    return [found[signal] for signal in dict.fromkeys(signals) if signal in found]


def check(payload, catalogue, signals):
    picked = pick(payload, catalogue, signals)
    assert [(one.signal, one.first, bits(one.batch)) for one in picked] == expected(payload, catalogue, signals)
    for _, _, batch in picked:
        assert batch.value.dtype == DTYPES[batch.kind]
        assert (batch.signal.dtype, batch.quality.dtype, batch.t_ns.dtype) == (np.uint32, np.uint16, np.int64)


@given(batches(), st.sampled_from([CATALOGUE, WHOLE]), st.lists(st.sampled_from([0, 1, 2, 3, 4, 5, 7]), max_size=5))
def test_picked_samples_have_the_bits_of_the_whole_block(given_batches, catalogue, signals):
    check(block.encode(given_batches, catalogue).payload, catalogue, signals)


@given(st.integers(0, 2**32), st.lists(st.sampled_from([0, 1, 3, 5, 6, 7]), min_size=1, max_size=3))
@settings(max_examples=60)
def test_picked_samples_of_long_and_uneven_runs_have_their_bits(seed, signals):
    # Late polls, gaps and odd values, so that every form of times and values occurs.
    rng = np.random.default_rng(seed)
    made = steady(int(rng.integers(1, 9)), (0, 1, 7)[: int(rng.integers(1, 4))], seed=seed)
    made.t_ns[rng.integers(0, len(made), 3)] += rng.integers(0, 2**40, 3)
    made.value[rng.integers(0, len(made), 2)] = rng.choice([np.nan, -0.0, 1e300, 12.3456789], 2)
    made.quality[rng.integers(0, len(made), 2)] = 512
    kept = made.take(np.flatnonzero(rng.random(len(made)) < rng.choice([0.5, 0.98, 2.0])))
    rest = [
        Batch.of(Kind.INT, [3] * 40, np.cumsum(rng.integers(-400, 400, 40)).tolist(), [0] * 40, range(40)),
        Batch.of(Kind.STRING, [6, 6], ["run", "stop"], [0, 3], [1, 2]),
    ]
    check(block.encode([kept, *rest], CATALOGUE).payload, CATALOGUE, signals)


def test_every_odd_value_is_picked_also_out_of_blocks_of_the_first_version():
    for payload in (block.encode(MIXED, CATALOGUE).payload, OLD):
        for signal in range(len(CATALOGUE)):
            check(payload, CATALOGUE, [signal])
        check(payload, CATALOGUE, [7, 6, 99, -1, 0, 7])


@given(st.integers(0, 2**32))
@settings(max_examples=200)
def test_damaged_blocks_are_refused_or_give_samples_of_the_catalogue(seed):
    rng = np.random.default_rng(seed)
    damaged = bytearray(block.encode(MIXED if seed % 2 else [steady(2)], CATALOGUE).payload)
    for _ in range(int(rng.integers(1, 4))):
        damaged[rng.integers(0, len(damaged))] ^= 1 << int(rng.integers(0, 8))
    picked = []
    with contextlib.suppress(InputError):  # nothing else may come out of it
        picked = pick(bytes(damaged[: len(damaged) - int(rng.integers(0, 3))]), CATALOGUE, [0, 3, 5, 7])
    assert all(isinstance(one, Picked) and len(one.batch) for one in picked)


def test_block_of_another_catalogue_is_refused():
    with pytest.raises(InputError, match="BLOCK_CORRUPT"):
        pick(block.encode(MIXED, CATALOGUE).payload, WHOLE, [0])
