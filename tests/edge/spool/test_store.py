"""What the spool accepted is handed out in order, once numbered for ever, and let go only below a mark."""

import itertools

import numpy as np
import pytest

from twinedge.spool import rows
from twinmodel.clock import ClockQuality
from twinmodel.errors import ConflictError, InputError
from twinmodel.signal import Batch, Catalogue, Kind, Signal, Stream
from twinsync import limits
from twinsync.item import Block, Gap, Mark, NotAcquired, Outage

READ = {"bytes_max": 1 << 30, "items_max": 1000}


def test_first_boot_has_no_previous_one_and_declares_nothing(bench):
    spool = bench.open(clock_quality=ClockQuality.SYNCED)
    assert (spool.boot.counter, spool.boot.previous, spool.boot.clock) == (1, b"", ClockQuality.SYNCED)
    assert len(spool.boot.id) == 16
    assert spool.unsent(**READ) == []
    assert spool.backlog().oldest_ns is None
    spool.close()


def test_second_boot_declares_the_time_between_as_an_outage(bench):
    spool = bench.open()
    first = spool.boot
    bench.append(spool)
    stored_ns = bench.clock.wall_ns()
    spool.close()
    bench.clock.advance(60 * 10**9)
    spool = bench.open()
    assert (spool.boot.previous, spool.boot.counter) == (first.id, 2)
    outage = spool.unsent(**READ)[0]
    assert (outage.boot, outage.stream, outage.first_seq, outage.last_seq) == (spool.boot.id, Stream.STATE, 0, 0)
    assert outage.content == Outage(first.id, stored_ns, spool.boot.started_ns)
    assert spool.boots_since() == [first, spool.boot]
    assert spool.boots_since(spool.boot.id) == [spool.boot]
    spool.close()


def test_chain_keeps_the_confirmed_boot_however_often_the_agent_starts_without_a_link(bench, monkeypatch):
    monkeypatch.setattr(rows, "_BOOTS_KEPT", 4)
    spool = bench.open()
    known = spool.boot
    spool.confirm_boot()
    for _ in range(8):
        # History set apart: a boot that may never hold anything.
        spool.begin_boot(bench.rng.randbytes(16), known.clock)
    chain = spool.boots_since(b"")
    assert chain[0] == known
    assert all(newer.previous == older.id for older, newer in itertools.pairwise(chain))
    spool.confirm_boot()
    spool.begin_boot(bench.rng.randbytes(16), known.clock)
    assert len(spool.boots_since(b"")) == 4
    spool.close()


def test_boots_start_from_the_one_the_coordinator_confirmed(bench):
    for _ in range(3):
        spool = bench.open()
        spool.close()
    spool = bench.open()
    assert [b.counter for b in spool.boots_since()] == [1, 2, 3, 4]
    spool.confirm_boot()
    spool.close()
    spool = bench.open()
    assert [b.counter for b in spool.boots_since()] == [4, 5]
    assert [b.counter for b in spool.boots_since(b"?" * 16)] == [1, 2, 3, 4, 5]
    spool.close()


def test_second_process_is_refused(bench):
    spool = bench.open()
    with pytest.raises(ConflictError, match="STATE_LOCKED"):
        bench.open()
    spool.close()
    bench.open().close()


def test_items_come_alarms_first_and_inside_a_stream_by_boot_and_number(bench):
    spool = bench.open()
    for stream in (Stream.BULK, Stream.TELEMETRY, Stream.ALARM):
        bench.append(spool, stream)
    spool.close()
    spool = bench.open()
    for stream in (Stream.TELEMETRY, Stream.ALARM):
        bench.append(spool, stream)
    items = bench.everything(spool)
    counters = {b.id: b.counter for b in spool.boots_since()}
    order = [(i.stream, counters[i.boot]) for i in items]
    assert order == [
        (Stream.ALARM, 1),
        (Stream.ALARM, 2),
        (Stream.STATE, 2),
        (Stream.TELEMETRY, 1),
        (Stream.TELEMETRY, 2),
        (Stream.BULK, 1),
    ]
    spool.close()


def test_all_lanes_and_records_go_into_one_call_and_number_on(bench):
    spool = bench.open()
    record = NotAcquired("press", "DEVICE_UNREACHABLE", 1, 2)
    parts = [(Stream.TELEMETRY, [bench.batch(5)]), (Stream.STATE, [bench.batch(3)]), (Stream.BULK, [])]
    spool.append_many(parts, bench.catalogue, [record])
    spool.append_many([], bench.catalogue, [record])
    items = spool.unsent(**READ)
    assert [(i.stream, i.first_seq, i.last_seq) for i in items] == [(1, 0, 2), (1, 3, 3), (1, 4, 4), (2, 0, 4)]
    assert items[1].content == items[2].content == record
    assert spool.commits == 2
    backlog = spool.backlog()
    assert (backlog.samples, backlog.items) == (8, 4)
    assert backlog.bytes >= sum(len(i.content.payload) for i in items if isinstance(i.content, Block))
    spool.close()


def test_bytes_and_items_bound_what_is_read_but_one_item_always_comes(bench):
    spool = bench.open()
    for _ in range(5):
        bench.append(spool, count=200, noisy=True)
    assert len(spool.unsent(bytes_max=1, items_max=10)) == 1
    assert len(spool.unsent(bytes_max=1 << 30, items_max=3)) == 3
    size = len(spool.unsent(bytes_max=1, items_max=1)[0].content.payload)
    assert len(spool.unsent(bytes_max=2 * size + size // 2, items_max=10)) == 2
    spool.close()


def test_cursor_skips_what_was_read_and_a_cursor_inside_an_item_brings_it_whole(bench):
    spool = bench.open()
    for _ in range(3):
        bench.append(spool)
    after = [Mark(spool.boot.id, Stream.TELEMETRY, 10)]
    assert [i.first_seq for i in spool.unsent(after, **READ)] == [10, 20]
    after = [Mark(spool.boot.id, Stream.TELEMETRY, 15)]
    assert [i.first_seq for i in spool.unsent(after, **READ)] == [10, 20]
    assert spool.unsent([Mark(spool.boot.id, Stream.TELEMETRY, 30)], **READ) == []
    spool.close()


def test_mark_releases_only_what_it_covers(bench):
    spool = bench.open()
    for _ in range(3):
        bench.append(spool)
    assert spool.acknowledge([Mark(spool.boot.id, Stream.TELEMETRY, 10)]) == 10
    assert [i.first_seq for i in bench.everything(spool)] == [10, 20]
    assert spool.acknowledge([Mark(spool.boot.id, Stream.TELEMETRY, 5)]) == 0
    assert spool.acknowledge([Mark(b"?" * 16, Stream.TELEMETRY, 99), Mark(spool.boot.id, Stream.ALARM, 9)]) == 0
    assert spool.acknowledge([Mark(spool.boot.id, Stream.TELEMETRY, 999)]) == 20
    assert (spool.ranges(), spool.unsent(**READ)) == ([], [])
    bench.append(spool)
    assert [i.first_seq for i in bench.everything(spool)] == [30]
    spool.close()


def test_acked_tail_comes_back_after_a_rewind_also_of_an_earlier_boot(bench):
    spool = bench.open()
    for _ in range(3):
        bench.append(spool)
    old = spool.boot.id
    spool.acknowledge([Mark(old, Stream.TELEMETRY, 30)])
    spool.close()
    spool = bench.open()
    assert spool.rewind(old, Stream.TELEMETRY, 10)
    assert [(i.boot, i.first_seq) for i in bench.everything(spool)][1:] == [(old, 10), (old, 20)]
    assert spool.rewind(old, Stream.TELEMETRY, 20)
    assert not spool.rewind(b"?" * 16, Stream.TELEMETRY, 0)
    assert spool.ledger() == []
    spool.close()


def test_rewind_beyond_the_kept_tail_declares_what_is_gone(bench):
    spool = bench.open()
    bench.append(spool)
    spool.acknowledge([Mark(spool.boot.id, Stream.TELEMETRY, 10)])
    bench.clock.advance(25 * 3600 * 10**9)
    for _ in range(64):
        bench.append(spool, count=1)
    assert not spool.rewind(spool.boot.id, Stream.TELEMETRY, 3)
    items = bench.everything(spool)
    assert (items[0].first_seq, items[0].last_seq, items[0].content.reason) == (3, 9, "SERVER_REGRESSED")
    assert [(line.reason, line.samples) for line in spool.ledger()] == [("SERVER_REGRESSED", 7)]
    spool.close()


def test_rewind_of_a_boot_of_which_nothing_is_left_declares_all_of_it_once(bench):
    spool = bench.open()
    bench.append(spool)
    old = spool.boot.id
    spool.acknowledge([Mark(old, Stream.TELEMETRY, 10)])
    bench.clock.advance(25 * 3600 * 10**9)
    for _ in range(64):
        bench.append(spool, Stream.ALARM, count=1)
    for _ in range(2):
        spool.close()
        spool = bench.open()
    assert spool.rewind(old, Stream.TELEMETRY, 10)
    assert spool.ledger() == []
    assert not spool.rewind(old, Stream.TELEMETRY, 4)
    gaps = [item for item in bench.everything(spool) if isinstance(item.content, Gap)]
    assert [(g.boot, g.first_seq, g.last_seq, g.content.reason) for g in gaps] == [(old, 4, 9, "SERVER_REGRESSED")]
    assert [(line.reason, line.samples) for line in spool.ledger()] == [("SERVER_REGRESSED", 6)]
    spool.acknowledge([Mark(old, Stream.TELEMETRY, 10)])
    assert spool.rewind(old, Stream.TELEMETRY, 10)
    spool.close()


def test_samples_beyond_the_bounds_of_one_block_become_several(bench, monkeypatch):
    monkeypatch.setattr(limits, "BLOCK_SAMPLES_MAX", 16)
    spool = bench.open()
    bench.append(spool, count=50)
    items = bench.everything(spool)
    assert len(items) == 4
    assert sum(i.count for i in items) == 50
    spool.close()


def test_sample_too_large_for_any_block_is_declared_not_kept_waiting(bench):
    spool = bench.open(disk_max_bytes=1 << 26)
    catalogue = Catalogue((Signal(0, "press.log", Kind.STRING),))
    text = "x" * (limits.BLOCK_RAW_BYTES_MAX + 1)
    spool.append(Stream.BULK, [Batch.of(Kind.STRING, [0, 0], ["ok", text], [0, 0], [1, 2])], catalogue)
    kinds = [(type(i.content), i.first_seq, i.last_seq) for i in spool.unsent(**READ)]
    assert kinds == [(Block, 0, 0), (Gap, 1, 1)]
    assert [(line.reason, line.samples) for line in spool.ledger()] == [("LIMIT_EXCEEDED", 1)]
    spool.close()


def test_sample_outside_the_catalogue_is_refused_and_takes_no_number(bench):
    spool = bench.open()
    wrong = Batch(Kind.FLOAT, np.array([9], np.uint32), np.zeros(1), np.zeros(1, np.uint16), np.zeros(1, np.int64))
    with pytest.raises(InputError, match="VALUE_INVALID"):
        spool.append(Stream.TELEMETRY, [wrong], bench.catalogue)
    assert bench.append(spool) == (0, 9)
    spool.close()


def test_catalogues_of_stored_blocks_stay_across_boots(bench):
    spool = bench.open()
    bench.append(spool)
    spool.put_catalogue(Catalogue((Signal(0, "new"),)))
    spool.close()
    spool = bench.open()
    assert spool.catalogue(bench.catalogue.digest) == bench.catalogue
    assert len(spool.schemas()) == 2
    assert spool.catalogue(b"?") is None
    spool.close()


def test_unused_catalogues_are_forgotten_once_there_are_several(bench):
    spool = bench.open()
    bench.append(spool)
    for number in range(6):
        spool.put_catalogue(Catalogue((Signal(0, f"new{number}"),)))
    newest = spool.schemas()[-1]
    spool.close()
    spool = bench.open()
    assert spool.schemas() == [bench.catalogue.digest, newest]
    spool.close()


def test_budget_or_policy_that_cannot_be_is_refused(bench):
    with pytest.raises(InputError, match="at least"):
        bench.open(disk_max_bytes=1000)
    with pytest.raises(InputError, match="drop_all"):
        bench.open(when_full="drop_all")


def test_what_was_stored_last_is_recalled_however_long_the_gateway_was_away(bench):
    spool = bench.open()
    bench.append(spool, count=3)
    bench.clock.advance(3600 * 10**9)
    bench.append(spool, count=2)
    spool.close()
    bench.clock.advance(7 * 86_400 * 10**9)
    spool = bench.open()
    [(catalogue, batches)] = spool.recent()
    assert catalogue == bench.catalogue
    assert sorted(v for b in batches for v in b.value.tolist()) == [3.0, 4.0]
    spool.close()
