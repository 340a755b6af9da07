"""When a certificate is renewed, how often it is tried, what is said, and the whole way over real TLS."""

from __future__ import annotations

import asyncio
import json
import threading
from random import Random

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from tests.cloud.identity.test_ca import KEY, csr_of
from tests.cloud.service.test_service import make_state, serving
from twincloud.identity.ca import Authority
from twincloud.identity.ledger import Ledger
from twinedge import enrol, renewal
from twinedge.renewal import LOOK_NS, Renewal, due_ns
from twinmodel.clock import SECOND_NS, ManualClock, SystemClock
from twinmodel.errors import DeniedError, TwinError, UnreachableError

DAY_NS = 86_400 * SECOND_NS
HOUR_NS = 3_600 * SECOND_NS


class Gateway:
    """An identity of 30 days, its renewal, and a coordinator that does what `answers` says."""

    def __init__(self, folder, monkeypatch):
        self.folder, self.clock = folder / "edge", ManualClock()
        self.ca = Authority.create(folder / "cloud", self.clock)
        self.put()
        self.tries, self.renewed, self.error = [], 0, None
        monkeypatch.setattr(renewal, "renew", self._renew)
        self.task = Renewal(self.folder, self.clock, Random(1), self._on_renewed)

    def put(self, url="https://h:1"):
        key = ec.generate_private_key(ec.SECP256R1())
        pem = self.ca.issue(KEY, csr_of(key)).chain_pem
        joined = enrol.Joined("acme", "north", "gw-1", "h:2")
        enrol._replace_folder(self.folder, enrol._files(joined, pem, self.ca.root_pem, key, url, {}))

    def _renew(self, state_dir, url, clock):
        self.tries.append(clock.boot_ns())
        assert (state_dir, url) == (self.folder, "https://h:1")
        if self.error is not None:
            raise self.error
        self.put()

    def _on_renewed(self):
        self.renewed += 1

    async def pass_time(self, for_ns):
        """Looks as often as `run` would."""
        end_ns = self.clock.boot_ns() + for_ns
        while self.clock.boot_ns() < end_ns:
            wait_ns = await self.task.look()
            assert 0 < wait_ns <= LOOK_NS
            # Days pass in steps of half an hour, since a look costs a read of the folder.
            self.clock.advance(min(max(wait_ns, 1_800 * SECOND_NS), end_ns - self.clock.boot_ns()))


@pytest.fixture
def gateway(tmp_path, monkeypatch):
    return Gateway(tmp_path, monkeypatch)


@given(st.integers(0, 1 << 60), st.integers(1, 1 << 60), st.floats(0, 1, exclude_max=True))
def test_due_lies_between_half_and_three_fifths_of_the_life(begin_ns, life_ns, share):
    ahead_ns = due_ns(begin_ns, begin_ns + life_ns, share) - begin_ns
    assert life_ns // 2 <= ahead_ns <= life_ns * 3 // 5 + 256


async def test_certificate_is_renewed_once_in_the_middle_of_its_life(gateway):
    with capture_logs() as logs:
        await gateway.pass_time(14 * DAY_NS)
        assert gateway.tries == []
        await gateway.pass_time(6 * DAY_NS)
    assert len(gateway.tries) == gateway.renewed == 1
    assert [entry["event"] for entry in logs] == ["certificate renewed"]


async def test_expired_certificate_is_renewed_at_the_first_look(gateway):
    gateway.clock.advance(31 * DAY_NS)
    await gateway.task.look()
    assert gateway.renewed == 1


async def test_failures_are_told_once_and_retried_from_a_minute_up_to_six_hours(gateway):
    gateway.error = UnreachableError("COORDINATOR_UNREACHABLE", "h:1: refused")
    gateway.clock.advance(20 * DAY_NS)
    with capture_logs() as logs:
        for _ in range(12 * 60):
            wait_ns = await gateway.task.look()
            gateway.clock.advance(wait_ns)
        gaps = [b - a for a, b in zip(gateway.tries, gateway.tries[1:], strict=False)]
        assert len(gaps) >= 5
        assert 60 * SECOND_NS <= gaps[0] <= 180 * SECOND_NS
        assert gaps == sorted(gaps)
        assert gaps[-1] <= 6 * HOUR_NS + LOOK_NS
        assert [entry["reason"] for entry in logs] == ["COORDINATOR_UNREACHABLE"]
        gateway.error = None
        await gateway.pass_time(7 * HOUR_NS)
    assert gateway.renewed == 1
    assert logs[-1]["event"] == "certificate renewed"


async def test_end_of_the_certificate_is_a_reason_to_try_at_once(gateway):
    gateway.error = UnreachableError("COORDINATOR_UNREACHABLE", "h:1: refused")
    gateway.clock.advance(29 * DAY_NS)
    await gateway.pass_time(DAY_NS - HOUR_NS)
    gateway.task._retry_ns = gateway.clock.boot_ns() + 6 * HOUR_NS
    tries = len(gateway.tries)
    for _ in range(62):
        gateway.clock.advance(await gateway.task.look())
    assert len(gateway.tries) == tries + 1


async def test_defect_in_a_renewal_is_not_repeated_without_a_wait(gateway):
    gateway.error = RuntimeError("a defect")
    gateway.clock.advance(20 * DAY_NS)
    with pytest.raises(RuntimeError):
        await gateway.task.look()
    await gateway.task.look()
    assert len(gateway.tries) == 1


async def test_identity_that_does_not_know_its_url_says_so_once_and_is_left_alone(gateway):
    gateway.put(url="")
    path = gateway.folder / "identity" / "coordinator.json"
    facts = json.loads(path.read_text())
    del facts["enrol_url"]
    path.write_text(json.dumps(facts))
    with capture_logs() as logs:
        await gateway.pass_time(10 * DAY_NS)
        assert logs == []
        await gateway.pass_time(10 * DAY_NS)
    assert gateway.tries == []
    assert len(logs) == 1
    assert "twinedge join" in logs[0]["hint"]


async def test_refusal_is_told_with_its_reason(gateway):
    gateway.error = DeniedError("SUSPENDED", "gateway 'gw-1' is suspended")
    gateway.clock.advance(20 * DAY_NS)
    with capture_logs() as logs:
        await gateway.task.look()
    assert logs[0]["reason"] == "SUSPENDED"


def write_leaf(state, folder, issued_days_ago):
    """Replaces the certificate of an identity by one that was issued long ago for the same key."""
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    key = load_pem_private_key((folder / "identity" / "key.pem").read_bytes(), None)
    now_ns = SystemClock().wall_ns() - issued_days_ago * DAY_NS
    leaf = Authority.load(state, ManualClock(now_ns)).issue(KEY, csr_of(key))
    (folder / "identity" / "cert.pem").write_bytes(leaf.chain_pem)
    return leaf.serial


async def test_expired_gateway_renews_itself_over_real_tls_with_a_new_key(tmp_path):
    state, folder = make_state(tmp_path), tmp_path / "edge"
    clock, woken = SystemClock(), asyncio.Event()
    async with serving(state) as running:
        await running.join(await running.invite(), folder)
        expired = write_leaf(state, folder, 40)
        before = enrol.load_identity(folder, clock, expired_too=True)
        with pytest.raises(TwinError, match="CERT_EXPIRED"):
            enrol.load_identity(folder, clock)
        await Renewal(folder, clock, Random(1), woken.set).look()
        after = enrol.load_identity(folder, clock)
        assert woken.is_set()
        assert after.serial != expired
        assert after.key_pem != before.key_pem
        assert (after.ca_pem, after.signers, after.enrol_url) == (before.ca_pem, before.signers, before.enrol_url)
        assert (after.site, after.gateway, after.sync_address) == ("north", "gw-1", before.sync_address)
        assert after.serial in Ledger(state).content().certificates
        assert [path.name for path in folder.iterdir()] == ["identity"]

        write_leaf(state, folder, 121)
        with pytest.raises(TwinError, match=r"CERT_EXPIRED.*over 90 days"):
            await asyncio.to_thread(enrol.renew, folder, after.enrol_url, clock)


async def test_join_during_a_renewal_wins(tmp_path, monkeypatch):
    state, folder = make_state(tmp_path), tmp_path / "edge"
    clock, trade = SystemClock(), enrol._trade
    asked, joined = threading.Event(), threading.Event()

    def slow(*given):
        answer = trade(*given)
        if given[3] == "/renew":
            asked.set()
            assert joined.wait(20)
        return answer

    monkeypatch.setattr(enrol, "_trade", slow)
    async with serving(state) as running:
        invite = await running.invite()
        await running.join(invite, folder)
        renewing = asyncio.create_task(asyncio.to_thread(enrol.renew, folder, invite["url"], clock))
        assert await asyncio.to_thread(asked.wait, 20)
        await running.join(await running.invite("gw-2"), folder)
        joined.set()
        await renewing
        assert enrol.load_identity(folder, clock).gateway == "gw-2"
