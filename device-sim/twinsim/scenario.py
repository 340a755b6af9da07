"""Scenarios: which devices to simulate, where, and which faults to switch on when; from YAML or from flags.

seed: 7
modbus: {devices: 4, port: 8500}
opcua: {devices: 3, port: 8501, rate: 1}
mqtt: {devices: 2, port: 8502, broker: mosquitto}
profiles:
  meter: {profile: abb/b23, devices: 3, set: {power: 1500}}
links:
  wan: {listen: "127.0.0.1:8600", to: "127.0.0.1:8421"}
faults:
  - {at: 60s, target: HX-3, fault: plant_drift, size: 0.4, for: 10min}
  - {at: 90s, target: wan, fault: cut, for: 30s, repeat: {every: 5min, times: 12}}
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from heapq import merge
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from twinmodel.clock import MILLISECOND_NS, SECOND_NS
from twinmodel.errors import InputError
from twinmodel.profile.document import nearest
from twinmodel.profile.load import read_yaml
from twinmodel.profile.schema import Duration
from twinsim.faults import FaultKind
from twinsim.firmware import KINDS
from twinsim.link import LinkMode
from twinsim.misfits import Misfit, refuse

PORT_BASE = 8500
CLEAR = "clear"
REPEAT_MAX = 100_000
LOOKED_AT_MAX = 100_000
"""Times of faults that are compared with one another before a file is taken."""
DEVICES_MAX = 247
FLEET_MAX = 10_000
RATE_MAX_HZ = 100.0
PROTOCOLS: tuple[Literal["modbus", "opcua", "mqtt"], ...] = ("modbus", "opcua", "mqtt")

Port = Annotated[int, Field(ge=0, le=65535)]
Place = Annotated[str, Field(pattern=r"^[^:\s]+:\d{1,5}$")]


def _text(value: object) -> object:
    return str(value).lower() if isinstance(value, bool) else str(value) if isinstance(value, int | float) else value


def _known_fault(value: object) -> object:
    known = (*FaultKind, *LinkMode, CLEAR)
    if not isinstance(value, str) or value in known:
        return value
    guess = nearest(value, known)
    raise ValueError(f"no fault is called {value!r}; " + (f"did you mean `{guess}`?" if guess else "see the manual"))


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Fleet(_Strict):
    """Devices of one protocol.

    Attributes:
        devices: how many.
        port: where they are served, 0 for any free port.
        rate: updates per second, None for the device's own.
    """

    devices: int = Field(1, ge=1, le=DEVICES_MAX)
    port: Port = 0
    rate: float | None = Field(None, gt=0, le=RATE_MAX_HZ)


class OpcuaFleet(Fleet):
    """Heat exchangers; `user` and `password` close the server to everybody else."""

    user: str | None = None
    password: str | None = Field(None, repr=False)

    @model_validator(mode="after")
    def _both(self) -> OpcuaFleet:
        if (self.user is None) != (self.password is None):
            raise ValueError("user and password come together")
        return self


class MqttFleet(Fleet):
    """Pumps; `url` names a broker that runs already, else one is started (`broker`: which)."""

    broker: Literal["mosquitto", "amqtt"] | None = None
    url: str | None = Field(None, pattern=r"^mqtt://[^\s/]+$")


class ProfileFleet(_Strict):
    """Devices that a firmware profile describes; they are called like the fleet, `meter-1`, `meter-2` ...

    Attributes:
        profile: `vendor/device`, `vendor/device/version`, or a file.
        devices: how many.
        firmware: text the devices tell; "" is one that fits the profile.
        settings: point -> value that stays; a number, a state's label, or `absent`.
        rate: updates per second.
        host, port: where they are served; port 0 for any free one.
        spread: modbus: all behind one port, a port each, or an address each.
        framing: modbus: `tcp`, or `rtu` for RTU over TCP.
        broker, url: mqtt: the broker to start, or the one that runs already.
        log: whether to write the served log; None is yes for up to a hundred devices.
    """

    profile: str
    devices: int = Field(1, ge=1, le=FLEET_MAX)
    firmware: str = ""
    settings: dict[str, Annotated[str, BeforeValidator(_text)]] = Field(default_factory=dict, alias="set")
    rate: float | None = Field(None, gt=0, le=RATE_MAX_HZ)
    host: Annotated[str, Field(pattern=r"^[0-9.]{7,15}$")] = "127.0.0.1"
    port: Port = 0
    spread: Literal["units", "ports", "hosts"] = "units"
    framing: Literal["tcp", "rtu"] = "tcp"
    broker: Literal["mosquitto", "amqtt"] | None = None
    url: str | None = Field(None, pattern=r"^mqtt://[^\s/]+$")
    log: bool | None = None


class LinkPlan(_Strict):
    """A link to open: `listen` and `to` are HOST:PORT."""

    listen: Place = "127.0.0.1:0"
    to: Place


class Repeat(_Strict):
    """Again and again: `times` in all, `every` that much later than the time before."""

    every: Annotated[Duration, Field(ge=MILLISECOND_NS)]
    times: int = Field(ge=1, le=REPEAT_MAX)


class FaultPlan(_Strict):
    """A fault to switch on `at` a time after the start.

    Attributes:
        at: when.
        target: a device or a link.
        fault: its kind, the mode of a link, or `clear`, which ends all of the target.
        point, size, to: as the kind takes them.
        lasting: how long; without it, until it is cleared.
        repeat: whether it comes again.
        expect: what should be seen then, in words, for whoever reads along.
    """

    at: Duration
    target: str = Field(validation_alias=AliasChoices("target", "device"))
    fault: Annotated[FaultKind | LinkMode | Literal["clear"], BeforeValidator(_known_fault)]
    point: str = ""
    size: float | None = None
    to: str = ""
    lasting: Annotated[Duration | None, Field(alias="for", gt=0)] = None
    repeat: Repeat | None = None
    expect: str = Field("", max_length=500)

    @property
    def for_s(self) -> float | None:
        """How long in seconds."""
        return None if self.lasting is None else self.lasting / SECOND_NS

    @model_validator(mode="after")
    def _clears(self) -> FaultPlan:
        if self.fault == CLEAR and (self.point or self.to or self.size is not None or self.lasting is not None):
            raise ValueError("`clear` ends all faults of its target and takes nothing else")
        return self


class FaultScript(_Strict):
    """A file of faults for a simulation that runs: `faults`, as in a scenario."""

    faults: list[FaultPlan] = Field(min_length=1, max_length=10_000)


class Scenario(_Strict):
    """One simulation; see the module for an example."""

    seed: int = Field(1, ge=0)
    modbus: Fleet | None = None
    opcua: OpcuaFleet | None = None
    mqtt: MqttFleet | None = None
    profiles: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")], ProfileFleet] = Field(
        default_factory=dict, max_length=64
    )
    links: dict[str, LinkPlan] = Field(default_factory=dict, max_length=64)
    faults: list[FaultPlan] = Field(default_factory=list, max_length=10_000)

    def link_names(self) -> set[str]:
        """Names of all links."""
        return set(self.links)

    @model_validator(mode="after")
    def _fits(self) -> Scenario:
        refuse("Scenario", self.misfits())
        return self

    def misfits(self) -> Iterator[Misfit]:
        """What does not fit together: names, faults and their targets, ports."""
        devices, links = set(device_names(self)), self.link_names()
        for name in self.profiles:
            if name in PROTOCOLS:
                yield ("profiles", name), f"{name!r} is the name of a protocol; choose another one"
        for name in self.links:
            if self.is_taken(name):
                yield ("links", name), f"{name!r} is taken by a device or a protocol; choose another name"
        for number, plan in enumerate(self.faults):
            known, kinds = (links, LinkMode) if plan.target in links else (devices, FaultKind)
            if plan.target not in known:
                yield _no_target(number, plan.target, devices | links)
            elif plan.fault not in (*kinds, CLEAR):
                text = f"{plan.target} has no {plan.fault}; use one of {', '.join(kinds)}"
                yield ("faults", number, "fault"), text
        yield from _overlaps(self.faults, links)
        yield from _shared_ports(self)

    def is_taken(self, name: str) -> bool:
        """Whether a device, a fleet or a protocol is called so."""
        return name in PROTOCOLS or name in self.profiles or name in device_names(self)


def _no_target(number: int, target: str, known: set[str]) -> Misfit:
    guess = nearest(target, known)
    text = f"{target!r} is neither a device nor a link of this scenario"
    return ("faults", number, "target"), text + (f"; did you mean `{guess}`?" if guess else "")


def _overlaps(plans: Sequence[FaultPlan], links: set[str]) -> Iterator[Misfit]:
    """Faults that would end another one early: a device has one of each kind, a link one mode."""
    numbers = {id(plan): number for number, plan in enumerate(plans)}
    busy: dict[tuple[str, str], tuple[int, int, int]] = {}  # what is on -> whose fault, since, until
    told: set[int] = set()
    for at_ns, plan in islice(schedule(plans), LOOKED_AT_MAX):
        number, link = numbers[id(plan)], plan.target in links
        if plan.fault == CLEAR or (link and plan.fault == LinkMode.UP):
            busy = {key: value for key, value in busy.items() if key[0] != plan.target}
            continue
        key = (plan.target, "" if link else str(plan.fault))
        if key in busy and at_ns < busy[key][2] and number not in told:
            told.add(number)
            other, since_ns, until_ns = busy[key]
            whose = "it" if other == number else f"the {plans[other].fault} of `faults.{other}`"
            text = f"{whose} is on from {since_ns / SECOND_NS:g} s to {until_ns / SECOND_NS:g} s and would end at"
            yield ("faults", number), f"{text} {at_ns / SECOND_NS:g} s; let it be over before, or `clear` it"
        if plan.lasting is None:
            busy.pop(key, None)
        else:
            busy[key] = (number, at_ns, at_ns + plan.lasting)


def _shared_ports(scenario: Scenario) -> Iterator[Misfit]:
    """Fleets and links that want a port which another one has."""
    taken: dict[tuple[str, int], str] = {}
    for keys, places in _places(scenario):
        name = ".".join(str(key) for key in keys)
        for host, port in places:
            other = taken.setdefault((host, port), name)
            if other != name:
                yield (*keys, "port" if keys[0] != "links" else "listen"), f"{host}:{port} is that of `{other}` already"
                break


def _places(scenario: Scenario) -> Iterator[tuple[tuple[str | int, ...], list[tuple[str, int]]]]:
    """Where each part listens, as far as its file says; a free port is nobody's."""
    for protocol in PROTOCOLS:
        plan: Fleet | None = getattr(scenario, protocol)
        if plan is not None and plan.port and getattr(plan, "url", None) is None:
            yield (protocol,), [("127.0.0.1", plan.port)]
    for name, fleet in scenario.profiles.items():
        if fleet.port and fleet.url is None and fleet.spread != "hosts":
            many = fleet.devices if fleet.spread == "ports" else 1
            yield ("profiles", name), [(fleet.host, fleet.port + k) for k in range(many)]
    for name, link in scenario.links.items():
        host, _, port = link.listen.rpartition(":")
        if int(port):
            yield ("links", name), [(host, int(port))]


def schedule(plans: Sequence[FaultPlan]) -> Iterator[tuple[int, FaultPlan]]:
    """Every single time a fault is switched on, as nanoseconds after the start, in order; repeated ones too."""
    return merge(*(_times(plan) for plan in sorted(plans, key=lambda p: p.at)), key=itemgetter(0))


def _times(plan: FaultPlan) -> Iterator[tuple[int, FaultPlan]]:
    every, times = (0, 1) if plan.repeat is None else (plan.repeat.every, plan.repeat.times)
    return ((plan.at + number * every, plan) for number in range(times))


def device_names(scenario: Scenario) -> list[str]:
    """Names of all devices, such as `HX-1`."""
    fleets = ((protocol, getattr(scenario, protocol)) for protocol in PROTOCOLS)
    names = [f"{KINDS[p].prefix}-{i}" for p, fleet in fleets if fleet is not None for i in range(1, fleet.devices + 1)]
    return names + [f"{name}-{i}" for name, fleet in scenario.profiles.items() for i in range(1, fleet.devices + 1)]


def profile_scenario(name: str, seed: int, **plan: object) -> Scenario:
    """The scenario of one fleet made from a profile; `plan` as of `ProfileFleet`.

    Raises:
        InputError: VALUE_INVALID for a value out of range.
    """
    try:
        return Scenario.model_validate({"seed": seed, "profiles": {name: plan}})
    except ValueError as wrong:
        raise InputError("VALUE_INVALID", " ".join(str(wrong).split())) from None


def read_scenario(path: Path) -> Scenario:
    """Reads a scenario file. Raises ConfigError with path, line and the nearest valid key."""
    return read_yaml(path, Scenario)


def plain_scenario(
    protocols: tuple[str, ...],
    *,
    devices: int,
    seed: int,
    port: int | None = None,
    rate: float | None = None,
) -> Scenario:
    """The scenario that flags describe: `devices` of each protocol on ports `port`, `port + 1`, ...

    Raises:
        InputError: VALUE_INVALID for a number out of range.
    """
    fleets: dict[str, object] = {}
    for offset, protocol in enumerate(protocols):
        at = 0 if port == 0 else (PORT_BASE if port is None else port) + offset
        fleets[protocol] = {"devices": devices, "port": at, "rate": rate}
    try:
        return Scenario.model_validate({"seed": seed, **fleets})
    except ValueError as wrong:
        raise InputError("VALUE_INVALID", " ".join(str(wrong).split())) from None
