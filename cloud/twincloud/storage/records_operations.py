"""Operations as the store gives them, and what it is asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

QUEUED, RUNNING, DONE, FAILED, CANCELLED = "queued", "running", "done", "failed", "cancelled"
STATES = (QUEUED, RUNNING, DONE, FAILED, CANCELLED)
OPEN = (QUEUED, RUNNING)
"""States that an operation leaves again."""

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of a worker.

    Attributes:
        kind: which work, e.g. `backtest`.
        target: what it is about, as people name it, e.g. `mill/pump-7`.
        digest: SHA-256 (hex) over everything that decides the answer; "" for work that is never answered from before.
        request: what the worker needs to know.
    """

    kind: str
    target: str
    digest: str
    request: Json


@dataclass(frozen=True, slots=True)
class Operation:
    """Long work that somebody asked for.

    Attributes:
        number: names it within its tenant.
        progress: 0 to 1.
        result: the answer, None before it is done.
        reason, detail, hint: why it failed.
        cached: the answer, or the work on it, was there before it was asked for now.
        cancelling: it runs, and somebody wants it to end.
        attempts: how often a worker has begun.
    """

    tenant: str
    number: int
    kind: str
    target: str
    digest: str
    state: str
    progress: float
    request: Json
    result: Json | None
    reason: str
    detail: str
    hint: str
    created_by: str
    created_ns: int
    started_ns: int
    ended_ns: int
    attempts: int
    cancelling: bool
    cached: bool = False


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an operation failed."""

    reason: str
    detail: str
    hint: str
