"""Archived files in a local folder: each appears by one step, whole, and is never replaced."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from twincloud.archive.objects import Head, check_key, digest_of
from twinmodel.errors import ConflictError, DeniedError, MissingError, StorageError, UnreachableError
from twinmodel.files import sync_folder

_DRAFT = ".upload-"
_CHUNK = 8 << 20
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK}
_FULL = {errno.ENOSPC, errno.EDQUOT}


class DirectoryObjects:
    """A folder; see `ObjectStore`.

    Args:
        folder: of the archive.
        create: make it at the first use; otherwise one that is missing is taken for a disk that is not mounted.
    """

    def __init__(self, folder: Path, *, create: bool = False) -> None:
        self.folder = folder
        self._create = create

    @property
    def name(self) -> str:
        """See `ObjectStore.name`."""
        return str(self.folder)

    def put(
        self, key: str, path: Path, sha256: str, *, upload: str = "", remember: Callable[[str], None]
    ) -> Iterator[None]:
        """See `ObjectStore.put`; a file is copied again from its start after a crash."""
        del upload
        target = self._path(key)
        draft = target.with_name(f"{_DRAFT}{target.name}")
        with self._telling(key):
            if target.exists():
                self._compare(key, target, sha256)
                return
            target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            remember(key)
            with path.open("rb") as source, draft.open("wb") as copy:
                while chunk := source.read(_CHUNK):
                    copy.write(chunk)
                    yield
                copy.flush()
                os.fsync(copy.fileno())
            try:
                _publish(draft, target)
            except FileExistsError:
                self._compare(key, target, sha256)
            finally:
                draft.unlink(missing_ok=True)
            for folder in (target.parent, *target.parent.parents):
                sync_folder(folder)
                if folder == self.folder:
                    break

    def get(self, key: str, offset: int, length: int) -> bytes:
        """See `ObjectStore.get`."""
        with self._telling(key), self._path(key).open("rb") as file:
            file.seek(offset)
            content = file.read(length)
        if len(content) != length:
            raise StorageError("ARCHIVE_DAMAGED", f"{key} in {self.name} is shorter than it was", key=key)
        return content

    def head(self, key: str) -> Head | None:
        """See `ObjectStore.head`."""
        with self._telling(key):
            try:
                return Head(key, self._path(key).stat().st_size)
            except FileNotFoundError:
                return None

    def list(self, prefix: str = "") -> Iterator[Head]:
        """See `ObjectStore.list`."""
        with self._telling(prefix):
            self._root()
            for path in sorted(self.folder.rglob("*")):
                key = path.relative_to(self.folder).as_posix()
                if path.is_file() and not path.name.startswith(".") and key.startswith(prefix):
                    yield Head(key, path.stat().st_size)

    def delete(self, key: str) -> None:
        """See `ObjectStore.delete`."""
        path = self._path(key)
        with self._telling(key):
            path.unlink(missing_ok=True)
            if path.parent.exists():
                sync_folder(path.parent)

    def tidy(self, keep: Collection[str]) -> int:
        """See `ObjectStore.tidy`."""
        count = 0
        with self._telling(""):
            self._root()
            for draft in list(self.folder.rglob(f"{_DRAFT}*")):
                key = draft.with_name(draft.name.removeprefix(_DRAFT)).relative_to(self.folder).as_posix()
                if key not in keep:
                    draft.unlink(missing_ok=True)
                    count += 1
        return count

    def _compare(self, key: str, target: Path, sha256: str) -> None:
        if digest_of(target)[1] != sha256:
            raise ConflictError("ALREADY_EXISTS", f"{key} in {self.name} holds something else", key=key)

    def _path(self, key: str) -> Path:
        self._root()
        return self.folder / check_key(key)

    def _root(self) -> None:
        if self.folder.is_dir():
            return
        if not self._create:
            raise UnreachableError(
                "ARCHIVE_UNREACHABLE",
                f"there is no folder {self.folder}",
                hint="mount its disk, or make the folder; nothing was deleted here",
            )
        with self._telling(""):
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    @contextmanager
    def _telling(self, key: str) -> Iterator[None]:
        """Turns what the disk says into our errors."""
        try:
            yield
        except FileNotFoundError as error:
            raise MissingError("NOT_FOUND", f"{self.name} holds no {key}", key=key) from error
        except PermissionError as error:
            raise DeniedError("ARCHIVE_DENIED", f"{error.filename}: {error.strerror}") from error
        except OSError as error:
            reason = "STORE_FULL" if error.errno in _FULL else "STORE_SYNC_FAILED"
            reason = "STORE_READ_ONLY" if error.errno == errno.EROFS else reason
            raise StorageError(reason, f"{self.name}: {error.strerror}", key=key) from error


def _publish(draft: Path, target: Path) -> None:
    """Gives the draft its name, which nothing may have yet; a link, unlike a rename, replaces nothing."""
    try:
        os.link(draft, target)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if target.exists():
            raise FileExistsError(errno.EEXIST, "exists", str(target)) from error
        draft.rename(target)  # a file system without links; one coordinator alone archives at a time
