"""Whether the wall clock of this machine can be trusted: asks the kernel, which NTP and PTP daemons tell."""

from __future__ import annotations

import ctypes

from twinmodel.clock import BUILD_NS, ClockQuality

_STA_UNSYNC = 0x0040
_TIME_ERROR = 5
# struct timex of 64-bit Linux as words: modes, offset, freq, maxerror, esterror, status ...
_WORDS = 64
_STATUS = 5


def clock_quality(wall_ns: int) -> ClockQuality:
    """UNSET before this software was made, SYNCED while the kernel says so, FREE otherwise.

    Source: adjtimex(2); `modes` 0 reads and changes nothing.
    """
    if wall_ns < BUILD_NS:
        return ClockQuality.UNSET
    words = (ctypes.c_long * _WORDS)()
    state = ctypes.CDLL(None).adjtimex(words)
    unsynchronised = state < 0 or state == _TIME_ERROR or words[_STATUS] & _STA_UNSYNC
    return ClockQuality.FREE if unsynchronised else ClockQuality.SYNCED
