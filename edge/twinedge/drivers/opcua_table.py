"""Changes of monitored items to batches of samples: columns where a server's message allows it, rows for the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from twinedge.drivers.decode import ABSENT, DECODE, typed_value
from twinedge.drivers.link import Columns, DeviceLink
from twinedge.drivers.opcua_clock import SourceClock
from twinedge.drivers.opcua_items import Item, Tap
from twinedge.drivers.opcua_values import (
    CLOCK,
    DOUBTED,
    OVERFLOW,
    column_to_ns,
    overflowed,
    quality_of,
    ticks_to_ns,
    to_iso,
    worst,
)
from twinedge.drivers.opcua_variant import BOOLEAN, DATE_TIME, DOUBLE, FLOAT, INTEGERS, Unsupported
from twinedge.drivers.opcua_wire import Message, Row, Run
from twinedge.ports import NotAcquired
from twinmodel.clock import round_to_step
from twinmodel.quality import GOOD
from twinmodel.signal import DTYPES, Batch, Kind, concat

OVERFLOWED: Final = "QUEUE_OVERFLOW"
UINT64: Final = 9
FAULTS_MAX: Final = 4


@dataclass(slots=True)
class Taken:
    """What one message gave.

    Attributes:
        batches: samples, at most one batch per kind.
        counts: samples per device, shape (links,).
        holes: per device at most one, where its queues overflowed.
        faults: device number and text of what could not be used, the first few.
    """

    batches: tuple[Batch, ...]
    counts: NDArray[np.int64]
    holes: list[NotAcquired] = field(default_factory=list)
    faults: list[tuple[int, str]] = field(default_factory=list)


class ItemTable:
    """All items of a driver as columns, indexed by client handle, and what was last said about each point.

    Args:
        items: numbered from 1 without holes.
        links: devices, as taps number them.

    Attributes:
        taps: points by their number.
        clocks: one per device; `server_clock` is that of the server.
        labels: number of a point that is a text -> names of the integers that the server sends for it.
        tap_of: handle -> number of its only point where the value needs no closer look, else -1.
        last_ns: point -> event time of its newest sample, 0 before the first.
        confirm_ns: point -> what was last said of it by our own clock: its device is lost, or its value stands;
            until the first value after that, 0 otherwise.
    """

    def __init__(self, items: Sequence[Item], links: Sequence[DeviceLink]) -> None:
        self.items, self.links = items, links
        self.taps: list[Tap] = sorted((t for item in items for t in item.taps), key=lambda tap: tap.index)
        self.clocks = [SourceClock() for _ in links]
        self.server_clock = SourceClock()
        self.labels: Mapping[int, Mapping[int, str]] = {}
        self.refused: frozenset[int] = frozenset()
        self.step_ns = links[0].assignment.time_step_ns if links else 1
        count = len(self.taps)
        self.tap_of = np.full(len(items) + 1, -1, np.int64)
        for item in items:
            self.tap_of[item.handle] = _plain_tap(item)
        self.signal = np.array([t.signal.id for t in self.taps], np.uint32)
        self.kind = np.array([t.signal.kind for t in self.taps], np.int8)
        self.link = np.array([t.link for t in self.taps], np.int64)
        self.scaled = np.array([t.convert is not None for t in self.taps], np.bool_)
        self.scale = np.array([t.scale for t in self.taps])
        self.offset = np.array([t.offset for t in self.taps])
        self.last_ns = np.zeros(count, np.int64)
        self.confirm_ns = np.zeros(count, np.int64)
        self.confirming = False

    def reset(self) -> None:
        """A connection begins: clocks are judged anew, and unchanged values are said again where a device was lost."""
        for clock in (*self.clocks, self.server_clock):
            clock.reset()
        lost = np.array([link.lost_ns for link in self.links], np.int64)
        self.confirm_ns = lost[self.link]
        self.confirming = bool(self.confirm_ns.any())

    def confirm(self, since_ns: int) -> None:
        """Has unchanged values said again: something else was said about every point at `since_ns`."""
        self.confirm_ns = np.full(len(self.taps), since_ns, np.int64)
        self.confirming = True

    def refuse(self, taps: frozenset[int]) -> None:
        """Points that must give no samples, for their values would be read wrongly; replaces those named before."""
        self.refused = taps
        for item in self.items:
            self.tap_of[item.handle] = _plain_tap(item) if not any(t.index in taps for t in item.taps) else -1

    def take(self, message: Message, arrival_ns: int, *, restated: bool = False) -> Taken:
        """Turns the changes of one message, received at `arrival_ns` of the wall clock, into samples.

        Args:
            message: what the server published, or values that were read (`restated`).
            arrival_ns: when it came.
            restated: give only what has not changed since; the subscription delivers what has.
        """
        return _Taking(self, message, arrival_ns, restated=restated).finish()


class _Taking:
    """One message on its way to batches; short-lived, so that its parts can share what they gather."""

    def __init__(self, table: ItemTable, message: Message, arrival_ns: int, *, restated: bool) -> None:
        self.table, self.message, self.arrival_ns, self.restated = table, message, arrival_ns, restated
        self.batches: list[Batch] = []
        self.rows = Columns()
        links = len(table.links)
        self.newest = np.zeros(links, np.int64)
        self.counts = np.zeros(links, np.int64)
        self.spans: dict[int, tuple[int, int]] = {}
        self.faults: list[tuple[int, str]] = []
        table.server_clock.note(ticks_to_ns(message.published) if message.published else 0, arrival_ns)

    def finish(self) -> Taken:
        for change in self.message.changes:
            if isinstance(change, Run):
                self.run(change)
            else:
                self.row(change)
        self.flush()
        table = self.table
        for clock, newest_ns in zip(table.clocks, self.newest.tolist(), strict=True):
            clock.note(newest_ns, self.arrival_ns)
        holes = [
            NotAcquired(table.links[link].name, OVERFLOWED, from_ns, to_ns)
            for link, (from_ns, to_ns) in self.spans.items()
        ]
        return Taken(tuple(concat(self.batches)), self.counts, holes, self.faults)

    def flush(self) -> None:
        """Rows so far go in front of what follows: of one signal the order is that of arrival."""
        if len(self.rows):
            self.batches += self.rows.batches()

    def run(self, run: Run) -> None:
        """Columns for plain numbers; each change that needs a closer look goes the way of rows."""
        table = self.table
        if self.restated:
            self._as_rows(run, range(len(run)))
            return
        known = run.handle < len(table.tap_of)
        taps = np.where(known, table.tap_of[np.where(known, run.handle, 0)], -1)
        plain = (taps >= 0) & (run.status & OVERFLOW != OVERFLOW) & self._fits(run.type, taps)
        if table.confirming:
            plain &= table.confirm_ns[taps] == 0
        if not plain.all():
            self._as_rows(run, np.flatnonzero(~plain).tolist())
            if not plain.any():
                return
            taps = taps[plain]
            run = Run(
                run.type, run.handle[plain], run.value[plain], run.status[plain], run.source[plain], run.server[plain]
            )
        self.flush()
        self._columns(run, taps)

    def _as_rows(self, run: Run, positions: Sequence[int]) -> None:
        for at in positions:
            raw: Any = run.value[at].item()
            raw = bool(raw) if run.type == BOOLEAN else raw
            stamps = int(run.source[at]), int(run.server[at])
            self.row(Row(run.type, int(run.handle[at]), raw, int(run.status[at]), *stamps))

    def _fits(self, type_: int, taps: NDArray[np.int64]) -> NDArray[np.bool_]:
        fitting: tuple[Kind, ...] = ()
        if type_ == BOOLEAN:
            fitting = (Kind.BOOL,)
        elif type_ in {FLOAT, DOUBLE}:
            fitting = (Kind.FLOAT,)
        elif type_ in INTEGERS and type_ != UINT64:
            fitting = (Kind.FLOAT, Kind.INT)
        return np.isin(self.table.kind[taps], fitting)

    def _columns(self, run: Run, taps: NDArray[np.int64]) -> None:
        table = self.table
        t_ns, doubted = self._times(run, table.link[taps])
        quality = np.zeros(len(taps), np.uint16)
        if run.status.any():
            codes, which = np.unique(run.status, return_inverse=True)
            quality = np.array([quality_of(int(c)) for c in codes], np.uint16)[which]
        table.last_ns[taps] = t_ns
        self.counts += np.bincount(table.link[taps], minlength=len(self.counts))
        kinds = table.kind[taps]
        for kind in (Kind.FLOAT, Kind.INT, Kind.BOOL):
            mine = kinds == kind
            if not mine.any():
                continue
            every = bool(mine.all())
            some = slice(None) if every else mine
            value, found = self._values(run, kind, taps[some], run.value[some])
            code = _worse(_worse(quality[some], found), np.where(doubted[some], CLOCK, GOOD).astype(np.uint16))
            self.batches.append(Batch(kind, table.signal[taps[some]], value, code, t_ns[some]))

    def _values(
        self, run: Run, kind: Kind, taps: NDArray[np.int64], raw: NDArray[Any]
    ) -> tuple[NDArray[Any], NDArray[np.uint16]]:
        """Values of one kind and the quality they have by themselves: NaN is absent, infinity no number."""
        good = np.zeros(len(raw), np.uint16)
        if kind is not Kind.FLOAT:
            return raw.astype(DTYPES[kind]), good
        value = raw.astype(np.float64)
        table = self.table
        scaled = table.scaled[taps]
        if scaled.any():
            if run.type in {FLOAT, DOUBLE}:
                value = np.where(scaled, value * table.scale[taps] + table.offset[taps], value)
            else:  # integers are scaled exactly, by the same fractions that Modbus uses
                for at in np.flatnonzero(scaled).tolist():
                    convert = table.taps[int(taps[at])].convert
                    assert convert is not None, "scaled says so"
                    value[at] = convert(int(raw[at]))
        finite = np.isfinite(value)
        if finite.all():
            return value, good
        absent = np.isnan(value)
        value = np.where(finite, value, np.nan)
        return value, np.where(finite, GOOD, np.where(absent, ABSENT, DECODE)).astype(np.uint16)

    def _times(self, run: Run, links: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Event times rounded to the step, and whether the clock is in doubt."""
        table, arrival_ns = self.table, self.arrival_ns
        source = column_to_ns(run.source)
        told = run.source > 0
        sane = told & table.server_clock.sane_column(source, arrival_ns)
        if sane.any():
            np.maximum.at(self.newest, links[sane], source[sane])
        if not all(clock.trusted for clock in table.clocks):
            sane &= np.array([clock.trusted for clock in table.clocks])[links]
        t_ns = source
        if not sane.all():
            server = column_to_ns(run.server)
            usable = (run.server > 0) & table.server_clock.sane_column(server, arrival_ns) & table.server_clock.trusted
            t_ns = np.where(sane, source, np.where(usable, server, arrival_ns))
            sane |= ~told & usable
        step = table.step_ns
        return (t_ns + step // 2) // step * step, ~sane

    def row(self, row: Row) -> None:
        """One change, for each point that its node feeds."""
        table = self.table
        if not 0 < row.handle <= len(table.items):
            return
        for tap in table.items[row.handle - 1].taps:
            if tap.index not in table.refused:
                self._sample(tap, row)

    def _sample(self, tap: Tap, row: Row) -> None:
        table = self.table
        told = quality_of(row.status)
        raw = self._raw(tap, row)
        value, found = typed_value(raw, tap.signal.kind, tap.convert, tap.absent)
        t_ns, doubt = self._time(row, tap.link)
        code = worst(told, found, doubt)
        last_ns = int(table.last_ns[tap.index])
        if self.restated and t_ns != last_ns:
            return
        if overflowed(row.status):
            code = DOUBTED if code == GOOD else code
            from_ns, to_ns = self.spans.get(tap.link, (t_ns, t_ns))
            self.spans[tap.link] = min(from_ns, last_ns or t_ns), max(to_ns, t_ns)
            self.fault(tap, "the server's queue overflowed; raise `queue` of the point")
        confirms = self.restated or t_ns <= int(table.confirm_ns[tap.index])
        table.confirm_ns[tap.index] = 0
        if t_ns != last_ns or not confirms:
            self.add(tap, value, code, t_ns)
        if confirms:
            # It has not changed since before the device was lost: said again, as of now, or NOT_CONNECTED would stay
            # the newest word on a signal that changes once a week.
            unchanged = t_ns == last_ns
            t_ns = round_to_step(self.arrival_ns, table.step_ns)
            self.add(tap, value, code, t_ns)
            if unchanged:  # a change that is on its way may be dated before this, and would not be the newest word
                table.confirm_ns[tap.index], table.confirming = t_ns, True
        table.last_ns[tap.index] = t_ns

    def add(self, tap: Tap, value: object, code: int, t_ns: int) -> None:
        """One sample."""
        self.rows.add(tap.signal, value, code, t_ns)
        self.counts[tap.link] += 1

    def fault(self, tap: Tap, text: str) -> None:
        """Remembers what a person should know; a few per message are enough."""
        if len(self.faults) < FAULTS_MAX:
            self.faults.append((tap.link, f"{tap.name}: {text}"))

    def _raw(self, tap: Tap, row: Row) -> Any:
        """The value as number, truth value or text; what fits no signal stays what it is and becomes bad(DECODE)."""
        raw: Any = row.value
        if tap.element is not None:
            if not isinstance(raw, list):
                raw = None if raw is None else Unsupported("value that is no array")
            else:
                raw = raw[tap.element] if tap.element < len(raw) else None
        elif isinstance(raw, list):
            raw = Unsupported("array; name one element, as in `Path[3]`")
        if row.type == DATE_TIME and isinstance(raw, int):
            # 0 and the greatest number stand for "no time", Part 6, 5.2.2.5.
            t_ns = ticks_to_ns(raw) if 0 < raw < (1 << 63) - 1 else None
            return to_iso(t_ns) if tap.signal.kind is Kind.STRING and t_ns is not None else t_ns
        if isinstance(raw, Unsupported):
            self.fault(tap, f"the server sends a {raw.what}")
        elif tap.signal.kind is Kind.STRING and isinstance(raw, int) and tap.index in self.table.labels:
            return self.table.labels[tap.index].get(raw, str(raw))
        return raw

    def _time(self, row: Row, link: int) -> tuple[int, int]:
        table, arrival_ns = self.table, self.arrival_ns
        source_ns, server_ns = ticks_to_ns(row.source), ticks_to_ns(row.server)
        clock = table.clocks[link]
        code = CLOCK
        if row.source > 0 and clock.sane(source_ns, arrival_ns):
            t_ns, code = source_ns, GOOD
        elif row.server > 0 and table.server_clock.sane(server_ns, arrival_ns):
            t_ns, code = server_ns, CLOCK if row.source > 0 else GOOD
        else:
            t_ns = arrival_ns
        if row.source > 0 and table.server_clock.sane_column(np.array([source_ns]), arrival_ns)[0]:
            self.newest[link] = max(int(self.newest[link]), source_ns)
        return round_to_step(t_ns, table.step_ns), code


def _plain_tap(item: Item) -> int:
    """Number of the point of an item whose numbers need no closer look, else -1."""
    (tap, *others) = item.taps
    plain = not others and tap.element is None and tap.absent is None and tap.signal.kind is not Kind.STRING
    return tap.index if plain else -1


def _worse(first: NDArray[np.uint16], second: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """`worst` of two columns."""
    lesser = (second >> 8 > first >> 8) | ((first == GOOD) & (second != GOOD))
    return np.where(lesser, second, first).astype(np.uint16)
