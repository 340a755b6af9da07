"""Pages of every sample: each decodes what it shows, whatever there is besides, and a walk has each sample once."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.contract.plant import KEY
from tests.contract.test_hours import LATER, START, S, compact_all, counted, merge_all, odd_blocks, ready
from twincloud.storage import audit, audit_window
from twinsync import block

BLOCKS = 30


@pytest.fixture
def decoded(monkeypatch):
    """What was decoded so far: blocks, and rows of hours."""
    found = Counter()
    real = audit.run_of

    def counting(*args):
        found["rows"] += 1
        return real(*args)

    monkeypatch.setattr(audit, "run_of", counting)
    return found


@pytest.fixture
def store(place, decoded):
    def decode(payload, catalogue):
        decoded["blocks"] += 1
        return block.decode(payload, catalogue)

    return place.open(decode=decode)


def walk(store, decoded, limit):
    """Pages: samples, blocks and rows decoded for each."""
    pages, after, more = [], 0, True
    while more:
        decoded.clear()
        page = store.samples(KEY, after=after, limit=limit)
        pages.append((sum(len(batch) for _, batch in page.items), decoded["blocks"], decoded["rows"]))
        more = page.next_token
        after = int(more or 0)
    return pages


def test_page_decodes_the_blocks_it_shows_and_no_other(store, decoded):
    edge = ready(store)
    edge.send(store, [edge.tick(START + n * S) for n in range(BLOCKS)])
    (size,) = {samples for samples, _, _ in walk(store, decoded, 1)}
    assert walk(store, decoded, 1) == [(size, 1, 0)] * BLOCKS
    assert walk(store, decoded, 3 * size) == [(3 * size, 3, 0)] * (BLOCKS // 3)
    assert walk(store, decoded, 3 * size - 1) == [(3 * size, 3, 0)] * (BLOCKS // 3)


def test_audit_of_compacted_history_decodes_each_row_once_however_small_its_pages(store, decoded):
    edge = ready(store)
    edge.send(store, [*odd_blocks(edge), *(edge.tick(START + n * S) for n in range(BLOCKS))])
    compact_all(store)
    edge.send(store, [edge.tick(START + 3_600 * S)])
    (_, _, rows), *others, last = walk(store, decoded, 1)
    assert rows > 10
    assert len(others) == 9 + BLOCKS - 1
    assert {(blocks, more) for _, blocks, more in others} == {(0, 0)}
    assert last[1:] == (1, 0)
    assert store._audited.weight < 2_000, "what an audit has read to its end is let go"


@pytest.mark.parametrize("samples", [1, 40, 150])
def test_windows_smaller_than_the_parts_of_an_hour_change_no_page(store, decoded, monkeypatch, samples):
    edge = ready(store)
    edge.send(store, odd_blocks(edge))
    compact_all(store, samples_max=60)
    edge.send(store, [edge.tick(START + n * S) for n in range(5)])
    whole = counted(store)
    pages = [one[:2] for one in walk(store, decoded, 7)]
    monkeypatch.setattr(audit_window, "WINDOW_SAMPLES", samples)
    assert counted(store) == whole
    assert [one[:2] for one in walk(store, decoded, 7)] == pages


def test_blocks_that_move_and_hours_that_merge_between_two_pages_are_shown_once_and_in_order(store):
    edge = ready(store)
    edge.send(store, [*odd_blocks(edge), *(edge.tick(START + n * 400 * S) for n in range(9))])
    whole = [(name, batch.t_ns.tolist()) for name, batch in store.samples(KEY, limit=10**6).items]
    found, after, steps = [], 0, 0
    changes = [lambda: store.compact(LATER, samples_max=60), lambda: store.merge(LATER)]
    while True:
        page = store.samples(KEY, after=after, limit=20)
        found += [(name, batch.t_ns.tolist()) for name, batch in page.items]
        if not page.next_token:
            break
        after = int(page.next_token)
        changes[steps % 2]()
        steps += 1
    assert found == whole
    merge_all(store)
    assert [(name, batch.t_ns.tolist()) for name, batch in store.samples(KEY, limit=10**6).items] == whole
