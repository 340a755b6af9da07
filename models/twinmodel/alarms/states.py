"""The states of an alarm after ISA-18.2 (IEC 62682), as a table of transitions without time or I/O.

    NORM ── raise ──▶ UNACK ── acknowledge ──▶ ACKED
     ▲ ▲                │ ▲                      │
     │ │              clear raise              clear
     │ │                ▼ │                      │
     │ └─ acknowledge ─ RTNUN                    │
     └───────────────────────────────────────────┘

Over these lie three covers: SHELVED (by a person, ends by itself), SUPPRESSED (by design, while a condition of the
plant makes the alarm meaningless) and OUT_OF_SERVICE (by a person, until they say so). The condition goes on being
followed below; whatever lifts the last cover makes the alarm UNACK when its condition holds and NORM when not, so that
nothing that stands is hidden. Of several covers the one named last above shows.

A latching alarm stays UNACK or ACKED after its condition has cleared; the next acknowledgement then resets it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum


class State(StrEnum):
    """What an alarm is, as people see it."""

    NORM = "NORM"
    UNACK = "UNACK"
    ACKED = "ACKED"
    RTNUN = "RTNUN"
    SHELVED = "SHELVED"
    SUPPRESSED = "SUPPRESSED"
    OUT_OF_SERVICE = "OUT_OF_SERVICE"


@dataclass(frozen=True, slots=True)
class Manner:
    """How one alarm behaves.

    Attributes:
        ack: whether it waits for somebody to acknowledge it; without, it goes when its condition goes.
        latch: whether it stays after its condition has cleared until somebody resets it.
    """

    ack: bool = True
    latch: bool = False


@dataclass(frozen=True, slots=True)
class Standing:
    """Where one alarm stands; every function gives a new one.

    Attributes:
        active: whether the condition holds.
        held: whether a latch keeps it although it may have cleared.
        acked: whether nobody is waited for.
        occurrence: how many times it was raised.
        shelved_until_ns: end of shelving, 0 while it is not shelved.
        suppressed: whether the plant's condition hides it.
        out_of_service: whether a person took it out.
    """

    active: bool = False
    held: bool = False
    acked: bool = True
    occurrence: int = 0
    shelved_until_ns: int = 0
    suppressed: bool = False
    out_of_service: bool = False

    @property
    def covered(self) -> bool:
        """Whether it is hidden from people."""
        return bool(self.shelved_until_ns) or self.suppressed or self.out_of_service

    @property
    def state(self) -> State:
        """The one state that shows."""
        if self.out_of_service:
            return State.OUT_OF_SERVICE
        if self.suppressed:
            return State.SUPPRESSED
        if self.shelved_until_ns:
            return State.SHELVED
        if self.active or self.held:
            return State.ACKED if self.acked else State.UNACK
        return State.NORM if self.acked else State.RTNUN


def raised(standing: Standing, manner: Manner) -> Standing:
    """The condition holds: a new occurrence, unless it held already."""
    if standing.active:
        return standing
    return replace(standing, active=True, held=manner.latch, acked=False, occurrence=standing.occurrence + 1)


def cleared(standing: Standing, manner: Manner) -> Standing:
    """The condition holds no more."""
    gone = replace(standing, active=False)
    return gone if manner.ack or manner.latch else replace(gone, acked=True)


def acknowledged(standing: Standing) -> Standing:
    """Somebody has seen it; resets a latch whose condition has cleared."""
    return replace(standing, acked=True, held=standing.held and standing.active)


def shelved(standing: Standing, until_ns: int) -> Standing:
    """A person hides it until a wall time, which must lie in the future; shelving again moves the end."""
    return replace(standing, shelved_until_ns=until_ns)


def unshelved(standing: Standing) -> Standing:
    """Shelving ends, by a person or by its time."""
    return _uncovered(standing, replace(standing, shelved_until_ns=0))


def suppressed(standing: Standing) -> Standing:
    """The plant is in a condition in which the alarm means nothing."""
    return replace(standing, suppressed=True)


def unsuppressed(standing: Standing) -> Standing:
    """The plant has left that condition."""
    return _uncovered(standing, replace(standing, suppressed=False))


def taken_out(standing: Standing) -> Standing:
    """A person takes it out of service, as for maintenance."""
    return replace(standing, out_of_service=True)


def put_back(standing: Standing) -> Standing:
    """It serves again."""
    return _uncovered(standing, replace(standing, out_of_service=False))


def _uncovered(before: Standing, after: Standing) -> Standing:
    """What shows once the last cover is gone: what stands is told anew, what has gone is not."""
    if not before.covered or after.covered:
        return after
    return replace(after, acked=not (after.active or after.held))
