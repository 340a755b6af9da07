"""When the budget will be full at the present rate: how fast each class grows, and how much room there is.

The rate is that of the newest hour in which anything was stored, the link being up or not; the room is what neither
waits nor is reserved. So it says how long the gateway can go on alone before the policy for a full disk begins.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import apsw
import msgpack

from twinedge.spool.outgoing import backlog_of
from twinedge.spool.retention import DISK_BYTES_MIN, reserve_bytes
from twinedge.spool.rows import Lane, setting
from twinedge.spool.schema import run
from twinmodel.clock import SECOND_NS
from twinmodel.signal import Stream

BUDGET = "budget"
"""Setting under which a running agent leaves its budget for those who look in."""
HOUR_NS = 3600 * SECOND_NS
ROWS_MAX = 4000
# What a row costs besides its payload: its numbers, its line of the index, what pages leave empty.
ROW_BYTES = 200
_RECENT = (
    "SELECT stream, count(*), sum(size), min(at_ns), max(at_ns) FROM items"
    " WHERE row > (SELECT max(row) FROM items) - ? AND at_ns > (SELECT max(at_ns) FROM items WHERE row ="
    " (SELECT max(row) FROM items)) - ? GROUP BY stream"
)


@dataclass(frozen=True, slots=True)
class Forecast:
    """How long the budget lasts.

    Attributes:
        disk_max_bytes: the budget.
        when_full: the policy that begins when it is used up.
        room_bytes: what is left before that.
        bytes_per_hour: present rate by class, for classes of which anything was stored lately.
        hours_until_full: None while nothing is stored.
        alarm_hours_until_full: the same for alarms alone, which have the reserve besides.
    """

    disk_max_bytes: int
    when_full: str
    room_bytes: int
    bytes_per_hour: Mapping[Stream, int]
    hours_until_full: float | None
    alarm_hours_until_full: float | None


def pack_budget(disk_max_bytes: int, when_full: str) -> bytes:
    """The setting `BUDGET`."""
    packed: bytes = msgpack.packb([disk_max_bytes, when_full])
    return packed


def forecast_of(db: apsw.Connection, lanes: Iterable[Lane]) -> Forecast:
    """The forecast of a spool; one that has no budget stored counts as the smallest."""
    stored = setting(db, BUDGET)
    disk_max_bytes, when_full = msgpack.unpackb(stored) if stored else (DISK_BYTES_MIN, "")
    waiting = backlog_of(db, lanes)
    reserve = reserve_bytes(disk_max_bytes)
    room = max(0, disk_max_bytes - reserve - waiting.bytes - waiting.items * ROW_BYTES)
    recent = run(db, _RECENT, (ROWS_MAX, HOUR_NS))
    begun = min((row[3] for row in recent), default=0)
    ended = max((row[4] for row in recent), default=0)
    # A first block says nothing yet of a rate; a minute is taken for it.
    span_ns = max(ended - begun, 60 * SECOND_NS)
    rates = {Stream(stream): (size + count * ROW_BYTES) * HOUR_NS // span_ns for stream, count, size, *_ in recent}
    return Forecast(
        disk_max_bytes,
        when_full,
        room,
        rates,
        _hours(room, sum(rates.values())),
        _hours(room + reserve, rates.get(Stream.ALARM, 0)),
    )


def _hours(room_bytes: int, rate: int) -> float | None:
    return round(room_bytes / rate, 2) if rate else None
