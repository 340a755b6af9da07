"""Messages of a subscription: fetched again where one was skipped, declared lost where it is gone, missed in time."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from asyncua import ua

from twinedge.drivers.opcua_publish import Publishing, Subscription
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
