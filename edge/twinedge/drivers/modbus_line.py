"""One connection to Modbus units, and whose turn it is on it.

    ask ─▶ turn (first come, first served) ─▶ send ─▶ reply that fits ─▶ Answer
                 ▲                              └── nothing in time ─▶ SilentError
                 └── given up early on TCP, when a silent unit would keep others waiting

What becomes a value was checked: on TCP the transaction number tells late replies from those asked for. Serial
frames have no number, so after a silence whatever arrives is thrown away until the line is quiet, and so is the
first reply of the unit that was silent: it may answer the request before.
"""

from __future__ import annotations

import asyncio
import importlib
from dataclasses import dataclass

from twinedge.config.address import ModbusAddress
from twinedge.drivers.modbus_frame import (
    Answer,
    FramingError,
    Malformed,
    Request,
    read_answer,
    tcp_frame,
    tcp_replies,
)
from twinedge.drivers.modbus_serial import open_serial, silence_s, transmission_s
from twinedge.ports import Permit
from twinmodel.clock import Clock

BUFFER_MAX = 4096
PATIENCE_LEAST_S = 0.02
PATIENCE_REPLIES = 4
"""How many times the slowest usual reply others wait for a silent unit on TCP."""
PROBE_SHARE = 4
"""A unit known to be silent may hold the line for a fifth of the time: four times as long nobody tries another."""
FLUSH_MAX_S = 1.0
REQUEST_AND_FRAME = 16
"""Bytes of a serial request and of what frames a reply."""


class SilentError(Exception):
    """The unit gave no reply that can be used; it counts as away."""


class LineLostError(Exception):
    """The connection is gone, and with it all units behind it."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a unit answered, and the wall time of its arrival."""

    answer: Answer
    t_ns: int


class _Exchange:
    """A request under way; `passed` once it has let others have their turn."""

    __slots__ = ("deadline_s", "future", "overlaps", "passed", "request", "sent_s", "unit")

    def __init__(self, unit: int, request: Request, future: asyncio.Future[Reply], *, overlaps: bool) -> None:
        self.unit = unit
        self.request = request
        self.future = future
        self.sent_s = 0.0
        self.deadline_s = 0.0
        self.passed = False
        self.overlaps = overlaps


class Line(asyncio.Protocol):
    """One connection.

    Args:
        address: where to.
        clock: stamps replies.
        timeout_s: time a unit has for one reply, without the time its bytes take on a serial line.
        shared: whether several units are behind it.
    """

    def __init__(self, address: ModbusAddress, clock: Clock, timeout_s: float, *, shared: bool) -> None:
        self._address = address
        self._clock = clock
        self._timeout_s = timeout_s
        self._loop = asyncio.get_running_loop()
        self._numbered = address.framing == "tcp"
        self._rtu = None if self._numbered else importlib.import_module("twinedge.drivers.modbus_rtu")
        self._pause_s = silence_s(address) if address.framing == "rtu" else 0.0
        self._turn = asyncio.Lock()
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._pending: dict[int, _Exchange] = {}
        self._transaction = 0
        self._owing: set[int] = set()
        self._overlaps = shared and self._numbered
        self._passed = 0
        self._usual_s = 0.0
        self._heard_s = 0.0
        self._why = "the connection was lost"
        self._watch: asyncio.TimerHandle | None = None
        self.probe_s = 0.0
        self.silent = 0

    @property
    def is_open(self) -> bool:
        """Whether there is a connection."""
        return self._transport is not None

    async def open(self) -> None:
        """Connects. Raises OSError or TimeoutError."""
        if self._address.framing == "rtu":
            open_serial(self._address, self)
            return
        async with asyncio.timeout(self._timeout_s):
            await self._loop.create_connection(lambda: self, self._address.host, self._address.port)

    def close(self, why: str = "the connection was closed") -> None:
        """Drops the connection; requests under way end in LineLostError."""
        if self._transport is not None:
            self._why = why
            self._transport.abort()
            self.connection_lost(None)

    # ---- asking --------------------------------------------------------------------------------------------------

    async def ask(self, unit: int, request: Request, delay_s: float = 0.0) -> Reply:
        """Sends one request in its turn and waits for the reply to it.

        Args:
            unit: unit id.
            request: what to read.
            delay_s: pause that the unit needs after a reply.

        Raises:
            SilentError: no reply that fits in time.
            LineLostError: the connection is gone.
        """
        if unit in self._owing:
            await self._exchange(unit, request, delay_s)
            self._owing.discard(unit)
        return await self._exchange(unit, request, delay_s)

    async def tell(self, unit: int, request: Request, permit: Permit, delay_s: float = 0.0) -> Reply:
        """Sends one request once, in its turn, if the permit passes at that moment; raises as `ask`, and as the permit.

        A unit that owes a reply is asked nothing: its late reply could not be told from the one to this request.
        """
        if unit in self._owing:
            raise SilentError("the unit has not answered the request before")
        return await self._exchange(unit, request, delay_s, permit)

    async def _exchange(self, unit: int, request: Request, delay_s: float, permit: Permit | None = None) -> Reply:
        await self._turn.acquire()
        transport = self._transport
        if transport is None:
            self._turn.release()
            raise LineLostError(self._why)
        if permit is not None:
            try:
                permit()
            except BaseException:
                self._turn.release()
                raise
        exchange = _Exchange(unit, request, self._loop.create_future(), overlaps=self._passed > 0)
        number = self._send(transport, exchange)
        patience = None
        if self._overlaps and not self._passed:
            patience_s = max(PATIENCE_LEAST_S, PATIENCE_REPLIES * self._usual_s)
            patience = self._loop.call_later(patience_s, self._let_pass, exchange)
        flush = False
        try:
            return await exchange.future
        except SilentError:
            flush = not self._numbered
            raise
        finally:
            if patience is not None:
                patience.cancel()
            self._pending.pop(number, None)
            if flush:
                self._owing.add(unit)
                await self._flush()
            self._end_turn(exchange, delay_s)

    def _send(self, transport: asyncio.Transport, exchange: _Exchange) -> int:
        request = exchange.request
        if self._rtu is None:
            self._transaction = number = (self._transaction + 1) & 0xFFFF
            frame = tcp_frame(number, exchange.unit, request.body)
        else:
            number = 0
            self._buffer.clear()
            frame = self._rtu.rtu_frame(exchange.unit, request.body)
        exchange.sent_s = self._loop.time()
        exchange.deadline_s = exchange.sent_s + self._timeout_s
        if self._pause_s:
            exchange.deadline_s += transmission_s(self._address, request.size + REQUEST_AND_FRAME)
        self._pending[number] = exchange
        if self._watch is None:
            self._watch = self._loop.call_at(exchange.deadline_s, self._look)
        transport.write(frame)
        return number

    def _look(self) -> None:
        """Ends what waits for too long; one timer for all requests, as nearly all are answered before it fires."""
        self._watch = None
        now_s = self._loop.time()
        waiting = [e for e in self._pending.values() if not e.future.done()]
        for exchange in waiting:
            if exchange.deadline_s <= now_s:
                self._expire(exchange)
        later = [e.deadline_s for e in waiting if e.deadline_s > now_s]
        if later:
            self._watch = self._loop.call_at(min(later), self._look)

    def _expire(self, exchange: _Exchange) -> None:
        self.silent += 1
        if exchange.overlaps:
            self._overlaps = False  # the device may not take a request before it has answered the one before
        text = f"no reply to {exchange.request.place} in {self._timeout_s:g} s"
        if self._buffer and not self._numbered:
            text = f"no whole reply to {exchange.request.place}: {len(self._buffer)} bytes"
        exchange.future.set_exception(SilentError(text))

    def _let_pass(self, exchange: _Exchange) -> None:
        """Lets the next one send although this one waits: on TCP, replies bear the number of their request."""
        if self._overlaps and not self._passed and not exchange.future.done():
            exchange.passed = True
            self._passed += 1
            self._charge(exchange)
            self._turn.release()

    def _end_turn(self, exchange: _Exchange, delay_s: float) -> None:
        if exchange.passed:
            self._passed -= 1
            return
        self._charge(exchange)
        pause_s = max(delay_s, self._pause_s)
        if pause_s > 0:
            self._loop.call_later(pause_s, self._turn.release)
        else:
            self._turn.release()

    def _charge(self, exchange: _Exchange) -> None:
        now_s = self._loop.time()
        self.probe_s = now_s + PROBE_SHARE * (now_s - exchange.sent_s)

    async def _flush(self) -> None:
        """Waits until a serial line has been quiet for a while; what arrives meanwhile is thrown away."""
        quiet_s = max(4 * self._pause_s, 0.01)
        end_s = self._loop.time() + FLUSH_MAX_S
        while self._transport is not None and self._loop.time() < end_s:
            waited_s = self._loop.time() - self._heard_s
            if waited_s >= quiet_s:
                break
            await asyncio.sleep(quiet_s - waited_s)
        self._buffer.clear()

    # ---- hearing -------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        assert isinstance(transport, asyncio.Transport), "both ways of connecting give one"
        self._transport = transport
        self._buffer.clear()
        self._owing.clear()
        self.silent = 0

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        if self._transport is None:
            return
        self._transport = None
        if self._watch is not None:
            self._watch.cancel()
        self._why = str(exc) if exc is not None and str(exc) else self._why
        for exchange in self._pending.values():
            if not exchange.future.done():
                exchange.future.set_exception(LineLostError(self._why))

    def eof_received(self) -> bool:
        """See `asyncio.Protocol`."""
        self._why = "the other side closed the connection"
        return False

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        t_ns = self._clock.wall_ns()
        self._heard_s = self._loop.time()
        self._buffer += data
        if not self._numbered:
            self._hear_serial(t_ns)
            return
        try:
            for number, unit, body in tcp_replies(self._buffer):
                exchange = self._pending.get(number)
                if exchange is not None:  # else it is late, or nobody's
                    self._hear(exchange, unit, body, t_ns)
        except FramingError as wrong:
            self.close(str(wrong))

    def _hear_serial(self, t_ns: int) -> None:
        exchange = self._pending.get(0)
        if self._rtu is None or exchange is None or exchange.future.done() or len(self._buffer) > BUFFER_MAX:
            self._buffer.clear()
            return
        body = self._rtu.rtu_reply(self._buffer, exchange.unit, exchange.request.function)
        if body is not None:
            self._buffer.clear()
            self._hear(exchange, exchange.unit, body, t_ns)

    def _hear(self, exchange: _Exchange, unit: int, body: bytes, t_ns: int) -> None:
        if exchange.future.done():
            return
        took_s = self._heard_s - exchange.sent_s
        self._usual_s = max(took_s, 0.98 * self._usual_s) if not exchange.passed else self._usual_s
        self.silent = 0
        answer = read_answer(body, exchange.request)
        if unit != exchange.unit:
            answer = Malformed(f"unit {unit} answers where {exchange.unit} was asked")
        exchange.future.set_result(Reply(answer, t_ns))
