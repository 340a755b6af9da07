"""The op-list: a flat program over registers that carries a model's equations as data.

    registers   states | inputs | params | consts | temporaries
    code        rows (opcode, destination, a, b); one-argument operations repeat a as b

Equal subexpressions are computed once, constants are folded at build time, temporaries share registers by a
linear scan over their lifetimes. A destination never is one of its own sources, so that lane loops vectorise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from twinmodel.equations.parse import Expr, Name, Number, Op, Source

OPCODES: Final = {"add": 0, "sub": 1, "mul": 2, "div": 3, "neg": 4, "abs": 5, "sqrt": 6, "min": 7, "max": 8}
OPS_MAX: Final = 2048
REGISTERS_MAX: Final = 1024


@dataclass(frozen=True, slots=True)
class Program:
    """A verified-to-be program over registers.

    Attributes:
        code: rows (opcode, destination, a, b), int32, shape (k, 4).
        results: register of each result, int32.
        registers: how many registers it needs in all.
    """

    code: NDArray[np.int32]
    results: NDArray[np.int32]
    registers: int


@dataclass(frozen=True, slots=True)
class Lowered:
    """Programs of one model over one shared set of constants.

    Attributes:
        programs: one per group of expressions handed in.
        consts: values of the constant registers.
        registers: registers any of them needs.
    """

    programs: tuple[Program, ...]
    consts: tuple[float, ...]
    registers: int


class Builder:
    """Collects the operations of one program over virtual registers, each value once."""

    def __init__(self, names: Mapping[str, int], consts: dict[float, int]) -> None:
        self._names = names
        self._consts = consts
        self._known: dict[tuple[str, int, int], int] = {}
        self._defined: dict[str, int] = {}
        self.code: list[tuple[str, int, int, int]] = []
        self.constant: dict[int, float] = {number: value for value, number in consts.items()}

    def constant_register(self, value: float) -> int:
        """Virtual register of a constant, negative numbers from -1 down."""
        # +0.0 and -0.0 are equal as keys; the sign of a literal zero never matters to a model.
        number = self._consts.setdefault(value, -1 - len(self._consts))
        self.constant[number] = value
        return number

    def lower(self, expr: Expr, definitions: Mapping[str, Expr], source: Source) -> int:
        """Virtual register that holds the value of an expression."""
        match expr:
            case Number(value):
                return self.constant_register(value)
            case Name(name):
                if name not in definitions:
                    return self._names[name]
                if name not in self._defined:
                    self._defined[name] = self.lower(definitions[name], definitions, source)
                return self._defined[name]
            case Op(name, args):
                registers = [self.lower(a, definitions, source) for a in args]
                a, b = registers[0], registers[-1]
                folded = self._fold(name, a, b)
                if folded is not None:
                    return self.constant_register(folded)
                key = (name, a, b)
                if key not in self._known:
                    if len(self.code) >= OPS_MAX:
                        source.fail(0, f"the equations need more than {OPS_MAX} operations")
                    self._known[key] = _TEMPORARY + len(self.code)
                    self.code.append((name, self._known[key], a, b))
                return self._known[key]

    def _fold(self, name: str, a: int, b: int) -> float | None:
        if a not in self.constant or b not in self.constant:
            return None
        value = _evaluate(name, self.constant[a], self.constant[b])
        return value if math.isfinite(value) else None


# Virtual numbers of temporaries start above every pinned register.
_TEMPORARY: Final = 1 << 20


def _evaluate(name: str, a: float, b: float) -> float:
    if name == "div":
        return a / b if b != 0.0 else math.nan
    if name == "sqrt":
        return math.sqrt(a) if a >= 0.0 else math.nan
    table = {"add": a + b, "sub": a - b, "mul": a * b, "neg": -a, "abs": abs(a)}
    table |= {"min": min(a, b), "max": max(a, b)}
    return table[name]


def lower(
    groups: Sequence[Sequence[tuple[Expr, Source]]], definitions: Mapping[str, Expr], pinned: Sequence[str]
) -> Lowered:
    """Lowers groups of checked expressions, one program a group.

    Args:
        groups: expressions with their places; each group becomes one program.
        definitions: intermediate values the expressions may name.
        pinned: names of states, inputs and params in the order of their registers.

    Raises:
        ConfigError: EQUATION_INVALID when the operations or registers are too many.
    """
    names = {name: number for number, name in enumerate(pinned)}
    consts: dict[float, int] = {}
    built: list[tuple[Builder, list[int]]] = []
    for group in groups:
        builder = Builder(names, consts)
        built.append((builder, [builder.lower(expr, definitions, source) for expr, source in group]))
    first = len(pinned) + len(consts)
    programs = tuple(_allocate(builder, results, len(pinned), first) for builder, results in built)
    registers = max([first, *(p.registers for p in programs)])
    if registers > REGISTERS_MAX:
        groups[0][0][1].fail(0, f"the equations need {registers} registers, at most {REGISTERS_MAX}")
    return Lowered(programs, tuple(consts), registers)


def _allocate(builder: Builder, results: Sequence[int], pinned: int, first: int) -> Program:
    """Linear scan: a temporary's register is free again after its last use; results live to the end."""
    last = {register: at for at, (_, _, a, b) in enumerate(builder.code) for register in (a, b)}
    last |= dict.fromkeys(results, len(builder.code))
    place: dict[int, int] = {}

    def real(register: int) -> int:
        if register >= _TEMPORARY:
            return place[register]
        return register if register >= 0 else pinned - 1 - register

    free: list[int] = []
    top = first
    code: list[tuple[int, int, int, int]] = []
    for at, (name, target, a, b) in enumerate(builder.code):
        if free:
            register = free.pop()
        else:
            register, top = top, top + 1
        code.append((OPCODES[name], register, real(a), real(b)))
        place[target] = register
        # Freed only now, so that the destination is none of the sources.
        free += [place[r] for r in sorted({a, b}) if r >= _TEMPORARY and last[r] == at]
        if target not in last:
            free.append(register)
    return Program(np.array(code, np.int32).reshape(-1, 4), np.array([real(r) for r in results], np.int32), top)


def verify(program: Program, pinned: int, registers: int) -> str | None:
    """Why a program must not run, None when it is safe: no bounds are checked once it runs.

    Args:
        program: what a package carries.
        pinned: number of registers that hold states, inputs, params and constants; never written.
        registers: size of the register file.
    """
    if len(program.code) > OPS_MAX or not pinned <= registers <= REGISTERS_MAX:
        return "too many operations or registers"
    written = np.zeros(registers, bool)
    written[:pinned] = True
    for at, row in enumerate(program.code.tolist()):
        fault = _verify_operation(row, pinned, written)
        if fault is not None:
            return f"operation {at} {fault}"
        written[row[1]] = True
    for register in program.results.tolist():
        if not 0 <= register < registers or not written[register]:
            return f"result register {register} holds nothing"
    return None


_TWO: Final = {OPCODES[name] for name in ("add", "sub", "mul", "div", "min", "max")}


def _verify_operation(row: list[int], pinned: int, written: NDArray[np.bool_]) -> str | None:
    opcode, target, a, b = row
    registers = len(written)
    if not 0 <= opcode < len(OPCODES):
        return f"has unknown code {opcode}"
    if not pinned <= target < registers:
        return f"writes register {target}"
    if not (0 <= a < registers and 0 <= b < registers and written[a] and written[b]):
        return "reads a register that holds nothing"
    if target in {a, b} or (opcode not in _TWO and a != b):
        return "is malformed"
    return None
