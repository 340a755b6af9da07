"""What travels down and what became of it, as both tiers' stages hand it around."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class DirectiveKind(IntEnum):
    """What a directive changes; numbers are those of the wire."""

    UNSPECIFIED = 0
    MODEL = 1
    CONFIG = 2
    ALARM = 3


class Outcome(IntEnum):
    """How a directive ended; numbers are those of the wire."""

    APPLIED = 1
    REJECTED = 2
    SUPERSEDED = 3


@dataclass(frozen=True, slots=True)
class Directive:
    """One desired thing of one gateway; of two for a target the higher version wins.

    Attributes:
        id: unique name.
        kind: what it changes; a kind this build does not know is UNSPECIFIED.
        target: the twin it is for; `@config` and `@alarm/NAME` are no twins.
        version: desired version of the target, growing.
        digest: SHA-256 of the artifact to run, empty where `content` says all.
        size: bytes of the artifact.
        name: `name@version` of the artifact, or what it is, for people.
        deadline_ns: wall clock beyond which it must not be applied, 0 for none.
        content: what is desired, where it is no artifact; at most `limits.CONTENT_BYTES_MAX`.
    """

    id: str
    kind: DirectiveKind
    target: str
    version: int
    digest: bytes
    size: int
    name: str
    deadline_ns: int
    content: bytes = b""


@dataclass(frozen=True, slots=True)
class DirectiveState:
    """What became of a directive, and what runs now.

    Attributes:
        reason: UPPER_SNAKE, "" when it was applied.
        detail: one sentence for people.
        running_digest: digest of what runs for the target now, empty for nothing.
        at_ns: wall clock of the outcome.
    """

    id: str
    outcome: Outcome
    reason: str
    detail: str
    running_digest: bytes
    at_ns: int


@dataclass(frozen=True, slots=True)
class Running:
    """The model that runs for a twin.

    Attributes:
        digest: SHA-256 of its package.
        name: `name@version`.
        tier: what it runs on, `interpreted`, `vm` or `jit`.
        isolation: cause of its drift, "" while it does not drift; see `twinmodel.isolation`.
    """

    twin: str
    digest: bytes
    name: str
    tier: str
    isolation: str = ""
