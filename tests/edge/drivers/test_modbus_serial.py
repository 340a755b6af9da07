"""Serial frames on a pseudo terminal and through a converter: right units, no late replies, silence after a timeout."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import struct
import tty
from itertools import pairwise

import pytest

from twinedge.config.address import parse_modbus
from twinedge.drivers.modbus import ModbusDriver
from twinedge.drivers.modbus_frame import Refused, Request, Values, read_answer
from twinedge.drivers.modbus_rtu import rtu_frame, rtu_reply
from twinedge.drivers.modbus_serial import silence_s
from twinmodel.quality import GOOD, QualityReason, bad

AWAY = bad(QualityReason.NOT_CONNECTED)
RIGHT, WRONG = 0x1234, 0x6666


def frame_of(unit, value, count=1, function=3):
    return rtu_frame(unit, struct.pack(f">BB{count}H", function, 2 * count, *[value] * count))


class Bus:
    """Units on one line; `behave` may answer in its own way and says so by True."""

    def __init__(self, behave=None):
        self.behave = behave
        self.requests = []
        self._buffer = b""

    def heard(self, data):
        """Takes whole requests of eight bytes."""
        self._buffer += data
        while len(self._buffer) >= 8:
            frame, self._buffer = self._buffer[:8], self._buffer[8:]
            unit, function, start, count = struct.unpack(">BBHH", frame[:6])
            assert rtu_frame(unit, frame[1:6]) == frame
            self.requests.append((unit, start, count))
            if not (self.behave and self.behave(self, unit, count)):
                self.send(frame_of(unit, RIGHT, count, function))


class Terminal(Bus):
    """A bus behind a pseudo terminal."""

    def __enter__(self):
        self._fd, self._line = os.openpty()
        tty.setraw(self._line)
        self.address = f"rtu://{os.ttyname(self._line)}?baud=115200&parity=N"
        asyncio.get_running_loop().add_reader(self._fd, self._readable)
        return self

    def __exit__(self, *_):
        asyncio.get_running_loop().remove_reader(self._fd)
        os.close(self._fd)
        os.close(self._line)

    def _readable(self):
        with contextlib.suppress(OSError):
            self.heard(os.read(self._fd, 4096))

    def send(self, data):
        os.write(self._fd, data)


class Converter(Bus):
    """A bus behind a converter from TCP."""

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.address = f"rtu+tcp://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_):
        self._server.close()
        self._writer.transport.abort()

    async def _serve(self, reader, writer):
        self._writer = writer
        while data := await reader.read(4096):
            self.heard(data)

    def send(self, data):
        self._writer.write(data)


@pytest.fixture
def drive(assign, clock, rng, running, sink):
    def start(address, *units, timeout_s=20.0, every="20ms"):
        profile = {"base": 0, "points": {"a": {"at": "holding 10"}}, "defaults": {"every": every}}
        assignments, _ = assign(*[(f"d{u}", {"modbus": address, "unit_id": u}, profile) for u in units])
        return running(ModbusDriver(assignments, clock=clock, rng=rng, timeout_s=timeout_s), sink)

    return start


async def test_units_on_a_serial_line_are_read_in_turn(drive, sink):
    with Terminal() as bus:
        async with drive(bus.address, 1, 2, 3) as driver:
            await sink.until(lambda: all(len(sink.samples(n)) >= 3 for n in range(3)))
            assert [h.connected for h in driver.health()] == [True] * 3
        assert {row[1:3] for row in sink.samples()} == {(RIGHT, GOOD)}
        assert driver.name.startswith("modbus /dev/")


async def test_serial_frames_through_a_converter_are_read(drive, sink):
    async with Converter() as bus, drive(bus.address, 1, 2):
        await sink.until(lambda: len(sink.samples(0)) >= 3 and len(sink.samples(1)) >= 3)
        assert {row[1:3] for row in sink.samples()} == {(RIGHT, GOOD)}


def late(bus, unit, count):
    """The first reply comes only with the next request, before the right one."""
    if len(bus.requests) == 1:
        return True
    bus.send(frame_of(unit, WRONG, count) + frame_of(unit, RIGHT, count) if len(bus.requests) == 2 else b"")
    return len(bus.requests) == 2


def noisy(bus, unit, count):
    bus.send(b"\x00\xff\x01" + frame_of(unit, RIGHT, count))
    return True


def echoing(bus, unit, count):
    bus.send(rtu_frame(unit, struct.pack(">BHH", 3, 10, count)) + frame_of(unit, RIGHT, count))
    return True


def another_unit_first(bus, unit, count):
    bus.send(frame_of(unit + 1, WRONG, count) + frame_of(unit, RIGHT, count))
    return True


def broken_checksum_at_first(bus, unit, count):
    if len(bus.requests) == 1:
        bus.send(frame_of(unit, WRONG, count)[:-1] + b"\x00")
    return len(bus.requests) == 1


@pytest.mark.parametrize(
    "behave", [late, noisy, echoing, another_unit_first, broken_checksum_at_first], ids=lambda b: b.__name__
)
async def test_disturbed_line_never_gives_a_wrong_value_and_goes_on(behave, drive, sink):
    with Terminal(behave) as bus:
        async with drive(bus.address, 1, timeout_s=0.3):
            await sink.until(lambda: [q for _, _, q, _ in sink.samples(0)].count(GOOD) >= 3, within_s=20)
    assert {v for _, v, q, _ in sink.samples() if q == GOOD} == {RIGHT}


async def test_dead_unit_on_a_serial_line_costs_one_timeout_a_backoff(drive, sink):
    with Terminal(lambda _, unit, __: unit == 2) as bus:
        async with drive(bus.address, 1, 2, timeout_s=0.1):
            await sink.until(lambda: len(sink.samples(0)) >= 60, within_s=30)
            assert {q for _, _, q, _ in sink.samples(1)} == {AWAY}
        asked = [unit for unit, *_ in bus.requests]
        # One request of the dead unit and no second before its neighbour had several turns.
        places = [n for n, unit in enumerate(asked) if unit == 2]
        assert len(places) >= 2
        assert all(b - a >= 3 for a, b in pairwise(places))


async def test_serial_line_that_is_not_there_is_away_and_names_its_device(drive, sink):
    async with drive("rtu:///dev/hybridtwin-no-such-line", 1) as driver:
        await sink.until(lambda: sink.samples(0))
        assert sink.samples(0)[0][2] == AWAY
        assert "/dev/hybridtwin-no-such-line" in driver.health()[0].last_error


async def test_serial_line_that_another_process_holds_is_not_shared(drive, sink):
    with Terminal() as bus:
        other = os.open(bus.address.partition("://")[2].partition("?")[0], os.O_RDWR | os.O_NOCTTY)
        fcntl.flock(other, fcntl.LOCK_EX)
        try:
            async with drive(bus.address, 1) as driver:
                await sink.until(lambda: sink.samples(0))
                assert "another process has" in driver.health()[0].last_error
        finally:
            os.close(other)


def test_replies_are_found_behind_glitches_and_by_their_checksum_alone():
    request = Request.read("holding", 10, 2)
    frame = frame_of(7, RIGHT, 2)
    assert rtu_reply(frame[:-1], 7, 3) is None
    assert rtu_reply(frame, 8, 3) is None
    body = rtu_reply(b"\x00\x07\x03" + frame, 7, 3)
    assert read_answer(body, request) == Values(struct.pack(">2H", RIGHT, RIGHT))
    assert read_answer(rtu_reply(rtu_frame(7, b"\x83\x02"), 7, 3), request) == Refused(2)


@pytest.mark.parametrize(("baud", "pause_s"), [(1200, 3.5 * 11 / 1200), (9600, 3.5 * 11 / 9600), (115200, 0.00175)])
def test_the_pause_between_frames_is_that_of_the_standard(baud, pause_s):
    assert silence_s(parse_modbus(f"rtu:///dev/x?baud={baud}")) == pytest.approx(pause_s)
