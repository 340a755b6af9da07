"""A disk that refuses stops no reading and no sending, and heals by itself; an older file is taken over."""

import apsw
import pytest
from structlog.testing import capture_logs

from twinedge.spool.inspect import verify
from twinedge.spool.recover import ASIDE
from twinedge.spool.schema import FILE
from twinmodel.errors import StorageError
from twinmodel.signal import Stream
from twinsync.item import Block, Gap, Mark

from .test_crash import CachedDisk, CachedFile, World, world  # noqa: F401 - a fixture

READ = {"bytes_max": 1 << 30, "items_max": 10_000}
REFUSALS = [
    (apsw.FullError("no space"), ("write",)),
    (apsw.ReadOnlyError("read-only file system"), ("write",)),
    (apsw.IOError("input/output error"), ("sync",)),
    (apsw.IOError("input/output error"), ("write", "sync", "truncate")),
]
IDS = ["full", "read-only", "sync", "nothing can be written"]


@pytest.mark.parametrize(("refusal", "refuses"), REFUSALS, ids=IDS)
def test_what_is_stored_can_be_sent_and_acknowledged_while_the_disk_refuses(bench, world, refusal, refuses):  # noqa: F811
    spool = bench.open(vfs="cached-disk")
    for _ in range(3):
        bench.append(spool)
    world.refusal, world.refuses = refusal, refuses
    with pytest.raises(StorageError):
        bench.append(spool)
    # What a session asks for, in its order.
    assert [b.id for b in spool.boots_since(b"")] == [spool.boot.id]
    assert [r.next_seq for r in spool.ranges()] == [30]
    assert spool.schemas() == [bench.catalogue.digest]
    spool.confirm_boot()
    assert spool.rewind(spool.boot.id, Stream.TELEMETRY, 0)
    assert [(i.first_seq, i.last_seq) for i in spool.unsent(**READ)] == [(0, 9), (10, 19), (20, 29)]
    assert spool.acknowledge([Mark(spool.boot.id, Stream.TELEMETRY, 20)]) == 0
    assert spool.backlog().samples == 30
    world.refuses = ()
    bench.clock.advance(2 * 10**9)
    assert bench.append(spool) == (30, 39)
    assert spool.acknowledge([]) == 20
    assert [(i.first_seq, i.last_seq) for i in bench.everything(spool)] == [(20, 29), (30, 39)]
    assert spool.ledger() == []
    spool.close()


def test_a_disk_that_refuses_for_long_is_told_once_and_once_that_it_is_back(bench, world):  # noqa: F811
    spool = bench.open(vfs="cached-disk")
    bench.append(spool)
    world.refusal, world.refuses = apsw.FullError("no space"), ("write",)
    with capture_logs() as logs:
        for _ in range(5):
            with pytest.raises(StorageError):
                bench.append(spool)
        world.refuses = ()
        bench.append(spool)
    assert [entry["event"] for entry in logs if entry["log_level"] != "debug"] == ["spool.lost", "spool.back"]
    spool.close()


@pytest.mark.parametrize("found_out", ["by the next hello", "in the session"])
def test_marks_the_disk_has_refused_are_not_those_of_a_coordinator_restored_since(bench, world, found_out):  # noqa: F811
    spool = bench.open(vfs="cached-disk")
    bench.append(spool)
    world.refusal, world.refuses = apsw.ReadOnlyError("read-only file system"), ("write",)
    assert spool.acknowledge([Mark(spool.boot.id, Stream.TELEMETRY, 10)]) == 0
    if found_out == "in the session":
        spool.rewind(spool.boot.id, Stream.TELEMETRY, 0)
    else:
        spool.forget_marks()
    world.refuses = ()
    bench.clock.advance(2 * 10**9)
    bench.append(spool)
    assert spool.acknowledge([]) == 0
    assert [(i.first_seq, i.last_seq) for i in bench.everything(spool)] == [(0, 9), (10, 19)]
    spool.close()


def test_commit_that_failed_and_yet_arrived_is_not_handed_out_before_it_is_undone(bench, world, monkeypatch):  # noqa: F811
    spool = bench.open(vfs="cached-disk")
    bench.append(spool)
    sync = CachedFile.xSync

    def sync_then_fail(file, flags):
        sync(file, flags)
        raise apsw.IOError("the answer was lost")

    monkeypatch.setattr(CachedFile, "xSync", sync_then_fail)
    with pytest.raises(StorageError, match="STORE_SYNC_FAILED"):
        spool.append(Stream.TELEMETRY, [bench.batch(5)], bench.catalogue)
    assert [i.last_seq for i in spool.unsent(**READ)] == [9]
    assert (spool.backlog().samples, spool.ranges()[0].next_seq) == (10, 10)
    monkeypatch.undo()
    # The second try holds more than the first: the same numbers must not mean two things.
    assert bench.append(spool, count=8) == (10, 17)
    assert sum(i.count for i in bench.everything(spool)) == 18
    spool.close()


@pytest.mark.parametrize("seed", range(6))
def test_nothing_acknowledged_is_lost_by_a_power_cut_after_a_sync_that_failed(bench, seed):
    world = World(seed)  # noqa: F811
    disk = CachedDisk(world)
    spool = bench.open(vfs="cached-disk")
    for number in range(12):
        world.refusal, world.refuses = apsw.IOError("input/output error"), ("sync",) if number % 4 == 3 else ()
        try:
            bench.append(spool, count=50, noisy=True)
        except StorageError:
            assert number % 4 == 3
    world.cut_at = world.operations
    spool.close()
    disk.unregister()
    world.settle()
    spool = bench.open()
    assert spool.salvage is None
    found = {(i.boot, s) for i in bench.everything(spool) for s in range(i.first_seq, i.last_seq + 1)}
    assert {(boot, seq) for boot, _, seq in bench.stored} <= found
    spool.close()


def test_long_reader_beside_the_agent_costs_neither_samples_nor_the_cap(bench):
    spool = bench.open(1 << 20, "drop_oldest")
    bench.append(spool)
    reader = apsw.Connection(str(bench.folder / FILE), flags=apsw.SQLITE_OPEN_READONLY)
    reader.execute("BEGIN; SELECT count(*) FROM items").fetchall()

    def fill():
        for _ in range(60):
            bench.append(spool, count=2000, noisy=True)

    with pytest.raises(StorageError, match="a reader holds the log"):
        fill()
    assert spool.disk_bytes() <= 1 << 20
    assert spool.ledger() == []
    reader.close()
    bench.append(spool, count=2000, noisy=True)
    spool.close()


def test_damage_that_a_look_at_the_start_misses_is_salvaged_when_reading_meets_it(bench, monkeypatch):
    monkeypatch.setattr("twinedge.spool.recover._CHECK_BYTES_MAX", 0)
    spool = bench.open()
    for _ in range(40):
        bench.append(spool, count=300, noisy=True)
    old = spool.boot.id
    spool.close()
    raw = bytearray((bench.folder / FILE).read_bytes())
    middle = len(raw) // 2 // 4096 * 4096
    raw[middle : middle + 3 * 4096] = bytes(3 * 4096)
    (bench.folder / FILE).write_bytes(raw)
    spool = bench.open()
    assert spool.salvage is None
    with pytest.raises(StorageError, match="STORE_CORRUPT"):
        bench.everything(spool)
    items = bench.everything(spool)
    assert spool.salvage.cause == "a read failed"
    mine = [i for i in items if i.boot == old]
    assert sum(i.count for i in mine) == 40 * 300
    assert 0 < bench.gaps(mine) < 40 * 300
    assert sum(line.samples for line in spool.ledger()) == bench.gaps(items)
    spool.close()


def test_damaged_file_set_aside_counts_and_makes_way_when_its_place_is_needed(bench):
    (bench.folder).mkdir()
    (bench.folder / FILE).write_bytes(b"no database" * 60_000)
    spool = bench.open(1 << 20)
    assert (bench.folder / (FILE + ASIDE)).exists()
    assert spool.disk_bytes() > 600_000
    for _ in range(40):
        bench.append(spool, count=2000, noisy=True)
        assert spool.disk_bytes() <= 1 << 20
    assert not (bench.folder / (FILE + ASIDE)).exists()
    spool.close()


def test_garbage_in_the_log_costs_what_it_held_and_no_more(bench):
    spool = bench.open()
    bench.append(spool, count=100)
    spool._checkpoint()
    spool._file.steps(lambda db: db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall())
    bench.append(spool, count=100)
    wal = (bench.folder / f"{FILE}-wal").read_bytes()
    whole = (bench.folder / FILE).read_bytes()
    old = spool.boot.id
    spool.close()
    (bench.folder / FILE).write_bytes(whole)
    (bench.folder / f"{FILE}-wal").write_bytes(wal[:40] + bytes(b ^ 0x5A for b in wal[40:]))
    spool = bench.open()
    assert [i.count for i in bench.everything(spool) if i.boot == old] == [100]
    spool.close()


def test_file_of_the_first_version_is_taken_over_with_its_items_and_its_ledger(bench):
    spool = bench.open(1 << 20)
    for _ in range(40):
        bench.append(spool, count=2000, noisy=True)
    lost, held = sum(line.samples for line in spool.ledger()), len(bench.everything(spool))
    spool.close()
    db = apsw.Connection(str(bench.folder / FILE))
    db.execute(
        "DROP VIEW held; DROP VIEW declared; DROP INDEX items_thinned; ALTER TABLE items DROP COLUMN kept;"
        "ALTER TABLE items DROP COLUMN level; ALTER TABLE ledger DROP COLUMN settled;"
        "CREATE TABLE directives(id TEXT PRIMARY KEY) STRICT; UPDATE ledger SET samples = samples + 7;"
        "PRAGMA user_version = 0x00010001"
    )
    db.close()
    spool = bench.open(1 << 20, "thin")
    assert spool.salvage is None
    assert len(bench.everything(spool)) == held + 1
    (line,) = spool.ledger()
    assert (line.samples, line.settled) == (lost + 7, 7)
    bench.append(spool, count=2000, noisy=True)
    verify(bench.folder)
    spool.close()


def test_ledger_of_forgotten_boots_becomes_one_line(bench, monkeypatch):
    monkeypatch.setattr("twinedge.spool.rows._BOOTS_KEPT", 1)
    for _ in range(3):
        spool = bench.open(1 << 20)
        for _ in range(70):
            bench.append(spool, count=2000, noisy=True)
        spool.acknowledge([Mark(r.boot, r.stream, r.next_seq) for r in spool.ranges()])
        bench.clock.advance(25 * 3600 * 10**9)
        for _ in range(58):
            bench.append(spool, Stream.STATE, 1)
        spool.acknowledge([Mark(r.boot, r.stream, r.next_seq) for r in spool.ranges()])
        spool.close()
    spool = bench.open(1 << 20)
    lines = spool.ledger()
    assert any(line.boot == b"" for line in lines)
    assert len(lines) < 5
    verify(bench.folder)
    assert not [i for i in bench.everything(spool) if isinstance(i.content, Block | Gap)]
    spool.close()


def test_damaged_item_on_a_disk_that_refuses_keeps_back_only_what_lies_behind_it(bench, world):  # noqa: F811
    spool = bench.open(vfs="cached-disk")
    bench.append(spool, Stream.ALARM)
    for _ in range(3):
        bench.append(spool)
    with spool._file.write() as db:
        db.execute(
            "UPDATE items SET payload = zeroblob(size) WHERE stream = ? AND first_seq = 10", (int(Stream.TELEMETRY),)
        )
    world.refusal, world.refuses = apsw.FullError("no space"), ("write",)
    items = spool.unsent(**READ)
    assert [(i.stream, i.first_seq) for i in items] == [(Stream.ALARM, 0), (Stream.TELEMETRY, 0)]
    sent = [Mark(i.boot, i.stream, i.last_seq + 1) for i in items]
    with pytest.raises(StorageError, match="STORE_FULL"):
        spool.unsent(sent, **READ)
    world.refuses = ()
    assert [(i.first_seq, type(i.content)) for i in spool.unsent(sent, **READ)] == [(10, Gap), (20, Block)]
    spool.close()
