"""Equations of a package as text again: its op-lists or matrices, written with the names of the manifest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from twinmodel.package.archive import ModelPackage

F64 = NDArray[np.float64]
TEXT_MAX: Final = 4_000
_SUM, _PRODUCT, _SIGN, _ATOM = 1, 2, 3, 4
# How operations 0 to 16 are written and how tightly that binds; what binds less goes into parentheses.
_INFIX: Final = {0: ("+", _SUM), 1: ("-", _SUM), 2: ("*", _PRODUCT), 3: ("/", _PRODUCT)}
_CALLS: Final = {
    5: "abs", 6: "sqrt", 7: "min", 8: "max", 9: "exp", 10: "log", 11: "tanh", 12: "sin", 13: "cos", 14: "pow",
    15: "less", 16: "select",
}  # fmt: skip
_NEG, _SELECT, _DENSE, _TABLE, _TABLE2 = 4, 16, 17, 18, 19
_ARGUMENTS: Final = dict.fromkeys((5, 6, 9, 10, 11, 12, 13, _TABLE), 1) | {_SELECT: 3}


def equations(package: ModelPackage) -> dict[str, str]:
    """Left side -> right side of every equation, states first (`x'` or `x+`, the value a tick later), then outputs.

    What is too long to read is cut short; two that differ may then look alike, so programs are compared too.
    """
    manifest, tensors = package.manifest, package.tensors
    states, outputs = [s.name for s in manifest.states], [o.name for o in manifest.outputs]
    if manifest.kernel == "linear":
        inputs = [i.name for i in manifest.inputs]
        rows = zip(states, tensors["A"], tensors["B"], tensors["a"], strict=True)
        found = {f"{name}+": _linear(states, inputs, *row) for name, *row in rows}
        readings = zip(outputs, tensors["C"], tensors["D"], tensors["c"], strict=True)
        return found | {name: _linear(states, inputs, *row) for name, *row in readings}
    mark = "+" if "map" in _integrator(manifest) else "'"
    rates = _programme(package, tensors["rates"], tensors["rate_results"])
    found = {f"{name}{mark}": text for name, text in zip(states, rates, strict=True)}
    return found | dict(zip(outputs, _programme(package, tensors["readings"], tensors["reading_results"]), strict=True))


def _integrator(manifest: object) -> str:
    return str(getattr(manifest, "integrator", "rk4"))


def _linear(states: Sequence[str], inputs: Sequence[str], of_x: F64, of_u: F64, rest: float) -> str:
    terms = [(float(k), name) for k, name in zip((*of_x, *of_u), (*states, *inputs), strict=True) if k != 0.0]
    text = "".join(f" {'-' if k < 0 else '+'} {abs(k)!r}*{name}" for k, name in terms)
    if rest != 0.0 or not text:
        text += f" {'-' if rest < 0 else '+'} {abs(float(rest))!r}"
    return text.removeprefix(" + ").replace(" - ", "-", 1) if text.startswith(" - ") else text.removeprefix(" + ")


class _Text:
    """An expression and how tightly it binds."""

    __slots__ = ("binds", "text")

    def __init__(self, text: str, binds: int = _ATOM) -> None:
        self.text = text if len(text) <= TEXT_MAX else f"{text[: TEXT_MAX // 2]} ... {text[-TEXT_MAX // 4 :]}"
        self.binds = binds

    def within(self, binds: int) -> str:
        return self.text if self.binds >= binds else f"({self.text})"


def _programme(package: ModelPackage, code: NDArray[np.int32], results: NDArray[np.int32]) -> list[str]:
    """Text of each result; registers are followed in the order of the rows, because they are used again."""
    manifest = package.manifest
    names = [e.name for group in (manifest.states, manifest.inputs, manifest.params) for e in group]
    registers = {at: _Text(name) for at, name in enumerate(names)}
    for at, value in enumerate(package.tensors["consts"].tolist(), len(names)):
        registers[at] = _Text(f"{value!r}".removesuffix(".0"), _ATOM if value >= 0 else _SIGN)
    for row in code.tolist():
        _follow(row, registers)
    return [registers[at].text for at in results.tolist()]


def _follow(row: Sequence[int], registers: dict[int, _Text]) -> None:
    opcode, target, a, b, *more = row
    if opcode == _DENSE:
        place, count = more
        read = ", ".join(registers[a + k].text for k in range(b))
        for k in range(count):
            registers[target + k] = _Text(f"dense@{place}[{k}]({read})")
        return
    registers[target] = _written(opcode, [registers.get(at, _Text("?")) for at in (a, b, *more[:1])], row)


def _written(opcode: int, given: Sequence[_Text], row: Sequence[int]) -> _Text:
    first, second = given[0], given[1]
    if opcode in _INFIX:
        sign, binds = _INFIX[opcode]
        # Also a + (b + c) keeps its parentheses: another order gives other bits.
        return _Text(f"{first.within(binds)} {sign} {second.within(binds + 1)}", binds)
    if opcode == _NEG:
        return _Text(f"-{first.within(_SIGN)}", _SIGN)
    texts = ", ".join(t.text for t in given[: _ARGUMENTS.get(opcode, 2)])
    table = f"table@{row[4]}" if opcode in {_TABLE, _TABLE2} else f"operation{opcode}"
    return _Text(f"{_CALLS.get(opcode, table)}({texts})")
