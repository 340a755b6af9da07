"""Whatever the disk does, a sample whose append returned is there afterwards, once."""

import random
import subprocess
import sys
from pathlib import Path

import apsw
import pytest

from twinedge.spool import connection
from twinedge.spool.schema import FILE, run
from twinmodel.errors import StorageError
from twinmodel.signal import Stream
from twinsync.item import Block, Gap, Mark

READ = {"bytes_max": 1 << 30, "items_max": 10_000}


class World:
    """A disk that keeps writes in its cache until they are synced, loses its power at an operation, or refuses."""

    def __init__(self, seed=0, cut_at=None):
        self.rng = random.Random(seed)
        self.operations = 0
        self.cut_at = cut_at
        self.cached = {}
        self.refusal = None
        self.refuses = ()

    def operate(self, what):
        self.operations += 1
        if self.cut_at is not None and self.operations >= self.cut_at:
            raise apsw.IOError("power cut")
        if what in self.refuses:
            raise self.refusal

    def settle(self):
        """What an unsynced cache may leave behind: each write whole, lost, torn at a sector, or garbage."""
        for name, writes in self.cached.items():
            if not Path(name).exists():
                continue
            with Path(name).open("r+b") as file:
                for offset, content in writes:
                    fate = self.rng.random()
                    if content is None:
                        if fate < 0.5:
                            file.truncate(offset)
                    elif fate > 0.4:
                        file.seek(offset)
                        file.write(self.remains(content, fate))

    def remains(self, content, fate):
        if fate < 0.6:
            return content[: 512 * self.rng.randrange(len(content) // 512 + 1)]
        return self.rng.randbytes(len(content)) if fate < 0.65 else content


class CachedFile(apsw.VFSFile):
    def __init__(self, name, flags, world):
        super().__init__("", name, flags)
        self.world = world
        self.writes = world.cached.setdefault(name.filename() if hasattr(name, "filename") else name, [])

    def xFileSize(self):
        size = super().xFileSize()
        for offset, content in self.writes:
            size = offset if content is None else max(size, offset + len(content))
        return size

    def xRead(self, amount, offset):
        size = self.xFileSize()
        found = bytearray(super().xRead(amount, offset) or b"")
        found.extend(bytes(amount - len(found)))
        for start, content in self.writes:
            if content is None:
                lost = max(start, offset)
                if lost < offset + amount:
                    found[lost - offset :] = bytes(offset + amount - lost)
                continue
            low, high = max(start, offset), min(start + len(content), offset + amount)
            if low < high:
                found[low - offset : high - offset] = content[low - start : high - start]
        return bytes(found[: max(0, min(amount, size - offset))])

    def xWrite(self, content, offset):
        self.world.operate("write")
        self.writes.append((offset, bytes(content)))

    def xTruncate(self, size):
        self.world.operate("truncate")
        self.writes.append((size, None))

    def xSync(self, flags):
        self.world.operate("sync")
        for offset, content in self.writes:
            if content is None:
                super().xTruncate(offset)
            else:
                super().xWrite(content, offset)
        self.writes.clear()


class CachedDisk(apsw.VFS):
    def __init__(self, world):
        self.world = world
        super().__init__("cached-disk", "")

    def xOpen(self, name, flags):
        return CachedFile(name, flags, self.world)

    def xDelete(self, name, sync):
        self.world.operate("delete")
        self.world.cached.pop(name, None)
        super().xDelete(name, sync)


WORKLOAD = 14


def workload(bench, world):
    """Appends, acknowledges and drops on a cached disk until its power goes; the stored samples are in `bench`."""
    disk = CachedDisk(world)
    spool = None
    try:
        spool = bench.open(1 << 20, vfs="cached-disk")
        for number in range(WORKLOAD):
            bench.append(spool, Stream.TELEMETRY, 600 if number % 4 == 0 else 20, noisy=True)
            bench.append(spool, Stream.ALARM, 2)
            if number % 5 == 4:
                spool.acknowledge([Mark(spool.boot.id, Stream.ALARM, number)])
            if number == 8:
                spool.close()
                spool = bench.open(1 << 20, vfs="cached-disk")
    except StorageError:
        return True
    finally:
        if spool is not None:
            spool.close()
        disk.unregister()
        world.settle()
    return False


def operations_of_workload(make_bench):
    world = World()
    workload(make_bench(), world)
    return world.operations


@pytest.fixture
def make_bench(bench, memory_path):
    numbers = iter(range(10_000))
    return lambda: type(bench)(memory_path / f"disk{next(numbers)}")


def test_power_cut_at_any_write_or_sync_loses_no_stored_sample(make_bench, request):
    total = operations_of_workload(make_bench)
    assert total > 150
    points = random.Random(3).sample(range(1, total), 120 if request.config.getoption("--campaign") else 40)
    for seed, cut_at in enumerate(points):
        bench = make_bench()
        workload(bench, World(seed, cut_at))
        spool = bench.open(1 << 20)
        assert spool.salvage is None, f"seed {seed}, operation {cut_at}: {spool.salvage}"
        held = {(r.boot, r.stream): r.first_unacked for r in spool.ranges()}
        items = bench.everything(spool)
        found = {
            (i.boot, i.stream, seq)
            for i in items
            if isinstance(i.content, Block)
            for seq in range(i.first_seq, i.last_seq + 1)
        }
        missing = [key for key in bench.stored if key[2] >= held.get(key[:2], 1 << 62) and key not in found]
        lanes = {key[:2] for key in bench.stored}
        assert not missing
        assert all(lane in held or lane[1] is Stream.ALARM for lane in lanes)
        spool.close()


@pytest.fixture
def world():
    world = World()
    disk = CachedDisk(world)
    yield world
    disk.unregister()


@pytest.mark.parametrize(
    ("refusal", "refuses", "reason"),
    [
        (apsw.FullError("no space"), ("write",), "STORE_FULL"),
        (apsw.IOError("input/output error"), ("sync",), "STORE_SYNC_FAILED"),
        (apsw.IOError("input/output error"), ("write", "sync"), "STORE_SYNC_FAILED"),
        (apsw.ReadOnlyError("read-only file system"), ("write",), "STORE_READ_ONLY"),
    ],
)
def test_refused_append_says_why_and_heals_with_the_same_numbers(bench, world, refusal, refuses, reason):
    spool = bench.open(vfs="cached-disk")
    bench.append(spool)
    batch = bench.batch(7)
    world.refusal, world.refuses = refusal, refuses
    for _ in range(3):
        with pytest.raises(StorageError) as failure:
            spool.append(Stream.TELEMETRY, [batch], bench.catalogue)
        assert failure.value.reason == reason
    assert spool.failures == 3
    world.refuses = ()
    assert spool.append(Stream.TELEMETRY, [batch], bench.catalogue) == (10, 16)
    bench.stored |= {(spool.boot.id, Stream.TELEMETRY, 10 + k): v for k, v in enumerate(batch.value.tolist())}
    assert [(i.first_seq, i.last_seq) for i in bench.everything(spool)] == [(0, 9), (10, 16)]
    assert spool.ledger() == []
    spool.close()


def test_commit_that_failed_and_yet_arrived_is_not_stored_twice(bench, world, monkeypatch):
    spool = bench.open(vfs="cached-disk")
    bench.append(spool)
    batch = bench.batch(5)
    sync = CachedFile.xSync

    def sync_then_fail(file, flags):
        sync(file, flags)
        raise apsw.IOError("the answer was lost")

    monkeypatch.setattr(CachedFile, "xSync", sync_then_fail)
    with pytest.raises(StorageError, match="STORE_SYNC_FAILED"):
        spool.append(Stream.TELEMETRY, [batch], bench.catalogue)
    monkeypatch.undo()
    assert spool.append(Stream.TELEMETRY, [batch], bench.catalogue) == (10, 14)
    assert sum(i.count for i in bench.everything(spool)) == 15
    spool.close()


def test_gap_that_grew_in_a_commit_that_failed_and_yet_arrived_shrinks_again(bench, monkeypatch):
    spool = bench.open(1 << 20, "drop_newest")
    while not spool.ledger():
        bench.append(spool, count=2000, noisy=True)
    dropped = sum(line.samples for line in spool.ledger())
    end = spool.ranges()[-1].next_seq

    def commit_then_fail(db, sql):
        run(db, sql)
        if sql == "COMMIT":
            raise apsw.IOError("the answer was lost")

    monkeypatch.setattr(connection, "run", commit_then_fail)
    with pytest.raises(StorageError, match="STORE_SYNC_FAILED"):
        spool.append(Stream.TELEMETRY, [bench.batch(2000, noisy=True)], bench.catalogue)
    monkeypatch.undo()
    # Room again, so that the second try is stored under the numbers of the first.
    spool.acknowledge([Mark(spool.boot.id, Stream.TELEMETRY, end - dropped)])
    assert sum(line.samples for line in spool.ledger()) == dropped
    assert bench.append(spool, count=2000, noisy=True) == (end, end + 1999)
    items = bench.everything(spool)
    assert [type(i.content) for i in items if i.stream is Stream.TELEMETRY] == [Gap, Block]
    assert bench.gaps(items) == dropped
    spool.close()


# Imports once, then forks a writer per life and kills it: what a writer had reported is what it must have kept.
LIVES = """
import os, random, signal, sys, time
from pathlib import Path
import numpy as np
from twinedge.spool.store import Spool
from twinmodel.clock import SystemClock
from twinmodel.signal import Batch, Catalogue, Kind, Signal, Stream

catalogue = Catalogue(tuple(Signal(i, f"press.s{i}", Kind.FLOAT) for i in range(4)))
zeros = np.zeros(50, np.uint32)

def live(folder, out):
    spool = Spool.open(
        folder, clock=SystemClock(), rng_bytes=os.urandom, disk_max_bytes=1 << 24, when_full="reject"
    )
    while True:
        batch = Batch(Kind.FLOAT, zeros, np.random.random(50), zeros.astype(np.uint16), np.arange(50))
        _, last = spool.append(Stream.TELEMETRY, [batch], catalogue)
        os.write(out, f"{spool.boot.id.hex()} {last}\\n".encode())

rng = random.Random(11)
for _ in range(int(sys.argv[2])):
    source, out = os.pipe()
    child = os.fork()
    if child == 0:
        live(Path(sys.argv[1]), out)
    os.close(out)
    said = os.read(source, 4096)
    time.sleep(rng.random() * 0.05)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    while more := os.read(source, 65536):
        said += more
    os.close(source)
    sys.stdout.write(said.decode())
"""
KILLS = 30


def test_killed_process_leaves_every_sample_it_had_reported(bench):
    lives = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LIVES, str(bench.folder), str(KILLS)],
        stdout=subprocess.PIPE,
        check=True,
        timeout=100,
    )
    promised = {}
    for entry in lives.stdout.decode().splitlines():
        boot, last = entry.split()
        promised[bytes.fromhex(boot)] = int(last)
    assert len(promised) == KILLS
    spool = bench.open(1 << 24)
    assert spool.salvage is None
    held = {}
    for item in bench.everything(spool):
        if isinstance(item.content, Block):
            held[item.boot] = max(held.get(item.boot, -1), item.last_seq)
    assert all(held[boot] >= last for boot, last in promised.items())
    assert [b.id for b in spool.boots_since()][:-1] == list(promised)
    spool.close()


def test_reader_of_another_process_sees_the_file_while_it_is_written(bench):
    spool = bench.open()
    bench.append(spool)
    reader = apsw.Connection(str(bench.folder / FILE), flags=apsw.SQLITE_OPEN_READONLY)
    assert reader.execute("SELECT count(*) FROM items").fetchall() == [(1,)]
    bench.append(spool)
    reader.close()
    spool.close()
