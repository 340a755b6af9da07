"""The loop people write with pymodbus alone: `python -m bench.drivers.modbus_plain PORT PERIOD_S REGISTERS HOST...`.

One client and one task a host, a block read a period, the registers converted to floats, the newest values kept.
Prints `ready` when all are connected, and the reads so far for each line on its input.
"""

from __future__ import annotations

import asyncio
import struct
import sys

from pymodbus.client import AsyncModbusTcpClient

from bench.drivers.modbus_server import PLAIN_UNIT


async def main(port: int, period_s: float, registers: int, hosts: list[str]) -> None:
    """Polls until its input ends."""
    newest: dict[str, tuple[float, ...]] = {}
    reads = 0

    async def poll(client: AsyncModbusTcpClient, host: str, phase_s: float) -> None:
        nonlocal reads
        loop = asyncio.get_running_loop()
        due_s = loop.time() + phase_s
        while True:
            await asyncio.sleep(max(due_s - loop.time(), 0))
            reply = await client.read_holding_registers(0, count=registers, device_id=PLAIN_UNIT)
            if not reply.isError():
                raw = struct.pack(f">{registers}H", *reply.registers)
                newest[host] = struct.unpack(f">{registers // 2}f", raw)
                reads += 1
            due_s += period_s

    clients = {host: AsyncModbusTcpClient(host, port=port) for host in hosts}
    for client in clients.values():
        await client.connect()
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(poll(client, host, period_s * n / len(hosts)))
            for n, (host, client) in enumerate(clients.items())
        ]
        print("ready", flush=True)
        while await asyncio.to_thread(sys.stdin.readline):
            print(reads, flush=True)
        for task in tasks:
            task.cancel()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]), sys.argv[4:]))
