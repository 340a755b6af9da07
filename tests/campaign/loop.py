"""An event loop of one thread in virtual time: coroutines of production code run as they are, and a seed repeats them.

Time moves only when nothing is left to do, and then to the next timer. A call that production code hands to a thread
runs here, in the loop, after a delay that is drawn from the seed; its answer comes after another one. A part that was
killed in between has changed its disk and does not know it.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
from asyncio import base_events
from collections.abc import Callable
from contextvars import Context, ContextVar
from random import Random
from typing import Any

from twinmodel.clock import SECOND_NS

WALL_NS = 1_700_000_000 * SECOND_NS
TURNS_MAX = 1_000_000
"""Turns of a run, far beyond what any needs: one that goes on in circles ends, and names its seed."""
SHORT_NS = 6 * SECOND_NS
"""When a certificate called `short` ends, after the start of a run."""


class Life:
    """One run of a process, from its start to the kill.

    Attributes:
        steps: calls of threads and writes to the link it has begun or ended.
        kill_at: the step at which it dies.
    """

    def __init__(self, name: str, on_kill: Callable[[], None] = lambda: None) -> None:
        self.name = name
        self.alive = True
        self.steps = 0
        self.kill_at = 0
        self.on_kill = on_kill

    def step(self) -> bool:
        """Counts a step; False when it is the last one or there are no more."""
        self.steps += 1
        if self.alive and self.steps == self.kill_at:
            self.alive = False
            self.on_kill()
        return self.alive


LIFE: ContextVar[Life | None] = ContextVar("life", default=None)


class VirtualLoop(base_events.BaseEventLoop):
    """See the module; a lean loop, as its turns are most of what a run costs."""

    def __init__(self, random: Random) -> None:
        super().__init__()
        self.now_ns = 0
        self._random = random
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._order = itertools.count()
        self._turns = 0
        self.thread_delay_ns = (0, 2_000_000)
        self.failures: list[str] = []
        self.frozen: dict[Life, list[asyncio.Handle]] = {}
        self.set_exception_handler(self._note)

    def time(self) -> float:
        return self.now_ns / SECOND_NS

    def call_soon(self, callback, *args, context=None):
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    call_soon_threadsafe = call_soon

    def call_at(self, when, callback, *args, context=None):
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        heapq.heappush(self._timers, (when, next(self._order), handle))
        return handle

    def freeze(self, life: Life, seconds: float) -> None:
        """Nothing of this life runs for so long: a process that is paused, or whose machine sleeps."""
        self.frozen[life] = []
        self.call_at(self.time() + seconds, self.thaw, life, context=Context())

    def thaw(self, life: Life) -> None:
        """It goes on, with all that came up meanwhile."""
        self._ready.extend(self.frozen.pop(life, ()))

    def _is_frozen(self, handle) -> bool:
        """Whether a turn belongs to a frozen life; then it comes when that goes on."""
        waiting = self.frozen.get(handle._context.get(LIFE))
        if waiting is not None:
            waiting.append(handle)
        return waiting is not None

    def _timer_handle_cancelled(self, handle) -> None:
        """Nothing to count: a cancelled timer is left out when its time has come."""

    def _run_once(self) -> None:
        ready, timers = self._ready, self._timers
        self._turns += 1
        if self._turns > TURNS_MAX:
            raise RuntimeError(f"no end after {TURNS_MAX} turns, at {self.time():.0f} s")
        while timers and timers[0][2]._cancelled:
            heapq.heappop(timers)
        if not ready:
            if not timers:
                raise RuntimeError("nothing will ever happen again")
            # A little beyond the timer, so that what is due by the whole nanosecond is due.
            self.now_ns += max(math.ceil((timers[0][0] - self.now_ns / SECOND_NS) * SECOND_NS), 0) + 1_000
        now_s = self.now_ns / SECOND_NS
        while timers and timers[0][0] <= now_s:
            ready.append(heapq.heappop(timers)[2])
        for _ in range(len(ready)):
            handle = ready.popleft()
            if not (handle._cancelled or (self.frozen and self._is_frozen(handle))):
                handle._run()

    def run_in_executor(self, executor, func, *args):
        """Runs the call later; calls of one thread end in the order they came."""
        life = LIFE.get()
        future = self.create_future()
        if life is not None and not life.step():
            future.cancel()
            return future
        begin_ns = max(self.now_ns + self._random.randint(*self.thread_delay_ns), getattr(executor, "free_ns", 0))
        if getattr(executor, "_max_workers", 4) == 1:
            executor.free_ns = begin_ns + 1

        def work() -> None:
            if life is not None and not life.alive:
                future.cancel()
                return
            answer: Any = None
            error: BaseException | None = None
            try:
                answer = func(*args)
            except Exception as raised:  # noqa: BLE001 - as an executor does
                error = raised
            if life is not None and not life.step():
                future.cancel()
            elif not future.done():
                if error is not None:
                    future.set_exception(error)
                else:
                    future.set_result(answer)

        self.call_at(begin_ns / SECOND_NS, work)
        return future

    def _note(self, _loop, context: dict[str, Any]) -> None:
        task = context.get("future") or context.get("task")
        name = task.get_name() if isinstance(task, asyncio.Task) else ""
        self.failures.append(f"{context.get('message')}: {context.get('exception')!r} {name}")


class VirtualClock:
    """The clock of one machine: the loop's time since its start, and a wall clock that may be set."""

    def __init__(self, loop: VirtualLoop, boot_offset_ns: int = 0) -> None:
        self._loop = loop
        self._offset_ns = boot_offset_ns
        self.jump_ns = 0

    def wall_ns(self) -> int:
        return WALL_NS + self._loop.now_ns + self.jump_ns

    def boot_ns(self) -> int:
        return self._loop.now_ns + self._offset_ns
