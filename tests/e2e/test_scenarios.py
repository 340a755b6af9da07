"""Scenarios of whole plants as a person runs them: a small one here, all that come along under `--campaign`."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from twinsim.deployment.run import shipped

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

SMALL = """
description: a link is cut
seed: 3
modbus: {devices: 1}
gateways:
  north/n1: {devices: [T-1], link: wan}
lasts: 5s
faults:
  - {at: 1s, target: wan, fault: cut, for: 2s}
steps:
  - {at: 2s, do: assign, target: north/tank-9, model: two-tanks@1.0.0, refused: UNKNOWN_TWIN}
expect:
  - {at: 4s, within: 40s, gateway: n1, is: {connected: true}}
  - {within: 5s, device: T-1, is: {sample_no: {min: 3}}}
"""


def run(name, state):
    command = [sys.executable, "-m", "twinsim", "scenario", "run", str(name), "--state", str(state)]
    return subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)


def test_a_small_plant_is_run_judged_and_reported(tmp_path):
    (tmp_path / "small.yaml").write_text(SMALL)
    done = run(tmp_path / "small.yaml", tmp_path / "state")
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["passed"]
    assert report == json.loads((tmp_path / "state" / "report.json").read_text())
    assert (report["samples"]["lost"], report["samples"]["duplicates"]) == (0, 0)
    assert report["samples"]["samples_stored"] >= 10
    assert [step["what"] for step in report["steps"]] == ["wan cut for 2 s", "assign north/tank-9"]
    assert all(one["met"] for one in report["expect"])
    assert "refused as it must be: UNKNOWN_TWIN" in done.stderr


@pytest.mark.service("mosquitto")
@pytest.mark.parametrize("name", [path.stem for path, _ in shipped()])
def test_a_scenario_that_comes_along_passes(name, tmp_path, request):
    if not request.config.getoption("--campaign"):
        pytest.skip("only under --campaign: a minute of real processes each")
    done = run(name, tmp_path / "state")
    assert done.returncode == 0, done.stderr
