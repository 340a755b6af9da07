"""The chain of boots in a small file beside the database, so that a damaged spool does not look like a cloned one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import crc32c
import msgpack

from twinmodel.clock import ClockQuality
from twinmodel.files import write_durably
from twinsync import limits
from twinsync.item import Boot

FILE = "boots"
_BOOTS_KEPT = 256
_BYTES_MAX = 1 << 16


def read_chain(state_dir: Path) -> list[Boot]:
    """The boots of this disk, oldest first; empty when the file is missing or damaged."""
    rows, _ = _read(state_dir)
    boots = [Boot(id_, previous, counter, at, ClockQuality(clock)) for id_, previous, counter, at, clock in rows]
    return [boot for boot in boots if len(boot.id) == limits.BOOT_BYTES]


def read_held(state_dir: Path) -> int:
    """Counter of the oldest boot that held anything unacknowledged when the chain was kept, 0 when nobody knows."""
    _, held = _read(state_dir)
    return held


def write_chain(state_dir: Path, boots: Sequence[Boot], held: int = 0) -> None:
    """Replaces the file, durably: the old one or the new one is there, never a half; raises StorageError."""
    rows = [[b.id, b.previous, b.counter, b.started_ns, int(b.clock)] for b in boots[-_BOOTS_KEPT:]]
    body = msgpack.packb({"boots": rows, "held": held})
    write_durably(state_dir / FILE, crc32c.crc32c(body).to_bytes(4, "little") + body)


def _read(state_dir: Path) -> tuple[list[Any], int]:
    try:
        with (state_dir / FILE).open("rb") as file:
            raw = file.read(_BYTES_MAX)
    except FileNotFoundError:
        return [], 0
    body = raw[4:]
    if len(body) == 0 or crc32c.crc32c(body).to_bytes(4, "little") != raw[:4]:
        return [], 0
    # The checksum holds, so this is what write_chain wrote; before there was `held`, the rows alone.
    found = msgpack.unpackb(body)
    return (found["boots"], found["held"]) if isinstance(found, dict) else (found, 0)
