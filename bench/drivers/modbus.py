"""Modbus: the plan against an exact oracle, and an agent that reads 500 devices beside a plain pymodbus loop.

The agent is the real one: devices, gate, lanes, spool commit. Beside its 500 hosts stand one that never answers and
one gateway with a silent unit among others. Ours and the plain loop read from the same server at the same time, so that
neighbours on the machine slow both; what is compared is the processor time a point costs each.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from statistics import median

import numpy as np

from bench.drivers import modbus_plans
from bench.drivers.process import ask, cpu_s, process, rss_mb, said, until

DEVICES, POINTS, PERIOD_S = 500, 30, 0.5
HOSTS = [f"127.0.{1 + n // 250}.{1 + n % 250}" for n in range(DEVICES)]
GATEWAY, SILENT = "127.0.3.1", "127.0.3.2"
_PROFILE = """\
profile: bench/floats
protocol: modbus
base: 0
defaults: {{every: 500ms}}
points:
{points}
"""
_SITE = """\
site: bench
profiles: profiles
devices:
  a: {{modbus: "tcp://127.0.1.{{1..250}}:{port}", profile: bench/floats}}
  b: {{modbus: "tcp://127.0.2.{{1..250}}:{port}", profile: bench/floats}}
  gateway: {{modbus: "tcp://{gateway}:{port}", unit_id: "1..4", profile: bench/floats}}
  silent: {{modbus: "tcp://{silent}:{port}", unit_id: 4, profile: bench/floats}}
spool: {{disk: 1GiB}}
status: {{port: 0}}
"""


def run(*, quick: bool) -> Mapping[str, float | None]:
    """Measures; see `bench.drivers` for the figures."""
    rounds, seconds = (1, 6.0) if quick else (3, 20.0)
    figures: dict[str, float | None] = {
        "modbus_requests_vs_optimal": modbus_plans.requests_vs_optimal(300 if quick else 20_000)
    }
    with process("-m", "bench.drivers.modbus_server", *HOSTS, GATEWAY, SILENT) as server:
        port = int(said(server))
        plain = (str(port), str(PERIOD_S), str(2 * POINTS), *HOSTS)
        with process("-m", "bench.drivers.modbus_plain", *plain) as loop:
            said(loop)
            found = [_agent(server, loop, port, seconds) for _ in range(rounds)]
    ours = [f["cpu_s"] / f["points"] for f in found]
    ratios = [f["plain_s_per_point"] / own for f, own in zip(found, ours, strict=True)]
    rates = [f["points"] / f["seconds"] for f in found]
    return figures | {
        "modbus_points_per_s": min(rates),
        "modbus_cpu_share": median(f["cpu_s"] / f["seconds"] for f in found),
        "modbus_points_per_s_core": 1 / median(ours),
        "modbus_vs_plain_pymodbus": median(ratios),
        "agent_rss_mb": max(f["rss_mb"] for f in found),
        "healthy_jitter_pct": min(f["jitter_pct"] for f in found),
    }


def _agent(server: subprocess.Popen[str], loop: subprocess.Popen[str], port: int, seconds: float) -> dict[str, float]:
    """What an agent costs while it reads everything into its spool, and what the plain loop costs meanwhile."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        profile = folder / "profiles/bench/floats/1.yaml"
        profile.parent.mkdir(parents=True)
        lines = "\n".join(f"  p{n}: {{at: holding {2 * n}, as: float32}}" for n in range(POINTS))
        profile.write_text(_PROFILE.format(points=lines))
        site = folder / "site.yaml"
        site.write_text(_SITE.format(port=port, gateway=GATEWAY, silent=SILENT))
        ready = folder / "ready.json"
        start = ("-m", "twinedge", "run", "--config", str(site), "--state", str(folder / "state"), "--offline")
        with process(*start, "--ready-file", str(ready), piped=False) as agent:
            until(ready.exists, 90.0)
            time.sleep(3.0)  # connections, first commits, the first backoff of what is silent
            stored = _stored(ready)
            ask(server)
            begun_s, begun, plain, reads = time.monotonic(), cpu_s(agent.pid), cpu_s(loop.pid), int(ask(loop))
            time.sleep(seconds)
            cost, passed_s = cpu_s(agent.pid) - begun, time.monotonic() - begun_s
            plain, reads = cpu_s(loop.pid) - plain, int(ask(loop)) - reads
            points = _stored(ready) - stored
            intervals = json.loads(ask(server))["intervals"]
            late = np.abs(np.array(intervals) / PERIOD_S - 1)
            return {
                "cpu_s": cost,
                "seconds": passed_s,
                "points": points,
                "plain_s_per_point": plain / (reads * POINTS),
                "rss_mb": rss_mb(agent.pid),
                "jitter_pct": 100 * float(np.percentile(late, 95)),
            }


def _stored(ready: Path) -> int:
    """Samples in the spool, and those on their way to the next commit, as the agent's status page says."""
    port = json.loads(ready.read_text())["status_port"]
    end_s = time.monotonic() + 15.0
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/status", timeout=10) as page:
                status = json.load(page)
            break
        except urllib.error.HTTPError:
            if time.monotonic() > end_s:
                raise
            time.sleep(0.2)  # there is no page yet
    return int(status["spool"]["backlog_samples"] + status["lanes"]["samples"])
