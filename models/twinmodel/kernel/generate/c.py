"""Prints a `Form` as strict C: the yardstick of tests and benches, never loaded by the product.

The same operations in the same order; with FLAGS no compiler may contract or reorder them. The arguments are those of
`machine.ENTRY`, so that a library built from the text is called as any other kernel.
"""

from __future__ import annotations

import math
from typing import Final

from twinmodel.kernel.generate.form import Form, Let, Loop, Statement, Store, Value

# Flags that keep every bit; errno and traps are told to be of no interest, which only makes C faster.
FLAGS: Final = ("-O3", "-march=native", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-std=gnu11")
_BINARY: Final = {
    "add": "+", "sub": "-", "mul": "*", "div": "/", "shr": ">>", "shl": "<<", "and": "&", "or": "|", "xor": "^",
    "quotient": "/",
    "lt": "<", "gt": ">", "le": "<=", "ge": ">=", "eq": "==", "ne": "!=",
}  # fmt: skip
_SHAPES: Final = {
    "where": "{} ? {} : {}", "neg": "-{}", "not": "!{}", "sqrt": "__builtin_sqrt({})", "abs": "__builtin_fabs({})",
    "bits": "bits({})", "real": "real({})", "truncate": "(int64_t){}",
}  # fmt: skip
_TYPES: Final = {"f": "double", "i": "int64_t", "u": "uint64_t"}
_HEAD: Final = """#include <stdint.h>
#include <string.h>
static inline uint64_t bits(double x) { uint64_t b; memcpy(&b, &x, 8); return b; }
static inline double real(uint64_t b) { double x; memcpy(&x, &b, 8); return x; }
"""


# Lanes of a tile as one vector of GCC and clang. `V` makes one of a number; subtracting 0 changes no bit.
_VECTORS: Final = """typedef double vd __attribute__((vector_size(64), aligned(8), may_alias));
typedef int64_t vi __attribute__((vector_size(64), aligned(8), may_alias));
typedef uint64_t vu __attribute__((vector_size(64), aligned(8), may_alias));
#define V(x) ((x) - (vd){0})
#define CHOOSE(c, a, b) ((vd)(((c) & (vi)V(a)) | (~(c) & (vi)V(b))))
static inline vd vsqrt(vd x) { vd y; for (int k = 0; k < 8; k++) y[k] = __builtin_sqrt(x[k]); return y; }
static inline vd vabs(vd x) { return (vd)((vu)x & 0x7fffffffffffffffULL); }
"""


def print_c(name: str, form: Form, arrays: str, numbers: tuple[str, ...], *, vectors: bool = False) -> str:
    """A translation unit with one function `void name(void **places, int64_t *sizes)`.

    Args:
        name: of the function.
        form: its body.
        arrays: one letter an array, in the order of the addresses; I and K hold int32, the others double.
        numbers: names of the whole numbers that follow the lengths.
        vectors: writes loops over lanes, in steps of 8, in vectors, because GCC 12 turns few of them into vector code
            by itself: the fastest C of this form, for a form made with `lanes=8` and called with 8 lanes.

    Raises:
        TypeError: when `vectors` is asked of a form that looks up tables.
    """
    read_only = {"I", "K", "M", "Z"}
    parameters = [
        f"{'const ' if a in read_only else ''}{'int32_t' if a in 'IK' else 'double'} *restrict {a}" for a in arrays
    ]
    parameters += [f"int64_t {a}_" for a in arrays] + [f"int64_t {number}" for number in numbers]
    given = [f"places[{k}]" for k in range(len(arrays))] + [f"sizes[{k}]" for k in range(len(arrays) + len(numbers))]
    lines = [_HEAD + (_VECTORS if vectors else ""), f"static void body({', '.join(parameters)}) {{"]
    (_VectorPrinter if vectors else _Printer)(lines).block(form.body, 1)
    lines += ["}", f"void {name}(void **places, int64_t *sizes) {{ body({', '.join(given)}); }}", ""]
    return "\n".join(lines)


class _Printer:
    def __init__(self, lines: list[str]) -> None:
        self._lines = lines
        # Truths are printed where they are used: compilers vectorise them only so.
        self._truths: dict[str, str] = {}

    def block(self, statements: list[Statement], depth: int) -> None:
        pad = "  " * depth
        for statement in statements:
            match statement:
                case Let():
                    text = self._expression(statement)
                    if statement.kind == "b":
                        self._truths[statement.name] = f"({text})"
                    else:
                        self._lines.append(f"{pad}const {self._type(statement)} {statement.name} = {text};")
                case Store(array, index, value):
                    self._lines.append(f"{pad}{self._place(array, index)} = {self._stored(index, value)};")
                case Loop(index, count, lanes, body):
                    self._lines += ["#pragma GCC ivdep"] if lanes else []
                    step = self._enter(statement)
                    self._lines.append(
                        f"{pad}for (int64_t {index} = 0; {index} < {self._value(count)}; {index} += {step}) {{"
                    )
                    self.block(body, depth + 1)
                    self._lines.append(f"{pad}}}")

    def _enter(self, _: Loop) -> int:
        return 1

    def _type(self, let: Let) -> str:
        return _TYPES[let.kind]

    def _stored(self, _: Value, value: Value) -> str:
        return self._value(value)

    def _place(self, array: str, index: Value) -> str:
        return f"{array}[{self._value(index)}]"

    def _expression(self, let: Let) -> str:
        args = [self._value(v) for v in let.args]
        if let.op in _BINARY:
            return f"{args[0]} {_BINARY[let.op]} {args[1]}"
        if let.op == "load":
            return self._place(let.array, let.args[0])
        return _SHAPES[let.op].format(*args)

    def _value(self, value: Value) -> str:
        if value.constant is None:
            return self._truths.get(value.name, value.name)
        if value.kind == "f":
            return _double(float(value.constant))
        return f"{value.constant}{'ULL' if value.kind == 'u' else 'LL'}"


class _VectorPrinter(_Printer):
    """Prints what differs from lane to lane as vectors."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__(lines)
        self._varying: set[str] = set()

    def _enter(self, loop: Loop) -> int:
        if not loop.lanes:
            return 1
        self._varying.add(loop.index)
        return 8

    def _type(self, let: Let) -> str:
        if not self._varies(*let.args):
            return _TYPES[let.kind]
        self._varying.add(let.name)
        return {"f": "vd", "i": "int64_t", "u": "vu"}[let.kind]

    def _stored(self, index: Value, value: Value) -> str:
        alike = self._varies(index) and not self._varies(value)
        return f"V({self._value(value)})" if alike else self._value(value)

    def _place(self, array: str, index: Value) -> str:
        place = super()._place(array, index)
        return f"*(vd *)&{place}" if self._varies(index) else place

    def _expression(self, let: Let) -> str:
        if not self._varies(*let.args):
            return super()._expression(let)
        args = [self._value(v) for v in let.args]
        if let.kind == "b":
            self._varying.add(let.name)
        if let.op == "truncate":
            raise TypeError("a table is looked up lane by lane")
        if let.op == "where":
            same = self._varies(let.args[0])
            return f"CHOOSE({args[0]}, {args[1]}, {args[2]})" if same else f"{args[0]} ? V({args[1]}) : V({args[2]})"
        shapes = {"not": "~{}", "sqrt": "vsqrt({})", "abs": "vabs({})", "bits": "(vu)({})", "real": "(vd)({})"}
        return shapes[let.op].format(*args) if let.op in shapes else super()._expression(let)

    def _varies(self, *values: Value) -> bool:
        return any(value.name in self._varying for value in values)


def _double(value: float) -> str:
    if math.isnan(value):
        return '__builtin_nan("")'
    if math.isinf(value):
        return "__builtin_inf()" if value > 0 else "(-__builtin_inf())"
    return f"({value.hex()})"
