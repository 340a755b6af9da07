"""A collector as people write it: `python -m bench.edge.peer FILE MODBUS OPCUA MQTT REGISTERS VARIABLES -- HOST...`.

pymodbus, asyncua and aiomqtt side by side in one event loop, values as line protocol with their times into a file that
is flushed to the disk once a second, as Telegraf's inputs and its file output do. No qualities, no models, no delivery.
Prints `ready` once each protocol gave something, then for each line on its input the points written so far.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import struct
import sys
import time
from pathlib import Path
from typing import Any

import aiomqtt
from asyncua.client.client import Client
from pymodbus.client import AsyncModbusTcpClient

from bench.drivers.modbus_server import PLAIN_UNIT
from bench.drivers.opcua_server import FIRST_ID, URI

logging.getLogger("asyncua").setLevel(logging.CRITICAL)
BATCH = 500


class Lines:
    """What waits for the next flush."""

    def __init__(self, path: str) -> None:
        self._file = Path(path).open("ab", buffering=0)  # noqa: SIM115 - closed with the process
        self._waiting: list[str] = []
        self.points = 0
        self.seen: set[str] = set()

    def add(self, protocol: str, line: str, points: int) -> None:
        """One line of some points."""
        self._waiting.append(line)
        self.points += points
        self.seen.add(protocol)

    async def flush(self) -> None:
        """Writes and syncs once a second, for ever."""
        while True:
            await asyncio.sleep(1.0)
            if self._waiting:
                text, self._waiting = "\n".join(self._waiting) + "\n", []
                self._file.write(text.encode())
                await asyncio.to_thread(os.fsync, self._file.fileno())


class Changes:
    """Handler of the subscription."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines

    def datachange_notification(self, node: Any, value: Any, event: Any) -> None:
        """See the library."""
        stamp = event.monitored_item.Value.SourceTimestamp
        t_ns = int(stamp.timestamp() * 1e9) if stamp is not None else time.time_ns()
        self._lines.add("opcua", f"opcua,id={node.nodeid.Identifier} value={float(value)} {t_ns}", 1)


async def poll(lines: Lines, host: str, port: int, points: int, phase_s: float) -> None:
    """Reads all points of one device each second."""
    client = AsyncModbusTcpClient(host, port=port)
    await client.connect()
    due_s = asyncio.get_running_loop().time() + phase_s
    while True:
        await asyncio.sleep(max(due_s - asyncio.get_running_loop().time(), 0))
        reply = await client.read_holding_registers(0, count=2 * points, device_id=PLAIN_UNIT)
        if not reply.isError():
            values = struct.unpack(f">{points}f", struct.pack(f">{2 * points}H", *reply.registers))
            fields = ",".join(f"r{n}={value}" for n, value in enumerate(values))
            lines.add("modbus", f"modbus,host={host} {fields} {time.time_ns()}", points)
        due_s += 1.0


async def subscribe(lines: Lines, port: int, variables: int) -> None:
    """Subscribes to all variables."""
    async with Client(f"opc.tcp://127.0.0.1:{port}/", timeout=60, watchdog_intervall=60) as client:
        index = await client.get_namespace_index(URI)
        subscription = await client.create_subscription(500, Changes(lines))
        nodes = [client.get_node(f"ns={index};i={FIRST_ID + n}") for n in range(variables)]
        for start in range(0, variables, BATCH):
            await subscription.subscribe_data_change(nodes[start : start + BATCH])
        await asyncio.Event().wait()


async def listen(lines: Lines, port: int) -> None:
    """Takes all messages."""
    async with aiomqtt.Client("127.0.0.1", port, identifier="peer") as client:
        await client.subscribe("+/telemetry", 1)
        async for message in client.messages:
            body = json.loads(bytes(message.payload))  # type: ignore[arg-type]  # payloads are bytes
            t_ns = body.pop("t") * 1_000_000
            fields = ",".join(f"{name}={value}" for name, value in body.items())
            lines.add("mqtt", f"mqtt,topic={message.topic} {fields} {t_ns}", len(body))


async def main(path: str, ports: tuple[int, int, int], points: tuple[int, int], hosts: list[str]) -> None:
    """Collects until its input ends."""
    lines = Lines(path)
    modbus, opcua, mqtt = ports
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(lines.flush())]
        each = min(56, points[0])
        tasks += [group.create_task(poll(lines, host, modbus, each, n / len(hosts))) for n, host in enumerate(hosts)]
        tasks.append(group.create_task(subscribe(lines, opcua, points[1])))
        if mqtt:
            tasks.append(group.create_task(listen(lines, mqtt)))
        wanted = {"modbus", "opcua"} | ({"mqtt"} if mqtt else set())
        while not wanted <= lines.seen:  # noqa: ASYNC110  # callbacks of three libraries
            await asyncio.sleep(0.05)
        print("ready", flush=True)
        while await asyncio.to_thread(sys.stdin.readline):
            print(lines.points, flush=True)
        for task in tasks:
            task.cancel()


if __name__ == "__main__":
    _, file, *numbers = sys.argv[: sys.argv.index("--")]
    given = [int(number) for number in numbers]
    asyncio.run(main(file, (given[0], given[1], given[2]), (given[3], given[4]), sys.argv[sys.argv.index("--") + 1 :]))
