"""Measured data on a model's grid: what a person's file says is what the model gets, or an error with its line."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinmodel.align import Aligner, AlignInput, resample
from twinmodel.errors import ConfigError, InputError
from twinmodel.importers import dataset
from twinmodel.importers.dataset import read_dataset
from twinmodel.importers.times import read_times
from twinmodel.quality import GOOD
from twinmodel.signal import Batch, Kind

S = 10**9
NOON = 1_769_860_800 * S


@dataclass(frozen=True)
class Port:
    name: str
    unit: str


@dataclass(frozen=True)
class Model:
    inputs: tuple[Port, ...] = (Port("pump", "V"),)
    outputs: tuple[Port, ...] = (Port("level", "m"), Port("flow", "m3/h"))
    dt_ns: int = S


@pytest.fixture
def read(tmp_path):
    def put(text, mapping=None, model=None, **options):
        path = tmp_path / "data.csv"
        path.write_text(text)
        return read_dataset(path, model or Model(), mapping, **options)

    return put


def rows(*lines):
    return "\n".join(lines) + "\n"


def test_columns_come_onto_the_grid_by_name_and_absent_outputs_are_missing(read):
    found = read(rows("time,level,pump,note", "0,0.5,3,1", "1,0.6,4,1", "2,0.7,5,1"))
    assert found.t_ns.tolist() == [0, S, 2 * S]
    assert found.u.tolist() == [[3], [4], [5]]
    assert found.y[:, 0].tolist() == [0.5, 0.6, 0.7]
    assert np.isnan(found.y[:, 1]).all()
    assert (found.segments, found.unused, found.rows) == (((0, 3),), ("note",), 3)
    assert (found.inputs, found.outputs) == (("pump",), ("level", "flow"))


def test_a_unit_in_the_header_is_converted_and_one_that_cannot_be_is_refused(read):
    found = read(rows("time,pump [mV],level [cm]", "0,3000,50", "1,,60"))
    np.testing.assert_allclose(found.u[:, 0], [3, 3])
    np.testing.assert_allclose(found.y[:, 0], [0.5, 0.6])
    with pytest.raises(InputError) as caught:
        read(rows("time,pump [V],level [K]", "0,3,5", "1,3,5"))
    assert caught.value.reason == "UNIT_CLASH"


def test_a_mapping_names_columns_that_are_called_otherwise(read):
    found = read(rows("when,PU1,LT1", "0,3,5", "1,4,6"), {"time": "when", "pump": "PU1", "level": "LT1"})
    assert found.u[:, 0].tolist() == [3, 4]
    for mapping in ({"pump": "PU2", "time": "when"}, {"motor": "PU1"}, {"time": "never"}):
        with pytest.raises(InputError):
            read(rows("when,PU1,level", "0,3,5", "1,4,6"), mapping)


@pytest.mark.parametrize(
    "cells",
    [
        ["2026-01-31T12:00:00Z", "2026-01-31T12:00:01Z"], ["2026-01-31 12:00:00", "2026-01-31 12:00:01.000"],
        ["2026-01-31T14:00:00+02:00", "2026-01-31T14:00:01+0200"], ["1769860800", "1769860801.0"],
        ["1769860800.000000", "1.769860801e9"],
    ],
)  # fmt: skip
def test_times_are_read_in_every_usual_form(tmp_path, cells):
    assert read_times(cells, "time", tmp_path).tolist() == [NOON, NOON + S]


def test_times_keep_their_nanoseconds_and_units_of_the_header(tmp_path):
    assert read_times(["2026-01-31T12:00:00.123456789Z"], "t", tmp_path)[0] == NOON + 123_456_789
    assert read_times(["2026-01-31T12:00:00.5"], "t", tmp_path)[0] == NOON + 5 * 10**8
    assert read_times(["1769860800123456789"], "t_ns", tmp_path)[0] == NOON + 123_456_789
    assert read_times(["1769860800123"], "time_ms", tmp_path)[0] == NOON + 123_000_000
    assert read_times(["0.1", "0.3"], "time_s", tmp_path).tolist() == [S // 10, 3 * S // 10]


@given(st.text(max_size=40))
def test_no_text_is_a_time_by_accident(text):
    if any(c.isdigit() for c in text):
        with contextlib.suppress(ConfigError):
            assert read_times([text], "time", "x.csv").dtype == np.int64
    else:
        with pytest.raises(ConfigError, match="VALUE_INVALID"):
            read_times([text], "time", "x.csv")


def test_slow_measurements_count_once_and_slow_inputs_are_held(read):
    found = read(rows("time,level,pump", "0,0.5,3", "2,0.6,", "4,0.7,5", "6,0.8,"))
    assert found.t_ns.tolist() == [k * S for k in range(7)]
    np.testing.assert_array_equal(found.y[:, 0], [0.5, np.nan, 0.6, np.nan, 0.7, np.nan, 0.8])
    np.testing.assert_array_equal(found.u[:, 0], [3, 3, 3, 3, 5, 5, 5])


def test_an_input_that_stays_away_is_missing(read):
    lines = [f"{k},{k / 10},{3 if k < 3 else ''}" for k in range(12)]
    found = read(rows("time,level,pump", *lines))
    np.testing.assert_array_equal(found.u[:, 0], [3] * 6 + [np.nan] * 6)


def test_fast_rows_give_the_newest_value_at_each_tick(read):
    found = read(rows("time,level,pump", *(f"{k / 4},{k},{-k}" for k in range(9))))
    assert found.t_ns.tolist() == [0, S, 2 * S]
    assert found.y[:, 0].tolist() == [0, 4, 8]
    assert found.u[:, 0].tolist() == [0, -4, -8]


def test_a_long_silence_begins_a_new_segment(read):
    found = read(rows("time,level,pump", "0,1,1", "1,1,1", "100,2,2", "101,2,2", "102,2,2"))
    assert found.segments == ((0, 2), (2, 5))
    assert found.t_ns[2] == 100 * S
    assert read(rows("time,level,pump", "0,1,1", "1,1,1", "30,2,2"), gap_ns=60 * S).segments == ((0, 31),)


def test_rows_in_any_order_and_twice_give_one_value_a_tick(read):
    found = read(rows("time,level,pump", "2,3,1", "0,1,1", "1,2,1", "1,9,1"))
    assert found.y[:, 0].tolist() == [1, 9, 3]


def test_semicolons_tabs_decimal_commas_and_a_byte_order_mark_are_understood(read):
    assert read("\ufeff# from the historian\ntime;level;pump\n0;0,5;3\n1;0,6;4\n").y[:, 0].tolist() == [0.5, 0.6]
    assert read("time\tlevel\tpump\n0\t0.5\t3\n1\t0.6\t4\n").y[:, 0].tolist() == [0.5, 0.6]


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("time,level,pump\n0,0.5,3\n1,high,4\n", "data.csv:3"), ("time,level,pump\n0,0.5,3\nlater,1,4\n", "data.csv:3"),
        ("time,level,pump\n0,0.5,3\n1,2\n", "data.csv:3"), ("time,level,pump\n0,0.5,3\n1,2,3,4,5\n", "data.csv:3"),
        ("time,level,level,pump\n0,1,1,1\n", "data.csv:1"), ("time,level,pump\n", "data.csv"), ("", "data.csv"),
        ("level,pump\n1,1\n2,2\n", "data.csv"), ("time,level\n0,1\n1,1\n", "data.csv"),
        ("time,pump\n0,1\n1,1\n", "data.csv"), ("time,level,pump\n0,,\n1,,\n", "data.csv"),
        ("time,level,pump\n0.1,1,1\n0.2,1,1\n", "data.csv"), ("time,level,pump\n99999999999,1,1\n0,1,1\n", "data.csv"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_used_is_refused_with_its_place(read, text, place):
    with pytest.raises(InputError) as caught:
        read(text)
    assert caught.value.reason == "VALUE_INVALID"
    assert place in str(caught.value)


def test_a_file_that_is_none_is_refused(tmp_path, read):
    with pytest.raises(InputError, match="FILE_MISSING"):
        read_dataset(tmp_path / "absent.csv", Model())
    (tmp_path / "data.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="UTF-8"):
        read_dataset(tmp_path / "data.csv", Model())


def test_two_rows_far_apart_allocate_no_ticks_between(read):
    with pytest.raises(InputError) as caught:
        read(rows("time,level,pump", "0,1,1", "4000000000,1,1"), gap_ns=10**19)
    assert caught.value.reason == "LIMIT_EXCEEDED"
    assert len(read(rows("time,level,pump", "0,1,1", "1,1,1", "4000000000,1,1")).t_ns) == 3


def test_more_rows_or_bytes_than_the_limits_are_refused(read, monkeypatch):
    text = rows("time,level,pump", *(f"{k},1,1" for k in range(20)))
    for limit in ("ROWS_MAX", "BYTES_MAX", "CELLS_MAX"):
        with monkeypatch.context() as patch:
            patch.setattr(dataset, limit, 10)
            with pytest.raises(InputError) as caught:
                read(text)
        assert caught.value.reason == "LIMIT_EXCEEDED"


@given(
    st.lists(st.tuples(st.integers(0, 60), st.floats(-1e6, 1e6)), min_size=1, max_size=40, unique_by=lambda s: s[0]),
    st.sampled_from(["hold", "linear"]),
    st.integers(0, 12),
)
def test_resampling_gives_what_the_gateway_aligns(samples, how, age):
    samples.sort()
    t = np.array([at * S // 4 for at, _ in samples], np.int64)
    values = np.array([v for _, v in samples])
    aligner = Aligner(S, [AlignInput(3, how, age * S // 4)], 0)
    good = np.full(len(t), GOOD, np.uint16)
    aligner.push(Batch(kind=Kind.FLOAT, signal=np.full(len(t), 3, np.uint32), value=values, quality=good, t_ns=t))
    frames = aligner.close(int(t[-1]))
    assert len(frames) == max(t[-1] // S + (-t[0]) // S + 1, 0)
    ticks = np.array([f.t_ns for f in frames], np.int64)
    expected = np.array([f.values[0] for f in frames])
    np.testing.assert_array_equal(resample(t, values, ticks, age * S // 4, how), expected)
