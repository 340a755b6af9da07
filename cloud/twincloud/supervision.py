"""What a supervisor such as systemd is told: ready, stopping, still alive."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Mapping

MICROSECONDS = 1_000_000


def notify(state: str, environ: Mapping[str, str] | None = None) -> None:
    """Sends a line such as `READY=1` to $NOTIFY_SOCKET; without a supervisor it does nothing.

    A supervisor that does not listen any more is no reason to fail.
    """
    address = (os.environ if environ is None else environ).get("NOTIFY_SOCKET", "")
    if not address:
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        sender.connect("\0" + address[1:] if address.startswith("@") else address)
        sender.sendall(state.encode())


def watchdog_period_s(environ: Mapping[str, str] | None = None) -> float | None:
    """How often to say WATCHDOG=1: half of what the supervisor allows, None when it does not watch."""
    text = (os.environ if environ is None else environ).get("WATCHDOG_USEC", "")
    return int(text) / MICROSECONDS / 2 if text.isdecimal() and int(text) > 0 else None
