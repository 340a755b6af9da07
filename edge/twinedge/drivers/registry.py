"""Which driver speaks to which devices: one per connection, its protocol's library loaded only when it is needed."""

from __future__ import annotations

import hashlib
import importlib
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from twinedge.config.address import parse_modbus
from twinedge.config.catalogue import signals_of
from twinedge.config.load import LoadedSite
from twinedge.drivers.link import Assignment
from twinedge.ports import Driver
from twinmodel.clock import Clock
from twinmodel.errors import ConfigError, ConflictError
from twinmodel.signal import Catalogue

Group = tuple[str, ...]


def build_drivers(
    loaded: LoadedSite, catalogue: Catalogue, *, clock: Clock, rng: random.Random, client_id: str, state_dir: Path
) -> list[Driver]:
    """One driver per connection; devices that can share one do.

    Args:
        loaded: the site.
        catalogue: its signals, as `build_catalogue` numbered them.
        clock: given to every driver.
        rng: seeds one generator per driver, so that one driver's retries do not shift another's.
        client_id: name of this gateway at MQTT brokers, the same after a restart.
        state_dir: where drivers keep certificates.

    Raises:
        ConfigError: VALUE_INVALID for a protocol without a driver, at its line of site.yaml.
        ConflictError: EXTRA_MISSING when the protocol's library is not installed.
    """
    groups: dict[Group, list[Assignment]] = {}
    for name, device in loaded.site.devices.items():
        if device.protocol not in _BUILDERS:
            raise _unknown(loaded, name, device.protocol)
        profile = loaded.profiles[name]
        signals = signals_of(catalogue, name, profile)
        folder, bound = loaded.path.parent.resolve(), bound_points(loaded, name)
        assignment = Assignment(name, device, profile, signals, catalogue.time_step_ns, folder, bound)
        groups.setdefault(connection_of(assignment), []).append(assignment)
    drivers: list[Driver] = []
    for group, assignments in groups.items():
        keywords: dict[str, Any] = {"clock": clock, "rng": random.Random(rng.getrandbits(64))}  # noqa: S311  # jitter
        suffix = hashlib.blake2b("\n".join(group).encode(), digest_size=4).hexdigest()
        keywords |= _keywords(group[0], f"{client_id}-{suffix}", state_dir)
        drivers.append(_made(group[0], assignments, keywords))
    return drivers


def bound_points(loaded: LoadedSite, device: str) -> frozenset[str]:
    """Points of a device that feed a model; no report by exception applies to them."""
    named = (s for twin in loaded.site.twins.values() for s in (*twin.inputs.values(), *twin.outputs.values()))
    return frozenset(point for owner, _, point in (s.partition(".") for s in named) if owner == device)


def connection_of(assignment: Assignment) -> Group:
    """What devices must have in common to share one connection; Modbus units share a host and port."""
    device = assignment.device
    if device.protocol == "modbus":
        address = parse_modbus(device.address)
        return device.protocol, address.framing, str(address).lower() if address.host else str(address)
    group = device.protocol, device.address, device.security.model_dump_json()
    # What is said beside the address is a part only where something is: names at brokers hang on this.
    said = device.broker.model_dump_json(exclude={"url"}, exclude_defaults=True) if device.mqtt else "{}"
    return group if said == "{}" else (*group, said)


def _made(protocol: str, assignments: Sequence[Assignment], keywords: Mapping[str, Any]) -> Driver:
    module, name = _BUILDERS[protocol]
    try:
        found: Callable[..., Driver] = getattr(importlib.import_module(module), name)
        return found(assignments, **keywords)
    except ModuleNotFoundError as missing:
        hint = "install hybridtwin[edge]"
        raise ConflictError("EXTRA_MISSING", f"{protocol} needs the library {missing.name}", hint=hint) from missing


def _keywords(protocol: str, client_id: str, state_dir: Path) -> dict[str, Any]:
    needed: dict[str, dict[str, Any]] = {"opcua": {"state_dir": state_dir}, "mqtt": {"client_id": client_id}}
    return needed.get(protocol, {})


def _unknown(loaded: LoadedSite, device: str, protocol: str) -> ConfigError:
    known = ", ".join(sorted(_BUILDERS))
    return loaded.document.error(
        "VALUE_INVALID", ("devices", device), f"no driver for {protocol}", hint=f"drivers: {known}"
    )


_BUILDERS: Mapping[str, tuple[str, str]] = {
    "modbus": ("twinedge.drivers.modbus", "ModbusDriver"),
    "opcua": ("twinedge.drivers.opcua", "OpcuaDriver"),
    "mqtt": ("twinedge.drivers.mqtt", "MqttDriver"),
}
