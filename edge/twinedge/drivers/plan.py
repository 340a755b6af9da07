"""The fewest block reads that cover a device's points, and what its refusals teach about them; no I/O.

    cycle() ─▶ Read ─▶ (the device) ─▶ Outcome ─▶ cycle ...

A refused read is split until its parts are answered. When both halves are answered, either the place between them
may not be crossed or the whole was too long; one small read across that place tells which. Both are remembered, so
that a device is asked in few reads after a few cycles and no refused read is tried again.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from twinmodel.clock import SECOND_NS
from twinmodel.profile.address import Table

REFUSALS_MAX = 200
"""Refusals that one cycle follows up; the rest is left for the next ones."""
RARELY_NS = 60 * SECOND_NS
"""How often a point that is refused alone is asked again."""
BITS_PER_REGISTER = 16


@dataclass(frozen=True, slots=True)
class Span:
    """What one point occupies: `count` registers (or bits of a bit table) from `start`, counted from 0."""

    table: Table
    start: int
    count: int
    point: str

    @property
    def end(self) -> int:
        """First register after it."""
        return self.start + self.count


@dataclass(frozen=True, slots=True)
class Read:
    """One request: `count` registers from `start`, and the points it answers.

    Attributes:
        probe: asked only to learn what the device refuses; its points are read by other requests of the cycle.
    """

    table: Table
    start: int
    count: int
    spans: tuple[Span, ...]
    probe: bool = False

    @staticmethod
    def over(spans: Sequence[Span], *, probe: bool = False) -> Read:
        """The read that covers spans of one table, given in ascending order."""
        start = spans[0].start
        return Read(spans[0].table, start, max(s.end for s in spans) - start, tuple(spans), probe)


class Outcome(Enum):
    """What became of a read.

    Attributes:
        ANSWERED: it has values.
        ILLEGAL: the device refuses the address.
        TOO_LONG: the device refuses the length, or answered with another one.
        FAILED: something else, which says nothing about the plan.
    """

    ANSWERED = 1
    ILLEGAL = 2
    TOO_LONG = 3
    FAILED = 4


Junction = tuple[Table, int, int]
"""Where two neighbours of a read meet: their table, the end of what lies before, the start of the next."""


def plan_reads(
    spans: Iterable[Span], *, max_read: int, bridge: int = 0, max_bits: int | None = None, barred: Barred | None = None
) -> list[Read]:
    """Joins spans into block reads.

    A read never takes a part of a span, never exceeds `max_read` registers (`max_bits` in bit tables, 16 times as
    many by default), crosses at most `bridge` registers that no point uses, and nothing that is `barred`. Taking
    spans in ascending order and joining while all hold gives the fewest reads: a read must begin at or before the
    first span not yet covered, and beginning exactly there leaves most room to its right.
    """
    max_bits = BITS_PER_REGISTER * max_read if max_bits is None else max_bits
    reads: list[Read] = []
    joined: list[Span] = []
    start = end = 0
    for span in sorted(spans, key=lambda s: (s.table, s.start, s.end)):
        limit = max_bits if span.table in {"coil", "discrete"} else max_read
        if (
            joined
            and span.table == joined[0].table
            and span.start <= end + bridge
            and max(end, span.end) - start <= limit
            and (barred is None or span.start < end or barred.lets_pass((span.table, end, span.start)))
        ):
            joined.append(span)
            end = max(end, span.end)
            continue
        if joined:
            reads.append(Read.over(joined))
        start, end, joined = span.start, span.end, [span]
    if joined:
        reads.append(Read.over(joined))
    return reads


class Barred:
    """Places that a read must not cross."""

    def __init__(self) -> None:
        self.junctions: set[Junction] = set()
        self.illegal: dict[Span, None] = {}

    def lets_pass(self, junction: Junction) -> bool:
        """Whether a read may go on there."""
        table, end, start = junction
        if junction in self.junctions:
            return False
        return end == start or not any(s.table == table and s.start < start and s.end > end for s in self.illegal)


@dataclass(slots=True)
class _Length:
    """What is known about the longest read of a kind of table, in registers or bits."""

    most: int
    good: int = 0
    bad: int | None = None

    def answered(self, count: int) -> bool:
        """Takes note of an answered length; True when that may change the plan."""
        if count <= self.good:
            return False
        self.good, limited = count, self.bad is not None
        if self.bad is not None and self.bad <= count:
            self.bad = None  # it was refused for another reason
        return limited

    def refused(self, count: int) -> None:
        if count > self.good:
            self.bad = count if self.bad is None else min(self.bad, count)

    def bounds(self, widest: int) -> tuple[int, int]:
        """The length that is sure, and the most that may be hoped for."""
        if self.bad is None:
            return self.most, self.most
        sure = max(self.good, widest)
        return sure, max(self.bad - 1, sure)


class Planner:
    """The plan of one unit's points of one period, and what was learned about it.

    Args:
        spans: what the points occupy.
        max_read: most registers of one read.
        bridge: most unused registers that a read may cross.
    """

    def __init__(self, spans: Iterable[Span], *, max_read: int, bridge: int = 0) -> None:
        self._spans = sorted(spans, key=lambda s: (s.table, s.start, s.end))
        self._bridge = bridge
        self._registers = _Length(max_read)
        self._bits = _Length(BITS_PER_REGISTER * max_read)
        self._barred = Barred()
        self._good: set[Junction] = set()
        self._refusals = 0
        self._rarely_ns = 0
        self._changed = False
        self._sure: dict[int, Read] = {}
        self.reads = self._plan(self._spans)

    @property
    def refused(self) -> frozenset[str]:
        """Points that are refused when they are asked alone."""
        return frozenset(s.point for s in self._barred.illegal)

    def cycle(self, now_ns: int) -> Generator[Read, Outcome, None]:
        """Yields the reads of one cycle and takes the outcome of each by `send`.

        Args:
            now_ns: boot time; a point that is refused alone is asked again every `RARELY_NS`.
        """
        self._refusals = REFUSALS_MAX
        waiting = list(self.reads)
        while waiting:
            read = waiting.pop(0)
            yield from self._ask(read)
            if self._changed:
                # What was learned holds for the rest of this cycle already.
                self._changed = False
                barred = self._barred.illegal
                waiting = self._plan([s for r in waiting for s in r.spans if s not in barred])
                self.reads = self._plan([s for s in self._spans if s not in barred])
        if self._barred.illegal and now_ns >= self._rarely_ns:
            self._rarely_ns = now_ns + RARELY_NS
            yield from self._ask_again()

    def _ask_again(self) -> Generator[Read, Outcome, None]:
        """Asks what was refused alone; the first refusal ends it, an answer has all of them asked."""
        for span in list(self._barred.illegal):
            del self._barred.illegal[span]
            if (yield Read.over([span])) is not Outcome.ANSWERED:
                self._barred.illegal[span] = None  # the next time begins with another one
                return
            self.reads = self._plan([s for s in self._spans if s not in self._barred.illegal])

    def _ask(self, read: Read) -> Generator[Read, Outcome, bool]:
        """Asks one read, in parts when it is refused; whether it was answered as a whole."""
        outcome = yield read
        if outcome is Outcome.ANSWERED:
            self._answered(read)
            return True
        if outcome is Outcome.FAILED or self._refusals == 0:
            return False
        self._refusals -= 1
        self._sure.clear()
        if len({(s.start, s.end) for s in read.spans}) == 1:
            self._barred.illegal.update(dict.fromkeys(read.spans))
            self._changed = True
            return False
        left, right = self._halves(read, outcome)
        left_whole = yield from self._ask(left)
        right_whole = yield from self._ask(right)
        if left_whole and right_whole:
            yield from self._conclude(read, left, right)
        return False

    def _conclude(self, read: Read, left: Read, right: Read) -> Generator[Read, Outcome, None]:
        """Both halves were answered, the whole was not: was it the place between them, or the length?"""
        end = left.start + left.count
        last = max(left.spans, key=lambda s: (s.end, s.start))
        across = Read.over([last, right.spans[0]], probe=True)
        crossed = Outcome.ANSWERED
        if right.start >= end:
            crossed = Outcome.ILLEGAL if across.count == read.count else (yield across)
        if crossed is Outcome.FAILED:
            return
        if crossed is Outcome.ANSWERED:
            self._length(read).refused(read.count)
        else:
            self._barred.junctions.add((read.table, end, right.start))
            self._good.discard((read.table, end, right.start))
        self._changed = True

    def _answered(self, read: Read) -> None:
        if self._sure.get(id(read)) is read:
            return  # it teaches nothing new, and is most of what a settled plan hears
        if len(self._sure) > len(self.reads):
            self._sure.clear()
        self._sure[id(read)] = read
        if self._length(read).answered(read.count):
            self._changed = True
        end = read.start
        for span in read.spans:
            if span.start >= end > read.start:
                self._good.add((span.table, end, span.start))
            end = max(end, span.end)

    def _halves(self, read: Read, outcome: Outcome) -> tuple[Read, Read]:
        """Parts a refused read at the likeliest place: in the middle of what is not known to be good.

        A refused length is halved; a refused address lies in a gap sooner than between neighbours.
        """
        places, end = [], read.spans[0].end
        for at, span in enumerate(read.spans[1:], start=1):
            if span.start >= end:
                places.append((at, (span.table, end, span.start)))
            end = max(end, span.end)
        if not places:  # spans that overlap each other all the way
            middle = len(read.spans) // 2
            return Read.over(read.spans[:middle]), Read.over(read.spans[middle:])
        if outcome is Outcome.TOO_LONG:
            starts = [start for _, (_, _, start) in places]
            at = min(bisect_left(starts, read.start + (read.count + 1) // 2), len(places) - 1)
            return Read.over(read.spans[: places[at][0]]), Read.over(read.spans[places[at][0] :])
        doubtful = [p for p in places if p[1] not in self._good] or places
        doubtful = [p for p in doubtful if p[1][2] > p[1][1]] or doubtful
        at = doubtful[len(doubtful) // 2][0]
        return Read.over(read.spans[:at]), Read.over(read.spans[at:])

    def _length(self, read: Read) -> _Length:
        return self._bits if read.table in {"coil", "discrete"} else self._registers

    def _plan(self, spans: Sequence[Span]) -> list[Read]:
        """The fewest reads of sure lengths; where longer ones would save some, the middle of what is not known.

        A plan with fewer reads holds one that is longer than what is sure: each cycle learns, until nothing is left
        to be saved.
        """
        bits = [s.count for s in spans if s.table in {"coil", "discrete"}]
        registers = [s.count for s in spans if s.table not in {"coil", "discrete"}]
        sure_registers, most_registers = self._registers.bounds(max(registers, default=1))
        sure_bits, most_bits = self._bits.bounds(max(bits, default=1))

        def planned(share: int, of: int) -> list[Read]:
            return plan_reads(
                spans,
                max_read=sure_registers + (most_registers - sure_registers) * share // of,
                max_bits=sure_bits + (most_bits - sure_bits) * share // of,
                bridge=self._bridge,
                barred=self._barred,
            )

        sure = planned(0, 1)
        of = max(most_registers - sure_registers, most_bits - sure_bits)
        if of == 0 or len(planned(of, of)) == len(sure):
            return sure
        least = bisect_left(range(of), True, key=lambda share: len(planned(share, of)) < len(sure))
        return planned(max(least, of // 2), of)
