"""Documents that all coordinators of one database share: artifacts by their SHA-256, and what identity keeps."""

from __future__ import annotations

import hashlib

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from twincloud.storage import schema as t
from twincloud.storage.database import ALL, Database
from twinmodel.errors import InputError, MissingError, StorageError

_ARTIFACT = "artifact/"


class Documents:
    """Named documents of the coordinator itself, each with a version that grows when it changes."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def version(self, name: str) -> int:
        """The version of a document, 0 when there is none."""
        with self._database.read() as connection:
            return int(connection.execute(_VERSION, _named(name)).scalar() or 0)

    def read(self, name: str) -> tuple[int, bytes]:
        """Version and content; (0, b"") when there is none."""
        with self._database.read() as connection:
            return _read(connection, name)

    def write(self, name: str, content: bytes, *, over: int) -> bool:
        """Keeps a document, unless it is no longer the version `over`; returns whether it was kept."""
        with self._database.write() as connection:
            version, _ = _read(connection, name)
            if version != over:
                return False
            if version:
                connection.execute(_CHANGE, {"of": name, "version": version + 1, "content": content})
            else:
                connection.execute(insert(t.documents), {**_named(name), "version": 1, "content": content})
            return True


class SharedBlobs:
    """Artifacts in the database instead of a folder; see `Blobs`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._documents = Documents(database)

    def put(self, content: bytes) -> str:
        """See `Blobs.put`; raises StorageError."""
        digest = hashlib.sha256(content).hexdigest()
        # Refused only when it is there already: then it is the same.
        self._documents.write(_ARTIFACT + digest, content, over=0)
        return digest

    def get(self, digest: str) -> bytes:
        """See `Blobs.get`; raises NOT_FOUND, STORE_CORRUPT."""
        if len(digest) != 2 * hashlib.sha256().digest_size:
            raise InputError("REQUEST_INVALID", "a digest is 64 lower-case hexadecimal digits", hint="use a digest")
        version, content = self._documents.read(_ARTIFACT + digest)
        if not version:
            raise MissingError("NOT_FOUND", f"no artifact {digest}", digest=digest)
        if hashlib.sha256(content).hexdigest() != digest:
            raise StorageError(
                "STORE_CORRUPT", f"artifact {digest} no longer has its digest", hint="push the model again"
            )
        return content

    def remove_damaged(self, digest: str) -> None:
        """See `Blobs.remove_damaged`."""
        with self._database.write() as connection:
            connection.execute(_REMOVE, {"of": _ARTIFACT + digest})


def _named(name: str) -> dict[str, object]:
    return {"tenant": ALL, "name": name}


def _read(connection: Connection, name: str) -> tuple[int, bytes]:
    row = connection.execute(_CONTENT, _named(name)).first()
    return (0, b"") if row is None else (int(row.version), bytes(row.content))


_IS = (t.documents.c.tenant == ALL, t.documents.c.name == bindparam("of"))
_NAMED = (t.documents.c.tenant == bindparam("tenant"), t.documents.c.name == bindparam("name"))
_VERSION = select(t.documents.c.version).where(*_NAMED)
_CONTENT = select(t.documents.c.version, t.documents.c.content).where(*_NAMED)
_CHANGE = update(t.documents).where(*_IS)
_REMOVE = delete(t.documents).where(*_IS)
