"""How every command of the project ends and how it speaks to its supervisor: one place for both."""

from __future__ import annotations

import gc
import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import NoReturn

from twinmodel.errors import ConflictError, Exit, TwinError


def outcome(command: Callable[[], object], *, extra: str) -> int:
    """Runs a command to its end; the exit code its outcome has.

    A TwinError becomes `error:` and, after a blank line, `hint:` on stderr. A library that is not installed names the
    extra that brings it.

    Args:
        command: the click command of the program.
        extra: extra of the distribution this program belongs to.
    """
    try:
        command()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else Exit.OK if ended.code is None else Exit.FAILED
    except TwinError as error:
        return _told(error)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        # A module of ours, or one that is installed, is a defect and not a missing extra.
        if not missing or missing.startswith("twin") or find_spec(missing) is not None:
            raise
        hint = f"pip install 'hybridtwin[{extra}]'"
        return _told(ConflictError("EXTRA_MISSING", f"the module {missing} is not installed", hint=hint))
    except (KeyboardInterrupt, BrokenPipeError):
        return Exit.FAILED
    return Exit.OK


def end(command: Callable[[], object], *, extra: str) -> NoReturn:
    """Runs a command and ends the process with its `outcome`."""
    sys.exit(outcome(command, extra=extra))


@contextmanager
def loading() -> Iterator[None]:
    """Imports what a program runs with: the garbage collector does not walk modules as they come, nor ever after.

    Modules stay until the process ends, so that looking for garbage among them is work for nothing: a tenth of a start,
    and a pause of a gateway's loop each time later.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if collects:
            gc.enable()


def _told(error: TwinError) -> int:
    sys.stderr.write(f"error: {error}\n\nhint: {error.hint}\n")
    return error.outcome.exit


def notify(state: str) -> bool:
    """Sends a state such as `READY=1` or `WATCHDOG=1` to systemd; False when nothing supervises this process.

    Source: sd_notify(3). The socket may lie in the file system or in the abstract name space.
    """
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
            channel.connect(address)
            channel.sendall(state.encode())
    except OSError:
        return False
    return True


def watchdog_period_s() -> float | None:
    """Half of the time systemd waits for `WATCHDOG=1` before it restarts the process; None without a watchdog."""
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    if not microseconds.isdigit() or os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    return int(microseconds) / 2e6
