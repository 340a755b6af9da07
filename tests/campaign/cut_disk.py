"""A file system layer whose power can go: what was written and not synced is then lost, torn or garbage.

Files below it look as the operating system would show them to a running process; beside them stands what the disk
has for certain. `settle` leaves what a machine finds when its power is back.
"""

from __future__ import annotations

from pathlib import Path
from random import Random

import apsw

NAME = "cut-disk"
SECTOR_BYTES = 512
LOST, TORN, GARBAGE = 0.4, 0.2, 0.05
"""Shares of the writes that were not synced."""


class Power:
    """Counts I/O calls; from `cut_at` on each of them fails.

    Attributes:
        durable: path -> content that was synced.
        pending: path -> writes since then, (offset, bytes) or (size, None) for a truncation.
    """

    def __init__(self, seed: int, cut_at: int | None) -> None:
        self.random = Random(seed)
        self.cut_at = cut_at
        self.calls = 0
        self.durable: dict[str, bytearray] = {}
        self.pending: dict[str, list[tuple[int, bytes | None]]] = {}

    def call(self) -> None:
        self.calls += 1
        if self.cut_at is not None and self.calls >= self.cut_at:
            raise apsw.IOError("no power")

    def know(self, path: str) -> None:
        if path not in self.durable:
            self.durable[path] = bytearray(Path(path).read_bytes() if Path(path).exists() else b"")
            self.pending[path] = []

    def sync(self, path: str) -> None:
        for write in self.pending[path]:
            apply(self.durable[path], *write)
        self.pending[path].clear()

    def settle(self) -> None:
        """Each write that was not synced is there, is not, or is there in part."""
        for path, content in self.durable.items():
            for offset, written in self.pending[path]:
                fate = self.random.random()
                if fate >= LOST:
                    apply(content, offset, None if written is None else self._remains(written, fate))
            if Path(path).exists():
                Path(path).write_bytes(content)

    def _remains(self, written: bytes, fate: float) -> bytes:
        if fate < LOST + TORN:
            return written[: SECTOR_BYTES * self.random.randrange(len(written) // SECTOR_BYTES + 1)]
        return self.random.randbytes(len(written)) if fate < LOST + TORN + GARBAGE else written


def apply(content: bytearray, offset: int, written: bytes | None) -> None:
    """One write or truncation."""
    if written is None:
        del content[offset:]
        return
    if len(content) < offset:
        content.extend(bytes(offset - len(content)))
    content[offset : offset + len(written)] = written


class CutFile(apsw.VFSFile):
    """An open file."""

    def __init__(self, name, flags, power: Power) -> None:
        super().__init__("", name, flags)
        self._power = power
        self._path = name.filename() if hasattr(name, "filename") else name
        power.know(self._path)

    def xWrite(self, data, offset):
        self._power.call()
        self._power.pending[self._path].append((offset, bytes(data)))
        super().xWrite(data, offset)

    def xTruncate(self, size):
        self._power.call()
        self._power.pending[self._path].append((size, None))
        super().xTruncate(size)

    def xSync(self, flags):
        self._power.call()
        self._power.sync(self._path)


class CutDisk(apsw.VFS):
    """The layer; `unregister` takes it away."""

    def __init__(self, power: Power) -> None:
        self._power = power
        super().__init__(NAME, "")

    def xOpen(self, name, flags):
        return CutFile(name, flags, self._power)

    def xDelete(self, name, sync):
        self._power.call()
        self._power.durable.pop(name, None)
        self._power.pending.pop(name, None)
        super().xDelete(name, sync)
