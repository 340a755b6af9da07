"""What travels up: items that occupy sequence numbers, boots that number them, marks that acknowledge them.

A stream of one boot is a sequence of items without holes. A `Gap` occupies the numbers of what was dropped, a
thinned `Block` those of all it once held, and it says which of them it kept;
an `Outage` or a `NotAcquired` record occupies one number of its own and declares what never got a number.
"""

from __future__ import annotations

from dataclasses import dataclass

from twinmodel.clock import ClockQuality
from twinmodel.signal import Stream


@dataclass(frozen=True, slots=True)
class Block:
    """A packed run of samples, see `twinsync.block`.

    Attributes:
        schema: digest of the catalogue its signal ids refer to, 32 bytes.
        crc32c: checksum of the payload.
        payload: the transposed columns.
        t_min_ns, t_max_ns: event times of the earliest and the latest sample.
        kept: of a thinned block, which of its item's numbers the payload still holds, see `twinsync.kept`; empty
            when it holds all of them.
    """

    schema: bytes
    crc32c: int
    payload: bytes
    t_min_ns: int
    t_max_ns: int
    kept: bytes = b""


@dataclass(frozen=True, slots=True)
class Gap:
    """Sequence numbers that were given and then dropped.

    Attributes:
        reason: why, UPPER_SNAKE.
        count: how many numbers, equal to the item's own count.
        from_ns, to_ns: event times of the earliest and the latest sample dropped, 0 and 0 when unknown.
    """

    reason: str
    count: int
    from_ns: int
    to_ns: int


@dataclass(frozen=True, slots=True)
class Outage:
    """Time in which samples never got a number because the agent did not run.

    Attributes:
        previous_boot: the boot that ended.
        from_ns: last moment it is known to have stored something.
        to_ns: start of the boot that declares it.
    """

    previous_boot: bytes
    from_ns: int
    to_ns: int


@dataclass(frozen=True, slots=True)
class NotAcquired:
    """Time in which a device served nothing; an open interval has `to_ns` 0."""

    device: str
    reason: str
    from_ns: int
    to_ns: int


Content = Block | Gap | Outage | NotAcquired


@dataclass(frozen=True, slots=True)
class Item:
    """One element of a stream; it occupies the sequence numbers [first_seq, last_seq] of (boot, stream)."""

    boot: bytes
    stream: Stream
    first_seq: int
    last_seq: int
    content: Content

    @property
    def count(self) -> int:
        """How many sequence numbers it occupies."""
        return self.last_seq - self.first_seq + 1


@dataclass(frozen=True, slots=True)
class Mark:
    """High-water mark: `next_seq` is the first number of (boot, stream) that is not yet committed."""

    boot: bytes
    stream: Stream
    next_seq: int


@dataclass(frozen=True, slots=True)
class Range:
    """What a gateway still holds of (boot, stream): [first_unacked, next_seq)."""

    boot: bytes
    stream: Stream
    first_unacked: int
    next_seq: int


@dataclass(frozen=True, slots=True)
class Boot:
    """One start of an agent.

    Attributes:
        id: 128 random bits.
        previous: id of the boot before it on the same disk, empty for the first.
        counter: 1 for the first boot of a disk, then one more each.
        started_ns: wall clock at the start.
        clock: how far that clock could be trusted.
    """

    id: bytes
    previous: bytes
    counter: int
    started_ns: int
    clock: ClockQuality
