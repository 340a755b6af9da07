"""What a person wants to know of a gateway beside its devices and twins, a line each; for shell and local page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from twinedge.health.status import room_of

Status = Mapping[str, Any]
ALARMS_MAX = 5
_CLOCK = {
    "UNSET": "it stands before this software was made; set it",
    "FREE": "nobody keeps it right; let chrony or systemd-timesyncd run",
    "HOLDOVER": "it was kept right, and is not for less than a day",
    "SYNCED": "kept right by the system",
}


def notes_of(status: Status) -> Iterator[tuple[str, str]]:
    """Name and text of each line; parts that are not configured are left out."""
    spool, uplink = status["spool"], status["uplink"]
    yield "uplink", "connected" if uplink["connected"] else f"away: {uplink['last_error']}"
    yield "spool", f"{spool['backlog_samples']} samples wait, {spool['bytes']} bytes on disk, {room_of(spool)}"
    yield "clock", f"{status['clock']}: {_CLOCK[status['clock']]}" if status["clock"] in _CLOCK else status["clock"]
    if configuration := status.get("configuration"):
        yield "config", _configuration(configuration)
    if alarms := status.get("alarms"):
        yield from _alarms(alarms)
    for name, part in status.get("northbound", {}).items():
        yield name, part["error"] if part["reason"] else _served(part)
    commands = status.get("commands", {})
    if commands.get("allowed"):
        yield "commands", f"{len(commands['allowed'])} targets allowed, {len(commands['open'])} open"


def _alarms(alarms: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    standing = alarms["list"]
    if not alarms["alarms"]:
        return
    unacked = sum(count for state, count in alarms["states"].items() if state in {"UNACK", "RTNUN"})
    yield "alarms", f"{sum(alarms['active'].values())} active, {unacked} to be acknowledged"
    for alarm in standing[:ALARMS_MAX]:
        yield "", f"{alarm['priority']} {alarm['alarm']} {alarm['state']}: {alarm['text']}"
    if len(standing) > ALARMS_MAX:
        yield "", f"and {len(standing) - ALARMS_MAX} more: twinedge alarm list"


def _served(part: Mapping[str, Any]) -> str:
    """Where it is served, and by which certificate clients know it."""
    told = [f"{part['values_per_s']} values/s"]
    if "listen" in part:
        told.append(f"listens at {part['listen']}, {part['clients']} clients, certificate {part['thumbprint']}")
    if "to" in part:
        told.append(f"{part['topics']} topics at {part['to']}")
    return ", ".join(told)


def _configuration(configuration: Mapping[str, Any]) -> str:
    parts = [f"number {configuration['number']} from {configuration['origin']}", configuration["digest"][:12]]
    return ", ".join(str(part) for part in parts)
