"""Messages on their way from broker to spool: acknowledged after the commit, redeliveries stored once."""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass

MEMORY_MAX = 4096
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
        entry.owed.append((mid, qos, self._connection))
        if entry.committed:
            self._ack(entry)
        return True

    def add(self, key: Hashable, mid: int, qos: int) -> Entry:
        """Remembers a message that is about to be put to the sink."""
        entry = Entry([(mid, qos, self._connection)])
        self._entries[key] = entry
        self._entries.move_to_end(key)
        if len(self._entries) > self._memory_max:
            self._entries.popitem(last=False)
        self.pending += 1
        self._settled.clear()
        return entry

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


def message_key(topic: str, payload: bytes, mid: int, *, has_time: bool) -> Hashable:
    """What two copies of one message share; without a time inside, equal payloads are told apart by their id."""
    return topic, hashlib.blake2b(payload, digest_size=16).digest(), None if has_time else mid
