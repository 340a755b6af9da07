"""Modbus TCP sessions: a proxy that keeps what passes, and a server that says it again."""

from __future__ import annotations

import asyncio
import struct
from bisect import bisect_right
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from twinmodel.clock import SECOND_NS, Clock
from twinmodel.errors import ConflictError
from twinsim.background import Background
from twinsim.recording.file import Recorder, Recording

_HEAD = struct.Struct(">HHH")
PENDING_MAX = 256
FRAME_MAX = 260
ILLEGAL_ADDRESS = 2


@asynccontextmanager
async def recording_proxy(
    recorder: Recorder, target: tuple[str, int], tasks: Background, *, host: str = "127.0.0.1", port: int = 0
) -> AsyncIterator[int]:
    """Leads clients to a device and records requests with their replies; yields its port.

    Raises:
        ConflictError: PORT_IN_USE.
    """
    sessions = iter(range(1, 1 << 62))

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.start(_pass(recorder, target, next(sessions), reader, writer), "recorded connection")

    async with _listening(accept, host, port) as found:
        yield found


async def _pass(
    recorder: Recorder,
    target: tuple[str, int],
    session: int,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
) -> None:
    pending: dict[int, tuple[int, bytes]] = {}
    try:
        far_reader, far_writer = await asyncio.open_connection(*target)
    except OSError:
        writer.transport.abort()
        return

    async def ask() -> None:
        while (frame := await _frame(reader)) is not None:
            transaction, body = frame
            if len(pending) >= PENDING_MAX:
                _unanswered(recorder, session, pending, next(iter(pending)))
            if transaction in pending:
                _unanswered(recorder, session, pending, transaction)
            pending[transaction] = recorder.now_ns(), body
            far_writer.write(_HEAD.pack(transaction, 0, len(body)) + body)
            await far_writer.drain()

    async def say() -> None:
        while (frame := await _frame(far_reader)) is not None:
            transaction, body = frame
            asked = pending.pop(transaction, None)
            if asked is not None:
                took = recorder.now_ns() - asked[0]
                event = {"c": session, "ask": asked[1].hex(), "say": body.hex(), "took": took}
                recorder.add(event, asked[0])
            writer.write(_HEAD.pack(transaction, 0, len(body)) + body)
            await writer.drain()

    try:
        with suppress(OSError, asyncio.IncompleteReadError):
            async with asyncio.TaskGroup() as both:
                ways = [both.create_task(ask(), name="asking"), both.create_task(say(), name="answering")]
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
                for way in ways:
                    way.cancel()
    finally:
        for transaction in tuple(pending):
            _unanswered(recorder, session, pending, transaction)
        far_writer.transport.abort()
        writer.transport.abort()


def _unanswered(recorder: Recorder, session: int, pending: dict[int, tuple[int, bytes]], transaction: int) -> None:
    at_ns, body = pending.pop(transaction)
    took = recorder.now_ns() - at_ns
    recorder.add({"c": session, "ask": body.hex(), "say": None, "took": took}, at_ns)


async def _frame(reader: asyncio.StreamReader) -> tuple[int, bytes] | None:
    """Transaction, and unit with PDU; None at the end and for what is no Modbus."""
    try:
        transaction, protocol, length = _HEAD.unpack(await reader.readexactly(6))
        if protocol or not 2 <= length <= FRAME_MAX:
            return None
        return transaction, await reader.readexactly(length)
    except (asyncio.IncompleteReadError, OSError):
        return None


class Answers:
    """What the recorded device said to each request, by time.

    A request is answered as it was at this time of the recording: by the latest reply to the same request so far, or
    the first one to come. A read that was never recorded is put together of registers that others hold, else refused
    as an illegal address. After its end the recording begins anew.
    """

    def __init__(self, recording: Recording, speed: float) -> None:
        self._speed = speed
        self._said: dict[bytes, tuple[list[int], list[tuple[bytes | None, int]]]] = {}
        self.length_ns = max((int(e["at"]) + int(e["took"]) for e in recording.events), default=0) + 1
        for event in recording.events:
            times, replies = self._said.setdefault(bytes.fromhex(event["ask"]), ([], []))
            times.append(int(event["at"]))
            replies.append((None if event["say"] is None else bytes.fromhex(event["say"]), int(event["took"])))

    def find(self, ask: bytes, elapsed_ns: int) -> tuple[bytes | None, float]:
        """The reply (None for silence) and how long it takes in seconds, at a time since the replay began."""
        at_ns = round(elapsed_ns * self._speed) % self.length_ns
        found = self._said.get(ask)
        if found is None:
            return self._composed(ask, at_ns), 0.0
        reply, took_ns = found[1][_latest(found[0], at_ns)]
        return reply, took_ns / SECOND_NS / self._speed

    def _composed(self, ask: bytes, at_ns: int) -> bytes:
        refused = ask[:1] + bytes((ask[1] | 0x80, ILLEGAL_ADDRESS))
        if ask[1] not in {3, 4} or len(ask) != 6:
            return refused
        start, count = struct.unpack(">HH", ask[2:])
        cells: dict[int, bytes] = {}
        for other, (times, replies) in self._said.items():
            if other[:2] != ask[:2] or len(other) != 6:
                continue
            reply = replies[_latest(times, at_ns)][0]
            first, held = struct.unpack(">HH", other[2:])
            if reply is not None and reply[1] == ask[1] and len(reply) == 3 + 2 * held:
                cells |= {first + i: reply[3 + 2 * i : 5 + 2 * i] for i in range(held)}
        if not 1 <= count <= 125 or any(start + i not in cells for i in range(count)):
            return refused
        return ask[:2] + bytes((2 * count,)) + b"".join(cells[start + i] for i in range(count))


def _latest(times: list[int], at_ns: int) -> int:

    return max(0, bisect_right(times, at_ns) - 1)


@asynccontextmanager
async def replaying_server(
    recording: Recording,
    clock: Clock,
    tasks: Background,
    *,
    speed: float = 1.0,
    host: str = "127.0.0.1",
    port: int = 0,
) -> AsyncIterator[int]:
    """Serves a recording as the device it was made of; yields its port.

    Raises:
        ConflictError: PORT_IN_USE.
    """
    answers, start_ns = Answers(recording, speed), clock.boot_ns()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(OSError):
                while (frame := await _frame(reader)) is not None:
                    transaction, body = frame
                    reply, took_s = answers.find(body, clock.boot_ns() - start_ns)
                    if reply is None:
                        continue
                    await asyncio.sleep(took_s)
                    writer.write(_HEAD.pack(transaction, 0, len(reply)) + reply)
                    await writer.drain()
        finally:
            writer.transport.abort()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.start(serve(reader, writer), "replayed connection")

    async with _listening(accept, host, port) as found:
        yield found


@asynccontextmanager
async def _listening(accept: object, host: str, port: int) -> AsyncIterator[int]:
    try:
        server = await asyncio.start_server(accept, host, port)  # type: ignore[arg-type]  # a plain function will do
    except OSError as refused:
        raise ConflictError("PORT_IN_USE", f"cannot listen on {host}:{port} for modbus", port=port) from refused
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
