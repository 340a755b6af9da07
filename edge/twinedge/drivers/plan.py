"""The fewest block reads that cover a device's points; pure arithmetic over spans."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from twinmodel.profile.address import Table


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
    """One request: `count` registers from `start`, and the points it answers."""

    table: Table
    start: int
    count: int
    spans: tuple[Span, ...]


def plan_reads(spans: Iterable[Span], *, max_read: int, bridge: int = 0) -> list[Read]:
    """Joins spans into block reads.

    A read never takes a part of a span, never exceeds `max_read` registers (16 times as many bits) and crosses at
    most `bridge` registers that no point uses. Taking spans in ascending order and joining while both hold gives
    the fewest reads when spans do not overlap in part: a read must begin at or before the first span not yet
    covered, and beginning exactly there leaves most room to its right.
    """
    reads: list[Read] = []
    table: Table | None = None
    start = end = 0
    joined: list[Span] = []
    for span in sorted(spans, key=lambda s: (s.table, s.start, s.end)):
        limit = max_read * 16 if span.table in {"coil", "discrete"} else max_read
        fits = span.table == table and span.start <= end + bridge and max(end, span.end) - start <= limit
        if joined and fits:
            joined.append(span)
            end = max(end, span.end)
            continue
        if joined and table is not None:
            reads.append(Read(table, start, end - start, tuple(joined)))
        table, start, end, joined = span.table, span.start, span.end, [span]
    if joined and table is not None:
        reads.append(Read(table, start, end - start, tuple(joined)))
    return reads
