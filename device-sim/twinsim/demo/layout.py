"""The plant group of the demo: three sites, six gateways, twenty-four twins, and the files they are told by.

north  n1  T-1..T-4              Modbus
       n2  HX-1..HX-4            OPC UA
south  s1  P-1..P-4              MQTT
       s2  T-5 T-6 HX-5 P-5      all three
west   w1  T-7 HX-6 HX-7 HX-8    Modbus, OPC UA
       w2  T-8 P-6 P-7 P-8       Modbus, MQTT
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

GATEWAYS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "north": {"n1": ("T-1", "T-2", "T-3", "T-4"), "n2": ("HX-1", "HX-2", "HX-3", "HX-4")},
    "south": {"s1": ("P-1", "P-2", "P-3", "P-4"), "s2": ("T-5", "T-6", "HX-5", "P-5")},
    "west": {"w1": ("T-7", "HX-6", "HX-7", "HX-8"), "w2": ("T-8", "P-6", "P-7", "P-8")},
}
DEVICES_PER_PROTOCOL = 8
DRIFTING = "HX-3"
OFFLINE = ("south", "s2")
SWAPPED = ("south", "tank-5")


@dataclass(frozen=True, slots=True)
class Sort:
    """What twins of one sort of device are called, and how their model is wired.

    Attributes:
        protocol: key of the address in site.yaml.
        profile: firmware profile of the device.
        twin: prefix of the twin's name.
        definition: twin definition, also the name of the model.
        inputs, outputs: port of the model -> point of the device.
    """

    protocol: str
    profile: str
    twin: str
    definition: str
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]


SORTS: Mapping[str, Sort] = {
    "T": Sort("modbus", "hybridtwin/coupled-tanks", "tank", "two-tanks", {"pump": "pump"}, {"level2": "level2"}),
    "HX": Sort(
        "opcua",
        "hybridtwin/heat-exchanger",
        "exchanger",
        "exchanger",
        {"hot_in": "hot_in", "cold_in": "cold_in"},
        {"hot_out": "hot_out", "cold_out": "cold_out"},
    ),
    "P": Sort(
        "mqtt",
        "hybridtwin/centrifugal-pump",
        "pump",
        "pump",
        {"speed": "speed"},
        {"flow": "flow", "head": "head", "power": "power"},
    ),
}
MODEL_FILES = ("two-tanks.yaml", "exchanger.yaml", "pump.yaml")
NEXT_MODEL_FILE = "two-tanks-1.1.yaml"


def twin_of(device: str) -> str:
    """Name of the twin of a device: `HX-3` -> `exchanger-3`."""
    sort, number = device.split("-")
    return f"{SORTS[sort].twin}-{number}"


def site_file(site: str, devices: tuple[str, ...], addresses: Mapping[str, str], profiles: Path) -> str:
    """The site.yaml of one gateway.

    Args:
        site: name of the site.
        devices: names of its devices.
        addresses: protocol -> address, as the simulation reports them.
        profiles: folder of the firmware profiles.
    """
    lines = [f"site: {site}", f"profiles: {json.dumps(str(profiles))}", "devices:"]
    for device in devices:
        sort, number = device.split("-")
        kind = SORTS[sort]
        place = {"modbus": f"unit_id: {number}", "opcua": f"root: {device}", "mqtt": f"root: plants/{device}"}
        lines.append(
            f"  {device}: {{{kind.protocol}: {json.dumps(addresses[kind.protocol])}, {place[kind.protocol]}, "
            f"profile: {kind.profile}}}"
        )
    lines.append("twins:")
    for device in devices:
        kind = SORTS[device.split("-")[0]]
        inputs = ", ".join(f"{port}: {device}.{point}" for port, point in kind.inputs.items())
        outputs = ", ".join(f"{port}: {device}.{point}" for port, point in kind.outputs.items())
        lines.append(
            f"  {twin_of(device)}: {{definition: {kind.definition}, inputs: {{{inputs}}}, outputs: {{{outputs}}}, "
            f'model: "{kind.definition}@1.0.0"}}'
        )
    lines += ["spool: {disk: 64MiB}", "status: {port: 0}"]
    return "\n".join(lines) + "\n"
