"""Requests under an Idempotency-Key: carried out once, whoever asks and whatever breaks in between."""

from __future__ import annotations

import pytest

from tests.contract.plant import NOW
from twincloud.storage.records_requests import Answer, Claim
from twincloud.storage.requests import BODY_BYTES_MAX, KEPT_NS, LEASE_NS
from twincloud.storage.stamps import under
from twinmodel.errors import TwinError

MINE = Claim("acme", b"d" * 32, b"a" * 16)
OTHER = Claim("acme", b"d" * 32, b"b" * 16)
BODY, ELSE = b"1" * 32, b"2" * 32
DONE = Answer(201, ((b"content-type", b"application/json"), (b"etag", b'"1"')), b'{"a":1}')


def refused(call, *args) -> str:
    with pytest.raises(TwinError) as error:
        call(*args)
    return error.value.reason


def test_answer_is_given_again_to_the_same_request_for_a_day(store):
    assert store.claim_request(MINE, BODY, NOW) is None
    store.keep_answer(MINE, DONE, NOW)
    assert store.claim_request(OTHER, BODY, NOW + 1) == DONE
    assert store.claim_request(OTHER, BODY, NOW + KEPT_NS - 1) == DONE
    assert refused(store.claim_request, OTHER, ELSE, NOW + 1) == "KEY_REUSED"
    assert store.claim_request(OTHER, ELSE, NOW + KEPT_NS + 1) is None


def test_second_of_two_that_run_at_once_waits_and_takes_over_what_was_left_open(store):
    assert store.claim_request(MINE, BODY, NOW) is None
    assert refused(store.claim_request, OTHER, BODY, NOW + LEASE_NS - 1) == "IN_PROGRESS"
    assert refused(store.claim_request, OTHER, ELSE, NOW + LEASE_NS - 1) == "KEY_REUSED"
    assert store.claim_request(OTHER, BODY, NOW + LEASE_NS) is None
    # The first one was only slow: what it does now is rolled back, and its answer is not the one.
    with under([MINE]):
        assert refused(store.create_tenant, "late", NOW) == "IN_PROGRESS"
    assert "late" not in store.tenants()
    store.keep_answer(MINE, DONE, NOW)
    assert refused(store.claim_request, MINE, BODY, NOW + LEASE_NS) == "IN_PROGRESS"


def test_change_that_was_committed_before_a_crash_is_never_made_again(store):
    assert store.claim_request(MINE, BODY, NOW) is None
    with under([MINE]):
        store.create_tenant("made", NOW)
    assert refused(store.claim_request, OTHER, BODY, NOW + 1) == "IN_PROGRESS"
    assert refused(store.claim_request, OTHER, BODY, NOW + LEASE_NS) == "ANSWER_LOST"
    store.release_request(MINE)
    assert refused(store.claim_request, OTHER, BODY, NOW + LEASE_NS) == "ANSWER_LOST"
    store.keep_answer(MINE, DONE, NOW)
    assert store.claim_request(OTHER, BODY, NOW + LEASE_NS) == DONE


def test_refused_request_leaves_its_key_free(store):
    assert store.claim_request(MINE, BODY, NOW) is None
    with under([MINE]):
        assert refused(store.create_site, "nobody", "north", NOW) == "NOT_FOUND"
    store.release_request(MINE)
    assert store.claim_request(OTHER, ELSE, NOW) is None


def test_answer_too_large_to_keep_is_known_to_have_been_given(store):
    assert store.claim_request(MINE, BODY, NOW) is None
    store.keep_answer(MINE, Answer(200, (), b"x" * (BODY_BYTES_MAX + 1)), NOW)
    assert refused(store.claim_request, OTHER, BODY, NOW + 1) == "ANSWER_LOST"


def test_tenants_do_not_share_keys_and_each_has_a_bounded_number(store, monkeypatch):
    monkeypatch.setattr("twincloud.storage.requests.KEYS_MAX", 3)
    for number in range(3):
        assert store.claim_request(Claim("acme", bytes([number]) * 32, b"a" * 16), BODY, NOW) is None
    assert refused(store.claim_request, Claim("acme", b"x" * 32, b"a" * 16), BODY, NOW) == "RATE_LIMITED"
    assert store.claim_request(Claim("globex", b"x" * 32, b"a" * 16), BODY, NOW) is None
    # Keys of yesterday make room.
    assert store.claim_request(Claim("acme", b"x" * 32, b"a" * 16), BODY, NOW + KEPT_NS) is None
