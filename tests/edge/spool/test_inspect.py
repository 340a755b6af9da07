"""A person can look into a spool while the agent writes to it, take everything out, and see damage."""

import contextlib
import csv
import json
import sqlite3

import pytest

from twinedge.spool.export import COLUMNS, export
from twinedge.spool.inspect import status, verify
from twinedge.spool.schema import FILE
from twinmodel.errors import ConflictError, InputError, MissingError, StorageError
from twinmodel.signal import Batch, Kind, Stream
from twinsync.item import Mark, NotAcquired


@pytest.fixture
def spool(bench):
    spool = bench.open()
    bench.append(spool, Stream.TELEMETRY, 20)
    bench.append(spool, Stream.ALARM, 3)
    spool.acknowledge([Mark(spool.boot.id, Stream.ALARM, 3)])
    yield spool
    spool.close()


def test_status_tells_what_waits_beside_a_running_agent(bench, spool):
    document = json.loads(json.dumps(status(bench.folder, bench.clock.wall_ns())))
    assert (document["backlog_samples"], document["backlog_items"], document["kept_items"]) == (20, 1, 2)
    assert (document["boot"], document["boots"]) == (spool.boot.id.hex(), 1)
    assert (document["lost_samples"], document["lost"]) == (0, {})
    assert document["bytes"] == spool.disk_bytes()


def test_export_writes_every_sample_that_is_kept(bench, spool, tmp_path):
    spool.append(Stream.BULK, [Batch.of(Kind.FLOAT, [0], [float("nan")], [0x0206], [5])], bench.catalogue)
    assert export(bench.folder, tmp_path / "all.csv") == export(bench.folder, tmp_path / "all.jsonl") == 24
    with (tmp_path / "all.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    for row in rows[:-1]:
        assert row["kind"] == "sample"
        key = bytes.fromhex(row["boot"]), Stream[row["stream"].upper()], int(row["seq"])
        assert float(row["value"]) == bench.stored[key]
    lines = [json.loads(line) for line in (tmp_path / "all.jsonl").read_text().splitlines()]
    assert lines[-1]["value"] is None
    assert lines[-1]["quality"] == "bad(ABSENT)"
    assert [p.name for p in sorted(tmp_path.iterdir())] == ["all.csv", "all.jsonl"]


def test_export_to_sqlite_keeps_samples_and_holes_in_two_tables(bench, spool, tmp_path):
    spool.append(Stream.BULK, [Batch.of(Kind.FLOAT, [0], [float("nan")], [0x0206], [5])], bench.catalogue)
    spool.append_many([], bench.catalogue, [NotAcquired("press", "DEVICE_UNREACHABLE", 7, 9)])
    assert export(bench.folder, tmp_path / "all.db") == 24
    with contextlib.closing(sqlite3.connect(tmp_path / "all.db")) as tables:
        rows = tables.execute("SELECT boot, stream, seq, value FROM samples WHERE value IS NOT NULL").fetchall()
        holes = tables.execute("SELECT kind, signal, t_ns, to_ns, reason FROM holes").fetchall()
    assert {(bytes.fromhex(b), Stream[s.upper()], n): v for b, s, n, v in rows} == bench.stored
    assert holes == [("not_acquired", "press", 7, 9, "DEVICE_UNREACHABLE")]
    with pytest.raises(ConflictError, match="ALREADY_EXISTS"):
        export(bench.folder, tmp_path / "all.db")


def test_verify_counts_a_sound_spool_and_names_a_damaged_item(bench, spool):
    payload = spool.unsent(bytes_max=1, items_max=1)[0].content.payload
    assert verify(bench.folder) == {"pages": verify(bench.folder)["pages"], "lanes": 2, "items": 2, "samples": 23}
    spool.close()
    raw = (bench.folder / FILE).read_bytes()
    at = raw.index(payload) + len(payload) // 2
    (bench.folder / FILE).write_bytes(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :])
    with pytest.raises(StorageError, match=r"STORE_CORRUPT.*item 1"):
        verify(bench.folder)


def test_folder_without_a_spool_or_another_kind_of_file_is_refused(tmp_path, bench, spool):
    for look in (lambda folder: status(folder, 0), verify):
        with pytest.raises(MissingError):
            look(tmp_path)
    with pytest.raises(InputError, match="none of"):
        export(bench.folder, tmp_path / "all.xls")


def test_file_that_is_no_spool_is_told_as_damage(tmp_path):
    (tmp_path / FILE).write_bytes(b"something else" * 100)
    with pytest.raises(StorageError, match="STORE_CORRUPT"):
        status(tmp_path, 0)


def test_export_tells_what_is_missing_beside_what_is_there(bench, tmp_path):
    bench.open().close()
    spool = bench.open(1 << 20, "thin")
    spool.append_many([], bench.catalogue, [NotAcquired("press", "DEVICE_UNREACHABLE", 7, 9)])
    for _ in range(3):
        bench.append(spool, Stream.TELEMETRY, 500, noisy=True)
    # As if the disk were full: one step of thinning, one of dropping.
    boots = {spool.boot.counter: spool.boot.id}
    assert spool._file.steps(lambda db: spool._retention.coarser.step(db, boots, 0))
    bench.append(spool, Stream.BULK, 40, noisy=True)
    spool._retention.when_full = "drop_oldest"
    assert spool._file.steps(lambda db: spool._retention._give_way(db, Stream.BULK, boots, 0))
    count = export(bench.folder, tmp_path / "all.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "all.jsonl").read_text().splitlines()]
    kinds = {line["kind"] for line in lines}
    assert kinds == {"sample", "thinned", "gap", "outage", "not_acquired"}
    assert sum(line["kind"] == "sample" for line in lines) == count == spool.backlog().samples
    lost = sum(line["count"] for line in lines if line["kind"] in {"gap", "thinned"})
    assert lost == sum(line.samples for line in spool.ledger()) > 0
    (record,) = [line for line in lines if line["kind"] == "not_acquired"]
    assert (record["signal"], record["reason"], record["t_ns"], record["to_ns"]) == (
        "press",
        "DEVICE_UNREACHABLE",
        7,
        9,
    )
    verify(bench.folder)
    spool.close()


def test_verify_finds_a_ledger_that_does_not_sum(bench, spool):
    spool._file.steps(
        lambda db: db.execute(
            "INSERT INTO ledger VALUES (?, 2, 'STORE_FULL', 3, 0, 0, 0, 0)", [spool.boot.id]
        ).fetchall()
    )
    with pytest.raises(StorageError, match="ledger of telemetry, STORE_FULL: 3 samples, items declare 0"):
        verify(bench.folder)


def test_forecast_is_room_over_rate_by_class(bench):
    spool = bench.open(1 << 22)
    for _ in range(60):
        bench.append(spool, Stream.TELEMETRY, 500, noisy=True)
        bench.append(spool, Stream.ALARM, 1)
        bench.clock.advance(58 * 10**9)
    forecast, document = spool.forecast(), status(bench.folder, bench.clock.wall_ns())
    rates = forecast.bytes_per_hour
    size = len(spool.unsent(bytes_max=1, items_max=1)[0].content.payload)
    assert rates[Stream.ALARM] == pytest.approx(60 * (size + 200), rel=0.03)
    assert rates[Stream.TELEMETRY] > 10 * rates[Stream.ALARM] > 0
    assert forecast.hours_until_full == pytest.approx(forecast.room_bytes / sum(rates.values()), rel=0.01)
    assert forecast.alarm_hours_until_full > 5 * forecast.hours_until_full
    assert document["hours_until_full"] == forecast.hours_until_full
    assert (document["disk_max_bytes"], document["when_full"]) == (1 << 22, "drop_oldest")
    assert document["bytes_per_hour"]["telemetry"] == rates[Stream.TELEMETRY]
    spool.close()
