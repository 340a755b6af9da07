"""How every command of the project ends and how it speaks to its supervisor: one place for both."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable
from typing import NoReturn

from twinmodel.errors import Exit, TwinError


def end(command: Callable[[], object], *, extra: str) -> NoReturn:
    """Runs a command to its end and exits with the code its outcome has.

    A TwinError becomes `error:` and, after a blank line, `hint:` on stderr. A library that is not installed names the
    extra that brings it.

    Args:
        command: the click command of the program.
        extra: extra of the distribution this program belongs to.
    """
    try:
        command()
    except TwinError as error:
        sys.stderr.write(f"error: {error}\n\nhint: {error.hint}\n")
        sys.exit(error.outcome.exit)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0].startswith("twin"):
            raise
        sys.stderr.write(
            f"error: EXTRA_MISSING: {error.name} is not installed\n\nhint: pip install 'hybridtwin[{extra}]'\n"
        )
        sys.exit(Exit.FAILED)
    except (KeyboardInterrupt, BrokenPipeError):
        sys.exit(Exit.FAILED)
    sys.exit(Exit.OK)


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
