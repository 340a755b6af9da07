"""A request under an Idempotency-Key, and its answer."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to carry out one request.

    Attributes:
        tenant: whose request.
        digest: SHA-256 of key, principal, method and path.
        owner: random bytes of who carries it out; whoever takes over has others.
    """

    tenant: str
    digest: bytes
    owner: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered; `headers` are lower-case name and text."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
