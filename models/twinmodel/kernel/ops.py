"""The one table of the op-list machine: number, name and arguments of every operation, and the limits of a program.

    row    opcode | dst | a | b | c | d     int32, columns an operation does not use are 0
    less   dst = 1 if a < b else 0          select  dst = b if a > 0 else c
    dense  dst+j = bias[j] + W[j,0]*a + W[j,1]*(a+1) + ...   b inputs, d outputs, c = place of bias | W in the pool
    lookup1, lookup2   linear between points of a table in the pool at c, held at its ends
                       n | xs | ys     or     n | m | xs | ys | values (n x m, row by row)

NaN in gives NaN out for every operation but less and select; a NaN condition selects c.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

COLUMNS: Final = 6
OPS_MAX: Final = 2048
REGISTERS_MAX: Final = 1024
POOL_MAX: Final = 65536
# Additions and multiplications of one run of a program, and of one tick.
WORK_MAX: Final = 1 << 18
TICK_WORK_MAX: Final = 1 << 24

ADD: Final = 0
SUB: Final = 1
MUL: Final = 2
DIV: Final = 3
NEG: Final = 4
ABS: Final = 5
SQRT: Final = 6
MIN: Final = 7
MAX: Final = 8
EXP: Final = 9
LOG: Final = 10
TANH: Final = 11
SIN: Final = 12
COS: Final = 13
POW: Final = 14
LESS: Final = 15
SELECT: Final = 16
DENSE: Final = 17
LOOKUP1: Final = 18
LOOKUP2: Final = 19

RK4: Final = 0
MAP: Final = 1
ROS2: Final = 2
INTEGRATORS: Final = {"rk4": RK4, "map": MAP, "ros2": ROS2}


@dataclass(frozen=True, slots=True)
class Operation:
    """One kind of row.

    Attributes:
        name: what it is called in expressions.
        sources: how many registers it reads, from column a on; for `dense` the first of b.
        pooled: whether column c is a place in the pool.
        work: additions and multiplications it stands for, dense aside.
    """

    name: str
    sources: int
    pooled: bool = False
    work: int = 1


OPERATIONS: Final[dict[int, Operation]] = {
    ADD: Operation("add", 2), SUB: Operation("sub", 2), MUL: Operation("mul", 2), DIV: Operation("div", 2),
    NEG: Operation("neg", 1), ABS: Operation("abs", 1), SQRT: Operation("sqrt", 1),
    MIN: Operation("min", 2), MAX: Operation("max", 2),
    EXP: Operation("exp", 1, work=16), LOG: Operation("log", 1, work=16), TANH: Operation("tanh", 1, work=32),
    SIN: Operation("sin", 1, work=32), COS: Operation("cos", 1, work=32), POW: Operation("pow", 2, work=128),
    LESS: Operation("less", 2), SELECT: Operation("select", 3),
    DENSE: Operation("dense", 1, pooled=True),
    LOOKUP1: Operation("lookup1", 1, pooled=True, work=32), LOOKUP2: Operation("lookup2", 2, pooled=True, work=64),
}  # fmt: skip
OPCODES: Final = {operation.name: number for number, operation in OPERATIONS.items()}
