"""How Home Assistant finds what is published: one retained configuration an entity, taken back when its signal goes."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from twinedge.northbound.mqtt_payload import Entry, Message
from twinmodel.signal import Kind

_UNFIT = re.compile(r"[^A-Za-z0-9_-]+")
# Units as Home Assistant writes them, and what it makes of their values; others are shown as they are.
_CLASSES: Mapping[str, tuple[str, str]] = {
    "degC": ("temperature", "°C"),
    "degF": ("temperature", "°F"),
    "K": ("temperature", "K"),
    "Pa": ("pressure", "Pa"),
    "hPa": ("pressure", "hPa"),
    "kPa": ("pressure", "kPa"),
    "bar": ("pressure", "bar"),
    "mbar": ("pressure", "mbar"),
    "W": ("power", "W"),
    "kW": ("power", "kW"),
    "MW": ("power", "MW"),
    "var": ("reactive_power", "var"),
    "kvar": ("reactive_power", "kvar"),
    "VA": ("apparent_power", "VA"),
    "Wh": ("energy", "Wh"),
    "kWh": ("energy", "kWh"),
    "MWh": ("energy", "MWh"),
    "V": ("voltage", "V"),
    "mV": ("voltage", "mV"),
    "A": ("current", "A"),
    "mA": ("current", "mA"),
    "Hz": ("frequency", "Hz"),
    "kHz": ("frequency", "kHz"),
    "m": ("distance", "m"),
    "cm": ("distance", "cm"),
    "mm": ("distance", "mm"),
    "km": ("distance", "km"),
    "m/s": ("speed", "m/s"),
    "km/h": ("speed", "km/h"),
    "m3/h": ("volume_flow_rate", "m³/h"),
    "l/min": ("volume_flow_rate", "L/min"),
    "kg": ("weight", "kg"),
    "g": ("weight", "g"),
    "s": ("duration", "s"),
    "min": ("duration", "min"),
    "h": ("duration", "h"),
    "ms": ("duration", "ms"),
}
_DIFFERENCES = frozenset({"sigma", "innovation", "drift"})
"""Roles whose values are no temperature or pressure, but a distance of two: 20 °C more would be shown as 293 K."""
_COUNTERS = frozenset({"energy"})


@dataclass(frozen=True, slots=True)
class Home:
    """Whose entities they are.

    Attributes:
        prefix: where Home Assistant looks.
        site, gateway: names of the agent.
        version: of the agent.
        availability: topic on which the agent says whether it is there.
    """

    prefix: str
    site: str
    gateway: str
    version: str
    availability: str

    @property
    def node(self) -> str:
        """Level of all topics of this agent."""
        return fit(f"hybridtwin_{self.site}_{self.gateway}")

    @property
    def filter(self) -> str:
        """Fits all of its configurations."""
        return f"{self.prefix}/+/{self.node}/+/config"


def fit(name: str) -> str:
    """A name as Home Assistant allows them in topics."""
    return _UNFIT.sub("_", name)


def discovery_of(messages: Sequence[Message], home: Home) -> dict[str, bytes]:
    """Topic -> configuration of every entity."""
    made: dict[str, bytes] = {}
    for message in messages:
        for entry in message.entries:
            component, document = _entity(message, entry, home)
            topic = f"{home.prefix}/{component}/{home.node}/{document['object_id']}/config"
            made[topic] = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
    return made


def _entity(message: Message, entry: Entry, home: Home) -> tuple[str, dict[str, Any]]:
    signal = entry.signal
    kind, group = message.group
    name = _name(message, entry)
    place = f"{kind}_{group}_{name}"
    at = "value_json" + "".join(f"[{json.dumps(key)}]" for key in entry.path)
    binary = signal.kind is Kind.BOOL
    device_id = f"{home.node}_{kind}_{fit(group)}"
    document: dict[str, Any] = {
        "name": name,
        "object_id": fit(place),
        "unique_id": f"{home.node}_{fit(place)}",
        "state_topic": message.topic,
        "value_template": f"{{{{ 'ON' if {at}.v else 'OFF' }}}}" if binary else f"{{{{ {at}.v }}}}",
        "availability_mode": "all",
        "availability": [
            {"topic": home.availability},
            {"topic": message.topic, "value_template": f"{{{{ 'offline' if {at}.q == 'bad' else 'online' }}}}"},
        ],
        "json_attributes_topic": message.topic,
        "json_attributes_template": f"{{{{ {at} | tojson }}}}",
        "device": {
            "identifiers": [device_id],
            "name": group,
            "manufacturer": "hybridtwin",
            "model": kind,
            "sw_version": home.version,
            "suggested_area": home.site,
        },
    }
    if not binary and signal.kind is not Kind.STRING:
        document |= _measure(signal.unit, _role(message, entry))
    return ("binary_sensor" if binary else "sensor"), document


def _role(message: Message, entry: Entry) -> str:
    return entry.path[-1] if entry.path else message.topic.rpartition("/")[2]


def _name(message: Message, entry: Entry) -> str:
    if entry.path:
        return " ".join(entry.path)
    depth = 1 if message.group[0] == "device" else 2
    return " ".join(message.topic.split("/")[-depth:])


def _measure(unit: str, role: str) -> dict[str, Any]:
    if role == "drift" or not unit:
        return {"state_class": "measurement"}
    klass, shown = _CLASSES.get(unit, ("", unit))
    if role in _DIFFERENCES or not klass:
        return {"unit_of_measurement": shown, "state_class": "measurement"}
    state = "total" if klass in _COUNTERS and role not in {"estimate", "prediction"} else "measurement"
    # Home Assistant knows energies as counters alone.
    if klass in _COUNTERS and state == "measurement":
        return {"unit_of_measurement": shown, "state_class": "measurement"}
    return {"unit_of_measurement": shown, "device_class": klass, "state_class": state}
