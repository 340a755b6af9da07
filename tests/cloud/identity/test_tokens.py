"""Tokens and the ledger: hashed, scoped, expiring, revocable beside a running service."""

from __future__ import annotations

import contextlib
import stat

import pytest

from tests.cloud.plant import Plant
from twincloud.identity.ledger import CertificateEntry, Ledger, TokenEntry
from twincloud.identity.policy import POLICY, ROLES, authorise
from twincloud.identity.tokens import hash_of, issue, new_secret, resolve
from twincloud.storage.contract import Principal
from twinmodel.clock import SECOND_NS, ManualClock
from twinmodel.errors import DeniedError, TwinError


@pytest.fixture
def ledger(tmp_path):
    return Ledger(tmp_path)


def test_secret_is_random_and_only_its_hash_is_kept(ledger, tmp_path):
    token = issue(ledger, ManualClock(), name="desk", tenant="acme", role="viewer")
    assert token.startswith("twt_")
    assert len({new_secret() for _ in range(100)}) == 100
    path = tmp_path / "identity" / "ledger.json"
    assert token not in path.read_text()
    assert hash_of(token).hex() in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_role_lifetime_and_name_are_checked(ledger):
    clock = ManualClock()
    for wrong in ({"role": "root"}, {"role": "viewer", "ttl_s": -1}):
        with pytest.raises(TwinError, match="REQUEST_INVALID"):
            issue(ledger, clock, name="x", tenant="acme", **wrong)
    issue(ledger, clock, name="x", tenant="acme", role="viewer")
    with pytest.raises(TwinError, match="ALREADY_EXISTS"):
        issue(ledger, clock, name="x", tenant="acme", role="viewer")
    ledger.revoke_token("x", 5)
    issue(ledger, clock, name="x", tenant="acme", role="viewer")
    with pytest.raises(TwinError, match="NOT_FOUND"):
        ledger.revoke_token("y", 5)


def test_token_enters_the_store_at_its_first_use_and_no_revoked_or_expired_one_does(tmp_path):
    plant = Plant(tmp_path / "state")
    now_ns = plant.clock.wall_ns()
    token = hash_of(plant.token("engineer", "acme"))
    assert resolve(plant.store, plant.ledger, token, now_ns) == Principal("t0", "acme", "engineer")
    assert plant.store.principal(token, now_ns) == Principal("t0", "acme", "engineer")
    expired = hash_of(plant.token("engineer", "acme", ttl_s=1))
    with pytest.raises(TwinError, match="TOKEN_INVALID"):
        resolve(plant.store, plant.ledger, expired, now_ns + 2 * SECOND_NS)
    plant.ledger.revoke_token("t0", now_ns)
    with pytest.raises(TwinError, match="TOKEN_INVALID"):
        resolve(plant.store, plant.ledger, token, now_ns)
    with pytest.raises(TwinError, match="TOKEN_INVALID"):
        resolve(plant.store, plant.ledger, hash_of("twt_guess"), now_ns)
    plant.close()


def test_change_by_another_process_is_seen_at_once(tmp_path):
    service, command = Ledger(tmp_path), Ledger(tmp_path)
    command.add_certificate(CertificateEntry("ab12", "spiffe://x", 1, 10**18))
    assert not service.is_revoked("ab12")
    command.revoke_certificate("00:AB:12", 7)
    assert service.is_revoked("ab12")
    assert service.is_revoked(0xAB12)
    assert command.revoke_certificate("ab12", 9).revoked_ns == 7
    with pytest.raises(TwinError, match="NOT_FOUND"):
        command.revoke_certificate("ff", 9)


def test_certificates_whose_time_is_over_leave_the_ledger(ledger):
    ledger.add_certificate(CertificateEntry("1", "a", 0, 100))
    ledger.add_certificate(CertificateEntry("2", "b", 101, 200))
    assert set(ledger.content().certificates) == {"2"}


def test_damaged_ledger_lets_nobody_in(ledger, tmp_path):
    ledger.add_token(TokenEntry("a", "acme", "viewer", "00", 1))
    (tmp_path / "identity" / "ledger.json").write_text("{")
    with pytest.raises(TwinError, match="STORE_CORRUPT"):
        ledger.is_token_revoked(b"\0")


@pytest.mark.parametrize("role", ROLES)
def test_each_role_may_do_all_that_lower_roles_may(role):
    allowed = set()
    for verb in POLICY:
        with contextlib.suppress(DeniedError):
            authorise(Principal("x", "acme", role), "acme", verb)
            allowed.add(verb)
    assert allowed == {v for v, least in POLICY.items() if ROLES.index(least) <= ROLES.index(role)}


def test_unknown_role_may_do_nothing():
    with pytest.raises(TwinError, match="FORBIDDEN"):
        authorise(Principal("x", "acme", "wizard"), "acme", "fleet.read")


def test_the_name_of_an_expired_token_is_free_again_and_revoking_it_means_the_new_one(ledger):
    clock = ManualClock()
    old = issue(ledger, clock, name="desk", tenant="acme", role="viewer", ttl_s=1)
    clock.advance(2 * SECOND_NS)
    new = issue(ledger, clock, name="desk", tenant="acme", role="viewer")
    ledger.revoke_token("desk", clock.wall_ns())
    assert ledger.is_token_revoked(hash_of(new))
    assert not ledger.is_token_revoked(hash_of(old))
