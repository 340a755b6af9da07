"""Fixtures of the simulator tests: a clock, a log and ticked devices."""

import asyncio

import pytest

from twinmodel.clock import ManualClock, SystemClock
from twinsim.device import Device
from twinsim.firmware import KINDS
from twinsim.served import ServedLog


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def system_clock():
    return SystemClock()


@pytest.fixture
def log(tmp_path):
    made = ServedLog(tmp_path)
    yield made
    made.close()


@pytest.fixture
def devices(clock):
    def make(protocol, count, seed=1):
        made = [Device(KINDS[protocol], number, seed) for number in range(1, count + 1)]
        for device in made:
            device.tick(1.0, clock.wall_ns())
        return made

    return make


@pytest.fixture
def eventually():
    """Function: waits until a condition holds, at most `seconds`; real sockets need real time."""

    async def wait(condition, seconds=60.0):
        async with asyncio.timeout(seconds):
            while not condition():  # noqa: ASYNC110  # the condition lies beyond a socket
                await asyncio.sleep(0.01)

    return wait
