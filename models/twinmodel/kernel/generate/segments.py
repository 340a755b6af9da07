"""A program in segments: layers of a network are loops, all else is straight-line code between them.

Straight-line code would repeat itself for every neuron, keep more weights at hand than the processor can, and leave a
single lane without vectors. Here a function of a whole layer is one loop over rows and lanes together, a dense block a
loop over its outputs; what lives from one segment to the next lies in rows of the scratch array. The operations of
each lane, and their order, stay the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

import numpy as np

from twinmodel.kernel import ops
from twinmodel.kernel.arena import I32
from twinmodel.kernel.generate.form import Form, Value
from twinmodel.kernel.generate.oplist import Pool

# Fewer rows are not worth the way through memory.
RUN_MIN: Final = 4
# Products of a dense block from which on its outputs are a loop.
DENSE_MIN: Final = 48
SUMS: Final = 4
_FUNCTIONS: Final = frozenset({ops.EXP, ops.LOG, ops.TANH, ops.SIN, ops.COS})


@dataclass(frozen=True, slots=True)
class Segment:
    """Rows of code that are done together.

    Attributes:
        code: the rows.
        run: whether they are a loop: one function of registers in a row, or one dense block.
        kept: registers set before or here that a later segment, or a result, reads.
    """

    code: I32
    run: bool
    kept: frozenset[int]


def segments(code: I32, results: Sequence[int], pinned: int) -> list[Segment]:
    """A program in its order; one segment where it has no runs.

    Args:
        code: rows of the program.
        results: register of each result.
        pinned: how many registers no program writes; they never lie in scratch.
    """
    parts = _cut(code, pinned)
    live = set(results)
    found = []
    for rows, run in reversed(parts):
        found.append(Segment(rows, run, frozenset(live)))
        for row in reversed(rows.tolist()):
            live -= set(_written(row))
            live |= set(_read(row))
    return found[::-1]


def _cut(code: I32, pinned: int) -> list[tuple[I32, bool]]:
    rows = code.tolist()
    # Rows of one function whose source and target each lie a constant way from their number are one run.
    labels = [_label(k, row, pinned) for k, row in enumerate(rows)]
    parts: list[tuple[I32, bool]] = []
    first = 0
    for label, group in groupby(labels):
        last = first + len(list(group))
        if label is not None and (label[0] == ops.DENSE or _apart(label, last - first)):
            parts.append((code[first:last], True))
        elif parts and not parts[-1][1]:
            parts[-1] = (np.concatenate([parts[-1][0], code[first:last]]), False)
        else:
            parts.append((code[first:last], False))
        first = last
    return parts


def _label(number: int, row: list[int], pinned: int) -> tuple[int, int, int] | None:
    """What rows of one run have in common; None for a row that is in no run."""
    opcode, target, source, count, _, outputs = row
    if opcode == ops.DENSE:
        return (opcode, number, number) if count * outputs >= DENSE_MIN else None
    return (opcode, target - number, source - number) if opcode in _FUNCTIONS and source >= pinned else None


def _apart(label: tuple[int, int, int], length: int) -> bool:
    """Whether a run is long enough, and writes no register it has yet to read."""
    return length >= RUN_MIN and abs(label[1] - label[2]) >= length


def _written(row: list[int]) -> range:
    return range(row[1], row[1] + (row[5] if row[0] == ops.DENSE else 1))


def _read(row: list[int]) -> Sequence[int]:
    opcode, _, a, b, c, _ = row
    if opcode == ops.DENSE:
        return range(a, a + b)
    # Columns that an operation does not use hold 0, a state that lives anyway.
    return (a, b) if opcode in {ops.LOOKUP1, ops.LOOKUP2} else (a, b, c)


class Runner:
    """Writes a program segment by segment.

    Args:
        form: the program being written.
        pool: writes rows of code.
        lanes: of a row of scratch.
        first: row of scratch that register 0 would lie in; pinned registers never do.
        pinned: how many registers no program writes.
    """

    def __init__(self, form: Form, pool: Pool, lanes: Value, first: int, pinned: int) -> None:
        self._form, self._pool, self._lanes, self._first, self._pinned = form, pool, lanes, first, pinned

    def run(
        self,
        parts: Sequence[Segment],
        registers: Callable[[Value], list[Any]],
        finish: Callable[[list[Any], Value], None],
    ) -> None:
        """Runs all segments over all lanes.

        Args:
            parts: of `segments`.
            registers: the register file of a lane before the program.
            finish: takes the register file of a lane after it.
        """
        ready: frozenset[int] = frozenset()
        for part in parts:
            if part.run and part.code[0, 0] == ops.DENSE:
                self._dense(part.code[0].tolist(), registers, ready)
            elif part.run:
                self._function(part.code)
            else:
                with self._form.loop(self._lanes, lanes=True) as w:
                    R = self._open(registers, ready, w)
                    self._pool.run(part.code, R)
                    self._keep(R, part.kept, w)
                    if part is parts[-1]:
                        finish(R, w)
            ready = part.kept
        if not parts or parts[-1].run:
            with self._form.loop(self._lanes, lanes=True) as w:
                finish(self._open(registers, ready, w), w)

    def _open(self, registers: Callable[[Value], list[Any]], ready: frozenset[int], w: Value) -> list[Any]:
        R = registers(w)
        for register in sorted(ready):
            if register >= self._pinned:
                R[register] = self._form.load("G", self._place(register) + w)
        return R

    def _keep(self, R: list[Any], kept: frozenset[int], w: Value) -> None:
        for register in sorted(kept):
            if register >= self._pinned:
                self._form.store("G", self._place(register) + w, R[register])

    def _dense(self, row: list[int], registers: Callable[[Value], list[Any]], ready: frozenset[int]) -> None:
        _, target, source, count, at, outputs = row
        needed = ready & frozenset(range(source, source + count))
        # Several sums at a time: each waits for itself, not for the others.
        whole = outputs - outputs % SUMS
        for first, last, together in ((0, whole, SUMS), (whole, outputs, 1)):
            if first == last:
                continue
            with self._form.loop((last - first) // together) as j, self._form.loop(self._lanes, lanes=True) as w:
                R = self._open(registers, needed, w)
                numbers = [j * together + (first + k) for k in range(together)]
                sums = self._pool.weigh(at, outputs, numbers, R[source : source + count])
                for number, v in zip(numbers, sums, strict=True):
                    self._form.store("G", self._lanes * (number + (self._first + target)) + w, v)

    def _function(self, code: I32) -> None:
        opcode, target, source, *_ = code[0].tolist()
        with self._form.loop(self._lanes * len(code), lanes=True) as e:
            R = [self._form.load("G", self._place(source) + e), None]
            self._pool.run(np.array([[opcode, 1, 0, 0, 0, 0]], np.int32), R)
            self._form.store("G", self._place(target) + e, R[1])

    def _place(self, register: int) -> Value:
        return self._lanes * (self._first + register)
