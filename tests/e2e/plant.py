"""One deployment of real processes: simulated devices, a link, a coordinator and agents, all below one folder."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import NameOID

from tests.campaign.nursery import Nursery
from twincloud.identity.ca import Authority
from twincloud.storage.contract import GatewayKey
from twinmodel.clock import SECOND_NS, ManualClock, SystemClock
from twinmodel.package import signing
from twinmodel.package.build import build
from twinsim.control import send_order
from twinsim.demo import layout
from twinsim.deployment.operator import Operator
from twinsim.deployment.processes import Program, ended_together
from twinsim.deployment.running import find_examples, find_profiles, kernel_cache
from twinsim.deployment.site_file import device_content, yaml_text

TENANT, SITE = "default", "north"
SYNC_S, SYNC_TELEMETRY_S = 1, 4
START_S = 120.0
WAIT_S = 90.0
POLL_S = 0.1
SCENARIO = "seed: 11\nmodbus: {devices: 5}\nopcua: {devices: 2}\nmqtt: {devices: 4, broker: mosquitto}\n"
GATEWAYS: Mapping[str, tuple[str, ...]] = {
    "mixed": ("T-1", "HX-1", "P-1"),
    "far": ("T-2", "HX-2", "P-2"),
    "single": ("T-3",),
}
"""Agents of the first hour: all protocols, all protocols behind the link, one protocol."""
COMMANDS = (
    "twincloud.cli", "twincloud.service", "twincloud.identity.making", "twinedge.cli", "twinedge.service",
    "twinedge.enrol", "twinedge.config.load", "twinctl.cli", "twinsim.cli", "twinsim.control",
)  # fmt: skip
"""What commands that end by themselves have imported as they begin."""


@dataclass(slots=True)
class Gateway:
    """One agent: its files, and its process once it runs."""

    name: str
    devices: tuple[str, ...]
    state: Path
    config: Path
    program: Program | None = None
    status_port: int = 0


class Plant:
    """The deployment; every wait is bounded, every word of every process is kept in `logs`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.logs = root / "logs"
        self.devices_state, self.link_state = root / "devices", root / "link"
        self.coordinator_state = root / "coordinator"
        self.clock = SystemClock()
        self.programs: list[Program] = []
        self.gateways: dict[str, Gateway] = {}
        self.kills: dict[str, list[int]] = {}
        self.packages: dict[str, bytes] = {}
        self.announced: dict[str, Any] = {}
        self.ports: dict[str, int] = {}
        self.wan = ""
        self.operator = Operator("", TENANT, "")
        self.coordinator: Program | None = None
        self.mounts: list[Path] = []
        self.up_since = 0.0
        self._nursery: Nursery | None = None
        self._numbers = itertools.count()

    # ---- start ---------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Brings up devices, coordinator, link and the first agents."""
        self.root.mkdir(parents=True, exist_ok=True)
        scenario = self.root / "scenario.yaml"
        scenario.write_text(SCENARIO)
        simulate = ["twinsim", "run", "scenario", str(scenario), "--state", str(self.devices_state)]
        devices = self._program("devices", simulate, ready=self.devices_state / "ready.json")
        self._nursery = Nursery(self.logs, COMMANDS)
        with ThreadPoolExecutor(3) as pool:
            packages = pool.submit(self._build_models)
            self.operator.token = self.run("twincloud", "init", "--state", str(self.coordinator_state)).strip()
            self.start_coordinator()
            target = f"127.0.0.1:{self.ports['sync-port']}"
            link = ["twinsim", "link", "--listen", "127.0.0.1:0", "--to", target, "--name", "wan"]
            link_state = self.link_state
            wan = self._program("link", [*link, "--state", str(link_state)], ready=link_state / "ready.json")
            self.packages = packages.result()
            self._publish_models()
            self.announced = devices.wait_ready(START_S)
            self.wan = wan.wait_ready(START_S)["addresses"]["wan"]
            list(pool.map(lambda item: self.add(*item), GATEWAYS.items()))
        self.up_since = time.monotonic()

    def _program(self, name: str, arguments: Sequence[str], ready: Path | None = None) -> Program:
        made = Program(name, arguments, self.logs, ready=ready)
        self.programs.append(made)
        return made

    def start_coordinator(self) -> None:
        """Starts it on any free ports, and on the very same ones ever after."""
        ready = self.root / "coordinator.json"
        arguments = ["twincloud", "serve", "--state", str(self.coordinator_state), "--ready-file", str(ready)]
        for option in ("port", "sync-port", "enrol-port"):
            arguments += [f"--{option}", str(self.ports.get(option, 0))]
        self.coordinator = self._program("coordinator", arguments, ready)
        facts = self.coordinator.wait_ready(START_S)
        self.operator.url = facts["rest"]
        places = {"port": facts["rest"], "sync-port": facts["sync"], "enrol-port": facts["enrol"]}
        self.ports = {option: int(place.rpartition(":")[2]) for option, place in places.items()}

    def _build_models(self) -> dict[str, bytes]:
        key = signing.generate_key()
        signing.save_private_key(self.root / "model-key.pem", key)
        plants = find_examples()
        built = {name: build(plants / name) for name in (*layout.MODEL_FILES, layout.NEXT_MODEL_FILE)}
        return {name: signing.sign(blob, key) for name, blob in built.items()}

    def _publish_models(self) -> None:
        public = signing.load_private_key(self.root / "model-key.pem").public_key()
        body = {"name": "desk", "public_key_pem": signing.public_pem(public).decode()}
        self.operator.call("POST", "signers", body=body)
        for package in self.packages.values():
            self.operator.call("POST", "models", body=package)

    # ---- agents --------------------------------------------------------------------------------------------------

    def add(self, name: str, devices: tuple[str, ...], *, state: Path | None = None, expired: bool = False) -> Gateway:
        """Joins a gateway and starts its agent; `expired` replaces its certificate by one too old to renew."""
        folder = state or self.root / "gateways" / name
        made = Gateway(name, devices, folder, self.root / f"{name}.yaml")
        self.gateways[name] = made
        self.join(made)
        if expired:
            self._expire(made)
        content = {
            "site": SITE,
            "profiles": str(find_profiles()),
            "devices": {device: device_content(device, self.announced) for device in devices},
            "twins": layout.twins_of(devices),
            "spool": {"disk": "64MiB", "sync": f"{SYNC_S}s", "sync_telemetry": f"{SYNC_TELEMETRY_S}s"},
            "status": {"port": 0},
        }
        made.config.write_text(yaml_text(content | ({"uplink": self.wan} if name == "far" else {})))
        self.run_agent(name)
        return made

    def invite(self, gateway: str) -> dict[str, Any]:
        """A fresh invitation."""
        invited: dict[str, Any] = self.operator.call("POST", "gateways:invite", body={"site": SITE, "gateway": gateway})
        return invited

    def join(self, gateway: Gateway) -> None:
        """Enrols with a fresh invitation, also in place of an earlier identity."""
        invited = self.invite(gateway.name)
        self.run(*join_line(invited), "--state", str(gateway.state))

    def _expire(self, gateway: Gateway) -> None:
        folder = gateway.state / "identity"
        key = load_pem_private_key((folder / "key.pem").read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        # Beyond `renew_grace_days`: a younger one the agent would renew before anybody has seen that it expired.
        long_ago = ManualClock(self.clock.wall_ns() - 130 * 86_400 * SECOND_NS)
        authority = Authority.load(self.coordinator_state, long_ago)
        leaf = authority.issue(GatewayKey(TENANT, SITE, gateway.name), signing_request(key), days=30)
        (folder / "cert.pem").write_bytes(leaf.chain_pem)

    def run_agent(self, name: str) -> None:
        """Starts the agent of a gateway that has joined."""
        gateway = self.gateways[name]
        arguments = ["twinedge", "run", "--config", str(gateway.config), "--state", str(gateway.state)]
        ready = self.root / f"{name}-ready.json"
        arguments += ["--kernel-cache", str(kernel_cache()), "--ready-file", str(ready)]
        gateway.program = self._program(f"agent-{name}", arguments, ready)
        gateway.status_port = gateway.program.wait_ready(START_S)["status_port"]
        self.until(lambda: self._tells(name), f"{name} tells its status")

    def kill_agent(self, name: str) -> None:
        """SIGKILL; the moment is kept, as only it excuses a loss."""
        program = self.gateways[name].program
        assert program is not None
        program.kill()
        self.kills.setdefault(name, []).append(self.clock.wall_ns())

    def status(self, name: str) -> dict[str, Any]:
        """What the agent says of itself."""
        with urlopen(f"http://127.0.0.1:{self.gateways[name].status_port}/status", timeout=20) as answer:
            document: dict[str, Any] = json.loads(answer.read())
        return document

    def _tells(self, name: str) -> bool:
        try:
            return bool(self.status(name))
        except HTTPError as starting:
            starting.close()
            return False

    # ---- looking -------------------------------------------------------------------------------------------------

    def until(self, true: Callable[[], object], what: str, timeout_s: float = WAIT_S) -> None:
        """Waits until something is true, and fails by name when it does not come in time."""
        begun = time.monotonic()
        while not true():
            if time.monotonic() > begun + timeout_s:
                raise AssertionError(f"not within {timeout_s:g} s: {what}")
            for gateway in self.gateways.values():
                if gateway.program is not None and not gateway.program.running and not self._was_killed(gateway):
                    raise AssertionError(f"agent {gateway.name} ended: {gateway.program.last_words()}")
            time.sleep(POLL_S)
        with (self.logs / "waits.log").open("a") as sink:
            sink.write(f"{time.monotonic() - begun:6.1f} s for: {what}\n")

    def _was_killed(self, gateway: Gateway) -> bool:
        return bool(self.kills.get(gateway.name))

    def connected(self, name: str) -> bool:
        """Whether the agent says that it has a session."""
        return bool(self.status(name)["uplink"]["connected"])

    def twin(self, name: str) -> dict[str, Any]:
        """A twin as the coordinator shows it."""
        view: dict[str, Any] = self.operator.call("GET", f"sites/{SITE}/twins/{name}")
        return view

    def losses(self, name: str) -> list[dict[str, Any]]:
        """The loss ledger of a gateway."""
        items: list[dict[str, Any]] = self.operator.call("GET", f"sites/{SITE}/gateways/{name}/losses")["items"]
        return items

    def sample_numbers(self) -> dict[str, int]:
        """How many samples each device has made so far."""
        devices = send_order(self.devices_state, {"do": "list"})["devices"]
        return {device["name"]: device["sample_no"] for device in devices}

    def call(self, program: str, *words: str) -> subprocess.CompletedProcess[str]:
        """Runs a command of the project to its end, whatever its exit code."""
        assert self._nursery is not None
        env = {
            "HYBRIDTWIN_URL": self.operator.url,
            "HYBRIDTWIN_TENANT": TENANT,
            "HYBRIDTWIN_TOKEN": self.operator.token,
            "XDG_CONFIG_HOME": str(self.root / "home"),
        }
        name = f"command-{next(self._numbers)}"
        child = self._nursery.start(program, words, name, env=env)
        if not child.ended.wait(WAIT_S):
            child.kill()
            raise AssertionError(f"{program} {' '.join(words)} does not end: {child.last_words()}")
        assert child.code is not None
        said, told = (self.logs / f"{name}.out").read_text(), child.log.read_text()
        with (self.logs / "commands.log").open("a") as sink:
            sink.write(f"$ {program} {' '.join(words)} -> {child.code}\n{told}\n")
        return subprocess.CompletedProcess([program, *words], child.code, said, told)

    def run(self, program: str, *words: str) -> str:
        """Runs a command that has to succeed, and returns its stdout."""
        done = self.call(program, *words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    # ---- end -----------------------------------------------------------------------------------------------------

    def drain(self) -> None:
        """Silences all devices, waits until nothing is under way any more, and stops the agents properly."""
        for device in self.sample_numbers():
            send_order(self.devices_state, {"do": "fault", "target": device, "kind": "dropout"})
        served = [-1, -1, -1]
        self.until(lambda: self._still(served), "devices give nothing out any more")
        names = list(self.gateways)
        self.until(lambda: all(self.connected(n) for n in names), "all agents are connected")
        self.until(lambda: all(self._sent(n) for n in names), "backlogs are sent")
        for gateway in self.gateways.values():
            assert gateway.program is not None
            gateway.program.signal(signal.SIGTERM)
        for gateway in self.gateways.values():
            assert gateway.program is not None
            gateway.program.join()

    def exit_code(self, gateway: Gateway) -> int | None:
        """How the agent's process ended, None while it runs."""
        assert gateway.program is not None
        return gateway.program._child.returncode

    def _still(self, seen: list[int]) -> bool:
        """Whether the served log did not grow for a second."""
        time.sleep(0.5)
        seen.append(send_order(self.devices_state, {"do": "list"})["served"])
        return len(set(seen[-3:])) == 1

    def _sent(self, name: str) -> bool:
        return int(self.status(name)["spool"]["backlog_samples"]) < 50

    def samples(self, name: str) -> list[dict[str, Any]]:
        """Every measured sample the coordinator holds of a gateway, in commit order."""
        return [s for s in self.operator.samples(SITE, name) if "." in s["signal"] and "#" not in s["signal"]]

    def small_disk(self, path: Path, mebibytes: int) -> None:
        """A file system of this size at `path`, taken away with the deployment; only root may ask for one."""
        path.mkdir(parents=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "e2e", str(path)], check=True)
        self.mounts.append(path)

    def close(self) -> None:
        """Gives back what outlives the processes."""
        for path in self.mounts:
            subprocess.run(["umount", str(path)], check=True)
        if self._nursery is not None:
            self._nursery.close()

    def tails(self) -> str:
        """The last words of every process, for a failing test."""
        paths = sorted(self.logs.glob("*.log"))
        return "\n".join(f"---- {path.name}\n{path.read_text(errors='replace')[-3000:]}" for path in paths)


def join_line(invited: Mapping[str, Any]) -> list[str]:
    """The command an invitation prints."""
    return ["twinedge", "join", invited["url"], "--token", invited["token"], "--ca-sha256", invited["ca_sha256"]]


def signing_request(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A PKCS#10 request for a key."""
    from cryptography.hazmat.primitives.serialization import Encoding

    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "gateway")])
    return (
        x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)
    )


def may_mount() -> bool:
    """Whether a file system of a given size can be made here: by root, and outside most containers."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        return False
    with tempfile.TemporaryDirectory() as place:
        tried = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=64k", "e2e", place], capture_output=True, check=False
        )
        if tried.returncode == 0:
            subprocess.run(["umount", place], check=True)
        return tried.returncode == 0


__all__ = ["Gateway", "Plant", "ended_together", "join_line", "may_mount", "signing_request"]
