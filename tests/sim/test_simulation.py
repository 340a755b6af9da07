"""Scenarios run as one process: servers, links, faults at their time, the control channel, the command line."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from pymodbus.client import AsyncModbusTcpClient

from twinmodel.errors import ConfigError, ConflictError, InputError, MissingError, TwinError, UnreachableError
from twinmodel.profile.load import load_profile
from twinmodel.profile.schema import kind_of
from twinmodel.signal import Kind
from twinsim.control import send_order
from twinsim.firmware import KINDS
from twinsim.link import LinkMode
from twinsim.scenario import Scenario, device_names, plain_scenario, read_scenario
from twinsim.serve.modbus import HELD
from twinsim.serve.modbus import POINTS as MODBUS_POINTS
from twinsim.serve.mqtt import POINTS as MQTT_POINTS
from twinsim.serve.opcua import VARIABLES
from twinsim.served import check, read_served
from twinsim.simulation import simulation

PROFILES = Path(__file__).resolve().parents[2] / "firmware-profiles"
MODBUS = Scenario.model_validate({"seed": 3, "modbus": {"devices": 2, "rate": 50}})


# ---- firmware profiles -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda k: k.protocol)
def test_a_shipped_profile_says_what_the_simulated_device_is(kind):
    profile = load_profile(PROFILES / f"{kind.profile}.yaml")
    assert profile.name == kind.profile.rpartition("/")[0]
    assert profile.protocol == kind.protocol
    for sensor in kind.sensors:
        point = profile.points[sensor.name]
        assert (point.unit, point.range, point.resolution) == (
            sensor.unit,
            (sensor.low, sensor.high),
            sensor.resolution,
        )
    assert kind_of(profile.points["sample_no"]) is Kind.INT
    assert profile.points["sample_no"].klass == "counter"


def test_the_points_servers_give_out_are_those_of_the_profiles():
    def points(protocol):
        return load_profile(PROFILES / f"{KINDS[protocol].profile}.yaml").points

    assert set(points("modbus")) == {*(name for name, _, _ in MODBUS_POINTS), *HELD}
    assert {p.at: name for name, p in points("opcua").items()} == {
        **VARIABLES,
        "SampleNumber": "sample_no",
        "Running": "running",
    }
    assert set(points("mqtt")) == set(MQTT_POINTS)
    for name, at, size in MODBUS_POINTS:
        point = points("modbus")[name]
        assert point.at == f"input {at}"
        assert size == (1 if point.as_ == "uint16" else 2)


# ---- scenarios ---------------------------------------------------------------------------------------------------

SCENARIO = """
seed: 7
modbus: {devices: 2, rate: 50}
links:
  wan: {to: "127.0.0.1:1"}
faults:
  - {at: 100ms, device: T-2, fault: stuck, for: 10min}
  - {at: 100ms, target: wan, fault: delay, size: 0.3}
"""


def test_a_scenario_file_is_read_and_its_devices_are_named(tmp_path):
    path = tmp_path / "scenario.yaml"
    path.write_text(SCENARIO)
    scenario = read_scenario(path)
    assert device_names(scenario) == ["T-1", "T-2"]
    assert scenario.faults[0].at == 100_000_000
    assert scenario.faults[0].lasting == 600_000_000_000


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("seeed: 1\n", "UNKNOWN_KEY"),
        ("modbus: {devices: 0}\n", "VALUE_INVALID"),
        ("faults: [{at: 1s, target: HX-9, fault: stuck}]\n", "VALUE_INVALID"),
        ("modbus: {}\nfaults: [{at: 1s, target: T-1, fault: cut}]\n", "VALUE_INVALID"),
        ("opcua: {user: me}\n", "VALUE_INVALID"),
        ('modbus: {}\nlinks: {T-1: {to: "127.0.0.1:1"}}\n', "VALUE_INVALID"),
    ],
)
def test_a_wrong_scenario_is_refused_with_its_line(tmp_path, text, reason):
    path = tmp_path / "scenario.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as refused:
        read_scenario(path)
    assert refused.value.reason == reason
    assert refused.value.facts["line"] >= 1


def test_flags_become_neighbouring_ports():
    scenario = plain_scenario(("modbus", "opcua", "mqtt"), devices=3, seed=5, port=9000)
    assert (scenario.modbus.port, scenario.opcua.port, scenario.mqtt.port) == (9000, 9001, 9002)
    assert plain_scenario(("mqtt",), devices=1, seed=1, port=0).mqtt.port == 0
    with pytest.raises(InputError):
        plain_scenario(("modbus", "opcua"), devices=1, seed=1, port=65535)


async def test_scheduled_faults_begin_at_their_time(tmp_path, system_clock, eventually):
    path = tmp_path / "scenario.yaml"
    path.write_text(SCENARIO)
    async with simulation(read_scenario(path), tmp_path / "state", system_clock) as made:
        assert made.devices["T-2"].faults.on == ()
        await eventually(lambda: [f.kind for f in made.devices["T-2"].faults.on] == ["stuck"])
        await eventually(lambda: made.links["wan"].mode is LinkMode.DELAY)
        assert made.links["wan"].delay_s == 0.3


async def test_a_served_log_of_a_live_run_judges_what_a_client_kept(tmp_path, system_clock):
    kept = []
    async with simulation(MODBUS, tmp_path, system_clock) as made:
        port = int(made.addresses["modbus"].rpartition(":")[2])
        async with AsyncModbusTcpClient("127.0.0.1", port=port) as reader:
            for _ in range(30):
                registers = (await reader.read_input_registers(0, count=7, device_id=2)).registers
                t_ns = system_clock.wall_ns()
                number = registers[4] << 16 | registers[5]
                kept += [("T-2", p, None, t_ns, number if p == "sample_no" else 0.0) for p, _, _ in MODBUS_POINTS]
                await asyncio.sleep(0.002)
    verdict = check(read_served(tmp_path), kept)
    assert (verdict.samples_acquired, verdict.lost, verdict.duplicates) == (120, 0, 0)
    assert check(read_served(tmp_path), kept[4:]).lost == 4


async def test_numbers_go_on_after_a_restart_in_the_same_directory(tmp_path, system_clock):
    numbers = []
    for _ in range(2):
        async with simulation(MODBUS, tmp_path, system_clock) as made:
            port = int(made.addresses["modbus"].rpartition(":")[2])
            async with AsyncModbusTcpClient("127.0.0.1", port=port) as reader:
                registers = (await reader.read_input_registers(4, count=2)).registers
                numbers.append(registers[0] << 16 | registers[1])
    assert numbers[0] == 1
    assert numbers[1] > 1 + 500


async def test_two_simulations_never_share_a_directory(tmp_path, system_clock):
    async with simulation(MODBUS, tmp_path, system_clock):
        with pytest.raises(ConflictError) as refused:
            async with simulation(MODBUS, tmp_path, system_clock):
                pass
    assert refused.value.reason == "STATE_LOCKED"


async def test_a_port_in_use_ends_the_start_and_announces_nothing(tmp_path, system_clock):
    with socket.create_server(("127.0.0.1", 0)) as other:
        scenario = Scenario.model_validate({"modbus": {"port": other.getsockname()[1]}})
        with pytest.raises(ConflictError) as refused:
            async with simulation(scenario, tmp_path, system_clock):
                pass
    assert refused.value.reason == "PORT_IN_USE"
    assert not (tmp_path / "ready.json").exists()


# ---- control channel ---------------------------------------------------------------------------------------------


async def test_orders_switch_faults_on_and_off_and_list_them(tmp_path, system_clock):
    scenario = Scenario.model_validate({"modbus": {"devices": 2}, "links": {"wan": {"to": "127.0.0.1:1"}}})

    async def order(**fields):
        return await asyncio.to_thread(send_order, tmp_path, fields)

    async with simulation(scenario, tmp_path, system_clock) as made:
        await order(do="fault", target="T-1", kind="drift", point="level2", size=0.1, for_s=60)
        await order(do="fault", target="wan", kind="cut", for_s=60)
        listed = await order(do="list")
        assert [d["faults"] for d in listed["devices"]] == [["drift"], []]
        assert [item["mode"] for item in listed["links"]] == ["cut"]
        await order(do="clear", target="T-1")
        await order(do="clear", target="wan")
        assert made.devices["T-1"].faults.on == ()
        assert made.links["wan"].mode is LinkMode.UP
        for wrong, reason in (
            ({"do": "fault", "target": "T-9", "kind": "stuck"}, "UNKNOWN_DEVICE"),
            ({"do": "fault", "target": "T-1", "kind": "cut"}, "VALUE_INVALID"),
            ({"do": "fault", "target": "T-1", "kind": "drift", "size": "much"}, "REQUEST_INVALID"),
            ({"do": "explode"}, "REQUEST_INVALID"),
        ):
            with pytest.raises(TwinError) as refused:
                await order(**wrong)
            assert refused.value.reason == reason
    with pytest.raises(UnreachableError):
        send_order(tmp_path, {"do": "list"})


async def test_an_unknown_target_is_refused_with_the_known_ones(tmp_path, system_clock):
    async with simulation(MODBUS, tmp_path, system_clock) as made:
        with pytest.raises(MissingError) as refused:
            made.clear("T-99")
    assert "T-1, T-2" in refused.value.hint


async def test_the_channel_survives_garbage_and_works_in_a_very_deep_directory(tmp_path, system_clock):
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    async with simulation(MODBUS, deep, system_clock):
        folder = os.open(deep, os.O_RDONLY)
        reader, writer = await asyncio.open_unix_connection(f"/proc/self/fd/{folder}/control.sock")
        os.close(folder)
        writer.write(b"garbage\n[1]\n" + b'{"do":"list"}\n')
        answers = [json.loads(await reader.readline()) for _ in range(3)]
        writer.close()
        assert [a["ok"] for a in answers] == [False, False, True]
        listed = await asyncio.to_thread(send_order, deep, {"do": "list"})
        assert len(listed["devices"]) == 2
        assert (deep / "control.sock").stat().st_mode & 0o077 == 0


# ---- command line ------------------------------------------------------------------------------------------------


def twinsim(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "twinsim", *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        **options,
    )


def test_a_run_from_the_command_line_is_ready_faulted_listed_and_stopped_with_its_log_whole(tmp_path):
    command = [sys.executable, "-m", "twinsim", "run", "modbus", "--devices", "2", "--port", "0", "--state", tmp_path]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        watchdog = threading.Timer(240, process.kill)
        watchdog.start()
        try:
            ready = next(line for line in process.stderr if line.startswith("ready:"))
            announced = json.loads((tmp_path / "ready.json").read_text())
            assert announced["addresses"]["modbus"] in ready
            assert announced["devices"]["T-2"] == {"protocol": "modbus", "unit_id": 2}
            place = announced["addresses"]["modbus"].removeprefix("tcp://").split(":")
            with socket.create_connection((place[0], int(place[1])), timeout=5) as poll:
                poll.sendall(bytes.fromhex("000100000006020400000007"))
                assert len(poll.recv(100)) == 9 + 14
            assert twinsim("fault", "T-2", "stuck", "--for", "1min", "--state", str(tmp_path)).returncode == 0
            listed = json.loads(twinsim("list", "-o", "json", "--state", str(tmp_path)).stdout)
            assert [d["faults"] for d in listed["devices"]] == [[], ["stuck"]]
            assert "stuck" in twinsim("list", "--state", str(tmp_path)).stdout
            assert twinsim("fault", "clear", "T-2", "--state", str(tmp_path)).returncode == 0
            refused = twinsim("fault", "T-9", "stuck", "--state", str(tmp_path))
            assert refused.returncode == 1
            assert refused.stderr.startswith("error: UNKNOWN_DEVICE")
            assert "\nhint: " in refused.stderr
            process.send_signal(signal.SIGTERM)
            process.stderr.read()
            assert process.wait(60) == 0
        finally:
            watchdog.cancel()
            process.kill()
    assert [(r.device, r.n) for r in read_served(tmp_path)] == [("T-2", 1)]
    assert not (tmp_path / "ready.json").exists()


@pytest.mark.service("mosquitto")
def test_a_killed_simulation_takes_its_broker_along(tmp_path):
    command = [sys.executable, "-m", "twinsim", "run", "mqtt", "--devices", "1", "--port", "0", "--state", tmp_path]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        watchdog = threading.Timer(240, process.kill)
        watchdog.start()
        try:
            next(line for line in process.stderr if line.startswith("ready:"))
            url = json.loads((tmp_path / "ready.json").read_text())["addresses"]["mqtt"]
            socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=5).close()
        finally:
            watchdog.cancel()
            process.kill()
    for _ in range(100):
        try:
            socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=5).close()
        except ConnectionRefusedError:
            return
        time.sleep(0.05)
    pytest.fail("the broker outlived its simulation")


def test_a_link_from_the_command_line_passes_and_is_cut_by_command(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as target:
        place = f"127.0.0.1:{target.getsockname()[1]}"
        command = [sys.executable, "-m", "twinsim", "link", "--listen", "127.0.0.1:0", "--to", place, "--name", "wan"]
        with subprocess.Popen([*command, "--state", tmp_path], stderr=subprocess.PIPE, text=True) as process:
            watchdog = threading.Timer(240, process.kill)
            watchdog.start()
            try:
                next(line for line in process.stderr if line.startswith("ready:"))
                host, port = json.loads((tmp_path / "ready.json").read_text())["addresses"]["wan"].split(":")
                with socket.create_connection((host, int(port)), timeout=5) as near, target.accept()[0] as far:
                    near.sendall(b"hello")
                    assert far.recv(5) == b"hello"
                    assert twinsim("fault", "wan", "cut", "--state", str(tmp_path)).returncode == 0
                    assert near.recv(5) == b""
                with pytest.raises(ConnectionRefusedError):
                    socket.create_connection((host, int(port)), timeout=5)
                process.terminate()
                process.stderr.read()
                assert process.wait(60) == 0
            finally:
                watchdog.cancel()
                process.kill()


def test_a_port_in_use_and_a_missing_simulation_have_their_exit_codes(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        taken = twinsim("run", "modbus", "--port", str(port), "--state", str(tmp_path))
    assert (taken.returncode, taken.stderr.splitlines()[0].partition(":")[2].split(":")[0]) == (1, " PORT_IN_USE")
    assert twinsim("list", "--state", str(tmp_path)).returncode == 5
    assert twinsim("run", "modbus", "--devices", "0").returncode == 2
