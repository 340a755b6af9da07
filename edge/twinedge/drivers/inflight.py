"""Messages on their way from broker to spool: acknowledged after the commit, redeliveries stored once."""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass

MEMORY_MAX = 4096
URGENT_PENDING = 10  # half of what mosquitto sends a 3.1.1 client before it waits for acknowledgements
WINDOW_MAX = 512
PROBE_NS = 500_000_000
BURST_NS = 200_000_000
BURSTS = 2
AGAIN_NS = 60_000_000_000
KNOWN_NS = 600_000_000_000
Acknowledge = Callable[[int, int], object]


@dataclass(slots=True)
class Entry:
    """One message of QoS 1 and how far it has come.

    Attributes:
        owed: acknowledgements to send after the commit, as (message id, QoS, number of the connection): one per copy.
        committed: whether the spool has it.
    """

    owed: list[tuple[int, int, int]]
    committed: bool = False


class InFlight:
    """What was put to the sink and not yet acknowledged, and a bounded memory of what was before.

    A broker sends again, flagged as duplicate, what it has no acknowledgement for; a publisher does the same towards
    its broker, which passes the copy on unflagged. The first copy may be in the spool already (the connection broke
    before the ack) or on its way there; either way the second is not stored.
    """

    def __init__(self, memory_max: int = MEMORY_MAX) -> None:
        self._memory_max = memory_max
        self._entries: OrderedDict[Hashable, Entry] = OrderedDict()
        self._acknowledge: Acknowledge | None = None
        self._connection = 0
        self._settled = asyncio.Event()
        self._settled.set()
        self.pending = 0
        self.duplicates = 0

    def connected(self, acknowledge: Acknowledge) -> None:
        """A new connection; acknowledgements of older ones go nowhere, for the broker sends those again."""
        self._connection += 1
        self._acknowledge = acknowledge

    def disconnected(self) -> None:
        """Nothing can be acknowledged until the next connection."""
        self._acknowledge = None

    @property
    def reachable(self) -> bool:
        """Whether an acknowledgement could be sent now."""
        return self._acknowledge is not None

    def is_duplicate(self, key: Hashable, mid: int, qos: int) -> bool:
        """Whether the first copy of a message is known; the copy is then acknowledged now or after the commit."""
        entry = self._entries.get(key)
        if entry is None:
            return False
        self.duplicates += 1
        # What was owed on older connections never will be paid; while a disk refuses there may be thousands.
        entry.owed = [one for one in entry.owed if one[2] == self._connection] + [(mid, qos, self._connection)]
        if entry.committed:
            self._ack(entry)
        return True

    def remember(self, key: Hashable) -> None:
        """Remembers a message that nobody waits for (QoS 0), to know its copies by a key of their source."""
        self._keep(key, Entry([], committed=True))

    def add(self, key: Hashable, mid: int, qos: int) -> Entry:
        """Remembers a message that is about to be put to the sink."""
        entry = Entry([(mid, qos, self._connection)])
        self._keep(key, entry)
        self.pending += 1
        self._settled.clear()
        return entry

    def _keep(self, key: Hashable, entry: Entry) -> None:
        self._entries[key] = entry
        self._entries.move_to_end(key)
        if len(self._entries) > self._memory_max:
            self._entries.popitem(last=False)

    def committed(self, entries: Iterable[Entry]) -> None:
        """The spool has committed these; they are acknowledged if their connection still stands."""
        for entry in entries:
            if not entry.committed:
                entry.committed = True
                self.pending -= 1
                self._ack(entry)
        if self.pending == 0:
            self._settled.set()

    async def settled(self) -> None:
        """Waits until nothing is pending."""
        await self._settled.wait()

    def _ack(self, entry: Entry) -> None:
        """Pays what is owed on this connection; what is owed on an older one comes again by itself."""
        owed, entry.owed = entry.owed, []
        for mid, qos, connection in owed:
            if self._acknowledge is not None and connection == self._connection:
                self._acknowledge(mid, qos)


class Window:
    """Learns how many messages a broker sends before it waits for acknowledgements, to ask for commits before that.

    mosquitto stops at 20, others at 5 or at 1000, and none says so. A commit per message would wear out a flash, the
    commit of every ten seconds would let a small window carry a few messages in ten seconds. So a commit is asked for
    at half of the window. While the window is not known, silence is a hint: when as many messages wait as never
    before and nothing more comes for `PROBE_NS`, one early commit follows. A burst right after it, twice, says that
    the broker had been waiting, and the window is known for a while; without one it is not asked for soon again.
    """

    def __init__(self) -> None:
        self._full_at = 0  # the window, 0 while it is not known
        self._full_until_ns = 0
        self._passed = 0  # the window is larger than this
        self._seen = 0
        self._newest_ns = 0
        self._probed = 0  # messages in flight when an early commit was asked for, 0 when none was
        self._acked_ns: int | None = None
        self._after = 0
        self._bursts = 0
        self._tried = 0
        self._again_ns = 0

    @property
    def urgent_at(self) -> int:
        """Messages in flight from which on a commit is urgent."""
        if self._full_at:
            return max(1, self._full_at // 2)
        return max(URGENT_PENDING, min(self._seen, WINDOW_MAX) // 2)

    def connected(self) -> None:
        """A new connection; the broker may have been given another window."""
        self._seen = self._probed = 0
        self._acked_ns = None

    def arrived(self, count: int, pending: int, now_ns: int) -> None:
        """`count` messages came, and `pending` are in flight with them."""
        self._newest_ns = now_ns
        self._seen = max(self._seen, pending)
        self._passed = max(self._passed, pending - 1)
        if self._passed >= self._full_at or now_ns >= self._full_until_ns:
            self._full_at = 0
        if self._acked_ns is None:
            return
        self._after += count
        if now_ns - self._acked_ns > BURST_NS:
            self._tried, self._again_ns, self._bursts = self._probed, now_ns + AGAIN_NS, 0
            self._probed, self._acked_ns = 0, None
        elif self._after > self._probed // 2:
            self._bursts += 1
            if self._bursts >= BURSTS:
                self._full_at, self._full_until_ns = self._probed, now_ns + KNOWN_NS
                self._passed, self._bursts = self._probed - 1, 0
            self._probed, self._acked_ns = 0, None

    def acknowledged(self, now_ns: int) -> None:
        """The broker has been told of a commit."""
        if self._probed and self._acked_ns is None:
            self._acked_ns, self._after = now_ns, 0

    def probe_at_ns(self, pending: int) -> int | None:
        """When to ask for an early commit if nothing more comes; None for not at all."""
        if self._full_at or self._probed or not self._passed < pending < URGENT_PENDING:
            return None
        if pending <= self._tried and self._newest_ns < self._again_ns:
            return None
        return self._newest_ns + PROBE_NS

    def probe(self, pending: int) -> None:
        """An early commit is asked for now."""
        self._probed = pending


def message_key(topic: str, payload: bytes, mid: int, *, has_time: bool) -> Hashable:
    """What two copies of one message share; without a time inside, equal payloads are told apart by their id."""
    return topic, hashlib.blake2b(payload, digest_size=16).digest(), None if has_time else mid
