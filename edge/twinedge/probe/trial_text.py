"""What `twinedge test` prints for people."""

from __future__ import annotations

from typing import Any

from twinedge.probe.tables import table

Json = dict[str, Any]


def trial_text(document: Json) -> str:
    """Every point with value, unit, quality and age, and below it what failed and why."""
    rows = []
    for device in document["devices"]:
        if not device["read"]:
            rows.append((device["device"], "-", "", "", "not read", "", device["error"]))
        same = {p["reason"] for p in device["points"]}
        if len(same) == 1 and len(device["points"]) > 1 and not device["ok"]:
            rows.append(
                (device["device"], "all points", "-", "", device["points"][0]["quality"] or "nothing came", "", *same)
            )
            continue
        rows += [
            (device["device"], p["point"], _value(p), p["unit"], p["quality"] or "nothing came", _age(p), p["reason"])
            for p in device["points"]
        ]
    return table(("DEVICE", "POINT", "VALUE", "UNIT", "QUALITY", "AGE", ""), rows)


def summary(document: Json) -> str:
    """One line of talk, and what to do about devices that were left to the agent."""
    devices = document["devices"]
    points = [p for d in devices for p in d["points"]]
    failed = [f"{d['device']}.{p['point']}" for d in devices for p in d["points"] if p["failed"]]
    good = sum(1 for p in points if p["quality"].startswith("good"))
    text = f"{len(devices)} devices, {len(points)} points: {good} good, {len(failed)} failed"
    if failed:
        text += f": {', '.join(failed[:10])}{' ...' if len(failed) > 10 else ''}"
    if any(not d["read"] for d in devices):
        text += "\nnot read: see `twinedge status`, stop the agent, or give --anyway (it may lose a poll)"
    return text


def _value(point: Json) -> str:
    value = point["value"]
    if value is None:
        return "-"
    if point.get("state"):
        return f"{int(value)} {point['state']}"
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _age(point: Json) -> str:
    age_s = point["age_s"]
    if age_s is None:
        return ""
    if abs(age_s) < 120:
        return f"{age_s:.1f} s"
    return f"{age_s / 60:.0f} min" if abs(age_s) < 7200 else f"{age_s / 3600:.1f} h"
