"""What PostgreSQL says went wrong, in the words of the registry of reasons."""

from __future__ import annotations

from typing import Final

import psycopg

from twinmodel.errors import ConflictError, StorageError, TwinError

_UNAVAILABLE: Final = "STORE_UNAVAILABLE"

_REASONS: Final = {
    "53100": "STORE_FULL",  # disk_full
    "58030": "STORE_SYNC_FAILED",  # io_error
    "25006": "STORE_READ_ONLY",  # read_only_sql_transaction
    "XX001": "STORE_CORRUPT",  # data_corrupted
    "XX002": "STORE_CORRUPT",  # index_corrupted
}
_CLASSES: Final = {
    "08": _UNAVAILABLE,  # connection exception
    "53": _UNAVAILABLE,  # insufficient resources: memory, connections
    "57": _UNAVAILABLE,  # operator intervention: shut down, starting up, cancelled
    "25": _UNAVAILABLE,  # idle in transaction for too long
    "28": "STATE_INVALID",  # authentication
    "3D": "STATE_INVALID",  # no such database
    "42": "STATE_INVALID",  # no such table, no right to it
}
_LOCKED: Final = {"55P03", "40P01", "40001"}
_HINTS: Final = {
    _UNAVAILABLE: "see that the database server runs and can be reached; gateways wait and nothing is lost",
    "STORE_FULL": "free disk space of the database server; gateways keep their samples and all goes on by itself",
    "STORE_SYNC_FAILED": "check the disk of the database server",
    "STORE_CORRUPT": "stop twincloud and restore the newest backup; see docs/runbook.md",
    "STORE_READ_ONLY": "the server is a standby or read only: name the primary in `database:`",
    "STATE_INVALID": "check `database:`, user and password; `twincloud init --database URL` makes tables and rights",
}


def error_of(error: BaseException | None, place: str) -> TwinError:
    """The error to raise for one of the driver.

    Args:
        error: psycopg's; its text never holds the password.
        place: host, port and name of the database.
    """
    code = getattr(error, "sqlstate", None) or ""
    text = " ".join(str(error).split())
    if code in _LOCKED:
        return ConflictError("STATE_LOCKED", f"{place} is locked: {text}", hint="try again", path=place)
    reason = _REASONS.get(code) or _CLASSES.get(code[:2]) or ""
    if not reason:
        # Without a code the server has not answered: the connection is broken, or was never made.
        lost = isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError)) and not code
        reason = _UNAVAILABLE if lost else "STATE_INVALID"
        if lost and "password" in text:
            reason = "STATE_INVALID"
    return StorageError(reason, f"{place}: {text}", hint=_HINTS[reason], path=place)
