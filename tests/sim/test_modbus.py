"""The Modbus server answers pymodbus' client, and its log says exactly what was answered."""

import asyncio
import struct

import pytest
from pymodbus.client import AsyncModbusTcpClient
from pymodbus.exceptions import ModbusIOException

from twinmodel.errors import ConflictError
from twinsim.firmware import IDENTITY
from twinsim.serve.modbus import serve_modbus
from twinsim.served import read_served


def decode(registers):
    return struct.unpack(">ffIH", struct.pack(">7H", *registers))


def client(port, **options):
    return AsyncModbusTcpClient("127.0.0.1", port=port, reconnect_delay=0, **options)


async def test_each_answered_poll_gets_the_next_number_and_one_record(tmp_path, devices, log, clock):
    units = devices("modbus", 3)
    async with serve_modbus(units, log, clock) as port, client(port) as reader:
        answers = [
            (unit, decode((await reader.read_input_registers(0, count=7, device_id=unit)).registers))
            for unit in (1, 2, 1, 3, 1)
        ]
    log.flush()
    assert [(f"T-{unit}", a[2]) for unit, a in answers] == [("T-1", 1), ("T-2", 1), ("T-1", 2), ("T-3", 1), ("T-1", 3)]
    assert [(r.device, r.n) for r in read_served(tmp_path)] == [(f"T-{unit}", a[2]) for unit, a in answers]
    assert all(r.points == ("level2", "pump", "sample_no", "status") for r in read_served(tmp_path))
    assert all(r.t_ns == clock.wall_ns() for r in read_served(tmp_path))


async def test_all_registers_of_a_poll_are_of_the_latest_tick(devices, log, clock):
    (unit,) = devices("modbus", 1)
    async with serve_modbus([unit], log, clock) as port, client(port) as reader:
        for _ in range(3):
            unit.tick(0.1, clock.wall_ns())
            level, pump, _, status = decode((await reader.read_input_registers(0, count=7)).registers)
            assert (level, pump) == pytest.approx((unit.reading["level2"], unit.reading["pump"]), rel=1e-6)
            assert status == 1


async def test_a_poll_that_misses_the_number_is_answered_and_not_counted(tmp_path, devices, log, clock):
    units = devices("modbus", 1)
    async with serve_modbus(units, log, clock) as port, client(port) as reader:
        assert len((await reader.read_input_registers(0, count=4)).registers) == 4
        assert len((await reader.read_input_registers(0, count=5)).registers) == 5
        assert decode((await reader.read_input_registers(0, count=7)).registers)[2] == 1
        assert (await reader.read_input_registers(4, count=2)).registers == [0, 2]
    log.flush()
    assert [(r.n, r.points) for r in read_served(tmp_path)] == [
        (1, ("level2", "pump", "sample_no", "status")),
        (2, ("sample_no",)),
    ]


async def test_identity_coils_and_discretes_can_be_read_and_not_written(devices, log, clock):
    async with serve_modbus(devices("modbus", 1), log, clock) as port, client(port) as reader:
        words = (await reader.read_holding_registers(100, count=8)).registers
        assert struct.pack(">8H", *words).decode() == IDENTITY
        assert (await reader.read_coils(0, count=1)).bits[0] is True
        assert (await reader.read_discrete_inputs(0, count=1)).bits[0] is True
        assert (await reader.write_register(100, 1)).isError()
        assert (await reader.write_coil(0, value=False)).isError()
        assert (await reader.read_input_registers(5, count=7)).exception_code == 2


async def test_a_pump_that_is_told_a_voltage_holds_it_until_it_is_given_back(devices, log, clock):
    (unit,) = devices("modbus", 1)

    async def pump_set(reader):
        return struct.unpack(">f", struct.pack(">2H", *(await reader.read_holding_registers(0, count=2)).registers))[0]

    async with serve_modbus([unit], log, clock) as port, client(port) as reader:
        assert await pump_set(reader) == pytest.approx(unit.reading["pump"])
        assert not (await reader.write_registers(0, list(struct.unpack(">2H", struct.pack(">f", 6.5))))).isError()
        unit.tick(1.0, clock.wall_ns())
        assert (await reader.read_coils(0, count=2)).bits[:2] == [True, True]
        assert (await pump_set(reader), unit.reading["pump"]) == (6.5, 6.5)
        assert not (await reader.write_coil(1, value=False)).isError()
        unit.tick(1.0, clock.wall_ns())
        assert (await reader.read_coils(0, count=2)).bits[:2] == [True, False]
        assert unit.reading["pump"] != 6.5


async def test_a_voltage_that_no_pump_has_and_half_a_number_are_refused(devices, log, clock):
    (unit,) = devices("modbus", 1)
    async with serve_modbus([unit], log, clock) as port, client(port) as reader:
        for voltage in (10.5, -1.0, float("nan")):
            words = list(struct.unpack(">2H", struct.pack(">f", voltage)))
            assert (await reader.write_registers(0, words)).exception_code == 3
        assert (await reader.write_registers(0, [1])).exception_code == 2
        assert (await reader.write_coil(2, value=True)).exception_code == 2
    assert unit.plant.held_v is None


async def test_an_unknown_unit_is_refused_as_a_gateway_does(devices, log, clock):
    async with serve_modbus(devices("modbus", 1), log, clock) as port, client(port) as reader:
        assert (await reader.read_input_registers(0, count=7, device_id=9)).exception_code == 11


async def test_a_silent_unit_answers_nothing_and_leaves_the_others_alone(tmp_path, devices, log, clock):
    units = devices("modbus", 2)
    units[0].inject("dropout")
    async with serve_modbus(units, log, clock) as port, client(port) as reader:
        async with client(port, timeout=0.2, retries=0) as impatient:
            with pytest.raises(ModbusIOException):
                await impatient.read_input_registers(0, count=7, device_id=1)
        assert not (await reader.read_input_registers(0, count=7, device_id=2)).isError()
        units[0].faults.clear()
        assert decode((await reader.read_input_registers(0, count=7, device_id=1)).registers)[2] == 1
    log.flush()
    assert [r.device for r in read_served(tmp_path)] == ["T-2", "T-1"]


async def test_a_refusing_unit_answers_device_failure_and_serves_nothing(tmp_path, devices, log, clock):
    units = devices("modbus", 1)
    units[0].inject("refuse")
    async with serve_modbus(units, log, clock) as port, client(port) as reader:
        assert (await reader.read_input_registers(0, count=7)).exception_code == 4
    log.flush()
    assert list(read_served(tmp_path)) == []


async def test_many_clients_at_once_get_different_numbers(tmp_path, devices, log, clock):
    async def poll(port, found):
        async with client(port) as reader:
            for _ in range(20):
                found.append(decode((await reader.read_input_registers(0, count=7)).registers)[2])

    found = []
    async with serve_modbus(devices("modbus", 1), log, clock) as port:
        await asyncio.gather(*(poll(port, found) for _ in range(5)))
    log.flush()
    assert sorted(found) == list(range(1, 101))
    assert sorted(r.n for r in read_served(tmp_path)) == sorted(found)
    assert len({r.connection for r in read_served(tmp_path)}) == 5


async def test_a_port_in_use_is_said_so(devices, log, clock):
    async with serve_modbus(devices("modbus", 1), log, clock) as port:
        with pytest.raises(ConflictError) as refused:
            async with serve_modbus(devices("modbus", 1), log, clock, port=port):
                pass
    assert refused.value.reason == "PORT_IN_USE"
