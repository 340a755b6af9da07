"""The one judge of all layers: what a history must not show.

L  no promised sample is lost              D  none is stored twice
O  every lane is stored in its order       G  every hole is covered by exactly one record, the ledgers sum to it
S  state is the fold of history            T  drained in time after healing; queues within their bounds
"""

from __future__ import annotations

import bisect
import itertools
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tests.campaign.history import Held, History, Interval, Lane, Promise, Sample, Samples

RECORD_STREAM = 1


@dataclass(frozen=True, slots=True)
class Violation:
    """A broken invariant, by its letter."""

    invariant: str
    detail: str

    def __str__(self) -> str:
        return f"{self.invariant}: {self.detail}"


def check(history: History) -> list[Violation]:
    """All violations of a run; none is what everybody wants."""
    found: list[Violation] = []
    promises: dict[Lane, list[Promise]] = defaultdict(list)
    for promise in history.promised:
        promises[promise.lane].append(promise)
    for lane, several in promises.items():
        several.sort(key=lambda one: one.first_seq)
        for one, other in itertools.pairwise(several):
            if other.first_seq <= one.last_seq:
                found.append(Violation("L", f"number {other.first_seq} of {_name(lane)} was given twice"))
    for gateway, items in history.held.items():
        found += _check_items(gateway, items, promises, history)
    found += _check_lost(history, promises)
    found += _check_intervals(history)
    found += [
        Violation("S", f"{name}: the store says {a[:8]}, history {b[:8]}") for name, a, b in history.states if a != b
    ]
    found += [Violation("T", f"{name}: {count} items wait") for name, count in history.waiting.items() if count]
    found += [
        Violation("B", f"{name}: {peak}, at most {most}") for name, (peak, most) in history.peaks.items() if peak > most
    ]
    found += [Violation("F", text) for text in history.failures]
    return found


def _check_items(
    gateway: str, items: list[Held], promises: dict[Lane, list[Promise]], history: History
) -> Iterator[Violation]:
    """Order, holes, duplicates, values and sums of what is held of one gateway."""
    following: dict[Lane, int] = {}
    lost: Counter[Lane] = Counter()
    for item in items:
        expected = following.get(item.lane, 0)
        where = f"{gateway} {_name(item.lane)} [{item.first_seq}, {item.last_seq}] {item.kind}"
        if item.first_seq < expected:
            yield Violation("D", f"{where}: numbers below {expected} are stored already")
        elif any((item.lane, number) not in history.recorded for number in range(expected, item.first_seq)):
            yield Violation("G", f"{where}: nothing covers [{expected}, {item.first_seq - 1}]")
        following[item.lane] = max(expected, item.last_seq + 1)
        lost[item.lane] += item.lost
        yield from _check_values(where, item, promises.get(item.lane, []))
        if item.kind == "letter" and (*item.lane, item.first_seq) not in history.poisoned:
            yield Violation("P", f"{where}: a dead letter of a sound item, {item.reason}")
    twice = _twice(Samples.joined(item.samples for item in items))
    if twice:
        yield Violation("D", f"{gateway}: {len(twice)} samples are stored twice, {twice[:3]}")
    told = history.losses.get(gateway, Counter())
    for lane in told.keys() | lost.keys():
        if told[lane] != lost[lane]:
            yield Violation("G", f"{gateway} {_name(lane)}: the ledger says {told[lane]} are lost, {lost[lane]} are")


def _twice(samples: Samples) -> list[Sample]:
    """Samples that are here more than once; values are unique in a run."""
    if len(np.unique(samples.value)) == len(samples):
        return []
    return [sample for sample, count in Counter(samples).items() if count > 1]


def _check_values(where: str, item: Held, promises: list[Promise]) -> Iterator[Violation]:
    if item.kind != "block":
        return
    count = item.last_seq - item.first_seq + 1
    if len(item.samples) + item.lost != count:
        yield Violation("G", f"{where}: {len(item.samples)} samples and {item.lost} declared make no {count}")
    given = _given(item, promises)
    if not len(given):
        return  # promised to nobody: a process died between its commit and its answer
    right = item.samples.same(given) if len(item.samples) == count else _taken_from(given, item.samples)
    if not right:
        yield Violation("L", f"{where}: values under wrong numbers")


def _given(item: Held, promises: list[Promise]) -> Samples:
    """What was promised under the numbers of an item."""
    place = max(bisect.bisect_right(promises, item.first_seq, key=lambda one: one.first_seq) - 1, 0)
    parts = []
    for promise in itertools.islice(promises, place, None):
        if promise.first_seq > item.last_seq:
            break
        begin = max(item.first_seq - promise.first_seq, 0)
        parts.append(promise.samples[begin : max(item.last_seq + 1 - promise.first_seq, 0)])
    return Samples.joined(parts)


def _taken_from(given: Samples, kept: Samples) -> bool:
    """Whether some of the given were kept, in their order."""
    order = np.argsort(given.value)
    places = order[np.minimum(np.searchsorted(given.value, kept.value, sorter=order), len(given) - 1)]
    return bool((np.diff(places) > 0).all()) and given[places].same(kept)


def _check_lost(history: History, promises: dict[Lane, list[Promise]]) -> Iterator[Violation]:
    covered: dict[Lane, list[tuple[int, int]]] = defaultdict(list)
    declared = 0
    for items in history.held.values():
        for item in items:
            covered[item.lane].append((item.first_seq, item.last_seq))
            declared += item.lost
    starts = _starts(history)
    for lane, several in promises.items():
        wanted = [(one.first_seq, min(one.last_seq, starts.get(lane, 1 << 62) - 1)) for one in several]
        missing = list(_beyond(wanted, sorted(covered[lane])))
        if missing:
            yield Violation("L", f"{_name(lane)}: lost and not declared {missing[:4]}")
    if history.dropped is not None and declared > history.dropped:
        yield Violation("G", f"{declared} samples are declared lost, ledgers of gateways know {history.dropped}")


def _check_intervals(history: History) -> Iterator[Violation]:
    """A device that served nothing is in the ledger, once, and as long as it was away."""
    starts = _starts(history)
    gaps = [item for items in history.held.values() for item in items if item.kind == "gap"]
    told: dict[str, Interval] = {}
    for record in history.intervals:
        lost = any(g.lane == record.lane and g.first_seq <= record.seq <= g.last_seq for g in gaps)
        if not lost and record.seq < starts.get(record.lane, 1 << 62):
            told[record.device] = record
    for device, record in told.items():
        ends = [end for ledger in history.ledgers.values() for end in ledger.get(device, ())]
        # An end that was told and never known to be, or went down with its disk, may have been sent before.
        later = {end for end in history.tried.get(device, ()) if end} if not record.to_ns else set()
        if not {record.to_ns, *later} & set(ends):
            yield Violation("G", f"{device} was not acquired until {record.to_ns}, the ledgers say {ends}")
    for gateway, ledger in history.ledgers.items():
        for device, ends in ledger.items():
            if len(ends) > 1:
                yield Violation("D", f"{gateway}: {len(ends)} lines for one time without {device}")


def _starts(history: History) -> dict[Lane, int]:
    """First numbers, by lane, that went down with a disk."""
    starts: dict[Lane, int] = {}
    for excuse in history.excused:
        start = excuse.from_seq if excuse.restored_after else max(excuse.from_seq, excuse.committed_seq)
        starts[excuse.lane] = min(start, starts.get(excuse.lane, start))
    return starts


def _beyond(wanted: list[tuple[int, int]], covered: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """The parts of the wanted ranges that no covered one has; both are sorted, `wanted` without overlaps."""
    place = 0
    for start, end in wanted:
        first = start
        # Held ranges of several gateways may overlap: one that ends early may stand behind one that ends late.
        while first <= end and place < len(covered) and covered[place][0] <= end:
            if covered[place][0] > first:
                yield first, covered[place][0] - 1
            first = max(first, covered[place][1] + 1)
            if covered[place][1] > end:
                break
            place += 1
        if first <= end:
            yield first, end


def _name(lane: Lane) -> str:
    return f"{lane[0].hex()[:6]}/{lane[1]}"


__all__ = ["Promise", "Violation", "check"]
