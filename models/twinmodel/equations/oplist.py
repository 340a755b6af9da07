"""The op-list: a flat program over registers that carries a model's equations as data.

    registers   states | inputs | params | consts | temporaries
    code        rows (opcode, destination, a, b, c, d), see `kernel.ops`; columns an operation does not use are 0

    lowered = lower([rates, readings, jacobian], definitions, pinned, blocks)
    lowered.programs[0].code, .results; lowered.consts; lowered.pool; lowered.registers
    verify(program, pinned + consts, registers, pool) -> None, or why it must not run

An expression is any of `parse.Expr`: numbers, names, every scalar operation of `kernel.ops` as `Op(name, args)`,
`Lookup(table, args)` and `Dense(block, args, index)`, whose numbers stand in `blocks`. Components of one dense block
over the same arguments cost one operation together. Equal parts are computed once, constants are folded by the
reference machine itself, temporaries share registers by a linear scan over their lifetimes; what a dense block reads
and writes is placed in consecutive registers. A destination never is one of its own sources, so that lane loops
vectorise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from twinmodel.equations.blocks import Block, Blocks, Table
from twinmodel.equations.parse import Dense, Expr, Lookup, Name, Number, Source, arguments
from twinmodel.equations.program import Program, verify, work
from twinmodel.kernel.ops import (
    COLUMNS,
    DENSE,
    OPCODES,
    OPERATIONS,
    OPS_MAX,
    POOL_MAX,
    REGISTERS_MAX,
)
from twinmodel.kernel.vm_reference import run

__all__ = ["Lowered", "Program", "lower", "verify", "work"]

F64 = NDArray[np.float64]
_EMPTY: Final = np.empty(0)


@dataclass(frozen=True, slots=True)
class Lowered:
    """Programs of one model over one shared set of constants and one pool.

    Attributes:
        programs: one per group of expressions handed in.
        consts: values of the constant registers.
        registers: registers any of them needs.
        pool: weights and tables the programs read by offset.
    """

    programs: tuple[Program, ...]
    consts: tuple[float, ...]
    registers: int
    pool: F64


def lower(
    groups: Sequence[Sequence[tuple[Expr, Source]]],
    definitions: Mapping[str, Expr],
    pinned: Sequence[str],
    blocks: Blocks | None = None,
) -> Lowered:
    """Lowers groups of checked expressions, one program a group.

    Args:
        groups: expressions with their places; each group becomes one program.
        definitions: intermediate values the expressions may name.
        pinned: names of states, inputs and params in the order of their registers.
        blocks: tables and dense blocks the expressions may name.

    Raises:
        ConfigError: EQUATION_INVALID when the operations, registers or numbers of the pool are too many.
    """
    shared = _Shared({name: number for number, name in enumerate(pinned)}, definitions, blocks or Blocks())
    built: list[tuple[_Builder, list[int]]] = []
    for group in groups:
        builder = _Builder(shared)
        built.append((builder, [builder.lower(expr, source) for expr, source in group]))
    first = len(pinned) + len(shared.consts)
    programs = tuple(_allocate(builder, results, len(pinned), first) for builder, results in built)
    registers = max([first, *(p.registers for p in programs)])
    if registers > REGISTERS_MAX:
        groups[0][0][1].fail(0, f"the equations need {registers} registers, at most {REGISTERS_MAX}")
    return Lowered(programs, tuple(shared.consts), registers, np.array(shared.pool, np.float64))


@dataclass(slots=True)
class _Shared:
    """What the programs of one model have in common."""

    names: Mapping[str, int]
    definitions: Mapping[str, Expr]
    blocks: Blocks
    consts: dict[float, int] = field(default_factory=dict)
    pool: list[float] = field(default_factory=list)
    places: dict[bytes, int] = field(default_factory=dict)

    def place(self, entry: Table | Block, source: Source) -> int:
        """Where an entry lies in the pool; equal ones lie there once."""
        numbers = np.ascontiguousarray(entry.pool, np.float64)
        key = type(entry).__name__.encode() + numbers.tobytes()
        if key not in self.places:
            if len(self.pool) + len(numbers) > POOL_MAX:
                source.fail(0, f"tables and weights hold more than {POOL_MAX} numbers")
            self.places[key] = len(self.pool)
            self.pool += numbers.tolist()
        return self.places[key]


@dataclass(frozen=True, slots=True)
class _Row:
    """One operation over virtual registers; `outputs` destinations follow one another from `target` on."""

    name: str
    target: int
    sources: tuple[int, ...]
    place: int = 0
    outputs: int = 1


# Virtual numbers: pinned registers as they are, constants from -1 down, temporaries from here on.
_TEMPORARY: Final = 1 << 20


class _Builder:
    """Collects the operations of one program over virtual registers, each value once."""

    def __init__(self, shared: _Shared) -> None:
        self._shared = shared
        self._value: dict[int, int] = {}
        self._known: dict[tuple[str, tuple[int, ...], int], int] = {}
        self._next = _TEMPORARY
        self.rows: list[_Row] = []
        # Groups of temporaries that must lie side by side: size of each, and where a temporary stands in one.
        self.sizes: list[int] = []
        self.homes: dict[int, tuple[int, int]] = {}

    def lower(self, expr: Expr, source: Source) -> int:
        """Virtual register that holds the value of an expression; parts first, without recursion."""
        stack, opened = [expr], set[int]()
        while stack:
            part = stack[-1]
            below = [a for a in self._parts(part) if id(a) not in self._value]
            if id(part) in self._value or not below:
                stack.pop()
                opened.discard(id(part))
                if id(part) not in self._value:
                    self._value[id(part)] = self._emit(part, source)
                continue
            opened.add(id(part))
            if any(id(a) in opened for a in below):
                source.fail(0, "a definition needs its own value")
            stack += reversed(below)
        return self._value[id(expr)]

    def _parts(self, expr: Expr) -> tuple[Expr, ...]:
        if isinstance(expr, Name) and expr.name in self._shared.definitions:
            return (self._shared.definitions[expr.name],)
        return arguments(expr)

    def _emit(self, expr: Expr, source: Source) -> int:
        registers = tuple(self._value[id(a)] for a in self._parts(expr))
        match expr:
            case Number(value):
                # +0.0 and -0.0 are equal as keys; the sign of a literal zero never matters to a model.
                return self._shared.consts.setdefault(value, -1 - len(self._shared.consts))
            case Name(name):
                return registers[0] if registers else self._shared.names[name]
            case Lookup(table):
                place = self._shared.place(self._shared.blocks.tables[table], source)
                return self._scalar(f"lookup{len(registers)}", registers, source, place)
            case Dense(block, _, index):
                return self._dense(self._shared.blocks.dense[block], registers, source) + index
        folded = self._fold(expr.name, registers)
        if folded is not None:
            return self._shared.consts.setdefault(folded, -1 - len(self._shared.consts))
        return self._scalar(expr.name, registers, source)

    def _fold(self, name: str, registers: tuple[int, ...]) -> float | None:
        """The finite value of an operation on constants, by the machine that would compute it at run time."""
        if any(r >= 0 for r in registers):
            return None
        values = list(self._shared.consts)
        operands = [np.array([values[-1 - r]]) for r in registers]
        code = np.zeros((1, COLUMNS), np.int32)
        code[0, 0], code[0, 1] = OPCODES[name], len(operands)
        code[0, 2 : 2 + len(operands)] = range(len(operands))
        operands.append(_EMPTY)
        with np.errstate(all="ignore"):
            run(code, operands)
        value = float(operands[-1][0])
        return value if np.isfinite(value) else None

    def _scalar(self, name: str, sources: tuple[int, ...], source: Source, place: int = 0) -> int:
        key = (name, sources, place)
        if key not in self._known:
            self._known[key] = self._append(_Row(name, self._next, sources, place), source)
        return self._known[key]

    def _dense(self, block: Block, sources: tuple[int, ...], source: Source) -> int:
        """First of the consecutive temporaries that hold a block's values."""
        place = self._shared.place(block, source)
        outputs = len(block.bias)
        key = (f"dense {outputs}", sources, place)
        if key not in self._known:
            together = self._gather(sources, source)
            target = self._next
            self._home(range(target, target + outputs))
            self._known[key] = self._append(_Row("dense", target, together, place, outputs), source)
        return self._known[key]

    def _gather(self, sources: tuple[int, ...], source: Source) -> tuple[int, ...]:
        """The same values in consecutive registers: as they lie, placed so from the start, or copied."""
        if sources[0] >= 0 and all(b == a + 1 for a, b in pairwise(sources)):
            homes = [self.homes.get(r) for r in sources]
            pinned = sources[-1] < _TEMPORARY
            together = all(h is not None and homes[0] is not None and h[0] == homes[0][0] for h in homes)
            if pinned or together:
                return sources
        placed: list[int] = []
        for register in sources:
            free = register >= _TEMPORARY and register not in self.homes and register not in placed
            # The smaller of a value and itself is that value, bit for bit.
            copy = register if free else self._append(_Row("min", self._next, (register, register)), source)
            placed.append(copy)
        self._home(placed)
        return tuple(placed)

    def _home(self, registers: Sequence[int]) -> None:
        self.homes |= {register: (len(self.sizes), at) for at, register in enumerate(registers)}
        self.sizes.append(len(registers))

    def _append(self, row: _Row, source: Source) -> int:
        if len(self.rows) >= OPS_MAX:
            source.fail(0, f"the equations need more than {OPS_MAX} operations")
        self._next = row.target + row.outputs
        self.rows.append(row)
        return row.target


def _allocate(builder: _Builder, results: Sequence[int], pinned: int, first: int) -> Program:
    """Linear scan: registers are free again after their last use; results live to the end.

    A group of neighbours takes its registers when the first of them is written and frees them after the last use.
    """
    unit_of = {r: (home[0], home[1]) for r, home in builder.homes.items()}
    last: dict[int, int] = {}

    def unit(register: int) -> int:
        """Groups are numbered from 0, lone temporaries keep their own number."""
        return unit_of[register][0] if register in unit_of else register

    for at, row in enumerate(builder.rows):
        used = [*row.sources, *range(row.target, row.target + row.outputs)]
        last |= {unit(r): at for r in used if r >= _TEMPORARY}
    last |= {unit(r): len(builder.rows) for r in results if r >= _TEMPORARY}
    ends: dict[int, list[int]] = {}
    for each, at in last.items():
        ends.setdefault(at, []).append(each)
    base: dict[int, int] = {}
    free: set[int] = set()
    top = first

    def real(register: int) -> int:
        if register >= _TEMPORARY:
            return base[unit(register)] + (unit_of[register][1] if register in unit_of else 0)
        return register if register >= 0 else pinned - 1 - register

    code = np.zeros((len(builder.rows), COLUMNS), np.int32)
    for at, row in enumerate(builder.rows):
        name = unit(row.target)
        if name not in base:
            size = builder.sizes[name] if name < _TEMPORARY else 1
            start = _fit(free, size, top)
            base[name] = start
            free -= set(range(start, start + size))
            top = max(top, start + size)
        sources = [real(r) for r in row.sources]
        if row.name == "dense":
            code[at] = DENSE, real(row.target), sources[0], len(sources), row.place, row.outputs
        else:
            code[at, :2] = OPCODES[row.name], real(row.target)
            code[at, 2 : 2 + len(sources)] = sources
            code[at, 4] = row.place if OPERATIONS[OPCODES[row.name]].pooled else code[at, 4]
        # Freed only now, so that the destination is none of the sources.
        for each in ends.get(at, ()):
            size = builder.sizes[each] if each < _TEMPORARY else 1
            free |= set(range(base[each], base[each] + size))
    return Program(code, np.array([real(r) for r in results], np.int32), top)


def _fit(free: set[int], size: int, top: int) -> int:
    """The lowest start of `size` free neighbours; above the top everything is free."""
    length = 0
    for register in sorted(free):
        length = length + 1 if register - 1 in free else 1
        if length == size:
            return register - size + 1
    return top - length if length and top - 1 in free else top
