"""Devices made from profiles behind the lean Modbus server: framing, misbehaviour, fleets, and real clients."""

import asyncio
import contextlib
import struct

import pytest
from pymodbus.client import AsyncModbusTcpClient
from pymodbus.framer import FramerType

from twinmodel.errors import ConflictError
from twinsim.image.device import ProfileDevice
from twinsim.image.source import find_source
from twinsim.serve.modbus_profile import serve_registers
from twinsim.served import read_served

SOURCE = find_source("abb/b23")
T0_NS = 1_700_000_000_000_000_000


@pytest.fixture
def meters():
    def make(count, source=SOURCE, **texts):
        made = [ProfileDevice(f"m-{k}", k, source, 1, texts) for k in range(1, count + 1)]
        for device in made:
            device.tick(1.0, T0_NS)
        return made

    return make


def place(device):
    host, _, port = device.address.partition("://")[2].rpartition(":")
    return host, int(port)


class Raw:
    """A client that shows frames as they come."""

    def __init__(self, device):
        self._device = device

    async def __aenter__(self):
        self.reader, self.writer = await asyncio.open_connection(*place(self._device))
        return self

    async def __aexit__(self, *_):
        self.writer.close()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()

    async def ask(self, start=23316, count=2, transaction=7, unit=1, function=3):
        self.writer.write(struct.pack(">HHHBBHH", transaction, 0, 6, unit, function, start, count))
        return await self.answer()

    async def answer(self):
        async with asyncio.timeout(60):
            head = struct.unpack(">HHHB", await self.reader.readexactly(7))
            return head[0], head[3], await self.reader.readexactly(head[2] - 1)


async def test_units_behind_one_port_answer_a_real_client_and_are_logged(tmp_path, meters, log, clock):
    devices = meters(3, power="1234.5")
    async with serve_registers(devices, log, clock):
        host, port = place(devices[2])
        async with AsyncModbusTcpClient(host, port=port) as client:
            words = (await client.read_holding_registers(23316, count=2, device_id=3)).registers
            assert struct.pack(">2H", *words) == (123450).to_bytes(4, "big")
            assert (await client.read_holding_registers(23318, count=100, device_id=3)).exception_code == 2
            assert (await client.read_holding_registers(23316, count=2, device_id=4)).exception_code == 11
            assert (await client.write_register(23316, 1, device_id=3)).exception_code == 2
            assert (await client.mask_write_register(address=23316, device_id=3)).exception_code == 1
    log.flush()
    assert [(r.device, r.n, r.points) for r in read_served(tmp_path)] == [("m-3", 1, ("power",))]
    assert [(w.point, w.code) for w in devices[2].writes] == [("holding 23316", 2)]


async def test_rtu_over_tcp_is_framed_and_checked(meters, log, clock):
    (device,) = meters(1, power="50")
    async with serve_registers([device], log, clock, framing="rtu"):
        host, port = place(device)
        assert device.address.startswith("rtu+tcp://")
        async with AsyncModbusTcpClient(host, port=port, framer=FramerType.RTU) as client:
            assert (await client.read_holding_registers(23316, count=2)).registers == [0, 5000]
        async with Raw(device) as raw:
            raw.writer.write(b"\x01\x03noise")
            raw.writer.write(bytes.fromhex("0103000000010000"))
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(raw.reader.readexactly(1), 0.1)


async def test_a_port_or_an_address_for_each_device(meters, log, clock):
    devices = meters(3)
    async with serve_registers(devices, log, clock, spread="ports"):
        assert len({d.address for d in devices}) == 3
        async with Raw(devices[1]) as raw:
            assert len((await raw.ask(unit=77))[2]) == 6
        with pytest.raises(ConflictError) as taken:
            async with serve_registers(meters(1), log, clock, port=place(devices[0])[1]):
                pass
        assert taken.value.reason == "PORT_IN_USE"
    async with serve_registers(devices, log, clock, spread="hosts", host="127.7.7.1"):
        assert [place(d)[0] for d in devices] == ["127.7.7.1", "127.7.7.2", "127.7.7.3"]
        assert len({place(d)[1] for d in devices}) == 1
        async with Raw(devices[2]) as raw:
            assert len((await raw.ask())[2]) == 6


@pytest.mark.parametrize(
    ("kind", "size", "expected"),
    [
        ("busy", None, (7, 1, b"\x83\x06")),
        ("exception", 10.0, (7, 1, b"\x83\x0a")),
        ("refuse", None, (7, 1, b"\x83\x04")),
        ("wrong_id", None, (8, 1, b"\x03\x04\x00\x00\x13\x88")),
        ("wrong_unit", None, (7, 2, b"\x03\x04\x00\x00\x13\x88")),
        ("short", 1.0, (7, 1, b"\x03\x02\x00\x00")),
        ("oversized", 2.0, (7, 1, b"\x03\x08\x00\x00\x13\x88\x00\x00\x00\x00")),
        ("byte_by_byte", 0.001, (7, 1, b"\x03\x04\x00\x00\x13\x88")),
        ("late", 0.05, (7, 1, b"\x03\x04\x00\x00\x13\x88")),
        ("map_change", -8.0, (7, 1, b"\x83\x02")),
    ],
)
async def test_a_misbehaving_device_answers_as_its_fault_says_and_its_neighbour_does_not(
    meters, log, clock, kind, size, expected
):
    devices = meters(2, power="50")
    devices[0].inject(kind, size=size)
    async with serve_registers(devices, log, clock), Raw(devices[0]) as raw:
        assert await raw.ask() == expected
        assert (await raw.ask(unit=2))[2] == b"\x03\x04\x00\x00\x13\x88"
        devices[0].faults.clear()
        assert await raw.ask() == (7, 1, b"\x03\x04\x00\x00\x13\x88")
    spoilt = kind not in {"byte_by_byte", "late"}
    assert log.count == 3 - spoilt


async def test_a_reset_and_a_half_open_connection_end_in_their_ways(meters, log, clock):
    devices = meters(2)
    async with serve_registers(devices, log, clock):
        devices[0].inject("reset")
        async with Raw(devices[0]) as raw:
            with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
                await raw.ask()
        devices[0].faults.clear()
        devices[0].inject("half_open")
        async with Raw(devices[0]) as raw:
            for unit in (1, 2):
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(raw.ask(unit=unit), 0.05)


async def test_a_rebooting_device_takes_no_connection_and_comes_back(meters, log, clock):
    (device,) = meters(1)
    async with serve_registers([device], log, clock, spread="ports") as (listener,), Raw(device) as raw:
        await raw.ask()
        device.inject("reboot", size=2.0)
        listener.drop()
        with contextlib.suppress(ConnectionResetError):
            assert await raw.reader.read(1) == b""
        device.tick(2.0, T0_NS)
        async with Raw(device) as again:
            assert len((await again.ask())[2]) == 6


async def test_a_lying_length_costs_the_connection_and_nothing_else(meters, log, clock):
    (device,) = meters(1)
    async with serve_registers([device], log, clock):
        async with Raw(device) as raw:
            raw.writer.write(b"\0\1\0\0\xff\xff\1\3")
            with contextlib.suppress(ConnectionResetError):
                assert await raw.reader.read(1) == b""
        async with Raw(device) as raw:
            raw.writer.write(struct.pack(">HHHBBH", 7, 0, 4, 1, 3, 23316))  # a request that is cut off
            assert await raw.answer() == (7, 1, b"\x83\x03")
