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
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

from twinmodel.clock import SECOND_NS, Clock
from twinmodel.errors import ConflictError, InputError, MissingError, StorageError
from twinsim.background import Background, background
from twinsim.control import Order, control_channel
from twinsim.device import Device
from twinsim.firmware import KINDS, Protocol
from twinsim.link import Link, LinkMode, link
from twinsim.scenario import Scenario
from twinsim.served import ServedLog

READY_NAME = "ready.json"
FLUSH_S = 1.0
MAKE_UP_MAX_S = 60.0

_log = structlog.get_logger(__name__)
Publish = Callable[[Device], Awaitable[None]]


@dataclass(slots=True)
class Simulation:
    """What runs.

    Attributes:
        state: its directory.
        devices: by name.
        links: by name.
        addresses: protocol -> URL clients use, and link name -> `HOST:PORT`.
        log: the served log.
    """

    state: Path
    log: ServedLog
    devices: dict[str, Device] = field(default_factory=dict)
    links: dict[str, Link] = field(default_factory=dict)
    addresses: dict[str, str] = field(default_factory=dict)

    def fault(
        self, target: str, kind: str, *, point: str = "", size: float | None = None, for_s: float | None = None
    ) -> None:
        """Switches on a fault of a device or the mode of a link.

        Raises:
            MissingError: UNKNOWN_DEVICE.
            InputError: VALUE_INVALID or UNKNOWN_SIGNAL.
        """
        if target in self.links:
            self.links[target].set_mode(kind, delay_s=size, for_s=for_s)
        else:
            self._device(target).inject(kind, point=point, size=size, for_s=for_s)
        _log.info("fault begins", target=target, kind=kind, point=point, size=size, for_s=for_s)

    def clear(self, target: str) -> None:
        """Ends all faults of a device or brings a link up. Raises MissingError UNKNOWN_DEVICE."""
        if target in self.links:
            self.links[target].set_mode(LinkMode.UP)
        else:
            self._device(target).faults.clear()
        _log.info("faults cleared", target=target)

    def _device(self, name: str) -> Device:
        if name not in self.devices:
            known = ", ".join([*self.devices, *self.links])
            raise MissingError("UNKNOWN_DEVICE", f"no device or link is called {name!r}", hint=f"use one of {known}")
        return self.devices[name]

    def describe(self) -> dict[str, Any]:
        """Devices and links with their faults, as `twinsim list` shows them."""
        devices = [
            {
                "name": d.name,
                "protocol": d.kind.protocol,
                "profile": d.kind.profile,
                "address": self.addresses.get(d.kind.protocol, ""),
                "number": d.number,
                "sample_no": d.sample_no,
                "faults": [str(f.kind) for f in d.faults.on],
                "reading": dict(d.reading),
            }
            for d in self.devices.values()
        ]
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

    def obey(self, order: Order) -> dict[str, Any]:
        """Answers one order of the control channel. Raises TwinError."""
        match order:
            case {"do": "list"}:
                return self.describe()
            case {"do": "clear", "target": str(target)}:
                self.clear(target)
            case {"do": "fault", "target": str(target), "kind": str(kind)}:
                point = order.get("point") or ""
                if not isinstance(point, str):
                    raise InputError("REQUEST_INVALID", "point is no text")
                self.fault(target, kind, point=point, size=_number(order, "size"), for_s=_number(order, "for_s"))
            case _:
                raise InputError("REQUEST_INVALID", "an order is list, fault (target, kind) or clear (target)")
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
        await _serve(made, scenario, clock, stack, tasks)
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


async def _serve(made: Simulation, scenario: Scenario, clock: Clock, stack: AsyncExitStack, tasks: Background) -> None:
    """Starts the servers a scenario names; each library is imported only when its protocol is served."""
    if scenario.modbus is not None:
        from twinsim.serve.modbus import serve_modbus  # noqa: PLC0415  # loads pymodbus

        units, dt_s = _devices(made, scenario, "modbus", clock)
        port = await stack.enter_async_context(serve_modbus(units, made.log, clock, port=scenario.modbus.port))
        made.addresses["modbus"] = f"tcp://127.0.0.1:{port}"
        tasks.start(_tick(units, dt_s, clock, None), "modbus ticks")
    if scenario.opcua is not None:
        from twinsim.serve.opcua import serve_opcua  # noqa: PLC0415  # loads asyncua, half a second

        plan = scenario.opcua
        login = None if plan.user is None or plan.password is None else (plan.user, plan.password)
        objects, dt_s = _devices(made, scenario, "opcua", clock)
        server, port = await stack.enter_async_context(
            serve_opcua(objects, made.log, clock, state=made.state, port=plan.port, login=login)
        )
        made.addresses["opcua"] = f"opc.tcp://127.0.0.1:{port}/twinsim"
        tasks.start(_tick(objects, dt_s, clock, server.publish), "opcua ticks")
    if scenario.mqtt is not None:
        from twinsim.serve.broker import broker, choose_brand  # noqa: PLC0415  # only with mqtt
        from twinsim.serve.mqtt import serve_mqtt, version_of  # noqa: PLC0415  # loads paho

        pumps, dt_s = _devices(made, scenario, "mqtt", clock)
        url, brand = scenario.mqtt.url, None
        if url is None:
            brand = scenario.mqtt.broker or choose_brand()
            url = await stack.enter_async_context(broker(scenario.mqtt.port, made.state, brand))
        publishers = await stack.enter_async_context(serve_mqtt(pumps, made.log, url, version_of(brand)))
        by_name = {p.device.name: p for p in publishers}

        async def publish(device: Device) -> None:
            by_name[device.name].publish()

        made.addresses["mqtt"] = url
        tasks.start(_tick(pumps, dt_s, clock, publish), "mqtt ticks")


def _devices(made: Simulation, scenario: Scenario, protocol: Protocol, clock: Clock) -> tuple[list[Device], float]:
    """Makes the devices of one protocol, ticked once, and their step in seconds."""
    kind = KINDS[protocol]
    fleet = getattr(scenario, protocol)
    dt_s = 1.0 / (fleet.rate or kind.rate_hz)
    devices = [Device(kind, number, scenario.seed) for number in range(1, fleet.devices + 1)]
    for device in devices:
        device.sample_no = made.log.last.get(device.name, 0)
        device.tick(dt_s, clock.wall_ns())
        made.devices[device.name] = device
    return devices, dt_s


async def _tick(devices: list[Device], dt_s: float, clock: Clock, publish: Publish | None) -> None:
    """Moves devices on at their rate, for ever."""
    period_ns = round(dt_s * SECOND_NS)
    due_ns = clock.boot_ns() + period_ns
    while True:
        await asyncio.sleep(max(0.0, (due_ns - clock.boot_ns()) / SECOND_NS))
        periods = max(1, 1 + (clock.boot_ns() - due_ns) // period_ns)
        due_ns += periods * period_ns
        wall_ns = clock.wall_ns()
        step_s = dt_s if periods == 1 else min(periods * dt_s, max(dt_s, MAKE_UP_MAX_S))
        for device in devices:
            device.tick(step_s, wall_ns)
            if publish is not None:
                await publish(device)


async def _flush(log: ServedLog) -> None:
    while True:
        await asyncio.sleep(FLUSH_S)
        log.flush()


async def _play(made: Simulation, scenario: Scenario, clock: Clock) -> None:
    """Switches on the faults of the scenario when their time comes."""
    start_ns = clock.boot_ns()
    for plan in sorted(scenario.faults, key=lambda p: p.at):
        await asyncio.sleep(max(0.0, (start_ns + plan.at - clock.boot_ns()) / SECOND_NS))
        for_s = None if plan.lasting is None else plan.lasting / SECOND_NS
        made.fault(plan.target, str(plan.fault), point=plan.point, size=plan.size, for_s=for_s)


def _place(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host, int(port)


def _announce(made: Simulation) -> None:
    """Writes ready.json in one step: whoever sees the file sees all of it."""
    content: Mapping[str, object] = {
        "pid": os.getpid(),
        "addresses": made.addresses,
        "devices": {d.name: {"protocol": d.kind.protocol, "unit_id": d.number} for d in made.devices.values()},
        "links": sorted(made.links),
    }
    draft = made.state / f"{READY_NAME}.new"
    draft.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    draft.replace(made.state / READY_NAME)
    _log.info("simulation is ready", state=str(made.state), **made.addresses)
