"""Columns come back as they went, and readers never take more than there is."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinmodel.errors import InputError
from twinsync.columns import ColumnReader, ColumnWriter, differences, unzigzag, zigzag

U64 = st.one_of(st.integers(0, 300), st.integers(0, 70_000), st.integers(0, 2**64 - 1))
I64 = st.integers(-(2**63), 2**63 - 1)


def array(values, dtype=np.uint64):
    return np.array(values, dtype)


@given(st.lists(U64, max_size=50))
def test_narrow_columns_come_back(values):
    writer = ColumnWriter()
    writer.narrow(array(values))
    reader = ColumnReader(writer.bytes())
    assert reader.narrow(len(values)).tolist() == values
    reader.finish()


EDGES = st.sampled_from([n + d for n in (0, 2**7, 2**15, 2**31, 2**63 - 2) for d in (-2, -1, 0, 1)])


@given(st.lists(st.one_of(I64, st.integers(-300, 300), EDGES, EDGES.map(lambda n: -n)), max_size=50))
def test_signed_columns_and_integers_come_back(values):
    writer = ColumnWriter()
    writer.signed(array(values, np.int64))
    writer.integers(array(values, np.int64))
    reader = ColumnReader(writer.bytes())
    assert reader.signed(len(values)).tolist() == values
    assert reader.integers(len(values)).tolist() == values
    reader.finish()


@given(st.sets(st.integers(0, 5000)))
def test_sparse_positions_come_back(positions):
    writer = ColumnWriter()
    writer.sparse(array(sorted(positions), np.int64))
    reader = ColumnReader(writer.bytes())
    assert reader.sparse(5001).tolist() == sorted(positions)
    reader.finish()


@given(st.lists(I64, min_size=1))
def test_zigzag_and_differences_undo_at_the_extremes_of_int64(values):
    column = array(values, np.int64)
    assert unzigzag(zigzag(column)).tolist() == values
    assert np.cumsum(differences(column)).tolist() == values


def test_small_numbers_of_either_sign_take_one_byte():
    writer = ColumnWriter()
    writer.narrow(zigzag(array([-128, 127, 0], np.int64)))
    assert len(writer.bytes()) == 4
    assert zigzag(array([0, -1, 1, -2], np.int64)).tolist() == [0, 1, 2, 3]


def test_column_of_zeros_takes_one_byte_whatever_its_length():
    writer = ColumnWriter()
    writer.narrow(np.zeros(1000, np.uint64))
    assert len(writer.bytes()) == 1


@pytest.mark.parametrize(
    ("raw", "read"),
    [
        (b"", lambda r: r.narrow(1)),
        (b"\x03ab", lambda r: r.narrow(1)),
        (b"\x08abc", lambda r: r.narrow(1)),
        (b"\x00ab", lambda r: r.signed(3)),
        (b"\x01\x7f", lambda r: r.signed(1)),
        (b"\x01\x80", lambda r: r.signed(1)),
        (b"\x02a", lambda r: r.signed(1)),
        (b"\x05abcde", lambda r: r.integers(1)),
        (b"\x08abcdefgh", lambda r: r.narrow(1, 4)),
        (b"\x01\x05", lambda r: r.below(1, 5, "thing")),
        (b"\xff\xff\xff\xff\x01", lambda r: r.sparse(10)),
        (b"\x02\x00\x00\x00\x01\x05\x05", lambda r: r.sparse(10)),
        (b"x", lambda r: r.finish()),
        (b"x", lambda r: r.take(2)),
    ],
)
def test_column_that_cannot_be_is_refused(raw, read):
    with pytest.raises(InputError, match="BLOCK_CORRUPT"):
        read(ColumnReader(raw))
