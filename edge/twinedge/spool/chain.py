"""The chain of boots in a small file beside the database, so that a damaged spool does not look like a cloned one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

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
    try:
        with (state_dir / FILE).open("rb") as file:
            raw = file.read(_BYTES_MAX)
    except FileNotFoundError:
        return []
    body = raw[4:]
    if len(body) == 0 or crc32c.crc32c(body).to_bytes(4, "little") != raw[:4]:
        return []
    # The checksum holds, so this is what write_chain wrote.
    boots = [
        Boot(id_, previous, counter, at, ClockQuality(clock))
        for id_, previous, counter, at, clock in msgpack.unpackb(body)
    ]
    return [boot for boot in boots if len(boot.id) == limits.BOOT_BYTES]


def write_chain(state_dir: Path, boots: Sequence[Boot]) -> None:
    """Replaces the file, durably: the old one or the new one is there, never a half; raises StorageError."""
    rows = [[b.id, b.previous, b.counter, b.started_ns, int(b.clock)] for b in boots[-_BOOTS_KEPT:]]
    body = msgpack.packb(rows)
    write_durably(state_dir / FILE, crc32c.crc32c(body).to_bytes(4, "little") + body)
