"""From the device to committed: an agent that reads three protocols, at the rate of a cabinet, a hall, a plant."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

from bench.drivers.process import ask, cpu_s, process, said
from bench.edge.center import Agent, Center
from bench.edge.servers import Load, Servers, servers, site_of, write_profiles
from twinsim.deployment.agent_control import reload_agent
from twinsim.deployment.site_file import yaml_text

WARM_S = 3.0


def measure(
    center: Center,
    points_per_s: int,
    seconds: float,
    *,
    peer: bool = False,
    parts: bool = False,
    reloads: int = 0,
) -> dict[str, Any]:
    """Runs an agent at a rate and returns what it committed and cost.

    Args:
        center: the coordinator.
        points_per_s: offered by three protocols.
        seconds: how long it is looked at.
        peer: whether a collector reads the same beside it.
        parts: whether the agent has stop-watches.
        reloads: edits of one tag after that.

    Returns:
        seconds, committed, cpu_s, coordinator_cpu_s, rss_mb; with a peer its points and cpu; with `parts` what the
        stop-watches say; with `reloads` the median of them in ms.
    """
    load = Load.of(points_per_s)
    name = f"r{points_per_s}" + ("-parts" if parts else "")
    folder = center.folder / f"{name}-load"
    write_profiles(folder / "profiles", load)
    facts = folder / "facts.json" if parts else None
    with servers(load) as made, ExitStack() as stack:
        content = site_of(made, folder / "profiles")
        agent = stack.enter_context(center.agent(name, content, facts))
        agent.wait_connected()
        other = stack.enter_context(_peer(made, folder)) if peer else None
        if other is not None:
            said(other)
        time.sleep(WARM_S)
        found = _window(center, agent, seconds, other)
        if reloads:
            found["reload_ms"] = _reload(agent, content, reloads)
        return found


def _reload(agent: Agent, content: dict[str, Any], count: int) -> float:
    """Milliseconds an edit of one tag takes, as the agent tells: an alarm rule on it comes and goes."""
    took_ms = []
    for number in range(count):
        alarms = {"alarms": {"tag": {"on": "m0.r0", "high": 1e9}}} if number % 2 == 0 else {}
        agent.config.write_text(yaml_text(content | alarms))
        took_ms.append(reload_agent(agent.state, f"edit {number}")["took_ms"])
    return median(took_ms)


def _window(center: Center, agent: Agent, seconds: float, other: Any) -> dict[str, Any]:
    before = agent.facts() if agent.timed else {}
    begun_s, ours, theirs = time.monotonic(), agent.cpu_s(), cpu_s(center.program.pid)
    committed = center.committed()
    peer_cpu, peer_points = (cpu_s(other.pid), int(ask(other))) if other is not None else (0.0, 0)
    time.sleep(seconds)
    found: dict[str, Any] = {
        "committed": center.committed() - committed,
        "cpu_s": agent.cpu_s() - ours,
        "coordinator_cpu_s": cpu_s(center.program.pid) - theirs,
        "seconds": time.monotonic() - begun_s,
        "rss_mb": agent.rss_mb(),
    }
    if other is not None:
        found |= {"peer_cpu_s": cpu_s(other.pid) - peer_cpu, "peer_points": int(ask(other)) - peer_points}
    if agent.timed:
        after = agent.facts()
        found["parts_s"] = {part: spent - before["parts_s"].get(part, 0.0) for part, spent in after["parts_s"].items()}
        found["threads_s"] = {n: s - before["threads_s"].get(n, 0.0) for n, s in after["threads_s"].items()}
        found["loop_s"] = after["loop_s"] - before["loop_s"]
    return found


def _peer(made: Servers, folder: Path) -> Any:
    load = made.load
    numbers = [made.modbus, made.opcua, made.mqtt, load.modbus, load.opcua]
    return process("-m", "bench.edge.peer", str(folder / "peer.txt"), *map(str, numbers), "--", *made.hosts())
