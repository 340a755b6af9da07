"""The gateway itself: its configuration, identity, spool and models, and what the running agent says."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from typing import Any

from twinedge.config.catalogue import build_catalogue
from twinedge.config.load import LoadedSite, load_site
from twinedge.doctor.finding import Finding, Place, bad, ok, warn
from twinedge.enrol import load_identity
from twinedge.health.client import running_status
from twinedge.health.status import room_of
from twinedge.modelstore.store import ModelStore
from twinedge.spool.inspect import status as spool_status
from twinmodel.clock import SECOND_NS
from twinmodel.errors import MissingError, TwinError
from twinmodel.estimator import Estimator

DAY_NS = 86_400 * SECOND_NS
LEFT_MIN_DAYS = 10
REACH_S = 3.0
HOURS_MIN = 12.0
NAMED_MAX = 8
LIBRARIES = {"modbus": "pymodbus", "opcua": "asyncua", "mqtt": "aiomqtt"}


def look_at_configuration(place: Place) -> Iterator[Finding]:
    """site.yaml, the profiles it names, and the libraries their protocols need."""
    try:
        loaded = load_site(place.config)
        catalogue = build_catalogue(loaded)
    except TwinError as error:
        yield bad("configuration", str(error), error.hint or "")
        return
    yield ok(
        "configuration",
        f"{place.config}: {len(loaded.site.devices)} devices, {len(catalogue.signals)} signals,"
        f" {len(loaded.site.twins)} twins",
    )
    yield from _libraries(loaded)


def look_at_identity(place: Place) -> Iterator[Finding]:
    """Whether it has joined, and how long its certificate lasts."""
    try:
        identity = load_identity(place.state, place.clock)
    except TwinError as error:
        make = warn if error.reason == "NOT_JOINED" else bad
        yield make("identity", error.message, error.hint or "")
        return
    days = (identity.not_after_ns - place.clock.wall_ns()) // DAY_NS
    text = f"{identity.tenant}/{identity.site}/{identity.gateway}, certificate for {days} days more"
    if days < LEFT_MIN_DAYS:
        yield warn("identity", text, "the agent renews it by itself while the coordinator answers")
    else:
        yield ok("identity", text)
    yield _reached(identity.sync_address)


def look_at_spool(place: Place) -> Iterator[Finding]:
    """What waits and what was lost."""
    try:
        spool = spool_status(place.state, place.clock.wall_ns())
    except MissingError:
        yield ok("spool", "none yet: the agent makes it at its first start")
        return
    except TwinError as error:
        yield bad("spool", error.message, error.hint or "`twinedge spool verify` says what can be read")
        return
    waits = f"{spool['backlog_samples']} samples wait, {spool['bytes'] >> 10} KiB of {spool['disk_max_bytes'] >> 10}"
    hours = spool["hours_until_full"]
    text = f"{waits}, {room_of(spool)}"
    if spool["lost_samples"]:
        lost = ", ".join(f"{count} {reason}" for reason, count in spool["lost"].items())
        yield warn("spool", f"{text}; lost and declared: {lost}", "docs/runbook.md tells each reason")
    elif hours is not None and hours < HOURS_MIN:
        yield warn("spool", text, "less than half a day without the coordinator: give it more disk")
    else:
        yield ok("spool", text)


def look_at_models(place: Place) -> Iterator[Finding]:
    """Parity: whether each model gives here, bit for bit, what it gave where it was built."""
    if not (place.state / "models").is_dir():
        yield ok("parity", "no models here yet")
        return
    store = ModelStore(place.state, place.state / "identity" / "signers")
    for twin, desired in sorted(store.desired.items()):
        try:
            estimator = Estimator(store.load(bytes.fromhex(desired.digest)), cache_dir=place.kernel_cache)
        except TwinError as error:
            yield bad(f"parity of {twin}", f"{desired.name}: {error}", error.hint or "assign the model again")
        else:
            yield ok(f"parity of {twin}", f"{desired.name} gives its own bits on tier {estimator.tier}")


def look_at_agent(place: Place) -> Iterator[Finding]:
    """What the running agent says of itself, its devices and its link."""
    try:
        status = running_status(place.config, place.state)
    except TwinError as silent:
        yield warn("agent", silent.message, silent.hint or "is it started?")
        return
    degraded = status["degraded"]
    if degraded:
        yield bad("agent", f"runs, degraded: {', '.join(degraded)}", f"twinedge explain {degraded[0]}")
    else:
        yield ok("agent", f"runs, version {status['version']}")
    yield _devices(status)
    yield from _twins(status)
    yield _link(status["uplink"])


def _libraries(loaded: LoadedSite) -> Iterator[Finding]:
    wanted = {device.protocol for device in loaded.site.devices.values()}
    missing = sorted(LIBRARIES[name] for name in wanted if find_spec(LIBRARIES[name]) is None)
    if missing:
        yield bad("libraries", f"not installed: {', '.join(missing)}", "install hybridtwin[edge]")
    else:
        yield ok("libraries", f"there for {', '.join(sorted(wanted))}")


def _reached(address: str) -> Finding:
    """A TCP handshake alone: names, routes and firewalls; what TLS says is told by the agent."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=REACH_S).close()
    except (OSError, ValueError) as refused:
        hint = "samples wait meanwhile; look at the name, the route and the firewall"
        return warn("coordinator", f"{address} does not answer: {refused}", hint)
    return ok("coordinator", f"{address} takes a connection")


def _devices(status: Mapping[str, Any]) -> Finding:
    away = [d for d in status["devices"] if not d["connected"]]
    if not away:
        return ok("devices", f"all {len(status['devices'])} answer")
    named = "; ".join(f"{d['device']}: {d['last_error'] or 'no answer yet'}" for d in away[:NAMED_MAX])
    more = f"; and {len(away) - NAMED_MAX} more" if len(away) > NAMED_MAX else ""
    return warn("devices", f"{len(away)} of {len(status['devices'])} away: {named}{more}", "`twinedge probe` says more")


def _twins(status: Mapping[str, Any]) -> Iterator[Finding]:
    drifting = [f"{t['twin']} ({t['isolation']})" for t in status["twins"] if t["drifting"]]
    idle = [t["twin"] for t in status["twins"] if not t["model"]]
    if drifting:
        yield warn("models", f"drift: {', '.join(drifting)}", "model and machine disagree: `twinctl twin explain`")
    elif idle:
        yield warn("models", f"no model runs for {', '.join(idle)}", "assign one with `twinctl model assign`")
    elif status["twins"]:
        yield ok("models", f"{len(status['twins'])} twins, none drifts")


def _link(uplink: Mapping[str, Any]) -> Finding:
    if uplink["connected"]:
        return ok("uplink", f"session {uplink['session']} is open")
    make = bad if uplink["needs_operator"] else warn
    return make("uplink", f"no session: {uplink['last_error']}", "samples wait in the spool meanwhile")
