"""The doctor: each thing that is wrong is named with what to do, what can be mended is, the rest is left alone."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from click.testing import CliRunner

from twinedge.cli import cli
from twinedge.doctor import examine as looks
from twinedge.doctor import fixes, gateway, machine
from twinedge.doctor.finding import Place, Verdict
from twinedge.doctor.machine import FOLDER, PERMISSIONS, UNIT
from twinedge.install import unit
from twinmodel.clock import BUILD_NS, ManualClock, SystemClock
from twinmodel.errors import StorageError

SITE = """\
site: plant-a
devices:
  meter: {modbus: "tcp://127.0.0.1:1", profile: carlogavazzi/em24-ethernet}
spool: {disk: 16MiB}
status: {port: 1}
"""


@pytest.fixture
def place(tmp_path):
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    (tmp_path / "site.yaml").write_text(SITE)
    return Place(tmp_path / "site.yaml", state, tmp_path / "kernels", SystemClock(), tmp_path)


def verdicts(found):
    return {one.check: one.verdict for one in found}


def test_a_sound_configuration_and_folder_are_ok(place):
    found = verdicts([*machine.look_at_folder(place), *gateway.look_at_configuration(place)])
    assert found == {"state directory": Verdict.OK, "configuration": Verdict.OK, "libraries": Verdict.OK}


def test_a_configuration_that_cannot_be_read_is_told_with_its_line(place):
    place.config.write_text(SITE.replace("profile: carlo", "profil: carlo"))
    (found,) = gateway.look_at_configuration(place)
    assert found.verdict is Verdict.BAD
    assert "site.yaml:3" in found.detail


def test_a_key_that_others_may_read_is_bad_and_mended(place):
    (place.state / "identity").mkdir()
    key = place.state / "identity/key.pem"
    key.write_text("key")
    key.chmod(0o644)
    (found,) = machine.look_at_folder(place)
    assert (found.verdict, found.fix) == (Verdict.BAD, PERMISSIONS)
    assert str(key) in fixes.mend(place, [found])[0]
    assert key.stat().st_mode & 0o777 == 0o600
    assert verdicts(machine.look_at_folder(place)) == {"state directory": Verdict.OK}


def test_a_state_directory_that_is_missing_is_made(place):
    nowhere = replace(place, state=place.state / "not/yet")
    (found,) = machine.look_at_folder(nowhere)
    assert found.fix == FOLDER
    fixes.mend(nowhere, [found])
    assert nowhere.state.stat().st_mode & 0o777 == 0o700


def test_a_clock_before_this_software_was_built_is_bad(place):
    (found,) = machine.look_at_clock(replace(place, clock=ManualClock(wall_ns=BUILD_NS - 1)))
    assert found.verdict is Verdict.BAD


def test_a_budget_the_disk_cannot_hold_is_bad(place):
    place.config.write_text(SITE.replace("16MiB", "9999TiB"))
    found = verdicts(machine.look_at_disk(place))
    assert found == {"disk": Verdict.BAD, "durability": Verdict.OK}
    assert [path.name for path in place.state.iterdir()] == []


def test_a_gateway_that_has_not_joined_and_an_agent_that_does_not_run_are_warnings(place):
    found = verdicts([*gateway.look_at_identity(place), *gateway.look_at_spool(place), *gateway.look_at_agent(place)])
    assert found == {"identity": Verdict.WARN, "spool": Verdict.OK, "agent": Verdict.WARN}


def test_a_unit_of_another_version_is_told_and_written_again(place):
    assert verdicts(machine.look_at_service(place)) == {"service": Verdict.OK}
    path = place.root / unit.UNIT_FOLDER / unit.UNIT
    path.parent.mkdir(parents=True)
    path.write_text("[Unit]\n")
    (found,) = machine.look_at_service(place)
    assert (found.verdict, found.fix) == (Verdict.WARN, UNIT)
    fixes.mend(place, [found])
    assert verdicts(machine.look_at_service(place)) == {"service": Verdict.OK}


def test_what_the_running_agent_says_becomes_findings(place, monkeypatch):
    status = {
        "version": "1",
        "degraded": ["STORE_FULL"],
        "devices": [{"device": "a", "connected": True}, {"device": "b", "connected": False, "last_error": "refused"}],
        "twins": [{"twin": "t", "drifting": True, "isolation": "sensor:level2", "model": "m@1"}],
        "uplink": {"connected": False, "needs_operator": True, "last_error": "CERT_EXPIRED", "session": 0},
    }
    monkeypatch.setattr(gateway, "running_status", lambda *_: status)
    found = {one.check: one for one in gateway.look_at_agent(place)}
    assert {name: one.verdict for name, one in found.items()} == {
        "agent": Verdict.BAD, "devices": Verdict.WARN, "models": Verdict.WARN, "uplink": Verdict.BAD,
    }  # fmt: skip
    assert "b: refused" in found["devices"].detail
    assert "sensor:level2" in found["models"].detail


def test_a_look_that_meets_a_damaged_gateway_itself_is_a_finding(place):
    def look_at_ruins(_place):
        raise StorageError("STATE_INVALID", "all is broken")

    (found,) = looks.examine(place, [look_at_ruins])
    assert (found.check, found.verdict) == ("ruins", Verdict.BAD)
    assert not looks.sound([found])


def test_the_command_ends_with_3_when_something_is_bad_and_prints_json(place):
    place.config.write_text("site: [")
    wanted = ["doctor", "--config", str(place.config), "--state", str(place.state)]
    ended = CliRunner().invoke(cli, [*wanted, "-o", "json"])
    rows = json.loads(ended.stdout)
    assert ended.exit_code == 3
    assert {row["check"]: row["verdict"] for row in rows}["configuration"] == "bad"
