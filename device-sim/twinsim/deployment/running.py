"""A plant as processes below one folder: devices, coordinator, agents; started, acted upon, drained and ended.

devices/            the simulation and its served log         gateways/NAME/      state of an agent
coordinator/        state of the coordinator                  NAME.yaml           its site.yaml
logs/               every word of every program
"""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from twinmodel.clock import Clock
from twinmodel.errors import ConflictError, MissingError
from twinmodel.package import signing
from twinmodel.package.build import build
from twinsim.control import send_order
from twinsim.deployment.agent_control import reload_agent
from twinsim.deployment.audit import audit
from twinsim.deployment.operator import Operator
from twinsim.deployment.processes import Program, run
from twinsim.deployment.schema import COORDINATOR, Deployment
from twinsim.deployment.site_file import devices_content, edited, site_content, yaml_text
from twinsim.scenario import PROTOCOLS
from twinsim.served import Verdict

TENANT = "default"
START_S = 90.0
SETTLE_S = 2.0
DRAIN_S = 30.0
POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class Ports:
    """Where the coordinator listens; `devices` is the first of the plants' servers, 0 for any."""

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


class Running:
    """One plant that runs; whoever makes it ends its `programs` (see `processes.ended_together`).

    Attributes:
        plan: what runs.
        state: its folder.
        operator: a client of the coordinator's REST with all rights.
        programs: all of them, in the order they were started.
        agents: gateway `site/name` -> its program.
        contents: gateway -> its site.yaml.
        kills_ns: wall times of SIGKILLs of agents.
        packages: signed models, in the order of the plan.
        agent_program: how agents are started; benches put stop-watches around them.
    """

    agent_program: tuple[str, ...] = ("twinedge",)

    def __init__(self, plan: Deployment, folder: Path, state: Path, clock: Clock, ports: Ports) -> None:
        """Prepares it; `folder` is where the paths of `plan.models` start."""
        self.plan, self.folder, self.state, self.clock, self.ports = plan, folder, state, clock, ports
        self.operator = Operator(f"http://127.0.0.1:{ports.console}", TENANT, "")
        self.programs: list[Program] = []
        self.agents: dict[str, Program] = {}
        self.contents: dict[str, dict[str, Any]] = {}
        self.kills_ns: list[int] = []
        self.packages: list[bytes] = []
        self.announced: Mapping[str, Any] = {}
        self._status_ports: dict[str, int] = {}
        self._away: set[str] = set()
        self._coordinator: Program | None = None

    @property
    def devices(self) -> Path:
        """State directory of the simulation."""
        return self.state / "devices"

    @property
    def logs(self) -> Path:
        """Where every program's words go."""
        return self.state / "logs"

    @property
    def protocols(self) -> dict[str, str]:
        """Device -> what it speaks."""
        return {name: facts["protocol"] for name, facts in self.announced["devices"].items()}

    def full_name(self, gateway: str) -> str:
        """`site/name` of a gateway called `name`."""
        for name in self.plan.gateways:
            if gateway in {name, name.partition("/")[2]}:
                return name
        raise MissingError("UNKNOWN_GATEWAY", f"no gateway is called {gateway!r}")

    # ---- start ---------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Brings everything up; returns when all agents run and have reached their brokers."""
        devices = self._start_devices()
        with ThreadPoolExecutor(4) as pool:
            packages = pool.submit(self._build_models)
            self._start_coordinator()
            self.packages = packages.result()
            self._publish_models()
            self.announced = devices.wait_ready(START_S)
            # A broker of MQTT 3.1.1 cannot say that nobody listens, so what publishes begins when somebody does.
            speakers = [name for name, protocol in self.protocols.items() if protocol == "mqtt"]
            for name in speakers:
                self.fault({"do": "fault", "target": name, "kind": "dropout"})
            list(pool.map(self._join_and_run, self.plan.gateways))
            list(pool.map(self._wait_connected, self.agents))
            for name in speakers:
                self.fault({"do": "clear", "target": name})

    def _start_devices(self) -> Program:
        self.devices.mkdir(parents=True, exist_ok=True)
        scenario = self.state / "scenario.yaml"
        scenario.write_text(yaml_text(devices_content(self.plan, f"127.0.0.1:{self.ports.sync}")))
        arguments = ["twinsim", "run", "scenario", str(scenario), "--state", str(self.devices)]
        return self._program("devices", arguments, self.devices / "ready.json")

    def _program(self, name: str, arguments: list[str], ready: Path) -> Program:
        program = Program(name, arguments, self.logs, ready=ready)
        self.programs.append(program)
        return program

    def _start_coordinator(self) -> None:
        state = str(self.state / "coordinator")
        self.operator.token = run(
            "twincloud-init", ["twincloud", "init", "--state", state, "--tenant", TENANT], self.logs
        ).strip()
        self._serve_coordinator()

    def _serve_coordinator(self) -> None:
        ready = self.state / "coordinator-ready.json"
        arguments = ["twincloud", "serve", "--state", str(self.state / "coordinator"), "--ready-file", str(ready)]
        if self.plan.coordinator:
            config = self.state / "twincloud.yaml"
            config.write_text(yaml_text(self.plan.coordinator))
            arguments += ["--config", str(config)]
        arguments += ["--port", str(self.ports.console), "--sync-port", str(self.ports.sync)]
        arguments += ["--enrol-port", str(self.ports.enrol)]
        self._coordinator = self._program(COORDINATOR, arguments, ready)
        self._coordinator.wait_ready(START_S)

    def _build_models(self) -> list[bytes]:
        key = signing.generate_key()
        signing.save_private_key(self.state / "model-key.pem", key)
        return [signing.sign(build(self.folder / name), key) for name in self.plan.models]

    def _publish_models(self) -> None:
        public = signing.public_pem(signing.load_private_key(self.state / "model-key.pem").public_key())
        self.operator.call("POST", "signers", body={"name": "desk", "public_key_pem": public.decode()})
        for package in self.packages:
            self.operator.call("POST", "models", body=package)

    def _join_and_run(self, name: str) -> None:
        site, _, short = name.partition("/")
        invite = self.operator.call("POST", "gateways:invite", body={"site": site, "gateway": short})
        join = ["twinedge", "join", invite["url"], "--token", invite["token"], "--ca-sha256", invite["ca_sha256"]]
        run(f"join-{short}", [*join, "--state", str(self.state_of(name))], self.logs)
        self.contents[name] = site_content(self.plan, name, self.announced, find_profiles())
        self.write_site(name)
        if self.plan.gateways[name].start:
            self.run_agent(name)
        else:
            self._away.add(name)

    def state_of(self, name: str) -> Path:
        """State directory of a gateway's agent."""
        return self.state / "gateways" / name.partition("/")[2]

    def config_of(self, name: str) -> Path:
        """Where a gateway's site.yaml lies."""
        return self.state / f"{name.partition('/')[2]}.yaml"

    def write_site(self, name: str) -> None:
        """Writes site.yaml as it should be, in one step."""
        path = self.config_of(name)
        draft = path.with_suffix(".new")
        draft.write_text(yaml_text(self.contents[name]))
        draft.replace(path)

    def run_agent(self, name: str) -> Program:
        """Starts the agent of a gateway that has joined."""
        short = name.partition("/")[2]
        arguments = [*self.agent_program, "run", "--config", str(self.config_of(name))]
        arguments += ["--state", str(self.state_of(name))]
        ready = self.state / f"{short}-ready.json"
        arguments += ["--kernel-cache", str(kernel_cache()), "--ready-file", str(ready)]
        self.agents[name] = self._program(f"agent-{short}", arguments, ready)
        self._away.discard(name)  # last: until here the one that was ended stands for it, and others look meanwhile
        return self.agents[name]

    def _wait_connected(self, name: str) -> None:
        """Waits until an agent has reached its brokers, as its status page tells."""
        self._until(
            lambda: all(d["connected"] for d in self.status(name)["devices"] if d["protocol"] == "mqtt"),
            START_S,
            f"{name} has not reached its broker",
        )

    # ---- looking -------------------------------------------------------------------------------------------------

    def status(self, name: str) -> dict[str, Any]:
        """What an agent says of itself; raises OSError while it says nothing."""
        facts = self.agents[name].wait_ready(START_S)
        with urlopen(f"http://127.0.0.1:{facts['status_port']}/status", timeout=START_S) as answer:
            found: dict[str, Any] = json.load(answer)
        return found

    def check_alive(self) -> None:
        """Raises ConflictError STATE_INVALID when a program has ended that nobody ended."""
        for name, program in self.agents.items():
            if name not in self._away and not program.running:
                raise ConflictError("STATE_INVALID", f"agent {name} ended: {program.last_words()}")

    def _until(self, true: Callable[[], bool], timeout_s: float, otherwise: str) -> None:
        pause = threading.Event()
        for _ in range(int(timeout_s / POLL_S)):
            with suppress(OSError):
                if true():
                    return
            self.check_alive()
            pause.wait(POLL_S)
        raise ConflictError("STATE_INVALID", otherwise, hint=f"read {self.logs}")

    # ---- acting --------------------------------------------------------------------------------------------------

    def fault(self, order: Mapping[str, Any]) -> dict[str, Any]:
        """Gives the simulation an order, as `twinsim fault` would."""
        return send_order(self.devices, order)

    def kill(self, target: str) -> None:
        """SIGKILL, as a crash would end it; the moment of an agent's end excuses what it had not yet committed."""
        self._program_of(target).kill()
        if target != COORDINATOR:
            self._away.add(self.full_name(target))
            self.kills_ns.append(self.clock.wall_ns())

    def stop(self, target: str) -> None:
        """Ends a program properly."""
        if target != COORDINATOR:
            self._away.add(self.full_name(target))
        self._program_of(target).stop()

    def begin(self, target: str) -> None:
        """Starts a program that was ended, and returns when it serves."""
        if target == COORDINATOR:
            self._serve_coordinator()
            return
        self.run_agent(self.full_name(target)).wait_ready(START_S)

    def edit(self, gateway: str, changes: Mapping[str, Any]) -> dict[str, Any]:
        """Changes site.yaml and has the agent, if it runs, take it; returns what the agent says.

        Raises:
            TwinError: what the agent refuses, all or a part.
        """
        name = self.full_name(gateway)
        self.contents[name] = edited(self.contents[name], changes)
        self.write_site(name)
        return {} if name in self._away else reload_agent(self.state_of(name), f"edit {', '.join(changes)}")

    def _program_of(self, target: str) -> Program:
        if target == COORDINATOR:
            assert self._coordinator is not None
            return self._coordinator
        name = self.full_name(target)
        if name not in self.agents:
            raise ConflictError("STATE_INVALID", f"the agent of {name} does not run")
        return self.agents[name]

    # ---- end -----------------------------------------------------------------------------------------------------

    def close(self) -> Verdict:
        """Lets everything drain and counts; the programs still run except the agents."""
        for link in self.announced["links"]:
            self.fault({"do": "clear", "target": link})
        for name in self._away & set(self.agents):
            self.begin(name)
        self._drain()
        for device in self.protocols:
            self.fault({"do": "fault", "target": device, "kind": "dropout"})
        threading.Event().wait(SETTLE_S)
        for program in self.agents.values():
            program.signal(signal.SIGTERM)
        for program in self.agents.values():
            program.join()
        return audit(self.operator, self.devices, self.protocols, self.kills_ns)

    def _drain(self) -> None:
        """Waits until every agent is connected and has sent its backlog, at most half a minute."""
        pause, run_by = threading.Event(), {tuple(name.split("/")) for name in self.agents}
        for _ in range(int(DRAIN_S / 0.5)):
            gateways = [g for g in self.operator.pages("gateways") if (g["site"], g["gateway"]) in run_by]
            if all(g["connected"] and g["backlog_samples"] < 1000 for g in gateways):
                return
            pause.wait(0.5)


def find_folder(name: str) -> Path:
    """A folder at the top of the source tree this package runs from; raises FILE_MISSING."""
    for parent in Path(__file__).resolve().parents:
        if (parent / name).is_dir():
            return parent / name
    raise MissingError("FILE_MISSING", f"no folder {name} above {__file__}", hint="run it from a checkout")


def find_profiles() -> Path:
    """The firmware profiles of the simulated devices."""
    return find_folder("firmware-profiles")


def find_examples() -> Path:
    """The models of the simulated plants."""
    return find_folder("examples") / "plants"


def kernel_cache() -> Path:
    """Compiled kernels, shared by all agents of this user's plants and kept over their runs."""
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


__all__ = ["PROTOCOLS", "TENANT", "Ports", "Running", "find_examples", "find_profiles", "kernel_cache"]
