"""History beyond its policies is in no answer at once, is deleted little by little, and answers say that it is gone."""

from __future__ import annotations

import itertools

import pytest
from sqlalchemy import func, select

from tests.contract.plant import KEY, NOW, TWIN, Edge
from twincloud.archive.directory import DirectoryObjects
from twincloud.storage import schema_hours as h
from twincloud.storage.kept import Kept
from twincloud.storage.records_archives import DAY_NS, FileState
from twincloud.twins.retention import Policy
from twincloud.upkeep.archive import ArchiveTask
from twincloud.upkeep.retention import RetentionTask
from twinmodel.clock import SECOND_NS, ManualClock
from twinmodel.errors import ConflictError, InputError

DAY = NOW // DAY_NS * DAY_NS
HOUR = 3_600 * SECOND_NS
DAYS = 4
LATER = DAY + 10 * DAY_NS
SIGNALS = ("plc0.flow", "plc0.speed", "pump-0/flow#estimate")
BY_HAND = lambda _: None  # noqa: E731 - checks nothing


@pytest.fixture
def objects(tmp_path):
    return DirectoryObjects(tmp_path / "archive", create=True)


@pytest.fixture
def edge(store, objects):
    """A gateway that sent a sample of three signals every six hours for four days, all compacted and summed up."""
    store.use_archive(objects)
    made = Edge(1)
    made.connect(store)
    made.send(store, [tick(made, DAY + n * 6 * HOUR, float(n)) for n in range(4 * DAYS)])
    settle(store)
    return made


def tick(edge, t_ns, value):
    return edge.samples({name: [(t_ns, value)] for name in SIGNALS})


def settle(store, now_ns=LATER) -> None:
    while store.compact(now_ns) or store.bucket(now_ns):
        pass


def keep(store, *policies, tenant="acme") -> None:
    store.set_retention(tenant, policies, by="ann", now_ns=NOW, check=BY_HAND)


def task(store, objects, *, archiving=False) -> RetentionTask:
    return RetentionTask(store, store, objects, archiving=archiving, clock=ManualClock(NOW))


def expire(store, objects, now_ns=LATER, *, archiving=False) -> None:
    assert task(store, objects, archiving=archiving).run(now_ns) == 0


def days_of(store, role="measured", prop="flow") -> list[int]:
    """Days since the first, of each sample."""
    run = store.history(TWIN, prop, (role,), DAY - DAY_NS, LATER, 1_000)[role]
    return [(t - DAY) // DAY_NS for t in run.t_ns.tolist()]


def rows(store, table) -> int:
    with store._database.read() as connection:
        return connection.execute(select(func.count()).select_from(table)).scalar_one()


def counts(store, resolution="1h") -> list[int]:
    return store.buckets(TWIN, "flow", ("measured",), DAY, DAY + DAYS * DAY_NS, resolution)["measured"].count.tolist()


def test_only_signals_with_a_policy_go_by_whole_days_and_the_answer_says_so(store, objects, edge):
    keep(store, Policy("plc0.*", raw_days=8), Policy("plc0.speed"))
    plan = store.plan_retention("acme", None, LATER + HOUR, archiving=False)
    expire(store, objects, LATER + HOUR)
    assert days_of(store) == [2] * 4 + [3] * 4
    assert (len(days_of(store, "estimate")), len(days_of(store, prop="speed"))) == (16, 16)
    assert rows(store, h.hours) == 3 * 16 - 8
    since = Kept(DAY + 2 * DAY_NS)
    assert store.kept(TWIN, "flow", ("measured", "estimate")) == {"measured": since, "estimate": Kept()}
    assert store.kept_of_twin(TWIN) == store.kept_of_signals(KEY, ["plc0.flow", "plc0.speed"]) == since
    # Buckets were made before, and stay.
    assert counts(store) == [1] * 16
    assert [(g.policy.pattern, g.samples, g.from_ns, g.to_ns) for g in plan.going] == [
        ("plc0.speed", 0, 0, 0), ("plc0.*", 8, DAY, DAY + DAY_NS + 19 * HOUR), ("*", 0, 0, 0),
    ]  # fmt: skip
    assert plan.going[1].bytes > 0
    assert not plan.archived
    # Policies that keep longer bring nothing back, and nothing more goes.
    keep(store)
    expire(store, objects, LATER + 3 * DAY_NS)
    assert days_of(store) == [2] * 4 + [3] * 4


def test_buckets_go_by_their_own_days_and_parts_when_nothing_of_them_is_left(store, objects, edge):
    keep(store, Policy("*", raw_days=7, buckets_days=8))
    expire(store, objects)
    assert (days_of(store), counts(store)) == ([3] * 4, [1] * 8)
    assert store.kept(TWIN, "flow", ("measured",))["measured"] == Kept(DAY + 3 * DAY_NS, DAY + 2 * DAY_NS)
    assert (rows(store, h.hours), rows(store, h.hour_parts), rows(store, h.buckets)) == (12, 4, 24)


def test_answers_are_the_same_at_every_step_of_a_deletion_that_breaks_off(place, objects, edge, store, monkeypatch):
    monkeypatch.setattr("twincloud.storage.retention.ROWS_MAX", 5)
    keep(store, Policy("*", raw_days=7))
    # Each attempt takes one step more and is killed then.
    for count in itertools.count(1):
        steps = list(itertools.islice(task(store, objects).steps(LATER), count))
        assert (days_of(store), counts(store)) == ([3] * 4, [1] * 16)
        if len(steps) < count:
            break
    assert (count > 4, rows(store, h.hours)) == (True, 12)


def test_late_data_beyond_the_limit_are_acknowledged_hidden_and_declared(store, objects, edge):
    keep(store, Policy("plc0.flow", raw_days=7))
    expire(store, objects)
    before = days_of(store), counts(store), len(days_of(store, prop="speed"))
    told = edge.send(store, [tick(edge, DAY + HOUR, 99.0), tick(edge, DAY + DAY_NS + HOUR, 98.0)])
    assert (told.samples, told.nack, told.rejected) == (6, None, ())
    assert days_of(store) == before[0]
    settle(store)
    assert (days_of(store), counts(store), len(days_of(store, prop="speed"))) == (*before[:2], before[2] + 2)
    (loss,) = store.losses(KEY)
    assert (loss.kind, loss.reason, loss.count, loss.from_ns, loss.to_ns) == (
        "EXPIRED", "RETENTION", 2, DAY + HOUR, DAY + DAY_NS + 2 * HOUR,
    )  # fmt: skip
    # All of a block may be late.
    edge.send(store, [edge.samples({"plc0.flow": [(DAY + 2 * HOUR, 1.0)]})])
    settle(store)
    assert [one.count for one in store.losses(KEY)] == [2, 1]
    expire(store, objects)
    assert days_of(store) == before[0]


def test_limits_wait_for_what_is_not_summed_up_yet(store, objects):
    made = Edge(1)
    made.connect(store)
    made.send(store, [tick(made, DAY, 1.0), tick(made, DAY + 5 * DAY_NS, 1.0)])
    keep(store, Policy("*", raw_days=2))
    while store.compact(LATER):
        pass
    expire(store, objects)
    assert days_of(store) == [0, 5]
    settle(store)
    expire(store, objects)
    assert (days_of(store), sum(counts(store))) == ([], 1)


def archive(store, objects, tmp_path, now_ns=LATER) -> None:
    done = ArchiveTask(store, objects, tmp_path / "staging", 7 * DAY_NS, "one", ManualClock(NOW))
    assert done.run(now_ns) == 0


def test_archived_days_are_kept_by_the_days_of_the_archive_alone(store, objects, edge, tmp_path):
    archive(store, objects, tmp_path)
    assert len(list(objects.list())) == 3
    listed = sum(len(batch) for _, batch in store.samples(KEY).items)
    assert (listed, store.archived_samples(KEY)) == (12, 36)
    keep(store, Policy("*", raw_days=1))
    # Also where nothing more is archived: what is there was put there to be kept.
    expire(store, objects)
    assert days_of(store) == [0] * 4 + [1] * 4 + [2] * 4 + [3] * 4
    keep(store, Policy("*", archive_days=8), Policy("plc0.speed", archive_days=9))
    plan = store.plan_retention("acme", None, LATER, archiving=True)
    expire(store, objects, archiving=True)
    assert (days_of(store), days_of(store, prop="speed")) == ([2] * 4 + [3] * 4, [1] * 4 + [2] * 4 + [3] * 4)
    # The second day is partly kept, so its file stays; that of the first waits for those who read it.
    states = [file.state for file in store.archives()]
    assert states == [FileState.SUPERSEDED, FileState.KEPT, FileState.KEPT]
    assert (plan.archived, plan.files, sum(g.archived for g in plan.going)) == (True, 1, 20)
    archive(store, objects, tmp_path, LATER + HOUR + 1)
    assert (len(list(objects.list())), len(store.archives())) == (2, 2)
    expire(store, objects, LATER + 9 * DAY_NS, archiving=True)
    assert (days_of(store), days_of(store, prop="speed"), rows(store, h.hours)) == ([], [], 0)


def test_files_given_up_are_deleted_where_nothing_is_archived_any_more(store, objects, edge, tmp_path):
    archive(store, objects, tmp_path)
    keep(store, Policy("*", archive_days=1))
    expire(store, objects)
    assert [file.state for file in store.archives()] == [FileState.SUPERSEDED] * 3
    expire(store, objects, LATER + HOUR + 1)
    assert (list(objects.list()), store.archives()) == ([], ())


def test_late_data_of_an_archived_day_are_summed_up_with_what_is_archived(store, objects, edge, tmp_path):
    archive(store, objects, tmp_path)
    before = store.buckets(TWIN, "flow", ("measured", "estimate"), DAY, DAY + HOUR, "1h")
    assert before["measured"].count.tolist() == [1]
    edge.send(store, [edge.samples({"plc0.flow": [(DAY + 1, 10.0), (DAY + 2, 5.0)]})])
    settle(store)
    store.use_archive(None)  # what is kept says it all
    after = store.buckets(TWIN, "flow", ("measured", "estimate"), DAY, DAY + HOUR, "1h")
    run = after["measured"]
    assert (run.count.tolist(), run.total.tolist(), run.high.tolist(), run.last.tolist()) == (
        [3],
        [15.0],
        [10.0],
        [5.0],
    )
    assert after["estimate"].count.tolist() == [1]


def test_policies_of_a_tenant_are_one_document_that_concerns_no_other(store, objects, edge):
    store.create_tenant("zeta", NOW)
    keep(store, Policy("*", raw_days=1), tenant="zeta")
    expire(store, objects)
    assert (len(days_of(store)), store.retention("acme")) == (16, ())
    keep(store, Policy("*", raw_days=3), Policy("plc0.*"), Policy("plc0.flow", 1, 2, 3))
    assert [p.pattern for p in store.retention("acme")] == ["plc0.flow", "plc0.*", "*"]

    def refuse(policies):
        assert len(policies) == 3
        raise ConflictError("PRECONDITION_FAILED", "they were changed")

    with pytest.raises(ConflictError):
        store.set_retention("acme", [], by="ann", now_ns=NOW, check=refuse)
    with pytest.raises(InputError, match="given twice"):
        keep(store, Policy("a"), Policy("a"))
    assert len(store.retention("acme")) == 3
