"""The files that the programs of a plant are told by: site.yaml of each gateway, and the scenario of the devices."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from io import StringIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from twinmodel.errors import InputError
from twinsim.deployment.schema import Deployment, link_of
from twinsim.firmware import KINDS

_OF_DEVICES = {"seed", "modbus", "opcua", "mqtt", "profiles", "links"}
_PLANTS = {kind.prefix: kind for kind in KINDS.values()}


def devices_content(plan: Deployment, sync_place: str) -> dict[str, Any]:
    """What the simulation is told: devices and links of the plan, and those to the coordinator that gateways want.

    Faults are left out: they are played when everything is up.
    """
    content = plan.model_dump(mode="json", by_alias=True, include=_OF_DEVICES, exclude_defaults=True)
    links = content.setdefault("links", {})
    for name, gateway in plan.gateways.items():
        if link := link_of(name, gateway):
            links[link] = {"listen": "127.0.0.1:0", "to": sync_place}
    return content


def site_content(plan: Deployment, name: str, announced: Mapping[str, Any], profiles: Path | None) -> dict[str, Any]:
    """The site.yaml of a gateway `site/name`.

    Args:
        plan: the whole.
        name: of the gateway.
        announced: ready.json of the simulation: where devices and links are.
        profiles: folder of firmware profiles, None for the usual ones.
    """
    gateway = plan.gateways[name]
    content: dict[str, Any] = {"site": name.partition("/")[0]}
    if profiles is not None:
        content["profiles"] = str(profiles)
    content["devices"] = {device: device_content(device, announced) for device in plan.device_names_of(name)}
    content |= {"spool": {"disk": "64MiB"}, "status": {"port": 0}}
    if link := link_of(name, gateway):
        content["uplink"] = announced["addresses"][link]
    return merged(content, gateway.config)


def device_content(device: str, announced: Mapping[str, Any]) -> dict[str, Any]:
    """The entry of one device: its address, where it lies there, and the profile of its firmware."""
    facts = announced["devices"][device]
    protocol = facts["protocol"]
    entry: dict[str, Any] = {protocol: facts.get("address") or announced["addresses"][protocol]}
    if "profile" in facts:
        entry["profile"] = facts["profile"]
        entry |= {"unit_id": facts["unit_id"]} if protocol == "modbus" else {"root": facts["root"]}
        return entry
    entry["profile"] = _PLANTS[device.rpartition("-")[0]].profile.rpartition("/")[0]
    places = {"modbus": ("unit_id", facts["unit_id"]), "opcua": ("root", device), "mqtt": ("root", f"plants/{device}")}
    key, place = places[protocol]
    return entry | {key: place}


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Both, section by section; where they differ, `above` stands; null takes a key away."""
    result = dict(deepcopy(below))
    for key, value in above.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, Mapping) and isinstance(result.get(key), Mapping):
            result[key] = merged(result[key], value)
        else:
            result[key] = deepcopy(value)
    return result


def edited(content: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A site.yaml with some dotted keys changed: `twins.tank-1.model: two-tanks@1.1.0`; null takes a key away.

    Raises:
        InputError: VALUE_INVALID for a key that leads through something that has no keys.
    """
    result = dict(deepcopy(content))
    for path, value in changes.items():
        *way, last = path.split(".")
        place = result
        for part in way:
            place = place.setdefault(part, {})
            if not isinstance(place, dict):
                raise InputError("VALUE_INVALID", f"edit: {path}: {part} has no keys")
        if value is None:
            place.pop(last, None)
        else:
            place[last] = deepcopy(value)
    return result


def yaml_text(content: Mapping[str, Any]) -> str:
    """A mapping as a file."""
    writer = YAML(typ="safe", pure=True)
    writer.default_flow_style = False
    writer.sort_base_mapping_type_on_output = False  # type: ignore[assignment]  # untyped attribute of ruamel
    sink = StringIO()
    writer.dump(dict(content), sink)
    return sink.getvalue()
