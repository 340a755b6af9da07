"""MQTT at QoS 1 beside the loop people write with aiomqtt, which decodes JSON and does nothing else.

A session with messages waiting at mosquitto is taken up by each in turn: by the plain loop, by our driver into a sink
that commits at once, and by a whole agent, which acknowledges what its spool has committed. A message carries a time
and six values.
"""

from __future__ import annotations

import asyncio
import json
import random
import tempfile
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any
from urllib.error import HTTPError

import aiomqtt
import numpy as np
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

from bench.drivers.broker import mosquitto
from bench.drivers.process import cpu_s, process, rss_mb, until
from twinedge.config.catalogue import build_catalogue, signals_of
from twinedge.config.load import LoadedSite, load_site
from twinedge.drivers.link import Assignment
from twinedge.drivers.mqtt import MqttDriver
from twinedge.ports import Delivery, NotAcquired
from twinmodel.clock import SystemClock
from twinsim.serve.broker import find_mosquitto

DEVICES = 20
FIELDS = ("flow", "head", "power", "speed", "running", "n")
T0_MS = 1_760_000_000_000
_PROFILE = """\
profile: bench/pump
protocol: mqtt
defaults: {topic: "{root}/telemetry", time: $.t}
points:
"""


def run(*, quick: bool) -> Mapping[str, float | None]:
    """Measures; see `bench.drivers` for the figures."""
    if find_mosquitto() is None:
        return {"mqtt_msgs_per_s": None, "mqtt_vs_plain_aiomqtt": None}
    count, rounds = (6_000, 1) if quick else (40_000, 3)
    found: dict[str, list[tuple[float, float]]] = {"plain": [], "driver": [], "agent": []}
    memory = []
    with tempfile.TemporaryDirectory() as folder, mosquitto("max_queued_messages 0") as port:
        loaded = _site(Path(folder), port)
        for _ in range(rounds):
            found["plain"].append(asyncio.run(_plain(port, count)))
            found["driver"].append(asyncio.run(_driver(loaded, port, count)))
            cost, rss = _agent(loaded, port, count)
            found["agent"].append(cost)
            memory.append(rss)
    per_s = {name: median(1 / wall for wall, _ in runs) for name, runs in found.items()}
    cpu = {name: median(cost for _, cost in runs) for name, runs in found.items()}
    return {
        "mqtt_msgs_per_s": per_s["agent"],
        "mqtt_driver_msgs_per_s": per_s["driver"],
        "mqtt_plain_msgs_per_s": per_s["plain"],
        "mqtt_msgs_per_s_core": 1 / cpu["agent"],
        "mqtt_driver_vs_plain_aiomqtt": cpu["plain"] / cpu["driver"],
        "mqtt_vs_plain_aiomqtt": cpu["plain"] / cpu["agent"],
        "mqtt_agent_rss_mb": max(memory),
    }


def _site(folder: Path, port: int) -> LoadedSite:
    profile = folder / "profiles/bench/pump/1.yaml"
    profile.parent.mkdir(parents=True)
    types = {"running": "bool", "n": "int64"}
    lines = [f"  {name}: {{at: $.{name}, as: {types.get(name, 'float64')}}}" for name in FIELDS]
    profile.write_text(_PROFILE + "\n".join(lines) + "\n")
    site = folder / "site.yaml"
    devices = [f'  p{n}: {{mqtt: "mqtt://127.0.0.1:{port}", root: p{n}, profile: bench/pump}}' for n in range(DEVICES)]
    site.write_text(
        "site: bench\nprofiles: profiles\ndevices:\n"
        + "\n".join(devices)
        + "\nspool: {disk: 1GiB}\nstatus: {port: 0}\n"
    )
    return load_site(site)


def _publish(port: int, count: int) -> None:
    """Messages that wait at the broker for a session that is away."""
    client = paho.Client(CallbackAPIVersion.VERSION2)
    client.max_inflight_messages_set(1000)
    client.connect("127.0.0.1", port)
    client.loop_start()
    rng = np.random.default_rng(1)
    values = rng.normal(20.0, 1.0, (count, 4)).round(3).tolist()
    for n, (flow, head, power, speed) in enumerate(values):
        payload = {"t": T0_MS + n, "n": n, "flow": flow, "head": head, "power": power, "speed": speed, "running": True}
        last = client.publish(f"p{n % DEVICES}/telemetry", json.dumps(payload), qos=1)
    last.wait_for_publish(60)
    client.disconnect()
    client.loop_stop()


async def _plain(port: int, count: int) -> tuple[float, float]:
    """Wall and processor time a message takes the plain loop."""
    version = aiomqtt.ProtocolVersion.V311
    session = {"identifier": "plain", "clean_session": False, "protocol": version}
    async with aiomqtt.Client("127.0.0.1", port, **session) as client:  # type: ignore[arg-type]  # keywords by name
        await client.subscribe("+/telemetry", 1)
    await asyncio.to_thread(_publish, port, count)
    begun_s, cpu = time.monotonic(), time.process_time()
    newest: dict[str, object] = {}
    async with aiomqtt.Client("127.0.0.1", port, **session) as client:  # type: ignore[arg-type]  # keywords by name
        async for message in client.messages:
            newest = json.loads(bytes(message.payload))  # type: ignore[arg-type]  # payloads are bytes
            count -= 1
            if not count:
                break
        spent = (time.monotonic() - begun_s, time.process_time() - cpu)
        await client.unsubscribe("+/telemetry")
    total = int(str(newest["n"])) + 1
    return spent[0] / total, spent[1] / total


class _Commits:
    """A sink that stores nothing and commits at once."""

    def __init__(self, samples: int) -> None:
        self._left = samples
        self.ended = asyncio.Event()

    async def put(self, item: Delivery | NotAcquired) -> None:
        """See `Sink.put`."""
        if isinstance(item, Delivery):
            self._left -= sum(int((b.quality >> 8 == 0).sum()) for b in item.batches)
            item.done()
            if self._left <= 0:
                self.ended.set()


async def _driver(loaded: LoadedSite, port: int, count: int) -> tuple[float, float]:
    """The same of our driver."""
    clock, catalogue = SystemClock(), build_catalogue(loaded)
    assignments = [
        Assignment(n, d, loaded.profiles[n], signals_of(catalogue, n, loaded.profiles[n]), 10**6, Path())
        for n, d in loaded.site.devices.items()
    ]
    made = MqttDriver(assignments, clock=clock, rng=random.Random(1), client_id="driver")
    first = asyncio.create_task(made.run(_Commits(1)))
    while not made.health()[0].connected:  # noqa: ASYNC110  # health is polled, as the status page does
        await asyncio.sleep(0.01)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    await asyncio.to_thread(_publish, port, count)
    sink = _Commits(count * len(FIELDS))
    begun_s, cpu = time.monotonic(), time.process_time()
    task = asyncio.create_task(made.run(sink))
    async with asyncio.timeout(120):
        await sink.ended.wait()
    spent = (time.monotonic() - begun_s, time.process_time() - cpu)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    _forget(port, "driver")
    return spent[0] / count, spent[1] / count


def _forget(port: int, name: str) -> None:
    """Ends a session at the broker, so that it keeps no messages for it."""
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id=name, clean_session=True)
    client.connect("127.0.0.1", port)
    client.loop(1.0)
    client.disconnect()


def _agent(loaded: LoadedSite, port: int, count: int) -> tuple[tuple[float, float], float]:
    """The same of a whole agent, up to the commit, and the memory it takes."""
    with tempfile.TemporaryDirectory() as name:
        state, ready = Path(name) / "state", Path(name) / "ready.json"
        start = ("-m", "twinedge", "run", "--config", str(loaded.path), "--state", str(state), "--offline")
        with process(*start, "--ready-file", str(ready), piped=False):
            until(ready.exists)
            status = json.loads(ready.read_text())["status_port"]
            until(lambda: all(d["connected"] for d in _status(status)["devices"]))
        ready.unlink()
        _publish(port, count)
        with process(*start, "--ready-file", str(ready), piped=False) as agent:
            until(ready.exists)
            status = json.loads(ready.read_text())["status_port"]
            begun_s, cpu = time.monotonic(), cpu_s(agent.pid)
            before, passed_s = 0, 0.0
            while before < count * len(FIELDS):
                time.sleep(0.05)
                before = _status(status)["spool"]["backlog_samples"]
                passed_s = time.monotonic() - begun_s
                if passed_s > 120:
                    raise TimeoutError(f"{before} samples of {count * len(FIELDS)} stored")
            cost, memory = cpu_s(agent.pid) - cpu, rss_mb(agent.pid)
    return (passed_s / count, cost / count), memory


def _status(port: int) -> Any:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/status") as answer:
            return json.load(answer)
    except HTTPError:  # before the agent's first look at itself
        return {"devices": [{"connected": False}], "spool": {"backlog_samples": 0}}
