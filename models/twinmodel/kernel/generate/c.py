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


def print_c(name: str, form: Form, arrays: str, numbers: tuple[str, ...]) -> str:
    """A translation unit with one function `void name(void **places, int64_t *sizes)`.

    Args:
        name: of the function.
        form: its body.
        arrays: one letter an array, in the order of the addresses; I and K hold int32, the others double.
        numbers: names of the whole numbers that follow the lengths.
    """
    read_only = {"I", "K", "M", "Z"}
    parameters = [
        f"{'const ' if a in read_only else ''}{'int32_t' if a in 'IK' else 'double'} *restrict {a}" for a in arrays
    ]
    parameters += [f"int64_t {a}_" for a in arrays] + [f"int64_t {number}" for number in numbers]
    given = [f"places[{k}]" for k in range(len(arrays))] + [f"sizes[{k}]" for k in range(len(arrays) + len(numbers))]
    lines = [_HEAD, f"static void body({', '.join(parameters)}) {{"]
    _Printer(lines).block(form.body, 1)
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
                        self._lines.append(f"{pad}const {_TYPES[statement.kind]} {statement.name} = {text};")
                case Store(array, index, value):
                    self._lines.append(f"{pad}{array}[{self._value(index)}] = {self._value(value)};")
                case Loop(index, count, lanes, body):
                    if lanes:
                        self._lines.append("#pragma GCC ivdep")
                    self._lines.append(f"{pad}for (int64_t {index} = 0; {index} < {self._value(count)}; {index}++) {{")
                    self.block(body, depth + 1)
                    self._lines.append(f"{pad}}}")

    def _expression(self, let: Let) -> str:
        args = [self._value(v) for v in let.args]
        if let.op in _BINARY:
            return f"{args[0]} {_BINARY[let.op]} {args[1]}"
        if let.op == "load":
            return f"{let.array}[{args[0]}]"
        return _SHAPES[let.op].format(*args)

    def _value(self, value: Value) -> str:
        if value.constant is None:
            return self._truths.get(value.name, value.name)
        if value.kind == "f":
            return _double(float(value.constant))
        return f"{value.constant}{'ULL' if value.kind == 'u' else 'LL'}"


def _double(value: float) -> str:
    if math.isnan(value):
        return '__builtin_nan("")'
    if math.isinf(value):
        return "__builtin_inf()" if value > 0 else "(-__builtin_inf())"
    return f"({value.hex()})"
