"""A damaged file never stops the agent: what can be read is kept, what cannot is declared."""

import random
import time

import apsw
import numpy as np
import pytest

from twinedge.spool.chain import read_chain, write_chain
from twinedge.spool.forgotten import read_forgotten
from twinedge.spool.recover import ASIDE
from twinedge.spool.rows import CONFIRMED, insert, setting
from twinedge.spool.schema import FILE
from twinmodel.errors import StorageError
from twinmodel.signal import Batch, Kind, Stream
from twinsync.item import Block, Gap, Mark


@pytest.fixture
def image(bench):
    """Bytes of a spool with three boots, unsent and acknowledged items, cleanly closed."""
    for _ in range(3):
        spool = bench.open()
        for number in range(12):
            bench.append(spool, Stream.TELEMETRY, 200 if number % 3 else 30, noisy=True)
            bench.append(spool, Stream.ALARM, 3)
        spool.acknowledge([Mark(spool.boot.id, Stream.TELEMETRY, 500)])
        spool.close()
    return (bench.folder / FILE).read_bytes()


def damaged(image, rng):
    """Flipped bits, a file cut short, zeroed pages, rubbish across pages, or pages of which half is another one."""
    raw = bytearray(image)
    kind = rng.randrange(5)
    if kind == 0:
        for _ in range(rng.choice([1, 1, 8, 200])):
            raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
    elif kind == 1:
        del raw[rng.randrange(len(raw)) :]
    elif kind == 2:
        at = rng.randrange(0, len(raw), 4096)
        size = 4096 * rng.choice([1, 1, 4])
        raw[at : at + size] = bytes(len(raw[at : at + size]))
    elif kind == 4:
        for _ in range(rng.choice([1, 3])):
            at, other = (rng.randrange(len(raw) // 4096) * 4096 for _ in range(2))
            half = 512 * rng.randrange(1, 8)
            raw[at + half : at + 4096] = image[other + half : other + 4096]
    else:
        at = rng.randrange(0, len(raw), 512)
        raw[at : at + 2048] = rng.randbytes(len(raw[at : at + 2048]))
    return bytes(raw)


def test_any_damaged_image_opens_and_every_lost_number_is_declared(bench, image, request):
    rng = random.Random(21)
    acked = [Mark(boot.id, Stream.TELEMETRY, 500) for boot in read_chain(bench.folder)]
    written = dict(bench.appended_ns)
    before = [b.id for b in read_chain(bench.folder)]
    salvaged = 0
    slowest = 0
    for number in range(500 if request.config.getoption("--campaign") else 25):
        for old in bench.folder.glob(f"{FILE}*"):
            old.unlink()
        (bench.folder / FILE).write_bytes(damaged(image, rng))
        begun = time.process_time()
        spool = bench.open()
        slowest = max(slowest, time.process_time() - begun)
        bench.appended_ns = dict(written)
        try:
            items = bench.everything(spool)
        except StorageError:
            # Only writing shows this damage: the next call salvages, the next append says so.
            bench.append(spool)
            items = bench.everything(spool)
            bench.appended_ns = dict(written)
        assert not bench.undeclared(items, acked), f"image {number}"
        if spool.salvage is not None:
            salvaged += 1
        blocks = [i for i in items if isinstance(i.content, Block)]
        for item in blocks:
            assert all(
                (item.boot, item.stream, seq) in bench.stored for seq in range(item.first_seq, item.last_seq + 1)
            )
        assert bench.gaps(items) == sum(line.samples for line in spool.ledger()), f"image {number}"
        chain = [b.id for b in spool.boots_since()]
        assert chain[: len(before)] == before, f"image {number}"
        assert spool.boot.previous == chain[-2]
        bench.append(spool)
        spool.close()
        write_chain(bench.folder, [b for b in read_chain(bench.folder) if b.id in before])
    assert slowest < 5, f"{slowest:.1f} s"
    assert salvaged > 10


def test_file_that_is_no_database_is_set_aside_and_the_chain_goes_on(bench, image):
    (bench.folder / FILE).write_bytes(b"not a database at all" * 1000)
    spool = bench.open()
    assert spool.salvage.items == 0
    assert (bench.folder / (FILE + ASIDE)).read_bytes().startswith(b"not a database")
    assert spool.boot.counter == 4
    assert [b.counter for b in spool.boots_since()] == [1, 2, 3, 4]
    spool.close()


def test_interrupted_salvage_starts_over(bench, image):
    (bench.folder / FILE).rename(bench.folder / (FILE + ASIDE))
    (bench.folder / f"{FILE}.part").write_bytes(b"half a file")
    spool = bench.open()
    assert spool.salvage.cause == "an earlier salvage was interrupted"
    assert (spool.salvage.lost, bench.gaps(bench.everything(spool))) == (0, 0)
    spool.close()


def test_flipped_bit_in_a_payload_becomes_a_gap_when_it_is_read(bench):
    spool = bench.open()
    for _ in range(3):
        bench.append(spool, count=300, noisy=True)
    payload = spool.unsent([Mark(spool.boot.id, Stream.TELEMETRY, 300)], bytes_max=1, items_max=1)[0].content.payload
    old = spool.boot.id
    spool.close()
    raw = (bench.folder / FILE).read_bytes()
    part = payload[len(payload) // 2 :][:40]
    assert part in raw
    # Pages that a split left behind may hold it, too.
    (bench.folder / FILE).write_bytes(raw.replace(part, bytes([part[0] ^ 1]) + part[1:]))
    spool = bench.open()
    items = [i for i in bench.everything(spool) if i.boot == old]
    assert [type(i.content) for i in items] == [Block, Gap, Block]
    assert (items[1].first_seq, items[1].last_seq, items[1].content.reason) == (300, 599, "STORE_CORRUPT")
    assert sum(line.samples for line in spool.ledger()) == 300
    spool.close()


def test_file_that_vanishes_under_a_running_agent_is_declared_and_the_numbers_go_on(bench, monkeypatch):
    spool = bench.open()
    bench.append(spool)
    spool._file.close()
    (bench.folder / FILE).write_bytes(b"zeroed by a broken card" * 500)
    assert bench.append(spool) == (10, 19)
    items = bench.everything(spool)
    assert [(i.first_seq, i.last_seq, type(i.content)) for i in items] == [(0, 9, Gap), (10, 19, Block)]
    assert spool.boot.id in [b.id for b in spool.boots_since()]
    spool.close()


def test_file_of_a_newer_version_is_left_alone(bench, image):
    raw = bytearray(image)
    raw[60:64] = (0x0003_0003).to_bytes(4, "big")
    (bench.folder / FILE).write_bytes(raw)
    with pytest.raises(StorageError, match="STATE_INVALID"):
        bench.open()
    assert (bench.folder / FILE).read_bytes()[4096:] == bytes(raw)[4096:]
    assert not (bench.folder / (FILE + ASIDE)).exists()


def test_damaged_chain_file_is_made_again(bench, image):
    chain = read_chain(bench.folder)
    (bench.folder / "boots").write_bytes(b"rubbish")
    assert read_chain(bench.folder) == []
    spool = bench.open()
    assert read_chain(bench.folder)[:-1] == chain
    spool.close()


def realistic(bench, mebibytes):
    """The bytes of a spool of some size with one boot, and how many numbers it gave."""
    rng = np.random.default_rng(5)
    spool = bench.open(1 << 30)
    for number in range(mebibytes * 8):
        count = 16_000
        value = rng.random(count)
        signal = np.repeat(np.arange(4, dtype=np.uint32), count // 4)
        t_ns = bench.clock.wall_ns() + np.arange(count) * 1000
        spool.append(
            Stream.TELEMETRY, [Batch(Kind.FLOAT, signal, value, np.zeros(count, np.uint16), t_ns)], bench.catalogue
        )
        if number % 10 == 0:
            bench.append(spool, Stream.ALARM, 3)
    given = sum(r.next_seq - r.first_unacked for r in spool.ranges())
    spool.close()
    return (bench.folder / FILE).read_bytes(), given


def test_damaged_image_of_a_realistic_size_opens_within_five_seconds_of_work(bench, request):
    campaign = request.config.getoption("--campaign")
    whole, given = realistic(bench, 64 if campaign else 8)
    chain = read_chain(bench.folder)
    rng = random.Random(8)
    slowest = salvaged = 0
    for number in range(500 if campaign else 12):
        for old in bench.folder.glob(f"{FILE}*"):
            old.unlink()
        (bench.folder / FILE).write_bytes(damaged(whole, rng))
        if number % 5 == 4:
            (bench.folder / f"{FILE}-wal").write_bytes(rng.randbytes(100_000))
        begun = time.process_time()
        spool = bench.open(1 << 30)
        slowest = max(slowest, time.process_time() - begun)
        salvaged += spool.salvage is not None
        ranges = [r for r in spool.ranges() if r.boot != spool.boot.id]
        declared = sum(line.samples for line in spool.ledger())
        known = sum(r.next_seq - r.first_unacked for r in ranges)
        # A lane whose own row is gone ends with the last item that was found.
        assert spool.backlog().samples + declared == known <= given, f"image {number}"
        spool.close()
        write_chain(bench.folder, chain)
    assert slowest < 5, f"{slowest:.1f} s"
    assert salvaged > 0


def test_items_of_two_moments_are_told_apart_once_and_for_all(bench):
    spool = bench.open()
    for _ in range(4):
        bench.append(spool)
    spool.close()
    db = apsw.Connection(str(bench.folder / FILE))
    # A page that kept a gap as it was later on: it grew over blocks that another page still holds.
    for first_seq, last_seq in ((5, 12), (10, 29), (20, 24)):
        insert(db, 1, Stream.TELEMETRY, first_seq, last_seq, Gap("STORE_FULL", last_seq - first_seq + 1, 0, 0), 0, 5)
    db.close()
    spool = bench.open()
    assert spool.salvage is not None
    items = [i for i in bench.everything(spool) if i.stream is Stream.TELEMETRY]
    assert [(i.first_seq, i.last_seq) for i in items] == [(0, 9), (10, 19), (20, 29), (30, 39)]
    spool.close()
    spool = bench.open()
    assert spool.salvage is None
    spool.close()


@pytest.mark.parametrize("value", ["text", 1 << 40, 1.5, b"", b"1234rubbish"])
def test_settings_whose_value_is_damaged_count_as_never_set(value):
    db = apsw.Connection(":memory:")
    db.execute("CREATE TABLE settings(name TEXT PRIMARY KEY, value)")
    db.execute("INSERT INTO settings VALUES ('forgotten_lanes', ?), ('confirmed_boot', ?)", (value, value))
    assert read_forgotten(db) == {}
    assert setting(db, CONFIRMED) in (b"", value)
    assert isinstance(setting(db, CONFIRMED), bytes)
