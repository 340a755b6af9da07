"""Samples into the durable spool, against plain SQLite and three queues that write the same blocks as durably.

All of them encode a block of 4,200 samples and make it durable with one commit (`synchronous` FULL), in turns, so that
a disturbance meets all; a figure is the median over the turns. A peer that is not installed gives null.

spool_msps                million samples per second
spool_vs_raw_sqlite       spool, against one INSERT of the block per commit in SQLite
spool_vs_persistqueue     against SQLiteAckQueue of persist-queue
spool_vs_litequeue        against LiteQueue
spool_vs_diskcache        against Cache.push of diskcache
spool_thin_msps           million samples per second into a spool that is full and thins
disk_bytes_per_sample     the file after the last checkpoint, per sample
device_bytes_per_sample   what reached the block device (a loop device when root, else /proc/self/io), per sample
"""

from __future__ import annotations

import contextlib
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import apsw

from bench.telemetry import PER_SECOND, Site, site
from twinedge.spool.schema import FILE
from twinedge.spool.store import Spool
from twinmodel.clock import SystemClock
from twinmodel.signal import Batch, Stream
from twinsync.block import encode

_BLOCK_S = 10
_SAMPLES = PER_SECOND * _BLOCK_S
_THIN_BYTES = 1 << 20
_LOOP_BYTES = 192 << 20

Blocks = list[list[Batch]]
Put = Callable[[list[Batch]], object]


def run(*, quick: bool = False) -> Mapping[str, float | None]:
    """Measures and returns the figures by name."""
    source = site(minutes=4 if quick else 10)
    starts = range(0, len(source) - _SAMPLES + 1, _SAMPLES)
    blocks = [source.batches(start, start + _SAMPLES) for start in starts]
    figures: dict[str, float | None] = {}
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        places = Path(folder)
        figures |= _against_peers(places, source, blocks, turns=8 if quick else 20)
        figures["spool_thin_msps"] = _thin(places / "thin", source, blocks, rounds=8 if quick else 30)
        figures |= _bytes(places / "device", source, blocks)
    return {name: None if value is None else round(value, 3) for name, value in figures.items()}


def _opened(folder: Path, source: Site, *, disk_max_bytes: int = 1 << 28) -> Spool:
    spool = Spool.open(
        folder, clock=SystemClock(), rng_bytes=os.urandom, disk_max_bytes=disk_max_bytes, when_full="thin"
    )
    spool.put_catalogue(source.catalogue)
    return spool


def _against_peers(folder: Path, source: Site, blocks: Blocks, *, turns: int) -> dict[str, float | None]:
    spool = _opened(folder / "spool", source)
    contenders: dict[str, Put | None] = {
        "spool": lambda batches: spool.append(Stream.TELEMETRY, batches, source.catalogue),
        "raw_sqlite": _raw(folder / "raw.db", source),
        **{name: _peer(make, folder / name, source) for name, make in _PEERS.items()},
    }
    seconds: dict[str, list[float]] = {name: [] for name, put in contenders.items() if put is not None}
    share = max(1, len(blocks) // turns)
    for turn in range(turns):
        some = blocks[turn * share % len(blocks) :][:share]
        # Whoever went first goes last in the next turn.
        order = sorted(seconds) if turn % 2 else sorted(seconds, reverse=True)
        for name in order:
            seconds[name].append(_timed(contenders[name], some))
    spool.close()
    median = {name: statistics.median(values) for name, values in seconds.items()}
    figures: dict[str, float | None] = {"spool_msps": share * _SAMPLES / median["spool"] / 1e6}
    for name in contenders:
        if name != "spool":
            figures[f"spool_vs_{name}"] = median[name] / median["spool"] if name in median else None
    return figures


def _timed(put: Put | None, blocks: Blocks) -> float:
    assert put is not None, "only contenders that are there take turns"
    start = time.perf_counter()
    for batches in blocks:
        put(batches)
    return time.perf_counter() - start


def _raw(path: Path, source: Site) -> Put:
    db = apsw.Connection(str(path))
    for pragma in ("journal_mode=WAL", "synchronous=FULL"):
        list(db.execute(f"PRAGMA {pragma}"))
    list(db.execute("CREATE TABLE blocks(id INTEGER PRIMARY KEY, payload BLOB)"))

    def put(batches: list[Batch]) -> None:
        list(db.execute("INSERT INTO blocks(payload) VALUES (?)", (encode(batches, source.catalogue).payload,)))

    return put


def _persistqueue(folder: Path) -> Callable[[bytes], object]:
    import persistqueue  # noqa: PLC0415 - may be missing

    queue = persistqueue.SQLiteAckQueue(str(folder), auto_commit=True)
    queue._putter.execute("PRAGMA synchronous=FULL")  # noqa: SLF001 - it has no setting for it
    return queue.put


def _litequeue(folder: Path) -> Callable[[bytes], object]:
    import litequeue  # noqa: PLC0415 - may be missing

    folder.mkdir()
    queue = litequeue.LiteQueue(str(folder / "queue.db"))
    queue.conn.execute("PRAGMA synchronous=FULL")
    return queue.put


def _diskcache(folder: Path) -> Callable[[bytes], object]:
    import diskcache  # noqa: PLC0415 - may be missing

    return diskcache.Cache(str(folder), sqlite_synchronous=2, eviction_policy="none").push


_PEERS = {"persistqueue": _persistqueue, "litequeue": _litequeue, "diskcache": _diskcache}


def _peer(make: Callable[[Path], Callable[[bytes], object]], folder: Path, source: Site) -> Put | None:
    try:
        push = make(folder)
    except ImportError:
        return None
    return lambda batches: push(encode(batches, source.catalogue).payload)


def _thin(folder: Path, source: Site, blocks: Blocks, *, rounds: int) -> float:
    """Fills the smallest spool and goes on: every block must be paid for by thinning others."""
    spool = _opened(folder, source, disk_max_bytes=_THIN_BYTES)
    count, last = 0, 0.0
    for number in range(rounds):
        last += _timed(lambda b: spool.append(Stream.TELEMETRY, b, source.catalogue), blocks) if number else 0.0
        count += len(blocks) if number else 0
    spool.close()
    return count * _SAMPLES / last / 1e6


def _bytes(folder: Path, source: Site, blocks: Blocks) -> dict[str, float | None]:
    with _device(folder) as written:
        before = written()
        spool = _opened(folder / "spool", source)
        for batches in blocks:
            spool.append(Stream.TELEMETRY, batches, source.catalogue)
        spool.close()
        os.sync()
        device = written() - before
        size = (folder / "spool" / FILE).stat().st_size
    samples = len(blocks) * _SAMPLES
    return {"disk_bytes_per_sample": size / samples, "device_bytes_per_sample": device / samples}


@contextlib.contextmanager
def _device(folder: Path) -> Iterator[Callable[[], int]]:
    """A folder, and what has been written to the device below it: to one of its own when we may make one."""
    folder.mkdir()
    image = folder.with_suffix(".ext4")
    try:
        with image.open("wb") as file:
            file.truncate(_LOOP_BYTES)
        _command("mkfs.ext4", "-q", "-E", "lazy_itable_init=0", str(image))
        _command("mount", "-o", "loop", str(image), str(folder))
        name = Path(_command("findmnt", "-n", "-o", "SOURCE", str(folder))).name
    except (OSError, subprocess.CalledProcessError):
        yield lambda: int(Path("/proc/self/io").read_text().split("\nwrite_bytes: ")[1].split()[0])
        return
    try:
        yield lambda: 512 * int(Path(f"/sys/block/{name}/stat").read_text().split()[6])
    finally:
        _command("umount", str(folder))


def _command(name: str, *arguments: str) -> str:
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/sbin:/usr/sbin")
    if found is None:
        raise FileNotFoundError(name)
    done = subprocess.run([found, *arguments], check=True, capture_output=True, timeout=30)
    return done.stdout.decode().strip()
