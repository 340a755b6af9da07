"""What tests of probes share: simulated devices, a broker, profiles, and talk that is kept."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from twinmodel.clock import SystemClock
from twinsim.device import Device
from twinsim.firmware import KINDS
from twinsim.served import ServedLog

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def few_profiles(monkeypatch):
    """Those of the simulators alone: reading all that ship takes a second."""
    ours = ROOT / "firmware-profiles"

    def files(folders):
        for folder in folders:
            yield from sorted((folder / "hybridtwin").glob("*/*.yaml") if folder == ours else folder.glob("*/*/*.yaml"))

    monkeypatch.setattr("twinedge.probe.profiles._files", files)


@pytest.fixture
def clock():
    return SystemClock()


@pytest.fixture
def talk():
    """A list of what was said, and the function to say it."""
    said = []
    return said, said.append


@pytest.fixture
def simulated(tmp_path, clock):
    """Function: (protocol, count) -> ticked devices and a log for their server."""
    with contextlib.ExitStack() as logs:

        def make(protocol, count=2):
            devices = [Device(KINDS[protocol], number, 1) for number in range(1, count + 1)]
            for device in devices:
                device.tick(1.0, clock.wall_ns())
            folder = tmp_path / f"served-{protocol}"
            folder.mkdir(exist_ok=True)
            log = ServedLog(folder)
            logs.callback(log.close)
            return devices, log

        yield make


@pytest.fixture
def profiles(tmp_path):
    """A folder of profiles, and the function that puts one there."""
    folder = tmp_path / "profiles"

    def put(name, text):
        path: Path = folder / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return folder

    return put
