"""Asks the agent that runs on this gateway for its status, and writes it for people."""

from __future__ import annotations

import http.client
import json
from pathlib import Path
from typing import Any

from twinedge.config.load import load_site
from twinedge.health.notes import notes_of
from twinedge.health.server import PORT_FILE
from twinmodel.errors import UnreachableError

TIMEOUT_S = 5.0
ANSWER_BYTES_MAX = 16 << 20
_NAME_MIN = 14


def running_status(config: Path, state: Path) -> dict[str, Any]:
    """The status document of the agent that site.yaml describes; raises UnreachableError when none answers.

    Where site.yaml leaves the port to the system, the agent has noted it in its state directory.
    """
    raw = _asked(config, state, "/status")
    try:
        document: dict[str, Any] = json.loads(raw)
    except ValueError as foreign:
        raise _silent("the status port", foreign) from foreign
    return document


def running_metrics(config: Path, state: Path) -> str:
    """The metrics of the agent as Prometheus reads them; raises UnreachableError when none answers."""
    return _asked(config, state, "/metrics").decode()


def _asked(config: Path, state: Path, path: str) -> bytes:
    place = load_site(config).site.status
    noted = state / PORT_FILE
    port = place.port or (int(noted.read_text()) if noted.exists() else 0)
    connection = http.client.HTTPConnection(place.host, port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", path)
        return connection.getresponse().read(ANSWER_BYTES_MAX)
    except (OSError, ValueError, http.client.HTTPException) as silent:
        raise _silent(f"{place.host}:{port}", silent) from silent
    finally:
        connection.close()


def _silent(where: str, why: Exception) -> UnreachableError:
    hint = "see whether it runs: `systemctl status twinedge`, `journalctl -u twinedge`; --config says where it listens"
    return UnreachableError("AGENT_NOT_RUNNING", f"no agent answers at {where}: {why}", hint=hint)


def render(status: dict[str, Any]) -> str:
    """The status as a few aligned lines."""
    devices, twins = status["devices"], status["twins"]
    wide = max((len(name) for name in (*(d["device"] for d in devices), *(t["twin"] for t in twins))), default=0)
    wide = max(wide, _NAME_MIN) + 2
    lines = [
        f"{'gateway':<10}{status['gateway']}   {'; '.join(status['degraded']) or 'healthy'}",
        *(f"{name:<10}{text}" for name, text in notes_of(status)),
        "",
        f"{'DEVICE':<{wide}}{'STATE':<12}{'SAMPLES':>10}{'ERRORS':>8}  LAST ERROR",
    ]
    lines += [
        f"{d['device']:<{wide}}{'connected' if d['connected'] else 'AWAY':<12}{d['samples']:>10}{d['errors']:>8}  "
        f"{d['last_error']}".rstrip()
        for d in devices
    ]
    if twins:
        lines += ["", f"{'TWIN':<{wide}}{'MODEL':<24}{'TIER':<12}{'TICKS':>8}  DRIFT"]
    lines += [
        f"{t['twin']:<{wide}}{t['model'] or '-':<24}{t['tier'] or '-':<12}{t['steps']:>8}  "
        f"{'DRIFTING ' + t['isolation'] if t['drifting'] else 'ok'}"
        for t in twins
    ]
    return "\n".join(lines)
