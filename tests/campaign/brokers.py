"""Stock mosquitto under the same power cuts: a returning subscriber's queue on ext4 whose power goes.

A publisher counts what the broker acknowledged (QoS 1) for a subscriber that is away and has a persistent session;
the machine is halted and its power goes; then the subscriber comes back and takes what is left. Nothing of this is
our product: the numbers stand beside ours in docs/reliability.md.

    python -m tests.campaign.brokers --cuts 60     sums up with what is in results/brokers.json
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

from paho.mqtt.client import Client, MQTTMessage, MQTTv311
from paho.mqtt.enums import CallbackAPIVersion

from tests.campaign import disks
from tests.campaign.disks import Disk
from tests.campaign.nursery import thread_states
from tests.campaign.results import BROKERS
from tests.campaign.runs import Summary
from tests.conftest import find_service
from tests.ports import free_port

START_S, DRAIN_S, LOOK_S = 20.0, 60.0, 0.01
TOPIC, LAST = "samples", b"last"
WINDOW = 20
MODES = {
    "mosquitto, persistence on, as it comes": "",
    "mosquitto, autosave_interval 1": "autosave_interval 1\n",
    "mosquitto, autosave on each change": "autosave_on_changes true\nautosave_interval 1\n",
}
"""Names of rows and what is added to the configuration; queues are without bound, so that none is dropped for size."""


@dataclass(slots=True)
class Row:
    """What one way to run a broker has shown.

    Attributes:
        losing: cuts after which something acknowledged was gone.
    """

    version: str = ""
    cuts: int = 0
    acknowledged: int = 0
    lost: int = 0
    losing: int = 0
    twice: int = 0


class Broker:
    """mosquitto with its database on a disk of its own."""

    def __init__(self, root: Path, program: str, setting: str) -> None:
        self.disk = Disk(root, "broker")
        self.port = free_port()
        self._program = program
        self._config = root / "mosquitto.conf"
        self._log = root / "mosquitto.log"
        self._process: subprocess.Popen[bytes] | None = None
        self.disk.path.chmod(0o777)
        self._config.write_text(
            f"listener {self.port} 127.0.0.1\nallow_anonymous true\nuser root\npersistence true\n"
            f"persistence_location {self.disk.path}/\nmax_queued_messages 0\nmax_inflight_messages 0\n{setting}"
        )

    def start(self) -> None:
        with self._log.open("ab") as sink:
            self._process = subprocess.Popen(
                [self._program, "-c", str(self._config)], stdout=sink, stderr=sink, stdin=subprocess.DEVNULL
            )
        until(self._answers, f"mosquitto does not answer: {self._log.read_text()[-500:]}")

    def _answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 1.0).close()
        except OSError:
            return False
        return True

    def cut(self) -> None:
        """The machine is halted, its power goes, and comes back."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        until(lambda: all(state in "TD" for state in thread_states(self._process.pid)), "mosquitto does not halt")
        self.disk.cut()
        self._process.kill()
        self._process.wait()
        self.disk.close()
        self.disk.mount()

    def stop(self) -> None:
        """A clean end, at which it saves all it has."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(START_S)
            self._process = None

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self.disk.close()


class Publisher:
    """Numbers its messages and knows which ones the broker has acknowledged."""

    def __init__(self, port: int, first: int) -> None:
        self.acknowledged: set[int] = set()
        self._first = first
        self._numbers: dict[int, int] = {}
        self._over = threading.Event()
        self._room = threading.Semaphore(WINDOW)
        self._client = client("publisher", clean=True)
        self._client.on_publish = self._on_publish
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        self._thread = threading.Thread(target=self._publish)
        self._thread.start()

    def _publish(self) -> None:
        number = self._first
        while not self._over.is_set():
            if self._room.acquire(timeout=0.1):
                self._numbers[self._client.publish(TOPIC, str(number).encode(), qos=1).mid] = number
                number += 1
                time.sleep(0.001)

    def _on_publish(self, _client, _data, mid, _reason, _properties) -> None:
        # Message ids come again; the broker's answer to this one may be faster than `publish` returns.
        until(lambda: mid in self._numbers, "an answer to nothing")
        self.acknowledged.add(self._numbers.pop(mid))
        self._room.release()

    def close(self) -> None:
        self._over.set()
        self._thread.join()
        self._client.loop_stop()
        self._client.disconnect()


def client(name: str, *, clean: bool) -> Client:
    """MQTT 3.1.1, the version most gateways speak."""
    return Client(CallbackAPIVersion.VERSION2, name, clean_session=clean, protocol=MQTTv311)


def session(port: int, received: Callable[[bytes], None], done: Callable[[], bool]) -> None:
    """The subscriber is there until `done`."""
    connected = threading.Event()
    one = client("subscriber", clean=False)
    one.on_message = lambda _client, _data, message: received(_payload(message))
    one.on_subscribe = lambda *_: connected.set()
    one.on_connect = lambda c, *_: c.subscribe(TOPIC, qos=1)
    one.connect("127.0.0.1", port)
    one.loop_start()
    try:
        until(connected.is_set, "no answer to a subscription")
        until(done, "the queue does not end", DRAIN_S)
    finally:
        one.disconnect()
        one.loop_stop()


def _payload(message: MQTTMessage) -> bytes:
    return bytes(message.payload)


def run_cut(broker: Broker, random: Random, first: int, row: Row, end: Callable[[], None]) -> int:
    """One end of a broker and what is left after it; returns the next number."""
    broker.start()
    session(broker.port, lambda _: None, lambda: True)
    # The session was there before, and is saved: only messages are at stake.
    broker.stop()
    broker.start()
    publisher = Publisher(broker.port, first)
    try:
        time.sleep(random.uniform(1.0, 5.0))
        end()
    finally:
        publisher.close()
    broker.start()
    received: list[bytes] = []
    marked = threading.Event()

    def done() -> bool:
        # Behind all that waited: when it is here, so is the queue.
        if not marked.is_set():
            marked.set()
            last = client("last", clean=True)
            last.connect("127.0.0.1", broker.port)
            last.loop_start()
            last.publish(TOPIC, LAST, qos=1).wait_for_publish(START_S)
            last.loop_stop()
            last.disconnect()
        return LAST in received

    session(broker.port, received.append, done)
    broker.stop()
    got = [int(payload) for payload in received if payload != LAST]
    lost = publisher.acknowledged - set(got)
    row.cuts += 1
    row.acknowledged += len(publisher.acknowledged)
    row.lost += len(lost)
    row.losing += bool(lost)
    row.twice += len(got) - len(set(got))
    return first + 1_000_000


def run_mode(name: str, cuts: int, seed: int, *, cleanly: bool = False) -> Row:
    """Cuts one after the other on one disk; `cleanly` ends the broker by SIGTERM instead, which must lose nothing."""
    program = find_service("mosquitto")
    assert program is not None, "mosquitto is not installed (run `make services`)"
    said = subprocess.run([program, "-h"], capture_output=True, text=True, check=False)
    row = Row((said.stdout or said.stderr).split("\n", 1)[0].removeprefix("mosquitto version").strip())
    root = disks.made_folder()
    random, number = Random(f"{seed}/{name}"), 0
    try:
        broker = Broker(root, program, MODES[name])
        try:
            for _ in range(cuts):
                number = run_cut(broker, random, number, row, broker.stop if cleanly else broker.cut)
        finally:
            broker.close()
    finally:
        disks.remove(root)
    return row


def until(done: Callable[[], bool], what: str, timeout_s: float = START_S) -> None:
    """Looks until it is so; raises AssertionError when it takes too long."""
    end_s = time.monotonic() + timeout_s
    while not done():
        if time.monotonic() > end_s:
            raise AssertionError(what)
        time.sleep(LOOK_S)


def read_rows(path: Path = BROKERS) -> dict[str, Row]:
    """What was shown so far, by the name of the mode."""
    return {name: Row(**row) for name, row in json.loads(path.read_text()).items()} if path.exists() else {}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.campaign.brokers")
    parser.add_argument("--cuts", type=int, default=60, help="of each mode")
    parser.add_argument("--into", type=Path, default=BROKERS, help="sums up with what stands there")
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    disks.sweep()
    if not disks.may_mount() or find_service("mosquitto") is None:
        sys.stderr.write("BROKERS ARE NOT CUT: no ext4 in a file can be mounted here, or mosquitto is missing\n")
        return 1
    if shutil.which("nats-server") is None:
        sys.stderr.write("nats-server is not installed and has no row\n")
    rows = read_rows(asked.into)
    for name in MODES:
        one = run_mode(name, asked.cuts, rows[name].cuts if name in rows else 0)
        sum_up(rows.setdefault(name, Row(one.version)), one)
        asked.into.parent.mkdir(parents=True, exist_ok=True)
        asked.into.write_text(json.dumps({name: asdict(row) for name, row in rows.items()}, indent=1) + "\n")
        sys.stderr.write(f"{name}: {one}\n")
    return 0


def section(ours: Summary) -> list[str]:
    """Markdown: a row for each way to run a broker, and ours."""
    lines = [
        "## Stock brokers under the same cuts",
        "",
        "A publisher counts what the broker acknowledged at QoS 1 for a subscriber that is away and has a persistent",
        "session, saved before. The machine is halted, its power goes; the subscriber comes back and takes what is",
        "left. The same disks and cuts; queues without bound; ended by SIGTERM instead, none of these loses anything.",
        "Ours: samples whose append returned, in layer C.",
        "",
        "| what | cuts | acknowledged | lost | cuts with a loss | a loss at the next cut |",
        "|---|--:|--:|--:|--:|---|",
    ]
    rows = read_rows()
    for name, row in rows.items():
        lines.append(_row(name.replace("mosquitto", f"mosquitto {row.version}"), row))
    lost = sum(text.startswith(("L", "F")) for told in ours.violations.values() for text in told)
    lines.append(_row("hybridtwin", Row("", ours.faults["power cut"], ours.samples, lost, lost)))
    missing = "" if shutil.which("nats-server") else "nats-server was not installed and has no row. "
    return [*lines, "", f"{missing}`python -m tests.campaign.brokers --cuts 20` adds to these rows.", ""]


def _row(name: str, row: Row) -> str:
    chance = f"below {3 / row.cuts:.2g} (95 %)" if not row.losing and row.cuts else f"{row.losing} of {row.cuts}"
    return f"| {name} | {row.cuts} | {row.acknowledged} | {row.lost} | {row.losing} | {chance} |"


def sum_up(row: Row, one: Row) -> None:
    """Adds what another run has shown."""
    for name in ("cuts", "acknowledged", "lost", "losing", "twice"):
        setattr(row, name, getattr(row, name) + getattr(one, name))


if __name__ == "__main__":
    sys.exit(main())
