"""Publish responses from bytes to columns, without one object per value (OPC UA Part 6, 5.2).

A notification message of a server is mostly alike: the same masks, a few types of fixed length. Those become numpy
columns, one run a shape; everything else is read value by value.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from twinedge.drivers.opcua_variant import DTYPES, Cursor, WireError

STEP_MAX: Final = 12  # changes looked at one by one before a column pays
WINDOW: Final = 64
RESPONSE, FAULT, DATA_CHANGE, STATUS_CHANGE, EVENTS = 829, 397, 811, 820, 916
_HEAD = struct.Struct("<IB")


@dataclass(frozen=True, slots=True)
class Run:
    """Changes of one shape, as columns of equal length; of one item in the server's order.

    Attributes:
        type: number of the OPC UA built-in type of all values (Part 6, 5.1.2).
        handle: client handles, uint32.
        value: values in the type's own dtype.
        status: status codes, uint32.
        source, server: time stamps in 100 ns since 1601, int64; 0 where there is none.
    """

    type: int
    handle: NDArray[np.uint32]
    value: NDArray[Any]
    status: NDArray[np.uint32]
    source: NDArray[np.int64]
    server: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.handle)


@dataclass(frozen=True, slots=True)
class Row:
    """One change; `value` is None when the server sent none. Names as in `Run`."""

    type: int
    handle: int
    value: Any
    status: int
    source: int
    server: int


@dataclass(slots=True)
class Message:
    """One notification message of one subscription.

    Attributes:
        sequence: its number; in a keep-alive the number that the next message will have.
        published: time the server sent it, in 100 ns since 1601.
        available: numbers the server still holds for retransmission.
        changes: runs and rows; all changes of one item stand in one of them, or in the server's order.
        ended: status of a StatusChangeNotification (the subscription is gone), 0 for none.
        keep_alive: whether it carries nothing.
        events: bodies of EventNotificationLists, as they came.
        more: whether the server had more to tell than fits into it.
    """

    subscription: int
    sequence: int
    published: int
    available: tuple[int, ...] = ()
    changes: list[Run | Row] = field(default_factory=list)
    ended: int = 0
    keep_alive: bool = False
    events: list[bytes] = field(default_factory=list)
    more: bool = False


def read_publish_response(body: bytes) -> Message:
    """Reads the body of a PublishResponse message, from its type id on.

    Raises:
        WireError: for anything else or anything cut short.
    """
    try:
        return _Reader(body).response()
    except (struct.error, IndexError, ValueError, OverflowError) as wrong:
        raise WireError(f"{type(wrong).__name__} in a publish response of {len(body)} bytes") from wrong


@lru_cache(maxsize=256)
def _shape(mask: int, variant: int) -> np.dtype[Any] | None:
    """Layout of one change of fixed length; None when its length varies."""
    if variant not in DTYPES or not mask & 1 or mask > 0x3F:
        return None
    fields: list[tuple[str, str]] = [("handle", "<u4"), ("mask", "u1"), ("variant", "u1"), ("value", DTYPES[variant])]
    fields += [("status", "<u4")] if mask & 2 else []
    fields += [("source", "<i8")] if mask & 4 else []
    fields += [("source_ps", "<u2")] if mask & 16 else []
    fields += [("server", "<i8")] if mask & 8 else []
    fields += [("server_ps", "<u2")] if mask & 32 else []
    return np.dtype(fields)


def _run_of(key: tuple[int, int], parts: list[bytes]) -> Run:
    shape = _shape(*key)
    assert shape is not None, "only fixed shapes are joined"
    rows = np.frombuffer(parts[0] if len(parts) == 1 else b"".join(parts), shape)
    names, count = shape.names or (), len(rows)
    status = rows["status"] if "status" in names else np.zeros(count, np.uint32)
    source = rows["source"] if "source" in names else np.zeros(count, np.int64)
    server = rows["server"] if "server" in names else np.zeros(count, np.int64)
    return Run(key[1], rows["handle"], rows["value"], status, source, server)


def _disjoint(runs: list[Run], odd: list[Row]) -> bool:
    """Whether each item's changes are all in one run or all rows, so that joining kept their order."""
    if len(runs) + bool(odd) < 2:
        return True
    groups = [np.unique(run.handle) for run in runs]
    groups.append(np.unique(np.array([row.handle for row in odd], np.uint32)))
    return sum(map(len, groups)) == len(np.unique(np.concatenate(groups)))


class _Reader(Cursor):
    """Reads a publish response."""

    def response(self) -> Message:
        kind = self.node_id()
        if kind != RESPONSE:
            raise WireError(f"type {kind} is no publish response")
        self.skip(8 + 4)
        status = self.u32()
        if status >> 30:
            raise WireError(f"service result 0x{status:08X}")
        self.diagnostics()
        for _ in range(self.count(4)):
            self.octets()
        self.node_id()
        if self.byte():
            self.octets()
        subscription = self.u32()
        available = tuple(self.u32() for _ in range(self.count(4)))
        more = bool(self.byte())
        message = Message(subscription, self.u32(), self.i64(), available, more=more)
        parts = self.count(3)
        message.keep_alive = parts == 0
        for _ in range(parts):
            self._notification(message)
        self.skip(4 * self.count(4))
        for _ in range(self.count(1)):
            self.diagnostics()
        return message

    def _notification(self, message: Message) -> None:
        kind, encoded = self.node_id(), self.byte()
        if encoded == 0:
            return
        length = self.i32()
        end = self.at + max(0, length)
        if end > len(self.body):
            raise WireError("a notification longer than its message")
        if kind == DATA_CHANGE:
            self._changes(message.changes, end)
        elif kind == STATUS_CHANGE:
            message.ended = self.u32() or 1
        elif kind == EVENTS:
            message.events.append(self.body[self.at : end])
        self.at = end

    def _changes(self, changes: list[Run | Row], end: int) -> None:
        """Changes of one shape are joined, wherever they stand, as long as no item has changes of two shapes."""
        start, total = self.at, self.count(5)
        groups: dict[tuple[int, int], list[bytes]] = {}
        odd: list[Row] = []
        left, window = total, WINDOW
        while left > 0:
            key = self.body[self.at + 4], self.body[self.at + 5]
            shape = _shape(*key)
            if shape is None:
                odd.append(self._row())
                left -= 1
                continue
            count = self._alike(shape, key, min(left, window), end)
            size = count * shape.itemsize
            groups.setdefault(key, []).append(self.body[self.at : self.at + size])
            self.skip(size)
            left -= count
            window = window * 4 if count == window else WINDOW
        if self.at > end:
            raise WireError("changes longer than their notification")
        runs = [_run_of(key, parts) for key, parts in groups.items()]
        if _disjoint(runs, odd):
            changes += runs
            changes += odd
            return
        self.at = start
        changes += [self._row() for _ in range(self.count(5))]

    def _alike(self, shape: np.dtype[Any], key: tuple[int, int], count_max: int, end: int) -> int:
        """How many changes from here on have this shape, at most `count_max`."""
        size, at, body = shape.itemsize, self.at, self.body
        most = min(count_max, (end - at) // size)
        if most < 1:
            raise WireError("a change cut short")
        count = 1
        while count < min(most, STEP_MAX):
            at += size
            if (body[at + 4], body[at + 5]) != key:
                return count
            count += 1
        if count == most:
            return count
        rows = np.frombuffer(body, shape, most, self.at)
        alike = (rows["mask"] == key[0]) & (rows["variant"] == key[1])
        return most if alike.all() else int(alike.argmin())

    def _row(self) -> Row:
        handle, mask = _HEAD.unpack_from(self.body, self.at)
        self.at += 5
        kind, value = self.variant() if mask & 1 else (0, None)
        status = self.u32() if mask & 2 else 0
        source = self.i64() if mask & 4 else 0
        if mask & 16:
            self.skip(2)
        server = self.i64() if mask & 8 else 0
        if mask & 32:
            self.skip(2)
        return Row(kind, handle, value, status, source, server)
