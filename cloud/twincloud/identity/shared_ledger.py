"""The ledger of coordinators that share a database: one document in it, read again once a second.

While the database is away the last reading holds: without it nothing could be asked or committed anyway.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from twincloud.identity.ledger import Content, Ledger, pack_content, unpack_content
from twinmodel.errors import ConflictError, StorageError

if TYPE_CHECKING:
    from twincloud.storage.artifacts import Documents

NAME: Final = "ledger"
TRIES_MAX: Final = 8


class SharedLedger(Ledger):
    """See `Ledger`; what another coordinator or the command line writes is known after the next `refresh`."""

    def __init__(self, documents: Documents) -> None:
        """Reads it; raises StorageError."""
        self._documents = documents
        self._guard = threading.Lock()
        self._version = -1
        self._content = Content()
        self._look()

    def content(self) -> Content:
        """What the last look found."""
        return self._content

    def refresh(self) -> Content:
        """Looks again; what was found before stays while the database is away."""
        with contextlib.suppress(StorageError):
            self._look()
        return self._content

    def _look(self) -> None:
        with self._guard:
            version = self._documents.version(NAME)
            if version != self._version:
                self._version, raw = self._documents.read(NAME)
                self._content = unpack_content(raw, "the ledger in the database") if raw else Content()

    def _change(self, change: Callable[[Content], Content]) -> None:
        """Writes what `change` makes of the newest content; another one's change in between is no error."""
        for _ in range(TRIES_MAX):
            self._look()
            version = max(self._version, 0)
            if self._documents.write(NAME, pack_content(change(self._content)), over=version):
                self._look()
                return
        raise ConflictError("STATE_LOCKED", "the ledger is being changed by others", hint="try again")


@contextlib.contextmanager
def ledger_of(state_dir: Path, database: str) -> Iterator[Ledger]:
    """The ledger of a coordinator for a command: in its database when it has one, else in its directory."""
    if not database:
        yield Ledger(state_dir)
        return
    from twincloud.storage.artifacts import Documents  # noqa: PLC0415 - only where there is a database
    from twincloud.storage.postgres import PostgresDatabase  # noqa: PLC0415 - only where there is a database

    with contextlib.closing(PostgresDatabase(database)) as opened:
        yield SharedLedger(Documents(opened))
