"""One process a state directory: a lock the kernel lets go when its holder dies."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

from twinedge.spool.failure import storage_error
from twinmodel.errors import ConflictError

_FILE = "lock"


def locked(state_dir: Path) -> int:
    """Takes the state directory for this process; returns the descriptor that holds it until it is closed.

    Raises:
        ConflictError: STATE_LOCKED while another process has it.
        StorageError: when the directory cannot be made.
    """
    try:
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = _opened(state_dir)
    except OSError as error:
        raise storage_error(error, state_dir / _FILE) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        raise ConflictError("STATE_LOCKED", f"{state_dir} is used by another process", path=str(state_dir)) from error
    return lock


def _opened(state_dir: Path) -> int:
    """The lock's file; where a disk that takes nothing lacks it, the folder stands for it."""
    try:
        return os.open(state_dir / _FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno not in {errno.EROFS, errno.ENOSPC, errno.EDQUOT}:
            raise
    try:
        return os.open(state_dir / _FILE, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return os.open(state_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
