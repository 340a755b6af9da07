"""The unit files start what there is, in the places the installation makes, with few rights."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from importlib import import_module
from pathlib import Path

import pytest

from twincloud.cli import root
from twinedge.cli import cli

ROOT = Path(__file__).resolve().parents[2]
UNITS = {"twincloud": root, "twinedge": cli}
DENIED = (
    "NoNewPrivileges=yes",
    "ProtectSystem=strict",
    "ProtectHome=yes",
    "PrivateDevices=yes",
    "PrivateTmp=yes",
    "PrivateUsers=yes",
    "CapabilityBoundingSet=",
    "RestrictNamespaces=yes",
    "RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX",
    "SystemCallArchitectures=native",
)


def lines(unit: str) -> list[str]:
    return (ROOT / f"deploy/systemd/{unit}.service").read_text().splitlines()


def one(unit: str, key: str) -> str:
    (found,) = [line.partition("=")[2] for line in lines(unit) if line.startswith(f"{key}=")]
    return found


@pytest.mark.parametrize("unit", UNITS)
def test_unit_starts_a_command_that_exists_in_its_own_places(unit: str):
    program, command, *rest = shlex.split(one(unit, "ExecStart"))
    assert program == f"/opt/hybridtwin/bin/{unit}"
    options = {flag for p in UNITS[unit].commands[command].params for flag in p.opts}
    given = dict(zip(rest[::2], rest[1::2], strict=True))
    assert set(given) <= options
    assert given["--state"] == f"/var/lib/{one(unit, 'StateDirectory')}"
    assert given["--config"] == f"/etc/{one(unit, 'ConfigurationDirectory')}/{unit}.yaml"
    assert one(unit, "User") == one(unit, "Group") == unit


@pytest.mark.parametrize("unit", UNITS)
def test_unit_is_supervised_for_ever_and_has_few_rights(unit: str):
    assert one(unit, "Type") == "notify"
    assert one(unit, "Restart") == "always"
    assert one(unit, "StartLimitIntervalSec") == "0"
    assert int(one(unit, "WatchdogSec")) > 0
    assert not set(DENIED) - set(lines(unit))


def test_the_agent_may_compile_and_the_coordinator_may_not():
    kernels = dict(part.split("=") for part in one("twinedge", "Environment").split())["NUMBA_CACHE_DIR"]
    assert Path(kernels).parent == Path("/var/cache") / one("twinedge", "CacheDirectory")
    assert one("twinedge", "MemoryDenyWriteExecute") == "no"
    assert one("twincloud", "MemoryDenyWriteExecute") == "yes"


def test_the_agents_filter_allows_the_calls_its_compiler_and_its_clock_make():
    compiler = Path(import_module("twinmodel.kernel").__path__[0]) / "compile.py"
    filters = [line.partition("=")[2] for line in lines("twinedge") if line.startswith("SystemCallFilter=")]
    assert filters[:2] == ["@system-service", "~@privileged @resources"]
    # `nice` is a call of @resources: refused, it would keep the agent on the interpreted tier for ever.
    assert ("os.nice(" in compiler.read_text()) == ("setpriority" in filters[2:])
    # Refused, it would have every gateway say that its clock follows nobody; nobody without CAP_SYS_TIME sets one.
    assert ".adjtimex(" in Path(import_module("twinedge.health.clock").__file__).read_text()
    assert "adjtimex clock_adjtime clock_adjtime64" in filters[2:]
    assert "ProtectClock=yes" not in lines("twinedge")
    assert one("twinedge", "CapabilityBoundingSet") == ""


@pytest.mark.parametrize("unit", UNITS)
def test_systemd_reads_the_unit_without_a_word(unit: str, tmp_path: Path):
    text = "\n".join(lines(unit)) + "\n"
    tool = shutil.which("systemd-analyze")
    if tool is None:
        assert re.match(r"\[Unit\]\n(.+\n|\n)*\[Service\]\n(.+\n|\n)*\[Install\]\n", text)
        return
    copy = tmp_path / f"{unit}.service"
    # The program is installed elsewhere; systemd looks whether it can be run.
    copy.write_text(text.replace(f"/opt/hybridtwin/bin/{unit}", shutil.which("true") or "/bin/true"))
    read = subprocess.run([tool, "verify", str(copy)], capture_output=True, text=True, timeout=30, check=False)
    assert (read.returncode, read.stdout, read.stderr) == (0, "", "")


@pytest.mark.parametrize("script", sorted((ROOT / "deploy").rglob("*.sh")), ids=lambda p: p.name)
def test_script_is_read_by_bash_and_stops_at_errors(script: Path):
    assert "set -euo pipefail" in script.read_text()
    assert subprocess.run(["bash", "-n", str(script)], capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("file", sorted((ROOT / "requirements").glob("*.txt")), ids=lambda p: p.stem)
def test_every_requirement_is_pinned_with_a_hash_and_names_no_address(file: Path):
    text = file.read_text().replace("\\\n", " ")
    pins = [line for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]
    assert pins
    assert all(re.match(r"[\w.-]+(\[[\w,-]+\])?==\S+ .*--hash=sha256:[0-9a-f]{64}", pin) for pin in pins)
    assert "://" not in text
