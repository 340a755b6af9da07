"""A boot in the spool's file: its row, and the outage between the one before it and its start.

Nothing is numbered before the row is durable. A commit that failed and yet arrived is met again: the boot an agent
starts with is taken over as it stands, one that was to follow in its midst is undone, as nobody was told of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import apsw

from twinedge.spool.catalogues import forget_unused
from twinedge.spool.rows import Lane, boots_of, forget_boots, insert, insert_boot, lanes_of, set_lane
from twinedge.spool.schema import run
from twinmodel.clock import ClockQuality
from twinmodel.signal import Stream
from twinsync.item import Boot, Outage


@dataclass(frozen=True, slots=True)
class Start:
    """A boot that is to be: 128 random bits, the wall clock at its start, and how far that can be trusted."""

    id: bytes
    at_ns: int
    quality: ClockQuality


def put_boot(
    db: apsw.Connection, start: Start, *, outage: bool, since_ns: int | None = None
) -> tuple[Boot, dict[Stream, int]]:
    """Adds a boot in the caller's transaction; returns it and the first number not given yet, by stream.

    Args:
        db: the file.
        start: the boot.
        outage: whether nothing was measured between the boot before and this one: that is declared as its first item.
        since_ns: from when on boots before it may have measured what a damaged file has lost without a trace: the
            outage begins there.
    """
    boots = boots_of(db)
    last = boots[-1] if boots else None
    if last is not None and last.id == start.id:
        return last, {Stream(lane.stream): lane.next_seq for lane in lanes_of(db) if lane.boot == last.counter}
    boot = Boot(start.id, last.id if last else b"", last.counter + 1 if last else 1, start.at_ns, start.quality)
    insert_boot(db, boot)
    numbers: dict[Stream, int] = {}
    if last is not None and outage:
        stored = [lane.at_ns for lane in lanes_of(db) if lane.boot == last.counter]
        from_ns = max([last.started_ns, *stored]) if since_ns is None else since_ns
        missed = Outage(last.id, min(from_ns, start.at_ns), start.at_ns)
        insert(db, boot.counter, Stream.STATE, 0, 0, missed, 0, start.at_ns)
        set_lane(db, Lane(boot.counter, Stream.STATE, 1, 0, 0, start.at_ns))
        numbers[Stream.STATE] = 1
    forget_boots(db)
    forget_unused(db)
    return boot, numbers


def undo_boots_after(db: apsw.Connection, boot: Boot) -> None:
    """Deletes boots whose commit failed and yet arrived while this one went on; in the caller's transaction."""
    for table, column in (("items", "boot"), ("lanes", "boot"), ("boots", "counter")):
        run(db, f"DELETE FROM {table} WHERE {column} > ?", (boot.counter,))  # noqa: S608 - names of this module
