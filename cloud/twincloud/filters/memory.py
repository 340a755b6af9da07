"""A filter as a predicate over one record in memory: a nested mapping, where what is missing is nothing."""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

from twincloud.filters.fields import Kind, Path
from twincloud.filters.tree import All, Node, Not, Op, Test

Record = Mapping[str, Any]
Predicate = Callable[[Record], bool]

_COMPARE: Final[Mapping[Op, Callable[[Any, Any], bool]]] = {
    Op.EQ: operator.eq,
    Op.NE: operator.ne,
    Op.LT: operator.lt,
    Op.LE: operator.le,
    Op.GT: operator.gt,
    Op.GE: operator.ge,
    Op.PREFIX: str.startswith,
}


def predicate_of(node: Node) -> Predicate:
    """The predicate of a tree."""
    if isinstance(node, Test):
        return _test(node)
    if isinstance(node, Not):
        part = predicate_of(node.part)
        return lambda record: not part(record)
    parts = tuple(predicate_of(part) for part in node.parts)
    if isinstance(node, All):
        return lambda record: all(part(record) for part in parts)
    return lambda record: any(part(record) for part in parts)


def value_at(record: Record, path: Path) -> Any:
    """What a record has at a path, None when it has nothing there."""
    found: Any = record
    for step in path:
        if not isinstance(found, Mapping):
            return None
        found = found.get(step)
    return found


def _test(test: Test) -> Predicate:
    path, values = test.path, test.values
    if test.op is Op.NULL:
        return lambda record: value_at(record, path) is None
    if test.op is Op.HAS:
        return lambda record: _has(value_at(record, path), values[0])
    if test.op is Op.IN:
        return lambda record: _any_equal(value_at(record, path), values)
    compare, right = _COMPARE[test.op], values[0]
    if test.kind is not Kind.VALUE:
        return lambda record: (left := value_at(record, path)) is not None and compare(left, right)
    return lambda record: _alike(left := value_at(record, path), right) and compare(left, right)


def _any_equal(left: object, values: tuple[object, ...]) -> bool:
    return left is not None and any(_alike(left, right) and left == right for right in values)


def _alike(left: object, right: object) -> bool:
    """Whether both are texts, booleans, or numbers: 1 is not true."""
    if isinstance(left, bool) or isinstance(right, bool):
        return isinstance(left, bool) and isinstance(right, bool)
    if isinstance(right, str):
        return isinstance(left, str)
    return isinstance(left, int | float) and isinstance(right, int | float)


def _has(found: object, name: object) -> bool:
    return isinstance(found, Collection) and not isinstance(found, str) and name in found
