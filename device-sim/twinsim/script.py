"""Fault scripts: a file of faults that is played to a simulation that runs, looked through before the first begins.

faults:
  - {at: 5s, target: T-1, fault: stuck, for: 40s, expect: the gate says FROZEN after half a minute}
  - {at: 60s, target: wan, fault: cut, for: 5s, repeat: {every: 20s, times: 10}}
  - {at: 5min, target: T-1, fault: clear}
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from twinmodel.clock import SECOND_NS, Clock
from twinmodel.errors import ConfigError, TwinError
from twinmodel.profile.document import Document, in_order, joined
from twinmodel.profile.load import read_yaml
from twinsim.control import send_order
from twinsim.scenario import CLEAR, FaultPlan, FaultScript, schedule

Say = Callable[[str], object]
Wait = Callable[[float], object]
DESCRIBED_MAX = 1000


def read_script(path: Path) -> FaultScript:
    """Reads a script. Raises ConfigError with path, line and the nearest valid key."""
    return read_yaml(path, FaultScript)


def order_of(plan: FaultPlan) -> dict[str, Any]:
    """What a simulation is told for one fault."""
    if plan.fault == CLEAR:
        return {"do": "clear", "target": plan.target}
    order = {"do": "fault", "target": plan.target, "kind": str(plan.fault), "point": plan.point, "size": plan.size}
    return order | {"for_s": plan.for_s, "to": plan.to}


def check_script(script: FaultScript, state: Path, document: Document) -> None:
    """Asks the simulation whether it would take every fault; nothing begins.

    Args:
        script: what would be played.
        state: of the simulation.
        document: the file of the script, for the places of what is refused.

    Raises:
        ConfigError: every fault that is refused, with its line and why.
        UnreachableError: DEVICE_UNREACHABLE when no simulation runs in `state`.
    """
    wrong: list[ConfigError] = []
    for number, plan in enumerate(script.faults):
        order = order_of(plan)
        if plan.fault == CLEAR:
            order["kind"] = CLEAR
        try:
            send_order(state, order | {"do": "check"})
        except TwinError as refused:
            if refused.reason == "DEVICE_UNREACHABLE":
                raise
            wrong.append(document.error(refused.reason, ("faults", number), refused.message, hint=refused.hint))
    if wrong:
        raise joined(in_order(wrong))


def describe(script: FaultScript) -> Iterator[str]:
    """A line for each time a fault is switched on, in order; of very many the first thousand."""
    for number, (at_ns, plan) in enumerate(schedule(script.faults)):
        if number == DESCRIBED_MAX:
            yield f"... and {sum(_times(p) for p in script.faults) - DESCRIBED_MAX} more"
            return
        yield line_of(at_ns, plan)


def line_of(at_ns: int, plan: FaultPlan) -> str:
    """One fault in words: `   5.0 s  T-1 stuck for 40 s  (the gate says FROZEN)`."""
    parts = [f"{at_ns / SECOND_NS:8.1f} s  {plan.target} {plan.fault}"]
    parts += [f"of {plan.point}"] if plan.point else []
    parts += [f"by {plan.size:g}"] if plan.size is not None else []
    parts += [f"to {plan.to}"] if plan.to else []
    parts += [f"for {plan.for_s:g} s"] if plan.for_s is not None else []
    parts += [f" ({plan.expect})"] if plan.expect else []
    return " ".join(parts)


def play(script: FaultScript, state: Path, clock: Clock, say: Say, wait: Wait) -> int:
    """Plays a script from now on and returns how many faults the simulation took.

    A fault that is refused in the end, as one of a device that is away, is said and the rest goes on.

    Args:
        script: what to play; see `check_script`.
        state: of the simulation.
        clock: what times are counted by.
        say: is told each fault as it begins.
        wait: waits some seconds, `time.sleep` or what turns a clock.

    Raises:
        UnreachableError: DEVICE_UNREACHABLE when the simulation has ended.
    """
    begun_ns, taken = clock.boot_ns(), 0
    for at_ns, plan in schedule(script.faults):
        while (left_ns := begun_ns + at_ns - clock.boot_ns()) > 0:
            wait(left_ns / SECOND_NS)
        try:
            send_order(state, order_of(plan))
        except TwinError as refused:
            if refused.reason == "DEVICE_UNREACHABLE":
                raise
            say(f"{line_of(at_ns, plan)}: {refused.reason}: {refused.message}")
            continue
        taken += 1
        say(line_of(at_ns, plan))
    return taken


def _times(plan: FaultPlan) -> int:
    return 1 if plan.repeat is None else plan.repeat.times
