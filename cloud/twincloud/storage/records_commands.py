"""Commands as the store gives them, and what it is asked."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from twincloud.storage.records import GatewayKey, TwinKey
from twincloud.twins.commanding import Target
from twinsync.command import Arguments, CommandKind


class CommandState(StrEnum):
    """Where a command stands."""

    WAITING_APPROVAL = "WAITING_APPROVAL"
    PENDING = "PENDING"
    SENT = "SENT"
    ACCEPTED = "ACCEPTED"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    UNKNOWN = "UNKNOWN"


UNSENT = (CommandState.WAITING_APPROVAL, CommandState.PENDING)
UNANSWERED = (CommandState.SENT, CommandState.ACCEPTED)
OPEN = (*UNSENT, *UNANSWERED)
"""States that a command leaves again by itself; UNKNOWN is left only by the gateway's word."""


@dataclass(frozen=True, slots=True)
class Order:
    """What is asked of a twin's device.

    Attributes:
        kind: write, call or hold.
        property: of the twin, whose bound signal is meant; "" where `target` is given.
        target: `device.point` or `device.method`; "" where `property` is given.
        arguments: the value, or the list of arguments of a method.
        unit: of the value; "" for that of the signal.
        for_ns: how long it is good for, from its issue.
        approvals: how many others must say yes before it is sent.
        why: what for, for people who read it later.
    """

    kind: CommandKind
    property: str
    target: str
    arguments: Arguments
    unit: str
    for_ns: int
    approvals: int
    why: str


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One step of a command, as it is kept.

    Attributes:
        step: ISSUED, APPROVED, CANCELLED, SENT, ACCEPTED, SUCCEEDED, FAILED or UNKNOWN.
        at_ns: the coordinator's clock.
        by: a person's token, `gateway NAME`, or `coordinator`.
        read_back: what the device said, None where nothing was read.
    """

    number: int
    step: str
    at_ns: int
    by: str
    reason: str
    detail: str
    read_back: Arguments


@dataclass(frozen=True, slots=True)
class CommandRecord:
    """A command and how far it is.

    Attributes:
        session: the gateway's session when it was issued; it is sent in no other.
        unit: of `arguments` and `read_back`: that of the signal.
        approvals: how many others must say yes.
        left_ns: of one that is handed out to be sent: what is left until its deadline.
    """

    number: int
    id: str
    key: TwinKey
    gateway: GatewayKey
    session: int
    kind: CommandKind
    property: str
    target: str
    arguments: Arguments
    unit: str
    why: str
    approvals: int
    approved_by: tuple[str, ...]
    issued_by: str
    state: CommandState
    reason: str
    detail: str
    read_back: Arguments
    issued_ns: int
    deadline_ns: int
    sent_ns: int
    ended_ns: int
    steps: tuple[StepRecord, ...] = ()
    left_ns: int = 0


@dataclass(frozen=True, slots=True)
class Targets:
    """What may be commanded by way of a twin.

    Attributes:
        told: whether the gateway has said what may be commanded; if not, these are the points bound to the twin.
        found: those bound to the twin first.
    """

    gateway: str
    connected: bool
    told: bool
    found: tuple[Target, ...]
