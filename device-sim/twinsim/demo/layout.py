"""The plant group of the demo: three sites, six gateways, twenty-four twins, as a plan.

north  n1  T-1..T-4              Modbus
       n2  HX-1..HX-4            OPC UA
south  s1  P-1..P-4              MQTT
       s2  T-5 T-6 HX-5 P-5      all three
west   w1  T-7 HX-6 HX-7 HX-8    Modbus, OPC UA
       w2  T-8 P-6 P-7 P-8       Modbus, MQTT
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from twinsim.deployment.schema import Deployment
from twinsim.deployment.site_file import merged

GATEWAYS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "north": {"n1": ("T-1", "T-2", "T-3", "T-4"), "n2": ("HX-1", "HX-2", "HX-3", "HX-4")},
    "south": {"s1": ("P-1", "P-2", "P-3", "P-4"), "s2": ("T-5", "T-6", "HX-5", "P-5")},
    "west": {"w1": ("T-7", "HX-6", "HX-7", "HX-8"), "w2": ("T-8", "P-6", "P-7", "P-8")},
}
DEVICES_PER_PROTOCOL = 8
DRIFTING = "HX-3"
OFFLINE = ("south", "s2")
LINK = "wan"
SWAPPED = ("south", "tank-5")
SERVING = "north/n2"
SCADA_USER, SCADA_PASSWORD_FILE = "scada", "scada.pw"
ALARMS: Mapping[str, Any] = {"drift": {"on": "*", "drift": True, "delay": "15s"}}
SECTIONS: Mapping[str, Mapping[str, Any]] = {
    "north/n1": {
        "alarms": {
            "tank-1-high": {
                "on": "T-1.level2",
                "high": 0.35,
                "hysteresis": 0.02,
                "priority": "high",
                "text": "level above {limit} {unit}",
            }
        },
        "commands": {
            "allow": ["T-1.pump_set", "T-1.manual"],
            "interlock": {"T-1.pump_set": {"quality": "good", "twin": "tank-1", "not": ["drifting"]}},
        },
        "config": {"remote": True, "probation": "10s"},
        "twins": {"tank-1": {"properties": {"pump_set": "T-1.pump_set", "manual": "T-1.manual"}}},
    },
    SERVING: {
        "northbound": {
            "opcua": {"listen": "127.0.0.1:0", "users": {SCADA_USER: {"password_file": SCADA_PASSWORD_FILE}}}
        },
    },
}
"""What gateways have beside devices and twins: a limit, a pump that may be told, changes from afar, SCADA."""


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


def twins_of(devices: Iterable[str]) -> dict[str, Any]:
    """The section `twins` of the gateway of some devices."""
    return {twin_of(device): _twin(device, SORTS[device.split("-")[0]]) for device in devices}


def _twin(device: str, sort: Sort) -> dict[str, Any]:
    inputs = {port: f"{device}.{point}" for port, point in sort.inputs.items()}
    outputs = {port: f"{device}.{point}" for port, point in sort.outputs.items()}
    return {"definition": sort.definition, "inputs": inputs, "outputs": outputs, "model": f"{sort.definition}@1.0.0"}


def deployment(*, seed: int = 1, port: int = 0, broker: str = "") -> Deployment:
    """The whole plant group as a plan; its devices are served from `port` on, 0 for any free ones."""
    fleets: dict[str, dict[str, Any]] = {
        protocol: {"devices": DEVICES_PER_PROTOCOL, "port": port + offset if port else 0}
        for offset, protocol in enumerate(("modbus", "opcua", "mqtt"))
    }
    if broker:
        fleets["mqtt"]["broker"] = broker
    gateways = {
        f"{site}/{gateway}": {
            "devices": devices,
            "config": merged({"alarms": ALARMS, "twins": twins_of(devices)}, SECTIONS.get(f"{site}/{gateway}", {})),
            "link": LINK if (site, gateway) == OFFLINE else False,
        }
        for site, members in GATEWAYS.items()
        for gateway, devices in members.items()
    }
    models = [*MODEL_FILES, NEXT_MODEL_FILE]
    return Deployment.model_validate({"seed": seed, **fleets, "models": models, "gateways": gateways})
