"""The agent's local socket: commands of this machine ask the running agent, in one JSON line each way.

    twinedge config reload ─▶ STATE/control.sock ─▶ handler of the name ─▶ answer, or the error with its reason

Whoever may write the state directory may ask; nobody else can open the socket. Handlers run in the agent's event loop.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import structlog

from twinmodel.errors import (
    REASONS,
    ConfigError,
    ConflictError,
    DeniedError,
    InputError,
    MissingError,
    StorageError,
    TwinError,
    UnreachableError,
)

_log = structlog.get_logger(__name__)

SOCKET = "control.sock"
LINE_BYTES_MAX = 1 << 20
ASKING_MAX = 8
"""Connections that are served at once; further ones wait for a place."""
ASK_S = 10.0
"""How long one who has connected may take to say what it wants."""
RETRY_S = 30.0

Body = Mapping[str, Any]
Handler = Callable[[Body], Awaitable[Body]]

_KINDS = {
    kind.__name__: kind
    for kind in (InputError, ConfigError, MissingError, ConflictError, DeniedError, UnreachableError, StorageError)
}


class ControlServer:
    """Answers what commands on this machine ask.

    Args:
        path: where the socket lies; only its owner can open it.

    Attributes:
        listening: set once it can be asked.
    """

    def __init__(self, path: Path) -> None:
        self.listening = asyncio.Event()
        self._path = path
        self._handlers: dict[str, Handler] = {}
        self._places = asyncio.Semaphore(ASKING_MAX)

    def on(self, name: str, handler: Handler) -> None:
        """Has `handler(body)` answer what is asked by this name; the TwinErrors it raises reach who asked."""
        self._handlers[name] = handler

    async def run(self) -> None:
        """Serves until cancelled; where the disk leaves no room for a socket it is tried again."""
        told = False
        while True:
            try:
                listening = _bound(self._path)
            except OSError as error:
                if not told:
                    _log.warning("no local control", path=str(self._path), detail=error.strerror or str(error))
                told = True
                await asyncio.sleep(RETRY_S)
                continue
            server = await asyncio.start_unix_server(self._serve, sock=listening, limit=LINE_BYTES_MAX)
            self.listening.set()
            try:
                await server.serve_forever()
            finally:
                server.close()
                with suppress(OSError):
                    self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with self._places:
                answer = await self._answer(reader)
                try:
                    line = _line(answer)
                except TwinError as error:
                    line = _line(_told(error))
                writer.write(line)
                await writer.drain()
        except (OSError, TimeoutError):
            return  # who asked has gone
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader) -> Body:
        try:
            async with asyncio.timeout(ASK_S):
                asked = json.loads(await reader.readline())
            name, body = asked["ask"], asked["body"]
            handler = self._handlers.get(name) if isinstance(body, dict) else None
        except (ValueError, KeyError, TypeError) as error:
            return _told(InputError("REQUEST_INVALID", f"no question of at most {LINE_BYTES_MAX} bytes: {error}"))
        if handler is None:
            return _told(InputError("REQUEST_INVALID", f"this agent answers no {name!r}", hint="upgrade the older one"))
        try:
            return {"answer": await handler(body)}
        except TwinError as error:
            return _told(error)
        except Exception as error:  # noqa: BLE001 - a defect in one answer must not end the others
            _log.exception("control met a defect", asked=name)
            return _told(ConflictError("INTERNAL", f"{name}: {type(error).__name__}: {error}"))


def ask(state: Path, name: str, body: Body, timeout_s: float = 10.0) -> dict[str, Any]:
    """Asks the agent that runs on a state directory; blocks.

    Raises:
        TwinError: what the handler raised, with its class, reason, hint and facts; AGENT_NOT_RUNNING when no agent
            answers in time.
    """
    try:
        with _short(state / SOCKET) as address, socket.socket(socket.AF_UNIX) as channel:
            channel.settimeout(timeout_s)
            channel.connect(address)
            channel.sendall(_line({"ask": name, "body": body}))
            with channel.makefile("rb") as answers:
                line = answers.readline(LINE_BYTES_MAX + 1)
            answered = json.loads(line)
    except (OSError, ValueError) as silent:
        detail = "no answer in time" if isinstance(silent, TimeoutError) else str(silent)
        raise UnreachableError("AGENT_NOT_RUNNING", f"no agent answers on {state}: {detail}") from silent
    if "error" in answered:
        raise _error(answered["error"])
    found: dict[str, Any] = answered["answer"]
    return found


@contextmanager
def _short(path: Path) -> Iterator[str]:
    """An address of a socket that fits into 108 bytes, however long the path is."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def _bound(path: Path) -> socket.socket:
    """A listening socket for its owner alone; what a killed agent left there goes, as the state directory is locked."""
    path.unlink(missing_ok=True)
    with _short(path) as address:
        channel = socket.socket(socket.AF_UNIX)
        try:
            channel.bind(address)
            path.chmod(0o600)  # before it listens: nobody can have connected
            channel.listen(ASKING_MAX)
        except BaseException:
            channel.close()
            raise
    channel.setblocking(False)
    return channel


def _line(document: Body) -> bytes:
    line = json.dumps(document, separators=(",", ":")).encode() + b"\n"
    if len(line) > LINE_BYTES_MAX:
        raise InputError("LIMIT_EXCEEDED", f"{len(line)} bytes, at most {LINE_BYTES_MAX} at once")
    return line


def _told(error: TwinError) -> Body:
    facts = {name: fact for name, fact in error.facts.items() if isinstance(fact, str | int | float | bool | None)}
    kind = type(error).__name__
    return {
        "error": {"kind": kind, "reason": error.reason, "message": error.message, "hint": error.hint, "facts": facts}
    }


def _error(told: Body) -> TwinError:
    """The error of another process; one that this build does not know stays readable."""
    kind, reason = _KINDS.get(told["kind"], ConflictError), told["reason"]
    if reason not in REASONS:
        return ConflictError("INTERNAL", f"{reason}: {told['message']}", hint=told["hint"])
    return kind(reason, told["message"], hint=told["hint"], **told["facts"])
