"""Time as a parameter: integer nanoseconds, a wall clock that may jump and a boot clock that may not."""

from __future__ import annotations

import time
from enum import IntEnum
from typing import Protocol

SECOND_NS = 1_000_000_000
MILLISECOND_NS = 1_000_000
# 2025-01-01: no right time is older than this software; a clock that says less was never set.
BUILD_NS = 1_735_689_600 * SECOND_NS


class ClockQuality(IntEnum):
    """How far the wall clock of a gateway can be trusted."""

    UNSET = 0
    FREE = 1
    HOLDOVER = 2
    SYNCED = 3


class Clock(Protocol):
    """Where a part gets its time from; nothing else in the project reads a clock."""

    def wall_ns(self) -> int:
        """Nanoseconds since 1970 UTC; may jump."""
        ...

    def boot_ns(self) -> int:
        """Nanoseconds of the boot clock: monotone, counts suspend; the only clock timers use."""
        ...


class SystemClock:
    """The clock of this machine."""

    def wall_ns(self) -> int:
        """See `Clock.wall_ns`."""
        return time.time_ns()

    def boot_ns(self) -> int:
        """See `Clock.boot_ns`; `CLOCK_BOOTTIME`, so that a suspended gateway notices the gap."""
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def awake_ns() -> int:
    """Nanoseconds of a clock that stands still while the machine is suspended; its distance to the boot clock tells."""
    return time.monotonic_ns()


class ManualClock:
    """A clock that stands still until it is turned; for tests and simulation."""

    def __init__(self, wall_ns: int = 1_700_000_000 * SECOND_NS, boot_ns: int = 0) -> None:
        self._wall_ns = wall_ns
        self._boot_ns = boot_ns
        self._slept_ns = 0

    def wall_ns(self) -> int:
        """See `Clock.wall_ns`."""
        return self._wall_ns

    def boot_ns(self) -> int:
        """See `Clock.boot_ns`."""
        return self._boot_ns

    def advance(self, delta_ns: int) -> None:
        """Turns both clocks forward by `delta_ns`."""
        if delta_ns < 0:
            raise ValueError("the boot clock never goes back; use jump_wall")
        self._wall_ns += delta_ns
        self._boot_ns += delta_ns

    def awake_ns(self) -> int:
        """As `awake_ns` of this module."""
        return self._boot_ns - self._slept_ns

    def suspend(self, delta_ns: int) -> None:
        """Has both clocks go on by `delta_ns` while the machine sleeps."""
        self.advance(delta_ns)
        self._slept_ns += delta_ns

    def jump_wall(self, delta_ns: int) -> None:
        """Moves the wall clock alone, as an NTP step or an operator does."""
        self._wall_ns += delta_ns


def round_to_step(t_ns: int, step_ns: int) -> int:
    """Rounds a time to the nearest multiple of `step_ns`; drivers do this once per sample."""
    return (t_ns + step_ns // 2) // step_ns * step_ns
