"""Whom an OPC UA client may speak to: the server's certificate is trusted, valid now and for its host."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509

from twinedge.certificates import (
    PENDING_MAX,
    KnownServer,
    TrustStore,
    application_uri,
    days_left,
    ensure_certificate,
    first_certificate,
    hosts_of,
    in_time,
    name_of,
    read_certificate,
    thumbprint,
    uri_of,
)
from twinmodel.clock import BUILD_NS, SECOND_NS, Clock
from twinmodel.errors import UnreachableError

__all__ = [
    "PENDING_MAX",
    "KnownServer",
    "TrustStore",
    "application_uri",
    "check_server",
    "days_left",
    "ensure_certificate",
    "first_certificate",
    "hosts_of",
    "read_certificate",
    "thumbprint",
    "uri_of",
]


def check_server(
    presented: bytes, *, pinned: Path | None, store: TrustStore, host: str, clock: Clock, device: str
) -> None:
    """Passes when the server presents a certificate that is trusted, valid now and its own.

    `security.server_certificate` of site.yaml pins one certificate to one device, whatever names stand in it. One of
    the store counts for every server, so it must have been issued for the host that the address names.

    Args:
        presented: DER.
        pinned: the file that site.yaml names, if any.
        store: what a person has accepted; an untrusted one is kept below its `pending`.
        host: of the device's address.
        clock: one that was never set cannot say what is valid now; then the dates are not judged.
        device: for messages.

    Raises:
        UnreachableError: CERT_UNTRUSTED, CERT_EXPIRED or CERT_INVALID with `thumbprint` and the step to take.
    """
    print_ = thumbprint(presented)
    facts = {"thumbprint": print_, "device": device}
    try:
        certificate = x509.load_der_x509_certificate(presented)
        name, hosts = name_of(certificate), hosts_of(certificate)
    except ValueError as wrong:
        hint = "let the server make a certificate anew"
        what = f"{device}: the server presents no certificate that can be read ({print_})"
        raise UnreachableError("CERT_INVALID", what, hint=hint, **facts) from wrong
    wall_ns = clock.wall_ns()
    now = datetime.fromtimestamp(wall_ns // SECOND_NS, UTC) if wall_ns >= BUILD_NS else None
    told = f"{device}: the server's certificate {print_} ({name})"
    is_pinned = pinned is not None and read_certificate(pinned) == presented
    if not is_pinned and (pinned is not None or not store.vouches(certificate, now)):
        kept = store.keep(presented)
        why = f"differs from {pinned.name}" if pinned is not None else "is not trusted yet"
        step = f"if that is the thumbprint the server shows, set security.server_certificate to {kept}"
        if pinned is None:
            step += f", or run `{store.step('accept', print_)}` for all devices of its host"
        raise UnreachableError("CERT_UNTRUSTED", f"{told} {why}", hint=step, path=str(kept), **facts)
    if now is not None and not in_time(certificate, now):
        when = f"valid from {certificate.not_valid_before_utc:%Y-%m-%d} to {certificate.not_valid_after_utc:%Y-%m-%d}"
        hint = "renew it on the server (or mend the clock of server or gateway), then trust the new one"
        raise UnreachableError("CERT_EXPIRED", f"{told} is {when}, now is {now:%Y-%m-%d}", hint=hint, **facts)
    if not is_pinned and host.lower() not in {h.lower() for h in hosts}:
        kept = store.keep(presented)
        hint = f"use one of these names in `opcua:`, or pin it to this device: security.server_certificate: {kept}"
        issued = ", ".join(hosts) or "no host at all"
        raise UnreachableError("CERT_INVALID", f"{told} is for {issued}, not for {host}", hint=hint, **facts)
