"""What a run leaves behind for its judge, the same for simulated, for crashed and for real processes.

gateways say            the disk or the database says          the nemesis says
promised: what an       held: every item in the order of its   excused: what went down with a disk,
append returned for     commit, gaps and records among them    poisoned: items it spoilt
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Self

import msgpack
import numpy as np
from numpy.typing import NDArray

Sample = tuple[str, int, float]
"""Signal, event time, value; values are unique in a run."""

Lane = tuple[bytes, int]
"""Boot and stream."""


NAMES: dict[str, int] = {}
"""Names of signals, by the numbers that columns hold."""


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """Samples in columns, as a full disk takes hundreds of thousands of them; `signal` is a number of `NAMES`."""

    signal: NDArray[np.int32]
    t_ns: NDArray[np.int64]
    value: NDArray[np.float64]

    @classmethod
    def of(cls, samples: Iterable[Sample]) -> Self:
        """From one tuple each."""
        rows = list(samples)
        signal = [NAMES.setdefault(name, len(NAMES)) for name, _, _ in rows]
        times, values = [t_ns for _, t_ns, _ in rows], [value for _, _, value in rows]
        return cls(np.array(signal, np.int32), np.array(times, np.int64), np.array(values, np.float64))

    @classmethod
    def joined(cls, parts: Iterable[Samples]) -> Self:
        """One behind the other."""
        several = list(parts)
        if not several:
            return cls.of(())
        return cls(*(np.concatenate([getattr(one, name) for one in several]) for name in cls.__slots__))

    def __len__(self) -> int:
        return len(self.value)

    def __getitem__(self, part: slice | NDArray[np.intp]) -> Self:
        return type(self)(self.signal[part], self.t_ns[part], self.value[part])

    def __iter__(self) -> Iterator[Sample]:
        names = list(NAMES)
        columns = (self.signal.tolist(), self.t_ns.tolist(), self.value.tolist())
        return ((names[number], t_ns, value) for number, t_ns, value in zip(*columns, strict=True))

    def same(self, other: Samples) -> bool:
        """Whether these are the other ones, bit by bit."""
        return self.packed() == other.packed()

    def packed(self) -> bytes:
        """All columns as bytes."""
        return self.signal.tobytes() + self.t_ns.tobytes() + self.value.tobytes()


NOTHING = Samples.of(())


@dataclass(frozen=True, slots=True)
class Promise:
    """Samples whose append returned; the n-th has the number `first_seq + n`."""

    lane: Lane
    first_seq: int
    samples: Samples

    def __post_init__(self) -> None:
        """Takes tuples, too."""
        if not isinstance(self.samples, Samples):
            object.__setattr__(self, "samples", Samples.of(self.samples))

    @property
    def last_seq(self) -> int:
        return self.first_seq + len(self.samples) - 1


@dataclass(frozen=True, slots=True)
class Held:
    """One item as it is kept: `block` with its samples, `gap`, `record` or `letter`; `lost` counts what it declares."""

    lane: Lane
    first_seq: int
    last_seq: int
    kind: str
    samples: Samples = NOTHING
    lost: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Interval:
    """Time in which a device served nothing, as a record of a lane told it; open while `to_ns` is 0."""

    lane: Lane
    seq: int
    device: str
    to_ns: int


@dataclass(slots=True)
class Excuse:
    """Numbers from `from_seq` on that lay on a disk that is gone; `committed` ones need a restored coordinator, too."""

    lane: Lane
    from_seq: int
    committed_seq: int
    restored_after: bool = False


@dataclass(slots=True)
class History:
    """One run.

    Attributes:
        promised: in the order of time.
        held: gateway -> what is kept of it, in the order of commits.
        losses: gateway -> lane -> samples its ledger says were lost.
        dropped: samples the ledgers of gateways say were dropped, None when disks were copied.
        intervals: records NOT_ACQUIRED whose append returned.
        tried: device -> ends that were to be told, whether or not the process lived to know that they were.
        recorded: numbers of such records; one that repeats or closes what the ledger knows leaves no line of its own.
        ledgers: gateway -> device -> ends of its intervals in the ledger, 0 for an open one.
        excused: what was destroyed with a disk.
        poisoned: items that were spoilt on their way, by lane and first number.
        states: name, hash the store says, hash of the fold of history.
        waiting: gateway -> items that are not committed though all faults ended long ago.
        peaks: queue -> (largest size seen, bound).
        failures: tasks that ended by an error nobody expected.
        faults: how often each fault came.
        recoveries_ns: from the end of faults to the last commit.
    """

    promised: list[Promise] = field(default_factory=list)
    held: dict[str, list[Held]] = field(default_factory=dict)
    losses: dict[str, Counter[Lane]] = field(default_factory=dict)
    dropped: int | None = None
    intervals: list[Interval] = field(default_factory=list)
    tried: dict[str, set[int]] = field(default_factory=dict)
    recorded: set[tuple[Lane, int]] = field(default_factory=set)
    ledgers: dict[str, dict[str, list[int]]] = field(default_factory=dict)
    excused: list[Excuse] = field(default_factory=list)
    poisoned: set[tuple[bytes, int, int]] = field(default_factory=set)
    states: list[tuple[str, str, str]] = field(default_factory=list)
    waiting: dict[str, int] = field(default_factory=dict)
    peaks: dict[str, tuple[int, int]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    recoveries_ns: list[int] = field(default_factory=list)
    trace: Trace = field(default_factory=lambda: Trace())  # noqa: PLW0108 - the class stands below

    @property
    def samples(self) -> int:
        return sum(len(promise.samples) for promise in self.promised)

    def digest(self) -> str:
        """Names the run: every step of it and all that it left."""
        whole = hashlib.blake2b(digest_size=16)
        whole.update(self.trace.digest())
        for promise in self.promised:
            whole.update(msgpack.packb([promise.lane, promise.first_seq, list(promise.samples)]))
        for gateway, items in sorted(self.held.items()):
            whole.update(msgpack.packb([gateway, [_plain(item) for item in items]]))
        whole.update(msgpack.packb([self.ledgers, self.waiting, self.states, sorted(self.faults.items())]))
        return whole.hexdigest()


class Trace:
    """A hash over what happened and when."""

    def __init__(self) -> None:
        self._hash = hashlib.blake2b(digest_size=16)

    def note(self, now_ns: int, what: str) -> None:
        self._hash.update(f"{now_ns} {what}\n".encode())

    def digest(self) -> bytes:
        return self._hash.digest()


def _plain(item: Held) -> list[object]:
    return [item.lane, item.first_seq, item.last_seq, item.kind, list(item.samples), item.lost, item.reason]
