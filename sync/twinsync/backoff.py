"""How long to wait before the next try: exponential, jittered, reset by progress, on the boot clock."""

from __future__ import annotations

from random import Random

from twinmodel.clock import MILLISECOND_NS, SECOND_NS

DOUBLINGS_MAX = 32


class Backoff:
    """Delays of a retry loop; reads no clock, the caller hands the boot time in.

    The n-th delay lies between half of and the whole of `base_ns * 2**n`, at most `cap_ns`: half of it is kept, so
    that nobody hammers a dead peer, the other half is spread, so that a fleet does not come back in one instant.
    """

    def __init__(self, random: Random, *, base_ns: int = 500 * MILLISECOND_NS, cap_ns: int = 20 * SECOND_NS) -> None:
        if not 0 < base_ns <= cap_ns:
            raise ValueError(f"base {base_ns} ns and cap {cap_ns} ns make no backoff")
        self._random = random
        self._base_ns = base_ns
        self._cap_ns = cap_ns
        self._failures = 0

    @property
    def failures(self) -> int:
        """Tries in a row that came to nothing."""
        return self._failures

    def delay_ns(self, *, floor_ns: int = 0) -> int:
        """Notes a failed try and tells how long to wait before the next.

        Args:
            floor_ns: what the peer asked for, or what the kind of failure wants; it is jittered upwards by a half.
        """
        full_ns = min(self._base_ns << min(self._failures, DOUBLINGS_MAX), self._cap_ns)
        self._failures += 1
        share = self._random.random()
        delay_ns = full_ns // 2 + int(share * (full_ns - full_ns // 2))
        return max(delay_ns, floor_ns + int(share * floor_ns / 2))

    def failed(self, now_ns: int, *, floor_ns: int = 0) -> int:
        """As `delay_ns`, as the boot clock of the next try; `now_ns` is that of the one that failed."""
        return now_ns + self.delay_ns(floor_ns=floor_ns)

    def progressed(self) -> None:
        """The try did something useful: the next failure starts from `base_ns` again."""
        self._failures = 0
