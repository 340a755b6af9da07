"""What simulated devices measure is the same for ever: by seed, over faults, on any machine."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from twinsim.cli import cli
from twinsim.deployment.run import shipped
from twinsim.deployment.schema import read_deployment
from twinsim.scenario import Scenario
from twinsim.virtual import digest_of, stream

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
DIGESTS = json.loads((GOLDEN / "scenarios.json").read_text())
EVERY = GOLDEN / "every-device.yaml"
SECONDS = 120
FILES = {path.stem: path for path, _ in shipped()} | {EVERY.stem: EVERY}


@pytest.mark.parametrize("name", FILES)
def test_devices_of_a_scenario_measure_what_they_always_did(name):
    # A change that is meant: `twinsim scenario stream FILE --for 2min --digest`, and say in the changelog that it is.
    assert digest_of(stream(read_deployment(FILES[name]), SECONDS)) == DIGESTS[name]


def test_no_digest_is_left_of_a_scenario_that_is_gone():
    assert set(DIGESTS) == set(FILES)


def test_another_seed_is_another_stream_and_a_fault_shows():
    plan = {"seed": 1, "modbus": {"devices": 1, "rate": 1}}

    def lines(**more):
        return list(stream(Scenario.model_validate(plan | more), 30))

    assert lines() == lines() != lines(seed=2)
    fault = {"at": "10s", "target": "T-1", "fault": "stuck", "for": "10s"}
    told = [json.loads(line) for line in lines(faults=[fault])]
    assert [line["t_s"] for line in told if line["faults"] == ["stuck"]] == list(range(10, 19))
    assert len({line["values"]["level2"] for line in told if 10 <= line["t_s"] < 19}) == 1
    assert told[:10] == [json.loads(line) for line in lines()[:10]]


def test_the_stream_of_a_file_is_printed_or_digested():
    printed = CliRunner().invoke(cli, ["scenario", "stream", str(EVERY), "--for", "6s"])
    lines = printed.output.splitlines()
    assert json.loads(lines[0]) == {"t_s": 0.0, "device": "T-1", "faults": [], "values": json.loads(lines[0])["values"]}
    digest = CliRunner().invoke(cli, ["scenario", "stream", str(EVERY), "--for", "6s", "--digest"])
    assert json.loads(digest.output) == digest_of(lines)
