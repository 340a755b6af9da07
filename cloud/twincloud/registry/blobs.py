"""Artifacts as files named by their SHA-256: written whole or not at all, checked when read."""

from __future__ import annotations

import errno
import hashlib
import os
import re
from pathlib import Path

from twinmodel.errors import InputError, MissingError, StorageError
from twinmodel.files import sync_folder

_DIGEST = re.compile(r"[0-9a-f]{64}")
FILE_MODE = 0o600


class Blobs:
    """A folder of content-addressed files, `ab/ab12...`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put(self, content: bytes) -> str:
        """Keeps bytes durably and returns their digest; the same bytes twice are no error.

        Raises:
            StorageError: STORE_FULL, STORE_READ_ONLY or STORE_SYNC_FAILED; then nothing is kept.
        """
        digest = hashlib.sha256(content).hexdigest()
        path = self._path(digest)
        if path.exists():
            return digest
        draft = path.with_name(f".{digest}.new")
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, FILE_MODE)
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            draft.rename(path)
            for folder in (path.parent, self.folder):
                sync_folder(folder)
        except OSError as error:
            draft.unlink(missing_ok=True)
            reasons = {errno.ENOSPC: "STORE_FULL", errno.EDQUOT: "STORE_FULL", errno.EROFS: "STORE_READ_ONLY"}
            reason = reasons.get(error.errno or 0, "STORE_SYNC_FAILED")
            raise StorageError(reason, f"{path}: {error.strerror}", path=str(path)) from error
        return digest

    def get(self, digest: str) -> bytes:
        """The bytes of a digest.

        Raises:
            MissingError: NOT_FOUND.
            StorageError: STORE_CORRUPT when the file no longer has that digest.
        """
        path = self._path(digest)
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            raise MissingError("NOT_FOUND", f"no artifact {digest}", digest=digest) from None
        except OSError as error:
            raise StorageError("STORE_SYNC_FAILED", f"{path}: {error.strerror}", path=str(path)) from error
        if hashlib.sha256(content).hexdigest() != digest:
            raise StorageError(
                "STORE_CORRUPT", f"{path} no longer has its digest", hint="push the model again", path=str(path)
            )
        return content

    def remove_damaged(self, digest: str) -> None:
        """Takes a file away whose content is wrong, so that `put` writes it again."""
        self._path(digest).unlink(missing_ok=True)

    def _path(self, digest: str) -> Path:
        if not _DIGEST.fullmatch(digest):
            raise InputError("REQUEST_INVALID", "a digest is 64 lower-case hexadecimal digits", hint="use a digest")
        return self.folder / digest[:2] / digest
