"""What is served, in the order in which people look for it: devices with points, twins with outputs and their roles."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from twinmodel.signal import OUTPUT_ROLES, SUBSTITUTE, Catalogue, Signal

MEASURED = "measured"
ROLES = (MEASURED, *OUTPUT_ROLES, SUBSTITUTE)
"""Roles of an output in the order in which they are shown."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The part of a catalogue that is served.

    Attributes:
        devices: device -> point -> signal.
        twins: twin -> output or property -> role -> signal; what is measured stands below its device, too.
        by_id: stable name of a place -> signal: `device.point`, `twin/output#role`.
    """

    devices: Mapping[str, Mapping[str, Signal]]
    twins: Mapping[str, Mapping[str, Mapping[str, Signal]]]
    by_id: Mapping[str, Signal] = field(default_factory=dict)


def selector(patterns: Sequence[str]) -> Callable[[str], bool]:
    """Whether a name fits one of some shell patterns, and none of those that begin with `!`."""
    wanted = [p for p in patterns if not p.startswith("!")]
    unwanted = [p[1:] for p in patterns if p.startswith("!")]
    accept, refuse = _any(wanted or ["*"]), _any(unwanted)
    return lambda name: bool(accept(name)) and not refuse(name)


def _any(patterns: Sequence[str]) -> Callable[[str], object]:
    if not patterns:
        return lambda _name: None
    return re.compile("|".join(f"(?:{fnmatch.translate(p)})" for p in patterns)).match


def layout_of(catalogue: Catalogue, patterns: Sequence[str] = ("*",)) -> Layout:
    """Sorts the signals that patterns name; what the agent keeps for itself (alarms, lineage) is not shown."""
    shown = selector(patterns)
    devices: dict[str, dict[str, Signal]] = {}
    found: dict[str, dict[str, dict[str, Signal]]] = {}
    by_id: dict[str, Signal] = {}
    for signal in catalogue.signals:
        name = signal.name
        if name.startswith("@") or not shown(name):
            continue
        if signal.role == MEASURED:
            device, _, point = name.partition(".")
            if point:
                devices.setdefault(device, {})[point] = by_id[name] = signal
        elif signal.role in ROLES:
            twin, _, output = name.rpartition("#")[0].partition("/")
            found.setdefault(twin, {}).setdefault(output, {})[signal.role] = by_id[name] = signal
    for binding in catalogue.twins:
        for output, measured in binding.properties.items():
            signal = catalogue.by_name.get(measured)  # type: ignore[assignment]  # None for a virtual output
            place = f"{binding.twin}/{output}#{MEASURED}"
            if signal is not None and shown(place):
                found.setdefault(binding.twin, {}).setdefault(output, {})[MEASURED] = by_id[place] = signal
    twins = {
        twin: {output: {role: roles[role] for role in ROLES if role in roles} for output, roles in outputs.items()}
        for twin, outputs in found.items()
    }
    return Layout(devices, twins, by_id)
