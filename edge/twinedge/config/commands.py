"""Shape of `commands:` in site.yaml: what a coordinator may have devices told; nothing unless it is named here.

commands:
  allow: [press.setpoint, press.reset]
  interlock:
    press.setpoint: {quality: good, when: [press.running], twin: tank-1, not: [drifting, settling, left_regime]}

The profile's own rules (range, rate, class, step, interlock) hold beside what stands here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from twinmodel.profile.document import nearest
from twinmodel.profile.schema import Duration, Strict, kind_of
from twinmodel.profile.writes import parse_interlock
from twinmodel.signal import Kind

if TYPE_CHECKING:
    from twinedge.config.load import LoadedSite

ALLOWED_MAX = 1000
TwinState = Literal["drifting", "settling", "left_regime", "soaking", "silent"]
_Named = Annotated[str, Field(min_length=3, max_length=200)]


class CommandInterlock(Strict):
    """What must hold for a command to one target, when it begins and until it is sent.

    Attributes:
        quality: `good`: the newest value of the target itself must be good and fresh.
        when: points of any device that must be true and fresh, `not DEVICE.POINT` for the contrary.
        twin: the twin whose model is asked.
        not_: states in which it must not be; `silent` is a twin without a model that speaks, and always counts.
    """

    quality: Literal["good"] | None = None
    when: list[_Named] = Field(default_factory=list, max_length=16)
    twin: str | None = None
    not_: tuple[TwinState, ...] = Field(("drifting", "settling", "left_regime"), alias="not")


class Commands(Strict):
    """What may be commanded.

    Attributes:
        allow: `device.point` and `device.method`.
        interlock: target -> what must hold.
        queue: commands that may wait for one connection.
        longest: the longest deadline taken, from the issue of a command.
    """

    allow: list[_Named] = Field(default_factory=list, max_length=ALLOWED_MAX)
    interlock: dict[_Named, CommandInterlock] = Field(default_factory=dict, max_length=ALLOWED_MAX)
    queue: int = Field(16, ge=1, le=256)
    longest: Duration = Field(3600 * 10**9, gt=0, le=3600 * 10**9)


def check_commands(loaded: LoadedSite) -> None:
    """Looks whether what is allowed exists and has its rules.

    Raises:
        ConfigError: UNKNOWN_SIGNAL, UNKNOWN_TWIN or VALUE_INVALID, at the line.
    """
    commands = loaded.site.commands
    known = targets_of(loaded)
    for place, target in enumerate(commands.allow):
        _allowed(loaded, ("commands", "allow", place), target, known)
    for target, interlock in commands.interlock.items():
        keys: tuple[str | int, ...] = ("commands", "interlock", target)
        if target not in commands.allow:
            guess = nearest(target, commands.allow)
            hint = f"did you mean `{guess}`?" if guess else "name it in `allow`, too"
            raise loaded.document.error("UNKNOWN_SIGNAL", keys, f"{target!r} is not allowed", hint=hint, key=True)
        for at, text in enumerate(interlock.when):
            _condition(loaded, (*keys, "when", at), parse_interlock(text)[0])
        if interlock.twin is not None and interlock.twin not in loaded.site.twins:
            alike = nearest(interlock.twin, loaded.site.twins)
            hint = f"did you mean `{alike}`?" if alike else "see `twins:`"
            raise loaded.document.error("UNKNOWN_TWIN", (*keys, "twin"), f"no twin {interlock.twin!r}", hint=hint)


def targets_of(loaded: LoadedSite) -> list[str]:
    """Everything that has rules: `device.point` and `device.method`."""
    points = [f"{d}.{n}" for d, p in loaded.profiles.items() for n, point in p.points.items() if point.write]
    return points + [f"{d}.{n}" for d, p in loaded.profiles.items() for n in p.methods]


def _allowed(loaded: LoadedSite, keys: tuple[str | int, ...], target: str, known: list[str]) -> None:
    device, _, name = target.partition(".")
    profile = loaded.profiles.get(device)
    point = profile.points.get(name) if profile is not None else None
    if target in known and profile is not None:
        if point is not None and (point.payload or profile.defaults.payload) == "sparkplug":
            message = f"{target} is a Sparkplug metric; those are read alone"
            raise loaded.document.error("VALUE_INVALID", keys, message, hint="remove it")
        return
    if point is not None:
        message = f"the profile {loaded.site.devices[device].profile} has no `write:` rules for {name}"
        raise loaded.document.error("VALUE_INVALID", keys, message, hint="add them to the profile, or remove it here")
    alike = nearest(target, known)
    hint = f"did you mean `{alike}`?" if alike else f"can be commanded: {', '.join(known[:10]) or 'nothing'}"
    raise loaded.document.error("UNKNOWN_SIGNAL", keys, f"no point or method {target!r}", hint=hint)


def _condition(loaded: LoadedSite, keys: tuple[str | int, ...], name: str) -> None:
    device, _, point = name.partition(".")
    profile = loaded.profiles.get(device)
    found = profile.points.get(point) if profile is not None else None
    if found is None:
        guess = nearest(name, [f"{d}.{n}" for d, p in loaded.profiles.items() for n in p.points])
        hint = f"did you mean `{guess}`?" if guess else "write DEVICE.POINT, or not DEVICE.POINT"
        raise loaded.document.error("UNKNOWN_SIGNAL", keys, f"no signal {name!r} in this site", hint=hint)
    if kind_of(found) is Kind.STRING:
        raise loaded.document.error("VALUE_INVALID", keys, f"{name} is a text, neither true nor false")
