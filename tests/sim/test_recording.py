"""Recorded sessions are read whole or refused with their line, and devices played from them say what real ones said."""

import asyncio
import contextlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymodbus.client import AsyncModbusTcpClient

from twinmodel.errors import InputError, TwinError, UnreachableError
from twinsim.background import background
from twinsim.image.device import ProfileDevice
from twinsim.image.source import find_source
from twinsim.recording.command import record, replay
from twinsim.recording.file import Recorder, read_recording
from twinsim.recording.modbus import Answers, recording_proxy, replaying_server
from twinsim.serve.modbus_profile import serve_registers

SECOND = 1_000_000_000
HEAD = {"twinsim": 1, "protocol": "modbus", "from": "tcp://x:502", "t_ns": 1}


def written(path, *lines):
    path.write_text("".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines))
    return path


def event(at=0, ask="010300000002", say="01030400010002", took=1000):
    return {"at": at, "c": 1, "ask": ask, "say": say, "took": took}


async def test_a_recorded_modbus_device_answers_again_as_it_did(tmp_path, log, system_clock):
    device = ProfileDevice("m-1", 1, find_source("abb/b23"), 1, {"power": "1500", "frequency": "50"})
    device.tick(1.0, system_clock.wall_ns())
    recorder = Recorder(tmp_path / "session.jsonl", "modbus", "tcp://meter:502", system_clock)
    async with serve_registers([device], log, system_clock), background() as tasks:
        host, _, port = device.address.removeprefix("tcp://").rpartition(":")
        async with recording_proxy(recorder, (host, int(port)), tasks) as proxy:
            async with AsyncModbusTcpClient("127.0.0.1", port=proxy) as client:
                real = (await client.read_holding_registers(23316, count=2)).registers
                await client.read_holding_registers(23318, count=2)
                assert (await client.read_holding_registers(9, count=1)).exception_code == 2
            tasks.cancel()
    recorder.close()
    recording = read_recording(tmp_path / "session.jsonl")
    assert (recording.whole, len(recording.events), recording.origin) == (True, 3, "tcp://meter:502")
    async with background() as tasks, replaying_server(recording, system_clock, tasks, speed=10) as port:
        async with AsyncModbusTcpClient("127.0.0.1", port=port) as client:
            assert (await client.read_holding_registers(23316, count=2)).registers == real
            assert (await client.read_holding_registers(23316, count=4)).registers[:2] == real, "put together"
            assert (await client.read_holding_registers(9, count=1)).exception_code == 2
            assert (await client.read_holding_registers(700, count=1)).exception_code == 2, "never asked"
        tasks.cancel()


def test_a_replay_answers_by_its_time_at_its_speed_and_begins_anew(tmp_path):
    rows = [event(i * SECOND, say=f"010304000{i}0000") for i in range(5)]
    recording = read_recording(written(tmp_path / "f", HEAD, *rows, {"end": 5, "lost": 0}))
    answers = Answers(recording, 2.0)
    ask = bytes.fromhex("010300000002")
    said = [answers.find(ask, round(t * SECOND))[0][4] for t in (0, 0.4, 0.5, 1.9, 2.2)]
    assert said == [0, 0, 1, 3, 0]
    assert answers.find(ask, 0)[1] == 1000 / SECOND / 2


def test_a_request_that_was_never_answered_stays_unanswered(tmp_path):
    recording = read_recording(written(tmp_path / "f", HEAD, event(say=None)))
    assert Answers(recording, 1.0).find(bytes.fromhex("010300000002"), 0)[0] is None
    assert not recording.whole


@pytest.mark.parametrize(
    ("lines", "place"),
    [
        (["nonsense\n"], ":1:"),
        ([{"twinsim": 2}], ":1:"),
        ([HEAD | {"protocol": "smoke"}], ":1:"),
        ([HEAD, event(), "{half\n", event()], ":3:"),
        ([HEAD, event(ask="01zz")], ":2:"),
        ([HEAD, event(say="0")], ":2:"),
        ([HEAD, event() | {"c": "1"}], ":2:"),
        ([HEAD, event(at=100 * SECOND), event(at=0)], ":3:"),
        ([HEAD, event(), {"end": 2, "lost": 0}], ":3:"),
        ([HEAD, {"end": 0, "lost": 0}, event()], ":3:"),
        ([HEAD, "[1]\n"], ":2:"),
        ([HEAD | {"protocol": "opcua"}, {"at": 0, "node": "s=x", "type": "Double", "status": 0}], ":2:"),
        ([""], ":1:"),
    ],
)
def test_a_damaged_recording_is_refused_with_its_line(tmp_path, lines, place):
    with pytest.raises(InputError) as refused:
        read_recording(written(tmp_path / "session", *lines))
    assert place in refused.value.message


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=300), st.integers(0, 400))
def test_no_bytes_do_more_than_a_typed_refusal(tmp_path_factory, noise, cut):
    whole = "".join(json.dumps(line) + "\n" for line in (HEAD, event(), event(SECOND), {"end": 2, "lost": 0})).encode()
    path = tmp_path_factory.getbasetemp() / "noise.jsonl"
    path.write_bytes(whole[:cut] + noise)
    with contextlib.suppress(TwinError):
        assert len(read_recording(path).events) <= 2 + noise.count(b"\n")


def test_a_recorder_killed_within_a_line_leaves_what_it_had(tmp_path):
    recording = read_recording(written(tmp_path / "f", HEAD, event(), '{"at": 5, "c"'))
    assert (len(recording.events), recording.whole) == (1, False)


async def test_wrong_addresses_missing_files_and_missing_brokers_are_said_so(tmp_path, clock):
    stop = asyncio.Event()
    with pytest.raises(InputError):
        await record("modbus", "opc.tcp://x:1", tmp_path / "a", clock, stop, str)
    with pytest.raises(InputError):
        await record("modbus", "tcp://x:1", tmp_path / "a", clock, stop, str)  # the file exists now
    with pytest.raises(UnreachableError):
        await record("mqtt", "mqtt://127.0.0.1:1", tmp_path / "b", clock, stop, str)
    with pytest.raises(InputError) as missing:
        await replay(tmp_path / "none", clock, stop, str, state=tmp_path)
    assert missing.value.reason == "FILE_MISSING"
    written(tmp_path / "m", HEAD | {"protocol": "mqtt"})
    with pytest.raises(InputError, match="broker"):
        await replay(tmp_path / "m", clock, stop, str, state=tmp_path)
