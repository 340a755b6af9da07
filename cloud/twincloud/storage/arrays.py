"""Statements of one row as statements of many: parameters go to PostgreSQL as arrays, one round trip for all.

    SELECT x FROM t WHERE k = :k   ─▶  SELECT f.* FROM unnest(:k[]) WITH ORDINALITY AS p JOIN LATERAL (... k = p.k) f
    INSERT INTO t VALUES (:a, :b)  ─▶  INSERT INTO t SELECT * FROM unnest(:a[], :b[])
    UPDATE t SET a = :a WHERE :key ─▶  UPDATE t SET a = p.a FROM unnest(:a[], :key[]) AS p WHERE k = p.key

COPY would be no faster (5,300 blocks/s both, in batches of 256) and PostgreSQL refuses it on tables with row-level
security; copied into a table aside and inserted from there it is slower.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import psycopg
from sqlalchemy import BigInteger, Boolean, ClauseElement, Integer, LargeBinary, SmallInteger, String, Table
from sqlalchemy.engine import Dialect
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.dml import Insert, Update
from sqlalchemy.types import TypeEngine

from twincloud.storage.database import Row

_KEY: Final = "key"
_ARRAYS: Final[tuple[tuple[type[TypeEngine[Any]], str], ...]] = (
    (SmallInteger, "int2"),
    (BigInteger, "int8"),
    (Integer, "int8"),
    (Boolean, "bool"),
    (String, "text"),
    (LargeBinary, "bytea"),
)
_BIND: Final = re.compile(r"(?<!:):(\w+)")


@dataclass(frozen=True, slots=True)
class Compiled:
    """A statement as the server gets it, and the names of its parameters in their order.

    Attributes:
        one: for one set of parameters, `%(name)s` each.
        many: for arrays of parameters, `%(name)b` each; "" when it cannot be written so.
    """

    one: str
    many: str


class Statements:
    """Compiles each statement of a module once: it takes longer to compile, and to bind, than to run."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._known: dict[tuple[ClauseElement | str, tuple[str, ...]], Compiled] = {}

    def reading(self, statement: ClauseElement, rows: Sequence[Row]) -> tuple[bytes, Mapping[str, Any]]:
        """Text and parameters that give what `statement` finds for each row, in the order of the rows."""
        compiled = self._compiled(statement, rows[0])
        if len(rows) == 1 or not compiled.many:
            return compiled.one.encode(), rows[0]
        return compiled.many.encode(), _columns(rows)

    def write(self, cursor: psycopg.Cursor[Any], statement: ClauseElement, rows: Sequence[Row]) -> None:
        """Runs an insert, or an update or delete, for each row."""
        compiled = self._compiled(statement, rows[0])
        if len(rows) == 1:
            cursor.execute(compiled.one.encode(), rows[0])
        elif compiled.many and (isinstance(statement, Insert) or len({row[_KEY] for row in rows}) == len(rows)):
            cursor.execute(compiled.many.encode(), _columns(rows))
        else:
            cursor.executemany(compiled.one.encode(), rows)

    def upsert(self, cursor: psycopg.Cursor[Any], table: Table, rows: Sequence[Row]) -> None:
        """Inserts rows, or updates those whose primary key exists; of rows with one key the last counts."""
        names = tuple(rows[0])
        known = self._known.get((table.name, names))
        keys = [column.name for column in table.primary_key]
        if known is None:
            new = ", ".join(f'"{name}" = excluded."{name}"' for name in names if name not in keys)
            then = f"DO UPDATE SET {new}" if new else "DO NOTHING"
            places = ", ".join(f'"{key}"' for key in keys)
            text = f"{_insert(table, names)} ON CONFLICT ({places}) {then}"
            known = self._known[table.name, names] = Compiled(text, text)
        last = {tuple(row[key] for key in keys): row for row in rows}
        cursor.execute(known.many.encode(), _columns(list(last.values())))

    def _compiled(self, statement: ClauseElement, row: Row) -> Compiled:
        key = (statement, tuple(row))
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = self._compile(statement, row)
        return known

    def _compile(self, statement: ClauseElement, row: Row) -> Compiled:
        compiled = statement.compile(dialect=self._dialect, column_keys=list(row), for_executemany=True)
        assert isinstance(compiled, SQLCompiler)
        text = str(compiled)
        one = _BIND.sub(r"%(\1)s", text.replace("%", "%%"))
        if isinstance(statement, Insert):
            return Compiled(one, _insert(statement.table, tuple(row)))  # type: ignore[arg-type] # tables alone
        types = {name: _array(bind.type) for name, bind in compiled.binds.items()}
        if not row or set(types) != set(row) or not all(types.values()):
            return Compiled(one, "")
        arrays = ", ".join(f"%({name})b::{types[name]}[]" for name in row)
        names = ", ".join(f'"{name}"' for name in row)
        inner = _BIND.sub(r'p."\1"', text.replace("%", "%%"))
        if isinstance(statement, Update):
            whole = _KEY in row and inner.count(" WHERE ") == 1
            source = f" FROM unnest({arrays}) AS p({names}) WHERE "
            return Compiled(one, inner.replace(" WHERE ", source) if whole else "")
        if not inner.startswith("SELECT"):
            return Compiled(one, "")
        rows = f"unnest({arrays}) WITH ORDINALITY AS p({names}, place_of_row)"
        many = f"SELECT f.* FROM {rows} CROSS JOIN LATERAL ({inner}) AS f ORDER BY p.place_of_row"  # noqa: S608 - text of ours; values are parameters
        return Compiled(one, many)


def _insert(table: Table, names: Sequence[str]) -> str:
    columns = ", ".join(f'"{name}"' for name in names)
    arrays = ", ".join(f"%({name})b::{_array(table.c[name].type)}[]" for name in names)
    return f'INSERT INTO "{table.name}" ({columns}) SELECT * FROM unnest({arrays})'  # noqa: S608 - as above


def _array(kind: TypeEngine[Any]) -> str:
    return next((name for known, name in _ARRAYS if isinstance(kind, known)), "")


def _columns(rows: Sequence[Row]) -> dict[str, list[Any]]:
    return {name: [row[name] for row in rows] for name in rows[0]}
