"""Operations: asked once, done by one worker, taken up again when it is gone, bounded per tenant."""

from __future__ import annotations

import pytest

from tests.contract.plant import NOW
from twincloud.storage.operations import ATTEMPTS_MAX, KEPT_NS, OPEN_MAX
from twincloud.storage.records_operations import Failure, Question
from twinmodel.clock import SECOND_NS
from twinmodel.errors import MissingError, UnreachableError

LEASE_NS = 30 * SECOND_NS
KINDS = ("backtest",)


def ask(store, digest="d1", *, now_ns=NOW, kind="backtest"):
    question = Question(kind, "mill/pump-0", digest, {"from_ns": 1, "model": "pump@2.0.0"})
    return store.ask("acme", question, by="ann", now_ns=now_ns)


def test_question_is_queued_claimed_by_one_worker_and_answered(store):
    asked = ask(store)
    assert (asked.state, asked.cached, asked.request["model"]) == ("queued", False, "pump@2.0.0")
    mine = store.claim_operation("w1", KINDS, NOW, LEASE_NS)
    assert (mine.number, mine.state, mine.attempts) == (asked.number, "running", 1)
    assert store.claim_operation("w2", KINDS, NOW, LEASE_NS) is None
    assert store.beat_operation(mine, "w1", 0.25, NOW + SECOND_NS, LEASE_NS)
    assert store.operation("acme", asked.number).progress == 0.25
    assert store.finish_operation(mine, "w1", {"rmse": 0.5}, NOW + 2 * SECOND_NS)
    done = store.operation("acme", asked.number)
    assert (done.state, done.result, done.progress, done.ended_ns) == ("done", {"rmse": 0.5}, 1.0, NOW + 2 * SECOND_NS)


def test_same_question_is_answered_from_before_and_an_old_answer_is_not(store):
    first = ask(store)
    again = ask(store)
    assert (again.number, again.cached) == (first.number, True)
    mine = store.claim_operation("w1", KINDS, NOW, LEASE_NS)
    store.finish_operation(mine, "w1", {"rmse": 0.5}, NOW)
    assert ask(store).result == {"rmse": 0.5}
    assert ask(store, "d2").number != first.number
    assert ask(store, now_ns=NOW + KEPT_NS + 1).number != first.number


def test_failure_is_told_and_the_next_question_works_anew(store):
    ask(store)
    mine = store.claim_operation("w1", KINDS, NOW, LEASE_NS)
    store.finish_operation(mine, "w1", Failure("UNKNOWN_MODEL", "no model", "push it"), NOW)
    failed = store.operation("acme", mine.number)
    assert (failed.state, failed.reason, failed.hint) == ("failed", "UNKNOWN_MODEL", "push it")
    assert ask(store).cached is False


def test_work_of_a_worker_that_is_gone_is_taken_up_and_its_late_answer_refused(store):
    ask(store)
    first = store.claim_operation("w1", KINDS, NOW, LEASE_NS)
    later = NOW + LEASE_NS + 1
    second = store.claim_operation("w2", KINDS, later, LEASE_NS)
    assert (second.number, second.attempts) == (first.number, 2)
    assert not store.beat_operation(first, "w1", 0.5, later, LEASE_NS)
    assert not store.finish_operation(first, "w1", {"rmse": 1.0}, later)
    assert store.finish_operation(second, "w2", {"rmse": 2.0}, later)
    assert store.operation("acme", first.number).result == {"rmse": 2.0}


def test_work_that_no_worker_survives_fails_by_name(store):
    ask(store)
    now_ns = NOW
    for _ in range(ATTEMPTS_MAX):
        assert store.claim_operation("w", KINDS, now_ns, LEASE_NS) is not None
        now_ns += LEASE_NS + 1
    assert store.claim_operation("w", KINDS, now_ns, LEASE_NS) is None
    (lost,) = store.operations("acme").items
    assert (lost.state, lost.reason) == ("failed", "OPERATION_LOST")


def test_released_work_waits_again_and_its_attempt_does_not_count(store):
    ask(store)
    store.release_operation(store.claim_operation("w1", KINDS, NOW, LEASE_NS), "w1")
    assert store.claim_operation("w2", KINDS, NOW, LEASE_NS).attempts == 1


def test_cancelled_work_ends_at_once_when_it_waits_and_at_the_next_beat_when_it_runs(store):
    waiting = ask(store)
    assert store.cancel_operation("acme", waiting.number, NOW).state == "cancelled"
    running = ask(store)
    assert running.number != waiting.number
    mine = store.claim_operation("w1", KINDS, NOW, LEASE_NS)
    assert store.cancel_operation("acme", running.number, NOW).cancelling
    assert not store.beat_operation(mine, "w1", 0.5, NOW, LEASE_NS)
    assert store.finish_operation(mine, "w1", None, NOW)
    assert store.cancel_operation("acme", running.number, NOW).state == "cancelled"
    with pytest.raises(MissingError, match="no operation 999"):
        store.cancel_operation("acme", 999, NOW)


def test_tenant_with_too_much_waiting_is_refused_and_others_are_not(store):
    store.create_tenant("other", NOW)
    for n in range(OPEN_MAX):
        ask(store, f"d{n}")
    with pytest.raises(UnreachableError, match="RATE_LIMITED"):
        ask(store, "one more")
    assert store.ask("other", Question("backtest", "", "x", {}), by="bob", now_ns=NOW).state == "queued"


def test_listing_pages_newest_first_within_a_tenant_and_forgets_what_ended_long_ago(store):
    numbers = [ask(store, f"d{n}").number for n in range(3)]
    page = store.operations("acme", limit=2)
    rest = store.operations("acme", limit=2, token=page.next_token)
    assert [one.number for one in (*page.items, *rest.items)] == numbers[::-1]
    assert store.operations("acme", state="done").items == ()
    mine = store.claim_operation("w1", KINDS, NOW, LEASE_NS)
    store.finish_operation(mine, "w1", {}, NOW)
    assert store.forget_operations(NOW, 10) == 0
    assert store.forget_operations(NOW + 1, 10) == 1
    assert len(store.operations("acme").items) == 2
    store.create_tenant("other", NOW)
    assert store.operations("other").items == ()


def test_work_of_other_kinds_is_left_to_other_workers(store):
    ask(store, kind="export")
    assert store.claim_operation("w1", KINDS, NOW, LEASE_NS) is None
