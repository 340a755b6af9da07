"""A process of its own that answers Modbus polls of many hosts: `python -m bench.drivers.modbus_server HOST...`.

Prints its port, then a JSON object with what it saw for each line on its input. Every host has units 1 to 4; unit 4
never answers. Registers hold floats that change with every request.
"""

from __future__ import annotations

import asyncio
import json
import struct
import sys
from itertools import pairwise
from typing import Any

import numpy as np

DEAD_UNIT = 4
PLAIN_UNIT = 9  # the plain loop asks under this number, so that its polls are told from ours
TIMES_MAX = 4096


class Polls:
    """When each unit was asked."""

    def __init__(self) -> None:
        self.times: dict[tuple[str, int], list[float]] = {}
        self.requests = 0

    def facts(self) -> dict[str, Any]:
        """Requests so far, and the intervals of every answering unit since the last call, in seconds."""
        ours = [times for (_, unit), times in self.times.items() if unit not in {DEAD_UNIT, PLAIN_UNIT}]
        intervals = [b - a for times in ours for a, b in pairwise(times)]
        self.times.clear()
        return {"requests": self.requests, "intervals": [round(i, 5) for i in intervals]}


class Device(asyncio.Protocol):
    """One connection; answers whole requests as they come."""

    def __init__(self, polls: Polls) -> None:
        self._polls = polls
        self._buffer = b""
        self._loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._host = transport.get_extra_info("sockname")[0]

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        self._buffer += data
        while len(self._buffer) >= 12:
            transaction, _, _, unit, function, start, count = struct.unpack(">HHHBBHH", self._buffer[:12])
            self._buffer = self._buffer[12:]
            polls = self._polls
            polls.requests += 1
            times = polls.times.setdefault((self._host, unit), [])
            if len(times) < TIMES_MAX:
                times.append(self._loop.time())
            if unit != DEAD_UNIT:
                first = np.float32(polls.requests % 1000)
                values = (first + np.arange(start // 2, (start + count + 1) // 2, dtype=np.float32)).astype(">f4")
                body = values.tobytes()[: 2 * count]
                head = struct.pack(">HHHBBB", transaction, 0, len(body) + 3, unit, function, len(body))
                self._transport.write(head + body)


async def main(hosts: list[str]) -> None:
    """Serves until its input ends."""
    polls = Polls()
    loop = asyncio.get_running_loop()
    first = await loop.create_server(lambda: Device(polls), hosts[0], 0)
    port = first.sockets[0].getsockname()[1]
    others = [await loop.create_server(lambda: Device(polls), host, port) for host in hosts[1:]]
    print(port, flush=True)
    while await asyncio.to_thread(sys.stdin.readline):
        print(json.dumps(polls.facts()), flush=True)
    for server in (first, *others):
        server.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
