"""Our driver alone: `python -m bench.drivers.opcua_ours PORT VARIABLES`, measured beside `opcua_plain`.

Its samples end in a sink that keeps the newest value of each signal and looks at how late a delivery comes. Prints
`ready` once every variable has come; for each line on its input a JSON object: values so far, the longest lag since
the last such line in seconds, and errors.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import tempfile
from pathlib import Path

import numpy as np
import structlog

from bench.drivers.opcua_server import FOLDER, URI, kind_of
from twinedge.config.schema import Device
from twinedge.drivers.link import Assignment
from twinedge.drivers.opcua import OpcuaDriver
from twinedge.ports import Delivery, NotAcquired
from twinmodel.clock import MILLISECOND_NS, SECOND_NS, SystemClock
from twinmodel.profile.schema import FirmwareProfile
from twinmodel.profile.schema import kind_of as signal_kind_of
from twinmodel.signal import Signal

TYPES = {"d": "float64", "f": "float32", "i": "int32", "b": "bool"}


class Newest:
    """Keeps values by signal."""

    def __init__(self, signals: int, clock: SystemClock) -> None:
        self._clock = clock
        self.values, self.seen = np.zeros(signals), np.zeros(signals, np.bool_)
        self.count, self.lag_ns, self.holes = 0, 0, 0
        self.all = asyncio.Event()

    async def put(self, item: Delivery | NotAcquired) -> None:
        """See `Sink.put`."""
        if not isinstance(item, Delivery):
            self.holes += 1
            return
        now_ns = self._clock.wall_ns()
        for batch in item.batches:
            self.values[batch.signal] = batch.value
            self.seen[batch.signal] |= batch.quality == 0
            self.count += len(batch)
            self.lag_ns = max(self.lag_ns, now_ns - int(batch.t_ns.min()))
        if not self.all.is_set() and self.seen.all():
            self.all.set()


async def main(port: int, variables: int) -> None:
    """Runs until its input ends."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    clock = SystemClock()
    points = {f"v{n}": {"at": f"F{n // FOLDER}/V{n}", "as": TYPES[kind_of(n)]} for n in range(variables)}
    profile = FirmwareProfile.model_validate(
        {"profile": "bench/variables", "protocol": "opcua", "namespace": URI, "points": points}
    )
    signals = {name: Signal(n, name, signal_kind_of(p)) for n, (name, p) in enumerate(profile.points.items())}
    device = Device.model_validate({"opcua": f"opc.tcp://127.0.0.1:{port}/", "profile": "bench/variables"})
    assignment = Assignment("bench", device, profile, signals, MILLISECOND_NS, Path())
    newest = Newest(variables, clock)
    with tempfile.TemporaryDirectory() as state:
        driver = OpcuaDriver([assignment], clock=clock, rng=random.Random(1), state_dir=Path(state))
        async with asyncio.TaskGroup() as group:
            running = group.create_task(driver.run(newest))
            await newest.all.wait()
            print("ready", flush=True)
            while await asyncio.to_thread(sys.stdin.readline):
                facts = {"values": newest.count, "lag_s": newest.lag_ns / SECOND_NS, "holes": newest.holes}
                newest.lag_ns = 0
                print(json.dumps(facts), flush=True)
            running.cancel()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
