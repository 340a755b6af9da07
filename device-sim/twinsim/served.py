"""The served log: what the device side gave out, the ground truth every loss and duplicate is judged by.

One JSON object a line in `served.jsonl`, appended and flushed each second and at the end:

    {"protocol": "mqtt", "device": "P-1", "connection": "P-1", "n": 17, "t_ns": 1700000000000000000,
     "points": ["flow", "head", "power", "speed", "running", "sample_no"]}

A record means: these points of one sample reached the other side, as far as the device can know.
    modbus  the answer of a poll that covers the sample number was handed to an open connection; `t_ns` is that moment
    opcua   the client acknowledged the notification; `t_ns` is the source timestamp
    mqtt    the broker acknowledged the publication; `t_ns` is the time in the payload
`n` is the sample number (null for an opcua notification that did not contain it), `connection` the peer.
When the file reaches its limit it becomes `served.1.jsonl`, and the older one of that name is dropped.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

import numpy as np
from numpy.typing import NDArray

from twinmodel.clock import MILLISECOND_NS, SECOND_NS
from twinmodel.errors import InputError, StorageError

FILE_NAME = "served.jsonl"
OLDER_NAME = "served.1.jsonl"
LIMIT_BYTES = 1 << 30
RESUME_GAP = 1000
"""Numbers left out when a log is continued: more than can have been given out between two flushes."""


@dataclass(frozen=True, slots=True)
class Served:
    """One record; see the module for its fields."""

    protocol: str
    device: str
    connection: str
    n: int | None
    t_ns: int
    points: tuple[str, ...]


class ServedLog:
    """Writer of the log in a state directory; continues the numbers of an earlier run.

    Attributes:
        path: the file.
        last: device -> first number to continue after, from an earlier run in the same directory.
        count: records written by this process.
    """

    def __init__(self, state: Path, *, limit_bytes: int = LIMIT_BYTES) -> None:
        self.path = state / FILE_NAME
        self.count = 0
        self.last: dict[str, int] = {}
        self._limit_bytes = limit_bytes
        for record in read_served(state):
            if record.n is not None:
                self.last[record.device] = record.n + RESUME_GAP
        try:
            _cut_half_line(self.path)
            self._file: TextIO = self.path.open("a", encoding="utf-8", buffering=1 << 16)
        except OSError as refused:
            raise StorageError("STORE_READ_ONLY", f"cannot write {self.path}: {refused.strerror}") from refused

    def add(self, protocol: str, device: str, connection: str, n: int | None, t_ns: int, points: Sequence[str]) -> None:
        """Appends one record; it is on disk after the next flush."""
        record = {
            "protocol": protocol,
            "device": device,
            "connection": connection,
            "n": n,
            "t_ns": t_ns,
            "points": list(points),
        }
        self._file.write(json.dumps(record, separators=(",", ":")) + "\n")
        self.count += 1

    def flush(self) -> None:
        """Hands all records to the operating system; turns the file over when it is too large.

        Raises:
            StorageError: STORE_FULL when the disk refuses; without its log a simulator proves nothing.
        """
        try:
            self._file.flush()
            if self._file.tell() >= self._limit_bytes:
                self._file.close()
                self.path.replace(self.path.with_name(OLDER_NAME))
                self._file = self.path.open("a", encoding="utf-8", buffering=1 << 16)
        except OSError as refused:
            raise StorageError("STORE_FULL", f"cannot write {self.path}: {refused.strerror}") from refused

    def close(self) -> None:
        """Flushes and closes the file."""
        try:
            self.flush()
        finally:
            with suppress(OSError):
                self._file.close()


def _cut_half_line(path: Path) -> None:
    """Removes what a killed run left after the last newline, so that it does not swallow the next record."""
    if not path.exists():
        return
    with path.open("r+b") as file:
        size = file.seek(0, 2)
        start = max(0, size - (1 << 16))
        file.seek(start)
        file.truncate(start + file.read().rfind(b"\n") + 1)


def read_served(state: Path) -> Iterator[Served]:
    """Records of a state directory, oldest first; half a last line, as a kill leaves it, is passed over.

    Raises:
        InputError: VALUE_INVALID for a damaged line elsewhere, with path and line.
    """
    for name in (OLDER_NAME, FILE_NAME):
        path = state / name
        if path.exists():
            yield from _read_file(path)


def _read_file(path: Path) -> Iterator[Served]:
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if line.endswith("\n"):
                yield _parse(path, number, line)


def _parse(path: Path, number: int, line: str) -> Served:
    try:
        r = json.loads(line)
        return Served(r["protocol"], r["device"], r["connection"], r["n"], r["t_ns"], tuple(r["points"]))
    except (ValueError, KeyError, TypeError) as damaged:
        raise InputError("VALUE_INVALID", f"{path}:{number} is no record of a served log") from damaged


# ---- the verdict -------------------------------------------------------------------------------------------------

Stored = tuple[str, str, int | None, int, object]
"""A stored sample: device, point, sample number where the caller knows it, event time in ns, value."""


@dataclass(frozen=True, slots=True)
class Declared:
    """An interval some record (Gap, Outage, NOT_ACQUIRED) declares as missing, both ends included.

    Attributes:
        from_ns: first event time that may be missing.
        to_ns: last one.
        device: the device, "" for all.
        point: the point, "" for all.
    """

    from_ns: int
    to_ns: int
    device: str = ""
    point: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """One example of a loss or a duplicate; `n` is -1 where the record was matched by time."""

    device: str
    point: str
    n: int
    t_ns: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """Counts of samples (one point at one time); acquired = stored + lost + excusable + declared_missing.

    Attributes:
        samples_acquired: distinct samples the device side gave out.
        samples_stored: of those, found in the store.
        lost: of those, neither stored nor declared nor excusable: must be 0.
        excusable: not stored, but given out within the window before a kill.
        declared_missing: not stored, but declared.
        duplicates: stored samples beyond the first of the same device, point and event (or sample number).
        lost_examples: the first few losses.
        duplicate_examples: the first few duplicates.
    """

    samples_acquired: int
    samples_stored: int
    lost: int
    excusable: int
    declared_missing: int
    duplicates: int
    lost_examples: tuple[Finding, ...] = field(default=())
    duplicate_examples: tuple[Finding, ...] = field(default=())


_Ints = NDArray[np.int64]
SAMPLE_NO = "sample_no"


def check(
    served: Iterable[Served],
    stored: Iterable[Stored],
    declared: Iterable[Declared] = (),
    *,
    kills_ns: Sequence[int] = (),
    window_ns: int = SECOND_NS,
    slack_ns: int = 100 * MILLISECOND_NS,
    examples_max: int = 5,
) -> Verdict:
    """Compares what was given out with what was stored.

    A record of opcua is matched by its time stamp. One of modbus or mqtt is matched by its number: the stored
    sample of the device's `sample_no` with value n gives the event time, at which each other point of the record
    must have its sample. Times are compared after rounding to 1 ms. A record given out twice counts once. A gateway may
    say a value of opcua again, as of now, after a silence: that is an event of its own.

    Args:
        served: the served log.
        stored: everything the store holds of these devices, in any order.
        declared: intervals declared as missing.
        kills_ns: wall times at which an agent was killed.
        window_ns: how long before a kill a loss is excusable (one sync window).
        slack_ns: how far beyond a declared interval a sample still counts as covered: the device's time and the
            gateway's differ by a round trip.
        examples_max: examples kept of each sort.
    """
    store = _Store(stored)
    tally = _Tally(list(declared), np.asarray(sorted(kills_ns), np.int64), window_ns, slack_ns, examples_max)
    columns = _columns(served)
    for (device, point), column in sorted(columns.items()):
        tally.acquired += len(column.t_ns)
        missing = ~store.holds(device, point, column)
        tally.miss(device, point, column.n[missing], column.t_ns[missing])
    doubles = store.duplicates({device for (device, _), column in columns.items() if column.by_time}, examples_max)
    absent = tally.lost + tally.excusable + tally.declared
    return Verdict(
        samples_acquired=tally.acquired,
        samples_stored=tally.acquired - absent,
        lost=tally.lost,
        excusable=tally.excusable,
        declared_missing=tally.declared,
        duplicates=doubles[0],
        lost_examples=tuple(tally.examples),
        duplicate_examples=tuple(doubles[1]),
    )


@dataclass(frozen=True, slots=True)
class _Column:
    """Served samples of one point: numbers (-1 where matched by time) and times, each sample once."""

    by_time: bool
    n: _Ints
    t_ns: _Ints


def _columns(served: Iterable[Served]) -> Mapping[tuple[str, str], _Column]:
    raw: dict[tuple[str, str], tuple[bool, array[int], array[int]]] = {}
    for record in served:
        by_time = record.protocol == "opcua"
        n = -1 if by_time or record.n is None else record.n
        for point in record.points:
            entry = raw.get((record.device, point))
            if entry is None:
                entry = raw[record.device, point] = (by_time, array("q"), array("q"))
            entry[1].append(n)
            entry[2].append(record.t_ns)
    columns = {}
    for key, (by_time, numbers, times) in raw.items():
        all_n, all_t = np.frombuffer(numbers, np.int64), np.frombuffer(times, np.int64)
        _, first = np.unique(_milliseconds(all_t) if by_time else all_n, return_index=True)
        columns[key] = _Column(by_time, all_n[first], all_t[first])
    return columns


def _milliseconds(t_ns: _Ints) -> _Ints:
    return (t_ns + MILLISECOND_NS // 2) // MILLISECOND_NS


def _among(values: _Ints, ordered: _Ints) -> NDArray[np.bool_]:
    """Which of `values` are in the sorted array `ordered`."""
    if not len(ordered):
        return np.zeros(len(values), np.bool_)
    place = np.minimum(np.searchsorted(ordered, values), len(ordered) - 1)
    found: NDArray[np.bool_] = ordered[place] == values
    return found


class _Store:
    """Stored samples as sorted columns of milliseconds, and of each device number -> event time."""

    def __init__(self, stored: Iterable[Stored]) -> None:
        times: dict[tuple[str, str], array[int]] = {}
        numbers: dict[str, array[int]] = {}
        for device, point, n, t_ns, value in stored:
            column = times.get((device, point))
            if column is None:
                column = times[device, point] = array("q")
            column.append(t_ns)
            if point == SAMPLE_NO:
                numbers.setdefault(device, array("q")).append(_number(n, value))
        self._all = {key: np.sort(_milliseconds(np.frombuffer(column, np.int64))) for key, column in times.items()}
        self._events: dict[str, tuple[_Ints, _Ints]] = {}
        for device, column in numbers.items():
            given = np.frombuffer(column, np.int64)
            t = _milliseconds(np.frombuffer(times[device, SAMPLE_NO], np.int64))
            order = np.lexsort((t, given))
            self._events[device] = (given[order], t[order])

    def holds(self, device: str, point: str, column: _Column) -> NDArray[np.bool_]:
        """Which served samples of a column are stored."""
        present = self._all.get((device, point), np.empty(0, np.int64))
        if column.by_time:
            return _among(_milliseconds(column.t_ns), present)
        n, t = self._events.get(device, (np.empty(0, np.int64), np.empty(0, np.int64)))
        known = _among(column.n, n)
        event = np.full(len(column.n), -1, np.int64)
        event[known] = t[np.searchsorted(n, column.n[known])]
        return known & _among(event, present)

    def duplicates(self, by_time: Container[str], examples_max: int) -> tuple[int, list[Finding]]:
        """Samples beyond the first at one event time, and further event times of one number of devices that number."""
        count, examples = 0, []
        for (device, point), ordered in sorted(self._all.items()):
            again = ordered[1:][ordered[1:] == ordered[:-1]]
            count += len(again)
            examples += [Finding(device, point, -1, int(t) * MILLISECOND_NS) for t in again[:examples_max]]
        for device, (n, t) in sorted(self._events.items()):
            if device in by_time:
                continue
            again = np.flatnonzero((n[1:] == n[:-1]) & (t[1:] != t[:-1]) & (n[1:] >= 0)) + 1
            late = np.unique(t[again])
            for (owner, _), ordered in self._all.items():
                if owner == device:
                    count += int(np.sum(_among(late, ordered)))
            examples += [
                Finding(device, SAMPLE_NO, int(n[i]), int(t[i]) * MILLISECOND_NS) for i in again[:examples_max]
            ]
        return count, examples[:examples_max]


def _number(n: int | None, value: object) -> int:
    """Sample number of a stored `sample_no`; -1 for a value that is none, such as a bad sample's NaN."""
    if n is not None:
        return n
    return int(value) if isinstance(value, (int, float, np.number)) and value == value else -1  # noqa: PLR0124  # NaN


class _Tally:
    """Counts missing samples by their excuse."""

    def __init__(
        self, declared: Sequence[Declared], kills_ns: _Ints, window_ns: int, slack_ns: int, examples_max: int
    ) -> None:
        self.acquired = self.lost = self.excusable = self.declared = 0
        self.examples: list[Finding] = []
        self._intervals = declared
        self._kills_ns, self._window_ns, self._slack_ns = kills_ns, window_ns, slack_ns
        self._examples_max = examples_max

    def miss(self, device: str, point: str, n: _Ints, t_ns: _Ints) -> None:
        """Books missing samples of one point."""
        told = np.zeros(len(t_ns), np.bool_)
        for i in self._intervals:
            if i.device in {"", device} and i.point in {"", point}:
                told |= (t_ns >= i.from_ns - self._slack_ns) & (t_ns <= i.to_ns + self._slack_ns)
        excused = np.zeros(len(t_ns), np.bool_)
        for kill_ns in self._kills_ns:
            excused |= (t_ns >= kill_ns - self._window_ns) & (t_ns <= kill_ns)
        excused &= ~told
        lost = ~told & ~excused
        self.declared += int(told.sum())
        self.excusable += int(excused.sum())
        self.lost += int(lost.sum())
        for i in np.flatnonzero(lost)[: self._examples_max - len(self.examples)]:
            self.examples.append(Finding(device, point, int(n[i]), int(t_ns[i])))
