"""One process a state directory: a lock the kernel lets go when its holder dies."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from twinedge.spool.failure import storage_error
from twinmodel.errors import ConflictError


def locked(state_dir: Path) -> int:
    """Takes the state directory for this process; returns the descriptor that holds it until it is closed.

    The folder itself is locked: a file in it could not be made on a full disk, and would be another lock later.

    Raises:
        ConflictError: STATE_LOCKED while another process has it.
        StorageError: when the directory cannot be made.
    """
    try:
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(state_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise storage_error(error, state_dir) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        raise ConflictError("STATE_LOCKED", f"{state_dir} is used by another process", path=str(state_dir)) from error
    return lock
