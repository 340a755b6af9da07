"""Which driver speaks to which devices: one per connection, its protocol's library loaded only when it is needed."""

from __future__ import annotations

import hashlib
import importlib
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from twinedge.config.address import parse_modbus
from twinedge.config.load import LoadedSite
from twinedge.config.numbers import Numbered
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
    groups = assignments_of(loaded, Numbered.first(catalogue))
    common: dict[str, Any] = {"clock": clock, "rng": rng, "client_id": client_id, "state_dir": state_dir}
    return [make_driver(group, assignments, **common) for group, assignments in groups.items()]


def assignments_of(loaded: LoadedSite, numbered: Numbered) -> dict[Group, tuple[Assignment, ...]]:
    """What each connection of a site is to read; raises ConfigError VALUE_INVALID for a protocol without a driver."""
    groups: dict[Group, list[Assignment]] = {}
    folder = loaded.path.parent.resolve()
    bound = _bound_points(loaded)
    for name, device in loaded.site.devices.items():
        if device.protocol not in _BUILDERS:
            raise _unknown(loaded, name, device.protocol)
        profile = loaded.profiles[name]
        signals = {point: numbered.signals[f"{name}.{point}"] for point in profile.points}
        mine = bound.get(name, frozenset())
        assignment = Assignment(name, device, profile, signals, numbered.catalogue.time_step_ns, folder, mine)
        groups.setdefault(connection_of(assignment), []).append(assignment)
    return {group: tuple(assignments) for group, assignments in groups.items()}


def make_driver(
    group: Group,
    assignments: Sequence[Assignment],
    *,
    clock: Clock,
    rng: random.Random,
    client_id: str,
    state_dir: Path,
) -> Driver:
    """The driver of one connection; see `build_drivers`."""
    keywords: dict[str, Any] = {"clock": clock, "rng": random.Random(rng.getrandbits(64))}  # noqa: S311  # jitter
    suffix = hashlib.blake2b("\n".join(group).encode(), digest_size=4).hexdigest()
    keywords |= _keywords(group[0], f"{client_id}-{suffix}", state_dir)
    return _made(group[0], assignments, keywords)


def _bound_points(loaded: LoadedSite) -> dict[str, frozenset[str]]:
    """Device -> points that feed a model; no report by exception applies to them."""
    bound: dict[str, set[str]] = {}
    for twin in loaded.site.twins.values():
        for signal in (*twin.inputs.values(), *twin.outputs.values()):
            device, _, point = signal.partition(".")
            bound.setdefault(device, set()).add(point)
    return {device: frozenset(points) for device, points in bound.items()}


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
