"""The Modbus driver against servers of the same library and against a hand-made one that misbehaves."""

from __future__ import annotations

import asyncio
import contextlib
import math
import struct
import time
from statistics import median

import pytest
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from twinedge.drivers.modbus import ModbusDriver
from twinedge.drivers.modbus_unit import Unit
from twinedge.drivers.plan import Read
from twinmodel.quality import GOOD, QualityReason, bad

AWAY = bad(QualityReason.NOT_CONNECTED)
FAULT = bad(QualityReason.DEVICE_FAULT)
DECODE = bad(QualityReason.DECODE)


class HandMadeServer:
    """Answers reads of holding registers with register = address + unit * 1000; each fault is one switch."""

    def __init__(self):
        self.dead = set()
        self.bytewise = False
        self.wrong_transaction = False
        self.short = False
        self.silent = False
        self.exception = 0
        self.busy = 0
        self.illegal = set()
        self.requests = []
        self.server = None
        self.port = 0
        self.writers = set()

    async def start(self, port=0):
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", port)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    async def stop(self):
        self.server.close()
        for writer in list(self.writers):
            writer.transport.abort()
        await asyncio.sleep(0)

    async def serve(self, reader, writer):
        self.writers.add(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readexactly(7)
                tid, _, length, unit = struct.unpack(">HHHB", head)
                function, start, count = struct.unpack(">BHH", await reader.readexactly(length - 1))
                self.requests.append((unit, function, start, count))
                await self.answer(writer, tid, unit, function, start, count)
        self.writers.discard(writer)
        writer.close()

    async def answer(self, writer, tid, unit, function, start, count):
        if self.silent or unit in self.dead:
            return
        code = self.exception
        if self.busy:
            self.busy -= 1
            code = 6
        if self.illegal & set(range(start, start + count)):
            code = 2
        if code:
            body = struct.pack(">BB", function | 0x80, code)
        else:
            registers = [(start + i + unit * 1000) & 0xFFFF for i in range(count - self.short)]
            body = struct.pack(f">BB{len(registers)}H", function, 2 * len(registers), *registers)
        tid = (tid + 7) & 0xFFFF if self.wrong_transaction else tid
        frame = struct.pack(">HHHB", tid, 0, len(body) + 1, unit) + body
        for part in [frame[i : i + 1] for i in range(len(frame))] if self.bytewise else [frame]:
            writer.write(part)
            await writer.drain()
            if self.bytewise:
                await asyncio.sleep(0.002)


@pytest.fixture
async def server():
    made = await HandMadeServer().start()
    yield made
    await made.stop()


def profile(every="50ms", **points):
    points = points or {"a": {"at": "holding 10", "as": "uint16"}, "b": {"at": "holding 11", "as": "uint16"}}
    return {"base": 0, "points": points, "defaults": {"every": every}}


def unit(port, unit_id=1):
    return {"modbus": f"tcp://127.0.0.1:{port}", "unit_id": unit_id}


@pytest.fixture
def drive(assign, clock, rng, running, sink):
    def start(*entries, timeout_s=1.0):
        assignments, _ = assign(*entries)
        return running(ModbusDriver(assignments, clock=clock, rng=rng, timeout_s=timeout_s), sink)

    return start


async def test_pymodbus_server_is_read_with_all_tables_and_types(drive, sink):
    floats = SimData(0, values=[1.5, -2.25], datatype=DataType.FLOAT32)
    tables = (
        [SimData(0, values=[True] * 8 + [False] * 8, datatype=DataType.BITS)],
        [SimData(0, values=[False] * 16, datatype=DataType.BITS)],
        [floats],
        [SimData(5, values=[0x8000, 7, 3], datatype=DataType.REGISTERS)],
    )
    server = ModbusTcpServer(SimDevice(1, simdata=tables), address=("127.0.0.1", 0))
    await server.serve_forever(background=True)
    try:
        port = server.transport.sockets[0].getsockname()[1]
        points = {
            "x": {"at": "holding 0", "as": "float32"},
            "y": {"at": "holding 2", "as": "float32"},
            "absent": {"at": "input 5", "as": "int16", "absent": 0x8000, "scale": 0.1},
            "scaled": {"at": "input 6", "as": "int16", "scale": 0.1},
            "bit": {"at": "input 7.1", "as": "bit"},
            "coil": {"at": "coil 3", "as": "bit"},
            "contact": {"at": "discrete 3", "as": "bit"},
        }
        async with drive(("m", unit(port), profile(**points))) as driver:
            await sink.until(lambda: len(sink.samples()) >= 7)
        rows = {signal: (value, quality) for signal, value, quality, _ in sink.samples()[:7]}
        assert math.isnan(rows[2][0])
        assert rows.pop(2)[1] == bad(QualityReason.ABSENT)
        expected = {0: 1.5, 1: -2.25, 3: 0.7, 4: True, 5: True, 6: False}
        assert rows == {k: (v, GOOD) for k, v in expected.items()}
        assert sink.holes == []
        assert driver.health()[0].connected
        assert driver.health()[0].errors == 0
    finally:
        await server.shutdown()


async def test_polls_keep_their_rate_without_drift(drive, sink, server):
    async with drive(("m", unit(server.port), profile("20ms"))):
        await sink.until(lambda: len(sink.deliveries) >= 40)
    times = [t for _, _, _, t in sink.samples(0)]
    assert times[39] - times[0] >= 0.76e9
    assert all(t % 1_000_000 == 0 for t in times)
    # A busy machine delays single polls or skips them; it does not move the grid the others lie on.
    begun, ended = times[0] + median(off_grid(times[:13], times[0])), times[-13:]
    assert abs(median(off_grid(ended, begun))) <= 4_000_000


def off_grid(times, origin, step=20_000_000):
    """Distances of times to the nearest point of a grid."""
    return [(t - origin + step // 2) % step - step // 2 for t in times]


async def test_scale_factor_register_scales_the_others_in_the_same_cycle(drive, sink, server):
    points = {
        "v": {"at": "holding 10", "as": "uint16", "scale": "10^@sf"},
        "sf": {"at": "holding 64538", "as": "int16"},  # unit 1 adds 1000: the register reads 65538 - 65536 = 2
    }
    async with drive(("m", unit(server.port), profile(**points))):
        await sink.until(lambda: len(sink.samples()) >= 2)
    assert sink.samples(0)[0][1:3] == (101000.0, GOOD)


async def test_two_units_share_one_connection(drive, sink, server):
    async with drive(("m1", unit(server.port, 1), profile()), ("m2", unit(server.port, 2), profile())):
        await sink.until(lambda: sink.samples(0) and sink.samples(2))
        assert len(server.writers) == 1
    assert sink.samples(0)[0][1] == 1010
    assert sink.samples(2)[0][1] == 2010


async def test_dead_unit_costs_its_neighbour_at_most_one_timeout_per_backoff(drive, sink, server):
    server.dead.add(2)
    async with drive(("m1", unit(server.port, 1), profile()), ("m2", unit(server.port, 2), profile())):
        await sink.until(lambda: len(sink.samples(0)) >= 40)
        assert [q for _, _, q, _ in sink.samples(2)] == [AWAY]
        assert [q for _, _, q, _ in sink.samples(3)] == [AWAY]
        asked = [asked_unit for asked_unit, *_ in server.requests]
        # Retries grow apart, and between two of them the neighbour has its turns.
        assert 2 <= asked.count(2) <= 8
        assert asked.count(1) >= 40
        server.dead.clear()
        await sink.until(lambda: any(q == GOOD for _, _, q, _ in sink.samples(2)))
    assert [h.device for h in sink.holes] == ["m2"]
    assert sink.holes[0].from_ns < sink.holes[0].to_ns


async def test_server_restart_gives_one_bad_sample_then_values_and_one_closed_hole(drive, sink, server):
    async with drive(("m", unit(server.port), profile())) as driver:
        await sink.until(lambda: len(sink.samples(0)) >= 3)
        port = server.port
        await server.stop()
        await sink.until(lambda: sink.samples(0)[-1][2] == AWAY)
        await asyncio.sleep(0.6)
        away = len(sink.items)
        assert not driver.health()[0].connected
        again = await HandMadeServer().start(port)
        await sink.until(lambda: sink.samples(0, away) and sink.samples(0)[-1][2] == GOOD)
        await again.stop()
    rows = sink.samples(0)
    assert sum(q == AWAY for _, _, q, _ in rows) == 1
    assert math.isfinite(rows[-1][1])
    assert len(sink.holes) == 1
    hole = sink.holes[0]
    last_good = max(t for _, _, q, t in rows if q == GOOD and t <= hole.from_ns)
    assert not any(last_good < t < hole.from_ns for _, _, _, t in rows)
    assert driver.health()[0].reconnects == 1


async def test_half_open_connection_is_noticed_and_replaced(drive, sink, server):
    async with drive(("m", unit(server.port), profile())):
        await sink.until(lambda: len(sink.samples(0)) >= 2)
        first = set(server.writers)
        server.silent = True
        await sink.until(lambda: sink.samples(0)[-1][2] == AWAY)
        server.silent = False
        await sink.until(lambda: sink.samples(0)[-1][2] == GOOD)
        assert not first & server.writers


async def test_device_that_is_not_there_at_the_start_is_bad_until_it_comes(drive, sink, server):
    port = server.port
    await server.stop()
    async with drive(("m", unit(port), profile())):
        await sink.until(lambda: len(sink.samples()) == 2)
        assert {q for _, _, q, _ in sink.samples()} == {AWAY}
        again = await HandMadeServer().start(port)
        await sink.until(lambda: sink.samples(0)[-1][2] == GOOD)
        await again.stop()
    assert len(sink.holes) == 1


async def test_bytewise_replies_become_values(drive, sink, server):
    server.bytewise = True
    async with drive(("m", unit(server.port), profile())):
        await sink.until(lambda: len(sink.samples(0)) >= 3)
    assert all(row[1:3] == (1010, GOOD) for row in sink.samples(0))


async def test_wrong_transaction_id_never_becomes_a_value(drive, sink, server):
    server.wrong_transaction = True
    async with drive(("m", unit(server.port), profile())):
        await sink.until(lambda: len(sink.samples(0)) >= 1)
        assert sink.samples(0)[0][2] == AWAY
        server.wrong_transaction = False
        await sink.until(lambda: sink.samples(0)[-1][2] == GOOD)
    assert {row[1] for row in sink.samples(0) if row[2] == GOOD} == {1010}


async def test_exception_code_becomes_device_fault_and_the_device_stays_connected(drive, sink, server):
    server.exception = 4
    async with drive(("m", unit(server.port), profile()), timeout_s=20) as driver:
        await sink.until(lambda: len(sink.samples(0)) >= 2)
        assert {q for _, _, q, _ in sink.samples(0)} == {FAULT}
        assert driver.health()[0].connected
        assert "exception 4" in driver.health()[0].last_error


async def test_reply_of_wrong_length_is_bad(drive, sink, server):
    server.short = True
    async with drive(("m", unit(server.port), profile()), timeout_s=20):
        await sink.until(lambda: len(sink.samples(0)) >= 1)
    assert sink.samples(0)[0][2] == DECODE


async def test_busy_device_is_asked_again(drive, sink, server):
    server.busy = 2
    async with drive(("m", unit(server.port), profile())):
        await sink.until(lambda: len(sink.samples(0)) >= 1)
    assert sink.samples(0)[0][2] == GOOD


async def test_gateway_that_reports_a_dead_target_counts_as_away(drive, sink, server):
    server.exception = 11
    async with drive(("m", unit(server.port), profile())):
        await sink.until(lambda: len(sink.samples(0)) >= 1)
    assert sink.samples(0)[0][2] == AWAY


async def test_bridged_read_that_the_device_refuses_is_split_for_good(drive, sink, server):
    server.illegal = {12}
    points = {"a": {"at": "holding 10", "as": "uint32"}, "b": {"at": "holding 13", "as": "uint16"}}
    bridged = profile(**points) | {"limits": {"bridge": 4}}
    async with drive(("m", unit(server.port), bridged)):
        await sink.until(lambda: len(sink.samples(1)) >= 3)
    assert {q for _, _, q, _ in sink.samples()} == {GOOD}
    assert server.requests[0] == (1, 3, 10, 4)
    assert set(server.requests[1:]) == {(1, 3, 10, 2), (1, 3, 13, 1)}


async def test_device_of_another_kind_is_refused_and_served_once_it_is_the_right_one(drive, sink, server):
    expecting = {"identify": {"at": "holding 200", "as": "uint16", "match": "12??"}}
    wrong = {"identify": expecting["identify"] | {"match": "9*"}}
    async with drive(("m", unit(server.port), profile() | wrong)) as driver:
        await sink.until(lambda: sink.samples(0))
        await asyncio.sleep(0.2)
        assert [row[2] for row in sink.samples(0)] == [bad(QualityReason.DEVICE_FAULT)]
        assert "says it is '1200'" in driver.health()[0].last_error
    start = len(sink.items)
    server.requests.clear()
    async with drive(("m", unit(server.port), profile() | expecting)):
        await sink.until(lambda: len(sink.samples(0, start)) >= 2)
    assert {row[2] for row in sink.samples(0, start)} == {GOOD}
    assert [r[2] for r in server.requests[:3]] == [200, 10, 10]


async def test_slow_sink_skips_cycles_and_counts_them(drive, server, assign, clock, rng, running, sink):
    async def slow_put(item):
        await asyncio.sleep(0.12)
        sink.items.append(item)
        sink.changed.set()

    sink.put = slow_put
    async with drive(("m", unit(server.port), profile())) as driver:
        await sink.until(lambda: len(sink.items) >= 4)
        assert driver.health()[0].missed >= 3


async def test_points_with_different_periods_are_read_apart(drive, sink, server):
    points = {
        "fast": {"at": "holding 1", "as": "uint16", "every": "20ms"},
        "slow": {"at": "holding 2", "as": "uint16", "every": "200ms"},
    }
    begun_s = time.monotonic()
    async with drive(("m", unit(server.port), profile(**points))):
        await sink.until(lambda: len(sink.samples(1)) >= 3 and len(sink.samples(0)) >= 12)
    passed_s = time.monotonic() - begun_s
    # A busy machine reads less often, never more than on time, at the start and at the end.
    assert len(sink.samples(0)) <= passed_s / 0.02 + 3
    assert len(sink.samples(1)) <= passed_s / 0.2 + 3


async def test_reads_that_only_teach_do_not_pile_up(assign, clock, rng):
    assignments, _ = assign(("d", {"modbus": "tcp://h:1"}, {"base": 0, "points": {"p": {"at": "holding 0"}}}))
    group = Unit(assignments[0], clock, rng).groups[0]
    for _ in range(100):
        group.prepared(Read.over(group.planner.reads[0].spans))
    assert len(group._made) <= 3
    request, _ = group.prepared(group.planner.reads[0])
    assert group.prepared(group.planner.reads[0])[0] is request
