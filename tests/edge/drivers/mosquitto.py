"""A mosquitto of a test's own, restartable, and what tests of the MQTT driver share."""

from __future__ import annotations

import asyncio
import json
import subprocess

import aiomqtt

from tests.ports import free_port
from twinmodel.quality import GOOD

T0 = 1_700_000_000_000
PROFILE = {
    "defaults": {"topic": "{root}/tank", "time": "$.t"},
    "points": {"level": {"at": "$.level", "unit": "m"}, "valve": {"at": "$.state.valves[1]", "as": "bool"}},
}


def reading(n, **more):
    return {"t": T0 + n, "level": n / 10, "state": {"valves": [False, n % 2 == 0]}} | more


class Broker:
    """One mosquitto of our own on a free port, restartable."""

    def __init__(self, program, folder, extra="", head=""):
        self.program = program
        self.port = free_port()
        self.config = folder / "mosquitto.conf"
        self.config.write_text(
            f"{head}\nlistener {self.port} 127.0.0.1\n{extra or 'allow_anonymous true'}\npersistence true\n"
            f"persistence_location {folder}/\nautosave_on_changes true\nautosave_interval 1\nuser root\n"
        )
        self.process = None

    async def start(self):
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen([self.program, "-c", str(self.config)], **quiet)  # noqa: ASYNC220  # a test
        async with asyncio.timeout(60):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                except OSError:
                    assert self.process.poll() is None, "mosquitto does not start"
                    await asyncio.sleep(0.02)
                    continue
                writer.close()
                await writer.wait_closed()
                return self

    def stop(self, *, hard=False):
        if self.process is not None:
            (self.process.kill if hard else self.process.terminate)()
            self.process.wait(60)
            self.process = None

    async def publish(self, topic, *payloads, qos=1, retain=False, **options):
        async with aiomqtt.Client("127.0.0.1", self.port, **options) as client:
            for payload in payloads:
                sent = payload if isinstance(payload, (bytes, str)) else json.dumps(payload)
                await client.publish(topic, sent, qos=qos, retain=retain)


async def connected(driver):
    async with asyncio.timeout(60):
        while not driver.health()[0].connected:  # noqa: ASYNC110  # health is polled, as the status page does
            await asyncio.sleep(0.01)


def levels(sink, since=0):
    return [row[1] for row in sink.samples(0, since) if row[2] == GOOD]
