"""A filter that was read and checked."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from sqlalchemy import ColumnElement

from twincloud.filters.fields import Fields
from twincloud.filters.grammar import tree_of
from twincloud.filters.memory import Predicate, Record, predicate_of
from twincloud.filters.sql import Columns, condition_of, is_exact
from twincloud.filters.tree import Node, tests_of


@dataclass(frozen=True)
class Filter:
    """What `parse` read; the same text over the same fields is the same filter."""

    text: str
    tree: Node

    def sql(self, columns: Columns) -> ColumnElement[bool]:
        """A condition that every matching row fulfils; see `exact` for whether only those do.

        Args:
            columns: field by its declared name -> column or expression; fields that are not among them are left open.
        """
        return condition_of(self.tree, columns, certain=False)

    def exact(self, columns: Columns) -> bool:
        """Whether `sql` says all of it, so that no row need be looked at again by `matches`."""
        return is_exact(self.tree, columns)

    def matches(self, record: Record) -> bool:
        """Whether one record passes: a nested mapping by the steps of field names; what is missing is nothing."""
        return self._predicate(record)

    @cached_property
    def names(self) -> frozenset[str]:
        """Declared names of the fields it looks at."""
        return frozenset(test.name for test in tests_of(self.tree))

    @cached_property
    def _predicate(self) -> Predicate:
        return predicate_of(self.tree)


def parse(text: str, fields: Fields) -> Filter:
    """Reads a filter.

    Args:
        text: at most 1,000 characters, 10 levels deep, 50 terms.
        fields: what it may name.

    Raises:
        InputError: FILTER_INVALID with `column`, `expected` and the `nearest` field.
    """
    return Filter(text, tree_of(text, fields))
