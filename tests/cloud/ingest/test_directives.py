"""What travels down: directives, their outcomes, artifacts, wishes."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import replace

import pytest

from tests.cloud.ingest.link import (
    AUTHORITY,
    Coordinator,
    dialling,
    directive,
    gather,
    uplink,
)
from tests.cloud.ingest.memory import (
    CATALOGUE,
    GATEWAY,
    MemorySpool,
    SilentDownlink,
    running,
    until,
)
from twincloud.downlink.mailbox import DIRECTIVES_MAX, Mailbox
from twincloud.storage.contract import GatewayKey, Wish
from twinmodel.clock import SECOND_NS, ManualClock
from twinmodel.errors import MissingError, UnreachableError
from twinmodel.signal import Stream
from twinsync.directive import DirectiveState, Outcome
from twinsync.session.messages import Coarsen


async def test_directives_are_delivered_once_a_session_and_at_once_when_notified():
    coordinator, downlink = Coordinator(), SilentDownlink()
    coordinator.store.directives["d1"] = directive("d1", 1)
    async with (
        coordinator.up(),
        dialling(coordinator, MemorySpool().boot(), downlink=downlink) as sender,
    ):
        await until(lambda: len(downlink.offered) == 1)
        coordinator.store.directives["d2"] = directive("d2", 2)
        coordinator.servicer.notify_directive(GATEWAY)
        await until(lambda: len(downlink.offered) == 2)
        assert [d.id for d in downlink.offered] == ["d1", "d2"]
        sender.report(DirectiveState("d2", Outcome.APPLIED, "", "", b"r" * 32, 5))
        await until(lambda: "d2" in coordinator.store.outcomes)
        assert coordinator.store.outcomes["d2"] == ("APPLIED", "", (b"r" * 32).hex())
        sender.report(DirectiveState("gone", Outcome.APPLIED, "", "", b"", 5))
        coordinator.servicer.notify_directive(GATEWAY)
        await asyncio.sleep(0.1)
        assert sender.status().connected


def test_of_one_target_the_newest_directive_comes_first():
    store = Coordinator().store
    for name, target, version in (("a1", "@config", 1), ("b1", "tank", 1), ("a2", "@config", 2)):
        store.directives[name] = replace(directive(name, version), target=target)
    assert [d.id for d in Mailbox(store, ManualClock()).waiting(GATEWAY)] == ["a2", "a1", "b1"]


async def test_more_directives_than_are_given_at_once_come_as_those_before_are_answered():
    coordinator, downlink, told = Coordinator(), SilentDownlink(), DIRECTIVES_MAX + 50
    for n in range(told):
        coordinator.store.directives[f"d{n:03}"] = directive(f"d{n:03}", n)
    async with coordinator.up(), dialling(coordinator, MemorySpool().boot(), downlink=downlink) as sender:
        await until(lambda: len(downlink.offered) == DIRECTIVES_MAX)
        for one in downlink.offered[: DIRECTIVES_MAX // 2]:
            sender.report(DirectiveState(one.id, Outcome.APPLIED, "", "", b"", 5))
        await until(lambda: len(downlink.offered) == told)
        assert len({one.id for one in downlink.offered}) == told, "each of them once"


async def test_a_model_assigned_when_the_catalogue_comes_is_delivered_in_the_same_session():
    coordinator, downlink, spool = Coordinator(), SilentDownlink(), MemorySpool().boot()
    coordinator.store.defaults = (directive("d1", 1),)
    spool.append()
    async with coordinator.up(), dialling(coordinator, spool, downlink=downlink):
        await until(lambda: downlink.offered)
    assert [d.id for d in downlink.offered] == ["d1"]
    assert coordinator.store.sessions == {GATEWAY: 1}


async def test_a_model_assigned_when_a_known_gateway_comes_back_is_delivered_in_that_session():
    coordinator, downlink, spool = Coordinator(), SilentDownlink(), MemorySpool().boot()
    coordinator.store.catalogues[CATALOGUE.digest] = CATALOGUE
    coordinator.store.defaults = (directive("d1", 1),)
    async with coordinator.up(), dialling(coordinator, spool, downlink=downlink):
        await until(lambda: downlink.offered)
    assert coordinator.store.sessions == {GATEWAY: 1}


async def test_outcomes_are_told_at_the_start_of_a_session():
    coordinator, downlink = Coordinator(), SilentDownlink()
    coordinator.store.directives["d1"] = directive("d1", 1)
    downlink.kept = [DirectiveState("d1", Outcome.REJECTED, "UNKNOWN_TWIN", "no such twin", b"", 5)]
    async with coordinator.up(), dialling(coordinator, MemorySpool().boot(), downlink=downlink):
        await until(lambda: coordinator.store.outcomes.get("d1") == ("REJECTED", "UNKNOWN_TWIN", ""))


async def test_artifacts_come_from_any_offset_and_only_to_their_tenant():
    blob = bytes(range(256)) * 4000
    digest = hashlib.sha256(blob).digest()
    coordinator = Coordinator()
    coordinator.store.artifacts["acme", digest.hex()] = blob
    async with coordinator.up():
        sender = uplink(coordinator, MemorySpool().boot())
        with pytest.raises(UnreachableError):
            await gather(sender.fetch(digest, 0))
        async with running(sender.run()):
            await until(lambda: sender.status().connected)
            assert await gather(sender.fetch(digest, 0)) == blob
            assert await gather(sender.fetch(digest, 700_001)) == blob[700_001:]
            with pytest.raises(MissingError):
                await gather(sender.fetch(b"?" * 32, 0))
        stranger = uplink(coordinator, MemorySpool().boot(), AUTHORITY.gateway(GatewayKey("other", "s", "gw-1")))
        async with running(stranger.run()):
            await until(lambda: stranger.status().connected)
            with pytest.raises(MissingError):
                await gather(stranger.fetch(digest, 0))


async def test_a_wish_for_a_coarser_period_reaches_the_spool_at_once_in_the_next_session_and_when_it_ends():
    spool = MemorySpool().boot()
    whole = Wish(Stream.BULK, "", 60 * SECOND_NS, 0, 1, "t")
    one = Wish(Stream.BULK, "press.p", 5 * SECOND_NS, 99, 2, "t")
    told = [Coarsen(Stream.BULK, 60 * SECOND_NS, 0), Coarsen(Stream.BULK, 5 * SECOND_NS, 99, "press.p")]
    async with Coordinator().up() as coordinator:
        async with dialling(coordinator, spool) as sender:
            await until(lambda: sender.status().connected)
            coordinator.store.wanted = [whole]
            coordinator.servicer.notify_directive(GATEWAY)
            await until(lambda: spool.wishes == told[:1])
            coordinator.store.wanted = [whole, one]
            coordinator.servicer.notify_directive(GATEWAY)
            await until(lambda: spool.wishes == told)
        spool.wishes.clear()
        async with dialling(coordinator, spool):
            await until(lambda: spool.wishes == told)
            coordinator.store.wanted = [one]
            coordinator.servicer.notify_directive(GATEWAY)
            await until(lambda: spool.wishes == [*told, Coarsen(Stream.BULK, 0, 0)])


async def test_another_address_ends_the_session_and_begins_one_there_and_a_wrong_one_is_left_again():
    first, second, spool = Coordinator(), Coordinator(), MemorySpool().boot()
    async with first.up(), second.up(), dialling(first, spool) as sender:
        await until(lambda: sender.status().connected)
        sender.use(f"localhost:{second.port}")
        spool.append()
        sender.wake()
        await until(lambda: second.committed)
        assert not first.committed
        sender.use("localhost:1")
        await until(lambda: not sender.status().connected)
        sender.use(f"localhost:{first.port}")
        await until(lambda: sender.status().connected)
