"""What every driver keeps about a device: its signals, whether it answers, and the hole while it does not."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import structlog

from twinedge.config.schema import Device
from twinedge.drivers.decode import NOTHING
from twinedge.ports import Delivery, DriverHealth, NotAcquired
from twinmodel.clock import MILLISECOND_NS, SECOND_NS, Clock, round_to_step
from twinmodel.profile.schema import FirmwareProfile
from twinmodel.quality import QualityReason, bad
from twinmodel.signal import Batch, Kind, Signal
from twinsync.backoff import Backoff

_log = structlog.get_logger("twinedge.drivers")

BACKOFF_FIRST_NS = 250 * MILLISECOND_NS
BACKOFF_MAX_NS = 10 * SECOND_NS
ERROR_TEXT_MAX = 500


@dataclass(frozen=True, slots=True)
class Assignment:
    """One device that a driver is to read.

    Attributes:
        name: device in site.yaml.
        device: its entry there.
        profile: its firmware profile.
        signals: point -> signal of the catalogue.
        time_step_ns: times of samples are rounded to it, once, by the driver.
        folder: folder of site.yaml, where relative paths of `security` start.
        bound: points that feed a twin: their device reports every sample, whatever `report` says.
    """

    name: str
    device: Device
    profile: FirmwareProfile
    signals: Mapping[str, Signal]
    time_step_ns: int
    folder: Path
    bound: frozenset[str] = frozenset()

    def file(self, relative: str) -> Path:
        """A path that the device's `security` names, made absolute."""
        return (self.folder / relative).resolve()


def same_units(before: Sequence[Assignment], after: Sequence[Assignment]) -> bool:
    """Whether the units of a line are the same ones, so that only what they are asked may differ."""
    units = [[(a.name, a.device.unit_id) for a in mine] for mine in (before, after)]
    connections = [min(a.profile.limits.connections for a in mine) for mine in (before, after)]
    return units[0] == units[1] and connections[0] == connections[1]


@runtime_checkable
class Changeable(Protocol):
    """A driver that can read something else without dropping its connection."""

    def change(self, assignments: Sequence[Assignment]) -> bool:
        """Reads these from now on, over the connection there is.

        Args:
            assignments: of the same connection as before.

        Returns:
            False when it cannot, for instance as there are other devices; nothing has changed then.
        """
        ...


@runtime_checkable
class Overlapping(Protocol):
    """A driver that may read beside the one before it: what both deliver carries the time of its source."""

    overlaps: bool


class Columns:
    """Samples gathered one by one and handed over as batches, one per kind."""

    def __init__(self) -> None:
        self._rows: dict[Kind, tuple[list[int], list[object], list[int], list[int]]] = {}
        self._count = 0

    def add(self, signal: Signal, value: object, quality: int, t_ns: int) -> None:
        """Appends one sample; `value` must be of the signal's kind."""
        rows = self._rows.get(signal.kind)
        if rows is None:
            rows = self._rows[signal.kind] = ([], [], [], [])
        rows[0].append(signal.id)
        rows[1].append(value)
        rows[2].append(quality)
        rows[3].append(t_ns)
        self._count += 1

    def batches(self) -> tuple[Batch, ...]:
        """What was gathered; the columns are empty afterwards."""
        made = tuple(Batch.of(kind, *rows) for kind, rows in sorted(self._rows.items()))
        self._rows = {}
        self._count = 0
        return made

    def __len__(self) -> int:
        return self._count


def backoff_of(rng: random.Random, cap_ns: int = BACKOFF_MAX_NS) -> Backoff:
    """Waits between attempts to reach a device: short at first, for most of them are back at once."""
    return Backoff(rng, base_ns=BACKOFF_FIRST_NS, cap_ns=cap_ns)


class DeviceLink:
    """Whether one device answers; one log line and one NOT_CONNECTED sample per signal when it stops.

    Attributes:
        lost_ns: time of the newest NOT_CONNECTED samples, 0 before the first.
        firmware: version the device told, "" where it was not asked.
        quarantine: reason it is not read although it answers, "" for none.
    """

    def __init__(self, assignment: Assignment, clock: Clock) -> None:
        self.assignment = assignment
        self.name = assignment.name
        self.connected = False
        self.samples = 0
        self.errors = 0
        self.missed = 0
        self.reconnects = 0
        self.last_error = ""
        self.lost_ns = 0
        self.firmware = ""
        self.quarantine = ""
        self._clock = clock
        self._since_ns = clock.wall_ns()
        self._good_ns = self._since_ns
        self._sample_boot_ns: int | None = None
        self._hole: str | None = None
        self._away = ""
        self._ever = False

    def now_ns(self) -> int:
        """Wall time, rounded as samples carry it."""
        return round_to_step(self._clock.wall_ns(), self.assignment.time_step_ns)

    def fault(self, text: str) -> None:
        """Counts an error of the device's making that does not mean it is away."""
        self.errors += 1
        self.last_error = text[:ERROR_TEXT_MAX]

    def failed(self, reason: str, text: str) -> None:
        """Counts an exchange that failed; opens the hole that `answered` closes."""
        self.fault(text)
        self._hole = self._hole or reason

    def lost(self, reason: str, text: str) -> Delivery | None:
        """The device is away: one bad(NOT_CONNECTED) sample per signal the first time, None afterwards."""
        self.failed(reason, text)
        self.connected = False
        before, self._away = self._away, reason
        if before != reason:  # refused instead of unreachable is news; the same again is not
            _log.warning("device lost", device=self.name, reason=reason, error=self.last_error)
        if before:
            return None
        self._since_ns = self._clock.wall_ns()
        self.lost_ns = self.now_ns()
        return self.stamp(self.assignment.signals.values(), bad(QualityReason.NOT_CONNECTED))

    def answered(self) -> NotAcquired | None:
        """The device answered; returns the closed interval when it had not before."""
        now_ns = self.now_ns()
        hole, from_ns = self._hole, self._good_ns
        self._good_ns = now_ns
        self._hole = None
        if not self.connected:
            self._since_ns = now_ns
            self.reconnects += self._ever
            _log.info("device back" if self._away else "device connected", device=self.name)
        self._away = ""
        self.connected = self._ever = True
        if hole is None:
            return None
        return NotAcquired(self.name, hole, min(from_ns, now_ns), now_ns)

    def whole(self, until_ns: int) -> None:
        """All that the device gave up to a time has come: a hole that opens later begins there at the earliest.

        Args:
            until_ns: wall time; what lies before what is known already, or comes while a hole is open, changes nothing.
        """
        now_ns = self.now_ns()
        if self.connected and self._hole is None and (until_ns > self._good_ns or self._good_ns > now_ns):
            self._good_ns = min(until_ns, now_ns)  # also back, with a wall clock that was set back

    def stamp(self, signals: Iterable[Signal], quality: int) -> Delivery:
        """A delivery with one valueless sample of this quality per signal, now."""
        columns = Columns()
        now_ns = self.now_ns()
        for signal in signals:
            columns.add(signal, NOTHING[signal.kind], quality, now_ns)
        return self.delivery(columns)

    def delivery(self, columns: Columns) -> Delivery:
        """Takes what was gathered and counts it."""
        self.count(len(columns))
        return Delivery(self.name, columns.batches())

    def handed(self, batches: Sequence[Batch]) -> Delivery:
        """A delivery of batches that are counted now."""
        self.count(sum(len(b) for b in batches))
        return Delivery(self.name, tuple(batches))

    def count(self, samples: int) -> None:
        """Counts samples handed over now."""
        self.samples += samples
        if samples:
            self._sample_boot_ns = self._clock.boot_ns()

    def health(self) -> DriverHealth:
        """State of the device for the status page."""
        age_ns = None if self._sample_boot_ns is None else self._clock.boot_ns() - self._sample_boot_ns
        return DriverHealth(
            self.name,
            self.assignment.device.protocol,
            self.connected,
            self._since_ns,
            self.samples,
            self.errors,
            self.missed,
            self.reconnects,
            self.last_error,
            age_ns,
            self.firmware,
            self.quarantine,
        )


def names(links: Sequence[DeviceLink]) -> tuple[str, ...]:
    """Names of the devices, in order."""
    return tuple(link.name for link in links)
