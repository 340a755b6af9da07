"""Statements of one row as statements of many, for SQLite: one step of the engine for all rows.

    SELECT x FROM t WHERE k = ?   ─▶  WITH p(c0) AS (VALUES (?), (?)) SELECT x FROM p CROSS JOIN t WHERE k = p.c0
    INSERT INTO t (a) VALUES (?)  ─▶  INSERT INTO t (a) VALUES (?), (?)
    UPDATE t SET a=? WHERE k = ?  ─▶  WITH p(c0, c1) AS (...) UPDATE t SET a=p.c0 FROM p WHERE k = p.c1

The driver gives the interpreter away for each step and must get it back after: row by row, a thread that commits beside
busy ones waits for each row anew. Rows go in runs of powers of two, so that few texts are prepared.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import ClauseElement, Select
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.dml import Insert, Update

RUN_MAX: Final = 64
_VALUES = re.compile(r"VALUES (\((?:\?, )*\?\))")
_AGGREGATE = re.compile(r"\b(?:max|min|count|sum|group_concat|coalesce)\(", re.IGNORECASE)
_MARK = re.compile(r"\?")

Values = Sequence[Any]


@dataclass(slots=True)
class Compiled:
    """A statement as SQLite gets it.

    Attributes:
        text: for one row.
        names: parameters in the order of their places.
        keys: places that tell rows apart; rows that agree in all of them must go one by one.
        before, after: what stands before and after the values of many rows; both empty when there is no such text.
    """

    text: str
    names: tuple[str, ...]
    keys: tuple[int, ...] = ()
    before: str = ""
    after: str = ""
    _texts: dict[int, str] = field(default_factory=dict)

    def parts(self, rows: Sequence[Values]) -> Iterator[tuple[str, Values]]:
        """Texts and their values that do what `text` does for each row, in their order; at least two rows."""
        start = 0
        while start < len(rows):
            size = min(RUN_MAX, 1 << ((len(rows) - start).bit_length() - 1))
            if size == 1:
                yield self.text, rows[start]
            else:
                yield self._of(size), [value for row in rows[start : start + size] for value in row]
            start += size

    def many(self, rows: Sequence[Values]) -> bool:
        """Whether these rows can go together."""
        if len(rows) < 2 or not self.before:
            return False
        return not self.keys or len({tuple(row[place] for place in self.keys) for row in rows}) == len(rows)

    def _of(self, size: int) -> str:
        known = self._texts.get(size)
        if known is None:
            group = f"({', '.join('?' * len(self.names))})"
            known = self._texts[size] = f"{self.before}{', '.join([group] * size)}{self.after}"
        return known


def compiled_of(statement: ClauseElement, compiled: SQLCompiler) -> Compiled:
    """The statement, with the text for many rows when there is a sure one."""
    text, names = str(compiled), tuple(compiled.positiontup or ())
    if not names or text.count("?") != len(names):
        return Compiled(text, names)
    if isinstance(statement, Insert):
        found = _VALUES.search(text)
        if found is None or found[1].count("?") != len(names):
            return Compiled(text, names)
        return Compiled(text, names, (), f"{text[: found.start(1)]}", text[found.end(1) :])
    return _joined(statement, text, names)


def _joined(statement: ClauseElement, text: str, names: tuple[str, ...]) -> Compiled:
    """The same for a statement that looks for rows: for many it is joined with the values."""
    places = iter(range(len(names)))
    named = _MARK.sub(lambda _: f"p.c{next(places)}", text)
    head = f"WITH p({', '.join(f'c{place}' for place in range(len(names)))}) AS (VALUES "
    if isinstance(statement, Update):
        before, where, after = named.partition(" WHERE ")
        if not where or " WHERE " in after:
            return Compiled(text, names)
        keys = tuple(range(before.count("p.c"), len(names)))
        return Compiled(text, names, keys, head, f") {before} FROM p WHERE {after}")
    before, start, after = named.partition("\nFROM ")
    if not start or not _is_plain(statement, before):
        return Compiled(text, names)
    return Compiled(text, names, (), head, f") {before}\nFROM p CROSS JOIN {after}")


def _is_plain(statement: ClauseElement, columns: str) -> bool:
    """Whether what a select finds for many rows is what it finds for each of them."""
    return (
        isinstance(statement, Select)
        and columns.count("(") == columns.count(")")
        and _AGGREGATE.search(columns) is None
        and not columns.startswith("SELECT DISTINCT")
        and not statement._group_by_clauses  # noqa: SLF001 there is no other way to ask
        and not statement._order_by_clauses  # noqa: SLF001 as above
        and statement._limit_clause is None  # noqa: SLF001 as above
        and statement._offset_clause is None  # noqa: SLF001 as above
    )
