"""Event streams: what changed comes once, coalesced, and nothing is lost between two connections."""

from __future__ import annotations

import asyncio
import contextlib
import json
from contextlib import aclosing

import pytest

from twincloud.api.stream import Frame, Watcher
from twincloud.events.bus import Bus, Change
from twinmodel.clock import SECOND_NS
from twinmodel.errors import DeniedError, TwinError


def parse(raw: bytes) -> dict[str, str]:
    return dict(line.split(": ", 1) for line in raw.decode().strip().splitlines())


async def collect(stream, watcher_events, *, turn: bool = True, sweep: bool = False) -> list[dict[str, str]]:
    """Events of one turn, without waiting for more."""
    if turn:
        await stream.turn(sweep=sweep)
    (watcher,) = stream._watchers
    if not watcher.pending:
        return []
    count = len(watcher.pending)
    return [parse(await anext(watcher_events)) for _ in range(count)]


@pytest.fixture
def tank(plant):
    gateway = plant.gateway("acme", "north", "gw-1", "tank-1", "tank-2")
    gateway.send({"tank-1-dev.level": 1.0, "tank-2-dev.level": 2.0})
    plant.bus.take()  # nobody watched yet
    return gateway


async def test_watcher_starts_at_the_present_and_gets_one_event_per_changed_twin(plant, api, tank):
    stream = api.app.state.stream
    async with aclosing(await stream.watch("acme")) as events:
        first = parse(await anext(events))
        assert first == {"retry": "2000", "id": str(plant.store.last_event())}
        for n in range(5):
            tank.send({"tank-1-dev.level": float(n)})
        (event,) = await collect(stream, events)
        assert event["event"] == "twin"
        assert event["id"] == str(plant.store.last_event())
        view = json.loads(event["data"])
        assert view["twin"] == "tank-1"
        assert next(p for p in view["properties"] if p["name"] == "level")["reported"]["value"] == 4.0
        assert await collect(stream, events) == []
    assert len(stream) == 0


async def test_ids_advance_with_the_last_event_of_a_batch_so_that_a_cut_within_it_loses_nothing(plant, api, tank):
    stream = api.app.state.stream
    async with aclosing(await stream.watch("acme")) as events:
        start = parse(await anext(events))["id"]
        tank.send({"tank-1-dev.level": 5.0, "tank-2-dev.level": 6.0})
        one, two = await collect(stream, events)
        assert one["id"] == start
        assert two["id"] == str(plant.store.last_event())
    # The connection was cut after the first event: its id brings back both.
    async with aclosing(await stream.watch("acme", after=int(one["id"]))) as events:
        await anext(events)
        again = await collect(stream, events, turn=False)
        assert {json.loads(e["data"])["twin"] for e in again} == {"tank-1", "tank-2"}


async def test_resume_brings_only_what_changed_since(plant, api, tank):
    stream = api.app.state.stream
    known = plant.store.last_event()
    tank.send({"tank-2-dev.level": 9.0})
    async with aclosing(await stream.watch("acme", after=known)) as events:
        assert parse(await anext(events))["id"] == str(known)
        (event,) = await collect(stream, events, turn=False)
        assert json.loads(event["data"])["twin"] == "tank-2"
        assert event["id"] == str(plant.store.last_event())


async def test_id_from_the_future_means_a_restored_coordinator_and_brings_everything(plant, api, tank):
    stream = api.app.state.stream
    async with aclosing(await stream.watch("acme", after=10**9)) as events:
        await anext(events)
        found = await collect(stream, events, turn=False)
        assert [e["event"] for e in found] == ["gateway", "twin", "twin"]


async def test_filters_by_site_and_twin(plant, api, tank):
    stream = api.app.state.stream
    pump = plant.gateway("acme", "south", "gw-2", "pump-1")
    for filters, expected in (
        ({"site": "south"}, {"pump-1"}),
        ({"twin": "tank-2"}, {"tank-2"}),
        ({"site": "south", "twin": "tank-2"}, set()),
    ):
        async with aclosing(await stream.watch("acme", **filters)) as events:
            await anext(events)
            tank.send({"tank-1-dev.level": 1.0, "tank-2-dev.level": 2.0})
            pump.send({"pump-1-dev.level": 3.0})
            found = await collect(stream, events)
            assert {json.loads(e["data"]).get("twin") for e in found} == expected


async def test_changes_of_a_foreign_tenant_never_reach_a_watcher(plant, api, tank):
    stream = api.app.state.stream
    other = plant.gateway("globex", "north", "gw-1", "tank-1")
    async with aclosing(await stream.watch("globex", after=0)) as events:
        await anext(events)
        await collect(stream, events, turn=False)
        tank.send({"tank-1-dev.level": 7.0})
        assert await collect(stream, events) == []
        other.send({"tank-1-dev.level": 8.0})
        (event,) = await collect(stream, events)
        assert json.loads(event["data"])["tenant"] == "globex"


async def test_gateway_that_leaves_is_told_at_once_and_its_twins_when_time_makes_them_offline(plant, api, tank):
    stream = api.app.state.stream
    async with aclosing(await stream.watch("acme")) as events:
        await anext(events)
        tank.disconnect()
        (event,) = await collect(stream, events)
        assert (event["event"], json.loads(event["data"])["connected"]) == ("gateway", False)
        plant.clock.advance(11 * SECOND_NS)
        found = await collect(stream, events, sweep=True)
        assert [(e["event"], json.loads(e["data"])["health"]) for e in found] == [
            ("gateway", "offline"), ("twin", "offline"), ("twin", "offline"),
        ]  # fmt: skip


async def test_stream_ends_when_the_token_does(plant, api, tank):
    stream = api.app.state.stream

    async def refuse():
        raise DeniedError("TOKEN_INVALID", "the token is revoked")

    events = await stream.watch("acme", still_allowed=refuse)
    await anext(events)
    plant.clock.advance(11 * SECOND_NS)
    tank.send({"tank-1-dev.level": 7.0})
    await stream.turn()
    assert [e async for e in events] == []
    assert len(stream) == 0


async def test_streams_are_bounded_and_end_on_shutdown(plant, api, tank):
    stream = api.app.state.stream
    stream._max = 2
    open_ones = [await stream.watch("acme") for _ in range(2)]
    with pytest.raises(TwinError, match="RATE_LIMITED"):
        await stream.watch("acme")
    stream.close()
    for events in open_ones:
        assert len([e async for e in events]) == 1
    assert len(stream) == 0


def test_slow_watcher_keeps_one_frame_per_thing_and_ends_beyond_its_bound(monkeypatch):
    monkeypatch.setattr("twincloud.api.stream.PENDING_MAX", 3)
    watcher = Watcher("acme", "", "")
    for n in range(100):
        watcher.put([(Change("acme", "twin", "a", f"t{n % 3}"), Frame("twin", "a", f"t{n % 3}", str(n)))], n)
    assert not watcher.closed
    assert [parse(e)["data"] for e in watcher.take()] == ["99", "97", "98"]
    watcher.put([(Change("acme", "twin", "a", f"t{n}"), Frame("twin", "a", f"t{n}", "")) for n in range(4)], 100)
    assert watcher.closed


async def test_bus_collects_rings_from_other_threads_and_says_when_it_overflowed():
    bus = Bus(pending_max=2)
    bus.attach()
    changes = [Change("acme", "twin", "a", f"t{n}") for n in range(3)]
    await asyncio.to_thread(bus.notify, changes[:1] * 5)
    await asyncio.wait_for(bus.wait(), 60)
    assert bus.take().changes == (changes[0],)
    await asyncio.to_thread(bus.notify, changes)
    news = bus.take()
    assert news.overflow
    assert len(news.changes) == 2
    assert bus.take() == type(news)((), overflow=False)


async def test_one_token_cannot_take_the_streams_of_all_others(plant, api, tank):
    stream = api.app.state.stream
    share = api.app.state.settings.watchers_max // 4
    async with contextlib.AsyncExitStack() as open_streams:
        for _ in range(share):
            events = await stream.watch("acme", holder="wall")
            await open_streams.enter_async_context(aclosing(events))
        with pytest.raises(TwinError, match="RATE_LIMITED"):
            await stream.watch("acme", holder="wall")
        await open_streams.enter_async_context(aclosing(await stream.watch("globex", holder="desk")))


@pytest.mark.parametrize(("after", "reason"), [(1, "pruned"), (10**9, "restored")])
async def test_resume_beyond_what_is_kept_says_reset_and_brings_everything(
    plant, api, tank, monkeypatch, after, reason
):
    oldest = plant.store.first_event()
    assert 0 < oldest <= plant.store.last_event()
    stream = api.app.state.stream
    if reason == "pruned":
        monkeypatch.setattr(type(plant.store), "first_event", lambda _: oldest + 5)
    async with aclosing(await stream.watch("acme", after=after)) as events:
        first = (await anext(events)).decode()
        assert first.endswith(f'event: reset\ndata: {{"reason": "{reason}"}}\n\n')
        found = await collect(stream, events, turn=False)
        assert [e["event"] for e in found] == ["gateway", "twin", "twin"]


async def test_resume_goes_on_at_another_coordinator_of_the_same_store(plant, api, tank):
    async with aclosing(await api.app.state.stream.watch("acme")) as events:
        seen = parse(await anext(events))["id"]
    tank.send({"tank-2-dev.level": 9.0})
    other = plant.app()
    try:
        async with aclosing(await other.state.stream.watch("acme", after=int(seen))) as events:
            assert "reset" not in (await anext(events)).decode()
            (event,) = await collect(other.state.stream, events, turn=False)
            assert json.loads(event["data"])["twin"] == "tank-2"
    finally:
        other.state.threads.close()
