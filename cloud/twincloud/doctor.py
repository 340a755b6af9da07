"""What `twincloud doctor`, `ca show` and `db status` look at: files, certificates, store, ports."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import socket
import stat
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from urllib.parse import urlsplit

from cryptography import x509

from twincloud.config import Settings
from twincloud.identity.ca import Authority
from twincloud.identity.shared_ledger import ledger_of
from twincloud.storage.postgres import PostgresDatabase
from twinmodel.clock import SECOND_NS, Clock
from twinmodel.errors import StorageError, TwinError, UnreachableError

Row = dict[str, object]

TIMEOUT_S = 3.0
BODY_BYTES_MAX = 4 << 20
SECRETS = ("root.key", "issuing.key", "server.key", "ledger.json")
DAY_NS = 86_400 * SECOND_NS
LEFT_MIN_NS = 14 * DAY_NS


def examine(settings: Settings, clock: Clock) -> list[Row]:
    """All checks in order; each is a row with `check`, `ok`, `detail` and `hint`."""
    checks: tuple[tuple[str, Callable[[Settings, Clock], str]], ...] = (
        ("state directory", _check_directory),
        ("secret files", _check_secrets),
        ("authority", _check_authority),
        ("ledger", _check_ledger),
        ("store", _check_store),
        ("durability", _check_durability),
    )
    rows = []
    for name, check in checks:
        try:
            rows.append(_row(name, check(settings, clock)))
        except TwinError as error:
            rows.append(_row(name, str(error), hint=error.hint))
    if _is_running(settings):
        return [*rows, _row("service", "runs and answers"), _check_upkeep(settings)]
    ports = (
        ("port", settings.host, settings.port),
        ("sync_port", settings.gateway_host, settings.sync_port),
        ("enrol_port", settings.gateway_host, settings.enrol_port),
    )
    return rows + [_check_port(name, host, port) for name, host, port in ports]


def certificates(settings: Settings, clock: Clock) -> list[Row]:
    """Root, issuing and server certificate, then those of gateways; raises NOT_INITIALISED."""
    ca = Authority.load(settings.state, clock)
    rows: list[Row] = [
        _certificate("root", ca.root, ca.fingerprint),
        _certificate("issuing", ca.issuing.certificate, ""),
    ]
    path = settings.state / "identity" / "server.pem"
    if path.exists():
        rows.append(_certificate("server", x509.load_pem_x509_certificate(path.read_bytes()), ""))
    now_ns = clock.wall_ns()
    with ledger_of(settings.state, settings.database_url) as ledger:
        issued = ledger.content().certificates.values()
    for entry in sorted(issued, key=lambda c: (c.uri, c.issued_ns)):
        state = "revoked" if entry.revoked_ns else "expired" if entry.until_ns <= now_ns else "valid"
        rows.append(
            {
                "kind": "gateway",
                "subject": entry.uri,
                "serial": entry.serial,
                "until": entry.until_ns // SECOND_NS,
                "state": state,
                "sha256": "",
            }
        )
    for row in rows:
        row["until"] = _day(int(str(row["until"])))
    return rows


def store_facts(settings: Settings, clock: Clock) -> dict[str, object]:
    """Facts about the store, read from it or, when a service holds it, from that service's metrics.

    Raises:
        TwinError: NOT_INITIALISED, STATE_LOCKED when the service that holds it does not answer.
    """
    from twincloud.storage import open_store  # noqa: PLC0415 start-up time

    try:
        store = open_store(settings.state, clock=clock, database=settings.database_url)
    except TwinError as error:
        if error.reason != "STATE_LOCKED":
            raise
        return _facts_of_service(settings, error)
    try:
        return asdict(store.status()) | {"running": False}
    finally:
        store.close()


def _facts_of_service(settings: Settings, locked: TwinError) -> dict[str, object]:
    try:
        ready = json.loads(_get(settings, "/readyz"))
        text = _get(settings, "/metrics").decode()
    except (UnreachableError, ValueError):
        raise locked from None
    found = re.findall(r"^twincloud_store_(\w+) ([0-9.e+]+)$", text, re.MULTILINE)
    return {"engine": ready["engine"], "schema": ready["schema"], "running": True} | {
        name: int(float(value)) for name, value in found
    }


def _get(settings: Settings, path: str) -> bytes:
    host, port = settings.host, settings.port
    try:
        # A running service says where it listens; the settings of this command may be others.
        real = urlsplit(json.loads((settings.state / "service.json").read_text())["rest"])
        host, port = real.hostname or host, real.port or port
    except (OSError, ValueError, KeyError, TypeError):
        pass
    connection = http.client.HTTPConnection(_dial(host), port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", path)
        return connection.getresponse().read(BODY_BYTES_MAX)
    except (OSError, http.client.HTTPException) as error:
        raise UnreachableError("COORDINATOR_UNREACHABLE", f"{host}:{port}: {error}") from error
    finally:
        connection.close()


def _is_running(settings: Settings) -> bool:
    try:
        return b"twincloud_store_bytes" in _get(settings, "/metrics")
    except UnreachableError:
        return False


def _check_upkeep(settings: Settings) -> Row:
    """Background work of the running service."""
    try:
        failing = str(json.loads(_get(settings, "/healthz")).get("upkeep", ""))
    except (UnreachableError, ValueError) as error:
        return _row("upkeep", str(error), hint="see the service's log")
    return _row("upkeep", failing or "does its work", hint="it is tried again; see docs/history.md" if failing else "")


def _check_directory(settings: Settings, _clock: Clock) -> str:
    try:
        mode = stat.S_IMODE(settings.state.stat().st_mode)
    except OSError as error:
        raise StorageError(
            "STATE_INVALID", f"{settings.state}: {error.strerror}", hint="run `twincloud init`"
        ) from None
    if mode & 0o077:
        raise StorageError(
            "STATE_INVALID", f"{settings.state} is open to others ({mode:04o})", hint=f"chmod 700 {settings.state}"
        )
    return str(settings.state)


def _check_secrets(settings: Settings, _clock: Clock) -> str:
    folder = settings.state / "identity"
    present = [path for name in SECRETS if (path := folder / name).exists()]
    for path in present:
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o077:
            raise StorageError("STATE_INVALID", f"{path} is open to others ({mode:04o})", hint=f"chmod 600 {path}")
    return f"{len(present)} files, 0600"


def _check_authority(settings: Settings, clock: Clock) -> str:
    ca = Authority.load(settings.state, clock)
    now_s = clock.wall_ns() // SECOND_NS
    for kind, certificate in (("root", ca.root), ("issuing", ca.issuing.certificate)):
        left_s = int(certificate.not_valid_after_utc.timestamp()) - now_s
        if left_s * SECOND_NS < LEFT_MIN_NS:
            raise StorageError("CERT_EXPIRED", f"the {kind} certificate ends in {left_s // 86_400} days")
    return f"SHA-256 {ca.fingerprint}"


def _check_ledger(settings: Settings, _clock: Clock) -> str:
    with ledger_of(settings.state, settings.database_url) as ledger:
        content = ledger.content()
    return f"{len(content.tokens)} tokens, {len(content.certificates)} certificates"


def _check_store(settings: Settings, clock: Clock) -> str:
    facts = store_facts(settings, clock)
    held = "held by the running service" if facts["running"] else "opens"
    return f"{held}; schema {facts['schema']}, {facts['samples']} samples in {facts['bytes']} bytes"


def _check_durability(settings: Settings, _clock: Clock) -> str:
    """Whether the server of a shared database keeps what it has confirmed, also when its machine loses power."""
    if not settings.database_url:
        return "every commit is flushed to the disk"
    with contextlib.closing(PostgresDatabase(settings.database_url)) as database:
        facts = database.facts()
    off = [name for name in ("fsync", "synchronous", "full_page_writes") if facts[name] == "off"]
    if off:
        names = ", ".join("synchronous_commit" if name == "synchronous" else name for name in off)
        raise StorageError(
            "STATE_INVALID",
            f"{database.place} has {names} off: a power cut loses or damages what gateways were told is stored",
            hint=f"set {names} = on in postgresql.conf and restart the server",
        )
    return "fsync, synchronous_commit and full_page_writes are on"


def _check_port(name: str, host: str, port: int) -> Row:
    if port == 0:
        return _row(name, "a free one is taken at start")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            hint = f"stop the other process or set `{name}`"
            return _row(name, f"cannot listen on {host}:{port}: {error.strerror}", hint=hint)
    return _row(name, f"{host}:{port} is free")


def _dial(host: str) -> str:
    return {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)  # noqa: S104 compared, not bound


def _row(check: str, detail: str, *, hint: str = "") -> Row:
    return {"check": check, "ok": not hint, "detail": detail, "hint": hint}


def _certificate(kind: str, certificate: x509.Certificate, sha256: str) -> Row:
    return {
        "kind": kind,
        "subject": certificate.subject.rfc4514_string(),
        "serial": f"{certificate.serial_number:x}",
        "until": int(certificate.not_valid_after_utc.timestamp()),
        "state": "valid",
        "sha256": sha256,
    }


def _day(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d}"
