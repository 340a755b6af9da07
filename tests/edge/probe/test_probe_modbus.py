"""`twinedge probe modbus` and `browse modbus` against simulated units and against ones that refuse."""

from __future__ import annotations

import asyncio
import contextlib
import struct

import pytest

from tests.ports import free_port
from twinedge.config.address import ModbusAddress
from twinedge.probe import modbus
from twinedge.probe.browse_modbus import browse_modbus, draft_of, registers_text, span_of
from twinedge.probe.draft import write_draft
from twinedge.probe.modbus import Question, probe_modbus
from twinedge.probe.modbus_text import modbus_text
from twinmodel.errors import InputError, UnreachableError
from twinmodel.profile.load import load_profile
from twinsim.serve.modbus import serve_modbus

HEAD = struct.Struct(">HHHB")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(modbus, "READ_PAUSE_S", 0.0)
    monkeypatch.setattr("twinedge.probe.modbus_ask.PAUSE_S", 0.0)


@pytest.fixture
def probe(clock, talk):
    async def run(port, units=(1,), questions=(), profiles=None, timeout_s=20.0):
        address = ModbusAddress("tcp", "127.0.0.1", port)
        return await probe_modbus(
            address, list(units), list(questions), clock=clock, timeout_s=timeout_s, profiles=profiles, tell=talk[1]
        )

    return run


@contextlib.asynccontextmanager
async def answering(answers):
    """A device that answers (unit, function) with a body; None is silence, a missing entry exception 2."""

    clients = set()

    async def serve(reader, writer):
        clients.add(asyncio.current_task())
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                number, _, length, unit = HEAD.unpack(await reader.readexactly(7))
                body = await reader.readexactly(length - 1)
                reply = answers.get((unit, body[0]), bytes((body[0] | 0x80, 2)))
                if reply is not None:
                    writer.write(HEAD.pack(number, 0, len(reply) + 1, unit) + reply)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await asyncio.gather(*clients)


async def test_units_that_answer_are_found_and_known_by_identify(probe, simulated, clock, talk):
    async with serve_modbus(*simulated("modbus", 2), clock) as port:
        document = await probe(port, range(1, 4), [Question("input 0", "float32", (0, 1))])
    assert [u["unit"] for u in document["units"]] == [1, 2]
    (match,) = document["units"][0]["profiles"]
    assert (match["profile"], match["sure"]) == ("hybridtwin/coupled-tanks/1.0", True)
    star = document["units"][0]["values"][0]["star"]
    assert (star["as"], star["order"], star["base"]) == ("float32", "ABCD", 0)
    text = modbus_text(document)
    assert "hybridtwin/coupled-tanks/1.0" in text
    assert " *" in text
    assert "reads only: units 1..3" in talk[0][0]


async def test_all_four_orders_are_shown_for_every_type_that_fits(probe, simulated, clock):
    async with serve_modbus(*simulated("modbus", 1), clock) as port:
        document = await probe(port, [1], [Question("input 0")])
    (block, _) = (*document["units"][0]["values"][0]["blocks"], None)[:2]
    assert {(r["as"], r["order"]) for r in block["readings"]} >= {
        (as_, order) for as_ in ("uint16", "float32", "float64") for order in ("ABCD", "CDAB", "BADC", "DCBA")
    }
    starred = [r for r in block["readings"] if r["star"]]
    assert [(r["as"], r["order"]) for r in starred] == [("float32", "ABCD")]


async def test_text_is_pointed_out_instead_of_starring_a_number(probe, simulated, clock):
    async with serve_modbus(*simulated("modbus", 1), clock) as port:
        document = await probe(port, [1], [Question("holding 100"), Question("holding 100", "string(16)", base=0)])
    loose, exact = document["units"][0]["values"]
    assert loose["star"] is None
    assert "this is text: 'TWINSIM'" in modbus_text(document)
    assert exact["star"]["value"] == "TWINSIM TANKS1.0"


async def test_a_register_that_is_not_there_is_named_by_the_exception(probe, simulated, clock):
    async with serve_modbus(*simulated("modbus", 1), clock) as port:
        document = await probe(port, [1], [Question("holding 4000")])
    assert modbus.failed(document)
    assert "exception 2 ILLEGAL DATA ADDRESS" in modbus_text(document)


async def test_device_identification_is_read_object_by_object(probe):
    first = b"\x2b\x0e\x01\x02\xff\x01\x01" + b"\x00\x04ACME"
    answers = {(1, 3): bytes((0x83, 2)), (1, 0x2B): first}
    async with answering(answers) as port:
        document = await probe(port)
    assert document["units"][0]["identification"]["vendor"] == "ACME"
    assert "vendor: ACME" in modbus_text(document)


async def test_silence_behind_a_connection_says_which_units_were_asked(probe):
    async with answering({(1, 3): None}) as port:
        with pytest.raises(UnreachableError, match="unit 1 is silent") as told:
            await probe(port, timeout_s=1.0)
    assert "--unit 1..247" in told.value.hint


async def test_a_gateway_without_a_path_is_quoted(probe):
    async with answering({(1, 3): bytes((0x83, 10))}) as port:
        with pytest.raises(UnreachableError, match="GATEWAY PATH UNAVAILABLE"):
            await probe(port)


async def test_a_refused_connection_says_that_the_host_is_there(probe):
    with pytest.raises(UnreachableError, match="nothing listens at this port") as told:
        await probe(free_port())
    assert told.value.outcome.exit == 5


async def test_a_line_that_is_not_there_says_where_to_look(clock, talk):
    address = ModbusAddress("rtu", path="/dev/ttyNOT0")
    with pytest.raises(UnreachableError, match="there is no /dev/ttyNOT0"):
        await probe_modbus(address, [1], [], clock=clock, timeout_s=0.1, profiles=None, tell=talk[1])


async def test_another_firmware_is_no_sure_match(probe, simulated, clock, profiles):
    text = (
        "profile: acme/tank\nfirmware: '>=9'\nprotocol: modbus\nbase: 0\n"
        "identify: {at: holding 100, as: string(7), match: TWINSIM, firmware: {at: holding 107, as: uint16}}\n"
        "points:\n  level: {at: input 0, as: float32}\n"
    )
    folder = profiles("acme/tank/9", text.replace("holding 107, as: uint16", "holding 105, as: string(6)"))
    async with serve_modbus(*simulated("modbus", 1), clock) as port:
        document = await probe(port, profiles=folder)
    found = {m["profile"]: m for m in document["units"][0]["profiles"]}
    assert not found["acme/tank/9"]["sure"]
    assert "firmware" in found["acme/tank/9"]["why"]
    assert found["hybridtwin/coupled-tanks/1.0"]["sure"]


def test_a_type_that_is_none_is_refused_before_anything_is_sent():
    with pytest.raises(InputError, match="is no type"):
        Question("holding 1", "float33").check()


async def test_registers_are_browsed_and_a_draft_of_them_loads(simulated, clock, tmp_path):
    async with serve_modbus(*simulated("modbus", 1), clock) as port:
        document = await browse_modbus(
            ModbusAddress("tcp", "127.0.0.1", port),
            1,
            [span_of("input 0..15")],
            clock=clock,
            timeout_s=20.0,
            within_s=20.0,
        )
    assert document["complete"]
    assert [r["at"] for r in document["registers"]][:2] == ["input 0", "input 2"]
    assert "float32" in registers_text(document)
    path = tmp_path / "tank.yaml"
    write_draft(draft_of(document), path)
    assert load_profile(path).points["input_0"].as_ == "float32"


@pytest.mark.parametrize("wrong", ["coil 0..9", "holding 9..1", "holding 0..99999", "input"])
def test_a_range_of_registers_is_bounded(wrong):
    with pytest.raises(InputError):
        span_of(wrong)
