"""The agent with stop-watches: `python -m bench.edge.timed FACTS ARGUMENTS OF TWINEDGE...`.

Each part of the pipeline is timed by the processor time of its thread; SIGUSR1 writes what was counted so far to FACTS.
A step is one call in which models step, from the first of them to the last result; its wall time is kept, too.
"""

from __future__ import annotations

import functools
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

STEPS_MAX = 100_000
_seconds: dict[str, float] = {}
_calls: dict[str, int] = {}
_steps: list[tuple[float, float, int]] = []
_stepped = 0


def _timed(owner: Any, method: str, part: str) -> None:
    """Counts the processor time of a method, without that of other parts it calls."""
    inner: Callable[..., Any] = getattr(owner, method)

    @functools.wraps(inner)
    def outer(*arguments: Any, **named: Any) -> Any:
        others, begun_s = sum(_seconds.values()), time.thread_time()
        try:
            return inner(*arguments, **named)
        finally:
            own_s = time.thread_time() - begun_s - (sum(_seconds.values()) - others)
            _seconds[part] = _seconds.get(part, 0.0) + own_s
            _calls[part] = _calls.get(part, 0) + 1

    setattr(owner, method, outer)


def _watch_steps() -> None:
    from twinedge.pipeline import Pipeline  # noqa: PLC0415 - after the parts
    from twinmodel.ensemble import Ensemble  # noqa: PLC0415 - as above

    estimate, step = Pipeline._estimate, Ensemble.step  # noqa: SLF001 - it is what is measured

    def counted(self: Any, dues: Any) -> Any:
        global _stepped  # noqa: PLW0603 - one agent a process
        _stepped += len(dues)
        return step(self, dues)

    def measured(self: Any, *arguments: Any) -> None:
        before, begun_s, cpu_s = _stepped, time.perf_counter(), time.thread_time()
        estimate(self, *arguments)
        if _stepped > before and len(_steps) < STEPS_MAX:
            _steps.append((time.perf_counter() - begun_s, time.thread_time() - cpu_s, _stepped - before))

    Ensemble.step = counted  # type: ignore[method-assign]  # a stop-watch around it
    Pipeline._estimate = measured  # type: ignore[method-assign]  # noqa: SLF001 - as above


def _install() -> None:
    from twinedge import lanes, pipeline, replays  # noqa: PLC0415 - after arguments are known
    from twinedge.gate import gate  # noqa: PLC0415 - as above

    _timed(replays.Replays, "fresh", "replays")
    _timed(gate.Gate, "apply", "gate")
    _timed(lanes.Lanes, "add", "lanes")
    _timed(lanes.Lanes, "take", "lanes")
    _timed(pipeline.Pipeline, "_stamped", "models")
    _timed(pipeline.Pipeline, "_estimate", "models")
    _timed(pipeline.Pipeline, "_show", "watchers")
    _watch_steps()


def _threads() -> dict[str, float]:
    """Processor time of each thread, by name."""
    found: dict[str, float] = {}
    for task in Path("/proc/self/task").iterdir():
        head, _, rest = (task / "stat").read_text().rpartition(")")
        fields = rest.split()
        name = head.partition("(")[2]
        found[name] = found.get(name, 0.0) + (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return found


def main() -> None:
    """Runs twinedge."""
    facts, *arguments = sys.argv[1:]

    def tell(*_: object) -> None:
        content = {
            "parts_s": _seconds,
            "calls": _calls,
            "steps": _steps,
            "process_s": time.process_time(),
            "loop_s": time.thread_time(),
            "threads_s": _threads(),
        }
        draft = Path(f"{facts}.new")
        draft.write_text(json.dumps(content))
        draft.replace(facts)

    _install()
    signal.signal(signal.SIGUSR1, tell)
    sys.argv = ["twinedge", *arguments]
    from twinedge.__main__ import main as agent  # noqa: PLC0415 - with the stop-watches in place

    agent()


if __name__ == "__main__":
    main()
