"""A file of which only some bytes are at hand, for readers that want to seek in a whole one."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping

from twinmodel.errors import StorageError


class SparseFile(io.RawIOBase):
    """Reads like a file of `size` bytes; what no chunk holds is refused.

    Args:
        size: of the whole file.
        chunks: offset -> bytes at hand.
    """

    def __init__(self, size: int, chunks: Mapping[int, bytes]) -> None:
        super().__init__()
        self._size = size
        self._chunks = dict(chunks)
        self._at = 0

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """The place of the next read."""
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Moves the place of the next read."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        self._at = base + offset
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        """The next bytes; raises ARCHIVE_DAMAGED when they are not at hand: the index does not fit the file."""
        wanted = self._size - self._at if size is None or size < 0 else min(size, self._size - self._at)
        if wanted <= 0:
            return b""
        for offset, content in self._chunks.items():
            if offset <= self._at and self._at + wanted <= offset + len(content):
                start = self._at - offset
                self._at += wanted
                return content[start : start + wanted]
        raise StorageError("ARCHIVE_DAMAGED", f"bytes {self._at}..{self._at + wanted} are not where the index says")
