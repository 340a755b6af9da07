"""A stretch of compacted history in the order of its blocks: sorted once for all the pages that an audit reads of it.

    point-hours (a row per point, times ascending) ─decode, sort once─▶ Window (blocks ascending) ─slice─▶ pages

Rows are packed by point, so that a block cannot be had without the rows around it; pages share the cost of these.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from twincloud.storage.hours_codec import Origins
from twincloud.storage.tiers import Run
from twinmodel.signal import Batch, Catalogue, Kind

I64 = NDArray[np.int64]

NO_BOUND: Final = 2**63 - 1
WINDOW_SAMPLES: Final = 1_000_000
"""Samples sorted at once, but where one block has more: 40 bytes each."""
WINDOWS_BYTES: Final = 64 << 20
"""Of all windows held; one that is larger is held alone."""

_TEXT_BYTES = 60


class HeldPart(NamedTuple):
    """A row of `hour_parts`: whatever changes the samples of a part changes it."""

    hour_ns: int
    part: int
    samples: int
    block_min: int
    block_max: int


class Piece(NamedTuple):
    """Samples of one signal of one block, the sequence number of the first one, and the signal's name."""

    number: int
    first_seq: int
    name: str
    batch: Batch


@dataclass(frozen=True, slots=True)
class _Columns:
    """Samples of one kind by (block, sequence number); `point` is a place in `Window.points`."""

    kind: Kind
    number: I64
    seq: I64
    point: NDArray[np.int32]
    value: NDArray[np.generic]
    quality: NDArray[np.uint16]
    t_ns: I64


@dataclass(frozen=True, slots=True)
class Window:
    """All samples in hours of the blocks in (after, upto].

    Attributes:
        parts: where they are from.
        numbers: of the blocks that have any, ascending.
        sizes: samples of each.
        points: name and id of the signals, as the catalogue of their blocks has them.
    """

    parts: frozenset[HeldPart]
    after: int
    upto: int
    numbers: I64
    sizes: I64
    points: tuple[tuple[str, int], ...]
    columns: tuple[_Columns, ...]

    def serves(self, after: int, ahead: Sequence[HeldPart]) -> bool:
        """Whether it still has what follows `after`, `ahead` being all parts that end behind it."""
        if not self.after <= after < self.upto:
            return False
        return {part for part in ahead if part.block_min <= self.upto} == {
            part for part in self.parts if part.block_max > after
        }

    def sizes_of(self, after: int, upto: int) -> tuple[I64, I64]:
        """Numbers and sizes of the blocks in (after, upto]."""
        a, b = self.numbers.searchsorted([after, upto], side="right").tolist()
        return self.numbers[a:b], self.sizes[a:b]

    def pieces(self, after: int, upto: int) -> Iterator[Piece]:
        """The samples of the blocks in (after, upto], in no order."""
        for columns in self.columns:
            a, b = columns.number.searchsorted([after, upto], side="right").tolist()
            number, point = columns.number[a:b], columns.point[a:b]
            breaks = (number[1:] != number[:-1]) | (point[1:] != point[:-1])
            cuts = (a + np.flatnonzero(breaks) + 1).tolist()
            for start, end in zip([a, *cuts], [*cuts, b], strict=True) if b > a else ():
                name, signal = self.points[int(columns.point[start])]
                batch = Batch(
                    columns.kind, np.full(end - start, signal, np.uint32), columns.value[start:end],
                    columns.quality[start:end], columns.t_ns[start:end],
                )  # fmt: skip
                yield Piece(int(columns.number[start]), int(columns.seq[start]), name, batch)


EMPTY: Final = Window(frozenset(), 0, NO_BOUND, np.empty(0, np.int64), np.empty(0, np.int64), (), ())


def bytes_of(window: Window) -> int:
    """What a window weighs; never more than all may, as an audit needs the one it reads."""
    found = 1_000 + window.numbers.nbytes + window.sizes.nbytes
    for one in window.columns:
        arrays: Iterable[NDArray[Any]] = (one.number, one.seq, one.point, one.value, one.quality, one.t_ns)
        found += sum(array.nbytes for array in arrays) + (_TEXT_BYTES * len(one.seq) if one.kind is Kind.STRING else 0)
    return min(found, WINDOWS_BYTES)


def next_parts(after: int, ahead: Sequence[HeldPart]) -> tuple[list[HeldPart], int]:
    """The parts that hold the next blocks, and up to which number they hold all that are in hours.

    Args:
        after: the last block seen.
        ahead: all parts that end behind it, by the first block of each; not empty.
    """
    start = max(after + 1, ahead[0].block_min)
    count = samples = 0
    for part in ahead:
        samples += part.samples
        if part.block_min > start and samples > WINDOW_SAMPLES:
            break
        count += 1
    upto = ahead[count].block_min - 1 if count < len(ahead) else NO_BOUND
    return [part for part in ahead[:count] if part.block_min <= upto], upto


def narrowed(after: int, upto: int, parts: Sequence[HeldPart], origins: Sequence[Origins]) -> int:
    """Up to which block a window goes: where parts have too many samples, as if their blocks were of one size."""
    samples = sum(part.samples for part in parts)
    if samples <= WINDOW_SAMPLES:
        return upto
    numbers = np.unique(np.concatenate([one.block for one in origins]))
    count = max(1, len(numbers) * WINDOW_SAMPLES // samples)
    inside = numbers[(numbers > after) & (numbers <= upto)]
    return int(inside[count - 1]) if count < len(inside) else upto


class Gathering:
    """Takes the rows of some parts one by one and makes a window of them.

    Args:
        after: blocks up to this one are left out.
        upto: so are those behind this one.
    """

    def __init__(self, after: int, upto: int) -> None:
        self._after = after
        self._upto = upto
        self._places: dict[tuple[str, int], int] = {}
        self._runs: dict[Kind, list[tuple[Run, I64, NDArray[np.int32]]]] = {}

    def add(self, run: Run, origins: Origins) -> None:
        """A row, decoded."""
        number = origins.block[run.origin]
        inside = (number > self._after) & (number <= self._upto)
        if not inside.all():
            run, number = run.take(inside), number[inside]
        if not len(run):
            return
        schemas, which = np.unique(origins.schema_id[run.origin], return_inverse=True)
        places = [self._places.setdefault((run.signal, schema), len(self._places)) for schema in schemas.tolist()]
        self._runs.setdefault(run.kind, []).append((run, number, np.array(places, np.int32)[which]))

    def window(self, parts: Sequence[HeldPart], catalogues: dict[int, Catalogue]) -> Window:
        """All of them; `catalogues` by their ids, see `schemas`."""
        columns = tuple(_sorted(kind, runs) for kind, runs in self._runs.items())
        every = [one.number for one in columns]
        numbers, sizes = np.unique(np.concatenate(every), return_counts=True) if every else (EMPTY.numbers, EMPTY.sizes)
        points = tuple((name, catalogues[schema].by_name[name].id) for name, schema in self._places)
        held = frozenset(part for part in parts if part.block_min <= self._upto)
        return Window(held, self._after, self._upto, numbers, sizes.astype(np.int64), points, columns)

    def schemas(self) -> set[int]:
        """Ids of the catalogues of its blocks."""
        return {schema for _, schema in self._places}


def _sorted(kind: Kind, runs: Sequence[tuple[Run, I64, NDArray[np.int32]]]) -> _Columns:
    number = np.concatenate([number for _, number, _ in runs])
    seq = np.concatenate([run.seq for run, _, _ in runs])
    order = np.lexsort((seq, number))
    found = _Columns(
        kind, number[order], seq[order],
        np.concatenate([point for _, _, point in runs])[order],
        np.concatenate([run.value for run, _, _ in runs])[order],
        np.concatenate([run.quality for run, _, _ in runs])[order],
        np.concatenate([run.t_ns for run, _, _ in runs])[order],
    )  # fmt: skip
    for column in (found.value, found.quality, found.t_ns):
        column.flags.writeable = False  # pages look at them
    return found
