"""An MQTT broker for simulated devices: mosquitto where it is installed, else amqtt, as a child on loopback.

mosquitto keeps sessions and queued messages on disk and takes back a client that was away for long: a minute of a
hundred devices fits many times into its limits. amqtt speaks 3.1.1 only and delivers nothing to a returning session.
The child ends with this process, even when this process is killed (Linux), and not before it: an interrupt from the
terminal does not reach it, so that devices can say good-bye.
"""

from __future__ import annotations

import asyncio
import ctypes
import importlib.util
import json
import os
import pwd
import shutil
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Literal

from twinmodel.errors import ConflictError

Brand = Literal["mosquitto", "amqtt"]
QUEUED_MAX = 1_000_000
INFLIGHT_MAX = 1000
START_TIMEOUT_S = 15.0
STOP_TIMEOUT_S = 5.0
_PR_SET_PDEATHSIG = 1


def find_mosquitto() -> str | None:
    """Path of mosquitto, also where it lies outside of PATH as on Debian."""
    return shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")


def choose_brand() -> Brand:
    """The broker this machine has.

    Raises:
        ConflictError: EXTRA_MISSING when there is none.
    """
    if find_mosquitto():
        return "mosquitto"
    if importlib.util.find_spec("amqtt") is not None:
        return "amqtt"
    raise ConflictError(
        "EXTRA_MISSING", "no MQTT broker is installed", hint="install mosquitto, or `pip install hybridtwin[sim]`"
    )


@asynccontextmanager
async def broker(port: int, state: Path, brand: Brand | None = None) -> AsyncIterator[str]:
    """Runs a broker on loopback and yields its URL, `mqtt://127.0.0.1:PORT`; its files lie in `state`.

    Args:
        port: to listen on, 0 for any that is free.
        state: directory for configuration, log and queued messages.
        brand: which broker; None takes what is installed, mosquitto first.

    Raises:
        ConflictError: PORT_IN_USE, or EXTRA_MISSING when no broker is installed or it does not start.
    """
    brand = brand or choose_brand()
    port = _claim(port)
    command = _mosquitto(port, state) if brand == "mosquitto" else _amqtt(port, state)
    with (state / f"{brand}.log").open("ab") as log:
        child = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=_dies_with_parent(),
        )
    try:
        await _accepting(child, port, brand, state)
        yield f"mqtt://127.0.0.1:{port}"
    finally:
        await _end(child)


def _claim(port: int) -> int:
    """Checks that a port is free, or finds one; the child binds it a moment later."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as refused:
            raise ConflictError("PORT_IN_USE", f"cannot listen on 127.0.0.1:{port} for mqtt", port=port) from refused
        found: int = probe.getsockname()[1]
        return found


def _mosquitto(port: int, state: Path) -> list[str]:
    folder = state / "mosquitto"
    folder.mkdir(exist_ok=True)
    # Started as root it would change to a user of its own, who may not write into the state directory.
    lines = [
        f"user {pwd.getpwuid(os.getuid()).pw_name}",
        f"listener {port} 127.0.0.1",
        "allow_anonymous true",
        "persistence true",
        f"persistence_location {folder}/",
        "autosave_interval 5",
        f"max_queued_messages {QUEUED_MAX}",
        "max_queued_bytes 0",
        f"max_inflight_messages {INFLIGHT_MAX}",
        "log_dest stderr",
        "log_type error",
        "log_type warning",
    ]
    path = state / "mosquitto.conf"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return [find_mosquitto() or "mosquitto", "-c", str(path)]


def _amqtt(port: int, state: Path) -> list[str]:
    plugins = {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}}
    settings = {"listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{port}"}}, "plugins": plugins}
    path = state / "amqtt.yaml"
    path.write_text(json.dumps(settings), encoding="utf-8")  # JSON is YAML, and needs no quoting rules
    return [sys.executable, "-W", "ignore", "-m", "amqtt.scripts.broker_script", "-c", str(path)]


def _dies_with_parent() -> Callable[[], object] | None:
    """Asks the kernel to end the child when this process ends in any way."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl  # loaded before the fork: little is safe after it
    return lambda: prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


async def _accepting(child: asyncio.subprocess.Process, port: int, brand: str, state: Path) -> None:
    """Waits until the child accepts connections."""
    with suppress(TimeoutError):
        async with asyncio.timeout(START_TIMEOUT_S):
            while child.returncode is None:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                except OSError:
                    await asyncio.sleep(0.02)
                    continue
                writer.close()
                with suppress(OSError):
                    await writer.wait_closed()
                return
    log = state / f"{brand}.log"
    raise ConflictError("EXTRA_MISSING", f"{brand} did not start; see {log}", hint=f"read {log}", path=str(log))


async def _end(child: asyncio.subprocess.Process) -> None:
    if child.returncode is not None:
        return
    child.terminate()
    try:
        async with asyncio.timeout(STOP_TIMEOUT_S):
            await child.wait()
    except TimeoutError:
        child.kill()
        await child.wait()
