"""What retention would let go of, and what it works on."""

from __future__ import annotations

from dataclasses import dataclass

from twincloud.twins.retention import Policy


@dataclass(frozen=True, slots=True)
class Holder:
    """A gateway whose history has limits; `archived`: whether old days of its tenant are archived."""

    tenant: str
    gateway_id: int
    archived: bool


@dataclass(frozen=True, slots=True)
class Going:
    """What a policy lets go of now.

    Attributes:
        policy: the policy.
        signals: signals it counts for, of all gateways.
        samples, bytes: in the database, beyond its limit.
        archived: samples of the archive, hidden from now on.
        buckets: point-hours of buckets.
        from_ns, to_ns: hours and days they lie in, to_ns not included; 0 when nothing goes.
    """

    policy: Policy
    signals: int = 0
    samples: int = 0
    bytes: int = 0
    archived: int = 0
    buckets: int = 0
    from_ns: int = 0
    to_ns: int = 0


@dataclass(frozen=True, slots=True)
class RetentionPlan:
    """What policies would let go of at a time.

    Attributes:
        archived: whether days are archived, so that `archive_days` count.
        going: by policy, the most specific first; the last stands for signals that no pattern fits.
        files, file_bytes: archived files that would be deleted as a whole.
    """

    archived: bool
    going: tuple[Going, ...]
    files: int
    file_bytes: int
