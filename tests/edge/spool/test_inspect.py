"""A person can look into a spool while the agent writes to it, take everything out, and see damage."""

import csv
import json

import pytest

from twinedge.spool.inspect import COLUMNS, export, status, verify
from twinedge.spool.schema import FILE
from twinmodel.errors import InputError, MissingError, StorageError
from twinmodel.signal import Batch, Kind, Stream
from twinsync.item import Mark


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
    with pytest.raises(InputError, match="neither"):
        export(bench.folder, tmp_path / "all.xls")


def test_file_that_is_no_spool_is_told_as_damage(tmp_path):
    (tmp_path / FILE).write_bytes(b"something else" * 100)
    with pytest.raises(StorageError, match="STORE_CORRUPT"):
        status(tmp_path, 0)
