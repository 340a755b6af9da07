"""A whole plant in one file: simulated devices, links and faults as in a scenario, and the programs around them.

description: a link is cut; what was measured meanwhile arrives when it is back
modbus: {devices: 2}
models: [../plants/two-tanks.yaml]
coordinator: {period_s: 10}                # settings of twincloud.yaml; places and state are chosen
gateways:
  north/n1:
    devices: ["T-*"]
    link: true                             # reaches the coordinator through a link called n1
    config:                                # sections of site.yaml, passed on as they are
      twins: {tank-1: {definition: two-tanks, inputs: {pump: T-1.pump}, outputs: {level2: T-1.level2}}}
lasts: 30s                                 # times count from when everything is up
faults:
  - {at: 5s, target: n1, fault: cut, for: 10s}
steps:
  - {at: 20s, do: kill, target: n1}
  - {at: 21s, do: start, target: n1}
expect:
  - {at: 10s, gateway: n1, is: {connected: false}}
  - {at: 16s, within: 10s, gateway: n1, is: {connected: true, backlog_samples: {max: 50}}}
samples: {lost: 0, duplicates: 0}
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from twinmodel.clock import SECOND_NS
from twinmodel.errors import REASONS
from twinmodel.profile.document import nearest
from twinmodel.profile.load import read_yaml
from twinmodel.profile.schema import Duration, Strict
from twinsim.misfits import Misfit
from twinsim.scenario import Scenario, device_names

LASTS_NS = 30 * SECOND_NS
LASTS_MAX_NS = 30 * 86_400 * SECOND_NS
WITHIN_NS = 10 * SECOND_NS
COORDINATOR, DEVICES = "coordinator", "devices"
CHOSEN = ("state", "port", "sync_port", "enrol_port")
SUBJECTS = ("gateway", "twin", "alarm", "command", "directive", "losses", "status", "device", "fleet", "get")
_NAME = r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}"

Verb = Literal["kill", "stop", "start", "restart", "edit", "reload", "assign", "command", "alarm"]
_TAKES: dict[str, tuple[frozenset[str], frozenset[str]]] = {  # verb -> what it needs, what it may have
    "kill": (frozenset({"target"}), frozenset()),
    "stop": (frozenset({"target"}), frozenset()),
    "start": (frozenset({"target"}), frozenset()),
    "restart": (frozenset({"target"}), frozenset()),
    "edit": (frozenset({"target", "set"}), frozenset({"refused"})),
    "reload": (frozenset({"target"}), frozenset({"refused"})),
    "assign": (frozenset({"target", "model"}), frozenset({"refused"})),
    "command": (frozenset({"target"}), frozenset({"value", "body", "name", "refused"})),
    "alarm": (frozenset({"target", "verb"}), frozenset({"body", "refused"})),
}


class Gateway(Strict):
    """One agent.

    Attributes:
        devices: names of simulated devices, or patterns such as `meter-*`.
        link: whether it reaches the coordinator through a link, which faults can cut; the link is called like the
            gateway, or as is said here.
        config: sections of its site.yaml, over what is written for it: site, devices, spool, status, uplink.
        start: whether its agent runs from the beginning; a step can start it later.
    """

    devices: list[str] = Field(min_length=1, max_length=10_000)
    link: bool | Annotated[str, Field(pattern=f"^{_NAME}$")] = False
    config: dict[str, Any] = Field(default_factory=dict)
    start: bool = True


def link_of(name: str, gateway: Gateway) -> str:
    """Name of the link of a gateway `site/name`, "" for none."""
    if isinstance(gateway.link, str):
        return gateway.link
    return name.partition("/")[2] if gateway.link else ""


class Step(Strict):
    """One act of a person, or of fate, on the programs; devices and links have `faults`.

    Attributes:
        at: when, after everything is up.
        do: `kill` (SIGKILL), `stop`, `start`, `restart` a program; `edit` a gateway's site.yaml and have it taken,
            `reload` it as it is; `assign` a model to a twin; send a `command`; acknowledge or shelve an `alarm`.
        target: a gateway or `coordinator`; a twin `site/twin`; of a command `site/twin/property`; `gateway/alarm`.
        set: edit: dotted key of site.yaml -> its new content, null to remove it.
        model: assign: `name@version`.
        value: command: what is written.
        verb: alarm: `ack`, `shelve`, `unshelve`, `comment`.
        body: command, alarm: further fields of the request.
        name: command: what expectations call it.
        refused: the reason with which this must be refused; without one it must be taken.
    """

    at: Duration
    do: Verb
    target: str = Field(min_length=1, max_length=200)
    set: dict[str, Any] | None = None
    model: str | None = None
    value: float | bool | str | None = None
    verb: Literal["ack", "shelve", "unshelve", "comment"] | None = None
    body: dict[str, Any] | None = None
    name: str | None = None
    refused: str | None = None

    @field_validator("refused")
    @classmethod
    def _known(cls, reason: str | None) -> str | None:
        if reason is not None and reason not in REASONS:
            guess = nearest(reason, REASONS)
            raise ValueError(f"{reason!r} is no reason" + (f"; did you mean `{guess}`?" if guess else ""))
        return reason

    @model_validator(mode="after")
    def _fits(self) -> Step:
        given = {key for key in self.model_fields_set if key not in {"at", "do"}}
        needed, allowed = _TAKES[self.do]
        if missing := needed - given:
            raise ValueError(f"{self.do} needs {', '.join(sorted(missing))}")
        if extra := given - needed - allowed:
            raise ValueError(f"{self.do} takes no {', '.join(sorted(extra))}")
        return self


class Bounds(Strict):
    """What a found value must be: within `min` and `max`, one of some, text that contains another, there or not."""

    min: float | None = None
    max: float | None = None
    one_of: list[Any] | None = None
    contains: str | None = None
    exists: bool | None = None


class Expectation(Strict):
    """What must be true at a time, or become true within some time of it; exactly one subject.

    Attributes:
        at: when; without it, at the end, before the devices are silenced.
        within: how long it may take.
        gateway, losses: name of a gateway: as the coordinator shows it; its declared losses with their `count`.
        status: name of a gateway: what its agent says of itself.
        twin: `site/twin`.
        alarm: `gateway/alarm`.
        command: name of a step `command`.
        directive: target of the newest directive, such as `tank-1` or `@config`.
        device: a simulated device as `twinsim list` shows it, with what was written to it.
        fleet: the overview of the coordinator.
        get: any path of REST below the tenant.
        is_: dotted path in that document (`properties.level1.health`; items of lists by name or number) -> the value,
            or bounds of it.
    """

    at: Duration | None = None
    within: Duration = WITHIN_NS
    gateway: str | None = None
    losses: str | None = None
    status: str | None = None
    twin: str | None = None
    alarm: str | None = None
    command: str | None = None
    directive: str | None = None
    device: str | None = None
    fleet: Literal[True] | None = None
    get: str | None = None
    is_: dict[str, Any] = Field(alias="is", min_length=1)

    @model_validator(mode="after")
    def _one_subject(self) -> Expectation:
        if len(self.subjects) != 1:
            raise ValueError(f"name exactly one of {', '.join(SUBJECTS)}")
        for path, wanted in self.is_.items():
            if isinstance(wanted, dict):
                try:
                    Bounds.model_validate(wanted)
                except ValueError:
                    raise ValueError(
                        f"is: {path}: give a value or some of min, max, one_of, contains, exists"
                    ) from None
        return self

    @property
    def subjects(self) -> dict[str, str]:
        """The subject that is named; more than one, or none, is refused."""
        return {name: str(value) for name in SUBJECTS if (value := getattr(self, name)) is not None}


class SamplesPlan(Strict):
    """What the count at the end must say at most; None is not looked at. See `twinsim.served.Verdict`."""

    lost: int | None = Field(0, ge=0)
    duplicates: int | None = Field(0, ge=0)
    excusable: int | None = Field(None, ge=0)
    declared_missing: int | None = Field(None, ge=0)
    acquired_min: int = Field(1, ge=0)


class Deployment(Scenario):
    """One whole plant; see the module for an example."""

    description: str = ""
    lasts: Annotated[Duration, Field(gt=0, le=LASTS_MAX_NS)] = LASTS_NS
    models: list[str] = Field(default_factory=list, max_length=64)
    coordinator: dict[str, Any] = Field(default_factory=dict)
    gateways: dict[Annotated[str, Field(pattern=f"^{_NAME}/{_NAME}$")], Gateway] = Field(
        default_factory=dict, max_length=64
    )
    steps: list[Step] = Field(default_factory=list, max_length=10_000)
    expect: list[Expectation] = Field(default_factory=list, max_length=10_000)
    samples: SamplesPlan = SamplesPlan()

    def link_names(self) -> set[str]:
        """Links of the file, and those of gateways behind one."""
        return super().link_names() | {link for name, plan in self.gateways.items() if (link := link_of(name, plan))}

    def device_names_of(self, gateway: str) -> list[str]:
        """Devices of a gateway `site/name`, in the order of the file."""
        names, patterns = device_names(self), self.gateways[gateway].devices
        return list(dict.fromkeys(n for p in patterns for n in names if fnmatchcase(n, p)))

    def misfits(self) -> Iterator[Misfit]:
        """What does not fit together: that of devices and links, gateways, and what steps and expectations name."""
        yield from super().misfits()
        if not self.gateways and (self.steps or self.expect):
            yield ("steps" if self.steps else "expect",), "steps and expectations need a gateway"
        short = [name.partition("/")[2] for name in self.gateways]
        devices = device_names(self)
        for name, plan in self.gateways.items():
            mine = name.partition("/")[2]
            if short.count(mine) > 1 or mine in {COORDINATOR, DEVICES}:
                yield ("gateways", name), f"choose another name than {mine}"
            for number, pattern in enumerate(plan.devices):
                if not any(fnmatchcase(device, pattern) for device in devices):
                    text = f"{name} names a device {pattern!r}, which this scenario has not"
                    yield ("gateways", name, "devices", number), text
            if self.is_taken(link_of(name, plan)):
                yield ("gateways", name, "link"), f"{link_of(name, plan)!r} is taken by a device or a protocol"
        for key in CHOSEN:
            if key in self.coordinator:
                yield ("coordinator", key), f"{key} is chosen by the run"
        if self.gateways:
            yield from self._too_late()
            yield from _strange_targets(self.steps, set(short))
            yield from self._strange_subjects(set(short))

    def _too_late(self) -> Iterator[Misfit]:
        """What would never come; of a fault that repeats the first time counts."""
        times = [(("faults", number, "at"), plan.at) for number, plan in enumerate(self.faults)]
        times += [(("steps", number, "at"), step.at) for number, step in enumerate(self.steps)]
        times += [(("expect", number, "at"), one.at) for number, one in enumerate(self.expect) if one.at is not None]
        for keys, at in times:
            if at >= self.lasts:
                yield keys, f"{at / SECOND_NS:g} s is not before the end: `lasts` is {self.lasts / SECOND_NS:g} s"

    def _strange_subjects(self, gateways: set[str]) -> Iterator[Misfit]:
        commands = {step.name for step in self.steps if step.do == "command"}
        for number, one in enumerate(self.expect):
            ((subject, value),) = one.subjects.items()
            place = ("expect", number, subject)
            if subject in {"gateway", "losses", "status", "alarm"} and value.partition("/")[0] not in gateways:
                yield place, f"{value!r} is no gateway of this scenario"
            if subject == "command" and value not in commands:
                yield place, f"no step sends a command with `name: {value}`"
            if subject == "device" and value not in device_names(self):
                yield place, f"{value!r} is no device of this scenario"


def _strange_targets(steps: Sequence[Step], gateways: set[str]) -> Iterator[Misfit]:
    for number, step in enumerate(steps):
        place, named = ("steps", number, "target"), step.target.partition("/")[0]
        if step.do in {"kill", "stop", "start", "restart"} and step.target not in gateways | {COORDINATOR}:
            yield place, f"{step.target!r} is neither a gateway nor {COORDINATOR!r}"
        if step.do == "command" and step.target.count("/") != 2:
            yield place, f"{step.target!r} is no site/twin/property"
        if step.do == "assign" and step.target.count("/") != 1:
            yield place, f"{step.target!r} is no site/twin"
        if step.do in {"edit", "reload", "alarm"} and named not in gateways:
            yield place, f"{named!r} is no gateway of this scenario"


def read_deployment(path: Path) -> Deployment:
    """Reads a file. Raises ConfigError with path, line and the nearest valid key."""
    return read_yaml(path, Deployment)
