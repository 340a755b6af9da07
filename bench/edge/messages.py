"""Publishes what devices measure once a second to a broker: `python -m bench.edge.messages PORT DEVICES FIELDS`.

Each device has a message a second on `pN/telemetry`, with its time and its fields, spread over the second. Prints
`ready`, and for each line on its input how many messages the broker has acknowledged.
"""

from __future__ import annotations

import json
import sys
import threading
import time

import numpy as np
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

ROUNDS = 60


def main(port: int, devices: int, fields: int) -> None:
    """Publishes until its input ends."""
    client = paho.Client(CallbackAPIVersion.VERSION2)
    client.max_inflight_messages_set(1000)
    acknowledged = 0

    def count(*_: object) -> None:
        nonlocal acknowledged
        acknowledged += 1

    client.on_publish = count
    client.connect("127.0.0.1", port)
    client.loop_start()
    walk = np.random.default_rng(1).normal(0.0, 0.05, (ROUNDS, fields)).cumsum(0).round(3) + 20.0
    bodies = [",".join(f'"f{n}":{value}' for n, value in enumerate(row)) for row in walk.tolist()]
    ending = threading.Event()

    def publish() -> None:
        begun_s, sent = time.monotonic(), 0
        while not ending.is_set():
            due_s = begun_s + sent / devices
            ending.wait(max(0.0, due_s - time.monotonic()))
            body = bodies[sent // devices % ROUNDS]
            client.publish(f"p{sent % devices}/telemetry", f'{{"t":{time.time_ns() // 1_000_000},{body}}}', qos=1)
            sent += 1

    thread = threading.Thread(target=publish, daemon=True)
    thread.start()
    print("ready", flush=True)
    while sys.stdin.readline():
        print(json.dumps({"messages": acknowledged}), flush=True)
    ending.set()
    thread.join()
    client.disconnect()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
