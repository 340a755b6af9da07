"""The story of the demo: start everything, let one twin drift, cut one gateway off, swap a model, and count.

devices ─▶ 6 agents ─▶ coordinator ─▶ console      each a process of its own, as in a plant
   └────────── served log ───────────▶ verdict     what was given out against what was stored
"""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from twinmodel.clock import SECOND_NS, Clock
from twinmodel.errors import ConflictError, MissingError
from twinmodel.package import signing
from twinmodel.package.build import build
from twinsim.control import send_order
from twinsim.demo import layout
from twinsim.demo.audit import audit
from twinsim.demo.operator import Operator
from twinsim.demo.processes import Program, ended_together, rss_bytes, run
from twinsim.demo.watch import Watch
from twinsim.served import Verdict

TENANT = "default"
START_S = 90.0
SETTLE_S = 2.0
POLL_S = 0.1
MIB = 2**20
VIEWER_TOKEN = ("twincloud", "token", "create", "demo-viewer", "--role", "viewer", "--ttl", "12h", "--tenant")


@dataclass(frozen=True, slots=True)
class Ports:
    """Where the parts of the demo listen."""

    console: int
    sync: int
    enrol: int
    devices: int

    @staticmethod
    def from_console(port: int) -> Ports:
        """The usual ports beside the console's, or free ones for 0."""
        if port:
            return Ports(port, port + 1, port + 2, 8500)
        console, sync, enrol = _free_ports(3)
        return Ports(console, sync, enrol, 0)


class Story:
    """One telling of the demo in a fresh state directory."""

    def __init__(
        self, state: Path, ports: Ports, clock: Clock, say: Callable[[str], object], *, seed: int = 1, broker: str = ""
    ) -> None:
        self.state = state
        self.ports = ports
        self.seed = seed
        self.broker = broker
        self.clock = clock
        self.say = say
        self.programs: list[Program] = []
        self.agents: dict[tuple[str, str], Program] = {}
        self.operator = Operator(f"http://127.0.0.1:{ports.console}", TENANT, "")
        self.began_ns = clock.wall_ns()
        self.addresses: dict[str, str] = {}
        self._swaps = 0

    @property
    def devices(self) -> Path:
        """State directory of the simulation."""
        return self.state / "devices"

    @property
    def logs(self) -> Path:
        """Where every program's words go."""
        return self.state / "logs"

    def tell(self, seconds: int) -> dict[str, Any]:
        """Runs the whole story and returns its figures; 0 seconds runs until interrupted."""
        with ended_together(self.programs):
            self.start()
            watch = Watch(self.operator.url, TENANT, self.operator.token, self.clock, self.began_ns)
            self._welcome(watch)
            try:
                self._acts(seconds, watch)
            except KeyboardInterrupt:
                self.say("ending")
            watch.end()
            self._say_memory()
            verdict = self.close()
            return self._figures(verdict, watch)

    # ---- start ---------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Brings everything up; returns when all six agents run."""
        self._start_devices()
        with ThreadPoolExecutor(4) as pool:
            packages = pool.submit(self._build_models)
            self._start_coordinator()
            self._publish_models(packages.result())
            self.addresses = self.programs[0].wait_ready(START_S)["addresses"]
            # A broker of MQTT 3.1.1 cannot say that nobody listens, so pumps are switched on when somebody does.
            self._switch_pumps("dropout")
            list(pool.map(self._join_and_run, [(s, g) for s, gs in layout.GATEWAYS.items() for g in gs]))
            list(pool.map(self._wait_connected, self.agents.values()))
            self._switch_pumps("")

    def _start_devices(self) -> None:
        self.devices.mkdir(parents=True, exist_ok=True)
        port = self.ports.devices
        lines = [f"seed: {self.seed}"]
        for offset, protocol in enumerate(("modbus", "opcua", "mqtt")):
            brand = f", broker: {self.broker}" if protocol == "mqtt" and self.broker else ""
            lines.append(
                f"{protocol}: {{devices: {layout.DEVICES_PER_PROTOCOL}, port: {port + offset if port else 0}{brand}}}"
            )
        lines.append(f'links: {{wan: {{listen: "127.0.0.1:0", to: "127.0.0.1:{self.ports.sync}"}}}}')
        scenario = self.state / "scenario.yaml"
        scenario.write_text("\n".join(lines) + "\n")
        arguments = ["twinsim", "run", "scenario", str(scenario), "--state", str(self.devices)]
        self.programs.append(Program("devices", arguments, self.logs, ready=self.devices / "ready.json"))

    def _switch_pumps(self, fault: str) -> None:
        """Switches a fault of all pumps on, or all of theirs off."""
        for number in range(1, layout.DEVICES_PER_PROTOCOL + 1):
            order = {"do": "fault", "kind": fault} if fault else {"do": "clear"}
            send_order(self.devices, {**order, "target": f"P-{number}"})

    def _wait_connected(self, agent: Program) -> None:
        """Waits until an agent has reached its brokers and servers, as its status page tells."""
        page = f"http://127.0.0.1:{agent.wait_ready(START_S)['status_port']}/status"
        for _ in range(int(START_S / POLL_S)):
            with suppress(OSError), urlopen(page, timeout=START_S) as answer:
                devices = json.load(answer)["devices"]
                if all(d["connected"] for d in devices if d["protocol"] == "mqtt"):
                    return
            threading.Event().wait(POLL_S)
        raise ConflictError("STATE_INVALID", f"{agent.name} has not reached its broker", hint=f"read {agent.log}")

    def _start_coordinator(self) -> None:
        state = str(self.state / "coordinator")
        token = run("twincloud-init", ["twincloud", "init", "--state", state, "--tenant", TENANT], self.logs).strip()
        ready = self.state / "coordinator-ready.json"
        arguments = ["twincloud", "serve", "--state", state, "--ready-file", str(ready)]
        arguments += ["--port", str(self.ports.console), "--sync-port", str(self.ports.sync)]
        arguments += ["--enrol-port", str(self.ports.enrol)]
        program = Program("coordinator", arguments, self.logs, ready=ready)
        self.programs.append(program)
        program.wait_ready(START_S)
        self.operator = Operator(f"http://127.0.0.1:{self.ports.console}", TENANT, token)

    def _build_models(self) -> list[bytes]:
        plants = find_examples()
        key = signing.generate_key()
        signing.save_private_key(self.state / "model-key.pem", key)
        return [signing.sign(build(plants / name), key) for name in (*layout.MODEL_FILES, layout.NEXT_MODEL_FILE)]

    def _publish_models(self, packages: list[bytes]) -> None:
        public = signing.public_pem(signing.load_private_key(self.state / "model-key.pem").public_key())
        self.operator.call("POST", "signers", body={"name": "demo", "public_key_pem": public.decode()})
        for package in packages:
            self.operator.call("POST", "models", body=package)

    def _join_and_run(self, place: tuple[str, str]) -> None:
        site, gateway = place
        state = self.state / "gateways" / gateway
        invite = self.operator.call("POST", "gateways:invite", body={"site": site, "gateway": gateway})
        join = ["twinedge", "join", invite["url"], "--token", invite["token"], "--ca-sha256", invite["ca_sha256"]]
        run(f"join-{gateway}", [*join, "--state", str(state)], self.logs)
        config = self.state / f"{gateway}.yaml"
        text = layout.site_file(site, layout.GATEWAYS[site][gateway], self.addresses, find_profiles())
        if place == layout.OFFLINE:
            text += f'uplink: "{self.addresses["wan"]}"\n'
        config.write_text(text)
        self.run_agent(site, gateway)

    def run_agent(self, site: str, gateway: str) -> Program:
        """Starts an agent whose gateway has joined."""
        state = self.state / "gateways" / gateway
        arguments = ["twinedge", "run", "--config", str(self.state / f"{gateway}.yaml"), "--state", str(state)]
        ready = self.state / f"{gateway}-ready.json"
        arguments += ["--kernel-cache", str(kernel_cache()), "--ready-file", str(ready)]
        program = Program(f"agent-{gateway}", arguments, self.logs, ready=ready)
        self.programs.append(program)
        self.agents[site, gateway] = program
        return program

    # ---- acts ----------------------------------------------------------------------------------------------------

    def _welcome(self, watch: Watch) -> None:
        for _ in range(int(START_S * 10)):
            if watch.first_estimate_s is not None:
                break
            threading.Event().wait(0.1)
        url, state = self.operator.url, str(self.state / "coordinator")
        code = run(
            "twincloud-token",
            [*VIEWER_TOKEN, TENANT, "--state", state],
            self.logs,
        ).strip()
        context = f"HYBRIDTWIN_URL={url} HYBRIDTWIN_TENANT={TENANT} HYBRIDTWIN_TOKEN={code}"
        self.say(f"\n  console   {url}/login?code={code}\n")
        self.say(f"  next      export {context}")
        self.say("            .venv/bin/twinctl fleet")
        self.say(f"            .venv/bin/twinctl twin show north/{layout.twin_of(layout.DRIFTING)}")
        self.say(f"            .venv/bin/twinsim fault T-1 stuck --for 30s --state {self.devices}\n")
        if watch.first_estimate_s is not None:
            self.say(f"{watch.first_estimate_s:6.1f} s  first estimate")

    def _acts(self, seconds: int, watch: Watch) -> None:
        """One twin drifts after a minute, one gateway goes offline and comes back, one model is swapped."""
        scale = min(1.0, seconds / 120) if seconds else 1.0
        plan: list[tuple[float, Callable[[], object]]] = [
            (20 * scale, lambda: self._cut(watch, 40 * scale)),
            (40 * scale, self._swap),
            (60 * scale, self._drift),
            (61 * scale, lambda: self.say(self._elapsed() + "south/s2 is online again, its backlog drains")),
        ]
        begun_ns = self.clock.boot_ns()
        pause = threading.Event()
        while not seconds or self.clock.boot_ns() - begun_ns < seconds * SECOND_NS:
            while plan and self.clock.boot_ns() - begun_ns >= plan[0][0] * SECOND_NS:
                plan.pop(0)[1]()
            for (site, gateway), program in self.agents.items():
                if not program.running:
                    raise ConflictError("STATE_INVALID", f"agent {site}/{gateway} ended: {program.last_words()}")
            pause.wait(0.2)

    def _cut(self, watch: Watch, lasting_s: float) -> None:
        watch.leave_out(*layout.OFFLINE)
        send_order(self.devices, {"do": "fault", "target": "wan", "kind": "cut", "for_s": lasting_s})
        self.say(self._elapsed() + f"the link of {'/'.join(layout.OFFLINE)} is cut for {lasting_s:.0f} s")

    def _swap(self) -> None:
        site, twin = layout.SWAPPED
        for target in (f"{site}/{twin}", "north/tank-1"):
            place, name = target.split("/")
            self.operator.call("PUT", f"sites/{place}/twins/{name}/model", body={"model": "two-tanks@1.1.0"})
            self.say(self._elapsed() + f"{target} gets two-tanks@1.1.0 between two ticks")

    def _drift(self) -> None:
        send_order(self.devices, {"do": "fault", "target": layout.DRIFTING, "kind": "plant_drift", "size": 0.5})
        self.say(self._elapsed() + f"{layout.DRIFTING} fouls: its twin will say so")

    # ---- end -----------------------------------------------------------------------------------------------------

    def close(self, kills_ns: tuple[int, ...] = ()) -> Verdict:
        """Lets everything drain and counts; the programs still run except the agents."""
        send_order(self.devices, {"do": "clear", "target": "wan"})
        self._wait_online()
        for device in send_order(self.devices, {"do": "list"})["devices"]:
            send_order(self.devices, {"do": "fault", "target": device["name"], "kind": "dropout"})
        threading.Event().wait(SETTLE_S)
        for program in self.agents.values():
            program.signal(signal.SIGTERM)
        for program in self.agents.values():
            program.join()
        self._swaps = self._count_swaps()
        self.say("counting what was given out and what is stored")
        return audit(self.operator, self.devices, kills_ns)

    def _wait_online(self) -> None:
        """Waits until every gateway is connected and has sent its backlog, at most half a minute."""
        for _ in range(60):
            gateways = list(self.operator.pages("gateways"))
            if all(g["connected"] and g["backlog_samples"] < 1000 for g in gateways):
                return
            threading.Event().wait(0.5)

    def _count_swaps(self) -> int:
        directives = self.operator.call("GET", "directives")["items"]
        return sum(d["outcome"] == "APPLIED" and d["version"] > 1 for d in directives)

    def _figures(self, verdict: Verdict, watch: Watch) -> dict[str, Any]:
        for example in (*verdict.lost_examples, *verdict.duplicate_examples):
            self.say(f"  {example}")
        twins = sum(1 for _ in self.operator.pages("twins"))
        self.say(
            f"\n{twins} twins, {len(self.agents)} gateways: {verdict.samples_acquired} samples acquired, "
            f"{verdict.samples_stored} stored, {verdict.lost} lost, {verdict.duplicates} duplicates, "
            f"{verdict.declared_missing} declared missing"
        )
        exact, ticks = self._replayed()
        self.say(f"{exact} of {ticks} ticks of all models computed again from history, bit for bit")
        freshness = watch.freshness_p95_s()
        return {
            "twins": twins,
            "gateways": len(self.agents),
            "samples_acquired": verdict.samples_acquired,
            "samples_stored": verdict.samples_stored,
            "lost": verdict.lost,
            "duplicates": verdict.duplicates,
            "declared_missing": verdict.declared_missing,
            "first_estimate_s": None if watch.first_estimate_s is None else round(watch.first_estimate_s, 2),
            "freshness_p95_s": None if freshness is None else round(freshness, 3),
            "models_swapped": self._swaps,
            "ticks": ticks,
            "ticks_replayed_exactly": exact,
        }

    def _replayed(self) -> tuple[int, int]:
        """Ticks that the coordinator can compute again, and all of them; the others are told with their reason."""
        exact = ticks = 0
        # Nanoseconds as they are; devices may be a little ahead.
        span = f"from={self.began_ns}&to={self.clock.wall_ns() + 60 * SECOND_NS}"
        for twin in list(self.operator.pages("twins")):
            name = f"{twin['site']}/{twin['twin']}"
            found = self.operator.call("GET", f"sites/{twin['site']}/twins/{twin['twin']}/replay?{span}")
            exact, ticks = exact + found["exact"], ticks + found["ticks"]
            for one in found["spans"]:
                if one["reason"]:
                    self.say(f"  {name}: {one['ticks']} ticks {one['verdict']}: {one['words']}")
        return exact, ticks

    def _say_memory(self) -> None:
        used = {p.name: rss_bytes(p.pid) / MIB for p in self.programs if p.running}
        self.say("memory    " + ", ".join(f"{name} {mib:.0f} MiB" for name, mib in used.items()))

    def _elapsed(self) -> str:
        return f"{(self.clock.wall_ns() - self.began_ns) / SECOND_NS:6.1f} s  "


def find_folder(name: str) -> Path:
    """A folder at the top of the source tree this package runs from; raises FILE_MISSING."""
    for parent in Path(__file__).resolve().parents:
        if (parent / name).is_dir():
            return parent / name
    raise MissingError("FILE_MISSING", f"no folder {name} above {__file__}", hint="run the demo from a checkout")


def find_profiles() -> Path:
    """The firmware profiles of the simulated devices."""
    return find_folder("firmware-profiles")


def find_examples() -> Path:
    """The models of the simulated plants."""
    return find_folder("examples") / "plants"


def kernel_cache() -> Path:
    """Compiled kernels, shared by all agents of the demo and kept over its runs."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hybridtwin" / "kernels"
    base.mkdir(parents=True, exist_ok=True, mode=0o700)
    return base


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for made in sockets:
            made.bind(("127.0.0.1", 0))
        return [made.getsockname()[1] for made in sockets]
    finally:
        for made in sockets:
            made.close()
