"""SQL and memory say the same of a record; what is no column is never filtered out by SQL."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    Integer,
    MetaData,
    String,
    Table,
    create_engine,
    insert,
    select,
)

from twincloud.filters import Field, Fields, Kind, parse

TABLE = Table(
    "things", MetaData(), Column("id", Integer, primary_key=True), Column("name", String), Column("on", Boolean),
    Column("count", BigInteger), Column("level", Float), Column("seen", BigInteger), Column("age", BigInteger),
)  # fmt: skip
KINDS = {"name": Kind.TEXT, "on": Kind.BOOLEAN, "count": Kind.WHOLE, "level": Kind.NUMBER, "seen": Kind.TIME}
KINDS |= {"age": Kind.DURATION}
FIELDS = Fields((*(Field(name, kind) for name, kind in KINDS.items()), Field("value.*", Kind.VALUE)))
COLUMNS = {name: TABLE.c[name] for name in KINDS}

NAMES = ("", "mill", "Mill", "milk", "m%", "m_l", "ümlaut", "O'Hara", 'a"b', "\\")
TIMES = {0: "1970-01-01T00:00:00Z", 1: "1970-01-01T00:00:00.000000001Z", 10**18: "2001-09-09T01:46:40Z"}
RECORDS = st.fixed_dictionaries(
    {
        "name": st.none() | st.sampled_from(NAMES),
        "on": st.none() | st.booleans(),
        "count": st.none() | st.integers(-3, 3) | st.just(2**63 - 1),
        "level": st.none() | st.sampled_from([-1.5, 0.0, 0.1, 2.0, 1e300]),
        "seen": st.none() | st.sampled_from(list(TIMES)),
        "age": st.none() | st.sampled_from([0, 10**9, 1_500_000_000]),
        "value": st.dictionaries(
            st.sampled_from(["a", "b"]), st.booleans() | st.integers(0, 2) | st.sampled_from(["x"])
        ),
    }
)


def quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


LITERALS = {
    "name": st.sampled_from(NAMES).map(quoted),
    "on": st.sampled_from(["true", "false"]),
    "count": (st.integers(-3, 3) | st.just(2**63 - 1)).map(str),
    "level": st.sampled_from(["-1.5", "0", "0.1", "2", "1e300", "1e-9"]),
    "seen": st.sampled_from(list(TIMES.values())),
    "age": st.sampled_from(["0s", "1000ms", "1.5s", "-1h"]),
    "value.a": st.sampled_from(["true", "1", '"x"']),
}
ORDERED = {"count", "level", "seen", "age"}


@st.composite
def comparisons(draw, names):
    name = draw(st.sampled_from(names))
    signs = ["=", "!=", "in", "not in", "null", "not null"]
    signs += ["<", "<=", ">", ">="] * (name in ORDERED) + ["^="] * (name == "name")
    sign = draw(st.sampled_from(signs))
    if sign == "null":
        return f"{name} = null"
    if sign == "not null":
        return f"{name} != null"
    if sign.endswith("in"):
        return f"{name} {sign} ({', '.join(draw(st.lists(LITERALS[name], min_size=1, max_size=3)))})"
    return f"{name} {sign} {draw(LITERALS[name])}"


def filters(names=tuple(LITERALS)):
    def deepen(parts):
        several = st.lists(parts, min_size=2, max_size=3)
        joined = st.tuples(several, st.sampled_from([" and ", " or "])).map(lambda p: "(" + p[1].join(p[0]) + ")")
        return joined | parts.map(lambda text: f"not ({text})")

    return st.recursive(comparisons(names), deepen, max_leaves=6).filter(lambda text: len(text) <= 1_000)


@pytest.fixture(scope="module")
def connection():
    engine = create_engine("sqlite://")
    with engine.connect() as connection:
        TABLE.metadata.create_all(connection)
        yield connection
    engine.dispose()


def chosen(connection, found, records) -> set[int]:
    connection.execute(TABLE.delete())
    rows = [{"id": n, **{name: record[name] for name in KINDS}} for n, record in enumerate(records)]
    connection.execute(insert(TABLE), rows)
    return set(connection.execute(select(TABLE.c.id).where(found.sql(COLUMNS))).scalars())


@given(st.data())
def test_sql_and_memory_agree_on_columns(connection, data):
    text = data.draw(filters(tuple(KINDS)))
    records = data.draw(st.lists(RECORDS, min_size=1, max_size=8))
    found = parse(text, FIELDS)
    assert found.exact(COLUMNS)
    assert chosen(connection, found, records) == {n for n, record in enumerate(records) if found.matches(record)}


@given(st.data())
def test_sql_passes_every_record_that_matches_whatever_is_no_column(connection, data):
    text = data.draw(filters())
    records = data.draw(st.lists(RECORDS, min_size=1, max_size=8))
    found = parse(text, FIELDS)
    passed = chosen(connection, found, records)
    matched = {n for n, record in enumerate(records) if found.matches(record)}
    assert matched <= passed
    if found.exact(COLUMNS):
        assert matched == passed


def test_what_is_written_is_bound_and_never_part_of_the_statement():
    found = parse('name = "\'; drop table things; --" or count in (1, 2)', FIELDS)
    text = str(found.sql(COLUMNS).compile())
    assert "drop" not in text
    assert ":name_1" in text


def test_a_part_that_is_no_column_leaves_the_others_to_sql():
    found = parse('name = "mill" and value.a > 1', FIELDS)
    assert "things.name = " in str(found.sql(COLUMNS))
    assert not found.exact(COLUMNS)
    assert found.names == {"name", "value.*"}
