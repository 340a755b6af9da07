"""Files of a day: every bit comes back, other tools read them, one signal costs its own bytes, damage is told."""

from __future__ import annotations

import datetime as dt
import re
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings

from bench.telemetry import site
from tests.cloud.archive.runs import DAY_NS, facts, run, runs
from twincloud.archive import parquet
from twincloud.archive.origins import pack_origins, unpack_origins
from twincloud.archive.parquet import DayFile, groups_of, open_bytes, read_footer, read_groups
from twinmodel.errors import StorageError
from twinmodel.signal import Kind

ABOUT = {"tenant": "acme", "site": "mill", "gateway": "gw-1", "day": "2023-11-15"}
ASKED = re.search(r"```sql\n(.*?)```", (Path(__file__).parents[3] / "docs" / "archive.md").read_text(), re.DOTALL)[1]
"""The query that the documentation gives."""


def ask(folder, signal):
    import duckdb  # here, as every worker reads this file

    asked = ASKED.replace("/var/lib/twincloud/archive", str(folder)).replace("plc0.flow", signal)
    return duckdb.sql(asked).fetchnumpy()


def write(path, *given_runs):
    with DayFile(path, ABOUT) as file:
        for one in given_runs:
            file.write(one)
        return file.finish()


def read(path, groups=None):
    content = path.read_bytes()
    footer = read_footer(open_bytes(content), len(content), path.name)
    return read_groups(
        open_bytes(content), footer, groups_of(footer, open_bytes(content)) if groups is None else groups
    )


@settings(max_examples=40, deadline=None)
@given(one=runs(), other=runs())
def test_any_run_comes_back_with_every_bit(tmp_path_factory, one, other):
    path = tmp_path_factory.mktemp("p") / "day.parquet"
    written = write(path, one, other)
    assert [facts(found) for found in read(path, written.groups)] == [facts(one), facts(other)]


def test_nan_payload_negative_zero_and_infinities_stand_beside_decimals(tmp_path):
    odd = np.array([0x7FF8_0000_0000_0123, 0x7FF0_0000_0000_0001], np.uint64).view(np.float64)
    values = np.concatenate([np.round(np.arange(50) * 0.05, 2), [-0.0, np.inf, -np.inf, 1e300, 0.1 + 0.2], odd])
    written = write(tmp_path / "d", one := run(values=values))
    (found,) = read(tmp_path / "d", written.groups)
    assert facts(found) == facts(one)
    table = pq.read_table(tmp_path / "d")
    assert set(table["divisor"].to_pylist()) == {20.0}  # steps of 0.05 are twentieths
    assert table["scaled"].null_count == 7
    assert table["value"].null_count == 50


def test_a_fast_signal_takes_several_row_groups_and_the_index_says_where(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "ROWS_MAX", 100)
    fast, slow = run(values=np.arange(250) / 4), run("plc.mode", ["on", "off"], kind=Kind.STRING, unit="")
    written = write(tmp_path / "d", fast, slow)
    assert [(g.signal, g.rows) for g in written.groups] == [("plc.flow", 100)] * 2 + [("plc.flow", 50), ("plc.mode", 2)]
    assert (written.rows, written.size) == (252, (tmp_path / "d").stat().st_size)
    assert [g.from_ns for g in written.groups[:3]] == [DAY_NS + n * 10**11 for n in range(3)]
    content = (tmp_path / "d").read_bytes()
    asked = []

    def fetch(offset, length):
        asked.append((offset, length))
        return content[offset : offset + length]

    footer = read_footer(fetch, len(content), "d")
    assert footer.facts == {"format": 1, **ABOUT}
    del asked[:]
    (found,) = read_groups(fetch, footer, written.groups[1:2])
    assert found.value.tolist() == (np.arange(100, 200) / 4).tolist()
    assert asked == [(written.groups[1].offset, written.groups[1].length)]
    assert groups_of(footer, fetch) == written.groups


def test_duckdb_and_pyarrow_read_signal_time_value_unit_and_quality(tmp_path):
    path = tmp_path / "tenant=default/site=mill/gateway=gw-1/2023-11-15.parquet"
    path.parent.mkdir(parents=True)
    times = DAY_NS + np.array([0, 1_000_001, 2_500_000_123], np.int64)
    quality = np.array([0, 513, 0], np.uint16)
    write(
        path,
        run("plc0.flow", [21.37, 1 / 3, 21.35], unit="°C", t_ns=times, quality=quality),
        run("plc.count", [1, 2**62, -3], kind=Kind.INT, unit="", t_ns=times),
        run("plc.state", ["idle", "", "läuft"], kind=Kind.STRING, unit="", t_ns=times),
        run("plc.on", [True, False, True], kind=Kind.BOOL, unit="", t_ns=times),
    )
    flow = ask(tmp_path, "plc0.flow")
    assert flow["value"].tolist() == [21.37, 1 / 3, 21.35]
    assert flow["t"].astype("datetime64[ns]").astype(np.int64).tolist() == times.tolist()
    assert (flow["unit"].tolist(), flow["quality"].tolist()) == (["°C"] * 3, [0, 513, 0])
    assert ask(tmp_path, "plc.on")["value"].tolist() == [1.0, 0.0, 1.0]
    assert ask(tmp_path, "plc.state")["text"].tolist() == ["idle", "", "läuft"]
    table = pq.read_table(path, filters=[("signal", "=", "plc.count")])
    assert table["scaled"].to_pylist() == [1, 2**62, -3]
    assert table["time"][0].as_py() == dt.datetime.fromtimestamp(DAY_NS // 10**9, dt.UTC)


def archived(path, minutes: int) -> tuple[int, int]:
    """Size and rows of a file of the telemetry of a site, as blocks of ten seconds had brought it."""
    plant = site(minutes=minutes, seed=3)
    with DayFile(path, ABOUT) as file:
        for batch in plant.batches(0, len(plant)):
            for signal in np.unique(batch.signal).tolist():
                mine = batch.take(batch.signal == signal)
                block = ((mine.t_ns - plant.t_ns[0]) // 10**10).astype(np.int32)
                _, starts, counts = np.unique(block, return_index=True, return_counts=True)
                origins = [(1, b"b" * 16, 2, 4_200 * n, 10**10 * n, 10**10 * n + 7, 1) for n in range(block.max() + 1)]
                columns = {
                    "t_ns": mine.t_ns,
                    "quality": mine.quality,
                    "commit_no": 1_000 + 37 * block.astype(np.int64),
                    "origin": block,
                    "origins": origins,
                    "seq": block * 4_200 + signal * 3 + np.arange(len(block)) - np.repeat(starts, counts),
                }
                file.write(run(plant.catalogue.signals[signal].name, mine.value, kind=batch.kind, **columns))
        written = file.finish()
    assert written.rows == len(plant)
    return written.size, written.rows


def test_a_sample_of_telemetry_takes_less_than_the_goal(tmp_path):
    # What a file costs beside its samples is paid once a day: the difference of two spans is what a sample costs.
    short, long = archived(tmp_path / "short", 10), archived(tmp_path / "long", 30)
    assert (long[0] - short[0]) / (long[1] - short[1]) < 1.6


@pytest.mark.parametrize("damage", ["cut", "tail", "footer", "page", "other"])
def test_damage_is_told_as_such(tmp_path, damage):
    written = write(tmp_path / "d", run(values=np.arange(5_000) / 8 + np.sin(np.arange(5_000))))
    content = bytearray((tmp_path / "d").read_bytes())
    group = written.groups[0]
    if damage == "cut":
        del content[len(content) // 2 :]
    elif damage == "tail":
        content[-3] ^= 1
    elif damage == "footer":
        begin = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
        content[begin : begin + 100] = b"\xff" * 100
    elif damage == "page":
        content[group.offset + group.length // 2] ^= 0x10
    else:
        pq.write_table(pq.read_table(tmp_path / "d"), tmp_path / "o")
        content = bytearray((tmp_path / "o").read_bytes())
    with pytest.raises(StorageError) as caught:
        read_groups(
            open_bytes(bytes(content)), read_footer(open_bytes(bytes(content)), len(content), "d"), written.groups
        )
    assert caught.value.reason == "ARCHIVE_DAMAGED"


def test_origins_of_thousands_of_blocks_take_few_bytes_and_come_back():
    rows = [(1, b"b" * 16, 2, 4_200 * n, 10**18 + n * 10**10, 10**18 + n * 10**10 + 10**6, 3) for n in range(8_640)]
    packed = pack_origins(rows)
    assert len(packed) < 8_640
    assert list(unpack_origins(packed)) == rows
    assert unpack_origins(pack_origins([])) == ()
    with pytest.raises(ValueError, match="damaged"):
        unpack_origins(packed[:40])
