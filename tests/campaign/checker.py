"""The one judge of all layers: what a history must not show.

L  no promised sample is lost              D  none is stored twice
O  every lane is stored in its order       G  every hole is covered by exactly one record, the ledgers sum to it
S  state is the fold of history            T  drained in time after healing; queues within their bounds
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from tests.campaign.history import Held, History, Lane, Promise, Sample, ranges

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
    promises: dict[Lane, dict[int, Sample]] = defaultdict(dict)
    for promise in history.promised:
        numbers = promises[promise.lane]
        for number, sample in enumerate(promise.samples, promise.first_seq):
            if number in numbers:
                found.append(Violation("L", f"number {number} of {_name(promise.lane)} was given twice"))
            numbers[number] = sample
    for gateway, items in history.held.items():
        found += _check_items(gateway, items, promises, history)
    found += _check_lost(history, promises)
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
    gateway: str, items: list[Held], promises: dict[Lane, dict[int, Sample]], history: History
) -> Iterator[Violation]:
    """Order, holes, duplicates, values and sums of what is held of one gateway."""
    following: dict[Lane, int] = {}
    seen: Counter[Sample] = Counter()
    lost: Counter[Lane] = Counter()
    for item in items:
        expected = following.get(item.lane, 0)
        where = f"{gateway} {_name(item.lane)} [{item.first_seq}, {item.last_seq}] {item.kind}"
        if item.first_seq < expected:
            yield Violation("D", f"{where}: numbers below {expected} are stored already")
        elif item.first_seq > expected:
            yield Violation("G", f"{where}: nothing covers [{expected}, {item.first_seq - 1}]")
        following[item.lane] = max(expected, item.last_seq + 1)
        lost[item.lane] += item.lost
        seen.update(item.samples)
        yield from _check_values(where, item, promises.get(item.lane, {}))
        if item.kind == "letter" and (*item.lane, item.first_seq) not in history.poisoned:
            yield Violation("P", f"{where}: a dead letter of a sound item, {item.reason}")
    twice = [sample for sample, count in seen.items() if count > 1]
    if twice:
        yield Violation("D", f"{gateway}: {len(twice)} samples are stored twice, {twice[:3]}")
    told = history.losses.get(gateway, Counter())
    for lane in told.keys() | lost.keys():
        if told[lane] != lost[lane]:
            yield Violation("G", f"{gateway} {_name(lane)}: the ledger says {told[lane]} are lost, {lost[lane]} are")


def _check_values(where: str, item: Held, numbers: dict[int, Sample]) -> Iterator[Violation]:
    if item.kind != "block":
        return
    count = item.last_seq - item.first_seq + 1
    if len(item.samples) + item.lost != count:
        yield Violation("G", f"{where}: {len(item.samples)} samples and {item.lost} declared make no {count}")
    given = [numbers[n] for n in range(item.first_seq, item.last_seq + 1) if n in numbers]
    if not given:
        return  # promised to nobody: a process died between its commit and its answer
    if len(item.samples) == count:
        right = list(item.samples) == given
    else:
        rest = iter(given)
        right = all(sample in rest for sample in item.samples)
    if not right:
        yield Violation("L", f"{where}: values under wrong numbers")


def _check_lost(history: History, promises: dict[Lane, dict[int, Sample]]) -> Iterator[Violation]:
    covered: dict[Lane, set[int]] = defaultdict(set)
    declared = 0
    for items in history.held.values():
        for item in items:
            covered[item.lane].update(range(item.first_seq, item.last_seq + 1))
            declared += item.lost
    excuses = defaultdict(list)
    for excuse in history.excused:
        excuses[excuse.lane].append(excuse)
    for lane, numbers in promises.items():
        missing = numbers.keys() - covered[lane]
        for excuse in excuses[lane]:
            start = excuse.from_seq if excuse.restored_after else max(excuse.from_seq, excuse.committed_seq)
            missing = {n for n in missing if n < start}
        if missing:
            yield Violation("L", f"{_name(lane)}: lost and not declared {ranges(missing)}")
    if history.dropped is not None and declared > history.dropped:
        yield Violation("G", f"{declared} samples are declared lost, ledgers of gateways know {history.dropped}")


def _name(lane: Lane) -> str:
    return f"{lane[0].hex()[:6]}/{lane[1]}"


__all__ = ["Promise", "Violation", "check"]
