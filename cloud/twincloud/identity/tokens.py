"""Secrets that people and joining gateways hold: random, shown once, kept only as SHA-256."""

from __future__ import annotations

import contextlib
import hashlib
import secrets

from twincloud.identity.ledger import Ledger, TokenEntry
from twincloud.identity.policy import ALL_TENANTS, ROLES
from twincloud.storage.contract import Identity, Principal
from twinmodel.clock import SECOND_NS, Clock
from twinmodel.errors import ConflictError, DeniedError, InputError

API_PREFIX = "twt_"
INVITE_PREFIX = "twi_"
SECRET_BYTES = 32
TOKEN_CHARS_MAX = 256


def new_secret(prefix: str = API_PREFIX) -> str:
    """A fresh secret of 256 random bits; the prefix lets scanners and people tell what it is."""
    return prefix + secrets.token_urlsafe(SECRET_BYTES)


def hash_of(secret: str) -> bytes:
    """SHA-256 of a secret; 256 random bits need no salt and no slow hash."""
    return hashlib.sha256(secret.encode()).digest()


def issue(ledger: Ledger, clock: Clock, *, name: str, tenant: str, role: str, ttl_s: float = 0) -> str:
    """Makes an API token and returns it, the only time it is seen; `ttl_s` 0 means it does not expire.

    It is written to the ledger alone, so that this works beside a running service; `resolve` lets it into the store.

    Raises:
        InputError: REQUEST_INVALID for an unknown role or a negative lifetime.
        ConflictError: ALREADY_EXISTS when a valid token has the name.
    """
    if role not in ROLES:
        raise InputError("REQUEST_INVALID", f"role {role!r} is unknown", hint=f"use one of {', '.join(ROLES)}")
    if ttl_s < 0:
        raise InputError("REQUEST_INVALID", f"lifetime {ttl_s:g} s is negative", hint="give seconds, or 0 for no end")
    now_ns = clock.wall_ns()
    secret = new_secret()
    expires_ns = now_ns + round(ttl_s * SECOND_NS) if ttl_s else 0
    ledger.add_token(TokenEntry(name, tenant, role, hash_of(secret).hex(), now_ns, expires_ns))
    return secret


def resolve(store: Identity, ledger: Ledger, token_hash: bytes, now_ns: int) -> Principal:
    """Whose token it is; one of the ledger that the store does not know yet is put there.

    Raises:
        DeniedError: TOKEN_INVALID when it is unknown, expired or revoked.
    """
    entry = ledger.token(token_hash)
    if entry is not None and entry.revoked_ns:
        raise DeniedError("TOKEN_INVALID", "the token is revoked")
    try:
        return store.principal(token_hash, now_ns)
    except DeniedError:
        if entry is None or (entry.expires_ns and entry.expires_ns <= now_ns):
            raise
    if entry.tenant != ALL_TENANTS:
        store.create_tenant(entry.tenant, now_ns)
    with contextlib.suppress(ConflictError):  # another request with the same new token was first
        store.create_token(entry.name, entry.tenant, entry.role, token_hash, now_ns, entry.expires_ns)
    return store.principal(token_hash, now_ns)
