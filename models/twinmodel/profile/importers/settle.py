"""Reads what an import would write as an agent would, and refuses the points that it would not take."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from twinmodel.errors import InputError
from twinmodel.profile.importers.emit import first_line, yaml_of_device
from twinmodel.profile.importers.found import Device
from twinmodel.profile.load import examine_text
from twinmodel.profile.schema import FirmwareProfile

ROUNDS_MAX = 16


@dataclass(frozen=True, slots=True)
class Settled:
    """A profile that is accepted: its text, and what an agent reads of it."""

    text: str
    profile: FirmwareProfile


def settle(device: Device, name: str, firmware: str, source: str) -> Settled | None:
    """The profile of a device, once every point that the checks of profiles refuse is among its refusals.

    None when no point is left.

    Raises:
        ConfigError: what is wrong is not a point: the text is too long, or the header is refused.
    """
    for _ in range(ROUNDS_MAX):
        if not device.points:
            return None
        text = yaml_of_device(device, name, firmware, source)
        if len(text.encode()) > 1 << 20:
            raise InputError("LIMIT_EXCEEDED", f"{name} would be larger than 1 MiB", hint="import parts of the source")
        read = examine_text(text, Path(f"{name}.yaml"))
        if read.profile is not None and not read.errors:
            return Settled(text, read.profile)
        names, first = list(device.points), first_line(device)
        wrong: dict[str, InputError] = {}
        for error in read.errors:
            line = error.facts.get("line")
            if not isinstance(line, int) or not first <= line < first + len(names):
                raise error
            point = names[line - first]
            message = error.message.removeprefix(f"points.{point}")
            wrong.setdefault(point, InputError(error.reason, message.lstrip(": "), hint=error.hint))
        for point, why in wrong.items():
            if point in device.points:  # it may have gone with another one of the same point of the source
                device.withdraw(point, why)
    raise InputError("LIMIT_EXCEEDED", f"{name} is not accepted after {ROUNDS_MAX} rounds of refusals")
