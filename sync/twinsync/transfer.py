"""A download by digest that goes on where it stopped: `Transfer` says what fits, `PartFile` keeps it on disk.

<digest>.part grows by whole chunks; once complete it is hashed, synced and renamed to its final name. Nothing is
used before its SHA-256 is the digest that was asked for; what differs is thrown away.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path

from twinmodel.errors import InputError, PackageError
from twinmodel.files import storage_error, sync_folder
from twinsync import limits

ARTIFACT_BYTES_MAX = 64 << 20
CHUNK_BYTES = 256 << 10
_HASH_BYTES = 1 << 20


class Transfer:
    """The bookkeeping of one download, without I/O.

    Attributes:
        digest: SHA-256 of the artifact.
        offset: bytes that are here.
        total: size the source announced, None before the first chunk.
    """

    def __init__(self, digest: bytes, *, offset: int = 0, bytes_max: int = ARTIFACT_BYTES_MAX) -> None:
        if len(digest) != limits.DIGEST_BYTES:
            raise InputError("PROTOCOL_VIOLATION", f"a digest of {len(digest)} bytes, not {limits.DIGEST_BYTES}")
        self.digest = digest
        self.offset = offset
        self.total: int | None = None
        self._bytes_max = bytes_max

    @property
    def complete(self) -> bool:
        """Whether all bytes are here; whether they are the right ones is another question."""
        return self.total is not None and self.offset == self.total

    def accept(self, offset: int, total: int, size: int) -> None:
        """Checks a chunk of `size` bytes that claims to lie at `offset` of `total`, and counts it.

        Raises:
            InputError: LIMIT_EXCEEDED for an artifact beyond the bound, PROTOCOL_VIOLATION for a chunk that does not
                continue what is here.
        """
        if not 0 < total <= self._bytes_max:
            raise InputError("LIMIT_EXCEEDED", f"an artifact of {total} bytes, at most {self._bytes_max}")
        if self.total is not None and total != self.total:
            raise InputError("PROTOCOL_VIOLATION", f"the artifact has {total} bytes, {self.total} were announced")
        if offset != self.offset or offset + size > total:
            raise InputError(
                "PROTOCOL_VIOLATION", f"a chunk at {offset} of {size} bytes, after {self.offset} of {total}"
            )
        self.total = total
        self.offset += size


class PartFile:
    """The bytes of an unfinished download in `folder`; survives a restart of the process."""

    def __init__(self, folder: Path, digest: bytes, *, bytes_max: int = ARTIFACT_BYTES_MAX) -> None:
        self.path = folder / f"{digest.hex()}.part"
        self._digest = digest
        self._bytes_max = bytes_max

    def size(self) -> int:
        """Bytes that are here; more than any artifact may have counts as none and is thrown away."""
        try:
            size = self.path.stat().st_size
        except FileNotFoundError:
            return 0
        if size > self._bytes_max:
            self.discard()
            return 0
        return size

    def append(self, data: bytes, offset: int) -> None:
        """Writes a chunk at `offset`; raises StorageError STORE_FULL or STORE_READ_ONLY."""
        try:
            handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                view = memoryview(data)
                while view:
                    written = os.pwrite(handle, view, offset)
                    view, offset = view[written:], offset + written
            finally:
                os.close(handle)
        except OSError as error:
            raise storage_error(error, self.path) from error

    def finish(self, final: Path) -> None:
        """Moves the verified bytes to `final`, durably.

        Raises:
            PackageError: PACKAGE_ALTERED when they have another digest; they are thrown away then.
            StorageError: when the disk refuses.
        """
        try:
            found = hashlib.sha256()
            with self.path.open("rb") as file:
                while chunk := file.read(_HASH_BYTES):
                    found.update(chunk)
                os.fsync(file.fileno())
            if found.digest() != self._digest:
                self.discard()
                raise PackageError(
                    "PACKAGE_ALTERED",
                    f"the artifact has digest {found.hexdigest()}, {self._digest.hex()} was asked for",
                )
            self.path.replace(final)
            sync_folder(final.parent)
        except OSError as error:
            raise storage_error(error, self.path) from error

    def discard(self) -> None:
        """Throws away what is here."""
        with contextlib.suppress(FileNotFoundError):
            self.path.unlink()
