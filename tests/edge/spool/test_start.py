"""A start on a disk that refuses: nothing is numbered before the boot is durable, and it heals by itself."""

import errno
import os
import shutil
import subprocess
from contextlib import suppress

import apsw
import pytest

from twinedge.spool import connection
from twinedge.spool.chain import read_chain
from twinedge.spool.inspect import status, verify
from twinedge.spool.lock import locked
from twinmodel.clock import ClockQuality
from twinmodel.errors import ConflictError, StorageError
from twinmodel.signal import Stream
from twinsync.item import Mark, Outage

from .conftest import Bench
from .test_crash import CachedDisk, CachedFile, World, world  # noqa: F401 - a fixture

READ = {"bytes_max": 1 << 30, "items_max": 10_000}
REFUSALS = [
    (apsw.FullError("no space"), ("write",), "STORE_FULL"),
    (apsw.ReadOnlyError("read-only file system"), ("write",), "STORE_READ_ONLY"),
    (apsw.IOError("input/output error"), ("sync",), "STORE_SYNC_FAILED"),
]


@pytest.fixture
def older(bench):
    """A spool with what an older boot left; its id."""
    spool = bench.open(vfs="cached-disk")
    for _ in range(3):
        bench.append(spool)
    spool.close()
    return spool.boot.id


@pytest.mark.parametrize(("refusal", "refuses", "reason"), REFUSALS, ids=["full", "read-only", "sync"])
def test_start_on_a_disk_that_refuses_numbers_nothing_sends_what_is_there_and_heals(
    bench,
    world,  # noqa: F811
    older,
    refusal,
    refuses,
    reason,
):
    world.refusal, world.refuses = refusal, refuses
    with pytest.raises(StorageError, match=reason):
        bench.open(vfs="cached-disk")
    spool = bench.open(vfs="cached-disk", patient=True)
    assert (spool.boot.id, spool.boots_since()[-1].id) == (b"", older)
    for _ in range(2):
        with pytest.raises(StorageError, match=reason):
            spool.append(Stream.TELEMETRY, [bench.batch(5)], bench.catalogue)
    with pytest.raises(StorageError, match=reason):
        spool.put_catalogue(bench.catalogue)
    # What a session asks for, in its order.
    spool.confirm_boot()
    assert [(r.boot, r.next_seq) for r in spool.ranges()] == [(older, 30)]
    assert [(i.first_seq, i.last_seq) for i in spool.unsent(**READ)] == [(0, 9), (10, 19), (20, 29)]
    assert (spool.backlog().samples, spool.history_waits(1, 0)) == (30, False)
    spool.acknowledge([Mark(older, Stream.TELEMETRY, 10)])
    world.refuses = ()
    bench.clock.advance(2 * 10**9)
    assert bench.append(spool) == (0, 9)
    assert spool.acknowledge([]) == 10
    assert [b.id for b in spool.boots_since(b"")] == [older, spool.boot.id] == [b.id for b in read_chain(bench.folder)]
    items = bench.everything(spool)
    outages = [i for i in items if isinstance(i.content, Outage)]
    # It ends where the agent started: what was measured while the disk refused is not in it.
    assert [(i.boot, i.content.previous_boot, i.content.to_ns) for i in outages] == [
        (spool.boot.id, older, spool.boot.started_ns)
    ]
    assert spool.boot.started_ns < bench.clock.wall_ns() - 2 * 10**9
    assert (spool.backlog().samples, spool.ledger()) == (30, [])
    spool.close()
    verify(bench.folder)


def test_first_start_ever_on_a_disk_that_refuses_begins_at_the_first_append_it_takes(bench, world):  # noqa: F811
    world.refusal, world.refuses = apsw.FullError("no space"), ("write",)
    spool = bench.open(vfs="cached-disk", patient=True)
    with pytest.raises(StorageError, match="STORE_FULL"):
        spool.begin()
    world.refuses = ()
    assert bench.append(spool) == (0, 9)
    assert (spool.boot.counter, spool.boot.previous) == (1, b"")
    spool.close()


def test_boot_whose_commit_failed_and_yet_arrived_is_taken_over(bench, world, older, monkeypatch):  # noqa: F811
    commit = connection.run

    def commit_then_fail(db, sql, values=()):
        found = commit(db, sql, values)
        if sql == "COMMIT":
            raise apsw.IOError("the answer was lost")
        return found

    monkeypatch.setattr("twinedge.spool.connection.run", commit_then_fail)
    spool = bench.open(patient=True)
    assert spool.boot.id == b""
    arrived = spool.boots_since(b"")[-1]
    assert arrived.previous == older
    monkeypatch.undo()
    assert bench.append(spool) == (0, 9)
    # A session may have told of it meanwhile.
    assert spool.boot == arrived
    items = [i for i in bench.everything(spool) if i.boot == arrived.id]
    assert [(i.stream, i.first_seq, i.last_seq) for i in items] == [(Stream.STATE, 0, 0), (Stream.TELEMETRY, 0, 9)]
    spool.close()


def test_boot_to_set_history_apart_whose_commit_failed_and_yet_arrived_is_told_to_nobody_and_undone(
    bench,
    world,  # noqa: F811
    monkeypatch,
):
    spool = bench.open(vfs="cached-disk")
    bench.append(spool)
    first, sync = spool.boot, CachedFile.xSync

    def sync_then_fail(file, flags):
        sync(file, flags)
        raise apsw.IOError("the answer was lost")

    monkeypatch.setattr(CachedFile, "xSync", sync_then_fail)
    with pytest.raises(StorageError, match="STORE_SYNC_FAILED"):
        spool.begin_boot(b"x" * 16, ClockQuality.FREE)
    monkeypatch.undo()
    assert spool._file.read(lambda db: db.execute("SELECT count(*) FROM boots").get) == 2
    assert [b.id for b in spool.boots_since(b"")] == [first.id]
    assert bench.append(spool) == (10, 19)
    assert spool._file.read(lambda db: db.execute("SELECT count(*) FROM boots").get) == 1
    spool.begin_boot(b"y" * 16, ClockQuality.FREE)
    assert [b.id for b in spool.boots_since(b"")] == [first.id, b"y" * 16]
    assert (spool.boot.previous, spool.boot.counter) == (first.id, 2)
    spool.close()


def test_chain_that_could_not_be_kept_beside_the_file_is_kept_with_the_next_append(bench, monkeypatch):
    def refuse(*_):
        raise StorageError("STORE_FULL", "no space")

    with monkeypatch.context() as patched:
        patched.setattr("twinedge.spool.store.write_chain", refuse)
        spool = bench.open()
    assert (spool.boot.counter, read_chain(bench.folder)) == (1, [])
    bench.append(spool)
    assert read_chain(bench.folder) == [spool.boot]
    spool.close()


class SmallDisk:
    """A tmpfs of 4 MiB that fills or turns read-only; where nobody may mount one, a disk below SQLite says the same."""

    def __init__(self, path, below, reason):
        self.path, self.below, self.reason, self.options = path, below, reason, {}
        path.mkdir()
        self.real = os.geteuid() == 0 and not self._mount("-t", "tmpfs", "-o", "size=4m", "tmpfs")
        if not self.real:
            self.options = {"vfs": "cached-disk"}

    def _mount(self, *options):
        return subprocess.run(["mount", *options, self.path], check=False, capture_output=True).returncode

    def refuse(self):
        if not self.real:
            refusal = apsw.FullError("no space") if self.reason == "STORE_FULL" else apsw.ReadOnlyError("read-only")
            self.below.refusal, self.below.refuses = refusal, ("write",)
        elif self.reason == "STORE_FULL":
            with (self.path / "filler").open("wb", buffering=0) as file, suppress(OSError):
                while file.write(bytes(4096)):
                    pass
        else:
            assert not self._mount("-o", "remount,ro")

    def heal(self):
        if not self.real:
            self.below.refuses = ()
        elif self.reason == "STORE_FULL":
            (self.path / "filler").unlink()
        else:
            assert not self._mount("-o", "remount,rw")

    def close(self):
        if self.real:
            subprocess.run(["umount", self.path], check=True)


@pytest.mark.parametrize("ended", ["stopped", "killed"])
@pytest.mark.parametrize("reason", ["STORE_FULL", "STORE_READ_ONLY"])
def test_start_on_a_real_disk_that_takes_nothing_reads_what_is_there_and_heals(tmp_path, world, reason, ended):  # noqa: F811
    disk = SmallDisk(tmp_path / "disk", world, reason)
    bench = Bench(disk.path / "state")
    spool = bench.open(1 << 21, **disk.options)
    try:
        bench.append(spool, count=100)
        if ended == "killed":
            shutil.copytree(bench.folder, disk.path / "copy")
        spool.close()
        if ended == "killed":
            shutil.rmtree(bench.folder)
            (disk.path / "copy").rename(bench.folder)
        disk.refuse()
        older = spool.boot.id
        spool = bench.open(1 << 21, patient=True, **disk.options)
        assert [i.count for i in spool.unsent(**READ)] == [100]
        if disk.real:
            assert status(bench.folder, bench.clock.wall_ns())["backlog_samples"] == 100
            assert verify(bench.folder)["samples"] == 100
        with pytest.raises(StorageError, match=reason):
            spool.append(Stream.TELEMETRY, [bench.batch(5)], bench.catalogue)
        disk.heal()
        with suppress(StorageError):
            # A file that was opened only to be read is closed by this, and the next call opens it to be written.
            spool.begin()
        assert bench.append(spool) == (0, 9)
        assert [b.id for b in spool.boots_since(b"")] == [older, spool.boot.id]
        assert sum(i.count for i in bench.everything(spool) if i.stream is Stream.TELEMETRY) == 110
    finally:
        spool.close()
        disk.close()


def test_a_state_directory_taken_while_its_disk_was_full_stays_taken_when_there_is_room_again(tmp_path, monkeypatch):
    make, full = os.open, True

    def opened(path, flags, mode=0o777):
        if full and flags & os.O_CREAT:
            raise OSError(errno.ENOSPC, "no space")
        return make(path, flags, mode)

    monkeypatch.setattr(os, "open", opened)
    held = locked(tmp_path)
    full = False
    with pytest.raises(ConflictError) as refused:
        locked(tmp_path)
    assert refused.value.reason == "STATE_LOCKED"
    os.close(held)
    os.close(locked(tmp_path))
