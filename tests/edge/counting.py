"""A Modbus server that counts: each read of a register gives one more than the last, so that a lost sample shows."""

from __future__ import annotations

import asyncio
import itertools
import struct
from collections import defaultdict


class CountingServer:
    """Answers reads of holding and input registers.

    Attributes:
        port: where.
        connections: numbers of all that were opened, in order.
        open: numbers of those that are.
        reads: register -> how often it was read.
        fixed: register -> value it has instead of its count.
    """

    def __init__(self):
        self.connections = []
        self.open = set()
        self.reads = defaultdict(int)
        self.fixed = {}
        self._numbers = itertools.count(1)
        self.silent = False
        self._happened = asyncio.Event()
        self._writers = set()

    async def until(self, condition):
        """Waits until something is true after a request, a connection or the end of one."""
        async with asyncio.timeout(60):
            while not condition():
                self._happened.clear()
                await self._happened.wait()

    async def start(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def stop(self):
        self._server.close()

    def drop(self):
        """Cuts all connections, as a device that starts anew."""
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader, writer):
        number = next(self._numbers)
        self.connections.append(number)
        self.open.add(number)
        self._writers.add(writer)
        self._happened.set()
        try:
            while True:
                head = await reader.readexactly(7)
                transaction, _, length, unit = struct.unpack(">HHHB", head)
                function, start, count = struct.unpack(">BHH", await reader.readexactly(length - 1))
                if self.silent:
                    continue
                values = []
                for register in range(start, start + count):
                    self.reads[register] += 1
                    values.append(self.fixed.get(register, self.reads[register] & 0xFFFF))
                body = struct.pack(f">BB{count}H", function, 2 * count, *values)
                writer.write(struct.pack(">HHHB", transaction, 0, len(body) + 1, unit) + body)
                await writer.drain()
                self._happened.set()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.open.discard(number)
            self._writers.discard(writer)
            self._happened.set()
            writer.close()
