"""`twinedge probe opcua`: what a server offers, whether both sides trust each other, and what it is.

    endpoints ─▶ its certificate, judged ─▶ a session with our certificate ─▶ product, limits, clock, profiles

A server nobody has accepted yet is still connected to, anonymously: that tells in one run whether it accepts us, and
nothing secret is said. A user and a password go only to a server that is trusted.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from asyncua.client.client import Client

from twinedge.certificates import TrustStore
from twinedge.config.schema import Security
from twinedge.drivers.link import Assignment
from twinedge.drivers.opcua_connect import CERTIFICATE_REFUSALS, Secured
from twinedge.probe import trust
from twinedge.probe.opcua_endpoints import (
    TIMEOUT_S,
    certificate_of,
    certificates,
    endpoint_document,
    endpoints_of,
    stand_in,
    strongest,
    unreachable,
)
from twinedge.probe.opcua_server import about, fitting
from twinedge.probe.profiles import known_profiles
from twinedge.refusals import leaf
from twinmodel.clock import Clock
from twinmodel.errors import DeniedError, InputError, TwinError, UnreachableError

CONNECT_S: Final = 10.0
_USER: Final = ("BadUserAccessDenied", "BadIdentityTokenRejected", "BadIdentityTokenInvalid", "BadUserSignatureInvalid")
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Wanted:
    """How to connect.

    Attributes:
        policy, mode: None for the strongest that both sides speak.
        user, password_file: of a user; anonymous without.
    """

    policy: str | None = None
    mode: str | None = None
    user: str | None = None
    password_file: Path | None = None


class Onlooker(Secured):
    """Connects to a server that is not trusted, too, and says what speaks against it; it must tell no secret then.

    Attributes:
        objection: why the server would be refused, None for a trusted one.
    """

    def __init__(self, assignment: Assignment, clock: Clock, state_dir: Path) -> None:
        super().__init__(assignment, clock, state_dir)
        self.objection: UnreachableError | None = None

    def check(self, presented: bytes) -> None:
        """See `Secured.check`; keeps what it finds instead of raising it."""
        try:
            super().check(presented)
        except UnreachableError as untrusted:
            self.objection = untrusted

    def keep_secrets(self) -> None:
        """Raises UnreachableError CERT_UNTRUSTED where a user would be told to a server that is not trusted."""
        if self.objection is not None and self.user:
            told = f"{self.objection.message}; the user {self.user} was not told to it"
            print_ = str(self.objection.facts.get("thumbprint", ""))
            accept = TrustStore(self.state_dir / "opcua").step("accept", print_)
            hint = f"compare the thumbprint with the one the server shows, then `{accept}`"
            if self.objection.reason != "CERT_UNTRUSTED":
                hint = self.objection.hint
            raise UnreachableError(self.objection.reason, told, hint=hint, **self.objection.facts)


async def probe_opcua(
    url: str, wanted: Wanted, *, state: Path, clock: Clock, profiles: Path | None
) -> tuple[Json, TwinError | None]:
    """Everything the command says, and what keeps us from reading this server, None for nothing.

    Raises:
        UnreachableError: DEVICE_UNREACHABLE: nobody there, or no OPC UA server.
    """
    endpoints = await endpoints_of(url)
    offers = [endpoint_document(e) for e in endpoints]
    shown = certificates(endpoints, url, clock)
    document: Json = {"url": url, "state": str(state), "endpoints": offers, "certificates": shown}
    policy, mode = choice(offers, wanted)
    document["tried"] = {"policy": policy, "mode": mode, "user": wanted.user or "anonymous"}
    security = Security.model_validate(
        {
            "policy": policy,
            "mode": mode,
            "user": wanted.user,
            "password_file": str(wanted.password_file.resolve()) if wanted.password_file else None,
        }
    )
    if policy != "None":
        document["own"] = trust.own(state, clock)
    elif any(certificate_of(e) for e in endpoints):
        document["tried"]["note"] = "nothing is encrypted and nobody is checked"
    onlooker = Onlooker(stand_in(url, security, Path.cwd()), clock, state)
    problem: TwinError | None = None
    with trust.as_owner_of(state):
        try:
            async with session(onlooker, url) as client:
                document |= await about(client, clock)
                known = known_profiles("opcua", profiles)
                document["profiles"] = [m.document() for m in await fitting(client, known, document["namespaces"])]
        except TwinError as told:
            problem = told
    if onlooker.objection is not None:
        problem = _both(onlooker.objection, problem, state)
    trusted = {s.thumbprint for s in TrustStore(state / "opcua").list() if s.trusted}
    for certificate in shown:
        certificate["trusted"] = certificate["thumbprint"] in trusted
    document["connected"] = "server" in document
    return document, problem


@contextlib.asynccontextmanager
async def session(secured: Secured, url: str) -> AsyncIterator[Client]:
    """A session that is ended politely.

    Raises:
        UnreachableError: DEVICE_UNREACHABLE, DEVICE_REFUSED or CERT_... with the step to take on the right side.
    """
    client = Client(url, timeout=TIMEOUT_S)
    try:
        try:
            async with asyncio.timeout(CONNECT_S):
                await secured.prepare(client)
                if isinstance(secured, Onlooker):
                    secured.keep_secrets()
                await client.connect()
        except Exception as refused:
            raise _explained(secured, url, refused) from refused
        yield client
    finally:
        with contextlib.suppress(Exception):  # whatever asyncua raises here, the connection is given up
            async with asyncio.timeout(2.0):
                await client.disconnect()
        with contextlib.suppress(Exception):
            client.disconnect_socket()


def choice(offers: list[Json], wanted: Wanted) -> tuple[str, str]:
    """Policy and mode to try: what was asked for, else the strongest. Raises InputError or UnreachableError."""
    if wanted.policy is not None or wanted.mode is not None:
        policy = wanted.policy or ("None" if wanted.mode == "none" else "Basic256Sha256")
        mode = wanted.mode or ("none" if policy == "None" else "sign_and_encrypt")
        if (policy == "None") != (mode == "none"):
            raise InputError(
                "VALUE_INVALID", f"policy {policy} and mode {mode} do not fit", hint="give both or neither"
            )
        return policy, mode
    best = strongest(offers)
    if best is None:
        named = ", ".join(sorted({f"{o['policy']}/{o['mode']}" for o in offers})) or "none"
        hint = "switch on Basic256Sha256 with SignAndEncrypt on the server"
        raise UnreachableError("DEVICE_REFUSED", f"the server offers only {named}, which is not spoken here", hint=hint)
    return best


def _explained(secured: Secured, url: str, refused: BaseException) -> TwinError:
    """A failure with the step on the side that must take it."""
    refused = leaf(refused)
    if isinstance(refused, TwinError):
        return refused
    name = type(refused).__name__
    if name in CERTIFICATE_REFUSALS:
        return _not_trusted(secured, url, name)
    if name in _USER:
        who = f"the user {secured.user}" if secured.user else "anonymous users"
        hint = "give --user and --password-file" if not secured.user else "correct name and password, or its rights"
        return UnreachableError("DEVICE_REFUSED", f"{url} refuses {who} ({name})", hint=f"{hint}; none is tried here")
    if secured.policy != "None" and isinstance(refused, (ConnectionError, TimeoutError)):
        return _not_trusted(secured, url, "it closes the connection when it sees our certificate")
    if isinstance(refused, (OSError, TimeoutError)):
        return unreachable(url, refused)
    reason, text = secured.explain(refused)
    return UnreachableError(reason, text)


def _not_trusted(secured: Secured, url: str, why: str) -> UnreachableError:
    own = trust.own(secured.state_dir, secured.clock)
    hint = (
        f"on the server: move {own['thumbprint']} from its rejected to its trusted client certificates; if it is not "
        f"there, copy {own['path']} into its trusted ones"
    )
    text = f"{url} does not trust our certificate {own['thumbprint']} ({why})"
    return UnreachableError("DEVICE_REFUSED", text, hint=hint, thumbprint=own["thumbprint"], path=own["path"])


def _both(objection: UnreachableError, problem: TwinError | None, state: Path) -> TwinError:
    """What speaks against the server, with what the server has against us."""
    hint = objection.hint
    if objection.reason == "CERT_UNTRUSTED":
        print_ = str(objection.facts["thumbprint"])
        accept = TrustStore(state / "opcua").step("accept", print_)
        hint = f"here: compare it with what the server shows, then `{accept}`"
    text = objection.message
    if problem is not None and problem.reason == objection.reason:
        text = problem.message  # the same, and whom it was not told
    elif problem is not None and problem.reason != "CERT_UNTRUSTED":
        text, hint = f"{text}; and {problem.message}", f"{hint}; {problem.hint}"
    return DeniedError(objection.reason, text, hint=hint, **objection.facts)
