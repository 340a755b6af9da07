"""Directives from their arrival to their outcome."""

from __future__ import annotations

import asyncio
import hashlib
import os
from random import Random

import pytest

from tests.cloud.ingest.memory import running, until
from tests.edge.downlink.packages import NEW, OLD, PUMP, STRANGER, fitting, signed, trust, unsigned
from twinedge.downlink.outcomes import OUTCOMES_MAX, Outcomes
from twinedge.downlink.receiver import Receiver, StillOpenError
from twinedge.modelstore.store import ModelStore
from twinedge.slot import Slot
from twinmodel.clock import SECOND_NS, SystemClock
from twinmodel.errors import ConflictError, MissingError, StorageError, UnreachableError
from twinmodel.package.signing import sign
from twinsync.directive import Directive, DirectiveKind, DirectiveState, Outcome

CLOCK = SystemClock()


class Gateway:
    """A receiver with all it needs; `again` is a restart on the same disk."""

    def __init__(self, folder, fetch=None) -> None:
        self.folder = folder
        self.blobs: dict[bytes, bytes] = {}
        self.asked: list[int] = []
        self.cuts = 0
        self.states: list[DirectiveState] = []
        self.again()

    def again(self) -> None:
        self.store = ModelStore(self.folder, trust(self.folder / "signers"))
        self.slot = Slot("tank")
        package = self.store.first("tank", "")
        if package is not None:
            self.slot.offer(fitting("tank", package))
        self.receiver = Receiver(
            self.store,
            Outcomes(self.folder / "outcomes.json"),
            {"tank": self.slot},
            fitting,
            self.fetch,
            clock=CLOCK,
            random=Random(1),
            on_state=self.states.append,
        )

    async def fetch(self, digest, offset):
        self.asked.append(offset)
        if digest not in self.blobs:
            raise MissingError("UNKNOWN_MODEL", "not here")
        blob = self.blobs[digest]
        for start in range(offset, len(blob), 1000):
            if start > offset and self.cuts:
                self.cuts -= 1
                raise UnreachableError("COORDINATOR_UNREACHABLE", "cut")
            yield start, len(blob), blob[start : start + 1000]

    def directive(self, plant: str, version: int, *, blob: bytes | None = None, **kwargs) -> Directive:
        blob = blob or signed(plant)
        digest = hashlib.sha256(blob).digest()
        self.blobs[digest] = blob
        facts = {"id": f"d{version}", "kind": DirectiveKind.MODEL, "target": "tank", "deadline_ns": 0} | kwargs
        return Directive(version=version, digest=digest, size=len(blob), name=plant, **facts)

    async def outcome(self, directive: Directive) -> DirectiveState:
        seen = len(self.states)
        async with running(self.receiver.run()):
            self.receiver.offer(directive)
            await until(lambda: len(self.states) > seen)
        return self.states[-1]


@pytest.fixture
def gateway(tmp_path):
    return Gateway(tmp_path)


async def test_a_model_is_fetched_verified_and_run(gateway):
    directive = gateway.directive(OLD, 1)
    state = await gateway.outcome(directive)
    assert (state.outcome, state.reason, state.running_digest) == (Outcome.APPLIED, "", directive.digest)
    assert gateway.slot.current().package.digest == directive.digest
    assert gateway.store.version_of("tank") == 1
    assert gateway.receiver.running()[0].name == "two-tanks@1.0.0"
    assert gateway.receiver.states() == (state,)


async def test_a_newer_model_replaces_the_one_that_runs(gateway):
    await gateway.outcome(gateway.directive(OLD, 1))
    state = await gateway.outcome(gateway.directive(NEW, 2))
    assert state.outcome is Outcome.APPLIED
    assert gateway.slot.swaps == 1
    assert gateway.slot.last_good.package.version == "1.0.0"


async def test_the_desired_model_runs_again_after_a_restart_and_the_outcome_is_still_told(gateway):
    directive = gateway.directive(NEW, 2)
    await gateway.outcome(directive)
    gateway.again()
    assert gateway.slot.current().package.digest == directive.digest
    assert [s.id for s in gateway.receiver.states()] == ["d2"]
    asked = len(gateway.asked)
    assert (await gateway.outcome(directive)).outcome is Outcome.APPLIED
    assert len(gateway.asked) == asked
    assert gateway.slot.swaps == 0


async def test_a_crash_between_keeping_and_telling_ends_in_applied_when_it_comes_again(gateway):
    directive = gateway.directive(OLD, 1)
    gateway.store.put(signed(OLD))
    gateway.store.want("tank", digest=directive.digest, version=1, name=OLD)
    gateway.again()
    assert (await gateway.outcome(directive)).outcome is Outcome.APPLIED
    assert gateway.asked == []


async def test_a_download_that_is_cut_goes_on_where_it_stopped(gateway):
    gateway.cuts = 2
    state = await gateway.outcome(gateway.directive(OLD, 1))
    assert state.outcome is Outcome.APPLIED
    assert gateway.asked == [0, 1000, 2000]


async def test_a_download_goes_on_after_a_restart(gateway):
    directive = gateway.directive(OLD, 1)
    gateway.store.part(directive.digest).append(signed(OLD)[:1500], 0)
    gateway.again()
    assert (await gateway.outcome(directive)).outcome is Outcome.APPLIED
    assert gateway.asked == [1500]


async def test_a_part_that_a_power_cut_damaged_is_fetched_anew(gateway):
    directive = gateway.directive(OLD, 1)
    gateway.store.part(directive.digest).append(b"?" * 1500, 0)
    assert (await gateway.outcome(directive)).outcome is Outcome.APPLIED
    assert gateway.asked == [1500, 0]


async def test_a_tampered_artifact_is_refused_and_the_old_model_runs_on(gateway):
    await gateway.outcome(gateway.directive(OLD, 1))
    directive = gateway.directive(NEW, 2)
    gateway.blobs[directive.digest] = signed(NEW)[:-1] + b"?"
    state = await gateway.outcome(directive)
    assert (state.outcome, state.reason) == (Outcome.REJECTED, "PACKAGE_ALTERED")
    assert gateway.slot.current().package.version == "1.0.0"
    assert gateway.store.version_of("tank") == 1


@pytest.mark.parametrize(
    ("blob", "reason"),
    [(unsigned(OLD), "PACKAGE_UNSIGNED"), (sign(unsigned(OLD), STRANGER), "SIGNER_UNKNOWN"), (b"x" * 99, None)],
)
async def test_what_nobody_trusted_signed_is_refused(gateway, blob, reason):
    state = await gateway.outcome(gateway.directive(OLD, 1, blob=blob))
    assert state.outcome is Outcome.REJECTED
    assert state.reason == reason or (reason is None and state.reason.startswith("PACKAGE_"))
    assert gateway.slot.current() is None


async def test_a_model_that_does_not_fit_is_refused(gateway):
    state = await gateway.outcome(gateway.directive(PUMP, 1))
    assert (state.outcome, state.reason) == (Outcome.REJECTED, "MODEL_UNFIT")
    assert gateway.store.version_of("tank") == -1


async def test_an_unknown_twin_an_unknown_model_and_an_unknown_kind_are_refused(gateway):
    state = await gateway.outcome(gateway.directive(OLD, 1, target="nowhere"))
    assert (state.outcome, state.reason) == (Outcome.REJECTED, "UNKNOWN_TWIN")
    directive = gateway.directive(OLD, 2)
    gateway.blobs.clear()
    state = await gateway.outcome(directive)
    assert (state.outcome, state.reason) == (Outcome.REJECTED, "UNKNOWN_MODEL")
    state = await gateway.outcome(gateway.directive(OLD, 3, kind=DirectiveKind.UNSPECIFIED))
    assert (state.outcome, state.reason) == (Outcome.REJECTED, "PROTOCOL_VIOLATION")


async def test_a_directive_past_its_deadline_is_refused(gateway):
    state = await gateway.outcome(gateway.directive(OLD, 1, deadline_ns=CLOCK.wall_ns() - 1))
    assert (state.outcome, state.reason) == (Outcome.REJECTED, "DEADLINE_PASSED")


async def test_a_model_that_cannot_be_fetched_before_its_deadline_is_refused(gateway):
    gateway.cuts = 10_000
    directive = gateway.directive(OLD, 1, blob=signed(OLD) * 20, deadline_ns=CLOCK.wall_ns() + SECOND_NS)
    state = await gateway.outcome(directive)
    assert (state.outcome, state.reason) == (Outcome.REJECTED, "DEADLINE_PASSED")
    assert len(gateway.asked) > 1


async def test_an_artifact_larger_than_announced_is_refused(gateway):
    directive = gateway.directive(OLD, 1)
    gateway.blobs[directive.digest] = signed(OLD) * 2
    assert (await gateway.outcome(directive)).reason == "LIMIT_EXCEEDED"


async def test_a_stale_version_is_superseded(gateway):
    await gateway.outcome(gateway.directive(NEW, 5))
    assert (await gateway.outcome(gateway.directive(OLD, 4))).outcome is Outcome.SUPERSEDED
    assert gateway.slot.current().package.digest == hashlib.sha256(signed(NEW)).digest()


async def test_of_two_that_wait_for_a_twin_the_newer_one_runs(gateway):
    newer, older = gateway.directive(NEW, 2), gateway.directive(OLD, 1)
    gateway.receiver.offer(older)
    gateway.receiver.offer(newer)
    assert gateway.receiver.open() == (newer,)
    async with running(gateway.receiver.run()):
        await until(lambda: len(gateway.states) == 2)
    found = {state.id: state.outcome for state in gateway.states}
    assert found == {"d1": Outcome.SUPERSEDED, "d2": Outcome.APPLIED}


async def test_a_directive_that_comes_again_is_answered_at_once_with_its_outcome(gateway):
    directive = gateway.directive(OLD, 1, target="nowhere")
    first = await gateway.outcome(directive)
    gateway.receiver.offer(directive)
    assert gateway.states == [first, first]


async def test_a_full_disk_keeps_the_directive_waiting_until_it_heals(gateway, monkeypatch):
    draft = gateway.folder / f"desired.json.{os.getpid()}.new"
    draft.mkdir()
    async with running(gateway.receiver.run()):
        gateway.receiver.offer(gateway.directive(OLD, 1))
        await asyncio.sleep(0.3)
        assert gateway.states == []
        assert gateway.slot.current() is None
        draft.rmdir()
        await until(lambda: gateway.states)
    assert gateway.states[0].outcome is Outcome.APPLIED


async def test_a_model_that_diverges_in_its_soak_is_rejected_after_all_and_does_not_start_again(gateway):
    await gateway.outcome(gateway.directive(OLD, 1))
    await gateway.outcome(gateway.directive(NEW, 2))
    gateway.slot.current().divergences = 1
    gateway.slot.stepped()
    async with running(gateway.receiver.run()):
        await until(lambda: len(gateway.states) > 2)
    last = gateway.states[-1]
    assert (last.id, last.outcome, last.reason) == ("d2", Outcome.REJECTED, "MODEL_DIVERGED")
    assert last.running_digest == gateway.directive(OLD, 1).digest
    gateway.again()
    assert gateway.slot.running().digest == last.running_digest


def test_outcomes_are_bounded_and_survive(tmp_path):
    outcomes = Outcomes(tmp_path / "o.json")
    for number in range(OUTCOMES_MAX + 5):
        kept = outcomes.add(DirectiveState(f"d{number}", Outcome.APPLIED, "", "", b"r" * 32, number))
    outcomes.save(kept)
    again = Outcomes(tmp_path / "o.json")
    assert len(again) == OUTCOMES_MAX
    assert again.states() == outcomes.states()
    assert again.get("d0") is None
    (tmp_path / "o.json").write_bytes(b"[[1]]")
    assert Outcomes(tmp_path / "o.json").states() == ()


async def test_a_directive_that_meets_a_defect_is_rejected_and_the_next_one_runs(gateway, monkeypatch):
    def broken(_digest):
        raise IndexError("a defect")

    with monkeypatch.context() as patched:
        patched.setattr(gateway.store, "part", broken)
        state = await gateway.outcome(gateway.directive(OLD, 1))
    assert (state.outcome, state.reason) == (Outcome.REJECTED, "INTERNAL")
    assert (await gateway.outcome(gateway.directive(NEW, 2))).outcome is Outcome.APPLIED


async def test_what_a_handler_leaves_open_keeps_nobody_waiting_and_ends_when_it_is_concluded(gateway):
    begun = []

    async def try_for_a_while(directive):
        begun.append(directive)
        raise StillOpenError

    gateway.receiver.handlers[DirectiveKind.CONFIG] = try_for_a_while
    gateway.receiver.digests["@config"] = lambda: b"\x01" * 32
    one, two, three = (
        Directive(f"c{n}", DirectiveKind.CONFIG, "@config", n, b"", 0, "site.yaml", 0, b"text") for n in (1, 2, 3)
    )
    async with running(gateway.receiver.run()):
        gateway.receiver.offer(one)
        await until(lambda: begun == [one])
        gateway.receiver.offer(gateway.directive(OLD, 1))
        await until(lambda: [s.id for s in gateway.states] == ["d1"])
        gateway.receiver.offer(one)  # a new session tells it again
        gateway.receiver.offer(two)
        await until(lambda: begun == [one, two])
        gateway.receiver.conclude(one, None)  # nobody waits for it any more
        gateway.receiver.conclude(two, ConflictError("PROBATION_FAILED", "silent"))
        await until(lambda: gateway.states[-1].id == "c2")
        gateway.receiver.offer(three)
        await until(lambda: begun == [one, two, three])
        gateway.receiver.conclude(three, None)
        await until(lambda: gateway.states[-1].id == "c3")
    found = {state.id: (state.outcome, state.reason, state.running_digest[:1]) for state in gateway.states}
    assert found["c1"] == (Outcome.SUPERSEDED, "", b"\x01")
    assert found["c2"] == (Outcome.REJECTED, "PROBATION_FAILED", b"\x01")
    assert found["c3"] == (Outcome.APPLIED, "", b"\x01")


async def test_of_what_is_done_in_turn_a_newer_one_waits_until_the_one_that_has_begun_is_concluded(gateway):
    begun, may_begin = [], asyncio.Event()

    async def try_for_a_while(directive):
        begun.append(directive.id)
        await may_begin.wait()
        raise StillOpenError

    gateway.receiver.handlers[DirectiveKind.CONFIG] = try_for_a_while
    gateway.receiver.in_turn.add(DirectiveKind.CONFIG)
    one, two, three, four = (
        Directive(f"c{n}", DirectiveKind.CONFIG, "@config", n, b"", 0, "site.yaml", 0, b"text") for n in (1, 2, 3, 4)
    )
    async with running(gateway.receiver.run()):
        gateway.receiver.offer(one)
        await until(lambda: begun == ["c1"])
        gateway.receiver.offer(three)  # while it is brought about
        may_begin.set()
        gateway.receiver.offer(two)
        await until(lambda: [s.id for s in gateway.states] == ["c2"])
        gateway.receiver.offer(four)  # while it is tried
        for again in (one, four):  # a new session tells them again
            gateway.receiver.offer(again)
        await until(lambda: [s.id for s in gateway.states] == ["c2", "c3"])
        assert [directive.id for directive in gateway.receiver.open()] == ["c1", "c4"]
        assert begun == ["c1"]
        gateway.receiver.conclude(one, None)
        await until(lambda: begun == ["c1", "c4"])
        gateway.receiver.conclude(four, ConflictError("PROBATION_FAILED", "silent"))
        await until(lambda: len(gateway.states) == 4)
    assert {s.id: s.outcome for s in gateway.states} == {
        "c1": Outcome.APPLIED, "c2": Outcome.SUPERSEDED, "c3": Outcome.SUPERSEDED, "c4": Outcome.REJECTED,
    }  # fmt: skip
    assert gateway.receiver.open() == ()


async def test_one_in_turn_that_cannot_begin_yet_gives_way_to_a_newer_one(gateway):
    begun, full = [], asyncio.Event()

    async def begin(directive):
        begun.append(directive.id)
        if directive.id == "c1":
            await full.wait()
            raise StorageError("STORE_FULL", "no room for the way back")

    gateway.receiver.handlers[DirectiveKind.CONFIG] = begin
    gateway.receiver.in_turn.add(DirectiveKind.CONFIG)
    one, two = (Directive(f"c{n}", DirectiveKind.CONFIG, "@config", n, b"", 0, "x", 0, b"text") for n in (1, 2))
    async with running(gateway.receiver.run()):
        gateway.receiver.offer(one)
        await until(lambda: begun == ["c1"])
        gateway.receiver.offer(two)
        full.set()
        await until(lambda: len(gateway.states) == 2)
    assert {s.id: s.outcome for s in gateway.states} == {"c1": Outcome.SUPERSEDED, "c2": Outcome.APPLIED}
