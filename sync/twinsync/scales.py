"""What a catalogue says about the numbers of its signals, as arrays that the block codec indexes.

A signal's *rank* is its place in canonical order: kinds in numeric order, inside a kind by signal. All rows but those
of `keys` are sorted by rank, so that the signals of a kind lie side by side.
"""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import NDArray

from twinmodel.signal import Catalogue, Kind, Signal
from twinsync import limits
from twinsync.columns import I64

PLACE_BITS = (limits.BLOCK_SAMPLES_MAX - 1).bit_length()
"""Low bits of a sorting key: the sample's place; the rank stands above them."""

Keys = NDArray[np.unsignedinteger[Any]]

# Powers of ten up to here are exact as floats.
_EXPONENT_MAX = 22
_STEP_MAX = 2**32
_INT64_MAX = 2**63 - 1
_MEMO_SIGNALS_MAX = 1 << 22


# Not slotted: what only one direction needs is made at its first use.
@dataclass(frozen=True)
class Scales:
    """One row per signal.

    Attributes:
        signal: id of each rank.
        kind: `Kind` of its values.
        period_ns: nominal distance of its samples.
        units: integer units per 1.0, with the rounding of one multiplication.
        up, down: an integer k means the float `k * up / down`; one of the two is exact by construction.
        edges: first rank of each kind and, last, the number of signals, shape (5,).
        time_step_ns: times are counted in it.
    """

    signal: NDArray[np.uint32]
    kind: NDArray[np.uint8]
    period_ns: I64
    units: NDArray[np.float64]
    up: NDArray[np.float64]
    down: NDArray[np.float64]
    edges: I64
    time_step_ns: int
    _keys: dict[Kind, Keys] = field(default_factory=dict)

    @cached_property
    def digest(self) -> bytes:
        """Equal for equal numbers: gateways that differ only in names of their signals share scales and layouts."""
        rows = (self.signal, self.kind, self.period_ns, self.units, self.up, self.down)
        found = hashlib.blake2b(self.time_step_ns.to_bytes(8, "little", signed=True), digest_size=16)
        for row in rows:
            found.update(row.tobytes())
        return found.digest()

    @cached_property
    def period_steps(self) -> I64:
        """Periods in steps of time, what is left below one cut off."""
        return self.period_ns // self.time_step_ns

    @cached_property
    def whole_periods(self) -> bool:
        """Whether all periods are whole steps of time."""
        return not (self.period_ns % self.time_step_ns).any()

    @cached_property
    def scales_up(self) -> bool:
        """Whether `up` is anything but 1."""
        return bool((self.up != 1.0).any())

    @cached_property
    def scales_down(self) -> bool:
        """Whether `down` is anything but 1."""
        return bool((self.down != 1.0).any())

    def __len__(self) -> int:
        return len(self.signal)

    @cached_property
    def ranks(self) -> NDArray[np.intp]:
        """Rank of each signal id."""
        return np.argsort(self.signal, kind="stable")

    def keys(self, kind: Kind) -> Keys:
        """Sorting key by signal id: its rank above `PLACE_BITS` zeros; signals of other kinds sort behind all ranks."""
        found = self._keys.get(kind)
        if found is None:
            known = len(self)
            narrow = (known + 1) << PLACE_BITS <= 1 << 32
            found = np.full(known, known << PLACE_BITS, np.uint32 if narrow else np.uint64)
            mine = np.flatnonzero(self.kind == kind)
            found[self.signal[mine]] = mine << PLACE_BITS
            self._keys[kind] = found
        return found


class _Memo:
    """Scales by the digest of their catalogue, those made first are forgotten first."""

    def __init__(self) -> None:
        self._by_catalogue: dict[bytes, Scales] = {}
        self._equal: WeakValueDictionary[bytes, Scales] = WeakValueDictionary()
        self.signals = 0
        self._lock = threading.Lock()

    def of(self, catalogue: Catalogue) -> Scales:
        digest = catalogue.digest
        found = self._by_catalogue.get(digest)
        if found is not None:
            return found
        made = _scales(catalogue.signals, catalogue.time_step_ns)
        with self._lock:
            found = self._equal.setdefault(made.digest, made)
            if digest not in self._by_catalogue:
                self._by_catalogue[digest] = found
                self.signals += len(found) + 1
            while self.signals > _MEMO_SIGNALS_MAX:
                oldest = self._by_catalogue.pop(next(iter(self._by_catalogue)))
                self.signals -= len(oldest) + 1
        return found


_memo = _Memo()


def scales_of(catalogue: Catalogue) -> Scales:
    """The scales of a catalogue, remembered for the catalogues in use."""
    return _memo.of(catalogue)


def _scales(signals: tuple[Signal, ...], time_step_ns: int) -> Scales:
    by_rank = sorted(signals, key=lambda s: s.kind)
    units, up, down = np.array([_row(s) for s in by_rank], np.float64).reshape(len(by_rank), 3).T.copy()
    kind = np.array([s.kind for s in by_rank], np.uint8)
    return Scales(
        np.array([s.id for s in by_rank], np.uint32),
        kind,
        np.array([s.period_ns if 0 <= s.period_ns <= _INT64_MAX else 0 for s in by_rank], np.int64),
        units,
        up,
        down,
        np.searchsorted(kind, np.arange(1, len(Kind) + 2)),
        time_step_ns,
    )


def _row(signal: Signal) -> tuple[float, float, float]:
    if abs(signal.exponent) > _EXPONENT_MAX or not 1 <= signal.step < _STEP_MAX:
        # No integer form: every value but 0 travels as it is.
        return 0.0, 1.0, 1.0
    if signal.exponent >= 0:
        return 10.0**signal.exponent / signal.step, float(signal.step), 10.0**signal.exponent
    return 1.0 / (signal.step * 10.0**-signal.exponent), signal.step * 10.0**-signal.exponent, 1.0
