"""What the devices of a scenario measure, in virtual time and without a server: the same lines for the same seed.

    {"t_s": 1.0, "device": "T-1", "faults": [], "values": {"level2": 0.2413, "pump": 5.1}}

A line for each tick of each device, in order of time, then of the scenario; links have a line when a fault begins.
Numbers have nine digits, so that libraries of different machines agree.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence

from twinmodel.clock import SECOND_NS
from twinmodel.errors import ConfigError, TwinError
from twinmodel.profile.document import Document, in_order, joined
from twinsim.fleets import AnyDevice, make_fleet, make_plants
from twinsim.image.device import ProfileDevice
from twinsim.link import check_mode
from twinsim.scenario import CLEAR, PROTOCOLS, FaultPlan, Scenario, schedule

BEGIN_NS = 1_700_000_000 * SECOND_NS


def fleets_of(scenario: Scenario) -> list[tuple[Sequence[AnyDevice], float]]:
    """All devices of a scenario, fleet by fleet, each with its step in seconds."""
    made: list[tuple[Sequence[AnyDevice], float]] = [make_plants(scenario, protocol) for protocol in PROTOCOLS]
    made += [make_fleet(name, plan, scenario.seed) for name, plan in scenario.profiles.items()]
    return [fleet for fleet in made if fleet[0]]


def check_devices(scenario: Scenario, document: Document) -> None:
    """Makes all devices and asks each whether it could take its faults; nothing is served.

    Args:
        scenario: what the file says.
        document: the file, for the places of what is refused.

    Raises:
        ConfigError: everything refused, each with its line: no profile, a value a point cannot have, a sensor or a
            size that a fault does not know.
    """
    wrong: list[ConfigError] = []
    devices: dict[str, AnyDevice] = {}
    for protocol in PROTOCOLS:
        devices |= {device.name: device for device in make_plants(scenario, protocol)[0]}
    for name, plan in scenario.profiles.items():
        try:
            devices |= {device.name: device for device in make_fleet(name, plan, scenario.seed)[0]}
        except TwinError as refused:
            wrong.append(_placed(document, ("profiles", name), refused))
    for number, fault in enumerate(scenario.faults):
        try:
            _check_fault(fault, devices, scenario.link_names())
        except TwinError as refused:
            wrong.append(_placed(document, ("faults", number), refused))
    if wrong:
        raise joined(in_order(wrong))


def _check_fault(plan: FaultPlan, devices: Mapping[str, AnyDevice], links: set[str]) -> None:
    if plan.fault == CLEAR:
        return
    if plan.target in links:
        check_mode(str(plan.fault), delay_s=plan.size, for_s=plan.for_s)
    elif plan.target in devices:  # else its fleet was refused
        devices[plan.target].check(str(plan.fault), point=plan.point, size=plan.size, for_s=plan.for_s, to=plan.to)


def _placed(document: Document, keys: tuple[str | int, ...], refused: TwinError) -> ConfigError:
    if isinstance(refused, ConfigError) and "line" in refused.facts:
        return refused  # it has a place of its own, in a profile
    return document.error(refused.reason, keys, refused.message, hint=refused.hint)


def stream(scenario: Scenario, for_s: float) -> Iterator[str]:
    """The lines of the first `for_s` seconds; faults begin before the ticks of their moment."""
    fleets = fleets_of(scenario)
    devices = {device.name: device for fleet, _ in fleets for device in fleet}
    faults = deque(schedule(scenario.faults))
    periods_ns = [round(dt_s * SECOND_NS) for _, dt_s in fleets]
    due_ns = [0] * len(fleets)
    end_ns = round(for_s * SECOND_NS)
    while (now_ns := min(due_ns, default=end_ns + 1)) <= end_ns:
        while faults and faults[0][0] <= now_ns:
            yield from _begin(devices, *faults.popleft())
        for k, (fleet, dt_s) in enumerate(fleets):
            if due_ns[k] == now_ns:
                due_ns[k] += periods_ns[k]
                for device in fleet:
                    device.tick(dt_s, BEGIN_NS + now_ns)
                    yield _line(now_ns, device)


def digest_of(lines: Iterable[str]) -> dict[str, int | str]:
    """How many lines there are, and the SHA-256 of all of them."""
    digest, count = hashlib.sha256(), 0
    for line in lines:
        digest.update(line.encode() + b"\n")
        count += 1
    return {"lines": count, "sha256": digest.hexdigest()}


def _begin(devices: dict[str, AnyDevice], at_ns: int, plan: FaultPlan) -> Iterator[str]:
    device = devices.get(plan.target)
    if device is None:
        link = {"t_s": at_ns / SECOND_NS, "link": plan.target, "mode": str(plan.fault), "for_s": plan.for_s}
        yield json.dumps(link, separators=(",", ":"))
    elif plan.fault == CLEAR:
        device.faults.clear()
    else:
        device.inject(str(plan.fault), point=plan.point, size=plan.size, for_s=plan.for_s, to=plan.to)


def _line(now_ns: int, device: AnyDevice) -> str:
    values = {name: float(f"{v:.9g}") if math.isfinite(v) else None for name, v in sorted(device.reading.items())}
    line = {"t_s": now_ns / SECOND_NS, "device": device.name}
    line |= {"faults": sorted(str(fault.kind) for fault in device.faults.on), "values": values}
    if isinstance(device, ProfileDevice):
        line |= {"profile": device.profile, "away": device.away, "starts": device.starts}
    return json.dumps(line, separators=(",", ":"))
