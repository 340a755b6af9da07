"""The durable ledger of commands: what is not in it was never told to a device.

One row a command in a small SQLite file of its own, each write synced before it returns. A device is told only after
the row that says so is on the disk; a row without an end is a command that the agent did not live to see through.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apsw
import structlog

from twinedge.commands.book import Entry
from twinedge.spool.failure import storage_error
from twinmodel.errors import StorageError
from twinsync.command import Command, CommandKind, CommandState, CommandStep

FILE = "commands.db"
BUSY_MS = 2000
_log = structlog.get_logger(__name__)
_SCHEMA = """
CREATE TABLE IF NOT EXISTS commands (
  number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, entry TEXT NOT NULL
)
"""


class Ledger:
    """The file; one thread calls it.

    Args:
        folder: state directory of the agent.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._db: apsw.Connection | None = None

    def load(self) -> list[Entry]:
        """All entries, oldest first; a file that is damaged is set aside, and told.

        Raises:
            StorageError: COMMAND_LEDGER_UNAVAILABLE while the disk refuses.
        """
        try:
            with self._opened() as db:
                return [_entry(text) for (text,) in db.execute("SELECT entry FROM commands ORDER BY number")]
        except (StorageError, ValueError, LookupError) as broken:
            damaged = not isinstance(broken, StorageError) or broken.facts.get("cause") == "STORE_CORRUPT"
            if not damaged:
                raise
            self._set_aside(str(broken))
            with self._opened():
                return []

    def put(self, entry: Entry, forget: Sequence[str] = ()) -> None:
        """Makes an entry durable, and forgets others.

        Raises:
            StorageError: COMMAND_LEDGER_UNAVAILABLE; nothing has changed then.
        """
        with self._opened() as db, db:
            db.execute(
                "INSERT INTO commands(id, entry) VALUES (?, ?) ON CONFLICT(id) DO UPDATE SET entry = excluded.entry",
                (entry.command.id, _text(entry)),
            )
            db.executemany("DELETE FROM commands WHERE id = ?", [(name,) for name in forget])

    def close(self) -> None:
        """Closes the file."""
        db, self._db = self._db, None
        if db is not None:
            db.close(True)

    @contextmanager
    def _opened(self) -> Iterator[apsw.Connection]:
        try:
            if self._db is None:
                self._db = _open(self._path)
            yield self._db
        except (apsw.Error, OSError) as error:
            found = storage_error(error, self._path)
            self.close()
            text = f"the ledger of commands: {found.message}"
            raise StorageError("COMMAND_LEDGER_UNAVAILABLE", text, cause=found.reason) from error

    def _set_aside(self, why: str) -> None:
        self.close()
        _log.error("ledger of commands is damaged, set aside", path=str(self._path), detail=why)
        for suffix in ("", "-journal"):
            path = self._path.with_name(FILE + suffix)
            if path.exists():
                path.replace(path.with_name(path.name + ".damaged"))


def read_ledger(folder: Path) -> list[Entry]:
    """The entries of an agent that may run at this moment, oldest first; none where nothing was ever commanded.

    Raises:
        StorageError: COMMAND_LEDGER_UNAVAILABLE.
    """
    path = folder / FILE
    if not path.exists():
        return []
    try:
        db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
        try:
            db.set_busy_timeout(BUSY_MS)
            return [_entry(text) for (text,) in db.execute("SELECT entry FROM commands ORDER BY number")]
        finally:
            db.close(True)
    except apsw.Error as error:
        found = storage_error(error, path)
        raise StorageError("COMMAND_LEDGER_UNAVAILABLE", found.message, cause=found.reason) from error


def _open(path: Path) -> apsw.Connection:
    db = apsw.Connection(str(path))
    path.chmod(0o600)
    db.set_busy_timeout(BUSY_MS)
    # A reader of another process finds a whole file at any moment, and no log beside it to be lost.
    db.execute("PRAGMA journal_mode = DELETE").fetchall()
    db.execute("PRAGMA synchronous = EXTRA").fetchall()
    if db.execute("PRAGMA synchronous").fetchall() != [(3,)]:
        raise OSError("this SQLite does not sync")
    db.execute(_SCHEMA)
    return db


def _text(entry: Entry) -> str:
    command, state = entry.command, entry.state
    return json.dumps(
        {
            "id": command.id,
            "session": command.session,
            "kind": int(command.kind),
            "target": command.target,
            "arguments": command.arguments,
            "left_ns": command.left_ns,
            "issued_ns": command.issued_ns,
            "by": command.by,
            "approved_by": command.approved_by,
            "taken_ns": entry.taken_ns,
            "begun_ns": entry.begun_ns,
            "machine": entry.machine,
            "before": entry.before,
            "step": int(state.step),
            "reason": state.reason,
            "detail": state.detail,
            "read_back": state.read_back,
            "at_ns": state.at_ns,
            "steps": entry.steps,
            "confirmed": entry.confirmed,
        }
    )


def _entry(text: str) -> Entry:
    row: dict[str, Any] = json.loads(text)
    command = Command(
        row["id"],
        row["session"],
        CommandKind(row["kind"]),
        row["target"],
        row["arguments"],
        row["left_ns"],
        row["issued_ns"],
        row["by"],
        tuple(row["approved_by"]),
    )
    state = CommandState(
        row["id"], CommandStep(row["step"]), row["reason"], row["detail"], row["read_back"], row["at_ns"]
    )
    steps = tuple((at_ns, name, reason) for at_ns, name, reason in row["steps"])
    return Entry(
        command, row["taken_ns"], state, row["begun_ns"], row["machine"], row["before"], steps, row["confirmed"]
    )  # fmt: skip
