"""A fleet's aggregate: the same whatever happened on the way, and honest about what its members share."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twincloud.twins.aggregate import Grade, Readings, Standing

SIZE = 6
NAN = math.nan
NUMBERS = st.floats(-1e12, 1e12) | st.just(NAN) | st.just(-0.0) | st.just(5e-324)


def readings(rows) -> Readings:
    value, sigma, innovation, t_ns, grade, model = zip(*rows, strict=True)
    return Readings(
        np.array(value, float), np.array(sigma, float), np.array(innovation, float), np.array(t_ns, np.int64),
        np.array(grade, np.uint8), np.array(model, np.int32),
    )  # fmt: skip


def good(value, sigma=NAN, innovation=NAN, *, t_ns=10, grade=Grade.GOOD, model=0):
    return (value, sigma, innovation, t_ns, grade, model)


ROW = st.tuples(
    NUMBERS, st.floats(0, 1e6) | st.just(NAN), NUMBERS, st.integers(0, 20),
    st.sampled_from(list(Grade)), st.integers(-1, 2),
)  # fmt: skip
ACTIONS = st.one_of(
    st.tuples(st.just("put"), st.dictionaries(st.integers(0, SIZE - 1), ROW, min_size=1)),
    st.tuples(st.just("put_all"), st.lists(ROW, min_size=SIZE, max_size=SIZE)),
    st.tuples(st.just("drop"), st.sets(st.integers(0, SIZE - 1), min_size=1)),
    st.tuples(st.just("settle"), st.integers(0, 21)),
)


@given(st.lists(ACTIONS, max_size=20))
def test_any_run_of_updates_removals_and_ageing_gives_what_a_new_count_gives(actions):
    standing, cutoff_ns = Standing(SIZE), 0
    standing.settle(0)
    for action, what in actions:
        if action == "put":
            standing.put(np.array(list(what)), readings(what.values()))
        elif action == "put_all":
            standing.put_all(readings(what))
        elif action == "drop":
            standing.drop(np.array(sorted(what)))
        else:
            cutoff_ns = what
            standing.settle(cutoff_ns)
    fresh = Standing(SIZE)
    fresh.settle(cutoff_ns)
    fresh.put_all(standing.readings)
    # Bit for bit: all of it is equal, floats too.
    assert repr(standing.read(["a", "b", "c"])) == repr(fresh.read(["a", "b", "c"]))


@given(st.permutations([(n, good(0.1 * n, 0.3 * n, t_ns=n, model=n % 2)) for n in range(SIZE)]))
def test_the_order_of_updates_does_not_matter(order):
    standing, straight = Standing(SIZE), Standing(SIZE)
    for place, row in order:
        standing.put(np.array([place]), readings([row]))
        standing.put(np.array([place]), readings([row]))
    straight.put_all(readings([good(0.1 * n, 0.3 * n, t_ns=n, model=n % 2) for n in range(SIZE)]))
    assert standing.read() == straight.read()


def test_only_good_and_fresh_values_count():
    standing = Standing(SIZE)
    rows = [good(1.0), good(2.0, t_ns=5), good(4.0, grade=Grade.BAD), good(8.0, grade=Grade.UNCERTAIN), good(NAN)]
    standing.put_all(readings([*rows, good(32.0)]))
    standing.settle(6)
    found = standing.read()
    assert (found.count, found.total, found.mean, found.minimum, found.maximum) == (2, 33.0, 16.5, 1.0, 32.0)
    assert dict(found.quantiles)[0.5] == 16.5
    standing.settle(5)
    assert standing.read().count == 3


def test_an_unchanged_member_costs_nothing():
    standing = Standing(SIZE)
    rows = [good(float(n)) for n in range(SIZE)]
    assert standing.put_all(readings(rows)) == SIZE
    rows[2] = good(7.0)
    assert standing.put_all(readings(rows)) == 1


def test_without_knowledge_of_what_is_shared_nothing_averages_out():
    standing = Standing(4)
    standing.put_all(readings([good(1.0, 0.2)] * 4))
    found = standing.read(["pump@1"])
    assert found.sigma == pytest.approx(0.2)
    assert found.sigma_independent == 0.0
    assert [(c.model, c.source, c.sigma) for c in found.common] == [("pump@1", "rule", pytest.approx(0.2))]


def test_twins_of_two_versions_share_no_error():
    standing = Standing(2)
    standing.put_all(readings([good(1.0, 0.2, model=0), good(1.0, 0.2, model=1)]))
    assert standing.read(["a", "b"]).sigma == pytest.approx(0.2 / math.sqrt(2))


def test_innovations_that_lie_about_zero_let_errors_average_out():
    rng = np.random.default_rng(3)
    n = 10_000
    standing, biased = Standing(n), Standing(n)
    noise = rng.normal(0, 0.1, n)
    standing.put_all(readings([good(1.0, 0.1, v) for v in noise]))
    biased.put_all(readings([good(1.0, 0.1, v + 0.5) for v in noise]))
    assert standing.read().common[0].source == "innovation"
    assert standing.read().sigma < 0.003
    assert biased.read().sigma == pytest.approx(0.5, rel=0.02)


def test_what_the_maker_says_comes_first():
    standing = Standing(4)
    standing.put_all(readings([good(1.0, 0.2)] * 4))
    found = standing.read(["pump@1"], {"pump@1": 0.3})
    assert found.sigma_common == pytest.approx(0.3)
    assert found.sigma_independent == pytest.approx(0.1)
    assert found.sigma == pytest.approx(math.hypot(0.1, 0.3))


def test_a_member_without_sigma_leaves_the_aggregate_without_one():
    standing = Standing(2)
    standing.put_all(readings([good(1.0, 0.2), good(1.0)]))
    found = standing.read()
    assert (found.sigma, found.sigma_common, found.without_sigma, found.common) == (None, None, 1, ())


def test_nobody_counting_gives_no_number():
    found = Standing(3).read()
    assert (found.count, found.mean, found.total, found.quantiles) == (0, None, None, ())
