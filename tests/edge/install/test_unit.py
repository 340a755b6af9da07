"""The agent as a service: its unit says where this installation lies, and installing twice changes nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from twinedge.cli import cli
from twinedge.install import unit
from twinmodel.errors import DeniedError, InputError, MissingError

SERVICE = unit.Service(Path("/opt/x/bin/twinedge"), Path("/etc/hybridtwin/twinedge.yaml"), Path("/var/lib/twinedge"))


def values(text: str) -> dict[str, str]:
    pairs = (line.partition("=")[::2] for line in text.splitlines() if "=" in line and not line.startswith("#"))
    return dict(pairs)


def test_the_unit_names_this_installation_and_keeps_its_restrictions():
    found = values(unit.unit_text(SERVICE))
    wanted = "/opt/x/bin/twinedge run --config /etc/hybridtwin/twinedge.yaml --state /var/lib/twinedge"
    assert (found["ExecStart"], found["User"], found["Group"]) == (wanted, "twinedge", "twinedge")
    assert (found["ProtectSystem"], found["ProtectHome"], found["StateDirectory"]) == ("strict", "yes", "twinedge")


def test_a_state_elsewhere_may_be_written_and_a_program_at_home_read():
    text = unit.unit_text(
        unit.Service(Path("/") / "home" / "ann/v/bin/twinedge", Path("/srv/site.yaml"), Path("/srv/t"), "ann")
    )
    found = values(text)
    assert (found["ReadWritePaths"], found["ProtectHome"], found["User"]) == ("/srv/t", "read-only", "ann")
    assert "StateDirectory" not in found
    assert "StateDirectoryMode" not in found


@pytest.mark.parametrize(("config", "state"), [("home/ann/site.yaml", "srv/t"), ("srv/site.yaml", "root/t")])
def test_a_configuration_or_a_state_at_home_can_be_reached(config, state):
    text = unit.unit_text(unit.Service(SERVICE.program, Path("/") / config, Path("/") / state))
    assert values(text)["ProtectHome"] == "read-only"


@pytest.mark.parametrize(
    ("address", "wanted"),
    [
        ('modbus: "rtu:///dev/ttyUSB0?baud=9600"', True),
        ("modbus: tcp://127.0.0.1:1", False),
        ("# modbus: rtu:///x", False),
    ],
)
def test_serial_lines_are_let_through_where_a_device_is_behind_one(tmp_path, address, wanted):
    config = tmp_path / "etc/hybridtwin/twinedge.yaml"
    config.parent.mkdir(parents=True)
    config.write_text(f"devices:\n  {address}\n")
    ended = CliRunner().invoke(
        cli, ["service", "install", "--print", "--program", "/opt/x/bin/twinedge", "--root", str(tmp_path)]
    )
    text = ended.output
    assert ("DeviceAllow=char-ttyUSB rw" in text, "PrivateDevices=yes" in text) == (wanted, not wanted)


@pytest.mark.parametrize(
    "state", ["relative", "/", "/srv", "/etc/hybridtwin", "/opt/x", "/var/lib/a b", "/var/%h", "/var/x\nUser=root"]
)
def test_a_path_that_systemd_would_read_otherwise_is_refused(state):
    with pytest.raises(InputError, match="VALUE_INVALID"):
        unit.unit_text(unit.Service(SERVICE.program, SERVICE.config, Path(state)))


def test_a_user_that_is_no_name_is_refused():
    with pytest.raises(InputError, match="VALUE_INVALID"):
        unit.unit_text(unit.Service(SERVICE.program, SERVICE.config, SERVICE.state, "root; rm"))


def test_an_image_gets_unit_and_folders_twice_the_same_and_loses_the_unit_alone(tmp_path):
    ran = []
    first = unit.install(SERVICE, root=tmp_path, run=ran.append, start=True)
    second = unit.install(SERVICE, root=tmp_path, run=ran.append, start=True)
    path = tmp_path / "etc/systemd/system/twinedge.service"
    assert path.read_text() == unit.unit_text(SERVICE)
    assert any("written" in line for line in first)
    assert any("as it should be" in line for line in second)
    assert any("useradd --system" in line and line.endswith(f" {SERVICE.user}`") for line in first)
    assert (tmp_path / "var/lib/twinedge").stat().st_mode & 0o777 == 0o700
    assert ran == []
    unit.uninstall(root=tmp_path, run=ran.append)
    assert not path.exists()
    assert (tmp_path / "var/lib/twinedge").is_dir()
    with pytest.raises(MissingError, match="FILE_MISSING"):
        unit.uninstall(root=tmp_path, run=ran.append)


def test_a_folder_of_somebody_else_is_not_given_to_the_agent(tmp_path):
    (tmp_path / "var/lib/twinedge").mkdir(parents=True)
    (tmp_path / "var/lib/twinedge/mail").write_text("")
    with pytest.raises(unit.ConflictError, match="ALREADY_EXISTS"):
        unit.install(SERVICE, root=tmp_path, run=lambda _: None, start=False)
    (tmp_path / "var/lib/twinedge/identity").mkdir()
    assert unit.install(SERVICE, root=tmp_path, run=lambda _: None, start=False)


def test_only_root_installs_on_the_machine_itself(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(DeniedError, match="ROOT_NEEDED"):
        unit.install(SERVICE, root=Path("/"), run=lambda _: pytest.fail("ran"), start=True)


def test_what_a_command_of_the_system_says_is_told():
    with pytest.raises(unit.ConflictError, match=r"SERVICE_REFUSED.*useradd"):
        unit.run_command(["useradd", "--no-such-option"])
    with pytest.raises(MissingError, match="FILE_MISSING"):
        unit.run_command(["no-such-program-anywhere"])


def test_the_command_prints_the_unit_and_touches_nothing(tmp_path):
    ended = CliRunner().invoke(cli, ["service", "install", "--print", "--program", "/opt/x/bin/twinedge"])
    assert (ended.exit_code, ended.output) == (0, unit.unit_text(SERVICE))
