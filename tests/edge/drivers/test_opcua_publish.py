"""Messages of a subscription: fetched again where one was skipped, declared lost where it is gone, missed in time."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest
from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.ua.ua_binary import struct_to_binary

from twinedge.drivers.opcua_publish import LostError, Publishing, Subscription
from twinedge.drivers.opcua_wire import Message, Row
from twinmodel.clock import ManualClock

NOW = datetime(2026, 5, 1, tzinfo=UTC)


class Scripted:
    """A session that gives what a test says; stands for asyncua's client where a server must misbehave."""

    def __init__(self, kept):
        self.kept = kept
        self.uaclient = self
        self.session = self

    async def republish(self, _subscription, sequence):
        if sequence not in self.kept:
            raise ua.UaStatusCodeError(ua.StatusCodes.BadMessageNotAvailable)
        change = ua.MonitoredItemNotification(sequence, ua.DataValue(ua.Variant(float(sequence))))
        return ua.NotificationMessage(sequence, NOW, [ua.DataChangeNotification([change])])


@pytest.mark.parametrize(("kept", "lost"), [({2, 3}, []), ({3}, [9])])
async def test_skipped_messages_are_fetched_again_or_declared_lost(clock, kept, lost):
    taken, declared = [], []

    async def take(message, _arrival_ns):
        taken.append(message.sequence)

    async def missing(subscription):
        declared.append(subscription)

    publishing = Publishing(Scripted(kept), clock, take, missing)
    publishing.subscriptions[9] = Subscription(9, 100.0, 10**9, clock.boot_ns())
    for sequence in (1, 4, 4, 5):
        await publishing._handle(Message(9, sequence, 0, changes=[Row(11, 1, 1.0, 0, 0, 0)]), 0)
    assert taken == [1, *sorted(kept), 4, 5]
    assert declared == lost


async def test_keep_alive_that_skips_a_number_tells_of_a_lost_message(clock):
    declared = []

    async def take(_message, _arrival_ns):
        return

    async def missing(subscription):
        declared.append(subscription)

    publishing = Publishing(Scripted(set()), clock, take, missing)
    publishing.subscriptions[9] = Subscription(9, 100.0, 10**9, clock.boot_ns())
    await publishing._handle(Message(9, 1, 0, changes=[Row(11, 1, 1.0, 0, 0, 0)]), 0)
    await publishing._handle(Message(9, 2, 0, keep_alive=True), 0)
    assert declared == []
    await publishing._handle(Message(9, 3, 0, keep_alive=True), 0)
    await publishing._handle(Message(9, 3, 0, keep_alive=True), 0)
    assert declared == [9]


async def test_missed_keep_alives_are_counted_on_the_boot_clock():
    clock = ManualClock()
    publishing = Publishing(Scripted(set()), clock, None, None)
    publishing.subscriptions[9] = Subscription(9, 100.0, 2 * 10**9, clock.boot_ns())
    clock.advance(2 * 10**9)
    assert publishing.missed() == 0
    clock.advance(10**9)
    assert publishing.missed() == 1
    clock.advance(4 * 10**9)
    assert publishing.missed() == 3
    publishing.busy = True
    assert publishing.missed() == 0


async def test_hole_of_a_lost_message_is_declared_before_those_that_came_after_it(clock):
    """What comes says that all before it has come: the hole would begin behind what was lost."""
    told = []

    async def take(message, _arrival_ns):
        told.append(message.sequence)

    async def missing(_subscription):
        told.append("hole")

    publishing = Publishing(Scripted({3}), clock, take, missing)
    publishing.subscriptions[9] = Subscription(9, 100.0, 10**9, clock.boot_ns())
    for sequence in (1, 4):
        await publishing._handle(Message(9, sequence, 0, changes=[Row(11, 1, 1.0, 0, 0, 0)]), 0)
    assert told == [1, "hole", 3, 4]


async def test_message_that_waits_for_one_before_it_is_dated_when_it_came():
    clock, taken, bodies = ManualClock(), [], asyncio.Queue()

    async def take(message, arrival_ns):
        taken.append((message.sequence, arrival_ns))
        for sequence in (2, 3) if message.sequence == 1 else ():  # they come while the sink takes the first
            bodies.put_nowait(published(sequence))
            await bodies.join()
        clock.advance(10**9)
        if message.sequence == 3:
            raise LostError("enough")

    publishing = Publishing(Scripted(set()), clock, take, None, own=True)
    publishing.subscriptions[9] = Subscription(9, 100.0, 10**12, clock.boot_ns())
    publishing._begun.set()

    async def send(_request):
        body = await bodies.get()
        bodies.task_done()
        return Buffer(body)

    publishing._send = send
    began_ns = clock.wall_ns()
    bodies.put_nowait(published(1))
    with pytest.raises(ExceptionGroup):
        await publishing.run()
    assert taken == [(1, began_ns), (2, began_ns), (3, began_ns)]


def published(sequence):
    """A publish response as it comes over the wire."""
    response = ua.PublishResponse()
    response.Parameters.SubscriptionId = 9
    change = ua.MonitoredItemNotification(1, ua.DataValue(ua.Variant(1.0)))
    response.Parameters.NotificationMessage = ua.NotificationMessage(
        sequence, NOW, [ua.DataChangeNotification([change])]
    )
    return struct_to_binary(response)
