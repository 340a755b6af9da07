"""Whether the wall clock of this machine can be trusted: the kernel's word, a floor no right time lies below, steps.

    UNSET      before the floor: a machine without a battery behind its clock says 1970, or the day of its image
    FREE       nobody has ever set it in this boot
    HOLDOVER   it was synchronised, and is not for less than a day
    SYNCED     the kernel says so, which NTP and PTP daemons tell it

The floor is the latest of: when this software was made, what was kept on the disk, and what the coordinator's
authenticated clock has said. It only ever grows. What was measured under an unset clock is marked. When that clock is
put forward, the distance is known, and the times of what has not left the gateway are put right; of what has, the
coordinator keeps by how much the clock of the boot was off.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import structlog

from twinedge.files import read_json, write_json
from twinmodel.clock import BUILD_NS, MILLISECOND_NS, SECOND_NS, Clock, ClockQuality, awake_ns, round_to_step
from twinmodel.errors import StorageError

_log = structlog.get_logger(__name__)

FILE = "clock.json"
KEEP_NS = 600 * SECOND_NS
"""How much the floor has to grow before it is written again: a write each ten minutes wears no card out."""
SLACK_NS = 300 * SECOND_NS
"""A clock that is slow by less than this is not unset."""
STRANGE_NS = 86_400 * SECOND_NS
"""A coordinator that differs by more from a synchronised clock is not believed: it may be the one that is wrong."""
HOLDOVER_NS = 86_400 * SECOND_NS
STEP_NS = 100 * MILLISECOND_NS
SUSPENDED_NS = SECOND_NS

_STA_UNSYNC = 0x0040
_TIME_ERROR = 5
# struct timex of 64-bit Linux as words: modes, offset, freq, maxerror, esterror, status ...
_WORDS = 64
_STATUS = 5


def kernel_is_synchronised() -> bool:
    """Whether the kernel says that somebody keeps its clock right.

    Source: adjtimex(2); `modes` 0 reads and changes nothing.
    """
    words = (ctypes.c_long * _WORDS)()
    state = ctypes.CDLL(None).adjtimex(words)
    return not (state < 0 or state == _TIME_ERROR or words[_STATUS] & _STA_UNSYNC)


@dataclass(frozen=True, slots=True)
class Slept:
    """The machine was suspended, by the wall clock of now."""

    from_ns: int
    to_ns: int


@dataclass(frozen=True, slots=True)
class Put:
    """A wall clock that was unset was put forward.

    Attributes:
        span_ns: first and last time it said in this boot before.
        shift_ns: by how much these are slow, in whole milliseconds as times of samples are.
    """

    span_ns: tuple[int, int]
    shift_ns: int


class ClockWatch:
    """Watches the clocks of one boot; all calls come from one thread.

    Args:
        clock: wall and boot clock.
        state_dir: where the floor is kept.
        synchronised: the kernel's word.
        awake: a clock that stands still while the machine is suspended, else like the boot clock.

    Attributes:
        clock: wall and boot clock.
        floor_ns: no right wall time lies below it.
        offset_ns: what the coordinator's clock is ahead of ours, None before it has said something.
        steps: how often the wall clock was put.
        suspended_ns: how long the machine was suspended, since the start.
    """

    def __init__(
        self,
        clock: Clock,
        state_dir: Path,
        *,
        synchronised: Callable[[], bool] = kernel_is_synchronised,
        awake: Callable[[], int] = awake_ns,
    ) -> None:
        self.clock = clock
        self._path = state_dir / FILE
        self._synchronised = synchronised
        self._awake = awake
        self._kept_ns = self._read()
        self.floor_ns = max(BUILD_NS, self._kept_ns)
        self.offset_ns: int | None = None
        self.steps = 0
        self.suspended_ns = 0
        self._synced_ns: int | None = None
        self._anchor_ns = clock.wall_ns() - clock.boot_ns()
        self._began_boot_ns = clock.boot_ns()
        self._was_unset = self.is_unset()
        self._puts: list[Put] = []
        self._seen_boot_ns, self._seen_awake_ns = clock.boot_ns(), awake()
        self.quality()

    def quality(self) -> ClockQuality:
        """How far the wall clock can be trusted now."""
        if self.is_unset():
            return ClockQuality.UNSET
        now_ns = self.clock.boot_ns()
        if self._synchronised():
            self._synced_ns = now_ns
            return ClockQuality.SYNCED
        held = self._synced_ns is not None and now_ns - self._synced_ns < HOLDOVER_NS
        return ClockQuality.HOLDOVER if held else ClockQuality.FREE

    def is_unset(self) -> bool:
        """Whether the wall clock says less than is proven to have passed; costs next to nothing."""
        return self.clock.wall_ns() < self.floor_ns - SLACK_NS

    def heard(self, server_ns: int, asked_boot_ns: int | None = None) -> None:
        """The coordinator, over an authenticated link, says what time it is.

        Args:
            server_ns: its wall clock.
            asked_boot_ns: boot time at which it was asked; half of the way there and back is then taken off.
        """
        wall_ns, now_ns = self.clock.wall_ns(), self.clock.boot_ns()
        way_ns = (now_ns - asked_boot_ns) // 2 if asked_boot_ns is not None else 0
        self.offset_ns = server_ns + way_ns - wall_ns
        if abs(self.offset_ns) > STRANGE_NS and self.quality() is ClockQuality.SYNCED:
            _log.warning("coordinator's clock is not believed, ours is synchronised", offset_s=self._offset_s())
            return
        self._raise(server_ns)

    def look(self) -> Slept | None:
        """Finds steps of the wall clock and suspends; call it each second."""
        wall_ns, boot_ns, awake = self.clock.wall_ns(), self.clock.boot_ns(), self._awake()
        anchor_ns = wall_ns - boot_ns
        if abs(anchor_ns - self._anchor_ns) >= STEP_NS:
            self.steps += 1
            step_s = (anchor_ns - self._anchor_ns) / SECOND_NS
            _log.warning("wall clock was put", step_s=step_s, quality=self.quality().name)
            if self._was_unset and anchor_ns > self._anchor_ns:
                shift_ns = round_to_step(anchor_ns - self._anchor_ns, MILLISECOND_NS)
                self._puts.append(Put((self._began_boot_ns + self._anchor_ns, boot_ns + self._anchor_ns), shift_ns))
        self._was_unset = self.is_unset()
        self._anchor_ns = anchor_ns
        if self.quality() is ClockQuality.SYNCED:
            self._raise(wall_ns)
        slept_ns = (boot_ns - self._seen_boot_ns) - (awake - self._seen_awake_ns)
        self._seen_boot_ns, self._seen_awake_ns = boot_ns, awake
        if slept_ns < SUSPENDED_NS:
            return None
        self.suspended_ns += slept_ns
        _log.warning("machine was suspended", seconds=slept_ns / SECOND_NS)
        return Slept(wall_ns - slept_ns, wall_ns)

    def taken_put(self) -> Put | None:
        """What `look` found of an unset clock that was put forward, each once."""
        return self._puts.pop(0) if self._puts else None

    def document(self) -> dict[str, object]:
        """What the status page says of time."""
        return {
            "offset_s": self._offset_s(),
            "floor_ns": self.floor_ns,
            "steps": self.steps,
            "suspended_s": self.suspended_ns / SECOND_NS,
        }

    def _offset_s(self) -> float | None:
        return None if self.offset_ns is None else self.offset_ns / SECOND_NS

    def _raise(self, proven_ns: int) -> None:
        self.floor_ns = max(self.floor_ns, proven_ns)
        if self.floor_ns - self._kept_ns < KEEP_NS:
            return
        # A disk that refuses is told about by the spool; the floor in memory holds until the next start.
        with suppress(StorageError):
            write_json(self._path, {"floor_ns": self.floor_ns})
            self._kept_ns = self.floor_ns

    def _read(self) -> int:
        kept = read_json(self._path)
        floor_ns = kept.get("floor_ns") if isinstance(kept, dict) else None
        return floor_ns if isinstance(floor_ns, int) else 0
