"""The subscription people write with asyncua: `python -m bench.drivers.opcua_plain PORT VARIABLES`.

One subscription, a handler that keeps the newest value of each variable. Prints `ready` once every variable has come,
and the values so far for each line on its input.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import Any

from asyncua.client.client import Client

from bench.drivers.opcua_server import FIRST_ID, URI

logging.getLogger("asyncua").setLevel(logging.CRITICAL)
BATCH = 500


class Newest:
    """Keeps values by node."""

    def __init__(self, variables: int) -> None:
        self._variables = variables
        self.all = asyncio.Event()
        self.values: dict[Any, tuple[Any, Any]] = {}
        self.count = 0

    def datachange_notification(self, node: Any, value: Any, event: Any) -> None:
        """See the library."""
        self.values[node.nodeid] = value, event.monitored_item.Value.SourceTimestamp
        self.count += 1
        if len(self.values) == self._variables:
            self.all.set()


async def main(port: int, variables: int) -> None:
    """Runs until its input ends."""
    async with Client(f"opc.tcp://127.0.0.1:{port}/", timeout=60, watchdog_intervall=60) as client:
        index = await client.get_namespace_index(URI)
        newest = Newest(variables)
        subscription = await client.create_subscription(500, newest)
        nodes = [client.get_node(f"ns={index};i={FIRST_ID + n}") for n in range(variables)]
        for start in range(0, variables, BATCH):
            await subscription.subscribe_data_change(nodes[start : start + BATCH])
        await newest.all.wait()
        print("ready", flush=True)
        while await asyncio.to_thread(sys.stdin.readline):
            print(newest.count, flush=True)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
