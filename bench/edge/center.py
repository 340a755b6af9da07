"""One coordinator for all parts of the bench, gateways that join it, and agents that run for a while."""

from __future__ import annotations

import json
import re
import signal
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from bench.drivers.process import cpu_s, rss_mb, until
from twinsim.deployment.operator import Operator
from twinsim.deployment.processes import Program, ended_together, run
from twinsim.deployment.running import TENANT, kernel_cache
from twinsim.deployment.site_file import yaml_text

START_S = 90.0
INGESTED = re.compile(r"^twincloud_ingested_samples_total (\S+)$", re.MULTILINE)


class Center:
    """The coordinator; ends with the programs of its list."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.logs = folder / "logs"
        self.programs: list[Program] = []
        state, ready = str(folder / "coordinator"), folder / "coordinator-ready.json"
        token = run("init", ["twincloud", "init", "--state", state, "--tenant", TENANT], self.logs).strip()
        serve = ["twincloud", "serve", "--state", state, "--ready-file", str(ready), "--log", "warning"]
        serve += ["--port", "0", "--sync-port", "0", "--enrol-port", "0"]
        self.program = Program("coordinator", serve, self.logs, ready=ready)
        self.programs.append(self.program)
        self.operator = Operator(self.program.wait_ready(START_S)["rest"], TENANT, token)

    def committed(self) -> int:
        """Samples that the coordinator has committed so far."""
        with urllib.request.urlopen(f"{self.operator.url}/metrics", timeout=START_S) as answer:
            found = INGESTED.search(answer.read().decode())
        return int(float(found[1])) if found else 0

    @contextmanager
    def agent(self, name: str, content: Mapping[str, Any], facts: Path | None = None) -> Iterator[Agent]:
        """An agent of a new gateway, from its start to its end; with `facts` it has stop-watches."""
        state, config = self.folder / "gateways" / name, self.folder / f"{name}.yaml"
        invite = self.operator.call("POST", "gateways:invite", body={"site": str(content["site"]), "gateway": name})
        join = ["twinedge", "join", invite["url"], "--token", invite["token"], "--ca-sha256", invite["ca_sha256"]]
        run(f"join-{name}", [*join, "--state", str(state)], self.logs)
        config.write_text(yaml_text(content))
        ready = self.folder / f"{name}-ready.json"
        program = ["twinedge"] if facts is None else ["bench.edge.timed", str(facts)]
        arguments = [*program, "run", "--config", str(config), "--state", str(state), "--ready-file", str(ready)]
        made = Program(f"agent-{name}", [*arguments, "--kernel-cache", str(kernel_cache())], self.logs, ready=ready)
        self.programs.append(made)
        try:
            yield Agent(made, made.wait_ready(START_S)["status_port"], state, config, facts)
        finally:
            made.stop()


class Agent:
    """One that runs."""

    def __init__(self, program: Program, port: int, state: Path, config: Path, facts: Path | None) -> None:
        self.program, self.state, self.config = program, state, config
        self._port, self._facts = port, facts
        self.timed = facts is not None

    def status(self) -> dict[str, Any]:
        """What it says of itself; empty before its first look."""
        with (
            suppress(OSError),
            urllib.request.urlopen(f"http://127.0.0.1:{self._port}/status", timeout=START_S) as answer,
        ):
            found: dict[str, Any] = json.load(answer)
            return found
        return {}

    def wait_connected(self, within_s: float = START_S) -> None:
        """Until every device answers and a session is open."""
        end_s = time.monotonic() + within_s
        while time.monotonic() < end_s:
            status = self.status()
            if status and status["uplink"]["connected"] and all(d["connected"] for d in status["devices"]):
                return
            time.sleep(0.1)
        away = [d["device"] for d in self.status().get("devices", []) if not d["connected"]]
        raise TimeoutError(f"{self.program.name}: {away[:5]} of {len(away)} away: {self.program.last_words()}")

    def cpu_s(self) -> float:
        """Processor time so far."""
        return cpu_s(self.program.pid)

    def rss_mb(self) -> float:
        """Memory now."""
        return rss_mb(self.program.pid)

    def facts(self) -> dict[str, Any]:
        """What the stop-watches say."""
        assert self._facts is not None, "started without stop-watches"
        self._facts.unlink(missing_ok=True)
        self.program.signal(signal.SIGUSR1)
        until(self._facts.exists, START_S)
        found: dict[str, Any] = json.loads(self._facts.read_text())
        return found


@contextmanager
def center(folder: Path) -> Iterator[Center]:
    """Runs a coordinator while the context is open."""
    made = Center(folder)
    with ended_together(made.programs):
        yield made
