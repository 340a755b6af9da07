"""What people notice of an agent: steps of 100 models, an alarm, a command, a reload, with all of it on at once.

A hundred simulated tanks behind one Modbus server, a twin with a model each; an alarm rule on every level, a server and
a publisher on site; a charging station that may be told its limit.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from bench.drivers.broker import mosquitto
from bench.drivers.process import WAIT_S, until
from twinedge.modelstore.store import ModelStore
from twinmodel.clock import SystemClock
from twinsim.deployment.processes import ended_together
from twinsim.deployment.running import Ports, Running, find_examples
from twinsim.deployment.schema import Deployment
from twinsim.serve.broker import find_mosquitto

MODELS = 100
GATEWAY = "bench/bank"
ALARMED = 40
POLL_S = 0.01
LIMIT, BEYOND = 1e4, 1e6
_PROBE = """\
profile: bench/probe
protocol: modbus
base: 0
defaults: {every: 1s}
points:
  value: {at: holding 0, as: float64}
"""


def plan(models: int, broker: int, folder: Path) -> Deployment:
    """The scenario: tanks, their twins, alarms, what is served on site, and the station."""
    twins: dict[str, Any] = {
        f"tank-{n}": {
            "definition": "two-tanks",
            "inputs": {"pump": f"T-{n}.pump"},
            "outputs": {"level2": f"T-{n}.level2"},
            "model": "two-tanks@1.0.0",
        }
        for n in range(1, models + 1)
    }
    station = "charger-1.current_limit"
    twins["charger"] = {"definition": "charger", "properties": {"current_limit": station}}
    probe = folder / "profiles/bench/probe/1.yaml"
    probe.parent.mkdir(parents=True)
    probe.write_text(_PROBE)
    northbound: dict[str, Any] = {"opcua": {"listen": "127.0.0.1:0", "anonymous": True, "insecure": True}}
    if broker:
        northbound["mqtt"] = {"to": f"mqtt://127.0.0.1:{broker}"}
    config = {
        "profiles": str(folder / "profiles"),
        "twins": twins,
        "alarms": {"level": {"on": ["probe-*.value", "T-*.pump"], "high": LIMIT, "hysteresis": 1, "off_delay": "0s"}},
        "commands": {"allow": [station]},
        "northbound": northbound,
        "spool": {"disk": "1GiB", "sync_telemetry": "2s"},
    }
    return Deployment.model_validate(
        {
            "modbus": {"devices": models, "rate": 1},
            "profiles": {
                "charger": {"profile": "heidelberg/energy-control", "log": False},
                "probe": {"profile": str(probe), "devices": ALARMED, "rate": 10, "log": False},
            },
            "models": ["two-tanks.yaml"],
            "gateways": {GATEWAY: {"devices": ["T-*", "charger-1", "probe-*"], "config": config, "start": False}},
        }
    )


class Plant:
    """The plant that runs, and how it is timed."""

    def __init__(self, running: Running, facts: Path) -> None:
        self._running, self._facts = running, facts
        self._clock = SystemClock()

    def facts(self) -> dict[str, Any]:
        """What the agent's stop-watches say."""
        self._facts.unlink(missing_ok=True)
        os.kill(self._running.agents[GATEWAY].pid, signal.SIGUSR1)
        until(self._facts.exists)
        found: dict[str, Any] = json.loads(self._facts.read_text())
        return found

    def wait_models(self) -> None:
        """Until every model steps."""
        until(lambda: sum(twin["steps"] > 2 for twin in self._running.status(GATEWAY)["twins"]) >= MODELS, 120.0)

    def steps(self, seconds: float) -> dict[str, float]:
        """Steps of the bank over some seconds."""
        before, cpu = len(self.facts()["steps"]), self.facts()["process_s"]
        begun_s = time.monotonic()
        time.sleep(seconds)
        after = self.facts()
        taken = np.array(after["steps"][before:])
        ticks, passed_s = taken[:, 2].sum() / MODELS, time.monotonic() - begun_s
        return {
            "step_p99_ms_100_models": 1e3 * float(np.percentile(taken[:, 0], 99)),
            "step_p50_ms_100_models": 1e3 * float(np.percentile(taken[:, 0], 50)),
            "step_cpu_p99_ms_100_models": 1e3 * float(np.percentile(taken[:, 1], 99)),
            "step_us_per_model": 1e6 * float(taken[:, 1].sum() / taken[:, 2].sum()),
            "models_steps_per_s": ticks * MODELS / passed_s,
            "cpu_pct_100_models_all_on": 100 * (after["process_s"] - cpu) / passed_s,
        }

    def reloads(self, count: int) -> dict[str, float]:
        """Edits of one tag; the time the agent needs, and the time until the answer is here."""
        told, passed = [], []
        for number in range(count):
            begun_s = time.perf_counter()
            answer = self._running.edit("bank", {"twins.charger.properties.power": _tag(number)})
            passed.append(time.perf_counter() - begun_s)
            told.append(answer["took_ms"])
        return {
            "reload_100_models_ms": float(np.median(told)),
            "reload_100_models_max_ms": max(told),
            "reload_100_models_answer_ms": 1e3 * float(np.median(passed)),
        }

    def command(self, count: int) -> dict[str, float]:
        """Writes by REST; the time until it says that the device shows the value."""
        passed = []
        path = "sites/bench/twins/charger/commands"
        operator = self._running.operator
        for number in range(count):
            begun_s = time.perf_counter()
            sent = operator.call("POST", path, body={"property": "current_limit", "value": float(6 + number)})
            ended = _last(lambda i=sent["id"]: operator.call("GET", f"{path}/{i}"), lambda c: not c["open"])
            passed.append(time.perf_counter() - begun_s)
            if ended["state"] != "SUCCEEDED":
                raise RuntimeError(f"a command ended as {ended['state']}: {ended['reason']} {ended['detail']}")
        return {"command_roundtrip_ms": 1e3 * float(np.median(passed)), "command_roundtrip_max_ms": 1e3 * max(passed)}

    def alarms(self, count: int) -> dict[str, float]:
        """Sensors that jump beyond their limit; from the time of the first sample beyond it to the alarm over REST."""
        latencies = []
        for number in range(1, count + 1):
            target, alarm = f"probe-{number}", f"level:probe-{number}.value"
            # Ten times a second the device shows another value: the next one it shows is beyond the limit.
            self._running.fault(
                {"do": "fault", "target": target, "kind": "drift", "point": "value", "size": BEYOND, "for_s": WAIT_S}
            )
            found = _last(lambda a=alarm: self._alarm(a), lambda one: bool(one and one["active"]))
            seen_ns = self._clock.wall_ns()
            latencies.append((seen_ns - _nanoseconds(found["since"])) / 1e9)
        return {
            "alarm_latency_ms": 1e3 * float(np.percentile(latencies, 99)),
            "alarm_latency_p50_ms": 1e3 * float(np.median(latencies)),
        }

    def _alarm(self, name: str) -> Any:
        items = self._running.operator.call("GET", "alarms", query={"active": "true", "page_size": 500})["items"]
        return next((one for one in items if one["alarm"] == name), None)

    def rss_mb(self) -> float:
        """Memory of the agent."""
        pages = int(Path(f"/proc/{self._running.agents[GATEWAY].pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def measure(folder: Path, *, quick: bool) -> dict[str, float]:
    """Runs the plant and returns its figures; `samples_lost_in_reload` is the count over all of it."""
    with _broker() as broker:
        running = Running(plan(MODELS, broker, folder), find_examples(), folder, SystemClock(), Ports.from_console(0))
        facts = folder / "facts.json"
        running.agent_program = ("bench.edge.timed", str(facts))
        with ended_together(running.programs):
            running.start()
            # Its models lie there already, as after any restart: a hundred directives would be another bench.
            state = running.state_of(GATEWAY)
            store = ModelStore(state, state / "identity" / "signers")
            for package in running.packages:
                store.put(package)
            running.begin(GATEWAY)
            plant = Plant(running, facts)
            plant.wait_models()
            figures = plant.steps(4.0 if quick else 60.0)
            figures |= plant.command(2 if quick else 6)
            figures |= plant.alarms(3 if quick else ALARMED)
            figures |= plant.reloads(4 if quick else 200)
            figures["rss_mb_100_models_all_on"] = plant.rss_mb()
            verdict = running.close()
            figures["samples_lost_in_reload"] = verdict.lost + verdict.duplicates + verdict.declared_missing
            figures["samples_of_plant"] = verdict.samples_acquired
    return figures


@contextmanager
def _broker() -> Iterator[int]:
    if find_mosquitto() is None:
        yield 0
        return
    with mosquitto() as port:
        yield port


def _tag(number: int) -> str | None:
    return "charger-1.power" if number % 2 == 0 else None


def _nanoseconds(text: str) -> int:
    whole, _, fraction = text.rstrip("Z").partition(".")
    return int(np.datetime64(whole, "s").astype(int)) * 10**9 + int(fraction.ljust(9, "0")[:9] or 0)


def _last(ask: Callable[[], Any], enough: Callable[[Any], bool]) -> Any:
    """The first answer that is enough."""
    end_s = time.monotonic() + WAIT_S
    while not enough(found := ask()):
        if time.monotonic() > end_s:
            raise TimeoutError(f"not within {WAIT_S:g} s: {found}")
        time.sleep(POLL_S)
    return found
