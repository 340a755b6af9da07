"""What an OPC UA server offers to whom: endpoints, the certificate it shows, and what is wrong with it for us."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import asyncua.ua
from asyncua.client.client import Client

from twinedge.certificates import first_certificate, thumbprint, uri_of
from twinedge.config.schema import Device, Security
from twinedge.drivers.link import Assignment
from twinedge.drivers.opcua_connect import MODES
from twinedge.probe.trust import described
from twinmodel.clock import Clock
from twinmodel.errors import UnreachableError
from twinmodel.profile.schema import FirmwareProfile

ua: Any = asyncua.ua  # it re-exports its names without saying so, which strict typing refuses

TIMEOUT_S: Final = 4.0
POLICIES: Final = ("None", "Basic256Sha256", "Aes128Sha256RsaOaep", "Aes256Sha256RsaPss")
"""Those we speak, weakest first."""
MODE_NAMES: Final = {mode: name for name, mode in MODES.items()}
TOKENS: Final = {0: "anonymous", 1: "user name", 2: "certificate", 3: "issued token"}
Json = dict[str, Any]


async def endpoints_of(url: str) -> list[Any]:
    """The endpoints that the server names to everybody.

    Raises:
        UnreachableError: DEVICE_UNREACHABLE with what is wrong and what to do.
    """
    client = Client(url, timeout=TIMEOUT_S)
    try:
        async with asyncio.timeout(2 * TIMEOUT_S):
            found: list[Any] = await client.connect_and_get_server_endpoints()
    except Exception as refused:  # asyncua raises bare Exception and AssertionError among others
        raise unreachable(url, refused) from refused
    return found


def unreachable(url: str, refused: BaseException) -> UnreachableError:
    """Why there is no connection to a server, in words."""
    parts = urlsplit(url)
    place = f"{parts.hostname}:{parts.port}"
    if isinstance(refused, ConnectionRefusedError):
        text = f"{place} refuses the connection: the host is there, and nothing listens at this port"
        hint = "check the port, and that the OPC UA server runs and is not bound to another interface"
    elif isinstance(refused, TimeoutError):
        text = f"no answer from {place} in {2 * TIMEOUT_S:g} s"
        hint = (
            "check address, cable and firewall; something that is no OPC UA server takes connections and says nothing"
        )
    elif isinstance(refused, socket.gaierror):
        text, hint = f"the name {parts.hostname} is not known", "write its IP address, or mend the name server"
    elif isinstance(refused, OSError):
        text, hint = (
            f"no connection to {place}: {refused.strerror or refused}",
            "check address, network, and whether an OPC UA server listens at this port",
        )
    else:
        text = f"{place} answers, but not as an OPC UA server: {type(refused).__name__} {refused}".strip()
        hint = "check the port; it must be that of the binary protocol opc.tcp, not of HTTPS"
    return UnreachableError("DEVICE_UNREACHABLE", text, hint=hint)


def endpoint_document(endpoint: Any) -> Json:
    """One endpoint."""
    policy = (endpoint.SecurityPolicyUri or "").rpartition("#")[2]
    return {
        "policy": policy,
        "mode": MODE_NAMES.get(endpoint.SecurityMode, "?"),
        "users": sorted({TOKENS.get(int(t.TokenType), "?") for t in endpoint.UserIdentityTokens or ()}),
        "url": endpoint.EndpointUrl or "",
        "level": int(endpoint.SecurityLevel or 0),
        "spoken": policy in POLICIES,
        "thumbprint": thumbprint(presented) if (presented := certificate_of(endpoint)) else "",
    }


def certificate_of(endpoint: Any) -> bytes:
    """DER of the leaf that an endpoint shows; empty for none."""
    return first_certificate(endpoint.ServerCertificate or b"")


def certificates(endpoints: Sequence[Any], url: str, clock: Clock) -> list[Json]:
    """The certificates the endpoints show, each once, and what speaks against each."""
    shown = {certificate_of(e): e for e in reversed(endpoints) if certificate_of(e)}
    return [_judged(der, endpoint, url, clock) for der, endpoint in shown.items()]


def _judged(der: bytes, endpoint: Any, url: str, clock: Clock) -> Json:
    document = described(der, clock)
    notes = [document["problem"]] if document["problem"] else []
    if "subject" in document:
        says = endpoint.Server.ApplicationUri if endpoint.Server is not None else None
        holds = uri_of(der)
        if says and holds and says != holds:
            notes.append(f"it is for the application {holds}, the server says it is {says}: let it make a new one")
        host = (urlsplit(url).hostname or "").lower()
        if host not in {h.lower() for h in document["hosts"]}:
            issued = ", ".join(document["hosts"]) or "no host at all"
            notes.append(f"it was issued for {issued}, not for {host}: pin it to the device (server_certificate)")
    return document | {"notes": notes}


def strongest(documents: Sequence[Json]) -> tuple[str, str] | None:
    """Policy and mode to try: the strongest the server offers and we speak; None when there is none."""
    modes = list(MODES)
    usable = [d for d in documents if d["spoken"] and d["mode"] in modes]
    top = max(usable, key=lambda d: (modes.index(d["mode"]), POLICIES.index(d["policy"])), default=None)
    return None if top is None else (top["policy"], top["mode"])


def stand_in(url: str, security: Security, folder: Path) -> Assignment:
    """An assignment for a server that no site.yaml names yet; it has no points."""
    none = FirmwareProfile.model_validate(
        {"profile": "probe/none", "protocol": "opcua", "namespace": "urn:none", "points": {"none": {"at": "None"}}}
    )
    device = Device(opcua=url, profile="probe/none", security=security)
    return Assignment(urlsplit(url).netloc, device, none, {}, 1, folder)
