"""When the budget is used up the cap still holds, alarms are still kept, and the ledger sums to every loss."""

import pytest

from twinmodel.errors import StorageError
from twinmodel.signal import Stream
from twinsync.item import Block, Gap, Mark

DISK = 1 << 20
READ = {"bytes_max": 1 << 30, "items_max": 10_000}


def fill(bench, spool, stream=Stream.TELEMETRY, rounds=60, count=2000):
    top = 0
    for _ in range(rounds):
        bench.append(spool, stream, count, noisy=True)
        top = max(top, spool.disk_bytes())
    return top


def lost(spool):
    return sum(line.samples for line in spool.ledger())


@pytest.mark.parametrize("when_full", ["drop_oldest", "drop_newest"])
def test_cap_holds_and_the_ledger_sums_to_every_gap(bench, when_full):
    spool = bench.open(DISK, when_full)
    assert fill(bench, spool) <= DISK
    items = bench.everything(spool)
    assert bench.gaps(items) == lost(spool) > 0
    assert sum(i.count for i in items) == 60 * 2000
    assert all(line.reason == "STORE_FULL" for line in spool.ledger())
    # Neighbouring gaps became one.
    assert sum(isinstance(i.content, Gap) for i in items) == 1
    oldest_is_gap = isinstance(items[0].content, Gap)
    assert oldest_is_gap is (when_full != "drop_newest")
    spool.close()


def test_reject_refuses_declares_what_it_refused_and_takes_again_after_an_acknowledgement(bench):
    spool = bench.open(DISK, "reject")
    with pytest.raises(StorageError, match="STORE_FULL") as refusal:
        fill(bench, spool)
    assert refusal.value.facts["declared"] == 2000
    held = spool.ranges()[0]
    items = bench.everything(spool)
    assert (bench.gaps(items), lost(spool)) == (2000, 2000)
    assert isinstance(items[-1].content, Gap)
    spool.acknowledge([Mark(held.boot, held.stream, held.next_seq)])
    assert bench.append(spool, count=2000, noisy=True)[0] == held.next_seq
    spool.close()


def test_writer_that_can_wait_is_refused_and_nothing_is_declared(bench):
    spool = bench.open(DISK, "reject")
    with pytest.raises(StorageError):
        fill(bench, spool)
    before, ledger = spool.ranges(), spool.ledger()
    with pytest.raises(StorageError, match="STORE_FULL") as refusal:
        spool.append_many([(Stream.TELEMETRY, [bench.batch(2000, noisy=True)])], bench.catalogue, declare=False)
    assert "declared" not in refusal.value.facts
    assert (spool.ranges(), spool.ledger()) == (before, ledger)
    spool.close()


@pytest.mark.parametrize("when_full", ["drop_oldest", "drop_newest", "thin", "reject"])
def test_alarms_are_stored_when_telemetry_has_used_the_budget_up(bench, when_full):
    spool = bench.open(DISK, when_full)
    try:
        fill(bench, spool)
    except StorageError:
        assert when_full == "reject"
    for _ in range(20):
        bench.append(spool, Stream.ALARM, 5)
    alarms = [i for i in bench.everything(spool) if i.stream is Stream.ALARM]
    assert [type(i.content) for i in alarms] == [Block] * 20
    assert spool.disk_bytes() <= DISK
    spool.close()


def test_reject_with_alarms_in_the_call_stores_these_and_declares_the_rest(bench):
    spool = bench.open(DISK, "reject")
    with pytest.raises(StorageError):
        fill(bench, spool)
    parts = [(Stream.TELEMETRY, [bench.batch(2000, noisy=True)]), (Stream.ALARM, [bench.batch(3)])]
    with pytest.raises(StorageError) as refusal:
        spool.append_many(parts, bench.catalogue)
    assert refusal.value.facts["declared"] == 2000
    items = spool.unsent(**READ)
    assert isinstance(items[0].content, Block)
    assert items[0].stream is Stream.ALARM
    assert (bench.gaps(items), lost(spool)) == (4000, 4000)
    spool.close()


def test_lesser_streams_never_displace_greater_ones(bench):
    spool = bench.open(DISK, "drop_oldest")
    fill(bench, spool, Stream.STATE, rounds=60)
    stored = [i for i in bench.everything(spool) if isinstance(i.content, Block)]
    fill(bench, spool, Stream.BULK, rounds=40)
    items = bench.everything(spool)
    assert [i for i in items if i.stream is Stream.STATE and isinstance(i.content, Block)] == stored
    bulk = [i for i in items if i.stream is Stream.BULK]
    assert isinstance(bulk[0].content, Gap)
    assert isinstance(bulk[-1].content, Block)
    assert bench.gaps(items) == lost(spool)
    spool.close()


def test_acknowledged_items_go_before_anything_is_lost(bench):
    spool = bench.open(DISK)
    for _ in range(60):
        _, last = bench.append(spool, count=2000, noisy=True)
        spool.acknowledge([Mark(spool.boot.id, Stream.TELEMETRY, last + 1)])
        assert spool.disk_bytes() <= DISK
    assert spool.ledger() == []
    spool.close()


def test_item_that_was_handed_out_keeps_its_extent_when_it_is_dropped(bench):
    spool = bench.open(DISK)
    for _ in range(20):
        bench.append(spool, count=500, noisy=True)
    before = [(i.first_seq, i.last_seq) for i in spool.unsent(bytes_max=1 << 30, items_max=10)]
    assert len(before) == 10
    spool.close()
    spool = bench.open(DISK)
    fill(bench, spool)
    after = [i for i in bench.everything(spool) if i.boot != spool.boot.id]
    assert [(i.first_seq, i.last_seq) for i in after][:10] == before
    assert all(isinstance(i.content, Gap) for i in after)
    assert lost(spool) == bench.gaps(bench.everything(spool))
    spool.close()


def test_smaller_budget_shrinks_the_file(bench):
    spool = bench.open(8 * DISK)
    fill(bench, spool, rounds=150)
    assert spool.disk_bytes() > DISK
    spool.close()
    spool = bench.open(DISK)
    bench.append(spool)
    assert spool.disk_bytes() <= DISK
    assert lost(spool) == bench.gaps(bench.everything(spool))
    spool.close()
