"""Whether the time in a message is to be believed: the clock of a device against that of the gateway.

A stamp that lies ahead of its arrival is wrong (one of before 2000 is no stamp at all, see `payload_fields`). One that
lies behind may be right, for a device or a broker may have kept the message: that shows as a backlog that gets shorter.
A clock that is slow stays behind by the same distance while time goes on, and nothing it says is new:

    bucket of 10 s    1    2    3    4    5    6    7    8
    backlog        3600  900  120    0    0 ...               least distance of each bucket: it is believed
    slow clock     3600 3600 3600 3600 3600 3600 3600 3600    steady beyond the limit: times of arrival are used

MQTT and Sparkplug carry no quality of a clock; OPC UA has `opcua_clock`.
"""

from __future__ import annotations

from collections import deque
from typing import Final

import structlog

from twinmodel.clock import BUILD_NS, SECOND_NS

AHEAD_MAX_NS: Final = 5 * SECOND_NS
"""As far ahead as the gate and the coordinator let a sample be without doubting it."""
BEHIND_MAX_NS: Final = 60 * SECOND_NS
BUCKET_NS: Final = 10 * SECOND_NS
BUCKETS: Final = 8
STEADY_NS: Final = 10 * SECOND_NS
"""How much the least distances of the buckets may differ for a clock that is only slow."""

_log = structlog.get_logger("twinedge.drivers")


class MessageClock:
    """The clock behind the times of one device's messages.

    Args:
        name: the device, for the log.
        behind_max_ns: distance that means nothing: that of messages that are rare, or cover a period that is over.

    Attributes:
        refused: stamps that were not believed, since the start.
    """

    __slots__ = ("_behind_max_ns", "_doubted", "_lags", "_least_ns", "_name", "_since_ns", "_slow", "refused")

    def __init__(self, name: str, behind_max_ns: int = BEHIND_MAX_NS) -> None:
        self._name = name
        self._behind_max_ns = max(behind_max_ns, BEHIND_MAX_NS)
        self._lags: deque[int] = deque(maxlen=BUCKETS)
        self._least_ns = 0
        self._since_ns: int | None = None
        self._slow = False
        self._doubted = False
        self.refused = 0

    @property
    def skew_ns(self) -> int | None:
        """Its time minus ours while it is slow, None while it is believed."""
        return -min(self._lags) if self._slow else None

    def believes(self, t_ns: int, wall_ns: int, boot_ns: int) -> bool:
        """Whether a message that just came keeps its time.

        While our own clock was never set there is nothing to judge by: it does.

        Args:
            t_ns: the time in the message.
            wall_ns: our wall clock at its arrival.
            boot_ns: our boot clock then.
        """
        if wall_ns < BUILD_NS:
            return True
        if t_ns > wall_ns + AHEAD_MAX_NS:
            return self._judged(false_ns=t_ns - wall_ns)
        self._note(wall_ns - t_ns, boot_ns)
        return self._judged(false_ns=t_ns - wall_ns if self._slow else None)

    def may_be(self, t_ns: int, wall_ns: int) -> bool:
        """Whether the time of a message that was kept for us can be: it may be old, but not of the future."""
        return wall_ns < BUILD_NS or t_ns <= wall_ns + AHEAD_MAX_NS

    def _note(self, lag_ns: int, boot_ns: int) -> None:
        if self._since_ns is None:
            self._since_ns, self._least_ns = boot_ns, lag_ns
        elif boot_ns - self._since_ns < BUCKET_NS:
            self._least_ns = min(self._least_ns, lag_ns)
        else:
            self._lags.append(self._least_ns)
            self._since_ns, self._least_ns = boot_ns, lag_ns
            least_ns = min(self._lags)
            steady = len(self._lags) == BUCKETS and max(self._lags) - least_ns <= STEADY_NS
            self._slow = steady and least_ns > self._behind_max_ns
        if lag_ns <= self._behind_max_ns:
            self._slow = False

    def _judged(self, false_ns: int | None) -> bool:
        if false_ns is None:
            if self._doubted:
                self._doubted = False
                _log.info("clock of the device is believed again", device=self._name)
            return True
        self.refused += 1
        if not self._doubted:
            self._doubted = True
            skew_s = round(false_ns / SECOND_NS)
            _log.warning("clock of the device is wrong, times of arrival are used", device=self._name, skew_s=skew_s)
        return False
