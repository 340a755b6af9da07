"""The control channel of a running simulation: a Unix socket in its state directory, one JSON object a line.

    -> {"do": "list"}
    <- {"ok": true, "devices": [...], "links": [...]}
    -> {"do": "fault", "target": "HX-3", "kind": "stuck", "point": "hot_out", "size": null, "for_s": 30.0}
    <- {"ok": true}
    -> {"do": "check", "target": "HX-3", "kind": "stuck"}      would it be taken? nothing begins
    <- {"ok": true}
    -> {"do": "clear", "target": "HX-3"}
    <- {"ok": true}
    <- {"ok": false, "reason": "UNKNOWN_DEVICE", "message": "...", "hint": "..."}

A target is a device or a link; `kind` is a fault of `faults.FaultKind` or a mode of `link.LinkMode`; for the link mode
`delay`, `size` is the delay in seconds. The socket's mode 0600 keeps other users out.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

from twinmodel.errors import REASONS, ConflictError, InputError, TwinError, UnreachableError
from twinsim.background import Background

SOCKET_NAME = "control.sock"
LINE_MAX_BYTES = 64 << 10
ANSWER_MAX_BYTES = 64 << 20
IDLE_S = 60.0
TIMEOUT_S = 10.0
PATH_MAX = 100

Order = Mapping[str, Any]
Obey = Callable[[Order], dict[str, Any]]


@contextmanager
def _address(state: Path) -> Iterator[str]:
    """Path of the socket, through the directory's descriptor where it is too long for the kernel (108 bytes)."""
    path = str(state / SOCKET_NAME)
    if len(os.fsencode(path)) <= PATH_MAX:
        yield path
        return
    folder = os.open(state, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{SOCKET_NAME}"
    finally:
        os.close(folder)


@asynccontextmanager
async def control_channel(state: Path, obey: Obey, tasks: Background) -> AsyncIterator[None]:
    """Takes orders while the context is open; `obey` answers one or raises TwinError.

    Raises:
        ConflictError: STATE_LOCKED when another simulation answers in the same directory.
    """

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.start(_converse(reader, writer, obey), "control connection")

    with _address(state) as path:
        if _answers(path):
            raise ConflictError("STATE_LOCKED", f"another simulation runs in {state}", path=str(state))
        (state / SOCKET_NAME).unlink(missing_ok=True)
        server = await asyncio.start_unix_server(accept, path, limit=LINE_MAX_BYTES)
    (state / SOCKET_NAME).chmod(0o600)
    try:
        yield
    finally:
        server.close()
        (state / SOCKET_NAME).unlink(missing_ok=True)


def _answers(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(path)
        except OSError:
            return False
        return True


async def _converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, obey: Obey) -> None:
    """Answers the lines of one connection until it ends or is silent for a minute."""
    try:
        with suppress(OSError, ValueError, TimeoutError):  # the client went away or sent no line
            while True:
                async with asyncio.timeout(IDLE_S):
                    line = await reader.readline()
                if not line:
                    break
                writer.write(json.dumps(_answer(line, obey)).encode() + b"\n")
                await writer.drain()
    finally:
        writer.close()


def _answer(line: bytes, obey: Obey) -> dict[str, Any]:
    try:
        order = json.loads(line)
        if not isinstance(order, dict):
            raise InputError("REQUEST_INVALID", "an order is a JSON object")
        return {"ok": True, **obey(order)}
    except TwinError as refused:
        return {"ok": False, "reason": refused.reason, "message": refused.message, "hint": refused.hint}
    except ValueError:
        return {"ok": False, "reason": "REQUEST_INVALID", "message": "an order is one line of JSON", "hint": ""}


def send_order(state: Path, order: Order) -> dict[str, Any]:
    """Sends one order to the simulation that runs in `state` and returns its answer; blocks up to 10 s.

    Raises:
        UnreachableError: DEVICE_UNREACHABLE when no simulation runs there.
        TwinError: with the reason the simulation gave.
    """
    with socket.socket(socket.AF_UNIX) as channel:
        channel.settimeout(TIMEOUT_S)
        try:
            with _address(state) as path:
                channel.connect(path)
            channel.sendall(json.dumps(order).encode() + b"\n")
            with channel.makefile("rb") as lines:
                answer = json.loads(lines.readline(ANSWER_MAX_BYTES) or b"{}")
        except (OSError, ValueError) as silent:
            raise UnreachableError(
                "DEVICE_UNREACHABLE",
                f"no simulation answers in {state}",
                hint="start one with `twinsim run all --state DIR`, and name the same DIR",
                path=str(state),
            ) from silent
    if not answer.get("ok"):
        reason = answer.get("reason", "REQUEST_INVALID")
        raise TwinError(
            reason if reason in REASONS else "REQUEST_INVALID",
            answer.get("message", "the simulation refused"),
            hint=answer.get("hint") or None,
        )
    answer.pop("ok")
    return dict(answer)
