"""As much of an agent as its alarms need: a pipeline, a model that says what a test wants, a press with alarms."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager, suppress
from types import SimpleNamespace

import numpy as np

from twinedge.alarms.watcher import Alarms
from twinedge.config.catalogue import build_catalogue
from twinedge.gate.gate import Gate
from twinedge.gate.rules import Rules
from twinedge.lanes import Lanes, windows_of
from twinedge.pipeline import Pipeline
from twinedge.ports import Delivery
from twinedge.replays import Replays
from twinmodel.alarms.records import decode
from twinmodel.clock import SECOND_NS, ManualClock
from twinmodel.signal import ALARMS_SIGNAL, Batch, Kind, Stream
from twinsync.directive import Directive, DirectiveKind

HIGH = "tank-high: {on: press.level, high: 9.5}"


class Runner:
    """A twin whose model says what the test wants."""

    def __init__(self):
        self.wiring = SimpleNamespace(twin="tank-1")
        self.slot = SimpleNamespace(current=lambda: SimpleNamespace(outputs=[SimpleNamespace(name="level")]))
        self.last = None

    def says(self, *, drifting=False, isolation="", left=(), off=0.0):
        said = SimpleNamespace(verdict=isolation) if isolation else None
        self.last = SimpleNamespace(
            drifting=drifting, isolation=said, left=left, t_ns=1, innovation=np.array([off]), spread=np.array([0.5])
        )


class Press:
    """A driver whose device raises alarms itself, and may be told that they were seen."""

    name = "opcua press"

    def __init__(self):
        self.says = []
        self.told = []
        self.answer = None

    def answers(self, _device):
        return self.answer is not None

    async def acknowledge(self, device, condition, comment):
        self.told.append((device, condition, comment))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def health(self):
        return []

    def take_alarms(self):
        said, self.says = self.says, []
        return said


class Agent:
    """As much of an agent as alarms need; `stored` is what was committed."""

    def __init__(self, loaded, tmp_path, clock=None):
        self.clock = clock or ManualClock(boot_ns=100 * SECOND_NS)
        self.loaded, self.catalogue = loaded, build_catalogue(loaded)
        self.runner, self.press = Runner(), Press()
        self.stored = []
        lanes = Lanes(windows_of(SECOND_NS, 10 * SECOND_NS))
        gate = Gate(Rules.none(len(self.catalogue)), self.clock)
        self.pipeline = Pipeline(Replays([]), gate, lanes, [], self.commit, self.clock)
        self.alarms = Alarms(
            loaded, tmp_path, self.clock,
            record=self.pipeline.record, drivers=lambda: [self.press], runners=lambda: [self.runner],
        )  # fmt: skip
        self.pipeline.watchers.append(self.alarms)

    async def commit(self, flush, catalogue):
        for stream, batches in flush.parts:
            for batch in batches:
                if stream is Stream.ALARM:
                    assert {catalogue.signals[s].name for s in batch.signal.tolist()} == {ALARMS_SIGNAL}
                    self.stored += zip(batch.t_ns.tolist(), map(decode, batch.value.tolist()), strict=True)

    async def say(self, *values):
        """Values of the level, through the pipeline; returns what is stored of alarms without any wait."""
        signal, t_ns = self.catalogue.by_name["press.level"].id, self.clock.wall_ns()
        count = len(values)
        batch = Batch.of(Kind.FLOAT, [signal] * count, values, [0] * count, [t_ns] * count)
        await self.pipeline.put(Delivery("press", (batch,), urgent=True))
        return await self.taken()

    async def taken(self):
        await self.pipeline.commit(everything=False)
        stored, self.stored = self.stored, []
        return stored

    async def wait(self, seconds):
        for _ in range(round(seconds * 4)):
            self.clock.advance(SECOND_NS // 4)
            self.alarms.tick()
        return await self.taken()


def directive(alarm, **body):
    content = json.dumps(body).encode()
    return Directive("1", DirectiveKind.ALARM, f"@alarm/{alarm}", 1, b"", 0, "", 0, content)


@asynccontextmanager
async def running(alarms):
    task = asyncio.create_task(alarms.run())
    await asyncio.sleep(0)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
