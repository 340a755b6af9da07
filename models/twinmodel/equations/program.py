"""A program of the op-list machine, and the proof that it stays inside its registers and its pool."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from twinmodel.kernel.ops import (
    COLUMNS,
    DENSE,
    LOOKUP1,
    LOOKUP2,
    MAP,
    OPERATIONS,
    OPS_MAX,
    POOL_MAX,
    REGISTERS_MAX,
    RK4,
    ROS2,
    WORK_MAX,
)

F64 = NDArray[np.float64]
_EMPTY: Final = np.empty(0)
# Runs of the rates in a substep.
_STAGES: Final = {RK4: 4, ROS2: 2, MAP: 1}


@dataclass(frozen=True, slots=True)
class Program:
    """A verified-to-be program over registers.

    Attributes:
        code: rows (opcode, destination, a, b, c, d), int32, shape (k, 6).
        results: register of each result, int32.
        registers: how many registers it needs in all.
    """

    code: NDArray[np.int32]
    results: NDArray[np.int32]
    registers: int


def work(program: Program) -> int:
    """Additions and multiplications of one run, functions and lookups counted as several."""
    total = 0
    for opcode, _, _, b, _, d in program.code.tolist():
        total += b * d if opcode == DENSE else OPERATIONS[opcode].work
    return total


def tick_work(costs: Sequence[int], states: int, substeps: int, integrator: int) -> int:
    """Work of a tick: rates, readings and jacobian, whose `costs` these are, at every point of the filter."""
    rates, readings, slopes = costs
    return (2 * states + 1) * (substeps * (_STAGES[integrator] * rates + slopes) + readings)


def verify(program: Program, pinned: int, registers: int, pool: F64 = _EMPTY) -> str | None:
    """Why a program must not run, None when it is safe: no bounds are checked once it runs.

    Args:
        program: what a package carries.
        pinned: number of registers that hold states, inputs, params and constants; never written.
        registers: size of the register file.
        pool: finite numbers the program reads by offset.
    """
    fault = _verify_sizes(program, pinned, registers, pool)
    if fault is not None:
        return fault
    written = np.zeros(registers, bool)
    written[:pinned] = True
    tables: dict[tuple[int, int], str | None] = {}
    for at, row in enumerate(program.code.tolist()):
        fault = _verify_row(row, pinned, written, pool, tables)
        if fault is not None:
            return f"operation {at} {fault}"
        written[row[1] : row[1] + (row[5] if row[0] == DENSE else 1)] = True
    for register in program.results.tolist():
        if not 0 <= register < registers or not written[register]:
            return f"result register {register} holds nothing"
    if work(program) > WORK_MAX:
        return f"the program needs more than {WORK_MAX} additions and multiplications"
    return None


def _verify_sizes(program: Program, pinned: int, registers: int, pool: F64) -> str | None:
    if program.code.ndim != 2 or program.code.shape[1] != COLUMNS or program.results.ndim != 1:
        return f"the rows of a program have {COLUMNS} columns"
    if len(program.code) > OPS_MAX or not pinned <= registers <= REGISTERS_MAX:
        return "too many operations or registers"
    if len(pool) > POOL_MAX or not np.isfinite(pool).all():
        return "the pool is too large or holds a number that is not finite"
    return None


def _verify_row(
    row: list[int], pinned: int, written: NDArray[np.bool_], pool: F64, tables: dict[tuple[int, int], str | None]
) -> str | None:
    opcode, target, a, b, c, d = row
    operation = OPERATIONS.get(opcode)
    if operation is None:
        return f"has unknown code {opcode}"
    fault: str | None = None
    outputs, sources = 1, row[2 : 2 + operation.sources]
    unused = [*row[2 + operation.sources : 4], d] if operation.pooled else row[2 + operation.sources :]
    if opcode == DENSE:
        outputs, sources = d, list(range(a, a + min(b, len(written) + 1)))
        unused = [] if b > 0 and d > 0 else [1]
    if any(unused):
        return "is malformed"
    if not (pinned <= target and target + outputs <= len(written)):
        fault = f"writes register {target}"
    elif not all(0 <= r < len(written) and written[r] for r in sources):
        fault = "reads a register that holds nothing"
    elif any(target <= r < target + outputs for r in sources):
        fault = "is malformed"
    elif opcode == DENSE and (c < 0 or c + d + d * b > len(pool)):
        fault = "reads weights that are not in the pool"
    elif opcode in {LOOKUP1, LOOKUP2}:
        if (opcode, c) not in tables:
            tables[opcode, c] = _verify_table(c, 1 if opcode == LOOKUP1 else 2, pool)
        fault = tables[opcode, c]
    return fault


def _verify_table(at: int, axes: int, pool: F64) -> str | None:
    """Why a table cannot be read at a place of the pool: its sizes lie before its points."""
    if at < 0 or at + axes > len(pool):
        return "reads a table that is not in the pool"
    sizes = pool[at : at + axes]
    if np.any(sizes < 2.0) or np.any(sizes > len(pool)) or np.any(sizes != np.floor(sizes)):
        return "reads a table of a wrong size"
    points = [int(size) for size in sizes]
    count = 2 * points[0] if axes == 1 else points[0] + points[1] + points[0] * points[1]
    start = at + axes
    if start + count > len(pool):
        return "reads a table that is not in the pool"
    for size in points:
        if np.any(np.diff(pool[start : start + size]) <= 0.0):
            return "reads a table whose points do not increase"
        start += size
    return None
