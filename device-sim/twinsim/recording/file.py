"""A recorded session: JSON, one object a line, times in nanoseconds since the first.

    {"twinsim": 1, "protocol": "modbus", "from": "tcp://10.0.0.7:502", "t_ns": 1700000000000000000}
    {"at": 0, "c": 1, "ask": "010300000002", "say": "0103045b3c0001", "took": 3100000}      modbus: unit and PDU, in hex
    {"at": 9, "topic": "plants/P-1/telemetry", "qos": 1, "retain": false, "b": "eyJ0Ijo..."}      mqtt: base64
    {"at": 9, "node": "nsu=urn:x;s=Flow", "path": [["urn:x", "Flow"]], "type": "Double", "v": 3.5, "status": 0,
     "src": 1700000000000000000}                                                                  opcua
    {"end": 2, "lost": 0}

The first line is the head; the last one says how many events there are, and is missing when the recorder was killed:
such a file is read as far as it goes. `say` is null where nothing was answered. Bounded: 10 million events, 1 GiB,
a megabyte a line.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from twinmodel.clock import Clock
from twinmodel.errors import InputError, StorageError

VERSION = 1
EVENTS_MAX = 10_000_000
FILE_BYTES_MAX = 1 << 30
LINE_BYTES_MAX = 1 << 20
_HEX = re.compile(r"([0-9a-fA-F]{2})+")
PROTOCOLS = ("modbus", "opcua", "mqtt")
_KEYS: Mapping[str, Mapping[str, type | tuple[type, ...]]] = {
    "modbus": {"c": int, "ask": str, "say": (str, type(None)), "took": int},
    "mqtt": {"topic": str, "qos": int, "retain": bool, "b": str},
    "opcua": {"node": str, "type": str, "status": int},
}


@dataclass(frozen=True, slots=True)
class Recording:
    """What a file holds.

    Attributes:
        protocol: `modbus`, `opcua` or `mqtt`.
        origin: address it was recorded from.
        t_ns: wall time of its beginning.
        events: in order of `at`, as in the file.
        whole: whether the recorder ended in order.
        lost: events that found no room.
    """

    protocol: str
    origin: str
    t_ns: int
    events: tuple[Mapping[str, Any], ...]
    whole: bool
    lost: int


class Recorder:
    """Writes a file.

    Attributes:
        count: events written.
        lost: events beyond the limits, which are counted and not kept.
    """

    def __init__(self, path: Path, protocol: str, origin: str, clock: Clock) -> None:
        """Begins a file. Raises StorageError STORE_READ_ONLY, and InputError ALREADY_EXISTS for one that is there."""
        self.count = self.lost = 0
        self._clock, self._start_ns, self._bytes = clock, clock.boot_ns(), 0
        try:
            self._file: TextIO = path.open("x", encoding="utf-8", buffering=1)  # a killed recorder loses half a line
        except FileExistsError:
            raise InputError("ALREADY_EXISTS", f"{path} exists", hint="name another file with --out") from None
        except OSError as refused:
            raise StorageError("STORE_READ_ONLY", f"cannot write {path}: {refused.strerror}") from refused
        self._line({"twinsim": VERSION, "protocol": protocol, "from": origin, "t_ns": clock.wall_ns()})

    def now_ns(self) -> int:
        """Nanoseconds since the beginning."""
        return self._clock.boot_ns() - self._start_ns

    def add(self, event: Mapping[str, Any], at_ns: int | None = None) -> None:
        """Appends an event that happened now, or at `at_ns` since the beginning."""
        if self.count >= EVENTS_MAX or self._bytes >= FILE_BYTES_MAX:
            self.lost += 1
            return
        if self._line({"at": self.now_ns() if at_ns is None else at_ns, **event}):
            self.count += 1
        else:
            self.lost += 1

    def _line(self, content: Mapping[str, Any]) -> bool:
        line = json.dumps(content, separators=(",", ":"), allow_nan=False) + "\n"
        if len(line) > LINE_BYTES_MAX:
            return False
        try:
            self._bytes += self._file.write(line)
        except OSError as refused:
            raise StorageError("STORE_FULL", f"cannot write the recording: {refused.strerror}") from refused
        return True

    def close(self) -> None:
        """Ends the file in order."""
        self._line({"end": self.count, "lost": self.lost})
        self._file.close()


def read_recording(path: Path) -> Recording:
    """Reads a file whole.

    Raises:
        InputError: FILE_MISSING, LIMIT_EXCEEDED, or VALUE_INVALID for a damaged file, with path and line.
    """
    try:
        size = path.stat().st_size
    except OSError as missing:
        raise InputError("FILE_MISSING", f"cannot read {path}: {missing.strerror}", path=str(path)) from missing
    if size > FILE_BYTES_MAX + LINE_BYTES_MAX:
        raise InputError("LIMIT_EXCEEDED", f"{path} has {size} bytes, at most {FILE_BYTES_MAX}", path=str(path))
    lines = _lines(path)
    _, head = next(lines, (1, {}))
    protocol = head.get("protocol")
    started = isinstance(head.get("from"), str) and isinstance(head.get("t_ns"), int)
    if head.get("twinsim") != VERSION or protocol not in PROTOCOLS or not started:
        raise _damaged(path, 1, "this is no recording of version 1")
    events: list[Mapping[str, Any]] = []
    last, end = 0, None
    for number, event in lines:
        if end is not None:
            raise _damaged(path, number, "there is more behind the end")
        if "end" in event:
            end = event
            if end["end"] != len(events) or not isinstance(end.get("lost"), int):
                raise _damaged(path, number, f"the end counts {end['end']} events, there are {len(events)}")
            continue
        at = event.get("at")
        if not isinstance(at, int) or isinstance(at, bool) or at < last - 60 * 10**9 or at < 0:
            raise _damaged(path, number, "`at` is no time, or one long before the line above")
        last = max(last, at)
        _check(path, number, str(protocol), event)
        events.append(event)
        if len(events) > EVENTS_MAX:
            raise InputError("LIMIT_EXCEEDED", f"{path} has more than {EVENTS_MAX} events", path=str(path))
    events.sort(key=lambda e: int(e["at"]))
    lost = int(end["lost"]) if end is not None else 0
    return Recording(str(protocol), head["from"], head["t_ns"], tuple(events), end is not None, lost)


def _lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with path.open("rb") as file:
        number = 0
        while raw := file.readline(LINE_BYTES_MAX + 1):
            number += 1
            if not raw.endswith(b"\n") and not file.read(1):
                if number == 1:
                    raise _damaged(path, 1, "the file ends within its head")
                return  # the recorder was killed within a line
            try:
                line = json.loads(raw)
            except (ValueError, RecursionError):
                raise _damaged(path, number, "this is no JSON") from None
            if not isinstance(line, dict):
                raise _damaged(path, number, "this is no JSON object")
            yield number, line


def _check(path: Path, number: int, protocol: str, event: Mapping[str, Any]) -> None:
    for key, kind in _KEYS[protocol].items():
        if key not in event or not isinstance(event[key], kind):
            raise _damaged(path, number, f"`{key}` is missing or of another type")
    if protocol == "opcua" and "v" not in event:
        raise _damaged(path, number, "`v` is missing")
    for text in (event["ask"], event["say"]) if protocol == "modbus" else ():
        if text is not None and (len(text) < 4 or not _HEX.fullmatch(text)):
            raise _damaged(path, number, "a message that is none")


def _damaged(path: Path, line: int, why: str) -> InputError:
    return InputError("VALUE_INVALID", f"{path}:{line}: {why}", path=str(path), line=line, hint="record it again")
