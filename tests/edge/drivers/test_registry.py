"""Drivers are grouped by connection, and only what is configured is loaded."""

from __future__ import annotations

import random
import subprocess
import sys

import pytest

from twinedge.config.catalogue import build_catalogue
from twinedge.config.load import load_site
from twinedge.drivers import registry
from twinmodel.errors import ConfigError, ConflictError

PROFILES = {
    "acme/meter": "protocol: modbus\nbase: 0\npoints: {w: {at: holding 1}}\n",
    "acme/press": "protocol: opcua\nnamespace: urn:acme\npoints: {w: {at: W}}\n",
    "acme/tank": "protocol: mqtt\npoints: {w: {at: $.w, topic: '{root}/w'}}\n",
}
SITE = """\
site: s
profiles: profiles
devices:
  m1: {modbus: "tcp://10.0.0.1:502", unit_id: 1, profile: acme/meter}
  m2: {modbus: "tcp://10.0.0.1:502", unit_id: 2, profile: acme/meter}
  m3: {modbus: "tcp://10.0.0.2:502", profile: acme/meter}
  o1: {opcua: "opc.tcp://10.0.0.3:4840", root: A, profile: acme/press}
  o2: {opcua: "opc.tcp://10.0.0.3:4840", root: B, profile: acme/press}
  o3: {opcua: "opc.tcp://10.0.0.3:4840", root: B, profile: acme/press, security: {user: u}}
  t1: {mqtt: "mqtt://10.0.0.4", root: t1, profile: acme/tank}
  t2: {mqtt: "mqtt://10.0.0.4", root: t2, profile: acme/tank}
"""


@pytest.fixture
def site(tmp_path):
    def write(text=SITE):
        for name, body in PROFILES.items():
            folder = tmp_path / "profiles" / name
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "1.yaml").write_text(f"profile: {name}\n{body}")
        (tmp_path / "site.yaml").write_text(text)
        return tmp_path / "site.yaml"

    return write


def build(path, clock, tmp_path):
    loaded = load_site(path)
    keywords = {"clock": clock, "rng": random.Random(1), "client_id": "gw", "state_dir": tmp_path}
    return registry.build_drivers(loaded, build_catalogue(loaded), **keywords)


def test_devices_that_can_share_a_connection_do(site, clock, tmp_path):
    drivers = build(site(), clock, tmp_path)
    groups = sorted(d.devices for d in drivers)
    assert groups == [("m1", "m2"), ("m3",), ("o1", "o2"), ("o3",), ("t1", "t2")]
    assert len({d.name for d in drivers}) == len(drivers)
    again = build(site(), clock, tmp_path)
    assert [d.name for d in again] == [d.name for d in drivers]


def test_only_configured_protocols_load_their_library(site):
    path = site("\n".join(line for line in SITE.splitlines() if not line.startswith(("  o", "  t"))))
    script = f"""
import random, sys
from pathlib import Path
from twinedge.config.catalogue import build_catalogue
from twinedge.config.load import load_site
from twinedge.drivers.registry import build_drivers
from twinmodel.clock import SystemClock
loaded = load_site({str(path)!r})
build_drivers(loaded, build_catalogue(loaded), clock=SystemClock(), rng=random.Random(1), client_id="gw",
              state_dir=Path("."))
assert "twinedge.drivers.modbus" in sys.modules and "pymodbus" not in sys.modules
assert "asyncua" not in sys.modules and "aiomqtt" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_protocol_without_a_driver_is_named_at_its_line(site, clock, tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "_BUILDERS", {"modbus": registry._BUILDERS["modbus"]})
    with pytest.raises(ConfigError) as caught:
        build(site(), clock, tmp_path)
    assert caught.value.facts["line"] == 7
    assert "no driver for opcua" in caught.value.message


def test_missing_library_says_which_extra_to_install(site, clock, tmp_path, monkeypatch):
    for module in [m for m in sys.modules if m.startswith("pymodbus")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "pymodbus", None)
    monkeypatch.delitem(sys.modules, "twinedge.drivers.modbus_rtu", raising=False)
    with pytest.raises(ConflictError) as caught:
        build(site(SITE.replace("tcp://10.0.0.2:502", "rtu:///dev/ttyUSB0")), clock, tmp_path)
    assert caught.value.reason == "EXTRA_MISSING"
    assert "hybridtwin[edge]" in caught.value.hint
