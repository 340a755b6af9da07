"""Three protocols of load in processes of their own, and the site.yaml that reads a third of the points of each."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.drivers.broker import mosquitto
from bench.drivers.opcua_ours import TYPES
from bench.drivers.opcua_server import FOLDER, URI, kind_of
from bench.drivers.process import process, said
from twinsim.serve.broker import find_mosquitto

REGISTERED = 56
"""Points of one Modbus device: a block read."""
FIELDS = 33
"""Values of one message."""


@dataclass(frozen=True, slots=True)
class Load:
    """Points a second of each protocol."""

    modbus: int
    opcua: int
    mqtt: int

    @staticmethod
    def of(points_per_s: int) -> Load:
        """A third each; without mosquitto half each of the others."""
        if find_mosquitto() is None:
            return Load(points_per_s - points_per_s // 2, points_per_s // 2, 0)
        third = points_per_s // 3
        return Load(points_per_s - 2 * third, third, third)

    @property
    def total(self) -> int:
        """All of them."""
        return self.modbus + self.opcua + self.mqtt


@dataclass(frozen=True, slots=True)
class Servers:
    """Where the load is.

    Attributes:
        load: what is offered.
        modbus, opcua, mqtt: ports, 0 where nothing is.
        running: processes that make it.
    """

    load: Load
    modbus: int
    opcua: int
    mqtt: int
    running: tuple[subprocess.Popen[str], ...]

    def hosts(self) -> list[str]:
        """Modbus hosts, a device each."""
        return _hosts(self.load.modbus)


def _hosts(points: int) -> list[str]:
    return [f"127.0.{4 + n // 250}.{1 + n % 250}" for n in range(-(-points // REGISTERED))]


def _topics(points: int) -> int:
    return -(-points // FIELDS)


@contextmanager
def servers(load: Load) -> Iterator[Servers]:
    """Starts them; when it yields all are ready."""
    with ExitStack() as stack:
        modbus = stack.enter_context(process("-m", "bench.drivers.modbus_server", *_hosts(load.modbus)))
        opcua = stack.enter_context(process("-m", "bench.drivers.opcua_server", str(load.opcua)))
        running, broker = [modbus, opcua], 0
        if load.mqtt:
            broker = stack.enter_context(mosquitto())
            arguments = (str(broker), str(_topics(load.mqtt)), str(FIELDS))
            running.append(stack.enter_context(process("-m", "bench.edge.messages", *arguments)))
            said(running[-1])
        yield Servers(load, int(said(modbus)), int(said(opcua)), broker, tuple(running))


def write_profiles(folder: Path, load: Load) -> None:
    """Firmware profiles of the load below `folder`."""
    points = [f"  r{n}: {{at: holding {2 * n}, as: float32}}" for n in range(min(REGISTERED, load.modbus))]
    _write(folder, "floats", ["protocol: modbus", "base: 0", "defaults: {every: 1s}", "points:", *points])
    points = [f'  v{n}: {{at: "F{n // FOLDER}/V{n}", as: {TYPES[kind_of(n)]}}}' for n in range(load.opcua)]
    _write(folder, "variables", ["protocol: opcua", f'namespace: "{URI}"', "points:", *points])
    points = [f"  f{n}: {{at: $.f{n}, as: float64}}" for n in range(FIELDS)]
    _write(
        folder,
        "messages",
        ["protocol: mqtt", 'defaults: {topic: "{root}/telemetry", time: $.t}', "points:", *points],
    )


def _write(folder: Path, name: str, lines: list[str]) -> None:
    path = folder / "bench" / name / "1.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([f"profile: bench/{name}", *lines]) + "\n")


def site_of(made: Servers, profiles: Path, **sections: Any) -> dict[str, Any]:
    """The site.yaml that reads all of the load."""
    devices: dict[str, Any] = {
        f"m{n}": {"modbus": f"tcp://{host}:{made.modbus}", "profile": "bench/floats"}
        for n, host in enumerate(made.hosts())
    }
    devices["o"] = {"opcua": f"opc.tcp://127.0.0.1:{made.opcua}/", "profile": "bench/variables"}
    for n in range(_topics(made.load.mqtt)):
        devices[f"p{n}"] = {"mqtt": f"mqtt://127.0.0.1:{made.mqtt}", "root": f"p{n}", "profile": "bench/messages"}
    content = {"site": "bench", "profiles": str(profiles), "devices": devices, "status": {"port": 0}}
    return content | {"spool": {"disk": "1GiB", "sync_telemetry": "2s"}} | sections
