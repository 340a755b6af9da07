"""What users get wrong: the command lines, and the reason, exit code and hint each has to end with."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.e2e.plant import Plant, join_line
from twincloud.identity.ca import Authority
from twinmodel.clock import SystemClock
from twinmodel.package import signing
from twinmodel.package.build import build
from twinsim.deployment.running import find_examples, find_profiles

SITE_FILE = """\
site: north
profiles: PROFILES
devices:
  T-1: {modbus: "tcp://127.0.0.1:1502", unit_id: 1, profile: hybridtwin/coupled-tanks}
twins:
  tank-1: {definition: two-tanks, inputs: {pump: T-1.pump}, outputs: {level2: T-1.level2}}
status: {port: 0}
"""
CHANGES = {
    "unknown key": ("status:", "spol: {}\nstatus:"),
    "missing profile": ("hybridtwin/coupled-tanks", "hybridtwin/coupled-tnks"),
    "unknown signal": ("T-1.level2", "T-1.level3"),
    "duplicate signal": ("inputs: {pump: T-1.pump}", "inputs: {level2: T-1.pump}"),
    "wrong unit": ("profiles: PROFILES", "profiles: odd"),
}
REFUSALS = {
    "unknown key": ("UNKNOWN_KEY", 2, "spool"),
    "missing profile": ("PROFILE_MISSING", 2, "coupled-tanks"),
    "unknown signal": ("UNKNOWN_SIGNAL", 2, "T-1.level2"),
    "duplicate signal": ("DUPLICATE_SIGNAL", 2, "one name"),
    "wrong unit": ("UNIT_UNKNOWN", 2, "unit"),
    "gateway that has not joined": ("NOT_JOINED", 1, "twinctl gateway invite"),
    "second agent on one state directory": ("STATE_LOCKED", 1, "stop it"),
    "status port in use": ("PORT_IN_USE", 1, "another port"),
    "coordinator's port in use": ("PORT_IN_USE", 1, "set `port`"),
    "second coordinator on one state directory": ("STATE_LOCKED", 1, "stop it"),
    "fingerprint of another authority": ("FINGERPRINT_MISMATCH", 4, "do not join"),
    "invitation used twice": ("INVITE_INVALID", 4, "twinctl gateway invite"),
    "unsigned package": ("PACKAGE_UNSIGNED", 4, "twinctl model sign"),
    "altered package": ("PACKAGE_ALTERED", 2, "again"),
    "package of a stranger": ("SIGNER_UNKNOWN", 4, "twinctl model trust"),
    "unknown model assigned": ("UNKNOWN_MODEL", 1, "twinctl model push"),
    "unfit model assigned": ("MODEL_UNFIT", 1, "inputs"),
    "model for an unknown twin": ("UNKNOWN_TWIN", 1, "tank-1"),
    "fault of an unknown device": ("UNKNOWN_DEVICE", 1, "T-1"),
}


def spoil(plant: Plant, folder: Path) -> dict[str, Path]:
    """Packages nobody may run: name -> file."""
    unsigned = build(find_examples() / "two-tanks.yaml")
    altered = bytearray(plant.packages["two-tanks.yaml"])
    altered[len(altered) // 2] ^= 1
    files = {
        "unsigned package": unsigned,
        "altered package": bytes(altered),
        "package of a stranger": signing.sign(unsigned, signing.generate_key()),
    }
    for name, blob in files.items():
        (folder / f"{name}.twin").write_bytes(blob)
    return {name: folder / f"{name}.twin" for name in files}


def commands(plant: Plant, foreign: Path, spoilt: Mapping[str, Path], folder: Path) -> dict[str, Sequence[str]]:
    """All wrong command lines by the name they have in REFUSALS; `folder` takes what they need."""
    used, open_ = plant.invite("used"), plant.invite("never")
    plant.run(*join_line(used), "--state", str(folder / "used"))
    mixed = plant.gateways["mixed"]
    taken = plant.root / "taken.yaml"
    free, held = "\n  port: 0\n", f"\n  port: {mixed.status_port}\n"
    assert free in mixed.config.read_text()
    taken.write_text(mixed.config.read_text().replace(free, held))
    serve = ["twincloud", "serve", "--sync-port", "0", "--enrol-port", "0", "--state"]
    join = ["--state", str(folder / "join")]
    wrong_pin = join_line(open_ | {"ca_sha256": Authority.load(foreign, SystemClock()).fingerprint})
    joined = ["twinedge", "run", "--state", str(folder / "used"), "--config"]
    made = {
        **{name: _validate(folder, name) for name in CHANGES},
        "gateway that has not joined": ["twinedge", "run", "--config", str(mixed.config), "--state", str(folder / "n")],
        "second agent on one state directory": [
            *("twinedge", "run", "--config", str(mixed.config), "--state", str(mixed.state))
        ],
        "status port in use": [*joined, str(taken)],
        "coordinator's port in use": [*serve, str(foreign), "--port", str(plant.ports["port"])],
        "second coordinator on one state directory": [*serve, str(plant.coordinator_state), "--port", "0"],
        "fingerprint of another authority": [*wrong_pin, *join],
        "invitation used twice": [*join_line(used), *join],
        **{name: ["twinctl", "model", "push", str(path)] for name, path in spoilt.items()},
        "unknown model assigned": ["twinctl", "model", "assign", "north/tank-1", "two-tnks@1.0.0"],
        "unfit model assigned": ["twinctl", "model", "assign", "north/tank-1", "pump@1.0.0"],
        "model for an unknown twin": ["twinctl", "model", "assign", "north/tnk-1", "two-tanks@1.0.0"],
        "fault of an unknown device": ["twinsim", "fault", "T-99", "stuck", "--state", str(plant.devices_state)],
    }
    assert made.keys() == REFUSALS.keys()
    return made


def _validate(folder, name):
    old, new = CHANGES[name]
    assert old in SITE_FILE
    place = folder / name.replace(" ", "-")
    shutil.copytree(find_profiles(), place / "odd")
    tanks = place / "odd/hybridtwin/coupled-tanks/1.0.yaml"
    tanks.write_text(tanks.read_text().replace("unit: V", "unit: volts"))
    (place / "site.yaml").write_text(SITE_FILE.replace(old, new).replace("PROFILES", str(find_profiles())))
    return ["twinedge", "config", "validate", "--config", str(place / "site.yaml")]
