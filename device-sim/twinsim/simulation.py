"""One process that simulates everything a scenario names.

    plants ──▶ devices ──tick──▶ servers (modbus, opcua, mqtt) ──▶ clients
                  ▲                  └──▶ served.jsonl
    control, scenario: faults        links ──▶ targets

Devices tick on the boot clock with a fixed step, so that a seed repeats their physics exactly; a late tick is made up
for by a longer step (at most a minute, after a pause), never by two samples of the same moment. The state directory
holds ready.json (written when all servers accept), control.sock, served.jsonl, certificate and broker files.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import math
import os
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import structlog

from twinmodel.clock import SECOND_NS, Clock
from twinmodel.errors import ConflictError, InputError, MissingError, StorageError
from twinsim.background import background
from twinsim.control import Order, control_channel
from twinsim.fleets import AnyDevice, Stage, serve
from twinsim.image.device import ProfileDevice
from twinsim.link import Link, LinkMode, check_mode, link
from twinsim.scenario import CLEAR, Scenario, schedule
from twinsim.served import ServedLog

READY_NAME = "ready.json"
FLUSH_S = 1.0
NAMES_SHOWN_MAX = 40

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Simulation:
    """What runs.

    Attributes:
        state: its directory.
        devices: by name.
        links: by name.
        addresses: protocol or fleet -> URL clients use, and link name -> `HOST:PORT`.
        log: the served log.
    """

    state: Path
    log: ServedLog
    devices: dict[str, AnyDevice] = field(default_factory=dict)
    links: dict[str, Link] = field(default_factory=dict)
    addresses: dict[str, str] = field(default_factory=dict)

    def fault(
        self,
        target: str,
        kind: str,
        *,
        point: str = "",
        size: float | None = None,
        for_s: float | None = None,
        to: str = "",
    ) -> None:
        """Switches on a fault of a device or the mode of a link.

        Raises:
            MissingError: UNKNOWN_DEVICE.
            InputError: VALUE_INVALID or UNKNOWN_SIGNAL.
        """
        if target in self.links:
            self.links[target].set_mode(kind, delay_s=size, for_s=for_s)
        else:
            self._device(target).inject(kind, point=point, size=size, for_s=for_s, to=to)
        _log.info("fault begins", target=target, kind=kind, point=point, size=size, for_s=for_s, to=to)

    def check(
        self,
        target: str,
        kind: str,
        *,
        point: str = "",
        size: float | None = None,
        for_s: float | None = None,
        to: str = "",
    ) -> None:
        """Refuses what `fault` (or, for the kind `clear`, `clear`) would refuse, and changes nothing."""
        if kind == CLEAR:
            self._known(target)
        elif target in self.links:
            check_mode(kind, delay_s=size, for_s=for_s)
        else:
            self._device(target).check(kind, point=point, size=size, for_s=for_s, to=to)

    def _known(self, target: str) -> None:
        if target not in self.links:
            self._device(target)

    def clear(self, target: str) -> None:
        """Ends all faults of a device or brings a link up. Raises MissingError UNKNOWN_DEVICE."""
        if target in self.links:
            self.links[target].set_mode(LinkMode.UP)
        else:
            self._device(target).faults.clear()
        _log.info("faults cleared", target=target)

    def _device(self, name: str) -> AnyDevice:
        if name not in self.devices:
            names = [*self.devices, *self.links]
            known = ", ".join(names[:NAMES_SHOWN_MAX]) + (" ..." if len(names) > NAMES_SHOWN_MAX else "")
            raise MissingError("UNKNOWN_DEVICE", f"no device or link is called {name!r}", hint=f"use one of {known}")
        return self.devices[name]

    def describe(self) -> dict[str, Any]:
        """Devices and links with their faults, as `twinsim list` shows them."""
        devices = [self._described(device) for device in self.devices.values()]
        links = [
            {
                "name": item.name,
                "address": self.addresses[item.name],
                "to": f"{item.target[0]}:{item.target[1]}",
                "mode": str(item.mode),
                "connections": item.connections,
                "passed_bytes": item.passed_bytes,
            }
            for item in self.links.values()
        ]
        return {"devices": devices, "links": links, "served": self.log.count}

    def _described(self, device: AnyDevice) -> dict[str, Any]:
        found: dict[str, Any] = {
            "name": device.name,
            "protocol": device.protocol,
            "profile": device.profile,
            "address": device.address or self.addresses.get(device.protocol, ""),
            "number": device.number,
            "sample_no": device.sample_no,
            "faults": [str(f.kind) for f in device.faults.on],
            "reading": {n: v if math.isfinite(v) else None for n, v in device.reading.items()},
        }
        if isinstance(device, ProfileDevice):
            found |= {"firmware": device.image.firmware, "unit_id": device.unit_id, "root": device.root}
            found |= {"starts": device.starts, "away": device.away, "writes": [asdict(w) for w in device.writes]}
        return found

    def obey(self, order: Order) -> dict[str, Any]:
        """Answers one order of the control channel. Raises TwinError."""
        match order:
            case {"do": "list"}:
                return self.describe()
            case {"do": "clear", "target": str(target)}:
                self.clear(target)
            case {"do": "fault" | "check" as do, "target": str(target), "kind": str(kind)}:
                point = order.get("point") or ""
                to = order.get("to") or ""
                if not isinstance(point, str) or not isinstance(to, str):
                    raise InputError("REQUEST_INVALID", "point or to is no text")
                size, for_s = _number(order, "size"), _number(order, "for_s")
                begin = self.fault if do == "fault" else self.check
                begin(target, kind, point=point, size=size, for_s=for_s, to=to)
            case _:
                raise InputError("REQUEST_INVALID", "an order is list, fault or check (target, kind), clear (target)")
        return {}


def _number(order: Order, key: str) -> float | None:
    value = order.get(key)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise InputError("REQUEST_INVALID", f"{key} is no number")
    return None if value is None else float(value)


@asynccontextmanager
async def simulation(scenario: Scenario, state: Path, clock: Clock) -> AsyncIterator[Simulation]:
    """Runs a scenario while the context is open; when it yields, all servers accept.

    Args:
        scenario: what to simulate.
        state: its directory, made when missing; only one simulation at a time may use it.
        clock: where time stamps and ticks come from.

    Raises:
        ConflictError: PORT_IN_USE, STATE_LOCKED, or EXTRA_MISSING without a broker.
        StorageError: STORE_READ_ONLY when the directory cannot be written.
    """
    _prepare(state)
    async with AsyncExitStack() as stack:
        stack.enter_context(_only_one(state))
        (state / READY_NAME).unlink(missing_ok=True)
        log = ServedLog(state)
        stack.callback(log.close)
        made = Simulation(state, log)
        tasks = await stack.enter_async_context(background())
        tasks.start(_flush(log), "served log")
        await serve(Stage(state, log, clock, stack, tasks, made.devices, made.addresses), scenario)
        for name, plan in scenario.links.items():
            host, port = _place(plan.listen)
            opened = await stack.enter_async_context(link(_place(plan.to), name=name, host=host, port=port))
            made.links[name] = opened
            made.addresses[name] = f"{host}:{opened.port}"
        tasks.start(_play(made, scenario, clock), "scenario")
        await stack.enter_async_context(control_channel(state, made.obey, tasks))
        _announce(made)
        stack.callback(tasks.cancel)  # ticks end before the servers they publish through
        stack.callback((state / READY_NAME).unlink, missing_ok=True)
        yield made


def _prepare(state: Path) -> None:
    try:
        state.mkdir(parents=True, exist_ok=True)
    except OSError as refused:
        raise StorageError("STORE_READ_ONLY", f"cannot write {state}: {refused.strerror}") from refused


async def run(
    scenario: Scenario,
    state: Path,
    clock: Clock,
    stop: asyncio.Event,
    ready: Callable[[Simulation], None] | None = None,
) -> None:
    """Runs a scenario until `stop` is set; calls `ready` once all servers accept. Raises as `simulation`."""
    async with simulation(scenario, state, clock) as made:
        if ready is not None:
            ready(made)
        await stop.wait()


@contextmanager
def _only_one(state: Path) -> Iterator[None]:
    with (state / "lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConflictError("STATE_LOCKED", f"another simulation runs in {state}", path=str(state)) from None
        yield


async def _flush(log: ServedLog) -> None:
    while True:
        await asyncio.sleep(FLUSH_S)
        log.flush()


async def _play(made: Simulation, scenario: Scenario, clock: Clock) -> None:
    """Switches on the faults of the scenario when their time comes."""
    start_ns = clock.boot_ns()
    for at, plan in schedule(scenario.faults):
        await asyncio.sleep(max(0.0, (start_ns + at - clock.boot_ns()) / SECOND_NS))
        if plan.fault == CLEAR:
            made.clear(plan.target)
        else:
            made.fault(plan.target, str(plan.fault), point=plan.point, size=plan.size, for_s=plan.for_s, to=plan.to)


def _place(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host, int(port)


def _announced(device: AnyDevice) -> dict[str, object]:
    if not isinstance(device, ProfileDevice):
        return {"protocol": device.protocol, "unit_id": device.number}
    found = {"protocol": device.protocol, "address": device.address, "profile": device.profile}
    return found | ({"unit_id": device.unit_id} if device.protocol == "modbus" else {"root": device.root})


def _announce(made: Simulation) -> None:
    """Writes ready.json in one step: whoever sees the file sees all of it."""
    content: Mapping[str, object] = {
        "pid": os.getpid(),
        "addresses": made.addresses,
        "devices": {d.name: _announced(d) for d in made.devices.values()},
        "links": sorted(made.links),
    }
    draft = made.state / f"{READY_NAME}.new"
    draft.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    draft.replace(made.state / READY_NAME)
    _log.info("simulation is ready", state=str(made.state), **made.addresses)
