"""`twinedge browse`: from a device of site.yaml, or an address that none names yet, to what it offers."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from twinedge.config.broker import Login
from twinedge.config.load import LoadedSite, load_site
from twinedge.config.schema import Device, Security
from twinedge.drivers.link import Assignment
from twinedge.drivers.opcua_browse import BrowseLimits
from twinedge.drivers.opcua_connect import Secured
from twinedge.probe import browse_modbus, browse_opcua
from twinedge.probe.draft import Draft, write_draft
from twinedge.probe.mqtt import probe_mqtt
from twinedge.probe.opcua import Onlooker, Wanted, choice
from twinedge.probe.opcua_endpoints import endpoint_document, endpoints_of, stand_in
from twinedge.probe.target import modbus_target, units_of, url_target
from twinmodel.clock import Clock
from twinmodel.errors import InputError, MissingError
from twinmodel.profile.document import nearest

Json = dict[str, Any]


def device_of(config: Path, text: str, protocol: str) -> tuple[LoadedSite, Device] | None:
    """The device of site.yaml that a person means; None for an address.

    Raises:
        MissingError: UNKNOWN_DEVICE for a word that is neither.
        InputError: VALUE_INVALID for a device of another protocol.
    """
    if "://" in text or not config.is_file():
        return None
    loaded = load_site(config)
    device = loaded.site.devices.get(text)
    if device is None:
        if any(c in text for c in ".:/"):
            return None
        guess = nearest(text, loaded.site.devices)
        hint = f"did you mean `{guess}`?" if guess else "name one of its devices, or an address such as 10.0.0.7"
        raise MissingError("UNKNOWN_DEVICE", f"{config} has no device {text!r}", hint=hint)
    if device.protocol != protocol:
        hint = f"use `twinedge browse {device.protocol} {text} --config {shlex.quote(str(config))}`"
        raise InputError("VALUE_INVALID", f"{text} speaks {device.protocol}, not {protocol}", hint=hint)
    return loaded, device


async def opcua(
    place: str, wanted: Wanted, *, path: str, limits: BrowseLimits, config: Path, state: Path, clock: Clock
) -> Json:
    """What a server offers; see `browse_opcua`."""
    known = device_of(config, place, "opcua")
    if known is not None:
        loaded, device = known
        folder = loaded.path.parent.resolve()
        assignment = Assignment(place, device, loaded.profiles[place], {}, 1, folder)
        secured: Secured = Secured(assignment, clock, state)
        return await browse_opcua.browse_opcua(secured, device.address, path=path or device.root, limits=limits)
    url = url_target(place, "opcua")
    policy, mode = choice([endpoint_document(e) for e in await endpoints_of(url)], wanted)
    security = Security.model_validate(
        {
            "policy": policy,
            "mode": mode,
            "user": wanted.user,
            "password_file": str(wanted.password_file.resolve()) if wanted.password_file else None,
        }
    )
    onlooker = Onlooker(stand_in(url, security, Path.cwd()), clock, state)
    return await browse_opcua.browse_opcua(onlooker, url, path=path, limits=limits)


async def mqtt(
    place: str, login: Login, *, path: str, for_s: float, config: Path, identifier: str, clock: Clock, messages_max: int
) -> tuple[Json, str]:
    """Topics that were heard, and the root below which to look.

    Raises:
        TwinError: what kept us from listening.
    """
    known = device_of(config, place, "mqtt")
    url = url_target(place if known is None else known[1].address, "mqtt")
    if known is not None:
        loaded, device = known
        folder = loaded.path.parent
        login = Login.of(device.security, lambda relative: (folder / relative).resolve())
        path = path or device.root
    document, problem = await probe_mqtt(
        url, login, _filters(path), for_s, identifier=identifier, clock=clock, profiles=None, messages_max=messages_max
    )
    if problem is not None:
        raise problem
    return document, path


async def modbus(
    place: str, units: str, *, path: str, within_s: float, timeout_s: float, config: Path, clock: Clock
) -> Json:
    """Registers that can be read; see `browse_modbus`."""
    known = device_of(config, place, "modbus")
    address, unit = place, units_of(units)[0]
    if known is not None:
        address, unit = known[1].address, int(known[1].unit_id)
    texts = [path] if path else ["holding 0..99", "input 0..99"]
    spans = [browse_modbus.span_of(text) for text in texts]
    return await browse_modbus.browse_modbus(
        modbus_target(address), unit, spans, clock=clock, timeout_s=timeout_s, within_s=within_s
    )


def save(draft: Draft, path: Path, *, replace: bool) -> str:
    """Writes a draft; says what was written."""
    count, left_out = write_draft(draft, path, replace=replace)
    left = f", {len(left_out)} left out (named at its end)" if left_out else ""
    return f"{path}: {count} points{left}; check names, types, units and ranges before it is used"


def _filters(path: str) -> list[str]:
    """What to subscribe to for a root; of a Sparkplug device all that its node publishes."""
    levels = [part for part in path.split("/") if part]
    if not levels:
        return ["#"]
    spark = [f"spBv1.0/{levels[0]}/+/{levels[1]}/#"] if 2 <= len(levels) <= 3 else []
    return [f"{path.rstrip('/')}/#", *spark]
