"""Each way in which Modbus devices misbehave: what becomes of their samples, and that other devices do not feel it."""

from __future__ import annotations

import asyncio
import contextlib
import struct

import pytest

from twinedge.drivers.modbus import ModbusDriver
from twinedge.drivers.modbus_decode import Extractor
from twinmodel.quality import GOOD, QualityReason, bad

AWAY = bad(QualityReason.NOT_CONNECTED)
FAULT = bad(QualityReason.DEVICE_FAULT)
DECODE = bad(QualityReason.DECODE)
RIGHT, WRONG = 0x1234, 0x6666


class Server:
    """Answers every register with RIGHT; `behave` may answer a request in its own way and says so by True."""

    def __init__(self, behave=None):
        self.behave = behave
        self.requests = []
        self.connections = 0
        self.port = 0
        self._writers = set()

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.sleep(0)

    async def _serve(self, reader, writer):
        self.connections += 1
        self._writers.add(writer)
        connection = self.connections
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                transaction, _, length, unit = struct.unpack(">HHHB", await reader.readexactly(7))
                request = Request(transaction, unit, await reader.readexactly(length - 1), writer, self, connection)
                self.requests.append(request)
                if not (self.behave and await self.behave(request)):
                    request.reply(request.good())


class Request:
    """One request as it came."""

    def __init__(self, transaction, unit, body, writer, server, connection):
        self.transaction, self.unit, self.writer, self.server = transaction, unit, writer, server
        self.function, self.start, self.count = struct.unpack(">BHH", body)
        self.connection = connection
        self.number = len(server.requests) + 1

    def good(self, value=RIGHT, count=None):
        count = self.count if count is None else count
        return struct.pack(f">BB{count}H", self.function, 2 * count, *[value] * count)

    def frame(self, body, transaction=None, unit=None, length=None, protocol=0):
        transaction = self.transaction if transaction is None else transaction & 0xFFFF
        length = len(body) + 1 if length is None else length
        return struct.pack(">HHHB", transaction, protocol, length, self.unit if unit is None else unit) + body

    def reply(self, body, **head):
        self.writer.write(self.frame(body, **head))
        return True

    def refuse(self, code):
        return self.reply(struct.pack(">BB", self.function | 0x80, code))


async def busy_twice(r):
    return r.number <= 2 and r.refuse(6)


async def acknowledges_first(r):
    return r.number == 1 and r.refuse(5)


async def byte_by_byte(r):
    for byte in r.frame(r.good()):
        r.writer.write(bytes((byte,)))
        await r.writer.drain()
        await asyncio.sleep(0)
    return True


async def every_reply_twice(r):
    r.writer.write(2 * r.frame(r.good()))
    return True


async def late_reply_with_old_values(r):
    if r.number == 1:
        r.server.owed = r.frame(r.good(WRONG))
        return True
    r.writer.write(r.server.owed + r.frame(r.good()))
    return True


async def another_transaction(r):
    return r.reply(r.good(WRONG), transaction=r.transaction + 7)


async def another_unit(r):
    return r.reply(r.good(WRONG), unit=r.unit + 1)


async def another_function(r):
    return r.reply(b"\x04" + r.good(WRONG)[1:])


async def fewer_registers(r):
    return r.reply(r.good(WRONG, r.count - 1))


async def more_registers(r):
    return r.reply(r.good(WRONG, r.count + 3))


async def announces_more_than_it_sends(r):
    return r.reply(bytes((r.function, 2 * r.count)) + b"\x66")


async def empty_reply(r):
    return r.reply(bytes((r.function,)))


async def exception_four(r):
    return r.refuse(4)


async def unknown_exception(r):
    return r.refuse(77)


async def gateway_without_path(r):
    return r.refuse(10)


async def gateway_without_answer(r):
    return r.refuse(11)


async def truncated_and_silent(r):
    r.writer.write(r.frame(r.good(WRONG))[:-3])
    return True


async def oversized(r):
    return r.reply(r.good(WRONG), length=2000)


async def another_protocol(r):
    return r.reply(r.good(WRONG), protocol=5)


async def rubbish(r):
    r.writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    return True


async def reset_in_the_middle(r):
    r.writer.write(r.frame(r.good(WRONG))[:6])
    await r.writer.drain()
    r.writer.transport.abort()
    return True


async def silent(r):
    return bool(r)


GOOD_VALUES = [busy_twice, acknowledges_first, byte_by_byte, every_reply_twice, late_reply_with_old_values]
EXPECTED = dict.fromkeys(GOOD_VALUES, GOOD)
EXPECTED |= dict.fromkeys([another_unit, another_function, fewer_registers, more_registers], DECODE)
EXPECTED |= dict.fromkeys([announces_more_than_it_sends, empty_reply], DECODE)
EXPECTED |= dict.fromkeys([exception_four, unknown_exception], FAULT)
EXPECTED |= dict.fromkeys([another_transaction, gateway_without_path, gateway_without_answer], AWAY)
EXPECTED |= dict.fromkeys([truncated_and_silent, oversized, another_protocol, rubbish, reset_in_the_middle], AWAY)
EXPECTED |= {silent: AWAY}


def device(name, port, *, unit=1, every="20ms", limits=None, scheme="tcp", **more):
    points = {"a": {"at": "holding 10", "as": "uint16"}, "b": {"at": "holding 11", "as": "uint16"}}
    profile = {"base": 0, "points": points, "defaults": {"every": every}, "limits": limits or {}} | more
    return (name, {"modbus": f"{scheme}://127.0.0.1:{port}", "unit_id": unit}, profile)


@pytest.mark.parametrize("behave", EXPECTED, ids=lambda b: b.__name__)
async def test_misbehaviour_gives_its_quality_and_never_a_wrong_value(behave, assign, clock, rng, running, sink):
    async with Server(behave) as strange, Server() as sound:
        assignments, _ = assign(device("strange", strange.port), device("sound", sound.port))
        answers = EXPECTED[behave] in {GOOD, DECODE, FAULT} and behave is not late_reply_with_old_values
        patience_s = 20 if answers else 0.2
        odd = ModbusDriver(assignments[:1], clock=clock, rng=rng, timeout_s=patience_s)
        even = ModbusDriver(assignments[1:], clock=clock, rng=rng, timeout_s=20)
        async with running(odd, sink), running(even, sink):
            await sink.until(lambda: EXPECTED[behave] in [q for _, _, q, _ in sink.samples(0)], within_s=20)
            seen = len(sink.samples(2))
            await sink.until(lambda: len(sink.samples(2)) >= seen + 3, within_s=20)
        values = {v for s, v, q, _ in sink.samples() if q == GOOD and s < 2}
        assert values <= {RIGHT}
        qualities = {q for s, _, q, _ in sink.samples() if s < 2}
        assert qualities <= {EXPECTED[behave], AWAY if behave is late_reply_with_old_values else EXPECTED[behave]}
        assert {row[1:3] for row in sink.samples(2)} == {(RIGHT, GOOD)}
        health = odd.health()[0]
        assert health.connected == (EXPECTED[behave] != AWAY)
        assert EXPECTED[behave] == GOOD or health.last_error


async def test_reboot_between_two_reads_keeps_what_was_read_and_closes_the_hole(assign, clock, rng, running, sink):
    async def reboot(r):
        if r.start == 50 and r.server.connections == 1:
            r.writer.transport.abort()
            return True
        return False

    points = {"a": {"at": "holding 10"}, "b": {"at": "holding 50"}}
    async with Server(reboot) as server:
        assignments, _ = assign(device("d", server.port, points=points))
        async with running(ModbusDriver(assignments, clock=clock, rng=rng), sink):
            await sink.until(lambda: GOOD in [q for _, _, q, _ in sink.samples(1)])
    assert [q for _, _, q, _ in sink.samples(0)][:2] == [GOOD, AWAY]
    assert [q for _, _, q, _ in sink.samples(1)][:2] == [AWAY, GOOD]
    assert [h.reason for h in sink.holes] == ["DEVICE_UNREACHABLE"]


async def test_registers_that_vanish_while_it_runs_are_bad_and_their_neighbours_go_on(
    assign, clock, rng, running, sink
):
    gone = set()

    async def without(r):
        return bool(gone & set(range(r.start, r.start + r.count))) and r.refuse(2)

    async with Server(without) as server:
        assignments, _ = assign(device("d", server.port))
        async with running(ModbusDriver(assignments, clock=clock, rng=rng, timeout_s=20), sink):
            await sink.until(lambda: len(sink.samples(0)) >= 2)
            gone.add(11)
            await sink.until(lambda: FAULT in [q for _, _, q, _ in sink.samples(1)])
            seen = len(sink.samples(0))
            await sink.until(lambda: len(sink.samples(0)) >= seen + 5)
    assert {q for _, _, q, _ in sink.samples(0)} == {GOOD}
    assert [q for _, _, q, _ in sink.samples(1)].count(FAULT) == 1
    assert [r.start for r in server.requests[-3:]] == [10, 10, 10]


async def test_silent_unit_on_tcp_lets_its_neighbours_pass_while_it_is_waited_for(assign, clock, rng, running, sink):
    async def unit_two_is_dead(r):
        return r.unit == 2

    async with Server(unit_two_is_dead) as server:
        assignments, _ = assign(device("d1", server.port, unit=1), device("d2", server.port, unit=2))
        async with running(ModbusDriver(assignments, clock=clock, rng=rng, timeout_s=60), sink):
            # Within the test the silent unit's first request never ends: the neighbour must not wait for it.
            await sink.until(lambda: len(sink.samples(0)) >= 20)
        assert [r.unit for r in server.requests].count(2) == 1
        assert server.connections == 1


async def test_device_that_takes_one_request_at_a_time_is_no_longer_sent_two(assign, clock, rng, running, sink):
    waiting = []

    async def drops_what_comes_while_unit_two_is_waited_for(r):
        if r.unit == 2:
            waiting.append(r)
        return r.unit == 2 or (len(waiting) == 1 and r.number == waiting[0].number + 1)

    async with Server(drops_what_comes_while_unit_two_is_waited_for) as server:
        assignments, _ = assign(device("d1", server.port, unit=1), device("d2", server.port, unit=2))
        async with running(ModbusDriver(assignments, clock=clock, rng=rng, timeout_s=0.2), sink):
            await sink.until(lambda: len(waiting) >= 3 and len(sink.samples(0)) >= 5, within_s=20)
    assert GOOD in {q for _, _, q, _ in sink.samples(0)}


async def test_silent_unit_is_asked_on_a_connection_of_its_own_where_the_profile_allows_it(
    assign, clock, rng, running, sink
):
    async def unit_two_is_dead(r):
        return r.unit == 2 and not r.server.revived

    async with Server(unit_two_is_dead) as server:
        server.revived = False
        two = {"connections": 2}
        assignments, _ = assign(
            device("d1", server.port, unit=1, limits=two), device("d2", server.port, unit=2, limits=two)
        )
        async with running(ModbusDriver(assignments, clock=clock, rng=rng, timeout_s=0.2), sink):
            await sink.until(lambda: {r.connection for r in server.requests if r.unit == 2} == {1, 2}, within_s=20)
            assert {r.connection for r in server.requests if r.unit == 1} == {1}
            server.revived = True
            await sink.until(lambda: GOOD in [q for _, _, q, _ in sink.samples(2)], within_s=20)
            begun = len(server.requests)
            await sink.until(lambda: 2 in [r.unit for r in server.requests[begun + 5 :]], within_s=20)
        assert server.requests[-1].connection == 1


def firmware_server(text):
    async def tells(r):
        if r.start == 100:
            r.reply(struct.pack(">BB", r.function, 2 * r.count) + text.encode().ljust(2 * r.count, b"\0"))
            return True
        return False

    return Server(tells)


IDENTIFY = {"at": "holding 100", "as": "string(8)", "match": "*", "firmware": {"at": "holding 100", "as": "string(8)"}}


@pytest.mark.parametrize(("told", "fits"), [("V2.4", True), ("3.0.1", False), ("unknown", False)])
async def test_device_with_a_firmware_that_the_profile_is_not_for_is_refused(
    told, fits, assign, clock, rng, running, sink
):
    async with firmware_server(told) as server:
        assignments, _ = assign(device("d", server.port, firmware=">=2.3, <3", identify=IDENTIFY))
        driver = ModbusDriver(assignments, clock=clock, rng=rng, timeout_s=20)
        async with running(driver, sink):
            await sink.until(lambda: sink.samples(0))
            assert sink.samples(0)[0][2] == (GOOD if fits else bad(QualityReason.DEVICE_FAULT))
            assert fits or f"firmware {told!r}, its profile is for '>=2.3, <3'" in driver.health()[0].last_error


async def test_many_silent_units_share_what_one_may_take_from_a_healthy_one(assign, clock, rng, running, sink):
    async def only_unit_one_lives(r):
        return r.unit != 1

    async with Server(only_unit_one_lives) as server:
        devices = [device(f"d{n}", server.port, unit=n) for n in range(1, 7)]
        assignments, _ = assign(*devices)
        async with running(ModbusDriver(assignments, clock=clock, rng=rng, timeout_s=0.1), sink):
            await sink.until(lambda: {r.unit for r in server.requests} == set(range(1, 7)), within_s=20)
            seen = len(sink.samples(0))
            await sink.until(lambda: len(sink.samples(0)) >= seen + 30, within_s=30)
    asked = [r.unit for r in server.requests[-30:]]
    assert asked.count(1) >= 15


async def test_replies_that_trip_a_defect_are_bad_and_the_unit_beside_is_read_on(
    assign, clock, rng, running, sink, monkeypatch
):
    decode = Extractor.decode

    def trips(self, *arguments):
        batches = decode(self, *arguments)
        if 0 in batches[0].signal:
            raise ZeroDivisionError("a defect")
        return batches

    monkeypatch.setattr(Extractor, "decode", trips)
    async with Server() as server:
        assignments, _ = assign(device("d1", server.port, unit=1), device("d2", server.port, unit=2))
        driver = ModbusDriver(assignments, clock=clock, rng=rng, timeout_s=20)
        async with running(driver, sink):
            await sink.until(lambda: len(sink.samples(0)) >= 3 and len(sink.samples(2)) >= 3, within_s=20)
            assert {q for s, _, q, _ in sink.samples() if s < 2} == {DECODE}
            assert {q for s, _, q, _ in sink.samples() if s >= 2} == {GOOD}
            odd, even = driver.health()
            assert "ZeroDivisionError" in odd.last_error
            assert (even.errors, even.connected, odd.connected) == (0, True, True)
