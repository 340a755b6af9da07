"""The form kernels are generated in: single assignments, loads, stores and counted loops, and nothing else.

Code is written by running Python over `Value`s: every operator adds one statement. As `Value` answers the few NumPy
functions the reference kernels use, the reference itself can be run to write the code that does the same operations in
the same order. Printers: `ir` for the product, `c` for tests and benches; a statement is one operation in both.

    form = Form()
    with form.loop(count, lanes=True) as w:
        form.store("S", w, form.load("S", w) * 2.0)

Kinds of values: f double, i signed 64 bits, u unsigned 64 bits, b truth.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

STATEMENTS_MAX: Final = 60_000
# Arrays of a kernel and what they hold; an i32 array is read as i.
_INTEGERS: Final = frozenset("IK")
# Arrays a kernel changes: what is read from them is read anew each time.
_WRITTEN: Final = frozenset("SOG")
_COMPARED: Final = frozenset({"lt", "gt", "le", "ge", "eq", "ne"})


class TooLargeError(Exception):
    """The code would be longer than is worth compiling; the generic kernel serves such a model."""


@dataclass(frozen=True, slots=True)
class Let:
    """`name = op(args)`."""

    name: str
    kind: str
    op: str
    args: tuple[Value, ...]
    array: str = ""


@dataclass(frozen=True, slots=True)
class Store:
    """`array[index] = value`."""

    array: str
    index: Value
    value: Value


@dataclass(frozen=True, slots=True)
class Loop:
    """`for index in range(count)`; the passes of a loop over lanes do not depend on each other."""

    index: str
    count: Value
    lanes: bool
    body: list[Statement] = field(default_factory=list)


Statement = Let | Store | Loop


class Value:
    """A value of the program being written, or a constant of it."""

    __hash__ = None  # type: ignore[assignment]  # == writes a statement
    __slots__ = ("constant", "form", "kind", "name")

    def __init__(self, form: Form, kind: str, name: str, constant: float | None = None) -> None:
        self.form, self.kind, self.name, self.constant = form, kind, name, constant

    def __add__(self, other: Any) -> Value:
        return self.form.operate("add", self, other)

    def __radd__(self, other: Any) -> Value:
        return self.form.operate("add", other, self)

    def __sub__(self, other: Any) -> Value:
        return self.form.operate("sub", self, other)

    def __rsub__(self, other: Any) -> Value:
        return self.form.operate("sub", other, self)

    def __mul__(self, other: Any) -> Value:
        return self.form.operate("mul", self, other)

    def __rmul__(self, other: Any) -> Value:
        return self.form.operate("mul", other, self)

    def __truediv__(self, other: Any) -> Value:
        return self.form.operate("div", self, other)

    def __rtruediv__(self, other: Any) -> Value:
        return self.form.operate("div", other, self)

    def __neg__(self) -> Value:
        return self.form.operate("neg", self)

    def __rshift__(self, other: Any) -> Value:
        return self.form.operate("shr", self, other)

    def __lshift__(self, other: Any) -> Value:
        return self.form.operate("shl", self, other)

    def __and__(self, other: Any) -> Value:
        return self.form.operate("and", self, other)

    def __or__(self, other: Any) -> Value:
        return self.form.operate("or", self, other)

    def __xor__(self, other: Any) -> Value:
        return self.form.operate("xor", self, other)

    def __invert__(self) -> Value:
        return self.form.operate("not", self)

    def __lt__(self, other: Any) -> Value:
        return self.form.operate("lt", self, other)

    def __gt__(self, other: Any) -> Value:
        return self.form.operate("gt", self, other)

    def __le__(self, other: Any) -> Value:
        return self.form.operate("le", self, other)

    def __ge__(self, other: Any) -> Value:
        return self.form.operate("ge", self, other)

    def __eq__(self, other: object) -> Value:  # type: ignore[override]  # a statement, not an answer
        return self.form.operate("eq", self, other)

    def __ne__(self, other: object) -> Value:  # type: ignore[override]  # a statement, not an answer
        return self.form.operate("ne", self, other)

    def __bool__(self) -> bool:
        raise TypeError("a value of a program being written has no truth yet; use where")

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **_: Any) -> Any:
        name = _UFUNCS.get(ufunc.__name__)
        if method != "__call__" or name is None:
            return NotImplemented
        return self.form.operate(name, *inputs)

    def __array_function__(self, function: Any, _types: Any, args: Any, _named: Any) -> Any:
        write = _FUNCTIONS.get(function)
        return NotImplemented if write is None else write(self.form, *args)


class Row:
    """A row of the arena while code is written: reads give its present value, `row[:] = value` changes it.

    It is loaded where first read and stored by `Form.flush`, so that rows live in registers between.
    """

    def __init__(self, form: Form, array: str, index: Callable[[], Value]) -> None:
        self._form, self._array, self._index = form, array, index
        self._value: Value | None = None
        self._changed = False

    @property
    def value(self) -> Value:
        """What the row holds now."""
        if self._value is None:
            self._value = self._form.load(self._array, self._index())
        return self._value

    def __setitem__(self, _: slice, value: Any) -> None:
        self._value = self._form.value(value)
        self._changed = True

    def flush(self) -> None:
        """Writes the row back when it has changed, and forgets it."""
        if self._changed and self._value is not None:
            self._form.store(self._array, self._index(), self._value)
        self._value, self._changed = None, False

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **_: Any) -> Any:
        return self.value.__array_ufunc__(ufunc, method, *(plain(v) for v in inputs))

    def __array_function__(self, function: Any, types: Any, args: Any, named: Any) -> Any:
        return self.value.__array_function__(function, types, tuple(plain(v) for v in args), named)


def _delegate(name: str) -> Callable[..., Value]:
    def operator(self: Row, *others: Any) -> Value:
        result: Value = getattr(self.value, name)(*(plain(v) for v in others))
        return result

    return operator


for _name in ("add", "sub", "mul", "truediv", "and", "or"):
    setattr(Row, f"__{_name}__", _delegate(f"__{_name}__"))
    if _name not in {"and", "or"}:
        setattr(Row, f"__r{_name}__", _delegate(f"__r{_name}__"))
for _name in ("neg", "lt", "gt", "le", "ge", "eq", "ne"):
    setattr(Row, f"__{_name}__", _delegate(f"__{_name}__"))


def plain(value: Any) -> Any:
    """The value of a row, anything else as it is."""
    return value.value if isinstance(value, Row) else value


class Form:
    """One kernel being written: a list of statements and the loops that are open."""

    def __init__(self) -> None:
        self.body: list[Statement] = []
        self._open = [self.body]
        self._known: list[dict[tuple[Any, ...], Value]] = [{}]
        self._count = 0

    def argument(self, name: str) -> Value:
        """A number the kernel is called with; kind i."""
        return Value(self, "i", name)

    def value(self, given: Any, kind: str = "f") -> Value:
        """A value as it is, a number as a constant of `kind`."""
        given = plain(given)
        if isinstance(given, Value):
            return given
        if isinstance(given, np.uint64):
            return Value(self, "u", "", int(given))
        if kind == "f":
            return Value(self, "f", "", float(given))
        return Value(self, kind, "", int(given))

    def operate(self, op: str, *given: Any) -> Value:
        """One operation; equal operations of enclosing loops are written once."""
        given = tuple(plain(v) for v in given)
        kind = next(v.kind for v in given if isinstance(v, Value))
        args = tuple(self.value(v, kind) for v in given)
        if len({v.kind for v in args}) != 1 or (op in {"sqrt", "abs", "div"} and kind != "f"):
            raise TypeError(f"{op} of kinds {[v.kind for v in args]}")
        return self._let("b" if op in _COMPARED else kind, op, args)

    def where(self, condition: Value, yes: Any, no: Any) -> Value:
        """`yes` where the condition holds, else `no`."""
        condition, yes, no = plain(condition), plain(yes), plain(no)
        kind = next((v.kind for v in (yes, no) if isinstance(v, Value)), "f")
        args = (condition, self.value(yes, kind), self.value(no, kind))
        return self._let(kind, "where", args)

    def bits(self, value: Any) -> Value:
        """The 64 bits of a double."""
        return self._let("u", "bits", (self.value(value),))

    def real(self, value: Any) -> Value:
        """The double of 64 bits."""
        return self._let("f", "real", (self.value(value, "u"),))

    def load(self, array: str, index: Any) -> Value:
        """An element of an array."""
        kind = "i" if array in _INTEGERS else "f"
        return self._let(kind, "load", (self.value(index, "i"),), array)

    def truncate(self, value: Value) -> Value:
        """The whole number a double holds."""
        return self._let("i", "truncate", (value,))

    def store(self, array: str, index: Any, value: Any) -> None:
        """Sets an element of an array."""
        self._add(Store(array, self.value(index, "i"), self.value(value)))

    @contextmanager
    def loop(self, count: Any, *, lanes: bool = False) -> Generator[Value]:
        """Opens a loop; gives its index."""
        self._count += 1
        loop = Loop(f"v{self._count}", self.value(count, "i"), lanes)
        self._add(loop)
        self._open.append(loop.body)
        self._known.append({})
        yield Value(self, "i", loop.index)
        self._open.pop()
        self._known.pop()

    def _let(self, kind: str, op: str, args: tuple[Value, ...], array: str = "") -> Value:
        key = (op, array, *((v.kind, v.name, _exact(v.constant)) for v in args))
        if array not in _WRITTEN:
            for scope in self._known:
                if key in scope:
                    return scope[key]
        self._count += 1
        value = Value(self, kind, f"v{self._count}")
        self._add(Let(value.name, kind, op, args, array))
        self._known[-1][key] = value
        return value

    def _add(self, statement: Statement) -> None:
        if self._count > STATEMENTS_MAX:
            raise TooLargeError(f"more than {STATEMENTS_MAX} operations")
        self._open[-1].append(statement)


def _exact(constant: float | None) -> object:
    """A key that tells 0.0 from -0.0 and finds NaN again."""
    return struct.pack("<d", constant) if isinstance(constant, float) else constant


_UFUNCS: Final = {
    "add": "add", "subtract": "sub", "multiply": "mul", "divide": "div", "negative": "neg", "absolute": "abs",
    "sqrt": "sqrt", "less": "lt", "greater": "gt", "less_equal": "le", "greater_equal": "ge", "equal": "eq",
    "not_equal": "ne", "bitwise_and": "and", "bitwise_or": "or", "bitwise_xor": "xor", "invert": "not",
    "left_shift": "shl", "right_shift": "shr",
}  # fmt: skip
_FUNCTIONS: Final[dict[Any, Callable[..., Value]]] = {
    np.where: lambda form, condition, yes, no: form.where(condition, yes, no),
    np.zeros_like: lambda form, _: form.value(0.0),
    np.full_like: lambda form, _, value: form.value(value),
}
