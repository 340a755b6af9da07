"""Devices of a scenario behind their servers, ticking: the plants of the demo, and fleets made from profiles."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from twinmodel.clock import SECOND_NS, Clock
from twinmodel.errors import ConflictError, InputError
from twinsim.background import Background
from twinsim.device import Device
from twinsim.firmware import KINDS, Protocol
from twinsim.image.device import ProfileDevice
from twinsim.image.source import find_source
from twinsim.scenario import ProfileFleet, Scenario
from twinsim.served import ServedLog

MAKE_UP_MAX_S = 60.0
RATE_HZ = 1.0
LOGGED_DEVICES_MAX = 100
"""Fleets larger than this write no served log unless told to: it is proof for tests, not for load."""

AnyDevice = Device | ProfileDevice
Publish = Callable[[Any], Awaitable[None]]
After = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Stage:
    """What servers are put on.

    Attributes:
        state: directory of the simulation.
        log: the served log.
        clock: where time stamps and ticks come from.
        stack: closes what was opened.
        tasks: runs what ticks.
        devices: by name.
        addresses: name of a protocol or a fleet -> URL clients use.
    """

    state: Path
    log: ServedLog
    clock: Clock
    stack: AsyncExitStack
    tasks: Background
    devices: dict[str, AnyDevice] = field(default_factory=dict)
    addresses: dict[str, str] = field(default_factory=dict)


async def serve(stage: Stage, scenario: Scenario) -> None:
    """Starts the servers a scenario names; each library is imported only when its protocol is served."""
    await _serve_plants(stage, scenario)
    for name, plan in scenario.profiles.items():
        await _serve_profile(stage, name, plan, scenario.seed)


async def _serve_plants(stage: Stage, scenario: Scenario) -> None:
    log, clock, stack = stage.log, stage.clock, stage.stack
    if scenario.modbus is not None:
        from twinsim.serve.modbus import serve_modbus  # noqa: PLC0415  # only with modbus

        units, dt_s = _plants(stage, scenario, "modbus")
        port = await stack.enter_async_context(serve_modbus(units, log, clock, port=scenario.modbus.port))
        stage.addresses["modbus"] = f"tcp://127.0.0.1:{port}"
        stage.tasks.start(_tick(units, dt_s, clock), "modbus ticks")
    if scenario.opcua is not None:
        from twinsim.serve.opcua import serve_opcua  # noqa: PLC0415  # loads asyncua, half a second

        plan = scenario.opcua
        login = None if plan.user is None or plan.password is None else (plan.user, plan.password)
        objects, dt_s = _plants(stage, scenario, "opcua")
        server, port = await stack.enter_async_context(
            serve_opcua(objects, log, clock, state=stage.state, port=plan.port, login=login)
        )
        stage.addresses["opcua"] = f"opc.tcp://127.0.0.1:{port}/twinsim"
        stage.tasks.start(_tick(objects, dt_s, clock, server.publish), "opcua ticks")
    if scenario.mqtt is not None:
        from twinsim.serve.broker import broker, choose_brand  # noqa: PLC0415  # only with mqtt
        from twinsim.serve.mqtt import serve_mqtt, version_of  # noqa: PLC0415  # loads paho

        pumps, dt_s = _plants(stage, scenario, "mqtt")
        url, brand = scenario.mqtt.url, None
        if url is None:
            brand = scenario.mqtt.broker or choose_brand()
            url = await stack.enter_async_context(broker(scenario.mqtt.port, stage.state, brand))
        publishers = await stack.enter_async_context(serve_mqtt(pumps, log, url, version_of(brand)))
        by_name = {p.device.name: p for p in publishers}

        async def publish(device: Device) -> None:
            by_name[device.name].publish()

        stage.addresses["mqtt"] = url
        stage.tasks.start(_tick(pumps, dt_s, clock, publish), "mqtt ticks")


def make_plants(scenario: Scenario, protocol: Protocol) -> tuple[list[Device], float]:
    """The demo's devices of one protocol, and their step in seconds; none when the scenario names none."""
    kind = KINDS[protocol]
    fleet = getattr(scenario, protocol)
    if fleet is None:
        return [], 1.0
    return [Device(kind, number, scenario.seed) for number in range(1, fleet.devices + 1)], 1.0 / (
        fleet.rate or kind.rate_hz
    )


def make_fleet(name: str, plan: ProfileFleet, seed: int) -> tuple[list[ProfileDevice], float]:
    """The devices of one profile, and their step in seconds."""
    source = find_source(plan.profile, plan.firmware)
    if plan.framing != "tcp" and source.profile.protocol != "modbus":
        raise InputError("VALUE_INVALID", f"{source.title} is a profile of {source.profile.protocol}, without framing")
    devices = [ProfileDevice(f"{name}-{k}", k, source, seed, plan.settings) for k in range(1, plan.devices + 1)]
    return devices, 1.0 / (plan.rate or RATE_HZ)


def _plants(stage: Stage, scenario: Scenario, protocol: Protocol) -> tuple[list[Device], float]:
    """Makes the devices of one protocol, ticked once, and their step in seconds."""
    devices, dt_s = make_plants(scenario, protocol)
    for device in devices:
        _add(stage, device, dt_s)
    return devices, dt_s


def _add(stage: Stage, device: AnyDevice, dt_s: float) -> None:
    if device.name in stage.devices:
        raise ConflictError("ALREADY_EXISTS", f"two devices are called {device.name}", hint="rename the fleet")
    device.sample_no = stage.log.last.get(device.name, 0)
    device.tick(dt_s, stage.clock.wall_ns())
    stage.devices[device.name] = device


async def _serve_profile(stage: Stage, name: str, plan: ProfileFleet, seed: int) -> None:
    """Makes and serves the devices of one profile."""
    devices, dt_s = make_fleet(name, plan, seed)
    protocol = devices[0].protocol
    for device in devices:
        _add(stage, device, dt_s)
    logged = plan.devices <= LOGGED_DEVICES_MAX if plan.log is None else plan.log
    log, stack = stage.log if logged else None, stage.stack
    publish: Publish | None = None
    after: After | None = None
    if protocol == "modbus":
        from twinsim.serve.modbus_profile import serve_registers  # noqa: PLC0415  # only with modbus

        listeners = await stack.enter_async_context(
            serve_registers(
                devices,
                log,
                stage.clock,
                host=str(ip_address(plan.host)),
                port=plan.port,
                spread=plan.spread,
                framing=plan.framing,
            )
        )

        async def drop() -> None:
            for listener in listeners:
                listener.drop()

        after = drop
    elif protocol == "opcua":
        from twinsim.serve.opcua_profile import serve_nodes  # noqa: PLC0415  # loads asyncua, half a second

        nodes = await stack.enter_async_context(
            serve_nodes(devices, log, stage.clock, state=stage.state, host=plan.host, port=plan.port)
        )
        publish, after = nodes.publish, nodes.after_tick
    else:
        from twinsim.serve.mqtt_profile import serve_messages  # noqa: PLC0415  # loads paho

        messages = await stack.enter_async_context(
            serve_messages(devices, log, state=stage.state, port=plan.port, url=plan.url, brand=plan.broker)
        )
        publish, after = messages.publish, messages.after_tick
    stage.addresses[name] = devices[0].address
    stage.tasks.start(_tick(devices, dt_s, stage.clock, publish, after), f"{name} ticks")


async def _tick(
    devices: Sequence[AnyDevice], dt_s: float, clock: Clock, publish: Publish | None = None, after: After | None = None
) -> None:
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
        if after is not None:
            await after()
