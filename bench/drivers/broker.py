"""A mosquitto of a bench's own on a free port of loopback; it keeps nothing on disk."""

from __future__ import annotations

import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.drivers.process import until
from twinsim.serve.broker import find_mosquitto

STOP_S = 10.0


@contextmanager
def mosquitto(*settings: str) -> Iterator[int]:
    """Runs one until the end of the block; its port.

    Args:
        settings: further lines of its configuration.
    """
    with tempfile.TemporaryDirectory() as name:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port: int = free.getsockname()[1]
        config = Path(name) / "mosquitto.conf"
        lines = (*settings, "max_inflight_messages 1000", f"listener {port} 127.0.0.1", "allow_anonymous true")
        config.write_text("\n".join(lines) + "\n")
        command = [find_mosquitto() or "mosquitto", "-c", str(config)]
        running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            until(lambda: _accepts(port))
            yield port
        finally:
            running.terminate()
            running.wait(STOP_S)


def _accepts(port: int) -> bool:
    socket.create_connection(("127.0.0.1", port), 1).close()
    return True
