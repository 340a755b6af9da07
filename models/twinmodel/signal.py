"""Signals, the catalogue that names them by hash, and the columnar batches samples travel in.

A signal's name says what it is: `device.point` for what a device measures, and
`twin/output#estimate|sigma|prediction|innovation|drift` for what a model says about it, and `twin/output#substitute`
for what stands in for a measurement that is missing. `twin#lineage` carries the checkpoints of a twin's model, and
`@alarms` the steps of a gateway's alarms.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cached_property
from typing import Any

import msgpack
import numpy as np
from numpy.typing import NDArray

from twinmodel.clock import MILLISECOND_NS
from twinmodel.errors import ConfigError, InputError

OUTPUT_ROLES = ("estimate", "sigma", "prediction", "innovation", "drift")
SUBSTITUTE = "substitute"
"""Role of the signal that stands in for a measurement that is missing, where the site asks for it."""
ALARMS_SIGNAL = "@alarms"
"""The one signal of a gateway that carries the records of `twinmodel.alarms`; no device and no twin is called so."""
SIGNALS_MAX = 1 << 20


class Kind(IntEnum):
    """Type of a signal's values."""

    FLOAT = 1
    INT = 2
    BOOL = 3
    STRING = 4


DTYPES: Mapping[Kind, type] = {Kind.FLOAT: np.float64, Kind.INT: np.int64, Kind.BOOL: np.bool_, Kind.STRING: object}


class Stream(IntEnum):
    """Priority class of a sample; each stream has its own sequence numbers, the lower number goes first."""

    ALARM = 0
    STATE = 1
    TELEMETRY = 2
    BULK = 3


@dataclass(frozen=True, slots=True)
class Signal:
    """One entry of a catalogue.

    Attributes:
        id: number inside its catalogue, the position of the entry.
        name: `device.point`, `twin/output#role`, `twin#lineage` or `@alarms`.
        kind: type of its values.
        unit: unit symbol, "" when it has none.
        stream: priority class its samples travel in.
        exponent: values are stored as integers in units of `step * 10**-exponent` where that is exact.
        step: see `exponent`.
        period_ns: nominal distance of its samples, 0 when it has none.
    """

    id: int
    name: str
    kind: Kind = Kind.FLOAT
    unit: str = ""
    stream: Stream = Stream.TELEMETRY
    exponent: int = 0
    step: int = 1
    period_ns: int = 0

    @property
    def role(self) -> str:
        """`measured`, one of `OUTPUT_ROLES`, `SUBSTITUTE`, `lineage` (see `twinmodel.lineage`), or `alarms`."""
        if self.name == ALARMS_SIGNAL:
            return "alarms"
        return self.name.rpartition("#")[2] if "#" in self.name else "measured"


@dataclass(frozen=True, slots=True)
class TwinBinding:
    """Which signals make up a twin; travels with the catalogue, so that both tiers agree.

    Attributes:
        twin: name, unique within its site.
        definition: name of the twin definition.
        model: `name@version` or `name@alias` that site.yaml asks for at first boot, "" for none.
        properties: property of the twin -> name of the measured signal, "" for a virtual one.
        outputs: properties the model estimates (their signals are `twin/property#role`).
        units: property -> unit of the definition or the model.
    """

    twin: str
    definition: str
    model: str
    properties: Mapping[str, str]
    outputs: tuple[str, ...]
    units: Mapping[str, str]


@dataclass(frozen=True)
class Catalogue:
    """All signals of one gateway configuration; immutable, named by its digest.

    Attributes:
        signals: entries, `signals[i].id == i`.
        twins: bindings of these signals to twins.
        time_step_ns: times of samples are multiples of it.
    """

    signals: tuple[Signal, ...]
    twins: tuple[TwinBinding, ...] = ()
    time_step_ns: int = MILLISECOND_NS

    def __post_init__(self) -> None:
        if len(self.signals) > SIGNALS_MAX:
            raise InputError("LIMIT_EXCEEDED", f"{len(self.signals)} signals, at most {SIGNALS_MAX}")
        seen: set[str] = set()
        for position, signal in enumerate(self.signals):
            if signal.id != position:
                raise InputError("VALUE_INVALID", f"signal {signal.name} has id {signal.id} at position {position}")
            if signal.name in seen:
                raise ConfigError("DUPLICATE_SIGNAL", f"signal {signal.name} is declared twice", signal=signal.name)
            seen.add(signal.name)

    @cached_property
    def by_name(self) -> Mapping[str, Signal]:
        """Entries by their name."""
        return {s.name: s for s in self.signals}

    @cached_property
    def outputs(self) -> Mapping[str, tuple[str, ...]]:
        """Outputs that have signals, `TWIN/OUTPUT#ROLE`, by twin, in the order of the signals."""
        found: dict[str, dict[str, None]] = {}
        for signal in self.signals:
            twin, _, rest = signal.name.partition("/")
            output = rest.rpartition("#")[0]
            if output:
                found.setdefault(twin, {})[output] = None
        return {twin: tuple(outputs) for twin, outputs in found.items()}

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 over the canonical msgpack form; the schema hash of blocks."""
        signals = [[s.name, s.kind, s.unit, s.stream, s.exponent, s.step, s.period_ns] for s in self.signals]
        twins = [
            [t.twin, t.definition, t.model, sorted(t.properties.items()), list(t.outputs), sorted(t.units.items())]
            for t in self.twins
        ]
        packed = msgpack.packb(["catalogue/1", self.time_step_ns, signals, twins], use_bin_type=True)
        return hashlib.sha256(packed).digest()

    def __len__(self) -> int:
        return len(self.signals)


@dataclass(frozen=True, slots=True)
class Batch:
    """A run of samples of one kind, as columns of equal length n; the order is the order of arrival.

    Attributes:
        kind: type of all values.
        signal: ids in the catalogue, uint32, shape (n,).
        value: values, dtype `DTYPES[kind]`, shape (n,).
        quality: quality codes, uint16, shape (n,).
        t_ns: event times, int64 nanoseconds UTC, shape (n,).
    """

    kind: Kind
    signal: NDArray[np.uint32]
    value: NDArray[np.generic]
    quality: NDArray[np.uint16]
    t_ns: NDArray[np.int64] = field(repr=False)

    @staticmethod
    def of(
        kind: Kind, signal: Iterable[int], value: Iterable[object], quality: Iterable[int], t_ns: Iterable[int]
    ) -> Batch:
        """Builds a batch from sequences; raises ValueError when their lengths differ."""
        signals = np.asarray(list(signal), np.uint32)
        values: NDArray[Any] = np.empty(len(signals), DTYPES[kind])
        values[:] = list(value)
        batch = Batch(kind, signals, values, np.asarray(list(quality), np.uint16), np.asarray(list(t_ns), np.int64))
        if not len(batch.signal) == len(batch.quality) == len(batch.t_ns):
            raise ValueError("columns of a batch differ in length")
        return batch

    def __len__(self) -> int:
        return len(self.signal)

    def take(self, index: NDArray[np.generic]) -> Batch:
        """The samples that an index array or a boolean mask names."""
        return Batch(self.kind, self.signal[index], self.value[index], self.quality[index], self.t_ns[index])

    def with_quality(self, quality: NDArray[np.uint16]) -> Batch:
        """The same samples with other quality codes."""
        return Batch(self.kind, self.signal, self.value, quality, self.t_ns)


def concat(batches: Iterable[Batch]) -> list[Batch]:
    """Joins batches into at most one per kind, each in order of arrival, kinds in numeric order."""
    groups: dict[Kind, list[Batch]] = {}
    for batch in batches:
        if len(batch):
            groups.setdefault(batch.kind, []).append(batch)
    return [
        parts[0]
        if len(parts) == 1
        else Batch(
            kind,
            np.concatenate([b.signal for b in parts]),
            np.concatenate([b.value for b in parts]),
            np.concatenate([b.quality for b in parts]),
            np.concatenate([b.t_ns for b in parts]),
        )
        for kind, parts in sorted(groups.items())
    ]
