"""What the running agent does now, once a second: rates of devices, ticks of models, what waits and what alarms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from twinedge.health.status import room_of

Status = Mapping[str, Any]

ROWS_MAX = 30
_OK, _WARN, _BAD = "", "yellow", "bold red"
_NUMBERS = ("ERRORS", "MISSED", "LATE")


class Screen:
    """Turns one status after the other into a screen; rates come from the one before."""

    def __init__(self) -> None:
        self._before: Status | None = None
        self._before_ns = 0

    def draw(self, status: Status, now_ns: int) -> RenderableType:
        """The screen of a status taken at a boot time."""
        span_s = (now_ns - self._before_ns) / 1e9 if self._before is not None else 0.0
        before = self._before or {}
        parts: list[RenderableType] = [_head(status), _devices(status, before, span_s)]
        if status["twins"]:
            parts.append(_twins(status, before, span_s))
        active = status.get("alarms", {}).get("list", [])
        if active:
            parts.append(_alarms(active))
        self._before, self._before_ns = status, now_ns
        return Group(*parts)


def rate(now: Mapping[str, Any], before: Mapping[str, Any] | None, key: str, span_s: float) -> str:
    """How much a counter grew in a second; "-" while there is nothing to compare with, or it began anew."""
    if before is None or span_s <= 0 or now[key] < before[key]:
        return "-"
    return f"{(now[key] - before[key]) / span_s:.1f}"


def _head(status: Status) -> Text:
    degraded, uplink, spool = status["degraded"], status["uplink"], status["spool"]
    head = Text()
    head.append(f"{status['gateway']}  {status['version']}  ")
    head.append("; ".join(degraded) or "healthy", style=_BAD if degraded else _OK)
    head.append("\nuplink  ")
    head.append(
        "connected" if uplink["connected"] else f"away: {uplink['last_error']}",
        style=_OK if uplink["connected"] else _WARN,
    )
    head.append(
        f"   clock {status['clock']}"
        f"\nspool   {spool['backlog_samples']} samples wait, {spool['bytes'] >> 10} KiB, {room_of(spool)};"
        f" {status['lanes']['samples']} in memory\n"
    )
    return head


def _devices(status: Status, before: Status, span_s: float) -> Table:
    earlier = {d["device"]: d for d in before.get("devices", ())}
    table = _table("DEVICE", "STATE", "SAMPLES/S", "ERRORS", "MISSED", "AGE S", "LAST ERROR")
    # Those that are away first: a screen has an end.
    rows = sorted(status["devices"], key=lambda d: (d["connected"], d["device"]))
    for device in rows[:ROWS_MAX]:
        age_s = device["age_s"]
        table.add_row(
            device["device"],
            Text("connected" if device["connected"] else "AWAY", style=_OK if device["connected"] else _BAD),
            rate(device, earlier.get(device["device"]), "samples", span_s),
            str(device["errors"]),
            str(device["missed"]),
            "-" if age_s is None else f"{age_s:.1f}",
            device["last_error"][:60] if not device["connected"] else "",
        )
    if len(rows) > ROWS_MAX:
        table.add_row(f"and {len(rows) - ROWS_MAX} more")
    return table


def _twins(status: Status, before: Status, span_s: float) -> Table:
    earlier = {t["twin"]: t for t in before.get("twins", ())}
    table = _table("TWIN", "MODEL", "TIER", "TICKS/S", "LATE", "STATE")
    for twin in sorted(status["twins"], key=lambda t: (not t["drifting"], t["twin"]))[:ROWS_MAX]:
        state = f"DRIFTING {twin['isolation']}" if twin["drifting"] else "settling" if twin["settling"] else "ok"
        table.add_row(
            twin["twin"],
            twin["model"] or "-",
            twin["tier"] or "-",
            rate(twin, earlier.get(twin["twin"]), "steps", span_s),
            str(twin["late"]),
            Text(state, style=_BAD if twin["drifting"] else _OK),
        )
    return table


def _alarms(active: list[Mapping[str, Any]]) -> Table:
    table = _table("ALARM", "STATE", "PRIORITY", "WHAT")
    for alarm in active[:ROWS_MAX]:
        urgent = alarm["priority"] in {"urgent", "high"}
        table.add_row(
            alarm["alarm"], alarm["state"], Text(alarm["priority"], style=_BAD if urgent else _OK), alarm["text"]
        )
    return table


def _table(*heads: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for head in heads:
        table.add_column(
            head, justify="right" if head.endswith("/S") or head in {"ERRORS", "MISSED", "LATE"} else "left"
        )
    return table
