"""How fast a link carries bytes and how long it takes at best, measured by what the other end says it has received.

    rate    the fastest of the last seconds, each measured over at least one way there and back
    delay   the shortest of the last half minute: what the way costs while nothing queues in front

Their product is what the link itself holds. Whatever is in flight beyond it stands in a buffer somewhere, and what is
urgent would have to wait behind it. Pure: the caller hands boot times in.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from twinmodel.clock import MILLISECOND_NS, SECOND_NS

RATE_KEPT_NS = 10 * SECOND_NS
DELAY_KEPT_NS = 15 * SECOND_NS
"""Half of it: a minimum is kept for one period more."""
START_BYTES = 8 << 10
"""In flight before anything was measured; what TCP itself begins with is twice as much."""
_MARKS_MAX = 4096


@dataclass(frozen=True, slots=True)
class _Mark:
    """What was known when the bytes up to `end` were sent."""

    end: int
    at_ns: int
    received: int
    received_ns: int
    first_ns: int
    limited: bool


class LinkRate:
    """Counts what is sent and received of one session and estimates rate and delay from it.

    Attributes:
        in_flight: bytes sent of which the other end has not yet said that it received them.
    """

    def __init__(self) -> None:
        self._sent = 0
        self._received = 0
        self._given_up = 0
        self._received_ns = 0
        self._first_ns = 0
        self._marks: deque[_Mark] = deque()
        self._rates: deque[tuple[int, float]] = deque()
        self._delays = (0, 0)
        self._delay_since_ns = 0

    @property
    def in_flight(self) -> int:
        """See the class."""
        return max(self._sent - max(self._received, self._given_up), 0)

    @property
    def bytes_per_s(self) -> float:
        """What the link carries, 0.0 before the first measurement."""
        return self._rates[0][1] if self._rates else 0.0

    @property
    def delay_ns(self) -> int:
        """Shortest time from sending to the acknowledgement of receipt, 0 before the first measurement."""
        return min((delay for delay in self._delays if delay), default=0)

    def window(self, queue_ns: int) -> int:
        """Bytes that may be in flight so that what arrives last stands in a buffer for `queue_ns`."""
        if not self._rates:
            return START_BYTES
        return int(self.bytes_per_s * (self.delay_ns + queue_ns) / SECOND_NS)

    def sent(self, size: int, now_ns: int, *, limited: bool) -> None:
        """Notes bytes that are written now; `limited` says that there was not enough to send to fill the link."""
        if self.in_flight == 0:
            self._sent = max(self._sent, self._received)
            self._received_ns = self._first_ns = now_ns
        self._sent += size
        if len(self._marks) < _MARKS_MAX:
            # What was given up is on its way still and comes first: it is no news of these bytes.
            received = max(self._received, self._given_up)
            mark = _Mark(self._sent, now_ns, received, self._received_ns, self._first_ns, limited)
            self._marks.append(mark)

    def received(self, total: int, now_ns: int) -> bool:
        """Takes how many bytes the other end has received since the session began; False when that is no news."""
        if total <= self._received:
            return False
        newest = None
        while self._marks and self._marks[0].end <= total:
            newest = self._marks.popleft()
        self._received, self._received_ns = total, now_ns
        if newest is not None:
            self._first_ns = newest.at_ns
            self._note_delay(max(now_ns - newest.at_ns, 1), now_ns)
            # What arrives in a burst after a stall was sent over a longer time than it arrives in.
            elapsed_ns = max(now_ns - newest.received_ns, newest.at_ns - newest.first_ns, MILLISECOND_NS)
            rate = (total - newest.received) * SECOND_NS / elapsed_ns
            self._note_rate(rate, now_ns, limited=newest.limited)
        return True

    def forget_flight(self) -> None:
        """What is in flight will be sent again; should it arrive after all, it counts, but measures nothing.

        A stream keeps its order: were it not counted any more, what is sent next would seem to arrive at once.
        """
        self._given_up = self._sent = max(self._sent, self._received)
        self._marks.clear()

    def start(self, now_ns: int) -> None:
        """A new session over what is likely the same link: counters start anew, estimates stay."""
        self._sent = self._received = self._given_up = 0
        self._received_ns = self._first_ns = now_ns
        self._marks.clear()

    def _note_rate(self, rate: float, now_ns: int, *, limited: bool) -> None:
        # Little was sent because there was little: that says nothing of the link, unless it is more than was known.
        if limited and rate < self.bytes_per_s:
            return
        while self._rates and self._rates[-1][1] <= rate:
            self._rates.pop()
        self._rates.append((now_ns, rate))
        while self._rates[0][0] < now_ns - RATE_KEPT_NS:
            self._rates.popleft()

    def _note_delay(self, delay_ns: int, now_ns: int) -> None:
        before, present = self._delays
        if now_ns - self._delay_since_ns >= DELAY_KEPT_NS:
            before, present, self._delay_since_ns = present, 0, now_ns
        self._delays = before, min(present or delay_ns, delay_ns)
