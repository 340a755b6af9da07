"""Days move into the archive and stay one answer with all other tiers, whatever breaks off on the way."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from sqlalchemy import update

from tests.contract.plant import KEY, NOW, TWIN, Edge
from twincloud.archive.directory import DirectoryObjects
from twincloud.storage.records_archives import DAY_NS, FileState
from twincloud.storage.schema_hours import hour_parts
from twincloud.storage.tiers import Wanted
from twincloud.upkeep.archive import ArchiveTask
from twinmodel.clock import SECOND_NS, ManualClock
from twinmodel.errors import StorageError, UnreachableError

DAY = NOW // DAY_NS * DAY_NS
AGE = 30 * DAY_NS
LATER = DAY + 40 * DAY_NS
SIGNALS = frozenset({"plc0.flow", "plc0.speed", "pump-0/flow#estimate", "line.state", "line.count"})


class Steps:
    """A clock on which every look takes long, so that each step of a task ends its run."""

    def __init__(self) -> None:
        self._now = itertools.count(step=10 * SECOND_NS)

    def boot_ns(self) -> int:
        return next(self._now)

    def wall_ns(self) -> int:
        return 0


@pytest.fixture
def objects(tmp_path):
    return DirectoryObjects(tmp_path / "archive", create=True)


@pytest.fixture
def edge(store, objects):
    """A gateway that sent two days, all compacted and summed up."""
    store.use_archive(objects)
    made = Edge(1)
    made.connect(store)
    for day in (DAY, DAY + DAY_NS):
        made.send(store, [tick(made, day + minute * 60 * SECOND_NS, minute / 8) for minute in range(0, 1_440, 97)])
        odd = [(day + n * 3_600 * SECOND_NS + n, text) for n, text in enumerate(("idle", "", "läuft"))]
        made.send(store, [made.samples({"line.state": odd, "line.count": [(day + 5, 2**62), (day + 5, -1)]}, 513)])
    compact(store)
    return made


def tick(edge, t_ns, value):
    """A block with three of the signals."""
    return edge.samples({name: [(t_ns, value)] for name in ("plc0.flow", "plc0.speed", "pump-0/flow#estimate")})


def compact(store, now_ns=LATER) -> None:
    while store.compact(now_ns):
        pass
    with store._database.write() as connection:
        connection.execute(update(hour_parts).values(bucketed=True))


def task(store, objects, tmp_path, worker="one", clock=None) -> ArchiveTask:
    return ArchiveTask(store, objects, tmp_path / "staging", AGE, worker, clock or ManualClock(NOW))


def samples(store, known=None) -> dict:
    """Every sample of the signals with all that is known of it, signal by signal in the order of an answer."""
    gateways = store.owners(TWIN)
    wanted = Wanted("acme", gateways, SIGNALS, DAY - DAY_NS, DAY + 3 * DAY_NS, *(() if known is None else (known,)))
    return {
        signal: [
            (t, v, q, c, tuple(run.origins[o])[:6], s)
            for run in runs
            for t, v, q, c, o, s in zip(
                run.t_ns.tolist(), run.value.tolist(), run.quality.tolist(), run.commit_no.tolist(),
                run.origin.tolist(), run.seq.tolist(), strict=True,
            )
        ]
        for signal, runs in store.runs(wanted).items()
    }  # fmt: skip


def hours_left(store) -> int:
    from sqlalchemy import func, select

    with store._database.read() as connection:
        return connection.execute(select(func.count()).select_from(hour_parts)).scalar_one()


def test_days_older_than_the_age_move_and_answers_stay_the_same(store, objects, edge, tmp_path):
    before = samples(store)
    assert task(store, objects, tmp_path).run(DAY + DAY_NS + AGE - 1) == 0
    assert store.archives() == ()
    work = task(store, objects, tmp_path)
    assert work.run(DAY + DAY_NS + AGE) == 0
    assert (work.moved, [head.key for head in objects.list()]) == (1, [store.archives()[0].key])
    assert work.run(LATER) == 0
    assert (work.moved, hours_left(store)) == (2, 0)
    assert samples(store) == before
    assert sum(len(rows) for rows in before.values()) == 100
    middle = sorted(row[3] for rows in before.values() for row in rows)[40]
    some = {signal: [row for row in rows if row[3] <= middle] for signal, rows in before.items()}
    assert samples(store, middle) == {signal: rows for signal, rows in some.items() if rows}
    history = store.history(TWIN, "flow", ("measured", "estimate"), DAY, DAY + DAY_NS, 1_000)
    assert history["measured"].value.tolist() == [row[1] for row in before["plc0.flow"] if row[0] < DAY + DAY_NS]


def test_a_crash_at_any_step_leaves_every_sample_in_one_answer_and_no_orphan(place, store, objects, edge, tmp_path):
    before = samples(store)
    for count in itertools.count(1):
        # Another process each time: the one before went away after so many steps, and its lease lapsed.
        work = task(store, objects, tmp_path, f"w{count}", Steps())
        now_ns = LATER + count * 2 * 3_600 * SECOND_NS
        ended = False
        for _ in range(count):
            ended = work.run(now_ns) == 0
            assert samples(store) == before
            if ended:
                break
        del work
        if ended and not hours_left(store):
            break
    assert count > 9
    kept = [file for file in store.archives() if file.state is FileState.KEPT]
    assert [file.day.day_ns for file in kept] == [DAY, DAY + DAY_NS]
    edge.send(store, [tick(edge, DAY + 5, 0.5)])
    compact(store)
    before = samples(store)
    for days in (60, 61):
        assert task(store, objects, tmp_path).run(LATER + days * DAY_NS) == 0
    assert sorted(head.key for head in objects.list()) == sorted(file.key for file in store.archives())
    assert samples(store) == before
    assert not list((tmp_path / "staging").iterdir())


def test_late_data_of_an_archived_day_make_a_second_generation(store, objects, edge, tmp_path):
    work = task(store, objects, tmp_path)
    work.run(LATER)
    first = store.archives()[0]
    content = objects.get(first.key, 0, first.size)
    edge.send(store, [tick(edge, DAY + 90 * 60 * SECOND_NS + 7, 0.3), tick(edge, DAY, 9.75)])
    mixed = samples(store)
    compact(store)
    assert samples(store) == mixed
    work.run(LATER + 3_600 * SECOND_NS)
    assert hours_left(store) > 0  # a day is not written anew for each late block
    work.run(LATER + DAY_NS)
    assert samples(store) == mixed
    states = {file.generation: file for file in store.archives() if file.day == first.day}
    assert [states[1].state, states[2].state] == [FileState.SUPERSEDED, FileState.KEPT]
    assert states[2].key == first.key.replace(".parquet", ".gen2.parquet")
    assert objects.get(first.key, 0, first.size) == content
    work.run(LATER + DAY_NS + 2 * 3_600 * SECOND_NS)
    assert [file.generation for file in store.archives() if file.day == first.day] == [2]
    assert objects.head(first.key) is None
    assert samples(store) == mixed


def test_data_that_come_while_a_day_is_sent_give_up_the_attempt_not_the_data(store, objects, edge, tmp_path):
    work = task(store, objects, tmp_path, clock=Steps())
    while not list(objects.list()):
        assert work.run(LATER)
    edge.send(store, [tick(edge, DAY + 12, 4.5)])
    compact(store)
    mixed = samples(store)
    while work.run(LATER):
        assert samples(store) == mixed
    for again in range(1, 9):
        task(store, objects, tmp_path).run(LATER + again * DAY_NS)
    assert hours_left(store) == 0
    assert samples(store) == mixed
    assert sorted(head.key for head in objects.list()) == sorted(file.key for file in store.archives())


def test_what_was_damaged_on_the_way_is_noticed_before_anything_is_removed(store, objects, edge, tmp_path, monkeypatch):
    before = samples(store)
    get = objects.get
    monkeypatch.setattr(
        objects,
        "get",
        lambda key, offset, length: bytes([get(key, offset, length)[0] ^ 1]) + get(key, offset + 1, length - 1),
    )
    with pytest.raises(StorageError, match="ARCHIVE_DAMAGED"):
        task(store, objects, tmp_path).run(LATER)
    assert samples(store) == before
    assert all(file.state is FileState.DRAFT for file in store.archives())


def test_an_archive_that_is_gone_for_a_day_keeps_the_hours_and_heals(store, objects, edge, tmp_path):
    before = samples(store)
    gone = DirectoryObjects(tmp_path / "not-mounted")
    work = task(store, gone, tmp_path)
    for hour in range(24):
        with pytest.raises(UnreachableError):
            work.run(LATER + hour * 3_600 * SECOND_NS)
        assert samples(store) == before
    gone.folder.mkdir()
    work.run(LATER + DAY_NS)
    store.use_archive(gone)
    assert hours_left(store) == 0
    assert samples(store) == before
    # Read later, by a process that holds nothing of it, while it is gone again: only its days fail, with a reason.
    gone.folder.rename(tmp_path / "elsewhere")
    store._archive_tier._held.clear()
    store._archive_tier._footers.clear()
    with pytest.raises(UnreachableError, match="ARCHIVE_UNREACHABLE"):
        samples(store)
    recent = store.history(TWIN, "flow", ("measured",), LATER, LATER + 1, 10)
    assert recent["measured"].t_ns.tolist() == []


def test_a_key_that_holds_something_else_is_left_alone(store, objects, edge, tmp_path):
    before = samples(store)
    other = tmp_path / "other"
    other.write_bytes(b"of a database that was restored")
    key = "tenant=acme/site=mill/gateway=gw-1/2023-11-14.parquet"
    for _ in objects.put(key, other, "", remember=lambda _: None):
        pass
    work = task(store, objects, tmp_path)
    work.run(LATER)
    work.run(LATER + 3_600 * SECOND_NS)
    states = [(file.generation, file.state) for file in store.archives() if file.day.day_ns == DAY]
    assert states == [(1, FileState.FOREIGN), (2, FileState.KEPT)]
    work.run(LATER + 9 * DAY_NS)
    assert objects.get(key, 0, 6) == b"of a d"
    assert samples(store) == before


def test_two_replicas_do_not_make_the_same_file(store, objects, edge, tmp_path):
    (first, _) = store.archive_days(LATER, LATER, 9)
    draft = store.begin_archive(first, "one", LATER)
    assert draft is not None
    assert store.begin_archive(first, "two", LATER + 1) is None
    taken = store.begin_archive(first, "two", LATER + 3_601 * SECOND_NS)
    assert taken is not None
    assert (taken.key, taken.generation) == (draft.key, 1)
    store.leave_archive(draft, FileState.ABANDONED, LATER)
    assert store.archives()[0].state is FileState.DRAFT  # it is no longer the first one's to give up


def test_what_retention_deleted_is_no_longer_answered(store, objects, edge, tmp_path):
    from twincloud.storage.schema_hours import points

    task(store, objects, tmp_path).run(LATER)
    with store._database.write() as connection:
        connection.execute(update(points).where(points.c.signal == "plc0.flow").values(raw_from_ns=DAY + DAY_NS))
    found = samples(store)
    assert min(row[0] for row in found["plc0.flow"]) >= DAY + DAY_NS
    assert min(row[0] for row in found["plc0.speed"]) == DAY
    assert np.unique([row[2] for row in found["line.state"]]).tolist() == [513]
    assert KEY.gateway == "gw-1"
