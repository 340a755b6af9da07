"""Which time a sample gets: its source's, its server's or that of its arrival, judged by each clock's skew.

OPC UA's Good says nothing about the clock. A stamp that lies ahead of the arrival by more than 5 s is wrong: it would
never be the newest value of anything. So is one of before 2000. A stamp that lies behind may be right, for a value may
be old; but when for several messages not even the newest stamp comes near the arrival, the clock is slow.
"""

from __future__ import annotations

from collections import deque
from typing import Final

import numpy as np
from numpy.typing import NDArray

from twinedge.drivers.source_clock import AHEAD_MAX_NS
from twinmodel.clock import SECOND_NS

SANE_FROM_NS: Final = 946_684_800 * SECOND_NS  # 2000-01-01: an unset clock of a device says 1601, 1970 or 1980
SKEW_LIMIT_NS: Final = 60 * SECOND_NS
MESSAGES_MIN: Final = 8


class SourceClock:
    """How far one clock is from ours, from the stamps that came and when they came.

    The least distance among the last messages is taken: what a network, a queue or an old value adds is positive.

    Args:
        limit_ns: how slow it may be for its stamps to be used.
    """

    def __init__(self, limit_ns: int = SKEW_LIMIT_NS) -> None:
        self._limit_ns = limit_ns
        self._lags: deque[int] = deque(maxlen=MESSAGES_MIN)

    def reset(self) -> None:
        """Forgets what it saw: after a connect the first stamps are those of old values."""
        self._lags.clear()

    def note(self, newest_ns: int, arrival_ns: int) -> None:
        """One message came; `newest_ns` is the newest of its stamps, 0 when it had none."""
        if newest_ns > 0:
            self._lags.append(arrival_ns - newest_ns)

    @property
    def skew_ns(self) -> int | None:
        """The clock's time minus ours, at least; None until enough messages have come."""
        return -min(self._lags) if len(self._lags) == MESSAGES_MIN else None

    @property
    def trusted(self) -> bool:
        """Whether its stamps may be used; those of the future and of before 2000 are refused one by one."""
        skew_ns = self.skew_ns
        return skew_ns is None or skew_ns >= -self._limit_ns

    def sane(self, t_ns: int, arrival_ns: int) -> bool:
        """Whether one stamp may be used."""
        return self.trusted and SANE_FROM_NS <= t_ns <= arrival_ns + AHEAD_MAX_NS

    def sane_column(self, t_ns: NDArray[np.int64], arrival_ns: int) -> NDArray[np.bool_]:
        """`sane` of a column, without `trusted`."""
        return (t_ns >= SANE_FROM_NS) & (t_ns <= arrival_ns + AHEAD_MAX_NS)
