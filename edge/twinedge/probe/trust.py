"""Certificates of OPC UA servers and our own, for who installs a gateway: listed, shown, accepted, revoked."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from twinedge.certificates import KnownServer, TrustStore, days_left, ensure_certificate, hosts_of, thumbprint, uri_of
from twinedge.probe.tables import pairs, table
from twinmodel.clock import SECOND_NS, Clock
from twinmodel.errors import MissingError, StorageError

Json = dict[str, Any]


def listed(state: Path, clock: Clock) -> list[Json]:
    """The certificates of servers this gateway has seen: trusted ones, then those that wait for a person."""
    return [_row(server, clock) for server in TrustStore(state / "opcua").list()]


def listed_text(rows: list[Json], state: Path) -> str:
    """`listed` for people."""
    if not rows:
        probe = f"twinedge probe opcua URL --state {shlex.quote(str(state.absolute()))}"
        return f"no server has shown a certificate yet; `{probe}` fetches it"
    shown = [
        (r["thumbprint"], r["state"], r["name"], ", ".join(r["hosts"]) or "-", f"{r['until'][:10]}{_soon(r)}")
        for r in rows
    ]
    return table(("THUMBPRINT", "STATE", "NAME", "HOSTS", "VALID UNTIL"), shown)


def accept(state: Path, beginning: str, clock: Clock) -> Json:
    """Trusts the waiting certificate whose thumbprint begins so; the running agent uses it at its next attempt."""
    with as_owner_of(state):
        return _row(TrustStore(state / "opcua").accept(beginning), clock)


def revoke(state: Path, beginning: str, clock: Clock) -> Json:
    """Trusts a certificate no longer; it waits again."""
    with as_owner_of(state):
        return _row(TrustStore(state / "opcua").revoke(beginning), clock)


def own(state: Path, clock: Clock) -> Json:
    """Our application certificate, which servers must trust; made when missing."""
    fresh = not (state / "opcua/own.der").is_file()
    try:
        with as_owner_of(state):
            path, _ = ensure_certificate(state, clock)
        der = path.read_bytes()
    except OSError as refused:
        hint = "run it as the agent's user, or give --state"
        raise StorageError("STORE_READ_ONLY", f"{state / 'opcua'}: {refused.strerror}", hint=hint) from refused
    return described(der, clock) | {"path": str(path), "made_now": fresh}


def one(state: Path, beginning: str, clock: Clock) -> Json:
    """A certificate of a server in full. Raises MissingError NOT_FOUND."""
    wanted = beginning.replace(":", "").replace(" ", "").lower()
    store = TrustStore(state / "opcua")
    found = [s for s in store.list() if s.thumbprint.startswith(wanted)]
    if len(found) != 1:
        what = f"{len(found)} certificates begin" if found else "no certificate begins"
        raise MissingError("NOT_FOUND", f"{what} with {beginning}", hint=f"`{store.step('list')}` shows them")
    path = found[0].path
    der = path.read_bytes()
    if b"-----BEGIN" in der:
        der = x509.load_pem_x509_certificate(der).public_bytes(Encoding.DER)
    return described(der, clock) | {"path": str(path), "state": "trusted" if found[0].trusted else "waits"}


def described(der: bytes, clock: Clock) -> Json:
    """What stands in a certificate; `problem` names what is wrong with it by itself, "" for nothing."""
    print_ = thumbprint(der)
    try:
        found = x509.load_der_x509_certificate(der)
        hosts = hosts_of(found)
    except ValueError as wrong:
        return {"thumbprint": print_, "problem": f"it cannot be read: {wrong}"}
    left = days_left(der, clock)
    now = datetime.fromtimestamp(clock.wall_ns() // SECOND_NS, UTC)
    problem = "it has ended" if left < 0 else "its time has not come" if now < found.not_valid_before_utc else ""
    size = getattr(found.public_key(), "key_size", None)
    return {
        "thumbprint": print_,
        "subject": found.subject.rfc4514_string(),
        "issuer": "itself" if found.issuer == found.subject else found.issuer.rfc4514_string(),
        "application_uri": uri_of(der) or "",
        "hosts": list(hosts),
        "from": _iso(found.not_valid_before_utc),
        "until": _iso(found.not_valid_after_utc),
        "days_left": left,
        "key_bits": size,
        "problem": problem,
    }


def described_text(document: Json) -> str:
    """`described` for people."""
    if "subject" not in document:
        return pairs({"thumbprint": document["thumbprint"], "problem": document["problem"]})
    shown: dict[str, object] = {
        "thumbprint": document["thumbprint"],
        "subject": document["subject"],
        "issued by": document["issuer"],
        "application URI": document["application_uri"] or "none: servers and clients compare it",
        "hosts": ", ".join(document["hosts"]) or "none",
        "valid": f"{document['from'][:10]} to {document['until'][:10]}{_soon(document)}",
    }
    if document["problem"]:
        shown["problem"] = document["problem"]
    shown |= {key: document[key] for key in ("state", "path") if key in document}
    return pairs(shown)


@contextmanager
def as_owner_of(state: Path) -> Iterator[None]:
    """Gives what root writes into the state directory to its owner: the agent must be able to read it."""
    yield
    if os.geteuid() != 0 or not state.is_dir():
        return
    owner = state.stat()
    folder = state / "opcua"
    for path in (folder, *folder.rglob("*")):
        if path.exists() and path.stat().st_uid != owner.st_uid:
            os.chown(path, owner.st_uid, owner.st_gid)


def _row(server: KnownServer, clock: Clock) -> Json:
    return {
        "thumbprint": server.thumbprint,
        "state": "trusted" if server.trusted else "waits",
        "name": server.name,
        "hosts": list(server.hosts),
        "until": _iso(datetime.fromtimestamp(server.until_ns // SECOND_NS, UTC)),
        "days_left": (server.until_ns - clock.wall_ns()) // (86_400 * SECOND_NS),
        "path": str(server.path),
    }


def _soon(document: Json) -> str:
    left = document["days_left"]
    if left < 0:
        return " (ended)"
    return f" (in {left} days)" if left < 60 else ""


def _iso(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"
