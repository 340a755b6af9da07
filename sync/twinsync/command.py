"""What a device is told to do, once, and each step of it, as both tiers' stages hand it around."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

Value = bool | int | float | str | None
"""What is written, given to a method, or read back."""

Arguments = Value | Sequence[Value]


class CommandKind(IntEnum):
    """What a command does to its target; numbers are those of the wire."""

    UNSPECIFIED = 0
    WRITE = 1
    CALL = 2
    HOLD = 3


class CommandStep(IntEnum):
    """Where a command stands; numbers are those of the wire."""

    ACCEPTED = 1
    SUCCEEDED = 2
    FAILED = 3
    UNKNOWN = 4

    @property
    def last(self) -> bool:
        """Whether nothing follows, but for UNKNOWN, which may still become known."""
        return self is not CommandStep.ACCEPTED


@dataclass(frozen=True, slots=True)
class Commandable:
    """What a gateway lets be commanded of one target; the gateway judges each command anew.

    Attributes:
        target: `device.point`, or `device.method`.
        two_persons: class B, another person must approve it.
        unit: of the value of a point.
        low, high: within which a number must lie, None for no bound.
    """

    target: str
    two_persons: bool
    unit: str = ""
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Command:
    """One thing a device is told to do; it belongs to the session it is sent in and never waits for another.

    Attributes:
        id: unique name; a device is told at most once.
        session: the session it is sent in, for no other is it valid.
        kind: one this build does not know is UNSPECIFIED.
        target: `device.point`, or `device.method`.
        arguments: the value, or the list of arguments of a method.
        left_ns: what was left until its deadline when it was sent; the deadline counts from its issue.
        issued_ns: the coordinator's wall clock when it was issued.
        by: who issued it.
        approved_by: who else approved it.
    """

    id: str
    session: int
    kind: CommandKind
    target: str
    arguments: Arguments
    left_ns: int
    issued_ns: int
    by: str
    approved_by: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CommandState:
    """One step of a command.

    Attributes:
        reason: UPPER_SNAKE, "" for ACCEPTED and SUCCEEDED.
        detail: one sentence for people.
        read_back: what the device says afterwards, or what a method gave; None where nothing was read.
        at_ns: wall clock of the gateway.
    """

    id: str
    step: CommandStep
    reason: str = ""
    detail: str = ""
    read_back: Arguments = None
    at_ns: int = 0


@dataclass(frozen=True, slots=True)
class CommandConfirmed:
    """The coordinator holds the end of a command: it need not be told again."""

    id: str
