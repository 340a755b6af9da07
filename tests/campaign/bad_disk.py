"""A file system layer that refuses for a while and heals: full, read-only, or syncs that fail."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import apsw

REFUSALS: dict[str, tuple[Exception, frozenset[str]]] = {
    "disk full": (apsw.FullError("no space left on device"), frozenset({"write"})),
    "disk read-only": (apsw.ReadOnlyError("read-only file system"), frozenset({"write", "truncate"})),
    "disk error": (apsw.IOError("input/output error"), frozenset({"sync"})),
    "disk dead": (apsw.IOError("input/output error"), frozenset({"write", "truncate", "sync"})),
}
"""Fault -> what SQLite is told, and at which calls."""

_NUMBERS = itertools.count()


@dataclass(eq=False)
class Disk:
    """The layer below one gateway's spool; `fault` is "" while it is well."""

    fault: str = ""
    name: str = field(default_factory=lambda: f"bad-disk-{next(_NUMBERS)}")

    def __post_init__(self) -> None:
        """Makes the layer known to SQLite."""
        self._layer: _Layer | None = _Layer(self)

    def call(self, kind: str) -> None:
        if self.fault:
            error, kinds = REFUSALS[self.fault]
            if kind in kinds:
                raise type(error)(*error.args)

    def close(self) -> None:
        """The layer is forgotten once no file is open."""
        if self._layer is not None:
            self._layer.unregister()
            self._layer = None


class _File(apsw.VFSFile):
    def __init__(self, disk: Disk, name, flags) -> None:
        super().__init__("", name, flags)
        self._disk = disk

    def xWrite(self, data, offset):
        self._disk.call("write")
        super().xWrite(data, offset)

    def xTruncate(self, size):
        self._disk.call("truncate")
        super().xTruncate(size)

    def xSync(self, flags):
        self._disk.call("sync")
        super().xSync(flags)


class _Layer(apsw.VFS):
    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        super().__init__(disk.name, "")

    def xOpen(self, name, flags):
        return _File(self._disk, name, flags)
