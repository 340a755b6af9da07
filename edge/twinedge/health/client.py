"""Asks the agent that runs on this gateway for its status, and writes it for people."""

from __future__ import annotations

import http.client
import json
from pathlib import Path
from typing import Any

from twinedge.config.load import load_site
from twinedge.health.server import PORT_FILE
from twinedge.health.status import room_of
from twinmodel.errors import UnreachableError

TIMEOUT_S = 5.0


def running_status(config: Path, state: Path) -> dict[str, Any]:
    """The status document of the agent that site.yaml describes; raises UnreachableError when none answers.

    Where site.yaml leaves the port to the system, the agent has noted it in its state directory.
    """
    place = load_site(config).site.status
    noted = state / PORT_FILE
    port = place.port or (int(noted.read_text()) if noted.exists() else 0)
    connection = http.client.HTTPConnection(place.host, port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", "/status")
        document: dict[str, Any] = json.loads(connection.getresponse().read())
    except (OSError, ValueError, http.client.HTTPException) as silent:
        raise UnreachableError(
            "DEVICE_UNREACHABLE",
            f"no agent answers at {place.host}:{port}: {silent}",
            hint="is `twinedge run` up?",
        ) from silent
    finally:
        connection.close()
    return document


def render(status: dict[str, Any]) -> str:
    """The status as a few aligned lines."""
    spool, uplink = status["spool"], status["uplink"]
    lines = [
        f"gateway   {status['gateway']}   {'; '.join(status['degraded']) or 'healthy'}",
        f"uplink    {'connected' if uplink['connected'] else 'away: ' + uplink['last_error']}",
        f"spool     {spool['backlog_samples']} samples wait, {spool['bytes']} bytes on disk, {room_of(spool)}",
        "",
        f"{'DEVICE':<16}{'STATE':<12}{'SAMPLES':>10}{'ERRORS':>8}  LAST ERROR",
    ]
    lines += [
        f"{d['device']:<16}{'connected' if d['connected'] else 'AWAY':<12}{d['samples']:>10}{d['errors']:>8}  "
        f"{d['last_error']}"
        for d in status["devices"]
    ]
    lines += ["", f"{'TWIN':<16}{'MODEL':<24}{'TIER':<12}{'TICKS':>8}  DRIFT"]
    lines += [
        f"{t['twin']:<16}{t['model'] or '-':<24}{t['tier'] or '-':<12}{t['steps']:>8}  "
        f"{'DRIFTING ' + t['isolation'] if t['drifting'] else 'ok'}"
        for t in status["twins"]
    ]
    return "\n".join(lines)
