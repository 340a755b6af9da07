"""A filter as a condition on rows: what it says of columns exactly, and of anything else nothing.

A test of a field that is no column can go either way. So two conditions are built at once, one that every matching
row fulfils and one that only matching rows fulfil; `not` swaps them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from sqlalchemy import ColumnElement, and_, false, func, not_, or_, true

from twincloud.filters.fields import ANY, Path
from twincloud.filters.tree import All, Node, Not, Op, Test

Columns = Mapping[str, ColumnElement[Any] | Callable[[Path], ColumnElement[Any]]]
"""Field by its declared name -> column or expression, for a name with `*` also a function of the path that was written.

NULL where the record has nothing. Names of a mapping (`tags has "line"`) are found by its members (`tags.*`).
"""

_SIMPLE: Final[Mapping[Op, Callable[[ColumnElement[Any], object], ColumnElement[bool]]]] = {
    Op.EQ: lambda column, value: column == value,
    Op.NE: lambda column, value: column != value,
    Op.LT: lambda column, value: column < value,
    Op.LE: lambda column, value: column <= value,
    Op.GT: lambda column, value: column > value,
    Op.GE: lambda column, value: column >= value,
}


def condition_of(node: Node, columns: Columns, *, certain: bool) -> ColumnElement[bool]:
    """A condition that is never NULL.

    Args:
        node: the filter.
        columns: what is a column.
        certain: whether only matching rows fulfil it; otherwise all of them do, and perhaps others.
    """
    if isinstance(node, Test):
        column = _column(node, columns)
        if column is None:
            return false() if certain else true()
        return _test(node, column)
    if isinstance(node, Not):
        return not_(condition_of(node.part, columns, certain=not certain))
    parts = [condition_of(part, columns, certain=certain) for part in node.parts]
    return and_(true(), *parts) if isinstance(node, All) else or_(false(), *parts)


def _column(test: Test, columns: Columns) -> ColumnElement[Any] | None:
    name, path = test.name, test.path
    if test.op is Op.HAS:
        name, path = f"{name}.{ANY}", (*path, str(test.values[0]))
    found = columns.get(name)
    return found(path) if callable(found) else found


def _test(test: Test, column: ColumnElement[Any]) -> ColumnElement[bool]:
    if test.op is Op.NULL:
        return column.is_(None)
    if test.op is Op.HAS:
        return column.is_not(None)
    return and_(column.is_not(None), _comparison(test, column))


def _comparison(test: Test, column: ColumnElement[Any]) -> ColumnElement[bool]:
    value = test.values[0]
    if isinstance(value, bool):
        same = column.is_(value) if test.op in (Op.EQ, Op.NE) else column.in_(test.values)
        return not_(same) if test.op is Op.NE else same
    if test.op is Op.IN:
        return column.in_(test.values)
    if test.op is Op.PREFIX:
        # LIKE folds case on one engine and not on the other.
        return func.substr(column, 1, len(str(value))) == value
    return _SIMPLE[test.op](column, value)


def is_exact(node: Node, columns: Columns) -> bool:
    """Whether the condition says all that the filter does."""
    if isinstance(node, Test):
        return _column(node, columns) is not None
    parts = (node.part,) if isinstance(node, Not) else node.parts
    return all(is_exact(part, columns) for part in parts)
