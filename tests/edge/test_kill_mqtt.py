"""A real agent behind a real broker is killed again and again: what the broker acknowledged is in the spool, once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from functools import partial
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

from tests.edge.drivers.mosquitto import Broker
from twinedge.spool.export import export
from twinmodel.clock import MILLISECOND_NS, SystemClock

TOPICS = 5
KILLS = 2
PAUSE_S = 0.003
PROFILE = """\
profile: a/meter
protocol: mqtt
defaults: {topic: "{root}", time: $.t}
points:
  n: {at: $.n, as: int64}
"""


class Publisher(threading.Thread):
    """Publishes numbered messages at QoS 1 until told to stop, and counts those that the broker acknowledged."""

    def __init__(self, port):
        super().__init__(daemon=True)
        self.port, self.stopping, self.acknowledged = port, threading.Event(), 0

    def run(self):
        client, connected = paho.Client(CallbackAPIVersion.VERSION2), threading.Event()
        client.on_connect = lambda *_: connected.set()
        client.connect("127.0.0.1", self.port)
        client.loop_start()
        assert connected.wait(60)
        begun = SystemClock().wall_ns() // MILLISECOND_NS
        while not self.stopping.wait(PAUSE_S):
            n = self.acknowledged
            told = client.publish(f"m{n % TOPICS}", json.dumps({"t": begun + n, "n": n}), qos=1)
            told.wait_for_publish(60)
            assert told.is_published(), f"no acknowledgement of message {n}, connected: {client.is_connected()}"
            self.acknowledged += 1
        client.disconnect()
        client.loop_stop()


class Agent:
    """`twinedge run` as a process of its own."""

    def __init__(self, config, state, folder):
        self.ready = folder / "ready.json"
        self.ready.unlink(missing_ok=True)
        line = ["-m", "twinedge", "run", "--offline", "--config", config, "--state", state, "--ready-file", self.ready]
        self.log = folder / "agent.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen([sys.executable, *map(str, line)], stdout=subprocess.DEVNULL, stderr=log)

    def stored(self):
        """Samples in the spool, -1 while the agent does not tell."""
        try:
            port = json.loads(self.ready.read_text())["status_port"]
            with urlopen(f"http://127.0.0.1:{port}/status", timeout=10) as page:
                return json.load(page)["spool"]["backlog_samples"]
        except (OSError, URLError, ValueError):
            return -1

    def tells(self):
        return self.stored() >= 0

    def holds(self, count):
        return self.stored() >= count

    def until(self, true, what):
        end_s = time.monotonic() + 100
        while not true():
            assert self.process.poll() is None, what
            assert time.monotonic() < end_s, f"{what}: {self.log.read_text()[-2000:]}"
            time.sleep(0.02)

    def end(self, how):
        self.process.send_signal(how)
        self.process.wait(60)


def numbers(state, folder):
    """How often each number is in the spool."""
    to = folder / f"{time.monotonic_ns()}.jsonl"
    export(state, to)
    lines = map(json.loads, to.read_text().splitlines())
    return Counter(line["value"] for line in lines if line.get("quality") == "good")


@pytest.mark.service("mosquitto")
@pytest.mark.timeout(400)
async def test_killed_agent_loses_nothing_that_the_broker_acknowledged_and_stores_nothing_twice(service_path, tmp_path):
    # By default mosquitto keeps a thousand messages for who is away, and drops what comes then.
    everything = "allow_anonymous true\nmax_queued_messages 0"
    broker = await Broker(service_path("mosquitto"), tmp_path, everything).start()
    folder = tmp_path / "profiles/a/meter"
    folder.mkdir(parents=True)
    (folder / "1.yaml").write_text(PROFILE)
    devices = "".join(
        f'  m{n}: {{mqtt: "mqtt://127.0.0.1:{broker.port}", root: m{n}, profile: a/meter}}\n' for n in range(TOPICS)
    )
    config, state = tmp_path / "site.yaml", tmp_path / "state"
    config.write_text(f"site: s\nprofiles: profiles\ndevices:\n{devices}status: {{port: 0}}\n")
    publisher = Publisher(broker.port)
    agent = None
    try:
        agent = Agent(config, state, tmp_path)
        agent.until(agent.tells, "the agent tells its status")
        publisher.start()
        for _ in range(KILLS):
            before = agent.stored()
            agent.until(partial(agent.holds, before + 100), "messages are stored")
            agent.end(signal.SIGKILL)
            agent = Agent(config, state, tmp_path)
            agent.until(agent.tells, "the agent is back")
        publisher.stopping.set()
        publisher.join(60)
        total = publisher.acknowledged
        agent.until(lambda: len(numbers(state, tmp_path)) >= total, f"all {total} messages are stored")
        agent.end(signal.SIGTERM)
        assert agent.process.returncode == 0
    finally:
        publisher.stopping.set()
        if agent is not None and agent.process.poll() is None:
            os.kill(agent.process.pid, signal.SIGKILL)
            agent.process.wait()
        broker.stop()
    found = numbers(state, tmp_path)
    assert sorted(found) == list(range(total))
    assert [n for n, times in found.items() if times > 1] == []
